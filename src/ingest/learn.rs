//! Descriptions of tables, completed with what only the catalogs know.

use tokio_util::sync::CancellationToken;

use super::incoming::Incoming;
use super::upcoming::Upcoming;
use super::visible::Visible;
use super::{Error, Ingest};
use crate::event::StreamRelation;
use crate::log::{Log, LogWriter};

/// The number of tables that one question asks for at most.
const MAX_ASKED: usize = 512;

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// Asks the catalogs for the rest of a table's description.
    pub(super) fn learn(
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
            // Those that will be described are asked for together with this one. What is answered now is as good for
            // them as if it was asked then, unless their transactions cannot be seen yet: these ask again.
            let mut oids = upcoming.described(MAX_ASKED, |oid| oid == described.oid);
            if !oids.is_empty() {
                oids.push(described.oid);
                visible.renew(&self.tables)?;
                self.tables.look_ahead(&oids, visible.renewed())?;
            }
        }
        let (epoch, head) = (self.journal.epoch(), self.writer.head());
        let at = (assembler.open_commit(), visible.renewed());
        let relation = self.tables.describe(described, &epoch, head, at)?;
        tracing::debug!(table = %relation.table, "a table was described");
        unsettled.note(&relation, &self.tables);
        assembler.learn(relation)?;
        // What was learned of all partitions is older than what is described of this one.
        if let Some(root) = assembler.outdated_root(described.oid).cloned() {
            let relation = self.tables.describe_root(&root, at)?;
            unsettled.note(&relation, &self.tables);
            assembler.learn(relation)?;
        }
        Ok(())
    }

    /// Asks once more for tables of which it could not be told which columns their rows had: those of the transaction
    /// that begins surely have the columns that the catalogs had before it, unless the stream says otherwise.
    pub(super) fn ask_unsettled(&self, incoming: &mut Incoming) -> Result<(), Error> {
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
            let relation = self
                .tables
                .describe_again(&described, (commit, visible.renewed()))?;
            unsettled.note(&relation, &self.tables);
            assembler.learn(relation)?;
        }
        Ok(())
    }
}
