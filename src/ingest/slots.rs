//! The slot: waited for while another walcast reads it, created, created again, or given up.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Error, Ingest, Options};
use crate::health::Readiness;
use crate::log::{Identity, Log, LogWriter};
use crate::lsn::Lsn;
use crate::postgres::{Connection, Purpose, SlotState};
use crate::telemetry::chain;

/// A slot that nobody else reads.
pub(super) struct Acquired {
    /// The position up to which it is confirmed.
    pub(super) confirmed: Lsn,
    /// True if it replaces one that was read before: changes that were written in between are in neither.
    pub(super) is_recreated: bool,
}

/// The time after which a waiting creation of the slot is explained.
const EXPLAINED_AFTER: Duration = Duration::from_secs(1);
/// The interval at which the reason of the wait is looked up.
const EXPLAIN_INTERVAL: Duration = Duration::from_secs(2);

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// Acquires the slot, once nobody else reads it. It is created, or created again, if the options allow that.
    pub(super) fn acquire(
        &mut self,
        connection: &mut Connection,
        identity: &Identity,
        stop: &CancellationToken,
    ) -> Result<Acquired, Error> {
        let name = self.options.slot.clone();
        loop {
            let Some(state) = connection.slot(&name)? else {
                return self.make(connection, "is gone", stop);
            };
            let confirmed = self.check_kind(&state, identity)?;
            if state.active_pid.is_some() {
                self.stand_by(connection, identity, stop)?;
                continue;
            }
            if let Some(reason) = state.loss() {
                let what = format!("is lost ({reason}): the server removed WAL of it that had not been read");
                if !self.options.recreate_slot {
                    return Err(self.gone(connection, &what)?);
                }
                tracing::error!(
                    event = "slot_lost", slot = %name, reason,
                    "the slot is lost: it is dropped, to be created again"
                );
                connection.drop_slot(&name)?;
                return self.make(connection, &what, stop);
            }
            let written = connection.written()?;
            if let Some(confirmed) = confirmed.filter(|confirmed| *confirmed > written)
                && !connection.is_in_recovery()?
            {
                self.astray(connection, confirmed, written)?;
                return self.make(
                    connection,
                    "was confirmed further than the server has written",
                    stop,
                );
            }
            if let Some(what) = self.beyond_bound(&state, written) {
                tracing::error!(
                    event = "slot_given_up", slot = %name,
                    "the slot {what}: it is dropped, so that the server can remove its WAL"
                );
                connection.drop_slot(&name)?;
                self.metrics.slots_given_up.inc();
                return self.make(connection, &format!("was dropped: it {what}"), stop);
            }
            if let Some(confirmed) = confirmed {
                return Ok(Acquired {
                    confirmed,
                    is_recreated: false,
                });
            }
        }
    }

    /// Drops a slot that was confirmed beyond what there is: the server would send nothing until it has written that
    /// far.
    fn astray(&mut self, connection: &mut Connection, confirmed: Lsn, written: Lsn) -> Result<(), Error> {
        let name = &self.options.slot;
        let what = format!(
            "the slot {name} was confirmed up to {confirmed}, but the server has written only up to {written}: it would send \
             nothing until it has written that far"
        );
        if !self.options.recreate_slot {
            let create = connection.slot_creation(name, self.options.plugin.as_str())?;
            return Err(Error::Slot(format!(
                "{what}. Start with --recreate-slot to have it created again, or create it: SELECT \
                 pg_drop_replication_slot('{name}'); then {create}; either way a new epoch begins, and clients are told to \
                 resubscribe with new snapshots"
            )));
        }
        tracing::error!(
            event = "slot_ahead_of_server",
            "{what}: it is dropped, to be created again"
        );
        Ok(connection.drop_slot(name)?)
    }

    /// True if it is a slot that can be read: it may have been created again while we run. Its confirmed position,
    /// which one that is being made does not have yet.
    fn check_kind(&self, state: &SlotState, identity: &Identity) -> Result<Option<Lsn>, Error> {
        let name = &self.options.slot;
        let plugin = self.options.plugin.as_str();
        if let Some(database) = state.database.as_ref().filter(|name| **name != identity.database) {
            return Err(Error::Slot(format!(
                "the slot {name} belongs to the database {database}, not to {}: name another slot, or drop it there if nobody \
                 needs it",
                identity.database
            )));
        }
        match &state.plugin {
            None => Err(Error::Slot(format!("{name} is not a logical slot"))),
            Some(found) if found != plugin => Err(Error::Slot(format!(
                "the slot {name} does not decode by {plugin}: drop it, or start with its --plugin"
            ))),
            Some(_) => Ok(state.confirmed_flush_lsn),
        }
    }

    /// True if the server keeps more for the slot than it may, and in which words.
    fn beyond_bound(&self, state: &SlotState, written: Lsn) -> Option<String> {
        let bound = self.options.max_slot_lag?;
        let kept = state.retained(written).filter(|kept| *kept > bound)?;
        Some(format!(
            "made the server keep {kept} bytes of WAL, more than --max-slot-lag ({bound} bytes)"
        ))
    }

    /// Makes the slot, of which there is none because the one before `what`. Where there was one, only if that was
    /// asked for: it is for people to know that changes were lost.
    fn make(
        &mut self,
        connection: &mut Connection,
        what: &str,
        stop: &CancellationToken,
    ) -> Result<Acquired, Error> {
        let name = &self.options.slot;
        let plugin = self.options.plugin.as_str();
        let existed = self.journal.head() != Lsn::ZERO || self.sighting.is_some();
        if existed && connection.is_in_recovery()? {
            // Before version 16 a standby has no slots at all, and a failover may still be under way.
            return Err(Error::Slot(format!(
                "the server is a standby, and the slot {name} is not there: waiting for its promotion; with several hosts \
                 add target_session_attrs=primary"
            )));
        }
        if existed && !self.options.recreate_slot {
            return Err(self.gone(connection, what)?);
        }
        if !existed && !self.options.create_slot {
            return Err(Error::Slot(format!(
                "there is no replication slot {name}: use --create-slot, or {}",
                connection.slot_creation(name, plugin)?
            )));
        }
        tracing::info!(event = "slot_creation_started", slot = %name, recreated = existed, "creating the slot");
        let mut waiting = Waiting::new(&self.options, &self.readiness);
        let confirmed = connection.create_slot(name, plugin, || {
            waiting.explain();
            !stop.is_cancelled()
        })?;
        Ok(Acquired {
            confirmed,
            is_recreated: existed,
        })
    }

    fn gone(&self, connection: &mut Connection, what: &str) -> Result<Error, Error> {
        let name = &self.options.slot;
        let create = connection.slot_creation(name, self.options.plugin.as_str())?;
        Ok(Error::SlotGone(format!(
            "the replication slot {name} {what}. Changes after {} may be lost to clients: start with --recreate-slot to \
             have a slot created again, or create it (SELECT pg_drop_replication_slot('{name}'); if it is still there, then \
             {create};); either way a new epoch begins, and clients are told to resubscribe with new snapshots",
            self.journal.head()
        )))
    }
}

/// Says what the creation of a slot waits for: it needs a moment without older transactions that write.
struct Waiting<'a> {
    options: &'a Options,
    readiness: &'a Readiness,
    next_look: Instant,
    said: String,
    /// Asks; the session that creates is busy.
    observer: Option<Connection>,
}

impl Waiting<'_> {
    fn new<'a>(options: &'a Options, readiness: &'a Readiness) -> Waiting<'a> {
        Waiting {
            options,
            readiness,
            next_look: Instant::now() + EXPLAINED_AFTER,
            said: String::new(),
            observer: None,
        }
    }

    /// Looks what it waits for, if it is time to, and says it if it is something else than before.
    fn explain(&mut self) {
        if Instant::now() < self.next_look {
            return;
        }
        self.next_look = Instant::now() + EXPLAIN_INTERVAL;
        let words = match self.look() {
            Ok(words) => words,
            Err(error) => {
                self.observer = None;
                tracing::debug!(
                    error = chain(&error),
                    "cannot look what the slot's creation waits for"
                );
                return;
            }
        };
        if words == self.said {
            return;
        }
        let slot = &self.options.slot;
        tracing::warn!(event = "slot_creation_waiting", %slot, "the slot cannot be created yet: {words}");
        self.readiness
            .unready(format!("the slot {slot} cannot be created yet: {words}"));
        self.said = words;
    }

    fn look(&mut self) -> Result<String, crate::postgres::Error> {
        let observer = match &mut self.observer {
            Some(observer) => observer,
            none => none.insert(Connection::connect(&self.options.conninfo, Purpose::Query)?),
        };
        if observer.is_in_recovery()? {
            return Ok("the server is a standby: the slot is there when the primary has logged what runs there, and what ran \
                       then has ended. A primary where nothing happens logs it on request: \
                       SELECT pg_log_standby_snapshot(); there"
                .into());
        }
        let blockers = observer.slot_creation_blockers()?;
        let list: Vec<String> = blockers
            .iter()
            .map(|blocker| format!("{} (to end it: {})", blocker.description, blocker.cure))
            .collect();
        Ok(if list.is_empty() {
            "the server waits for transactions that this role does not see: pg_stat_activity shows them to a \
                     role with pg_read_all_stats (backend_xid), pg_prepared_xacts the prepared ones"
                .into()
        } else {
            format!(
                "the server waits for transactions that have written and are still open: {}",
                list.join("; ")
            )
        })
    }
}
