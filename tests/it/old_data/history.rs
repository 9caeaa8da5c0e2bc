//! A journal's history as text.

use std::fmt::Write as _;
use std::path::Path;

use walcast::event::{OldTuple, Op, Relation, Transaction, Tuple, Value};
use walcast::journal::{Journal, Options};
use walcast::log::{Entry, Identity, Log, LogReader, Piece};
use walcast::lsn::{Position, Start};

fn values(tuple: &Tuple<'_>) -> String {
    let value = |value| match value {
        Value::Null => "null".to_owned(),
        Value::Unchanged => "unchanged".to_owned(),
        Value::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
    };
    tuple.values().map(value).collect::<Vec<_>>().join(" ")
}

fn op(op: &Op<'_>) -> String {
    let old = |old: &OldTuple<'_>| match old {
        OldTuple::Key(key) => format!("key {}", values(key)),
        OldTuple::Full(full) => format!("full {}", values(full)),
    };
    match op {
        Op::Insert { new } => format!("insert {}", values(new)),
        Op::Update { old: None, new } => format!("update to {}", values(new)),
        Op::Update { old: Some(was), new } => format!("update {} to {}", old(was), values(new)),
        Op::Delete { old: was } => format!("delete {}", old(was)),
        Op::Truncate => "truncate".to_owned(),
    }
}

/// The piece in words: of many changes the first and the last, and a checksum of all.
fn describe(piece: Piece<'_>, out: &mut String) {
    let Transaction {
        xid,
        commit,
        end,
        committed_at,
    } = piece.transaction;
    let first = piece.first_seq;
    let count = piece.count;
    let last = piece.last;
    writeln!(
        out,
        "{end} commit {commit} xid {xid} at {} from {first}, {count} changes, last {last}",
        committed_at.0
    )
    .unwrap();
    let changes: Vec<String> = piece
        .changes
        .map(|change| {
            let change = change.unwrap();
            let Relation {
                table, oid, columns, ..
            } = &**change.relation;
            let columns: Vec<_> = columns
                .iter()
                .map(|column| format!("{}:{}", column.name, column.ty.name))
                .collect();
            format!(
                "{} {table} {oid} ({}) {}",
                change.seq,
                columns.join(" "),
                op(&change.op)
            )
        })
        .collect();
    let text = changes.join("\n");
    match &changes[..] {
        [first, .., last] if changes.len() > 9 => {
            writeln!(
                out,
                "  {first}\n  ...\n  {last}\n  checksum {:08x}",
                crc32c::crc32c(text.as_bytes())
            )
            .unwrap();
        }
        all => all.iter().for_each(|change| writeln!(out, "  {change}").unwrap()),
    }
}

/// Everything from there on, and where the reader is in the end.
pub fn read(journal: &Journal, start: Start) -> (String, Position) {
    let mut reader = journal.reader(start).unwrap();
    let mut out = String::new();
    while let Some(batch) = reader.next_blocking(64 * 1024).unwrap() {
        for entry in batch.entries() {
            match entry.unwrap() {
                Entry::Position(lsn) => writeln!(out, "{lsn}").unwrap(),
                Entry::Piece(piece) => describe(piece, &mut out),
            }
        }
    }
    (out, reader.position())
}

/// That of a data directory.
pub fn of(directory: &Path, identity: &Identity) -> String {
    let (_writer, journal) = Journal::open(directory, Options::default(), identity).unwrap();
    read(&journal, Start::Earliest).0
}
