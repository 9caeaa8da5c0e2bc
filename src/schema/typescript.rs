//! [`typescript`]: tables as TypeScript, as `walcast types` writes them.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::event::{Relation, TableName};
use crate::postgres::{Catalog, ConnInfo, Error, Publication};
use crate::types::{Attribute, Kind};

/// The form that the client gives numbers which exceed a double's precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TypeScriptNumbers {
    /// Their text.
    Text,
    /// Numbers, which may lose digits.
    Native,
    /// `bigint` for `bigint`, and text for `numeric`.
    Bigint,
}

/// A table, and which of its columns may be null.
struct Table {
    relation: Relation,
    nullable: Vec<bool>,
}

/// The tables of a database as TypeScript.
#[derive(Clone, Debug)]
pub struct Typed {
    /// Two lines of comment that say what it is of.
    pub head: String,
    /// The rest, which is the same for the same tables.
    pub body: String,
    /// True if the publications have no tables.
    pub is_empty: bool,
}

impl Typed {
    /// The line that ends the head of a file.
    pub const END_OF_HEAD: &str = "\n\n";

    /// The whole file.
    pub fn text(&self) -> String {
        format!("{}{}{}", self.head, Self::END_OF_HEAD, self.body)
    }
}

/// The tables of these publications as TypeScript; of those `wanted` alone, if it names some. Blocking.
///
/// # Errors
/// The database does not answer.
pub fn typescript(
    info: &ConnInfo,
    publications: &[Publication],
    wanted: Option<&TableName>,
    numbers: TypeScriptNumbers,
) -> Result<Typed, Error> {
    let mut catalog = Catalog::new(info.clone());
    let database = catalog.database()?;
    let mut relations = catalog.tables(publications)?;
    relations.retain(|relation| wanted.is_none_or(|wanted| *wanted == relation.table));
    relations.sort_by(|a, b| a.table.cmp(&b.table));
    let oids: Vec<u32> = relations.iter().map(|relation| relation.oid).collect();
    let not_null = catalog.not_null(&oids)?;
    let tables: Vec<Table> = relations
        .into_iter()
        .map(|relation| {
            let is_never_null = |name: &str| not_null.contains(&(relation.oid, name.to_owned()));
            let nullable = relation.columns.iter();
            let nullable = nullable.map(|column| !is_never_null(&column.name)).collect();
            Table { relation, nullable }
        })
        .collect();
    let publications: Vec<String> = publications.iter().map(ToString::to_string).collect();
    let body = body(&tables, numbers);
    Ok(Typed {
        head: head(&database, &publications.join(", "), &body),
        body,
        is_empty: tables.is_empty(),
    })
}

fn head(database: &str, publications: &str, body: &str) -> String {
    // A name may have a line's end in it.
    let line = |text: &str| text.replace(|c: char| c.is_control(), " ");
    format!(
        "// Written by `walcast types`, version {}: do not edit.\n// Database {}, publication {}, {}.",
        env!("CARGO_PKG_VERSION"),
        line(database),
        line(publications),
        hash(body),
    )
}

/// A name of what the tables are: the first 64 bits of its SHA-256.
fn hash(body: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
    let digits = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}"));
    format!("sha256 {}", digits.collect::<String>())
}

/// The names that the file itself gives or uses.
const TAKEN: [&str; 6] = ["Schema", "SchemaOf", "JsonColumns", "Json", "Record", "Readonly"];

const JSON: &str = "\
/**
 * The contents of json columns, by \"table.column\". Say them in a file of your own:
 * declare module './schema' { interface JsonColumns { 'orders.meta': { source: string } } }
 */
export interface JsonColumns {}
type Json<Name extends string> = Name extends keyof JsonColumns ? JsonColumns[Name] : unknown

";

/// The file behind its head: the same for the same tables, which are in order.
fn body(tables: &[Table], numbers: TypeScriptNumbers) -> String {
    let mut taken: HashSet<String> = TAKEN.map(str::to_owned).into();
    let names: Vec<(String, String)> = tables
        .iter()
        .map(|table| {
            let name = &table.relation.table;
            (table_name(name), interface_name(name, &mut taken))
        })
        .collect();
    let mut out = "import type { SchemaOf } from '@walcast/client'\n\n".to_owned();
    let is_json = |kind: &Kind| matches!(kind, Kind::Json | Kind::Jsonb);
    let mut columns = tables.iter().flat_map(|table| &table.relation.columns);
    if columns.any(|column| is_json(&column.ty.kind)) {
        out.push_str(JSON);
    }
    for (table, (name, interface)) in tables.iter().zip(&names) {
        write(&mut out, format_args!("export interface {interface} {{\n"));
        for (column, nullable) in table.relation.columns.iter().zip(&table.nullable) {
            let ty = if is_json(&column.ty.kind) {
                format!("Json<{}>", quoted(&format!("{name}.{}", column.name)))
            } else {
                type_of(&column.ty.kind, numbers)
            };
            let null = if *nullable { " | null" } else { "" };
            write(
                &mut out,
                format_args!("  {}: {ty}{null}\n", property(&column.name)),
            );
        }
        out.push_str("}\n\n");
    }
    out.push_str("export interface Schema {\n");
    for (table, (name, interface)) in tables.iter().zip(&names) {
        let key: Vec<String> = table.relation.key_names().into_iter().map(quoted).collect();
        let key = if key.is_empty() {
            "never".to_owned()
        } else {
            key.join(" | ")
        };
        write(
            &mut out,
            format_args!("  {}: {{ row: {interface}; key: {key} }}\n", property(name)),
        );
    }
    out.push_str("}\n\nexport const schema: SchemaOf<Schema> = {\n  tables: {\n");
    for (table, (name, _)) in tables.iter().zip(&names) {
        let key: Vec<String> = table.relation.key_names().into_iter().map(quoted).collect();
        write(
            &mut out,
            format_args!(
                "    {}: {{\n      key: [{}],\n      columns: {{\n",
                property(name),
                key.join(", ")
            ),
        );
        for column in &table.relation.columns {
            write(
                &mut out,
                format_args!(
                    "        {}: {},\n",
                    property(&column.name),
                    quoted(&column.ty.name)
                ),
            );
        }
        out.push_str("      },\n    },\n");
    }
    out.push_str("  },\n}\n");
    out
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = out.write_fmt(text);
}

/// The name as clients write it in `table`: the schema `public` is left out.
fn table_name(table: &TableName) -> String {
    let name = table.to_string();
    match name.strip_prefix("public.") {
        Some(rest) => rest.to_owned(),
        None => name,
    }
}

/// A name of its own: `AuditLog` for `audit.log`, `Orders2` if there is an `Orders` already.
fn interface_name(table: &TableName, taken: &mut HashSet<String>) -> String {
    let mut words = String::new();
    if table.schema != "public" {
        words.push_str(&table.schema);
        words.push(' ');
    }
    words.push_str(&table.name);
    let mut name = String::new();
    for word in words.split(|c: char| !c.is_ascii_digit() && !c.is_alphabetic()) {
        let mut letters = word.chars();
        name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        name.push_str(letters.as_str());
    }
    if !name.starts_with(char::is_alphabetic) {
        name.insert_str(0, "Table");
    }
    let first = name.clone();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{first}{number}");
        number += 1;
    }
    name
}

/// The name of a property, in quotes unless it is a plain one.
fn property(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if is_plain { name.to_owned() } else { quoted(name) }
}

/// A text as a literal.
fn quoted(text: &str) -> String {
    let mut out = "'".to_owned();
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' | '\u{7f}' => {
                write(&mut out, format_args!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// The type of a value that is not null.
fn type_of(kind: &Kind, numbers: TypeScriptNumbers) -> String {
    match (kind, numbers) {
        (Kind::Bool, _) => "boolean".to_owned(),
        (Kind::Int2 | Kind::Int4 | Kind::Float4 | Kind::Float8, _)
        | (Kind::Int8 | Kind::Numeric, TypeScriptNumbers::Native) => "number".to_owned(),
        (Kind::Int8, TypeScriptNumbers::Bigint) => "bigint".to_owned(),
        (Kind::Json | Kind::Jsonb, _) => "unknown".to_owned(),
        (Kind::Hstore, _) => "Record<string, string | null>".to_owned(),
        (Kind::Enum { labels, .. }, _) if !labels.is_empty() => {
            let labels: Vec<String> = labels.iter().map(|label| quoted(label)).collect();
            labels.join(" | ")
        }
        // Nothing says how many dimensions an array has.
        (Kind::Array(element), _) => format!("({} | null)[]", type_of(element, numbers)),
        (Kind::Vector(element), _) => format!("{}[]", type_of(element, numbers)),
        (Kind::Composite { attributes, .. }, _) => {
            let attribute = |Attribute { name, kind, .. }: &Attribute| {
                format!("{}: {} | null", property(name), type_of(kind, numbers))
            };
            let attributes: Vec<String> = attributes.iter().map(attribute).collect();
            format!("{{ {} }}", attributes.join("; "))
        }
        _ => "string".to_owned(),
    }
}
