//! [`Tables`]: the tables as one connection described them, and what was learned of each.

use std::collections::HashMap;
use std::sync::Arc;

use super::Error;
use crate::event::{Relation, StreamRelation, Tuple};

/// The tables that rows may belong to.
#[derive(Debug, Default)]
pub(super) struct Tables {
    known: Described,
    /// While a streamed transaction is read: the tables as everything else knows them.
    others: Option<Described>,
    /// How many descriptions have come.
    arrivals: u64,
}

/// By OID.
type Described = HashMap<u32, Table>;

#[derive(Debug)]
struct Table {
    by_stream: StreamRelation,
    learned: Option<Arc<Relation>>,
    /// Its number among all the connection's descriptions.
    arrival: u64,
}

impl Tables {
    /// The next description's number.
    pub(super) fn arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Takes a description. What was learned of the table before is forgotten: it was learned of another version.
    pub(super) fn describe(&mut self, relation: StreamRelation, arrival: u64) {
        let oid = relation.oid;
        let table = Table {
            by_stream: relation,
            learned: None,
            arrival,
        };
        self.known.insert(oid, table);
    }

    /// Learns what the catalog says of a table.
    ///
    /// # Errors
    /// It is not what the stream described.
    pub(super) fn learn(&mut self, relation: Arc<Relation>) -> Result<(), Error> {
        match self.known.get_mut(&relation.oid) {
            Some(table) if agree(&table.by_stream, &relation) => {
                table.learned = Some(relation);
                Ok(())
            }
            _ => Err(Error::Mislearned {
                oid: relation.oid,
                table: relation.table.clone(),
            }),
        }
    }

    /// How the stream described a table last.
    pub(super) fn described(&self, oid: u32) -> Option<&StreamRelation> {
        self.known.get(&oid).map(|table| &table.by_stream)
    }

    /// Sets all tables aside: a streamed transaction knows only those that are described in it.
    pub(super) fn enter_stream(&mut self) {
        self.others = Some(std::mem::take(&mut self.known));
    }

    /// Takes them back, but for those that were described later in the streamed transaction.
    pub(super) fn leave_stream(&mut self) {
        let Some(others) = self.others.take() else { return };
        let streamed = std::mem::replace(&mut self.known, others);
        for (oid, table) in streamed {
            let known = self.known.get(&oid);
            if known.is_none_or(|known| known.arrival < table.arrival) {
                self.known.insert(oid, table);
            }
        }
    }

    /// What was learned of a table. `message` is the kind of message that names it.
    pub(super) fn learned(&self, message: &'static str, oid: u32) -> Result<&Arc<Relation>, Error> {
        let table = self.known.get(&oid).ok_or(Error::Undescribed { message, oid })?;
        table.learned.as_ref().ok_or_else(|| Error::NotLearned {
            message,
            table: table.by_stream.table.clone(),
        })
    }
}

/// Whether the row has as many columns as its table.
pub(super) fn check_columns(relation: &Relation, tuple: Tuple<'_>) -> Result<(), Error> {
    if tuple.len() == relation.columns.len() {
        return Ok(());
    }
    Err(Error::Columns {
        table: relation.table.clone(),
        expected: relation.columns.len(),
        found: tuple.len(),
    })
}

/// Whether a relation has all that the stream said of it. (Which columns are flagged is left to the catalog: under
/// `REPLICA IDENTITY FULL` the stream flags them all.)
fn agree(stream: &StreamRelation, relation: &Relation) -> bool {
    stream.oid == relation.oid
        && stream.table == relation.table
        && stream.replica_identity == relation.replica_identity
        && stream.columns.len() == relation.columns.len()
        && stream
            .columns
            .iter()
            .zip(&relation.columns)
            .all(|(s, c)| (&s.name, s.type_oid, s.typmod) == (&c.name, c.ty.oid, c.typmod))
}
