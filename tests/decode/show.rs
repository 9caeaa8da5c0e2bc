//! The meaning of messages, as text.

use std::fmt::Write as _;

use walcast::decode::Message;
use walcast::event::{OldTuple, Op, RowChange, Tuple, Value};
use walcast::lsn::Lsn;

use crate::capture::{Outcome, Sent, replay};

/// The meaning of messages, in a form that is the same for every run: without OIDs, positions and transaction IDs, and
/// without empty transactions, which only servers before version 15 send.
pub(crate) fn events(sent: &[Sent]) -> String {
    let mut text = String::new();
    let mut committed = 0;
    let outcome = replay(sent, Lsn::ZERO, |message, outcome| {
        match (outcome, message) {
            (
                Outcome::Change(RowChange {
                    seq, relation, op, ..
                }),
                _,
            ) => {
                if let (
                    Message::Truncate {
                        cascade,
                        restart_identity,
                        ..
                    },
                    Op::Truncate,
                ) = (message, op)
                {
                    let options = format!("cascade {cascade}, restart identity {restart_identity}");
                    writeln!(text, "{seq} truncate {} ({options})", relation.table).unwrap();
                } else {
                    writeln!(text, "{seq} {} {}", relation.table, show_op(&op)).unwrap();
                }
            }
            (Outcome::Commit(..), _) if text.len() == committed => {}
            (Outcome::Commit(_, changes), _) => {
                writeln!(text, "commit of {changes}").unwrap();
                committed = text.len();
            }
            (Outcome::Other, message) => text.push_str(&show_message(message)),
        };
    });
    outcome.unwrap();
    text
}

fn show_message(message: &Message<'_>) -> String {
    match message {
        Message::Relation(relation) => {
            let columns = relation.columns.iter().map(|column| {
                let ty = Some(column.type_oid).filter(|oid| *oid < 16384);
                let ty = ty.map_or("own type".into(), |oid| format!("type {oid}"));
                let key = if column.identity { " key" } else { "" };
                format!("{} {ty} mod {}{key}", column.name, column.typmod)
            });
            let columns = columns.collect::<Vec<_>>().join(", ");
            format!(
                "relation {} {:?} ({columns})\n",
                relation.table, relation.replica_identity
            )
        }
        Message::Type { schema, name, .. } => format!("type {schema}.{name}\n"),
        Message::Origin { commit, name } => format!("origin {name} {commit}\n"),
        Message::Logical {
            transactional,
            prefix,
            content,
            ..
        } => {
            format!(
                "message {transactional} {prefix:?} {:?}\n",
                String::from_utf8_lossy(content)
            )
        }
        _ => String::new(),
    }
}

fn show_op(op: &Op<'_>) -> String {
    let old = |old: &OldTuple<'_>| match old {
        OldTuple::Key(tuple) => format!("key {}", show(*tuple)),
        OldTuple::Full(tuple) => format!("full {}", show(*tuple)),
    };
    match op {
        Op::Insert { new } => format!("insert {}", show(*new)),
        Op::Update { old: None, new } => format!("update to {}", show(*new)),
        Op::Update { old: Some(o), new } => format!("update of {} to {}", old(o), show(*new)),
        Op::Delete { old: o } => format!("delete {}", old(o)),
        Op::Truncate => "truncate".into(),
    }
}

fn show(tuple: Tuple<'_>) -> String {
    let values = tuple.values().map(|value| match value {
        Value::Null => "null".to_owned(),
        Value::Unchanged => "unchanged".to_owned(),
        Value::Text(text) => match std::str::from_utf8(text).unwrap() {
            long if long.len() > 100 => format!("{:?}... {} bytes", &long[..10], long.len()),
            text => format!("{text:?}"),
        },
    });
    format!("({})", values.collect::<Vec<_>>().join(", "))
}
