//! The stream's descriptions of tables, completed from the catalogs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::history::Version;
use super::{Tables, lock};
use crate::event::{Relation, StreamRelation, TableName};
use crate::lsn::{Epoch, Lsn};
use crate::postgres::{self, Described, Error, Moment};

/// The reason why a table that the stream describes cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// The database does not answer.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// The file of names cannot be written.
    #[error("cannot write tables.jsonl or columns.jsonl in the data directory")]
    Names(#[from] std::io::Error),
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
        let catalog = lock(&self.described);
        let moment = self.moment(snapshot);
        moment.is_some_and(|moment| catalog.is_answered(oid, moment))
    }

    /// Asks for tables that the stream will describe, all at once, after that snapshot. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn look_ahead(&self, oids: &[u32], snapshot: u64) -> Result<(), Error> {
        match self.moment(snapshot) {
            Some(moment) => lock(&self.described).look_ahead(oids, moment),
            None => Ok(()),
        }
    }

    /// The number of questions that ingest has asked of the database since this was called last.
    pub fn take_questions(&self) -> u64 {
        lock(&self.described).take_questions()
    }

    /// Has the versions of tables that were described survive a crash: to be called before rows of theirs are written.
    /// Blocking.
    ///
    /// # Errors
    /// The file cannot be synced.
    pub fn sync_versions(&self) -> std::io::Result<()> {
        lock(&self.history).sync()
    }

    /// Completes what the stream says of a table after the journal's `head`, in a transaction that commits at `commit`
    /// and that the snapshot of that number shows, and remembers it. Blocking.
    ///
    /// # Errors
    /// The database does not answer, or the table's name cannot be kept.
    pub fn describe(
        &self,
        stream: &StreamRelation,
        epoch: &Epoch,
        head: Lsn,
        (commit, snapshot): (Lsn, u64),
    ) -> Result<Arc<Relation>, DescribeError> {
        let former = lock(&self.names).note(epoch, &stream.table, stream.oid, head)?;
        lock(&self.history).enter(epoch)?;
        self.complete(stream, former.as_ref(), (commit, snapshot))
    }

    /// The position from which on it can be told which columns a table's rows have of which it could not be told
    /// before.
    pub fn settles_at(&self, relation: &Relation) -> Lsn {
        lock(&self.described).settled(relation).0
    }

    /// Completes once more what the stream says of a table: a type of its columns has changed. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn describe_again(
        &self,
        stream: &StreamRelation,
        (commit, snapshot): (Lsn, u64),
    ) -> Result<Arc<Relation>, DescribeError> {
        self.complete(stream, None, (commit, snapshot))
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
    ) -> Result<Arc<Relation>, DescribeError> {
        let moment = self.moment(snapshot);
        lock(&self.described).renew_partitions(stream.oid, moment);
        self.complete(stream, None, (commit, snapshot))
    }

    fn complete(
        &self,
        stream: &StreamRelation,
        former: Option<&TableName>,
        (commit, snapshot): (Lsn, u64),
    ) -> Result<Arc<Relation>, DescribeError> {
        let mut catalog = lock(&self.described);
        let described = catalog.describe_at(stream, commit, self.moment(snapshot))?;
        let as_root = matches!(described, Described::AsRoot(_));
        let relation = Arc::new(described.into_relation());
        // Whoever subscribes now is told of the columns that the table has now.
        let (seen, settled) = match relation.is_uncertain() {
            true => {
                let (seen, settled) = catalog.settled(&relation);
                (seen, Arc::new(settled))
            }
            false => (commit, Arc::clone(&relation)),
        };
        drop(catalog);
        if let Some(highest) = settled.highest_attnum().filter(|_| !as_root) {
            let relation = Arc::clone(&settled);
            let version = Version {
                seen,
                highest,
                relation,
            };
            lock(&self.history).note(vec![version])?;
        }
        lock(&self.renames).describe(relation.oid, &relation.table);
        if !as_root {
            self.remember(&settled, former);
        }
        Ok(relation)
    }
}
