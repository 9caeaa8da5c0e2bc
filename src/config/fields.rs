//! [`Fields`]: the keys of one table, taken out one by one.

use std::fmt::Write as _;
use std::ops::Range;

use toml::de::{DeArray, DeTable, DeValue};

use super::error::Faults;
use super::spanned::Spanned;
use crate::filter::nearest;

/// The longest name that an error repeats, in characters.
const SHOWN: usize = 60;

/// A table of the file, with the place of its header.
#[derive(Clone)]
pub(super) struct Table<'a> {
    table: &'a DeTable<'a>,
    at: Range<usize>,
}

impl Table<'_> {
    pub(super) fn at(&self) -> &Range<usize> {
        &self.at
    }

    /// The place of a key's value, if the table has it.
    pub(super) fn place(&self, key: &str) -> Option<Range<usize>> {
        self.table.get(key).map(toml::Spanned::span)
    }
}

/// The keys of one table. What is asked for is known; [`end`](Fields::end) refuses everything else.
pub(super) struct Fields<'a, 'f> {
    table: &'a DeTable<'a>,
    at: Range<usize>,
    /// The words before a name in an error: nothing, or the section.
    section: &'static str,
    known: Vec<String>,
    faults: &'f mut Faults,
}

/// A value with its place.
type Found<'a> = Spanned<&'a DeValue<'a>>;

impl<'a, 'f> Fields<'a, 'f> {
    /// The top level of a file.
    pub(super) fn top(table: &'a DeTable<'a>, faults: &'f mut Faults) -> Fields<'a, 'f> {
        Fields {
            table,
            at: 0..0,
            section: "",
            known: Vec::new(),
            faults,
        }
    }

    /// The keys of a section.
    pub(super) fn of(table: Table<'a>, section: &'static str, faults: &'f mut Faults) -> Fields<'a, 'f> {
        Fields {
            table: table.table,
            at: table.at,
            section,
            known: Vec::new(),
            faults,
        }
    }

    pub(super) fn at(&self) -> &Range<usize> {
        &self.at
    }

    pub(super) fn fault(&mut self, at: &Range<usize>, what: impl Into<String>) {
        self.faults.add(at, what);
    }

    /// The value of a key.
    pub(super) fn value(&mut self, key: &str) -> Option<Found<'a>> {
        if !self.known.iter().any(|known| known == key) {
            self.known.push(key.to_owned());
        }
        self.table.get(key).map(|value| Spanned {
            at: value.span(),
            value: value.get_ref(),
        })
    }

    /// The place of a key, if the table has it.
    pub(super) fn place(&mut self, key: &str) -> Option<Range<usize>> {
        self.value(key).map(|value| value.at)
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &str) -> Option<Spanned<String>> {
        let found = self.value(key)?;
        self.text_of(key, &found)
    }

    fn text_of(&mut self, key: &str, found: &Found<'a>) -> Option<Spanned<String>> {
        match found.value {
            DeValue::String(text) if text.is_empty() => {
                self.fault(&found.at, format!("{key} is empty"));
                None
            }
            DeValue::String(text) => Some(Spanned {
                value: text.as_ref().to_owned(),
                at: found.at.clone(),
            }),
            other => {
                let found_at = found.at.clone();
                self.fault(
                    &found_at,
                    format!("{key}: write a text in quotes instead of {}", named(other)),
                );
                None
            }
        }
    }

    /// A list of different texts, at least one. The list is `None` if it cannot be read.
    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<Spanned<String>>> {
        let found = self.value(key)?;
        match found.value {
            DeValue::Array(items) => self.texts_of(key, &found.at, items),
            other => {
                let what = format!(
                    "{key}: write a list, as in {key} = [\"…\"], instead of {}",
                    named(other)
                );
                self.fault(&found.at, what);
                None
            }
        }
    }

    fn texts_of(
        &mut self,
        key: &str,
        at: &Range<usize>,
        items: &'a DeArray<'a>,
    ) -> Option<Vec<Spanned<String>>> {
        if items.is_empty() {
            self.fault(
                at,
                format!("{key} is an empty list: name what is meant, or leave {key} out"),
            );
            return None;
        }
        let mut texts: Vec<Spanned<String>> = Vec::new();
        for item in items.iter() {
            let found = Spanned {
                value: item.get_ref(),
                at: item.span(),
            };
            let text = self.text_of(key, &found)?;
            if texts.contains(&text) {
                self.fault(&text.at, format!("{key} has {} twice", shown(&text.value)));
            }
            texts.push(text);
        }
        Some(texts)
    }

    /// A text, or a list of different ones; nothing if there is neither.
    pub(super) fn text_or_texts(&mut self, key: &str) -> Vec<Spanned<String>> {
        match self.value(key) {
            Some(found) if matches!(found.value, DeValue::Array(_)) => self.texts(key).unwrap_or_default(),
            Some(_) => self.text(key).into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// A switch.
    pub(super) fn switch(&mut self, key: &str) -> Option<Spanned<bool>> {
        let found = self.value(key)?;
        match found.value {
            DeValue::Boolean(value) => Some(Spanned {
                value: *value,
                at: found.at,
            }),
            other => {
                self.fault(
                    &found.at,
                    format!("{key}: write true or false instead of {}", named(other)),
                );
                None
            }
        }
    }

    /// A `[section]`.
    pub(super) fn table(&mut self, key: &str) -> Option<Table<'a>> {
        let found = self.value(key)?;
        match found.value {
            DeValue::Table(table) => Some(Table { table, at: found.at }),
            _ => {
                self.fault(
                    &found.at,
                    format!("{key} is a section: write it once, as [{key}]"),
                );
                None
            }
        }
    }

    /// Each of the `[[sections]]`.
    pub(super) fn tables(&mut self, key: &str) -> Vec<Table<'a>> {
        let Some(found) = self.value(key) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        let items = match found.value {
            DeValue::Array(items) => items.iter().collect(),
            _ => Vec::new(),
        };
        for item in &items {
            match item.get_ref() {
                DeValue::Table(table) => tables.push(Table {
                    table,
                    at: item.span(),
                }),
                _ => return self.no_tables(key, &item.span()),
            }
        }
        if items.is_empty() {
            return self.no_tables(key, &found.at);
        }
        tables
    }

    fn no_tables(&mut self, key: &str, at: &Range<usize>) -> Vec<Table<'a>> {
        self.fault(
            at,
            format!("{key} is a list of sections: write each as [[{key}]], with its keys below"),
        );
        Vec::new()
    }

    /// Refuses every key that was not asked for, with the words that `elsewhere` has for it, or with the known name
    /// that is most like it.
    pub(super) fn end(self, elsewhere: impl Fn(&str) -> Option<&'static str>) {
        for (key, _) in self.table.iter() {
            let name = key.get_ref().as_ref();
            if self.known.iter().any(|known| known == name) {
                continue;
            }
            let mut what = format!("unknown key {}{}", shown(name), self.section);
            let dashes = name.replace('-', "_");
            let near = || nearest(&dashes, self.known.iter().map(String::as_str));
            let known = |meant: &&String| **meant == dashes;
            let meant = self.known.iter().find(known).map(String::as_str);
            // Writing to a string does not fail.
            let _ = match (elsewhere(name), meant.or_else(near)) {
                (Some(elsewhere), _) => write!(what, ": {elsewhere}"),
                (None, Some(meant)) => write!(what, ": did you mean {meant}?"),
                (None, None) => Ok(()),
            };
            self.faults.add(&key.span(), what);
        }
    }
}

/// A name as an error repeats it.
pub(super) fn shown(name: &str) -> String {
    let mut characters = name.chars();
    let front: String = characters.by_ref().take(SHOWN).collect();
    match characters.next() {
        None => format!("{front:?}"),
        Some(_) => format!("{front:?}…"),
    }
}

/// A value's type, with its article.
pub(super) fn named(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
