//! Capturing what a server sends, and putting it together.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use walcast::cluster::Cluster;
use walcast::decode::{Assembler, Message, Step, assemble};
use walcast::event::{Collation, Column, Relation, RowChange, StreamColumn, StreamRelation, Transaction};
use walcast::lsn::Lsn;
use walcast::types::{Kind, Type};

/// A message as the server gave it: where, of which transaction, and its bytes.
pub(crate) struct Sent {
    pub(crate) at: Lsn,
    pub(crate) xid: u32,
    pub(crate) body: Vec<u8>,
}

/// Runs a workload in a database of its own and returns what a slot that was there before gives for it.
pub(crate) fn perform(cluster: &Cluster, name: &str) -> String {
    let slot = format!("slot_{name}");
    cluster.psql(&format!("CREATE DATABASE {name}"));
    let psql = |sql: &str| {
        cluster
            .try_psql(name, sql)
            .unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    psql(&format!(
        "SELECT 1 FROM pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    psql(&read(name, "sql"));
    let messages = psql(&format!(
        "SET TimeZone = 'UTC'; SELECT lsn || ' ' || xid || ' ' || encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('{slot}', \
         NULL, NULL, 'proto_version', '1', 'publication_names', 'p', 'messages', 'true')"
    ));
    format!("{messages}\n")
}

pub(crate) fn path(name: &str, extension: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join(format!("tests/data/pgoutput/{name}.{extension}"))
}

pub(crate) fn read(name: &str, extension: &str) -> String {
    let path = path(name, extension);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn captured(name: &str) -> Vec<Sent> {
    parse(&read(name, "messages"))
}

pub(crate) fn parse(messages: &str) -> Vec<Sent> {
    let message = |line: &str| {
        let [at, xid, hex] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        Sent {
            at: at.parse().unwrap(),
            xid: xid.parse().unwrap(),
            body: hex.as_bytes().chunks(2).map(byte).collect(),
        }
    };
    messages.lines().map(message).collect()
}

/// The outcome of a message.
pub(crate) enum Outcome<'a> {
    Change(RowChange<'a>),
    Commit(Transaction, u32),
    Other,
}

/// Parses and assembles messages as one connection's, learning each relation from the stream alone.
pub(crate) fn replay(
    sent: &[Sent],
    head: Lsn,
    mut heard: impl FnMut(&Message<'_>, Outcome<'_>),
) -> Result<(), assemble::Error> {
    let mut assembler = Assembler::new(head);
    for Sent { body, .. } in sent {
        let message = Message::parse(body).unwrap();
        match assembler.push(message.clone())? {
            Step::Nothing | Step::Skipped(_) => heard(&message, Outcome::Other),
            Step::Relation(described) => {
                assembler.learn_relation(Arc::new(relation(&described)))?;
                heard(&message, Outcome::Other);
            }
            Step::Alone { .. } => unreachable!("no prefix is asked for"),
            Step::Changes(changes) => changes.for_each(|change| heard(&message, Outcome::Change(change))),
            Step::Commit { transaction, changes } => heard(&message, Outcome::Commit(transaction, changes)),
        }
    }
    Ok(())
}

pub(crate) fn transactions(sent: &[Sent], head: Lsn) -> Vec<Transaction> {
    let mut all = Vec::new();
    let outcome = replay(sent, head, |_, outcome| {
        if let Outcome::Commit(transaction, _) = outcome {
            all.push(transaction);
        }
    });
    outcome.unwrap();
    all
}

fn relation(described: &StreamRelation) -> Relation {
    let column = |column: &StreamColumn| Column {
        name: column.name.clone(),
        ty: Type {
            oid: column.type_oid,
            name: String::new(),
            kind: Kind::of_builtin(column.type_oid).unwrap_or(Kind::Other),
        },
        typmod: column.typmod,
        identity: column.identity,
        collation: Collation::None,
        ctype: Default::default(),
        attnum: Default::default(),
    };
    Relation {
        oid: described.oid,
        table: described.table.clone(),
        replica_identity: described.replica_identity,
        columns: described.columns.iter().map(column).collect(),
        key: Vec::new(),
        logging: Default::default(),
    }
}
