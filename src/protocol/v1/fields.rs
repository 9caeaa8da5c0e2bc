//! [`Fields`]: a client's message as its fields, each read by its type or refused by its name.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::protocol::{ErrorCode, ErrorMessage};
use crate::types::Quoted;

/// More fields than any message has: beyond it there is no need to read on.
const MAX_FIELDS: usize = 32;
/// The depth to which arrays and objects may be nested, in parameters and the `ref` of a ping.
const MAX_DEPTH: usize = 32;

/// The fields of one JSON object, their values as yet unread.
pub(super) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// Reads the object, and nothing of its values but that they are JSON.
    pub(super) fn parse(text: &'a str) -> Result<Fields<'a>, ErrorMessage> {
        if is_deeper_than(MAX_DEPTH, text) {
            return Err(bad(format!("the message is nested more than {MAX_DEPTH} deep")));
        }
        serde_json::from_str(text).map_err(|error| {
            bad(match error.classify() {
                // The error says where and what, and repeats nothing of the text: there may be a token in it.
                Category::Syntax | Category::Eof => format!("the message is not JSON: {error}"),
                _ => format!("the message must be a JSON object of at most {MAX_FIELDS} fields"),
            })
        })
    }

    /// Refuses fields other than `type` and those in `valid`.
    pub(super) fn check(&self, message: &str, valid: &[&str]) -> Result<(), ErrorMessage> {
        self.check_all(message, &[&["type"], valid].concat())
    }

    /// Refuses fields other than those in `valid`.
    pub(super) fn check_all(&self, message: &str, valid: &[&str]) -> Result<(), ErrorMessage> {
        let unknown = |name: &&str| !valid.contains(name);
        match self.0.iter().map(|(name, _)| name.as_str()).find(unknown) {
            None => Ok(()),
            Some(name) => Err(bad(format!(
                "{message} has no field {}; it may have: {}",
                quoted(name),
                valid.join(", ")
            ))),
        }
    }

    /// A field's value as it was written.
    pub(super) fn get(&self, name: &str) -> Result<Option<&'a RawValue>, ErrorMessage> {
        let mut values = self.0.iter().filter(|(other, _)| other == name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value.map(|(_, value)| *value)),
            (_, Some(_)) => Err(bad(format!("the field {} is there twice", quoted(name)))),
        }
    }

    /// A field's text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ErrorMessage> {
        self.get(name)?.map(|value| text(name, value)).transpose()
    }

    /// The text of a field that must be there.
    pub(super) fn required_text(&self, name: &str) -> Result<String, ErrorMessage> {
        self.text(name)?
            .ok_or_else(|| bad(format!("the field {} is missing", quoted(name))))
    }

    /// A field's `true` or `false`; `false` if it is not there.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ErrorMessage> {
        match self.get(name)?.map(RawValue::get) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(wrong(name, "true or false", other)),
        }
    }

    /// The elements of a field's array.
    pub(super) fn array(&self, name: &str) -> Result<Option<Vec<&'a RawValue>>, ErrorMessage> {
        let Some(value) = self.get(name)? else {
            return Ok(None);
        };
        serde_json::from_str(value.get())
            .map(Some)
            .map_err(|_| wrong(name, "an array", value.get()))
    }

    /// The texts in a field's array, none of them twice.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, ErrorMessage> {
        let Some(elements) = self.array(name)? else {
            return Ok(None);
        };
        let mut texts = Vec::with_capacity(elements.len());
        for (i, element) in elements.into_iter().enumerate() {
            texts.push(text(&format!("{name}[{i}]"), element)?);
        }
        let mut sorted: Vec<&String> = texts.iter().collect();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find_map(|pair| match pair {
            [a, b] if a == b => Some(*a),
            _ => None,
        });
        match twice {
            Some(twice) => Err(bad(format!("{} has {} twice", quoted(name), quoted(twice)))),
            None => Ok(Some(texts)),
        }
    }
}

/// A bad request.
pub(super) fn bad(message: impl Into<String>) -> ErrorMessage {
    ErrorMessage::new(ErrorCode::BadRequest, message)
}

/// A client's own text, for an error: in quotes, and not the whole of it if it is long.
pub(super) fn quoted(text: &str) -> String {
    Quoted(text).to_string()
}

fn text(field: &str, value: &RawValue) -> Result<String, ErrorMessage> {
    let json = value.get();
    serde_json::from_str(json).map_err(|_| {
        if json.starts_with('"') {
            bad(format!(
                "{} has an escape that stands for no character",
                quoted(field)
            ))
        } else {
            wrong(field, "text", json)
        }
    })
}

/// A value of another type than its field's. Says the type and not the value, which may be a token.
fn wrong(field: &str, expected: &str, json: &str) -> ErrorMessage {
    let found = match json.bytes().next() {
        Some(b'"') => "text",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null (leave the field out instead)",
        _ => "a number",
    };
    bad(format!("{} must be {expected}, not {found}", quoted(field)))
}

/// True if the text, if it is JSON, has more than `max` arrays and objects open at once.
fn is_deeper_than(max: usize, text: &str) -> bool {
    let mut depth = 0_usize;
    let mut in_text = false;
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > max {
            return true;
        }
    }
    false
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields<'de>, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    if fields.len() == MAX_FIELDS {
                        return Err(A::Error::custom("too many fields"));
                    }
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
