use proptest::prelude::*;

use super::*;
use crate::types::Attribute;

fn json(kind: Kind, text: &str, numbers: Numbers) -> String {
    let mut out = Vec::new();
    write_value(&kind, text.as_bytes(), numbers, &mut out);
    String::from_utf8(out).unwrap()
}

fn array(kind: Kind) -> Kind {
    Kind::Array(Box::new(kind))
}

fn composite(attributes: &[(&str, Kind)]) -> Kind {
    let attribute = |(name, kind): &(&str, Kind)| Attribute {
        name: (*name).to_owned(),
        attnum: Default::default(),
        kind: kind.clone(),
    };
    Kind::Composite {
        attributes: attributes.iter().map(attribute).collect(),
        only_grew: false,
    }
}

#[test]
fn values_print_as_row_to_json_prints_them() {
    let cases = [
        (Kind::Bool, "t", "true"),
        (Kind::Bool, "f", "false"),
        (Kind::Int8, "-9223372036854775808", "-9223372036854775808"),
        (Kind::Numeric, "0.10", "0.10"),
        (Kind::Numeric, "NaN", r#""NaN""#),
        (Kind::Float8, "1e+20", "1e+20"),
        (Kind::Float4, "-Infinity", r#""-Infinity""#),
        (
            Kind::Text,
            "a\"b\\c\n\t\r\u{8}\u{c}\u{1}\u{7f}é",
            r#""a\"b\\c\n\t\r\b\f\u0001é""#,
        ),
        (Kind::Bytea, "\\xdead", r#""\\xdead""#),
        (Kind::Date, "0044-03-15 BC", r#""0044-03-15 BC""#),
        (
            Kind::Timestamp,
            "2024-01-31 10:00:00.5",
            r#""2024-01-31T10:00:00.5""#,
        ),
        (Kind::Timestamp, "infinity", r#""infinity""#),
        (
            Kind::TimestampTz,
            "2024-01-31 10:00:00+00",
            r#""2024-01-31T10:00:00+00:00""#,
        ),
        (
            Kind::TimestampTz,
            "0044-03-15 10:00:00+00 BC",
            r#""0044-03-15T10:00:00+00:00 BC""#,
        ),
        (Kind::TimestampTz, "-infinity", r#""-infinity""#),
        (Kind::Jsonb, r#"{"a": [1, null]}"#, r#"{"a": [1, null]}"#),
        (Kind::Json, " [1,\n 2] ", " [1,\n 2] "),
        (
            Kind::Uuid,
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#,
        ),
        (Kind::Interval, "1 day 02:03:04", r#""1 day 02:03:04""#),
    ];
    for (kind, text, expected) in cases {
        assert_eq!(
            json(kind, text, Numbers::Native).replace('\u{7f}', ""),
            expected,
            "{text}"
        );
    }
}

#[test]
fn arrays_print_as_row_to_json_prints_them() {
    let cases = [
        (Kind::Int4, "{}", "[]"),
        (Kind::Int4, "{1,NULL,3}", "[1,null,3]"),
        (Kind::Int4, "{{1,2},{3,4}}", "[[1,2],[3,4]]"),
        (Kind::Int4, "[2:3]={7,8}", "[7,8]"),
        (Kind::Int4, "[0:0][-1:0]={{7,8}}", "[[7,8]]"),
        (Kind::Bool, "{t,f}", "[true,false]"),
        (
            Kind::Text,
            r#"{a,"b c","NULL","","q\"\\u","é\\"}"#,
            r#"["a","b c","NULL","","q\"\\u","é\\"]"#,
        ),
        (Kind::Bytea, r#"{"\\xdead","\\x"}"#, r#"["\\xdead","\\x"]"#),
        (
            Kind::Jsonb,
            r#"{"{\"a\": \"\\\\\"}",1,NULL}"#,
            r#"[{"a": "\\"},1,null]"#,
        ),
        (
            Kind::Timestamp,
            r#"{"2024-01-31 10:00:00",infinity}"#,
            r#"["2024-01-31T10:00:00","infinity"]"#,
        ),
    ];
    for (element, text, expected) in cases {
        assert_eq!(json(array(element), text, Numbers::Native), expected, "{text}");
    }
}

#[test]
fn arrays_of_arrays_and_of_boxes_print_as_row_to_json_prints_them() {
    let boxes = array(Kind::Separated(b';'));
    let vector = |kind| Kind::Vector(Box::new(kind));
    let cases = [
        (
            array(array(Kind::Int4)),
            r#"{"{1,2}",NULL,"{{1},{2}}"}"#,
            "[[1,2],null,[[1],[2]]]",
        ),
        (boxes.clone(), "{(3,4),(1,2);NULL}", r#"["(3,4),(1,2)",null]"#),
        (
            array(boxes),
            r#"{"{(3,4),(1,2);NULL}";NULL}"#,
            r#"[["(3,4),(1,2)",null],null]"#,
        ),
        (vector(Kind::Int2), "", "[]"),
        (vector(Kind::Int2), "1 -2", "[1,-2]"),
        (vector(Kind::Other), "3 4", r#"["3","4"]"#),
        (array(vector(Kind::Int2)), r#"{"1 2",3,""}"#, "[[1,2],[3],[]]"),
    ];
    for (kind, text, expected) in cases {
        assert_eq!(json(kind, text, Numbers::Native), expected, "{text}");
    }
}

#[test]
fn composites_print_as_row_to_json_prints_them() {
    let one = composite(&[("a", Kind::Int4)]);
    let two = composite(&[
        ("a", Kind::Text),
        ("b \"q", array(one.clone())),
        ("c", Kind::Other),
        ("d", array(Kind::Separated(b';'))),
    ]);
    let deep = composite(&[("c", one.clone()), ("j", Kind::Jsonb), ("t", Kind::Timestamp)]);
    let cases = [
        (composite(&[]), "()", "{}"),
        (one.clone(), "()", r#"{"a":null}"#),
        (one.clone(), "(-7)", r#"{"a":-7}"#),
        (
            two.clone(),
            r#"("a""\\","{(1),NULL}","(1,2)","{(3,4),(1,2);NULL;(2,2),(1,1)}")"#,
            r#"{"a":"a\"\\","b \"q":[{"a":1},null],"c":"(1,2)","d":["(3,4),(1,2)",null,"(2,2),(1,1)"]}"#,
        ),
        (two, r#"("",,,)"#, r#"{"a":"","b \"q":null,"c":null,"d":null}"#),
        (
            array(deep),
            r#"{"(\"(1)\",\"{\"\"a\"\": [1, 2]}\",\"2024-01-31 10:00:00\")","(,,infinity)"}"#,
            r#"[{"c":{"a":1},"j":{"a": [1, 2]},"t":"2024-01-31T10:00:00"},{"c":null,"j":null,"t":"infinity"}]"#,
        ),
    ];
    for (kind, text, expected) in cases {
        assert_eq!(json(kind, text, Numbers::Native), expected, "{text}");
    }
}

#[test]
fn a_composite_with_other_attributes_than_described_becomes_a_string() {
    let two = composite(&[("a", Kind::Int4), ("b", array(composite(&[("c", Kind::Text)])))]);
    for text in [
        "()",
        "(1)",
        "(1,,)",
        r#"(1,"{(x),""(y,z)""}")"#,
        "(1,{})x",
        "(1,{}",
        "1,{}",
        "",
        "(1,\"{}",
    ] {
        assert!(!fits(&two, text.as_bytes()), "{text}");
        let printed = json(two.clone(), text, Numbers::Native);
        assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), text);
    }
    assert!(fits(&two, br#"(1,"{(x),(y)}")"#));
}

#[test]
fn a_composite_from_before_attributes_were_added_has_the_first() {
    let Kind::Composite { attributes, .. } =
        composite(&[("a", Kind::Int4), ("b", Kind::Text), ("c", Kind::Bool)])
    else {
        unreachable!()
    };
    let kind = Kind::Composite {
        attributes,
        only_grew: true,
    };
    for (text, expected) in [
        ("(1)", r#"{"a":1}"#),
        ("(1,)", r#"{"a":1,"b":null}"#),
        ("(1,x,t)", r#"{"a":1,"b":"x","c":true}"#),
        ("(1,x,t,)", r#""(1,x,t,)""#),
        ("(1,x", r#""(1,x""#),
    ] {
        assert_eq!(json(kind.clone(), text, Numbers::Native), expected);
    }
}

#[test]
fn hstore_prints_as_its_cast_to_json_does() {
    let cases = [
        ("", "{}"),
        (r#""a"=>"1""#, r#"{"a": "1"}"#),
        (r#""a"=>NULL, ""=>"""#, r#"{"a": null, "": ""}"#),
        (r#""b\"\\ é"=>"=>, ""#, r#"{"b\"\\ é": "=>, "}"#),
    ];
    for (text, expected) in cases {
        assert_eq!(json(Kind::Hstore, text, Numbers::Native), expected, "{text}");
    }
    let list = r#"{"\"a\"=>\"1\"",NULL,""}"#;
    assert_eq!(
        json(array(Kind::Hstore), list, Numbers::Native),
        r#"[{"a": "1"},null,{}]"#
    );
    for text in [
        "a=>1",
        r#""a""#,
        r#""a"=>"#,
        r#""a"=>"1","b"=>"2""#,
        r#""a"=>"1", "#,
        r#""a"=>nil"#,
    ] {
        let printed = json(Kind::Hstore, text, Numbers::Native);
        assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), text);
    }
}

#[test]
fn a_text_that_is_no_array_becomes_a_string() {
    for text in [
        "", "x", "{", "}", "{1", "{1}}", "{1}x", "{,}", "{1,}", "{1,,2}", "{\"a}", "{\"a\\", "[1:2]",
        "{1 {2}}",
    ] {
        let printed = json(array(Kind::Int4), text, Numbers::Native);
        assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), text);
    }
    let deep = "{{{{{{{1}}}}}}}";
    assert_eq!(
        json(array(Kind::Int4), deep, Numbers::Native),
        format!("\"{deep}\"")
    );
}

#[test]
fn numbers_that_javascript_cannot_hold_become_strings_on_demand() {
    assert_eq!(json(Kind::Int8, "1", Numbers::Strings), r#""1""#);
    assert_eq!(json(Kind::Numeric, "1.50", Numbers::Strings), r#""1.50""#);
    assert_eq!(json(Kind::Int4, "1", Numbers::Strings), "1");
    assert_eq!(json(Kind::Float8, "1.5", Numbers::Strings), "1.5");
    assert_eq!(
        json(array(Kind::Int8), "{1,NULL}", Numbers::Strings),
        r#"["1",null]"#
    );
    let pair = composite(&[("n", Kind::Numeric), ("i", array(Kind::Int8))]);
    assert_eq!(
        json(pair, r#"(1.50,"{1,2}")"#, Numbers::Strings),
        r#"{"n":"1.50","i":["1","2"]}"#
    );
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let scalar = prop::sample::select(vec![
        Kind::Bool,
        Kind::Int4,
        Kind::Int8,
        Kind::Float8,
        Kind::Numeric,
        Kind::Text,
        Kind::Bytea,
        Kind::Date,
        Kind::Timestamp,
        Kind::TimestampTz,
        Kind::Json,
        Kind::Jsonb,
        Kind::Hstore,
        Kind::Separated(b';'),
        Kind::Other,
    ]);
    scalar.prop_recursive(3, 12, 3, |inner| {
        let attributes = prop::collection::vec(("[a\"]{1,2}", inner.clone()), 0..4);
        prop_oneof![
            inner.clone().prop_map(array),
            inner.prop_map(|kind| Kind::Vector(Box::new(kind))),
            (attributes, any::<bool>()).prop_map(|(attributes, only_grew)| {
                let attribute = |(name, kind)| Attribute {
                    name,
                    attnum: Default::default(),
                    kind,
                };
                let attributes = attributes.into_iter().map(attribute).collect();
                Kind::Composite {
                    attributes,
                    only_grew,
                }
            }),
        ]
    })
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "NULL",
        "null",
        "1",
        "-",
        "+",
        ".",
        "e",
        "0",
        "\\u00",
        "true",
        " ",
        "é",
        "=",
        "\u{1}",
        "2024-01-01 10:00:00",
        "+00",
        " BC",
        "(",
        ")",
        "\"\"",
        "\\\\",
        "=>",
        ";",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(token, 0..16).prop_map(|tokens| tokens.concat().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn whatever_the_bytes_what_is_written_is_json(kind in any_kind(), text in any_text(), strings in any::<bool>()) {
        let numbers = if strings { Numbers::Strings } else { Numbers::Native };
        let mut out = b"[".to_vec();
        write_value(&kind, &text, numbers, &mut out);
        out.push(b']');
        let parsed: Result<Vec<&serde_json::value::RawValue>, _> = serde_json::from_slice(&out);
        prop_assert_eq!(parsed.map(|values| values.len()).map_err(|e| e.to_string()), Ok(1));
    }

    #[test]
    fn strings_are_escaped_as_serde_json_escapes_them(text in "[a-z é\"\\\\\u{0}-\u{20}\u{7f}]{0,80}|[a-z]{0,50}[\u{0}-\u{20}\"][a-z]{0,50}") {
        let printed = json(Kind::Text, &text, Numbers::Native);
        prop_assert_eq!(printed, serde_json::to_string(&text).unwrap());
    }

    #[test]
    fn text_arrays_read_back(elements in prop::collection::vec(any::<String>(), 1..6)) {
        let quoted = elements.iter().map(|e| format!("\"{}\"", e.replace('\\', "\\\\").replace('"', "\\\"")));
        let text = format!("{{{}}}", quoted.collect::<Vec<_>>().join(","));
        let printed = json(array(Kind::Text), &text, Numbers::Native);
        prop_assert_eq!(serde_json::from_str::<Vec<String>>(&printed).unwrap(), elements);
    }

    #[test]
    fn nested_texts_read_back(values in prop::collection::vec(any::<Option<String>>(), 4)) {
        let inner = composite(&[("x", Kind::Text), ("y", Kind::Text)]);
        let kind = composite(&[("a", Kind::Text), ("list", array(inner)), ("b", Kind::Text)]);
        let [a, b, x, y] = &values[..] else { unreachable!() };
        let row = record_out(&[x.clone(), y.clone()]);
        let list = format!("{{NULL,\"{}\"}}", row.replace('\\', "\\\\").replace('"', "\\\""));
        let text = record_out(&[a.clone(), Some(list), b.clone()]);
        let printed = json(kind, &text, Numbers::Native);
        prop_assert_eq!(
            serde_json::from_str::<serde_json::Value>(&printed).unwrap(),
            serde_json::json!({"a": a, "list": [null, {"x": x, "y": y}], "b": b})
        );
    }
}

/// A composite's text, as the server's `record_out` prints it.
fn record_out(values: &[Option<String>]) -> String {
    let value = |value: &Option<String>| match value {
        None => String::new(),
        Some(value) if value.chars().all(char::is_alphanumeric) && !value.is_empty() => value.clone(),
        Some(value) => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\"\"")),
    };
    format!("({})", values.iter().map(value).collect::<Vec<_>>().join(","))
}
