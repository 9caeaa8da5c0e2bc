//! [`Translator`]: from wal2json's messages, format version 2, to those that pgoutput would have sent.
//!
//! wal2json describes no table and knows no publication: each row names its columns and their types, and that is all.
//! The rest is asked of the catalogs, once for each transaction that is newer than the last answer. The one thing to
//! know: what a row says of itself goes before what the catalogs say now, because a row may be older than they are.

mod error;
mod record;
mod shape;
mod versions;

use std::collections::HashMap;

pub use self::error::Error;
pub use self::record::Record;
use self::record::{Action, Field};
use self::versions::{Described, Known};
use crate::event::{Lookup, ReplicaIdentity, StreamRelation, TableName};
use crate::lsn::Lsn;

/// A message in pgoutput's terms.
#[derive(Debug)]
#[must_use = "a message that is not taken is a change that is lost"]
pub enum Translated<'a> {
    /// The catalogs have to be asked for this table first: answer by [`Translator::learn_table`], then translate the message
    /// again.
    Unknown(TableName),
    /// These messages of pgoutput's, to be read by [`super::Message::parse`].
    Messages(Messages<'a>),
}

/// Messages in pgoutput's protocol version 1: none, one, or the description of a table and one.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'a> {
    relation: &'a [u8],
    message: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages, in order.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        [self.relation, self.message]
            .into_iter()
            .filter(|message| !message.is_empty())
    }
}

/// Translates the messages of one connection.
#[derive(Debug, Default)]
pub struct Translator {
    /// By schema, then by name.
    tables: HashMap<String, HashMap<String, Known>>,
    /// The relations as they were described last, by OID.
    described: HashMap<u32, Described>,
    /// The position at which the open transaction commits.
    commit: Lsn,
    relation: Vec<u8>,
    message: Vec<u8>,
}

impl Translator {
    /// A translator for a new connection.
    pub fn new() -> Translator {
        Translator::default()
    }

    /// Translates the connection's next message.
    pub fn translate(&mut self, record: &Record<'_>) -> Result<Translated<'_>, Error> {
        self.relation.clear();
        self.message.clear();
        let unknown = match &*record.action.0 {
            "B" => self.begin(record).map(|()| None),
            "C" => self.end(record).map(|()| None),
            "I" => self.change(record, Action::Insert),
            "U" => self.change(record, Action::Update),
            "D" => self.change(record, Action::Delete),
            "T" => self.change(record, Action::Truncate),
            // Logical messages: `actions` asks for none, because wal2json cannot write all of them as JSON.
            "M" => Ok(None),
            other => Err(Error::Action(other.to_owned())),
        }?;
        Ok(match unknown {
            Some(table) => Translated::Unknown(table),
            None => Translated::Messages(Messages {
                relation: &self.relation,
                message: &self.message,
            }),
        })
    }

    /// Learns what the catalogs say of a table. `as_of` is a position that the server had written before they were
    /// asked: up to there the answer holds.
    ///
    /// A table that is gone is taken to be what it was known as. Returns false if it was not known: its rows are left
    /// out, as if it was not published.
    pub fn learn_table(&mut self, table: &TableName, as_of: Lsn, found: Lookup) -> bool {
        // The transaction that is asked for is written, whatever the position says: a standby's may lag behind.
        let as_of = as_of.max(Lsn(self.commit.0.saturating_add(1)));
        let by_name = self.tables.entry(table.schema.clone()).or_default();
        let known = by_name.entry(table.name.clone()).or_default();
        known.update(as_of, found, self.commit)
    }

    fn begin(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let (commit, _) = record.commit()?;
        let xid = record.xid.ok_or(Error::Missing("xid"))?;
        self.commit = commit;
        let out = &mut self.message;
        out.push(b'B');
        out.extend_from_slice(&commit.0.to_be_bytes());
        out.extend_from_slice(&record.committed_at()?.0.to_be_bytes());
        out.extend_from_slice(&xid.to_be_bytes());
        Ok(())
    }

    fn end(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let (commit, end) = record.commit()?;
        let out = &mut self.message;
        out.extend_from_slice(b"C\0");
        out.extend_from_slice(&commit.0.to_be_bytes());
        out.extend_from_slice(&end.0.to_be_bytes());
        out.extend_from_slice(&record.committed_at()?.0.to_be_bytes());
        Ok(())
    }

    /// A row or a truncate; returns the table if it has to be asked for.
    fn change(&mut self, record: &Record<'_>, action: Action) -> Result<Option<TableName>, Error> {
        let (schema, name) = record.table()?;
        let known = self.tables.get(schema).and_then(|tables| tables.get(name));
        let Some(known) = known.filter(|known| known.as_of() > self.commit) else {
            return Ok(Some(TableName::new(schema, name)));
        };
        let Some(published) = known.published() else {
            return Ok(None);
        };
        let listed = match action {
            Action::Insert => published.insert,
            Action::Update => published.update,
            // Without an identity nobody can say which row it was: pgoutput passes such a delete over too.
            Action::Delete => published.delete && !record.identity.is_empty(),
            // Of a partition that is published as its root, only the root's truncate is.
            Action::Truncate => published.truncate && !published.via_root,
        };
        if !listed {
            return Ok(None);
        }
        if published.row_filter {
            return Err(Error::RowFilter(TableName::new(schema, name)));
        }
        let oid = published.relation.oid;
        let last = self.described.get(&oid);
        if let Some(described) = known.describe(last, record, action, self.commit) {
            encode_relation(&described.relation, &mut self.relation)?;
            self.described.insert(oid, described);
        }
        if let Some(described) = self.described.get(&oid) {
            encode_change(&described.relation, record, action, &mut self.message)?;
        }
        Ok(None)
    }
}

fn encode_relation(relation: &StreamRelation, out: &mut Vec<u8>) -> Result<(), Error> {
    const PART_OF_THE_KEY: u8 = 1;
    out.push(b'R');
    out.extend_from_slice(&relation.oid.to_be_bytes());
    for name in [&relation.table.schema, &relation.table.name] {
        out.extend_from_slice(name.as_bytes());
        out.push(0);
    }
    out.push(match relation.replica_identity {
        ReplicaIdentity::Default => b'd',
        ReplicaIdentity::Nothing => b'n',
        ReplicaIdentity::Full => b'f',
        ReplicaIdentity::Index => b'i',
    });
    out.extend_from_slice(&column_count(relation)?.to_be_bytes());
    for column in &relation.columns {
        out.push(if column.identity { PART_OF_THE_KEY } else { 0 });
        out.extend_from_slice(column.name.as_bytes());
        out.push(0);
        out.extend_from_slice(&column.type_oid.to_be_bytes());
        out.extend_from_slice(&column.typmod.to_be_bytes());
    }
    Ok(())
}

fn encode_change(
    relation: &StreamRelation,
    record: &Record<'_>,
    action: Action,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let columns = &record.columns;
    let identity = &record.identity;
    let oid = relation.oid.to_be_bytes();
    let full = relation.replica_identity == ReplicaIdentity::Full;
    let kind_of_old = if full { b'O' } else { b'K' };
    match action {
        Action::Insert => {
            out.push(b'I');
            out.extend_from_slice(&oid);
            out.push(b'N');
            encode_row(relation, columns, b'u', out)?;
        }
        Action::Update => {
            out.push(b'U');
            out.extend_from_slice(&oid);
            // The identity of a row whose key did not change is the new row's; pgoutput sends none then.
            if !identity.is_empty() && (full || !shape::same_key(columns, identity)) {
                out.push(kind_of_old);
                encode_old(relation, identity, full, out)?;
            }
            out.push(b'N');
            encode_row(relation, columns, b'u', out)?;
        }
        Action::Delete => {
            out.push(b'D');
            out.extend_from_slice(&oid);
            out.push(kind_of_old);
            encode_old(relation, identity, full, out)?;
        }
        Action::Truncate => {
            out.push(b'T');
            out.extend_from_slice(&1_u32.to_be_bytes());
            out.push(0);
            out.extend_from_slice(&oid);
        }
    }
    Ok(())
}

/// Of an old row that is not whole, the columns outside the key are sent as null.
fn encode_old(
    relation: &StreamRelation,
    identity: &[Field<'_>],
    full: bool,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    encode_row(relation, identity, if full { b'u' } else { b'n' }, out)
}

/// A row as TupleData: the fields in the relation's order, and a tag for each that is not there.
fn encode_row(
    relation: &StreamRelation,
    fields: &[Field<'_>],
    absent: u8,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    out.extend_from_slice(&column_count(relation)?.to_be_bytes());
    let mut find = shape::Finder::new(fields);
    for column in &relation.columns {
        match find.by_name(&column.name) {
            Some(field) => field.encode(out)?,
            None => out.push(absent),
        }
    }
    Ok(())
}

fn column_count(relation: &StreamRelation) -> Result<u16, Error> {
    let count = relation.columns.len();
    u16::try_from(count).map_err(|_| Error::Columns(relation.table.clone(), count))
}

#[cfg(test)]
mod tests;
