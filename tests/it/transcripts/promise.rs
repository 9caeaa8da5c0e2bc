//! The promise to clients of a release: what a later server says instead of what a transcript has.
//!
//! Fields may be added, and words for people may change. Everything else stays.

use serde_json::Value;

use super::script::Line;

/// The reason why a line breaks the promise, if it does. `closed` is followed by a code and words for people.
pub fn broken(expected: &Line, said: &str) -> Option<String> {
    match expected {
        Line::Said(expected) => {
            let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            broken_in(&parse(expected), &parse(said))
        }
        Line::Closed(expected) => {
            let code = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
            (code(expected) != code(said)).then(|| "another close code".to_owned())
        }
        _ => None,
    }
}

fn broken_in(message: &Value, said: &Value) -> Option<String> {
    let (Value::Object(fields), Value::Object(now)) = (message, said) else {
        return Some("no object".to_owned());
    };
    fields.iter().find_map(|(name, was)| {
        let Some(is) = now.get(name) else {
            return Some(format!("{name} is missing"));
        };
        let kept = match (message["type"].as_str(), &**name) {
            // Words for people.
            (Some("error"), "message") | (Some("hello"), "server") => is.is_string(),
            (Some("subscribed"), "warnings") => is.is_array(),
            (Some("hello"), "features") => {
                let has = |feature: &Value| is.as_array().is_some_and(|all| all.contains(feature));
                was.as_array().unwrap().iter().all(has)
            }
            // Limits have the values of today.
            (Some("hello"), "limits") => was
                .as_object()
                .unwrap()
                .keys()
                .all(|limit| is.get(limit).is_some()),
            (_, "row" | "old" | "key" | "new_key" | "rows") => was == is,
            _ => kept(was, is),
        };
        (!kept).then(|| format!("{name} was {was}"))
    })
}

/// True if a value still has what it had: of objects each field, of arrays each item, and everything else is equal.
fn kept(was: &Value, is: &Value) -> bool {
    match (was, is) {
        (Value::Object(_), Value::Object(_)) => broken_in(was, is).is_none(),
        (Value::Array(was), Value::Array(is)) => {
            was.len() == is.len() && was.iter().zip(is).all(|(was, is)| kept(was, is))
        }
        _ => was == is,
    }
}

#[test]
fn a_later_server_may_add_fields_and_change_words_and_nothing_else() {
    let breaks = |was: &str, is: &str| broken(&Line::Said(was.to_owned()), is);
    for (was, is) in [
        (
            r#"{"type":"pong","ref":1}"#,
            r#"{"type":"pong","at":"noon","ref":1}"#,
        ),
        (
            r#"{"type":"tx","changes":[{"id":"a","op":"delete","key":{"id":1}}]}"#,
            r#"{"type":"tx","changes":[{"id":"a","op":"delete","why":"x","key":{"id":1}}]}"#,
        ),
        (
            r#"{"type":"error","code":"bad_request","message":"no"}"#,
            r#"{"type":"error","code":"bad_request","message":"no such field"}"#,
        ),
        (
            r#"{"type":"hello","features":["reach"],"limits":{"subscriptions":1000}}"#,
            r#"{"type":"hello","features":["time","reach"],"limits":{"subscriptions":9,"rows":1}}"#,
        ),
    ] {
        assert_eq!(breaks(was, is), None, "{is}");
    }
    for (was, is) in [
        (r#"{"type":"pong","ref":1}"#, r#"{"type":"pong"}"#),
        (r#"{"type":"pong","ref":1}"#, r#"{"type":"pong","ref":2}"#),
        (r#"{"type":"live","id":"a"}"#, r#"{"type":"lives","id":"a"}"#),
        (
            r#"{"type":"tx","changes":[{"op":"insert","row":{"id":1}}]}"#,
            r#"{"type":"tx","changes":[{"op":"insert","row":{"id":1,"n":2}}]}"#,
        ),
        (
            r#"{"type":"tx","changes":[{"op":"insert","row":{"id":1}}]}"#,
            r#"{"type":"tx","changes":[]}"#,
        ),
        (
            r#"{"type":"error","code":"bad_request","message":"no"}"#,
            r#"{"type":"error","code":"bad_predicate","message":"no"}"#,
        ),
        (
            r#"{"type":"hello","features":["reach"]}"#,
            r#"{"type":"hello","features":["time"]}"#,
        ),
    ] {
        assert!(breaks(was, is).is_some(), "{is}");
    }
    let closed = Line::Closed("4500 no token".to_owned());
    assert_eq!(broken(&closed, "4500 there is no token"), None);
    assert!(broken(&closed, "4501 no token").is_some());
}
