//! Tests of the parent module.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::lsn::{Lsn, Position};

fn subscribe(fields: &str) -> Result<Subscribe, ErrorMessage> {
    let text = format!(r#"{{"type":"subscribe","id":"a","table":"orders"{fields}}}"#);
    match ClientMessage::parse(&text)? {
        ClientMessage::Subscribe(subscribe) => Ok(*subscribe),
        other => panic!("not a subscribe: {other:?}"),
    }
}

fn refused(text: &str) -> ErrorMessage {
    match ClientMessage::parse(text) {
        Err(error) => error,
        Ok(message) => panic!("taken: {text} as {message:?}"),
    }
}

#[test]
fn a_subscription_that_says_little_asks_for_everything_from_now_on() {
    let expected = Subscribe {
        id: "a".into(),
        table: TableName::new("public", "orders"),
        predicate: None,
        params: Vec::new(),
        columns: None,
        ops: Ops::ALL,
        old: false,
        opening: Opening::Changes(Start::Now),
        epoch: None,
        undecided: Undecided::Refuse,
        now: None,
        order: None,
    };
    assert_eq!(subscribe(""), Ok(expected));
}

#[test]
fn a_subscription_is_read_with_all_its_fields_in_any_order() {
    let text = r#" {"now": "2024-01-31T10:00:00.123456Z", "undecided": "send", "epoch": "e1", "from": "16/b374d848:17", "snapshot": false, "old": true,
        "ops": ["delete", "insert"], "columns": ["Id", "na\u00efve"], "params": [1.50, "x", null, [true]],
        "where": "a = $1", "table": "\"We\"\"ird S\".\"T\"", "id": "ä", "type": "subscribe"} "#;
    let Ok(ClientMessage::Subscribe(read)) = ClientMessage::parse(text) else {
        panic!("refused: {text}");
    };
    let expected = Subscribe {
        id: "ä".into(),
        table: TableName::new("We\"ird S", "T"),
        predicate: Some("a = $1".into()),
        params: vec![json!(1.5), json!("x"), json!(null), json!([true])],
        columns: Some(vec!["Id".into(), "naïve".into()]),
        ops: Ops {
            insert: true,
            delete: true,
            ..Ops::NONE
        },
        old: true,
        opening: Opening::Changes(Start::After(Position::after_change(Lsn(0x16_B374_D848), 17))),
        epoch: Some(Epoch("e1".into())),
        undecided: Undecided::Send,
        now: Some(Timestamp(760_010_400_123_456)),
        order: None,
    };
    assert_eq!(*read, expected);
}

#[test]
fn strict_still_stands_for_refusing_and_for_withholding() {
    let undecided = |fields: &str| subscribe(fields).map(|subscribe| subscribe.undecided);
    for (fields, expected) in [
        ("", Undecided::Refuse),
        (r#","strict":true"#, Undecided::Refuse),
        (r#","strict":false"#, Undecided::Withhold),
        (r#","undecided":"refuse""#, Undecided::Refuse),
        (r#","undecided":"send""#, Undecided::Send),
        (r#","undecided":"withhold""#, Undecided::Withhold),
    ] {
        assert_eq!(undecided(fields), Ok(expected), "{fields}");
    }
}

#[test]
fn a_subscription_opens_with_a_snapshot_or_from_a_position() {
    let opening = |fields: &str| subscribe(fields).map(|subscribe| subscribe.opening);
    assert_eq!(opening(r#","snapshot":true"#), Ok(Opening::Snapshot));
    let earliest = Opening::Changes(Start::Earliest);
    assert_eq!(opening(r#","from":"earliest","snapshot":false"#), Ok(earliest));
    let both = opening(r#","from":"0/1","snapshot":true"#).unwrap_err();
    assert_eq!(both.code, ErrorCode::BadRequest);
    for from in ["", "now", "16", "16/B374D848:", "EARLIEST", "-1/2"] {
        let error = opening(&format!(r#","from":"{from}""#)).unwrap_err();
        assert_eq!(
            (error.code, error.id.as_deref()),
            (ErrorCode::ResumeInvalid, Some("a")),
            "{from}"
        );
    }
    let number = opening(r#","from":12"#).unwrap_err();
    assert_eq!(number.code, ErrorCode::BadRequest);
}

#[test]
fn the_other_messages_are_read() {
    let parse = |text: &str| ClientMessage::parse(text).unwrap();
    match parse(r#"{"type":"auth","token":"e30.e30.x"}"#) {
        ClientMessage::Auth { token } => assert_eq!(token.reveal(), "e30.e30.x"),
        other => panic!("{other:?}"),
    }
    match parse(r#"{"type":"unsubscribe","id":"a"}"#) {
        ClientMessage::Unsubscribe { id } => assert_eq!(id, "a"),
        other => panic!("{other:?}"),
    }
    let big = r#"{"n": 123456789012345678901234567890.10,  "s": "\u00e9"}"#;
    for (text, written) in [
        (format!(r#"{{"type":"ping","ref": {big} }}"#), Some(big)),
        (r#"{"type":"ping","ref":null}"#.into(), Some("null")),
        (r#"{"type":"ping"}"#.into(), None),
    ] {
        match parse(&text) {
            ClientMessage::Ping { reference, reach } => {
                assert_eq!((reference, reach), (written.map(reference_of), None));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn reference_of(json: &str) -> Reference {
    Reference::new(&RawValue::from_string(json.to_owned()).unwrap())
}

#[test]
fn a_ping_asks_for_a_position_to_be_reached_or_is_refused_under_its_ref() {
    let text = r#"{"type":"ping","reach":"16/b374d848:17","ref":[1]}"#;
    match ClientMessage::parse(text) {
        Ok(ClientMessage::Ping { reference, reach }) => {
            assert_eq!(reference, Some(reference_of("[1]")));
            assert_eq!(reach, Some(Position::after_change(Lsn(0x16_B374_D848), 17)));
        }
        other => panic!("{other:?}"),
    }
    let long = format!("\"{}\"", "x".repeat(255));
    for (fields, reference, words) in [
        (r#""ref":7,"reach":"now""#, Some("7"), "it is a position such as"),
        (r#""ref":7,"reach":12"#, Some("7"), "must be text, not a number"),
        (r#""ref":7,"reach":"0/1","id":"a""#, Some("7"), "has no field"),
        (r#""reach":"""#, None, "\"reach\" cannot be \"\""),
        (
            &format!(r#""reach":"0/1","ref":{long}"#),
            None,
            "may have 256 bytes",
        ),
    ] {
        let error = refused(&format!(r#"{{"type":"ping",{fields}}}"#));
        assert_eq!((error.code, &error.id), (ErrorCode::BadRequest, &None));
        assert_eq!(error.reference, reference.map(reference_of), "{fields}");
        assert!(error.message.contains(words), "{error}");
    }
    // One that is answered at once may be as long as a message.
    assert!(ClientMessage::parse(&format!(r#"{{"type":"ping","ref":{long}}}"#)).is_ok());
}

#[test]
fn what_is_no_message_is_refused_with_words_that_help() {
    for (text, message) in [
        (
            "",
            "the message is not JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            "{} {}",
            "the message is not JSON: trailing characters at line 1 column 4",
        ),
        ("[1]", "the message must be a JSON object of at most 32 fields"),
        (
            "\"secret\"",
            "the message must be a JSON object of at most 32 fields",
        ),
        (
            "{}",
            "the message has no type; it must be one of: auth, subscribe, unsubscribe, ping",
        ),
        (
            r#"{"type":"Subscribe"}"#,
            "there is no message type \"Subscribe\"; it must be one of: auth, subscribe, unsubscribe, ping",
        ),
        (r#"{"type":7}"#, "\"type\" must be text, not a number"),
        (
            r#"{"type":"ping","type":"ping"}"#,
            "the field \"type\" is there twice",
        ),
        (
            r#"{"type":"ping","reff":1}"#,
            "ping has no field \"reff\"; it may have: type, ref, reach",
        ),
        (
            r#"{"type":"ping","ref":1,"ref":1}"#,
            "the field \"ref\" is there twice",
        ),
        (r#"{"type":"auth"}"#, "the field \"token\" is missing"),
        (
            r#"{"type":"auth","token":["secret"]}"#,
            "\"token\" must be text, not an array",
        ),
        (
            r#"{"type":"auth","token":"\ud800"}"#,
            "\"token\" has an escape that stands for no character",
        ),
        (
            r#"{"type":"unsubscribe","id":""}"#,
            "\"id\" must be of 1 to 128 characters",
        ),
    ] {
        assert_eq!(refused(text), bad(message), "{text}");
    }
}

#[test]
fn wrong_fields_of_a_subscription_are_refused_under_its_id() {
    for (fields, message) in [
        (
            r#","wehre":"a = 1""#,
            "subscribe has no field \"wehre\"; it may have: type, id, table, messages, content, where, params, columns, ops, old, \
             snapshot, from, epoch, undecided, strict, now, order_by, limit, bound",
        ),
        (r#","old":1"#, "\"old\" must be true or false, not a number"),
        (r#","old":"true""#, "\"old\" must be true or false, not text"),
        (
            r#","where":null"#,
            "\"where\" must be text, not null (leave the field out instead)",
        ),
        (r#","params":{}"#, "\"params\" must be an array, not an object"),
        (
            r#","params":[1]"#,
            "there are params, but no where that uses them",
        ),
        (
            r#","columns":["a",true]"#,
            "\"columns[1]\" must be text, not true or false",
        ),
        (r#","columns":["a","b","a"]"#, "\"columns\" has \"a\" twice"),
        (
            r#","ops":[]"#,
            "\"ops\" is empty: nothing would ever be sent; leave it out for all",
        ),
        (
            r#","ops":["INSERT"]"#,
            "\"ops\" cannot have \"INSERT\"; it may have: insert, update, delete, truncate",
        ),
        (
            r#","undecided":"never""#,
            "\"undecided\" cannot be \"never\"; it may be: refuse, send, withhold",
        ),
        (
            r#","undecided":true"#,
            "\"undecided\" must be text, not true or false",
        ),
        (
            r#","now":"yesterday""#,
            "\"now\" cannot be \"yesterday\": it is a time such as \"2024-01-31T10:00:00.123456Z\"",
        ),
        (
            r#","now":"infinity""#,
            "\"now\" cannot be \"infinity\": it is a time such as \"2024-01-31T10:00:00.123456Z\"",
        ),
        (
            r#","now":"1969-12-31 23:59:59Z""#,
            "\"now\" cannot be \"1969-12-31 23:59:59Z\": it is a time such as \"2024-01-31T10:00:00.123456Z\"",
        ),
        (
            r#","undecided":"refuse","strict":true"#,
            "\"undecided\" and \"strict\" exclude each other: leave \"strict\" out, which is the older one",
        ),
        (
            r#","strict":true,"strict":true"#,
            "the field \"strict\" is there twice",
        ),
        (r#","table":"b""#, "the field \"table\" is there twice"),
    ] {
        assert_eq!(subscribe(fields), Err(bad(message).about("a")), "{fields}");
    }
    let table = refused(r#"{"type":"subscribe","id":"a","table":"my table"}"#);
    let message = "\"table\" cannot be \"my table\": ' ' needs double quotes around its name, as in SQL; write it as in \
                   SQL, \"orders\" or \"shop.orders\"";
    assert_eq!(table, bad(message).about("a"));
}

#[test]
fn an_error_has_the_id_only_if_that_subscription_does_not_exist() {
    let id = |text| refused(text).id;
    assert_eq!(id(r#"{"type":"subscribe","id":"a"}"#), Some("a".into()));
    assert_eq!(id(r#"{"type":"subscribe","id":"a","id":"b","table":"t"}"#), None);
    assert_eq!(id(r#"{"type":"subscribe","id":1,"table":"t"}"#), None);
    assert_eq!(id(r#"{"type":"unsubscribe","id":"a","force":true}"#), None);
    assert_eq!(id(r#"{"type":"ping","id":"a"}"#), None);
}

#[test]
fn an_id_is_measured_in_characters() {
    let with = |id: &str| ClientMessage::parse(&format!(r#"{{"type":"unsubscribe","id":"{id}"}}"#));
    assert!(with(&"🐘".repeat(128)).is_ok());
    assert!(with(&"a".repeat(129)).is_err());
}

#[test]
fn numbers_that_would_lose_digits_are_refused() {
    let with = |param: &str| subscribe(&format!(r#","where":"a = $1","params":[0,{param}]"#));
    let kept = [
        "0",
        "-0",
        "-0.00e5",
        "1.50",
        "0.1",
        "1e3",
        "-12.34e-5",
        "18446744073709551615",
        "-9223372036854775808",
        "9007199254740993",
        "123456789.123456",
        "1E+2",
        "100000000000000000000",
        r#""12345678901234567890.1""#,
        r#""a\"9.99999999999999999999""#,
        r#"{"99999999999999999999.1": [1, "\\"]}"#,
        "true",
        "[]",
    ];
    for param in kept {
        assert!(with(param).is_ok(), "{param}");
    }
    let lost = [
        "18446744073709551617",
        "0.10000000000000000001",
        "1e400",
        "1e-400",
        "123456789012345678.5",
        "1e99999999999",
        r#"{"a": ["\"", 99999999999999999999.1]}"#,
    ];
    for param in lost {
        let error = with(param).unwrap_err();
        assert_eq!(
            (error.code, error.id.as_deref()),
            (ErrorCode::BadPredicate, Some("a")),
            "{param}"
        );
        assert!(error.message.starts_with("parameter $2 "), "{}", error.message);
    }
}

#[test]
fn what_is_too_deep_or_too_wide_is_refused_before_it_is_read() {
    let nested = |depth: usize| {
        format!(
            r#"{{"type":"ping","ref":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(ClientMessage::parse(&nested(31)).is_ok());
    assert_eq!(
        refused(&nested(32)),
        bad("the message is nested more than 32 deep")
    );
    refused(&"[".repeat(1_000_000));
    assert!(
        ClientMessage::parse(r#"{"type":"ping","ref":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"[[[[[[["}"#)
            .is_ok()
    );
    let wide: String = (0..40).map(|i| format!(r#","f{i}":1"#)).collect();
    let wide = refused(&format!(r#"{{"type":"ping"{wide}}}"#));
    assert_eq!(
        wide,
        bad("the message must be a JSON object of at most 32 fields")
    );
}

#[test]
fn errors_repeat_no_more_than_a_line_of_what_they_were_sent() {
    let long = "é".repeat(10_000);
    for text in [
        format!(r#"{{"type":"{long}"}}"#),
        format!(r#"{{"type":"ping","{long}":1}}"#),
        format!(r#"{{"type":"subscribe","id":"a","table":"{long}-"}}"#),
        format!(r#"{{"type":"subscribe","id":"a","table":"t","from":"{long}"}}"#),
        format!(r#"{{"type":"subscribe","id":"a","table":"t","ops":["{long}"]}}"#),
        format!(r#"{{"type":"subscribe","id":"a","table":"t","columns":["{long}","{long}"]}}"#),
    ] {
        assert!(refused(&text).message.len() < 400);
    }
}

#[test]
fn a_token_is_in_no_debug_output_and_no_error() {
    let message = ClientMessage::parse(r#"{"type":"auth","token":"sesame"}"#).unwrap();
    assert_eq!(format!("{message:?}"), "Auth { token: Token(…) }");
    for text in [
        r#"{"type":"auth","token":"sesame","extra":1}"#,
        r#"{"type":"auth","token":{"sesame":1}}"#,
        r#"{"type":"auth","token":"sesame"#,
        r#"{"type":"auth","token":sesame}"#,
        r#""sesame""#,
    ] {
        assert!(!format!("{:?}", refused(text)).contains("sesame"), "{text}");
    }
}

/// Pieces that messages are made of, right and wrong, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"type\":",
        "\"subscribe\"",
        "\"auth\"",
        "\"ping\"",
        "\"id\":\"a\"",
        "\"table\":\"t\"",
        "\"params\":[",
        "\"where\":\"x\"",
        "\"from\":\"0/1\"",
        "\"ref\":",
        "1",
        "-",
        "1.5e3",
        "e",
        "null",
        "true",
        "\\ud800",
        "é",
        " ",
        "\n",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics(text in prop_oneof![".*", pieces()]) {
        if let Err(error) = ClientMessage::parse(&text) {
            prop_assert!(!error.message.is_empty());
        }
    }

    #[test]
    fn no_field_panics(name in "[a-z]{2,8}", value in pieces()) {
        let text = format!(r#"{{"type":"subscribe","id":"a","table":"t","{name}":{value}}}"#);
        drop(ClientMessage::parse(&text));
    }

    #[test]
    fn an_integer_is_kept_or_refused(number in any::<i128>(), bits in 1..128_u32, scale in 0..3_usize) {
        let number = number >> (128 - bits);
        let text = match scale {
            0 => number.to_string(),
            1 => format!("{number}.0"),
            _ => format!("{number}e0"),
        };
        if let Some(value) = exact(&text) {
            let kept = value.as_i64().map(i128::from)
                .or(value.as_u64().map(i128::from))
                // A number means what is printed of it: the shortest digits, not the double's whole expansion.
                .or(value.as_f64().and_then(|float| float.to_string().parse().ok()));
            prop_assert_eq!(kept, Some(number));
        } else {
            // Every double holds all of them up to here.
            prop_assert!(number.unsigned_abs() > 1 << 53);
        }
    }
}
