//! What has to be looked after now and then: the journal's size, the slot's lag, the publications, the tables.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::event::TableName;
use crate::journal::{Journal, Retention};
use crate::lsn::Lsn;
use crate::postgres::{ConnInfo, Connection, Error, Publication, Purpose, SlotName};
use crate::router::Handle;
use crate::snapshot::Snapshots;
use crate::tables::Tables;
use crate::telemetry::{Metrics, chain};

/// How often.
const INTERVAL: Duration = Duration::from_secs(5);

/// What is looked after.
#[derive(Clone)]
pub struct Upkeep {
    /// The server.
    pub conninfo: ConnInfo,
    /// The slot.
    pub slot: SlotName,
    /// The publications.
    pub publications: Vec<Publication>,
    /// What the journal keeps.
    pub retention: Retention,
    /// The journal.
    pub journal: Journal,
    /// The published tables.
    pub tables: Arc<Tables>,
    /// Snapshots' connections.
    pub snapshots: Arc<Snapshots<Journal>>,
    /// Hears of tables that are gone.
    pub router: Handle,
    /// Everything counted.
    pub metrics: Arc<Metrics>,
}

/// What a look at the database finds.
struct Seen {
    /// What is wrong, if anything is.
    problem: String,
    /// Whether the slot is there.
    has_slot: bool,
    /// Tables that are not there any more.
    gone: Vec<(TableName, u32)>,
    /// How far the server had written by then.
    written: Lsn,
}

impl Upkeep {
    /// Looks after it until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut said, mut had_slot) = (String::new(), false);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let this = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                this.keep_in_bounds();
                this.look(had_slot)
            });
            // Said once per change of state.
            let problem = match looked.await {
                Ok(Ok(seen)) => {
                    if !self.end_gone(&seen).await {
                        return;
                    }
                    had_slot |= seen.has_slot;
                    seen.problem
                }
                Ok(Err(error)) => chain(&error),
                Err(error) => error.to_string(),
            };
            if problem != said && !problem.is_empty() {
                tracing::warn!(problem, "the database needs a look");
            }
            said = problem;
        }
    }

    /// Ends the subscriptions to tables that are gone; whether there is a router to do so.
    async fn end_gone(&self, seen: &Seen) -> bool {
        if seen.gone.is_empty() {
            return true;
        }
        let ended = self.router.end_tables(seen.gone.clone(), seen.written).await;
        self.tables.told(&seen.gone);
        ended.is_ok()
    }

    fn keep_in_bounds(&self) {
        self.snapshots.tidy();
        match self.journal.retain(&self.retention, SystemTime::now()) {
            Ok(0) => {}
            Ok(bytes) => {
                tracing::info!(bytes, earliest = %self.journal.earliest(), "journal segments removed")
            }
            Err(error) => tracing::warn!(error = chain(&error), "journal segments could not be removed"),
        }
        self.metrics
            .journal_bytes
            .set(self.journal.size_bytes().cast_signed());
    }

    /// Reads the slot's state and the tables. `had_slot`: there was a slot before; at the start it may still be made.
    fn look(&self, had_slot: bool) -> Result<Seen, Error> {
        let mut connection = Connection::connect(&self.conninfo, Purpose::Query)?;
        let slot = connection.slot(&self.slot)?;
        let has_slot = slot.is_some();
        let gone = self.tables.refresh_and_miss()?;
        // After the tables were read: whatever they lack was written by then.
        let written = connection.written()?;
        let missing = connection.missing_publications(&self.publications)?;
        connection.close();
        let mut problems = Vec::new();
        for publication in missing {
            problems.push(format!(
                "the publication {publication} is gone: on servers before 18 the stream breaks at the next change, \
                 on 18 and later changes are passed over in silence"
            ));
        }
        match slot {
            None if had_slot => problems.push(format!("the slot {} is gone", self.slot)),
            None => {}
            Some(slot) => {
                let behind = |lsn| written.bytes_since(lsn).cast_signed();
                self.metrics
                    .slot_lag_bytes
                    .set(slot.confirmed_flush_lsn.map_or(0, behind));
                self.metrics
                    .slot_retained_bytes
                    .set(slot.restart_lsn.map_or(0, behind));
                if slot.is_lost() {
                    problems.push(format!(
                        "the slot {} is lost: the server removed WAL that it needed",
                        self.slot
                    ));
                } else if slot.wal_status.as_deref() == Some("unreserved") {
                    problems.push(format!(
                        "the slot {} may be lost at the next checkpoint (max_slot_wal_keep_size)",
                        self.slot
                    ));
                }
            }
        }
        Ok(Seen {
            problem: problems.join("; "),
            has_slot,
            gone,
            written,
        })
    }
}
