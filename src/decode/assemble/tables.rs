//! [`Tables`]: the tables as one connection described them, and what was learned of each.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::Error;
use super::partitions::{Partitions, weakest};
use crate::event::{Relation, StreamRelation, Tuple};

/// The tables that rows may belong to.
#[derive(Debug, Default)]
pub(super) struct Tables {
    known: Described,
    /// While a streamed transaction is read: the tables as everything else knows them.
    others: Option<Described>,
    /// The number of descriptions that have come.
    arrivals: u64,
    /// The table that was described last, if nothing came since: the next description may be that of its partition.
    last: Option<u32>,
}

/// By OID.
type Described = HashMap<u32, Table>;

#[derive(Debug)]
struct Table {
    by_stream: StreamRelation,
    learned: Option<Arc<Relation>>,
    /// Its number among all the connection's descriptions.
    arrival: u64,
    /// The table that was described just before it, until a change names it: its root.
    root: Option<u32>,
    /// The partitions that its rows are of.
    partitions: Vec<u32>,
    /// True if its identity is another than when it was described before.
    altered: bool,
    /// The reading of its rows, once it was found for the descriptions so far.
    reading: Option<Reading>,
}

/// The reading of a table's rows.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) relation: Arc<Relation>,
    pub(super) partitions: Partitions,
}

impl Tables {
    /// The next description's number.
    pub(super) fn arrival(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Has the next description be taken for that of a partition of `root`.
    pub(super) fn expect_partition_of(&mut self, root: u32) {
        self.last = Some(root);
    }

    /// Takes a description. What was learned of the table before is forgotten: it was learned of another version.
    pub(super) fn describe(&mut self, relation: StreamRelation, arrival: u64) {
        let oid = relation.oid;
        let root = self.last.replace(oid).filter(|root| *root != oid);
        let before = self.known.remove(&oid);
        if let Some(former) = before.as_ref().and_then(|before| before.root) {
            self.part(former, oid);
        }
        if let Some(root) = root.and_then(|root| self.known.get_mut(&root)) {
            root.partitions.push(oid);
            root.reading = None;
        }
        let altered = before.as_ref().is_some_and(|before| {
            let flags = |relation: &StreamRelation| -> Vec<bool> {
                relation.columns.iter().map(|c| c.identity).collect()
            };
            before.by_stream.replica_identity != relation.replica_identity
                || flags(&before.by_stream) != flags(&relation)
        });
        let table = Table {
            altered,
            by_stream: relation,
            learned: None,
            arrival,
            root,
            partitions: before.map_or_else(Vec::new, |before| before.partitions),
            reading: None,
        };
        self.known.insert(oid, table);
    }

    /// The root of a partition that was described just now, if what was learned of it cannot be right any more: to be
    /// learned of again.
    pub(super) fn outdated_root(&self, partition: u32) -> Option<&StreamRelation> {
        let partition = self.known.get(&partition)?;
        let root = self.known.get(&partition.root?)?;
        let learned = root
            .learned
            .as_ref()
            .filter(|learned| learned.logging.partitioned)?;
        let is_weaker = || {
            let weaker = weakest(learned, std::iter::once(&partition.by_stream));
            !Arc::ptr_eq(&weaker, learned)
        };
        (partition.altered || is_weaker()).then_some(&root.by_stream)
    }

    /// Takes a partition from a root.
    fn part(&mut self, root: u32, partition: u32) {
        if let Some(root) = self.known.get_mut(&root) {
            root.partitions.retain(|known| *known != partition);
            root.reading = None;
        }
    }

    /// A change names a table: it is no partition whose rows come as its root's.
    pub(super) fn named(&mut self, oid: u32) {
        self.last = None;
        let root = self.known.get_mut(&oid).and_then(|table| table.root.take());
        if let Some(root) = root {
            self.part(root, oid);
        }
    }

    /// Learns what the catalog says of a table.
    ///
    /// # Errors
    /// It is not what the stream described.
    pub(super) fn learn_relation(&mut self, relation: Arc<Relation>) -> Result<(), Error> {
        match self.known.get_mut(&relation.oid) {
            Some(table) if agree(&table.by_stream, &relation) => {
                table.learned = Some(relation);
                table.reading = None;
                Ok(())
            }
            _ => Err(Error::Mislearned {
                oid: relation.oid,
                table: relation.table.clone(),
            }),
        }
    }

    /// The way in which the stream described a table last.
    pub(super) fn described(&self, oid: u32) -> Option<&StreamRelation> {
        self.known.get(&oid).map(|table| &table.by_stream)
    }

    /// Sets all tables aside: a streamed transaction knows only those that are described in it.
    pub(super) fn enter_stream(&mut self) {
        self.others = Some(std::mem::take(&mut self.known));
        self.last = None;
    }

    /// Takes them back, but for those that were described later in the streamed transaction.
    pub(super) fn leave_stream(&mut self) {
        let Some(others) = self.others.take() else { return };
        let streamed = std::mem::replace(&mut self.known, others);
        self.last = None;
        for (oid, mut table) in streamed {
            if let Some(known) = self.known.get_mut(&oid) {
                table.partitions.extend_from_slice(&known.partitions);
                table.partitions.sort_unstable();
                table.partitions.dedup();
                if known.arrival >= table.arrival {
                    known.partitions = table.partitions;
                    known.reading = None;
                    continue;
                }
                table.reading = None;
            }
            self.known.insert(oid, table);
        }
    }

    /// The relation that was learned of a table. `message` is the kind of message that names it.
    pub(super) fn learned(&self, message: &'static str, oid: u32) -> Result<&Arc<Relation>, Error> {
        let table = self.known.get(&oid).ok_or(Error::Undescribed { message, oid })?;
        let learned = table.learned.as_ref().ok_or_else(|| Error::NotLearned {
            message,
            table: table.by_stream.table.clone(),
        })?;
        Ok(table
            .reading
            .as_ref()
            .map_or(learned, |reading| &reading.relation))
    }

    /// The reading of a table's rows. `message` is the kind of message that names it.
    #[inline]
    pub(super) fn reading(&mut self, message: &'static str, oid: u32) -> Result<&Reading, Error> {
        self.last = None;
        let known = self.known.get(&oid);
        if known.is_none_or(|table| table.root.is_some() || table.reading.is_none()) {
            self.named(oid);
            self.read(message, oid)?;
        }
        let reading = self.known.get(&oid).and_then(|table| table.reading.as_ref());
        reading.ok_or(Error::Undescribed { message, oid })
    }

    /// Finds out what the rows of a table are read by.
    fn read(&mut self, message: &'static str, oid: u32) -> Result<(), Error> {
        let learned = Arc::clone(self.learned(message, oid)?);
        let table = self.known.get(&oid);
        let partitions = table.map_or(&[][..], |table| &table.partitions);
        let partitions = partitions
            .iter()
            .filter_map(|partition| self.known.get(partition));
        let partitions = partitions.map(|partition| &partition.by_stream);
        let reading = Reading {
            partitions: Partitions::of(&learned, partitions.clone()),
            relation: weakest(&learned, partitions),
        };
        if let Some(table) = self.known.get_mut(&oid) {
            table.reading = Some(reading);
        }
        Ok(())
    }
}

/// True if the row has as many columns as its table.
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

/// True if a relation has all that the stream said of it. (What old rows hold is left to the catalog: under
/// `REPLICA IDENTITY FULL` the stream flags all columns, and a root's identity says nothing of its partitions'.)
fn agree(stream: &StreamRelation, relation: &Relation) -> bool {
    stream.oid == relation.oid
        && stream.table == relation.table
        && (stream.replica_identity == relation.replica_identity || relation.logging.partitioned)
        && stream.columns.len() == relation.columns.len()
        && stream
            .columns
            .iter()
            .zip(&relation.columns)
            .all(|(s, c)| (&s.name, s.type_oid, s.typmod) == (&c.name, c.ty.oid, c.typmod))
}
