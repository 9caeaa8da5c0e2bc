//! `[[policy]]`: who may see what of which tables, or hear which messages.

use std::ops::Range;

use super::error::Faults;
use super::fields::{Fields, Table, shown};
use super::named_source::{NamedSource, SourceName};
use super::spanned::Spanned;
use crate::event::{Ops, TableName};
use crate::filter::nearest;

/// The keys of the section.
pub(super) const KEYS: [&str; 8] = [
    "sources", "tables", "roles", "ops", "columns", "where", "rls", "messages",
];

/// One policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The bytes of the section's header.
    pub at: Range<usize>,
    /// The sources that it is for; `None`: the database of a file without sources.
    pub sources: Option<Vec<SourceName>>,
    /// The roles that it is for; `None`: every role.
    pub roles: Option<Vec<Spanned<String>>>,
    /// Its subject.
    pub grant: Grant,
}

/// The subject of a policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant {
    /// Rows.
    Tables(TableGrant),
    /// Logical messages whose prefix begins with one of these.
    Messages(Vec<Spanned<String>>),
}

/// Rows that may be seen.
#[derive(Clone, Debug, PartialEq)]
pub struct TableGrant {
    /// The tables, at least one.
    pub tables: Vec<Spanned<Tables>>,
    /// The operations.
    pub ops: Ops,
    /// The columns, by their names as they are; `None`: all.
    pub columns: Option<Vec<Spanned<String>>>,
    /// The rows.
    pub rows: Rows,
}

/// A table, or all of a schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Tables {
    /// One table.
    One(TableName),
    /// Every table of the schema of this name.
    Schema(String),
}

impl Tables {
    /// True if the table is this one, or one of these.
    pub fn contains(&self, table: &TableName) -> bool {
        match self {
            Tables::One(one) => one == table,
            Tables::Schema(schema) => *schema == table.schema,
        }
    }
}

/// The rows of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All.
    All,
    /// Those that satisfy a predicate, which is here as it is written: [`FileText::place_in`](super::FileText::place_in)
    /// finds the places of its errors.
    Where(Spanned<String>),
    /// Those that Postgres' own policies admit.
    RowSecurity,
}

impl Policy {
    /// True if it is for a source.
    pub fn is_for(&self, source: Option<&SourceName>) -> bool {
        match (&self.sources, source) {
            (None, None) => true,
            (Some(sources), Some(source)) => sources.contains(source),
            // What is read again may be a file with sources while the program runs without, or the other way round.
            _ => false,
        }
    }
}

/// A section, if nothing that it needs is missing or wrong.
pub(super) fn read(
    table: Table<'_>,
    known: &[NamedSource],
    faults: &mut Faults,
    elsewhere: impl Fn(&str) -> Option<&'static str>,
) -> Option<Policy> {
    let mut fields = Fields::of(table, " in [[policy]]", faults);
    let at = fields.at().clone();
    let sources = sources(&mut fields, known);
    let roles = fields.texts("roles");
    let grant = match (fields.place("tables"), fields.place("messages")) {
        (None, None) => {
            fields.fault(
                &at,
                "[[policy]] needs tables, as in tables = [\"public.orders\"], or messages",
            );
            None
        }
        (Some(_), Some(at)) => {
            fields.fault(
                &at,
                "messages: a policy is for tables or for messages: write another [[policy]]",
            );
            None
        }
        (Some(_), None) => tables(&mut fields),
        (None, Some(_)) => messages(&mut fields),
    };
    // Known wherever they stand: what is wrong with them was said above.
    for key in KEYS {
        fields.value(key);
    }
    fields.end(|key| match key {
        "table" => Some("write a list, as in tables = [\"public.orders\"]"),
        "role" => Some("write a list, as in roles = [\"customer\"]"),
        other => elsewhere(other),
    });
    Some(Policy {
        at,
        sources,
        roles,
        grant: grant?,
    })
}

/// The sources of a policy. Where there are several, each policy has to say for which of them it is: one that is added
/// later opens nothing.
fn sources(fields: &mut Fields<'_, '_>, known: &[NamedSource]) -> Option<Vec<SourceName>> {
    let names = || known.iter().map(|source| source.name.value.as_str());
    match (fields.place("sources"), known) {
        (Some(at), []) => {
            fields.fault(&at, "sources: there is no [[source]]: leave sources out");
            return None;
        }
        (None, [first, _, ..]) => {
            let at = fields.at().clone();
            let what = format!(
                "[[policy]] needs sources, as in sources = [\"{}\"], since there are several",
                first.name.value
            );
            fields.fault(&at, what);
            return None;
        }
        // By its name: what is read again may meet sources that the file does not have any more.
        (None, [only]) => return Some(vec![only.name.value.clone()]),
        _ => {}
    }
    let mut sources = Vec::new();
    for name in fields.texts("sources")? {
        match known
            .iter()
            .find(|source| source.name.value.as_str() == name.value)
        {
            Some(source) => sources.push(source.name.value.clone()),
            None => {
                let mut what = format!("sources: there is no source {}", shown(&name.value));
                if let Some(near) = nearest(&name.value, names()) {
                    what += &format!(": did you mean {near}?");
                }
                fields.fault(&name.at, what);
            }
        }
    }
    Some(sources)
}

fn messages(fields: &mut Fields<'_, '_>) -> Option<Grant> {
    for key in ["ops", "columns", "where", "rls"] {
        if let Some(at) = fields.place(key) {
            fields.fault(
                &at,
                format!("{key}: a policy for messages has prefixes and roles alone"),
            );
        }
    }
    fields.texts("messages").map(Grant::Messages)
}

fn tables(fields: &mut Fields<'_, '_>) -> Option<Grant> {
    let mut tables: Vec<Spanned<Tables>> = Vec::new();
    let mut texts = Vec::new();
    for text in fields.texts("tables")? {
        match named(&text.value) {
            Ok(named) => {
                let named = Spanned {
                    value: named,
                    at: text.at.clone(),
                };
                // The same text twice was said already.
                if tables.contains(&named) && !texts.contains(&text) {
                    fields.fault(&named.at, "tables has this table twice");
                }
                texts.push(text);
                tables.push(named);
            }
            Err(why) => fields.fault(&text.at, format!("tables: {why}")),
        }
    }
    let columns = fields.texts("columns");
    Some(Grant::Tables(TableGrant {
        tables,
        ops: ops(fields),
        rows: rows(fields),
        columns,
    }))
}

/// A table's name, or `schema.*`.
fn named(text: &str) -> Result<Tables, String> {
    if let Some(schema) = text.strip_suffix(".*") {
        // A schema's name is written as a table's without a schema is.
        let alone = format!("public.{schema}").parse::<TableName>();
        return match alone {
            Ok(alone) => Ok(Tables::Schema(alone.name)),
            Err(_) => Err("write a schema as in \"public.*\"".into()),
        };
    }
    if text == "*" {
        return Err("name the schema, as in \"public.*\"".into());
    }
    text.parse().map(Tables::One).map_err(|error| error.to_string())
}

fn ops(fields: &mut Fields<'_, '_>) -> Ops {
    let Some(names) = fields.texts("ops") else {
        return Ops::ALL;
    };
    let mut ops = Ops::NONE;
    for name in names {
        if ops.add(&name.value) {
            continue;
        }
        let hint = match nearest(&name.value, Ops::NAMES.into_iter()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}", Ops::NAMES.join(", ")),
        };
        let shown = shown(&name.value);
        fields.fault(&name.at, format!("ops: unknown operation {shown}: {hint}"));
    }
    ops
}

fn rows(fields: &mut Fields<'_, '_>) -> Rows {
    let by_postgres = fields.switch("rls").filter(|rls| rls.value);
    let predicate = fields.text("where");
    match (by_postgres, predicate) {
        (None, None) => Rows::All,
        (None, Some(predicate)) if predicate.value.trim().is_empty() => {
            fields.fault(&predicate.at, "where is empty: leave it out for all rows");
            Rows::Where(predicate)
        }
        (None, Some(predicate)) => Rows::Where(predicate),
        (Some(_), predicate) => {
            if let Some(predicate) = predicate {
                let what = "where: with rls = true, Postgres' own policies decide: write another [[policy]]";
                fields.fault(&predicate.at, what);
            }
            if let Some(at) = fields.place("columns") {
                let what =
                    "columns: with rls = true, the columns are those that the role may read in the database";
                fields.fault(&at, what);
            }
            Rows::RowSecurity
        }
    }
}
