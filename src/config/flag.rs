//! Flags of `serve` in the file: the same names with underscores, and values that the flags' own parsers take.

use std::fmt;
use std::ops::Range;

use toml::de::DeValue;

use super::fields::{Fields, named};
use super::file_text::FileText;

/// A flag, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name, with underscores.
    pub key: String,
    /// The values that it takes.
    pub kind: Kind,
    /// True if it may be given several times, which is a list here.
    pub is_list: bool,
    /// True if its value may hold a secret: it is never shown.
    pub is_secret: bool,
    /// True if it is about a database, so that a `[[source]]` may have it.
    pub is_of_source: bool,
}

/// The kind of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A number.
    Number,
    /// A number of bytes, or a text such as `"64MiB"`.
    Size,
    /// A path, relative to the file's directory.
    Path,
    /// Any other text.
    Text,
}

/// The value of a flag.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    /// The name of the flag, with underscores.
    pub key: String,
    /// The value as it would stand on the command line; several if the flag would be given several times.
    pub texts: Vec<String>,
    /// The bytes of the file that it was read from.
    pub at: Range<usize>,
    is_secret: bool,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Value");
        shown.field("key", &self.key);
        if !self.is_secret {
            shown.field("texts", &self.texts);
        }
        shown.finish_non_exhaustive()
    }
}

/// The value of `flag`, if the file has one. What is wrong with it is a fault.
pub(super) fn read(
    flag: &Flag,
    fields: &mut Fields<'_, '_>,
    file: &FileText,
    check: impl Fn(&Flag, &str) -> Result<(), String>,
) -> Option<Value> {
    let found = fields.value(&flag.key)?;
    let items = match found.value {
        DeValue::Array(_) if !flag.is_list => {
            fields.fault(&found.at, format!("{} takes one value, not a list", flag.key));
            return None;
        }
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| (item.get_ref(), item.span())).collect();
            if items.is_empty() {
                let what = format!("{0} is an empty list: leave {0} out", flag.key);
                fields.fault(&found.at, what);
            }
            items
        }
        value => vec![(value, found.at.clone())],
    };
    let is_item = matches!(found.value, DeValue::Array(_));
    let mut texts = Vec::new();
    for (value, at) in items {
        let text = text(flag.kind, value).and_then(|text| {
            let text = match flag.kind {
                _ if is_item => quoted(text),
                Kind::Path if text.is_empty() => return Err("write a path".into()),
                // What is no UTF-8 in the path of the file itself cannot be resolved in it.
                Kind::Path => match file.resolve(&text).into_os_string().into_string() {
                    Ok(path) => path,
                    Err(_) => return Err("the directory of the file has a name that is no UTF-8".into()),
                },
                _ => text,
            };
            check(flag, &text).map(|()| text)
        });
        match text {
            Ok(text) => texts.push(text),
            Err(why) => fields.fault(&at, format!("{}: {why}", flag.key)),
        }
    }
    Some(Value {
        key: flag.key.clone(),
        texts,
        at: found.at,
        is_secret: flag.is_secret,
    })
}

/// A value as text, if it is one of its kind.
fn text(kind: Kind, value: &DeValue<'_>) -> Result<String, String> {
    let wanted = match (kind, value) {
        (Kind::Switch, DeValue::Boolean(value)) => return Ok(value.to_string()),
        (Kind::Number | Kind::Size, DeValue::Integer(number)) => {
            return match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Ok(number.to_string()),
                Err(_) => Err("the number is too large".into()),
            };
        }
        (Kind::Size | Kind::Path | Kind::Text, DeValue::String(text)) => return Ok(text.as_ref().to_owned()),
        (Kind::Switch, _) => "true or false",
        (Kind::Number, _) => "a number, without quotes,",
        (Kind::Size, _) => "a size, as in \"64MiB\",",
        (Kind::Path, _) => "a path in quotes",
        (Kind::Text, _) => "a text in quotes",
    };
    Err(format!("write {wanted} instead of {}", named(value)))
}

/// An item of a list as the command line has it, where commas separate items: as an SQL identifier, where it would not
/// be taken as it is.
fn quoted(item: String) -> String {
    if item.contains([',', '"']) || item.trim() != item || item.is_empty() {
        return format!("\"{}\"", item.replace('"', "\"\""));
    }
    item
}
