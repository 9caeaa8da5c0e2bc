//! Descriptions of tables, which are completed from the catalogs, and noted in the log before their rows.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::incoming::Incoming;
use super::upcoming::Upcoming;
use super::visible::Visible;
use super::{Error, Ingest};
use crate::event::{Relation, StreamRelation};
use crate::log::{self, Log, LogWriter, TableRecord};
use crate::schema::Learnt;

/// The number of tables that one question asks for at most.
const MAX_ASKED: usize = 512;

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// Asks the catalogs for the rest of a table's description.
    pub(super) fn learn_relation(
        &mut self,
        incoming: &mut Incoming,
        described: &StreamRelation,
        upcoming: Upcoming<'_>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let Incoming {
            assembler,
            visible,
            unsettled,
            ..
        } = incoming;
        self.until_visible(visible, assembler.open_xid(), stop)?;
        let is_answered = |oid, visible: &Visible| self.tables.is_answered(oid, visible.renewed());
        if !is_answered(described.oid, visible) {
            // Tables that are described soon are asked for together with this one. The answers hold for them too,
            // unless their transactions are not visible yet: then they are asked for again.
            let mut oids = upcoming.described(MAX_ASKED, |oid| oid == described.oid);
            if !oids.is_empty() {
                oids.push(described.oid);
                visible.renew(&self.tables)?;
                self.tables.look_ahead(&oids, visible.renewed())?;
            }
        }
        let at = (assembler.open_commit(), visible.renewed());
        let learnt = self.tables.describe(described, self.writer.head(), at)?;
        let relation = self.note_learnt(learnt, stop)?;
        tracing::debug!(table = %relation.table, "a table was described");
        unsettled.note(&relation, &self.tables);
        assembler.learn_relation(relation)?;
        // What was learned of all partitions is older than this description.
        if let Some(root) = assembler.outdated_root(described.oid).cloned() {
            let learnt = self.tables.describe_root(&root, at)?;
            let relation = self.note_learnt(learnt, stop)?;
            unsettled.note(&relation, &self.tables);
            assembler.learn_relation(relation)?;
        }
        Ok(())
    }

    /// Asks again for tables of whose rows the columns were uncertain: rows of the transaction that begins have the
    /// columns that the catalogs showed before it, unless the stream says otherwise.
    pub(super) fn ask_unsettled(
        &mut self,
        incoming: &mut Incoming,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let Incoming {
            assembler,
            visible,
            unsettled,
            ..
        } = incoming;
        let commit = assembler.open_commit();
        let due = unsettled.due(commit);
        if due.is_empty() {
            return Ok(());
        }
        visible.renew(&self.tables)?;
        self.tables.look_ahead(&due, visible.renewed())?;
        for oid in due {
            let Some(described) = assembler.described(oid).cloned() else {
                continue;
            };
            let learnt = self
                .tables
                .describe_again(&described, (commit, visible.renewed()))?;
            let relation = self.note_learnt(learnt, stop)?;
            unsettled.note(&relation, &self.tables);
            assembler.learn_relation(relation)?;
        }
        Ok(())
    }

    /// Notes in the log what was learnt of a table, and only then publishes it to others. Returns the relation by which
    /// its rows are read.
    pub(super) fn note_learnt(
        &mut self,
        learnt: Learnt,
        stop: &CancellationToken,
    ) -> Result<Arc<Relation>, Error> {
        for record in &learnt.records {
            self.until_space(stop, |writer| writer.note_table(record))?;
        }
        Ok(self.tables.remember(learnt))
    }

    /// Notes in the log what maintenance and sessions have found of the tables, and writes it if there is space.
    ///
    /// # Errors
    /// The log has failed.
    pub(super) fn note_found(&mut self) -> Result<(), Error> {
        self.gather_found()?;
        Ok(unless_full(self.writer.flush())?)
    }

    /// Notes it in the log, to be written together with other records.
    pub(super) fn gather_found(&mut self) -> Result<(), Error> {
        let found = self.tables.found();
        for record in &found {
            let is_news = match record {
                TableRecord::Version { version, .. } => self.journal.tables().borrow().news(version).is_new,
                TableRecord::Name { .. } => true,
            };
            if is_news {
                unless_full(self.writer.note_table(record))?;
            }
        }
        self.tables.acknowledge_noted(&found);
        if let Some(published) = self.tables.take_published() {
            self.writer.retain_tables(&published);
        }
        Ok(())
    }
}

/// Ignores a full disk: the log keeps the records, and writes them with the next ones.
fn unless_full(noted: Result<(), log::Error>) -> Result<(), log::Error> {
    match noted {
        Err(log::Error::Full(_)) => Ok(()),
        noted => noted,
    }
}
