//! Regular care: the journal's size, the slot's lag, the publications, the tables.

mod lag;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::statvfs;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::delivery::{Handle, ReplayPool};
use crate::event::{Relation, TableName};
use crate::ingest::{self, SlotCheckRequest, Standbys};
use crate::journal::{Journal, Retention};
use crate::log::Log;
use crate::lsn::Lsn;
use crate::postgres::{Absent, Connection, Error, Purpose, SlotState};
use crate::schema::Tables;
use crate::snapshot::Snapshots;
use crate::telemetry::{Metrics, chain, in_this_span};

/// The interval between two rounds.
const INTERVAL: Duration = Duration::from_secs(5);

/// The things that are looked after.
#[derive(Clone)]
pub struct Maintenance {
    /// The slot and the publications.
    pub source: Arc<ingest::Options>,
    /// Has ingest look at the slot.
    pub slot_check: SlotCheckRequest,
    /// Those who wait to take the slot over.
    pub standbys: Standbys,
    /// The history that the journal keeps.
    pub retention: Retention,
    /// The journal.
    pub journal: Journal,
    /// The published tables.
    pub tables: Arc<Tables>,
    /// Snapshots' connections.
    pub snapshots: Arc<Snapshots<Journal>>,
    /// Hears of tables that are gone.
    pub router: Handle,
    /// Replays of the journal.
    pub replays: Arc<ReplayPool<Journal>>,
    /// The directory of the journal.
    pub data_dir: PathBuf,
    /// Everything counted.
    pub metrics: Arc<Metrics>,
}

/// Something that is not as it should be.
struct Problem {
    /// The problem: said again only when it has changed.
    kind: String,
    /// The words.
    words: String,
}

impl Problem {
    fn new(words: String) -> Problem {
        Problem {
            kind: words.clone(),
            words,
        }
    }
}

/// The finds of a look at the database.
struct Seen {
    /// The problem, if there is one.
    problems: Vec<Problem>,
    /// True if the slot is there.
    has_slot: bool,
    /// Tables that are not there any more.
    gone: Vec<(TableName, u32)>,
    /// Tables whose columns are others than before.
    changed: Vec<Arc<Relation>>,
    /// The position up to which the server had written by then.
    written: Lsn,
}

impl Maintenance {
    /// Looks after it until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = Vec::<String>::new();
        let mut had_slot = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let this = self.clone();
            let looked = tokio::task::spawn_blocking(in_this_span(move || {
                this.keep_in_bounds();
                this.look(had_slot)
            }));
            // Said once per change of state.
            let problems = match looked.await {
                Ok(Ok(seen)) => {
                    if !self.end_gone(&seen).await || !self.end_changed(&seen).await {
                        return;
                    }
                    had_slot |= seen.has_slot;
                    seen.problems
                }
                Ok(Err(error)) => vec![Problem::new(chain(&error))],
                Err(error) => vec![Problem::new(error.to_string())],
            };
            for problem in problems.iter().filter(|problem| !said.contains(&problem.kind)) {
                tracing::warn!(
                    event = "health_check_problem",
                    problem = problem.words,
                    "database health check found a problem"
                );
            }
            said = problems.into_iter().map(|problem| problem.kind).collect();
        }
    }

    /// Ends the subscriptions to tables that are gone. False if there is no router to do so.
    async fn end_gone(&self, seen: &Seen) -> bool {
        if seen.gone.is_empty() {
            return true;
        }
        let ended = self.router.end_tables(seen.gone.clone(), seen.written).await;
        self.tables.acknowledge_gone(&seen.gone);
        ended.is_ok()
    }

    /// Ends the subscriptions that need columns which are others now. False if there is no router to do so.
    async fn end_changed(&self, seen: &Seen) -> bool {
        if seen.changed.is_empty() {
            return true;
        }
        let ended = self.router.end_changed(seen.changed.clone(), seen.written).await;
        self.tables.acknowledge_changed(&seen.changed);
        let Ok(told) = ended else { return false };
        let tables = Arc::clone(&self.tables);
        let changed = seen.changed.clone();
        // The router may have a long way to go to where it was seen.
        tokio::spawn(async move {
            if let Ok(at) = told.await {
                tables.told_changed(&changed, at);
            }
        });
        true
    }

    fn keep_in_bounds(&self) {
        self.snapshots.tidy();
        self.metrics.traces.tidy();
        match self.journal.retain(&self.retention, SystemTime::now()) {
            Ok(0) => {}
            Ok(bytes) => {
                tracing::info!(
                    event = "journal_segments_removed", bytes, earliest = %self.journal.earliest(),
                    "journal segments removed"
                )
            }
            Err(error) => tracing::warn!(
                event = "journal_segment_removal_failed",
                error = chain(&error),
                "journal segments could not be removed"
            ),
        }
        let metrics = &self.metrics;
        metrics.journal_bytes.set(self.journal.size_bytes());
        metrics.journal_earliest_lsn.set(self.journal.earliest().0);
        let used = self.journal.retention_used(&self.retention, SystemTime::now());
        metrics.journal_retention_used.set(used);
        let replayed = self.replays.take_oldest();
        metrics
            .replay_oldest_lsn
            .set(replayed.unwrap_or_else(|| self.journal.head()).0);
        match statvfs(&self.data_dir) {
            Ok(disk) => {
                metrics
                    .disk_available_bytes
                    .set(disk.f_bavail.saturating_mul(disk.f_frsize));
                metrics
                    .disk_size_bytes
                    .set(disk.f_blocks.saturating_mul(disk.f_frsize));
            }
            Err(error) => tracing::debug!(%error, "the disk of --data-dir cannot be measured"),
        }
    }

    /// Reads the slot's state and the tables. `had_slot`: there was a slot before; at the start it may still be made.
    fn look(&self, had_slot: bool) -> Result<Seen, Error> {
        let mut connection = Connection::connect(&self.source.conninfo, Purpose::Query)?;
        let slot = connection.slot(&self.source.slot)?;
        let has_slot = slot.is_some();
        let gone = self.tables.refresh_and_report_gone()?;
        let changed = self.tables.changed();
        // After the tables were read: whatever they lack was written by then.
        let written = connection.written()?;
        let missing = connection.missing_publications(&self.source.publications)?;
        let mut problems = Vec::new();
        for publication in &missing {
            problems.push(Problem::new(format!(
                "the publication {publication} is gone: the stream breaks at the next change, and does not pass what is \
                 changed until it is there again"
            )));
        }
        let standbys = connection.standbys(&self.source.slot)?;
        self.standbys.set(standbys > 0);
        self.metrics.standbys.set(standbys);
        self.metrics.publications_missing.set(missing.len() as i64);
        self.metrics
            .slot_lost
            .set(slot.as_ref().map_or(had_slot, SlotState::is_lost).into());
        match &slot {
            None if had_slot => problems.push(Problem::new(format!("the slot {} is gone", self.source.slot))),
            None => {}
            Some(slot) => {
                problems.extend(self.look_at_lag(&mut connection, slot, written)?);
                problems.extend(self.look_at_decoding(&mut connection, slot)?);
                problems.extend(self.look_at_standbys(&mut connection, slot)?);
            }
        }
        connection.close();
        Ok(Seen {
            problems,
            has_slot,
            gone,
            changed,
            written,
        })
    }

    /// Looks whether the server holds changes back for a standby that does not hear of them.
    fn look_at_standbys(
        &self,
        connection: &mut Connection,
        slot: &SlotState,
    ) -> Result<Option<Problem>, Error> {
        if !slot.failover {
            return Ok(None);
        }
        let absent = connection.absent_standbys()?;
        Ok(absent.map(|Absent { names, others }| {
            Problem::new(format!(
                "the server sends no change for the slot {} before the standbys of synchronized_standby_slots have it, and of \
                 these {}: start the standby, or make its slot; if it is gone for good: \
                 ALTER SYSTEM SET synchronized_standby_slots = '{others}'; SELECT pg_reload_conf();",
                self.source.slot,
                names.join(", ")
            ))
        }))
    }

    /// Looks whether the server itself cannot go on: its process waits for a lock.
    fn look_at_decoding(
        &self,
        connection: &mut Connection,
        slot: &SlotState,
    ) -> Result<Option<Problem>, Error> {
        let Some(reader) = slot.active_pid else {
            return Ok(None);
        };
        let holders = connection.holders_of_what_decoding_waits_for(reader)?;
        let Some(holder) = holders.first() else {
            return Ok(None);
        };
        Ok(Some(Problem::new(format!(
            "the server's process {reader}, which decodes for the slot {}, waits for a lock that the process {holder} holds. If \
             that one's commit waits for walcast (synchronous_standby_names; a commit that altered a composite type and \
             wrote such values does), neither goes on: SELECT pg_cancel_backend({holder}) lets it commit without waiting",
            self.source.slot
        ))))
    }
}
