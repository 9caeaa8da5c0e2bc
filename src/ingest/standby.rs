//! Two walcasts on one slot: one reads it, the other waits for its turn.
//!
//! Each keeps a journal of its own, but the history is one, and clients can go on with either of them in the same
//! epoch. So the reader of the slot marks its session by the epoch, and the one that waits remembers it (see
//! [`Connection::mark_session`]). Changes that were confirmed before a take-over, and that the new reader does not
//! hold, count as expired there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Error, Ingest, pause};
use crate::log::{Identity, Log, LogWriter, TableHistory};
use crate::lsn::{Epoch, Lsn};
use crate::postgres::{self, Connection, SlotReader};
use crate::telemetry::chain;

/// The last observation of the reader of the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    /// The epoch of its history.
    pub(super) epoch: Epoch,
    /// The position up to which the server had written when this epoch was first seen. From there on the names of
    /// tables are known.
    since: Lsn,
    /// The position up to which it had written when it was last seen.
    written: Lsn,
    /// The server's timeline.
    timeline: u32,
}

/// The standbys that wait to take the slot over, and what is kept for them. Clones share the state.
#[derive(Clone, Debug)]
pub struct Standbys {
    wait: Arc<AtomicBool>,
    window: Duration,
}

impl Standbys {
    /// No known standbys. Once one waits, transactions are confirmed only `window` after they are durable, so that the
    /// standby gets them again, and clients within the window can go on there.
    pub fn none(window: Duration) -> Standbys {
        Standbys {
            wait: Arc::default(),
            window,
        }
    }

    /// Notes whether any wait.
    pub fn set(&self, wait: bool) {
        self.wait.store(wait, Ordering::Relaxed);
    }

    pub(super) fn wait(&self) -> bool {
        self.wait.load(Ordering::Relaxed)
    }

    pub(super) fn window(&self) -> Duration {
        self.window
    }
}

/// The interval at which it is checked whether the slot is free.
const POLL: Duration = Duration::from_millis(200);
/// The time without a log line, in which the server may notice that a former connection of ours is gone.
const QUIET: Duration = Duration::from_millis(500);

impl Sighting {
    fn of(epoch: Epoch, written: Lsn, timeline: u32) -> Sighting {
        Sighting {
            epoch,
            since: written,
            written,
            timeline,
        }
    }

    /// The observation, updated.
    fn again(self, epoch: Epoch, written: Lsn, timeline: u32) -> Sighting {
        let now = Sighting::of(epoch, written, timeline);
        if (&self.epoch, self.timeline) == (&now.epoch, timeline) && self.written <= written {
            Sighting {
                since: self.since,
                ..now
            }
        } else {
            now
        }
    }

    /// True if a slot that is confirmed up to `confirmed`, on a server of that timeline and position, continues the
    /// history that was observed: no other server has replaced the observed one, and nothing from before is delivered.
    pub(super) fn continues(&self, timeline: u32, written: Lsn, confirmed: Lsn) -> bool {
        self.timeline == timeline && self.written <= written && self.since <= confirmed
    }
}

/// Ignores that the server refuses a message between two walcasts: these are useful but not essential, and a role
/// without the right to take advisory locks can still read its slot.
pub(super) fn unless_refused(told: Result<(), postgres::Error>) -> Result<(), postgres::Error> {
    match told {
        Err(error) if !error.is_fatal() => {
            tracing::warn!(
                event = "advisory_lock_refused",
                error = chain(&error),
                "two walcasts on this slot will not know of each other"
            );
            Ok(())
        }
        told => told,
    }
}

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// Waits until nobody reads the slot, and logs who does.
    pub(super) fn stand_by(
        &mut self,
        connection: &mut Connection,
        identity: &Identity,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let mut said = None;
        unless_refused(connection.announce_standby(&self.options.slot))?;
        while let Some(reader) = connection.slot_reader(&self.options.slot)? {
            if stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            self.note(&reader, identity.timeline);
            self.note_found()?;
            if began.elapsed() >= QUIET && said != Some(reader.pid) {
                self.say(&reader);
                said = Some(reader.pid);
            }
            pause(POLL, stop);
        }
        self.metrics.standby.set(0);
        if said.is_some() {
            tracing::info!(
                event = "standby_taking_over", slot = %self.options.slot,
                "the slot is free: taking over"
            );
        }
        Ok(())
    }

    fn say(&self, reader: &SlotReader) {
        let slot = &self.options.slot;
        if reader.pid == self.own_pid {
            let reason = format!(
                "the server has not noticed yet that our last connection is gone, and holds the slot {slot} for it \
                 ({}): it will within wal_sender_timeout",
                reader.description
            );
            tracing::warn!(event = "slot_held_by_own_connection", "{reason}");
            self.readiness.unready(reason);
            return;
        }
        self.metrics.standby.set(1);
        tracing::info!(event = "standby_waiting", %slot, "standby: the slot is read by {}", reader.description);
        self.readiness.standby(format!(
            "standby: the slot {slot} is read by {}",
            reader.description
        ));
    }

    /// Remembers the reader's history, and the names of the tables in it.
    fn note(&mut self, reader: &SlotReader, timeline: u32) {
        let Some(epoch) = reader.mark.map(Epoch::of) else {
            return;
        };
        if reader.pid == self.own_pid {
            return;
        }
        self.note_names(&epoch, reader.written);
        self.sighting = Some(match self.sighting.take() {
            Some(seen) => seen.again(epoch, reader.written, timeline),
            None => Sighting::of(epoch, reader.written, timeline),
        });
    }

    /// Remembers the names of the tables in that history, as far as they are known when the server has written up to
    /// `written`.
    fn note_names(&mut self, epoch: &Epoch, written: Lsn) {
        let sighted = self.sighted_names.take().filter(|(of, _)| of == epoch);
        let (_, mut names) = sighted.unwrap_or_else(|| {
            // It may be our own history, which another walcast has continued.
            let names = if self.journal.epoch() == *epoch {
                self.journal.tables().borrow().of_names()
            } else {
                TableHistory::default()
            };
            (epoch.clone(), names)
        });
        for (table, oid) in self.tables.current_names() {
            if let Some(record) = names.showing(&table, oid, written) {
                names.apply(&record);
            }
        }
        self.sighted_names = Some((epoch.clone(), names));
    }

    /// Continues the history of the former reader of the slot, from the confirmed position on.
    pub(super) fn take_over(
        &mut self,
        identity: &Identity,
        epoch: &Epoch,
        confirmed: Lsn,
    ) -> Result<(), Error> {
        if self.journal.head() != Lsn::ZERO && self.journal.epoch() != *epoch {
            self.metrics.epoch_changes.inc();
        }
        tracing::info!(
            event = "history_continued", %epoch, start = %confirmed,
            "continuing the history of the walcast that read the slot"
        );
        self.pending_visibility.begin(self.tables.horizon()?);
        let known = self.journal.tables();
        let mut tables = if self.journal.epoch() == *epoch {
            known.borrow().clone()
        } else {
            known.borrow().next_epoch(confirmed)
        };
        if let Some((_, names)) = self.sighted_names.take().filter(|(of, _)| of == epoch) {
            names.records().for_each(|record| tables.apply(&record));
        }
        Ok(self.writer.adopt_epoch(identity, epoch, confirmed, tables)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(epoch: u64, written: u64, timeline: u32) -> Sighting {
        Sighting::of(Epoch::of(epoch), Lsn(written), timeline)
    }

    #[test]
    fn a_slot_that_moved_on_since_its_reader_was_seen_continues_the_history() {
        let seen = seen(7, 100, 1).again(Epoch::of(7), Lsn(150), 1);
        assert!(seen.continues(1, Lsn(150), Lsn(100)));
        assert!(seen.continues(1, Lsn(200), Lsn(180)));
    }

    #[test]
    fn another_server_does_not() {
        let seen = seen(7, 100, 1).again(Epoch::of(7), Lsn(150), 1);
        assert!(!seen.continues(2, Lsn(200), Lsn(180)), "promoted");
        assert!(!seen.continues(1, Lsn(149), Lsn(120)), "rewound");
    }

    #[test]
    fn what_was_confirmed_before_the_reader_was_seen_is_not_vouched_for() {
        assert!(!seen(7, 100, 1).continues(1, Lsn(200), Lsn(99)));
        let changed = seen(7, 100, 1).again(Epoch::of(8), Lsn(150), 1);
        assert_eq!(changed, seen(8, 150, 1));
        assert!(!changed.continues(1, Lsn(200), Lsn(120)));
        let rewound = seen(7, 100, 1).again(Epoch::of(7), Lsn(50), 1);
        assert_eq!(rewound, seen(7, 50, 1));
    }
}
