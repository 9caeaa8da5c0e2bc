//! The stream's descriptions of tables, completed from the catalogs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Tables;
use crate::event::{Column, Relation, StreamRelation, TableName};
use crate::log::{TableRecord, TableVersion};
use crate::lsn::Lsn;
use crate::postgres::{Described, Error, Moment};
use crate::telemetry::traces::Span;

/// The outcome of a description, before it is published.
#[derive(Debug)]
pub struct Learnt {
    /// The records to be noted in the log before the table's rows.
    pub records: Vec<TableRecord>,
    /// The relation by which the table's rows are read.
    relation: Arc<Relation>,
    /// The table for new subscriptions; `None` if it is published as its root.
    told: Option<Arc<Relation>>,
    /// The table's former name in the stream, if it has changed.
    former: Option<TableName>,
    /// Labels or attributes mean something else than in the last version that was known.
    is_news: bool,
}

impl Tables {
    /// The moment of the questions after the snapshot of that number; `None` if none was taken.
    fn moment(&self, snapshot: u64) -> Option<Moment> {
        (snapshot > 0).then(|| Moment {
            snapshot,
            refreshed: self.refreshed.load(Ordering::Acquire),
        })
    }

    /// True if a table was asked for since that snapshot, and no check of all tables came in between.
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

    /// Completes the stream's description of a table after the journal's `head`, in a transaction that commits at
    /// `commit` and is visible in the snapshot of that number. Blocking.
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

    /// The position from which on the columns of an uncertain table are certain.
    pub fn settles_at(&self, relation: &Relation) -> Lsn {
        self.described.lock().settled(relation).0
    }

    /// Completes the stream's description of a table again, since a type of its columns has changed. Blocking.
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

    /// Completes the stream's description of a partitioned table again, since its partitions have just changed.
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
        let span = Span::here("catalog describe");
        span.say("db.collection.name", &stream.table);
        let mut catalog = self.described.lock();
        let described = catalog.describe_at(stream, commit, self.moment(snapshot))?;
        let as_root = matches!(described, Described::AsRoot(_));
        let relation = Arc::new(described.into_relation());
        let noted = self.noted.borrow().newest_version(relation.oid).cloned();
        let is_other = is_retyped(noted.as_deref(), &relation);
        let is_news = is_other && is_retyped(self.newest_version(relation.oid).as_deref(), &relation);
        // New subscriptions are told the columns that the table has now.
        let (seen, settled) = if relation.is_uncertain() {
            let (seen, settled) = catalog.settled(&relation);
            (seen, Arc::new(settled))
        } else if is_other {
            // The labels and attributes are those of now, whenever the rows were written.
            (catalog.seen()?, Arc::clone(&relation))
        } else {
            (commit, Arc::clone(&relation))
        };
        drop(catalog);
        // After a change of its policies or privileges, the stream describes a table again before its next row.
        self.secured.look(&self.described)?;
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
            is_news,
        })
    }

    /// Publishes what was learnt of a table, once its records are in the log. Returns the relation by which the table's
    /// rows are read.
    pub fn remember(&self, learnt: Learnt) -> Arc<Relation> {
        let Learnt {
            relation,
            told,
            former,
            is_news,
            ..
        } = learnt;
        self.renames.lock().describe(relation.oid, &relation.table);
        if let Some(told) = &told {
            if is_news {
                // Subscribers who had the table's last rows before, from a log that was cut since, get no row that would
                // tell them.
                self.tell_changed(told);
            }
            let missed = self.current.write().describe(told, former.as_ref());
            self.missed.lock().extend(missed);
        }
        relation
    }
}

/// True if labels or attributes of a column mean something else than in the version before.
fn is_retyped(before: Option<&Relation>, now: &Relation) -> bool {
    let is_other = |before: &Column| {
        let now = now.column(&before.name).map(|(_, now)| now);
        now.is_some_and(|now| {
            now.attnum == before.attnum && before.ty.kind.altered_in(&now.ty.kind).is_some()
        })
    };
    before.is_some_and(|before| before.columns.iter().any(is_other))
}
