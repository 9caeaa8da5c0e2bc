//! The stream's descriptions of tables, completed from the catalogs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Tables;
use crate::event::{Relation, StreamRelation, TableName};
use crate::log::{TableRecord, TableVersion};
use crate::lsn::Lsn;
use crate::postgres::{Described, Error, Moment};

/// The outcome of a description, before anybody knows of it.
#[derive(Debug)]
pub struct Learnt {
    /// The records that are to be noted in the log before the table's rows.
    pub records: Vec<TableRecord>,
    /// The relation that the table's rows are to be read by.
    relation: Arc<Relation>,
    /// The table as those are told of it who subscribe now; `None` if it is published as its root.
    told: Option<Arc<Relation>>,
    /// The name that the stream had for the table before, if that was another.
    former: Option<TableName>,
}

impl Tables {
    /// The moment of the questions that follow a snapshot of that number; `None` if none was taken.
    fn moment(&self, snapshot: u64) -> Option<Moment> {
        (snapshot > 0).then(|| Moment {
            snapshot,
            refreshed: self.refreshed.load(Ordering::Acquire),
        })
    }

    /// Says whether a table was asked for since that snapshot, and nobody has looked for changes of tables in between.
    pub fn is_answered(&self, oid: u32, snapshot: u64) -> bool {
        let catalog = self.described.lock();
        let moment = self.moment(snapshot);
        moment.is_some_and(|moment| catalog.is_answered(oid, moment))
    }

    /// Asks for tables that the stream will describe, all at once, after that snapshot. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn look_ahead(&self, oids: &[u32], snapshot: u64) -> Result<(), Error> {
        match self.moment(snapshot) {
            Some(moment) => self.described.lock().look_ahead(oids, moment),
            None => Ok(()),
        }
    }

    /// The number of questions that ingest has asked of the database since this was called last.
    pub fn take_questions(&self) -> u64 {
        self.described.lock().take_questions()
    }

    /// Completes what the stream says of a table after the journal's `head`, in a transaction that commits at `commit`
    /// and that the snapshot of that number shows. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn describe(
        &self,
        stream: &StreamRelation,
        head: Lsn,
        (commit, snapshot): (Lsn, u64),
    ) -> Result<Learnt, Error> {
        let mut learnt = self.complete(stream, (commit, snapshot))?;
        let noted = self.noted.borrow();
        if let Some(record) = noted.showing(&stream.table, stream.oid, head) {
            let former = noted.name(stream.oid).filter(|name| **name != stream.table);
            learnt.former = former.cloned();
            learnt.records.insert(0, record);
        }
        Ok(learnt)
    }

    /// The position from which on it can be told which columns a table's rows have of which it could not be told
    /// before.
    pub fn settles_at(&self, relation: &Relation) -> Lsn {
        self.described.lock().settled(relation).0
    }

    /// Completes once more what the stream says of a table: a type of its columns has changed. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn describe_again(
        &self,
        stream: &StreamRelation,
        (commit, snapshot): (Lsn, u64),
    ) -> Result<Learnt, Error> {
        self.complete(stream, (commit, snapshot))
    }

    /// Completes once more what the stream says of a partitioned table, whose partitions have changed just now.
    /// Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn describe_root(
        &self,
        stream: &StreamRelation,
        (commit, snapshot): (Lsn, u64),
    ) -> Result<Learnt, Error> {
        let moment = self.moment(snapshot);
        self.described.lock().renew_partitions(stream.oid, moment);
        self.complete(stream, (commit, snapshot))
    }

    fn complete(&self, stream: &StreamRelation, (commit, snapshot): (Lsn, u64)) -> Result<Learnt, Error> {
        let mut catalog = self.described.lock();
        let described = catalog.describe_at(stream, commit, self.moment(snapshot))?;
        let as_root = matches!(described, Described::AsRoot(_));
        let relation = Arc::new(described.into_relation());
        // Whoever subscribes now is told of the columns that the table has now.
        let (seen, settled) = if relation.is_uncertain() {
            let (seen, settled) = catalog.settled(&relation);
            (seen, Arc::new(settled))
        } else {
            (commit, Arc::clone(&relation))
        };
        drop(catalog);
        let told = (!as_root).then_some(settled);
        let version = told.as_ref().and_then(|told| {
            let version = TableVersion {
                seen,
                highest: told.highest_attnum()?,
                relation: Arc::clone(told),
            };
            self.noted.borrow().news(&version).is_new.then_some(version)
        });
        Ok(Learnt {
            records: version.into_iter().map(TableRecord::from).collect(),
            relation,
            told,
            former: None,
        })
    }

    /// Takes what was learnt of a table, once its records are in the log: from here on those who subscribe know of it.
    /// Returns the relation that the table's rows are to be read by.
    pub fn remember(&self, learnt: Learnt) -> Arc<Relation> {
        let Learnt {
            relation,
            told,
            former,
            ..
        } = learnt;
        self.renames.lock().describe(relation.oid, &relation.table);
        if let Some(told) = &told {
            let missed = self.current.write().describe(told, former.as_ref());
            self.missed.lock().extend(missed);
        }
        relation
    }
}
