//! `[[source]]`: one of several databases, with flags of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::error::Faults;
use super::fields::{Fields, Table, shown};
use super::file_text::FileText;
use super::flag::{self, Flag, Value};
use super::spanned::Spanned;

/// The key of its name.
pub(super) const NAME: &str = "name";

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 63;

/// The name of a source, by which clients and metrics tell it from the others: 1 to 63 lower-case letters, digits, `_`
/// and `-`, the first of them a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceName(Arc<str>);

impl SourceName {
    /// Reads a name; `None` if it is not of that form.
    pub fn parse(text: &str) -> Option<SourceName> {
        let is_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        let is_valid = text.len() <= MAX_NAME_BYTES
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(is_name);
        is_valid.then(|| SourceName(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of several databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSource {
    /// The bytes of the section's header.
    pub at: Range<usize>,
    /// Its name, which no other has.
    pub name: Spanned<SourceName>,
    /// The values of flags that are its own, in the order of the file.
    pub values: Vec<Value>,
}

impl NamedSource {
    /// The value of a flag; `None` if the section does not have it.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.iter().find(|value| value.key == key)
    }

    /// Its values, wherever they stand in the file, by their keys.
    pub fn texts(&self) -> BTreeMap<&str, &[String]> {
        let pairs = self.values.iter().map(|value| (&*value.key, &*value.texts));
        pairs.collect()
    }
}

/// Each section, if nothing that it needs is missing or wrong. `flags` are those that may stand in it.
pub(super) fn read_all(
    tables: Vec<Table<'_>>,
    flags: &[Flag],
    file: &FileText,
    faults: &mut Faults,
    check: impl Fn(&Flag, &str) -> Result<(), String>,
    elsewhere: impl Fn(&str) -> Option<&'static str>,
) -> Vec<NamedSource> {
    let mut sources: Vec<NamedSource> = Vec::new();
    for table in tables {
        let mut fields = Fields::of(table, " in [[source]]", faults);
        let at = fields.at().clone();
        let name = name(&mut fields);
        let values = flags
            .iter()
            .filter_map(|flag| flag::read(flag, &mut fields, file, &check));
        let mut values: Vec<Value> = values.collect();
        values.sort_by_key(|value| value.at.start);
        fields.end(&elsewhere);
        let Some(name) = name else {
            continue;
        };
        if sources.iter().any(|other| other.name.value == name.value) {
            faults.add(
                &name.at,
                format!("name: there is a source {} already", name.value),
            );
            continue;
        }
        sources.push(NamedSource { at, name, values });
    }
    sources
}

fn name(fields: &mut Fields<'_, '_>) -> Option<Spanned<SourceName>> {
    if fields.place(NAME).is_none() {
        let at = fields.at().clone();
        fields.fault(
            &at,
            "[[source]] needs a name, as in name = \"orders\": clients connect to /v1/stream/orders",
        );
        return None;
    }
    let text = fields.text(NAME)?;
    let Some(value) = SourceName::parse(&text.value) else {
        let what = format!(
            "name: {} is no name of a source: write 1 to {MAX_NAME_BYTES} lower-case letters, digits, _ and -, the first a letter",
            shown(&text.value)
        );
        fields.fault(&text.at, what);
        return None;
    };
    Some(Spanned { value, at: text.at })
}
