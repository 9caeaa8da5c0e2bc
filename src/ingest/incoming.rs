//! [`Incoming`]: the state of one connection between its messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Options;
use super::composites::Composites;
use super::oversize::OversizeTrimmer;
use super::unsettled::Unsettled;
use super::visible::Visible;
use crate::decode::{Assembler, Streams};
use crate::event::{Op, Relation, RowChange, Timestamp};
use crate::journal::InProgressTransactions;
use crate::lsn::Lsn;
use crate::postgres::Plugin;
use crate::schema::Tables;
use crate::telemetry::{Metrics, TableCounters};

/// The least time between two positions that are noted in the journal only because the server passed them.
const POSITION_INTERVAL: Duration = Duration::from_millis(100);

/// The state of a connection's messages on their way into the journal.
pub(super) struct Incoming {
    pub(super) streams: Streams,
    pub(super) in_progress: InProgressTransactions,
    pub(super) assembler: Assembler,
    pub(super) counts: Counts,
    pub(super) composites: Composites,
    pub(super) trimmer: OversizeTrimmer,
    pub(super) passed: Passed,
    pub(super) visible: Visible,
    pub(super) unsettled: Unsettled,
    /// The time at which the server sent the last message, by its clock.
    pub(super) sent_at: Timestamp,
    /// The end of the last message, as its frame says.
    pub(super) wal_end: Lsn,
}

impl Incoming {
    /// The state of a new connection to a server whose transactions up to `head` are in the journal. `is_utf8` is true
    /// if the database's encoding is UTF-8.
    pub(super) fn new(
        options: &Options,
        is_utf8: bool,
        head: Lsn,
        tables: &Arc<Tables>,
        metrics: &Arc<Metrics>,
    ) -> Incoming {
        Incoming {
            streams: Streams::default(),
            in_progress: InProgressTransactions::new(options.spool_dir.clone()),
            assembler: Assembler::new(head)
                .with_messages(&options.messages, is_utf8)
                .with_tags_by_row(options.plugin == Plugin::Wal2json),
            counts: Counts::new(Arc::clone(metrics)),
            composites: Composites::new(Arc::clone(tables)),
            trimmer: OversizeTrimmer::new(options.max_row_bytes),
            passed: Passed::default(),
            visible: Visible::default(),
            unsettled: Unsettled::default(),
            sent_at: Timestamp::now(),
            wal_end: Lsn::ZERO,
        }
    }

    /// True if a transaction, or a block of one, is not yet complete. Streamed transactions between their blocks do not
    /// count: they commit after any position that is passed meanwhile, and are sent again as a whole.
    pub(super) fn is_open(&self) -> bool {
        self.assembler.is_open() || self.streams.is_open()
    }
}

/// The newest position that the server passed without a transaction of ours.
#[derive(Debug, Default)]
pub(super) struct Passed {
    lsn: Option<Lsn>,
    urgent: bool,
    noted: Option<Instant>,
}

impl Passed {
    pub(super) fn note(&mut self, lsn: Lsn, urgent: bool) {
        self.lsn = self.lsn.max(Some(lsn));
        self.urgent |= urgent;
    }

    /// The position, if the server is known to have written up to it and it is time to note it in the journal, which is
    /// at once if the server waits for its confirmation.
    pub(super) fn due(&mut self, shown: Lsn) -> Option<Lsn> {
        let recently = self.noted.is_some_and(|at| at.elapsed() < POSITION_INTERVAL);
        if self.lsn.is_none_or(|lsn| lsn > shown) || (recently && !self.urgent) {
            return None;
        }
        self.urgent = false;
        self.noted = Some(Instant::now());
        self.lsn.take()
    }
}

/// Counts changes by table, with one look-up per run of changes to the same table.
pub(super) struct Counts {
    metrics: Arc<Metrics>,
    by_oid: HashMap<u32, (Arc<Relation>, TableCounters)>,
    last: Option<(Arc<Relation>, TableCounters)>,
}

impl Counts {
    fn new(metrics: Arc<Metrics>) -> Counts {
        Counts {
            metrics,
            by_oid: HashMap::new(),
            last: None,
        }
    }

    /// Counts a change. True if its relation differs from that of the change before.
    pub(super) fn count(&mut self, change: &RowChange<'_>) -> bool {
        let same = self
            .last
            .as_ref()
            .is_some_and(|(relation, _)| Arc::ptr_eq(relation, change.relation));
        if !same {
            self.last = Some(self.of(change.relation));
        }
        let Some((_, counters)) = &self.last else {
            return true;
        };
        match change.op {
            Op::Insert { .. } => counters.insert.inc(),
            Op::Update { .. } => counters.update.inc(),
            Op::Delete { .. } => counters.delete.inc(),
            Op::Truncate => counters.truncate.inc(),
        }
        !same
    }

    fn of(&mut self, relation: &Arc<Relation>) -> (Arc<Relation>, TableCounters) {
        match self.by_oid.get(&relation.oid) {
            Some(known) if Arc::ptr_eq(&known.0, relation) => known.clone(),
            _ => {
                let counters = self.metrics.table(&relation.table.schema, &relation.table.name);
                let known = (Arc::clone(relation), counters);
                self.by_oid.insert(relation.oid, known.clone());
                known
            }
        }
    }
}
