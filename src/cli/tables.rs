//! `walcast tables`: the tables that clients can subscribe to.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::serve::Source;
use crate::app::cannot_look;
use crate::event::{Relation, ReplicaIdentity};
use crate::postgres::Catalog;

/// List the tables that can be subscribed to: those of the publications, with their keys, columns and replica identities.
///
/// Asks the database, not a running server; the slot need not exist. Exits with 3 if the database cannot be reached, and
/// with 2 if a flag is wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Print them as JSON: an array of objects.
    #[arg(long, env = "WALCAST_JSON")]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let wanted = args.source.wanted();
    let info = match args.source.conninfo() {
        Ok(info) => info,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(super::check::WRONG_FLAGS));
        }
    };
    let tables = Catalog::new(info.clone()).tables(&wanted.publications);
    let mut tables = match tables {
        Ok(tables) => tables,
        Err(error) => {
            eprintln!("error: {:#}", cannot_look(error, &info));
            return Ok(ExitCode::from(super::check::UNREACHABLE));
        }
    };
    tables.sort_by(|a, b| a.table.cmp(&b.table));
    if args.json {
        let all: Vec<Value> = tables.iter().map(in_json).collect();
        println!("{:#}", Value::from(all));
        return Ok(ExitCode::SUCCESS);
    }
    if tables.is_empty() {
        println!("the publications have no tables: ALTER PUBLICATION … ADD TABLE …");
    }
    for table in &tables {
        println!("{}", in_words(table));
    }
    Ok(ExitCode::SUCCESS)
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
    let key = match table.key.is_empty() {
        true => "none".to_owned(),
        false => table.key_names().join(", "),
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
