//! `walcast tables`: the tables that clients can subscribe to.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::look::look;
use super::serve::Source;
use crate::event::{Relation, ReplicaIdentity, TableName};
use crate::filter::nearest_table;
use crate::postgres::Catalog;

/// List the tables that can be subscribed to: those of the publications, with their keys, columns and replica
/// identities.
///
/// Asks the database, not a running server; the slot need not exist. Exits with 1 if a table that is named cannot be
/// subscribed to, with 3 if the database cannot be reached, and with 2 if a flag is wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// These alone; of those that are not among them, why not, and what makes them so.
    #[arg(value_name = "TABLE")]
    names: Vec<TableName>,
    /// Print them as JSON: an array of objects.
    #[arg(long, env = "WALCAST_JSON")]
    json: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let looked = look(None, &args.source, |info, wanted| {
        let mut catalog = Catalog::new(info.clone());
        let mut tables = catalog.tables(&wanted.publications)?;
        tables.sort_by(|a, b| a.table.cmp(&b.table));
        if args.names.is_empty() {
            return Ok((tables, Vec::new()));
        }
        let is_there = |name: &&TableName| tables.iter().any(|table| table.table == **name);
        let mut others = Vec::new();
        for name in args.names.iter().filter(|name| !is_there(name)) {
            let mut why = catalog.why_unpublished(&wanted.publications, name)?;
            let published: Vec<&TableName> = tables.iter().map(|table| &table.table).collect();
            if let (true, Some(meant)) = (why.is_missing, nearest_table(name, &published)) {
                why.what = format!("the database has no such table: did you mean {meant}?");
            }
            others.push((name, why));
        }
        tables.retain(|table| args.names.contains(&table.table));
        Ok((tables, others))
    });
    let (tables, others) = match looked {
        Ok(looked) => looked,
        Err(code) => return code,
    };
    if args.json {
        let all = tables.iter().map(in_json);
        let others = others
            .iter()
            .map(|(name, why)| json!({"table": name.to_string(), "unpublished": why.what, "fix": why.cure}));
        println!("{:#}", all.chain(others).collect::<Value>());
    } else {
        if tables.is_empty() && others.is_empty() {
            println!("the publications have no tables: ALTER PUBLICATION … ADD TABLE …");
        }
        for table in &tables {
            println!("{}", in_words(table));
        }
        for (name, why) in &others {
            println!("{name}: {}", why.what);
            for line in why.cure.iter().flat_map(|cure| cure.lines()) {
                println!("  fix: {line}");
            }
        }
    }
    if others.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

/// Remarks on what a live query of the table can and cannot tell.
fn notes(table: &Relation) -> Vec<String> {
    let mut notes: Vec<String> = table.logging.caveats.iter().map(ToString::to_string).collect();
    let columns = table.columns.iter().filter(|column| !column.identity);
    let columns: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
    if table.logging.unnamed {
        notes.push(format!(
            "updates and deletes do not tell which row they are of; fix: {}",
            table.cure(&columns)
        ));
    } else if table.replica_identity != ReplicaIdentity::Full && !columns.is_empty() {
        notes.push(format!(
            "a predicate over other columns than those of the replica identity is refused, unless \"undecided\" says \
             otherwise; fix: {}",
            table.cure(&columns)
        ));
    }
    notes
}

fn in_words(table: &Relation) -> String {
    let key = if table.key.is_empty() {
        "none".to_owned()
    } else {
        table.key_names().join(", ")
    };
    let columns = table.columns.iter();
    let columns: Vec<String> = columns
        .map(|column| format!("{} {}", column.name, column.ty.name))
        .collect();
    let mut words = format!(
        "{}\n  key: {key}; replica identity: {}\n  columns: {}",
        table.table,
        table.replica_identity,
        columns.join(", ")
    );
    for note in notes(table) {
        // Writing to a string does not fail.
        let _ = write!(words, "\n  note: {note}");
    }
    words
}

fn in_json(table: &Relation) -> Value {
    let columns = table.columns.iter();
    let columns = columns.map(|column| json!({"name": column.name, "type": column.ty.name}));
    json!({
        "table": table.table.to_string(),
        "key": table.key_names(),
        "replica_identity": table.replica_identity,
        "columns": columns.collect::<Vec<_>>(),
        "notes": notes(table),
    })
}
