use proptest::prelude::*;

use super::*;
use crate::types::json_text::is_json;
use crate::types::{Jsonb, LiteralError};

fn json(text: &str) -> Document<'_> {
    Document::new(text.as_bytes(), JsonForm::Json)
}

fn jsonb(text: &str) -> Document<'_> {
    Document::new(text.as_bytes(), JsonForm::Jsonb)
}

fn shown(found: Result<Option<Document<'_>>, JsonError>) -> Option<String> {
    found
        .unwrap()
        .map(|found| String::from_utf8(found.text.into()).unwrap())
}

fn path(steps: &[&str]) -> Path {
    Path::new(steps.iter().copied()).unwrap()
}

#[test]
fn members_and_elements_are_found() {
    let some = |text: &str| Some(text.to_owned());
    let document = r#" { "a" : [1, {"b":"x" } ] , "é\n" : null, "a]": 2, "" : true } "#;
    assert_eq!(shown(json(document).field("a")), some(r#"[1, {"b":"x" } ]"#));
    assert_eq!(shown(json(document).field("é\n")), some("null"));
    assert_eq!(shown(json(document).field("a]")), some("2"));
    assert_eq!(shown(json(document).field("")), some("true"));
    assert_eq!(shown(json(document).field("b")), None);
    assert_eq!(shown(json(document).element(0)), None);
    assert_eq!(shown(json(document).path(&path(&["a", "1", "b"]))), some("\"x\""));
    assert_eq!(shown(json(document).path(&path(&["a", "b"]))), None);
    assert_eq!(shown(json("[1,2]").element(-1)), some("2"));
    assert_eq!(shown(json("[1,2]").element(-3)), None);
    assert_eq!(shown(json("[1,2]").element(i32::MIN)), None);
    assert_eq!(shown(json("[1,2]").element(2)), None);
    assert_eq!(shown(json("[1,2]").field("0")), None);
    assert_eq!(shown(json("[1,2]").path(&path(&[" +01"]))), some("2"));
    for no_index in ["", "x", "1 ", "1x", "99999999999", "+", "-2147483648", "+-1"] {
        assert_eq!(
            shown(json("[1,2]").path(&path(&[no_index]))),
            None,
            "{no_index:?}"
        );
    }
}

#[test]
fn a_scalar_jsonb_is_its_own_only_element_but_no_path_leads_there() {
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(shown(jsonb("5").element(0)), some("5"));
    assert_eq!(shown(jsonb("5").element(-1)), some("5"));
    assert_eq!(shown(jsonb("5").element(1)), None);
    assert_eq!(shown(json("5").element(0)), None);
    assert_eq!(shown(jsonb("5").path(&path(&["0"]))), None);
    assert_eq!(shown(jsonb("5").path(&path(&[]))), some("5"));
    assert_eq!(shown(json(" 5 ").path(&path(&[]))), some(" 5"));
    assert_eq!(shown(json(" [5] ").path(&path(&[]))), some("[5]"));
}

#[test]
fn an_index_from_the_end_is_followed_below_the_first_level_of_a_jsonb_only() {
    let first = path(&["-1", "0"]);
    let later = path(&["0", "-1"]);
    assert_eq!(shown(json("[[1, 2]]").path(&first)), Some("1".to_owned()));
    assert_eq!(shown(jsonb("[[1, 2]]").path(&later)), Some("2".to_owned()));
    assert_eq!(json("[[1, 2]]").path(&later), Err(JsonError::NegativeStep));
    assert!(first.is_exact(JsonForm::Json) && !later.is_exact(JsonForm::Json));
}

#[test]
fn of_a_key_that_stands_twice_the_last_counts_that_leads_to_something() {
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(shown(json(r#"{"a":1,"\u0061":2}"#).field("a")), some("2"));
    let twice = json(r#"{"a":{"b":1},"a":{"c":2}}"#);
    assert_eq!(shown(twice.path(&path(&["a", "b"]))), some("1"));
    assert_eq!(shown(twice.path(&path(&["a", "c"]))), some("2"));
    assert_eq!(shown(twice.path(&path(&["a"]))), some(r#"{"c":2}"#));
}

#[test]
fn text_is_what_strings_stand_for_and_null_is_null() {
    let text = |text| {
        json(text)
            .text()
            .map(|t| t.map(|t| String::from_utf8(t.into()).unwrap()))
    };
    let some = |text: &str| Ok(Some(text.to_owned()));
    assert_eq!(
        text(r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é""#),
        some("a\"\\/\u{8}\u{c}\n\r\té😀é")
    );
    assert_eq!(text("[1, null]"), some("[1, null]"));
    assert_eq!(text("1.50"), some("1.50"));
    assert_eq!(text("null"), Ok(None));
    for no_text in [
        r#""\u0000""#,
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
        r#""\ud800x""#,
    ] {
        assert_eq!(text(no_text), Err(JsonError::Malformed), "{no_text}");
    }
}

#[test]
fn keys_and_strings_exist_at_the_top_only() {
    for (document, text, expected) in [
        (r#"{"a": 1}"#, "a", true),
        (r#"["a"]"#, "a", true),
        (r#""a""#, "a", true),
        (r#"{"b": "a"}"#, "a", false),
        (r#"[["a"], 1]"#, "a", false),
        ("[1]", "1", false),
        ("5", "5", false),
        (r#"{"a\"b": 1}"#, "a\"b", true),
    ] {
        assert_eq!(jsonb(document).has(text), Ok(expected), "{document} ? {text}");
    }
}

#[test]
fn containment_is_that_of_postgres() {
    for (value, other, expected) in [
        ("[1, 2]", "1", true),
        ("[1, 2]", "[1,1]", true),
        ("1", "[1]", false),
        ("1", "[]", false),
        ("1", "1.00", true),
        ("[[1, 2]]", "[1]", false),
        ("[[1, 2]]", "[[1]]", true),
        (r#"{"a": [1]}"#, r#"{"a":1}"#, false),
        (r#"{"a": [1], "b": 2}"#, r#"{"b":2.0}"#, true),
        ("[]", "[]", true),
        ("{}", "[]", false),
        ("[1]", "[[]]", false),
        ("[[1]]", "[[]]", true),
        ("[null]", "null", true),
        (
            r#"{"a": 1, "bb": {"c": 1, "d": 2}}"#,
            r#"{"bb":{"d":2},"a":1}"#,
            true,
        ),
        (r#"{"a": 1}"#, r#"{"a":1,"b":1}"#, false),
    ] {
        let other = Jsonb::literal(other).unwrap();
        assert_eq!(
            jsonb(value).contains(other.document(), &Work::unlimited()),
            Ok(expected),
            "{value} @> {other:?}"
        );
    }
}

#[test]
fn equal_constants_are_the_same_however_they_are_written() {
    for (a, b) in [
        ("1.0", "10e-1"),
        ("-0", "0.00"),
        (r#"{"b":1, "a":[ ]}"#, r#"{"a":[],"b":2,"b":1}"#),
        (r#""\u0061\/""#, r#""a/""#),
        (r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#),
    ] {
        assert_eq!(Jsonb::literal(a), Jsonb::literal(b));
        let a = Jsonb::literal(a).unwrap();
        let b = Jsonb::literal(b).unwrap();
        assert_eq!(a.document().equals(b.document()), Ok(true));
    }
    assert_ne!(Jsonb::literal("1"), Jsonb::literal("\"1\""));
    for invalid in [
        "",
        "{",
        "nul",
        "{\"a\"}",
        "\"\\u0000\"",
        "{\"\\ud800\":1}",
        "{\"a\":\"\\u0000\",\"a\":1}",
        "01",
        "1 2",
    ] {
        let error = Jsonb::literal(invalid).unwrap_err();
        assert!(
            matches!(error, LiteralError::Invalid { .. }),
            "{invalid}: {error}"
        );
    }
}

#[test]
fn what_nests_too_deep_is_refused_or_undecided_and_never_overflows() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Jsonb::literal(&nested(255)).is_ok());
    let error = Jsonb::literal(&nested(256)).unwrap_err();
    assert_eq!(error.to_string(), "this jsonb is nested deeper than 256 levels");
    let deep = nested(10_000);
    let other = nested(10_001);
    assert_eq!(
        jsonb(&deep).contains(jsonb(&other), &Work::unlimited()),
        Err(JsonError::TooDeep)
    );
    assert_eq!(jsonb(&deep).equals(jsonb(&other)), Ok(false));
    assert_eq!(jsonb(&deep).equals(jsonb(&deep.clone())), Ok(true));
    let shallow = Jsonb::literal("[[1]]").unwrap();
    assert_eq!(
        jsonb(&deep).contains(shallow.document(), &Work::unlimited()),
        Ok(false)
    );
    assert_eq!(
        shown(jsonb(&deep).element(0)).map(|text| text.len()),
        Some(deep.len() - 2)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_text_gets_an_answer(
        tokens in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\n\"", "\"\\x\"", "\"\\u12aF\"", "\"", "\\", "1", "-", "1e5", "1e999999999999",
            "true", "n", " ", "\\u",
        ]), 0..9),
        form in prop::sample::select(vec![JsonForm::Json, JsonForm::Jsonb]),
    ) {
        let text = tokens.concat();
        let document = Document::new(text.as_bytes(), form);
        let constant = Jsonb::literal("{\"a\":[1]}").unwrap();
        let _ = document.field("a").and_then(|found| found.map(Document::text).transpose());
        let _ = document.element(-1);
        let _ = document.path(&path(&["a", "0"]));
        let _ = document.has("a");
        let _ = document.text();
        let work = Work::unlimited();
        let _ = (document.contains(constant.document(), &work), constant.document().contains(document, &work));
        let is_invalid = matches!(Jsonb::literal(&text), Err(LiteralError::Invalid { .. }));
        prop_assert_eq!(is_invalid, !is_json(text.as_bytes()));
        if let Ok(own) = Jsonb::literal(&text) {
            prop_assert_eq!(own.document().contains(own.document(), &Work::unlimited()), Ok(true));
        }
    }
}
