//! Starting a stream: identify the server, check that its history continues the journal's, choose where to begin.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::continuity::{self, Break, Ours, Theirs};
use super::slots::Acquired;
use super::{Error, Ingest, Started, standby};
use crate::log::{Identity, Log, LogWriter};
use crate::lsn::Lsn;
use crate::postgres::{self, Connection, Plugin, Purpose, SlotName, StartReplication};

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// Connects, makes sure that the history continues, and starts the stream at the journal's head.
    pub(super) fn connect(&mut self, stop: &CancellationToken) -> Result<Started, Error> {
        let mut connection = Connection::connect(&self.options.conninfo, Purpose::Replication)?;
        let (identity, _) = identify(&mut connection, &self.options.slot)?;
        let expected = self.journal.identity();
        self.received.find(&expected)?;
        let is_recreated = identity.succeeds(&expected);
        if !identity.is_of(&expected) && !is_recreated {
            return Err(Error::OtherServer {
                found: identity.to_string(),
                expected: expected.to_string(),
            });
        }
        if is_recreated {
            self.check_recreated(&mut connection, &identity)?;
        }
        let mut acquired = self.acquire(&mut connection, &identity, stop)?;
        // Its position means nothing here, since it belongs to another database.
        acquired.is_recreated |= is_recreated;
        let confirmed = acquired.confirmed;
        // The wait for the slot may have been long, and the server may have been promoted meanwhile.
        let (identity, written) = identify(&mut connection, &self.options.slot)?;
        self.settle(&mut connection, identity, written, acquired)?;
        if let Some(mark) = self.journal.epoch().number() {
            standby::unless_refused(connection.mark_session(mark))?;
        }
        self.own_pid = connection.backend_pid();
        self.find_out_who_waits(&mut connection)?;
        self.receives_first = self.is_to_receive_first()?;
        if self.streams() {
            self.streaming_pause.begins(self.held());
        }
        let start = self.start();
        let status_interval = status_interval(&mut connection)?;
        let is_utf8 = connection.parameter("server_encoding") == Some("UTF8");
        let stream = match connection.start_replication(&start) {
            Err(error) if self.exact_numbers && postgres::is_refused_option(&error) => {
                self.exact_numbers = false;
                tracing::warn!(
                    event = "wal2json_outdated",
                    "this wal2json is older than version 2.6: NaN and the infinities of numbers are delivered as null"
                );
                return self.connect(stop);
            }
            started => started?,
        };
        self.failures.begins(start.from, written);
        self.metrics.replication_connects.inc();
        Ok(Started {
            stream,
            status_interval,
            is_utf8,
            confirmed,
            written,
            receives_first: self.receives_first,
        })
    }

    /// Checks that a new history may begin with a database that was dropped and created again.
    fn check_recreated(&self, connection: &mut Connection, identity: &Identity) -> Result<(), Error> {
        let database = &identity.database;
        if !self.options.recreate_slot {
            return Err(Error::SlotGone(format!(
                "the database {database} was dropped and created again, and the slot {} with it. Changes after {} may be lost to \
                 clients: start with --recreate-slot to begin a new epoch with the new one; clients are told to resubscribe with new snapshots",
                self.options.slot,
                self.journal.head()
            )));
        }
        // A slot cannot get past changes that were written before its publication was created.
        let missing = connection.missing_publications(&self.options.publications)?;
        if let Some(publication) = missing.first() {
            return Err(Error::Slot(format!(
                "the database {database} was dropped and created again, and has no publication {publication} yet: waiting for it"
            )));
        }
        // Forget the types and collations of the old database.
        self.tables.forget_database();
        Ok(())
    }

    /// Asks whether commits wait for our confirmations, and logs it.
    fn find_out_who_waits(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let by = connection.synchronous_by()?;
        let is = by.is_some();
        let was = self.is_synchronous;
        self.is_synchronous = is;
        self.metrics.synchronous.set(is.into());
        let words = by.map(|setting| {
            format!(
                "walcast is among the synchronous standbys (synchronous_standby_names = '{setting}'): commits wait until it \
                 has received them and synced them to the disk of --data-dir"
            )
        });
        match &words {
            Some(words) if !was => tracing::warn!(event = "synchronous_standby_began", "{words}"),
            None if was => tracing::info!(
                event = "synchronous_standby_ended",
                "walcast is not among the synchronous standbys any more"
            ),
            _ => {}
        }
        self.readiness.remark(words);
        Ok(())
    }

    /// The command that starts the stream at the end of what is held.
    fn start(&self) -> StartReplication {
        let slot = self.options.slot.clone();
        let head = self.held();
        match self.options.plugin {
            Plugin::Pgoutput => {
                let mut start = StartReplication::pgoutput(slot, head, &self.options.publications);
                if self.streams() {
                    start = start.streaming();
                }
                if !self.options.messages.is_empty() {
                    start = start.option("messages", "true");
                }
                start
            }
            Plugin::Wal2json => StartReplication::wal2json(slot, head, self.exact_numbers),
        }
    }

    /// True if large transactions are to be streamed while they still run.
    fn streams(&self) -> bool {
        let is_over = || self.streaming_pause.is_over(Instant::now(), self.held());
        self.options.streaming && !self.receives_first && is_over()
    }

    fn begin_epoch(&mut self, identity: &Identity, start: Lsn) -> Result<(), Error> {
        self.pending_visibility.begin(self.tables.horizon()?);
        Ok(self.writer.new_epoch(identity, start)?)
    }

    /// Compares the journal with the slot, and begins a new epoch if one does not continue the other.
    fn settle(
        &mut self,
        connection: &mut Connection,
        identity: Identity,
        written: Lsn,
        Acquired {
            confirmed,
            is_recreated,
        }: Acquired,
    ) -> Result<(), Error> {
        let head = self.held();
        let seen = self.sighting.take().filter(|_| !is_recreated);
        let vouched = seen
            .as_ref()
            .map(|seen| seen.continues(identity.timeline, written, confirmed));
        let holds_it = |epoch| self.journal.epoch() == epoch && (confirmed..=written).contains(&head);
        if let (Some(seen), Some(true)) = (&seen, vouched)
            && !holds_it(seen.epoch.clone())
        {
            return self.take_over(&identity, &seen.epoch, confirmed);
        }
        if head == Lsn::ZERO {
            return self.begin_epoch(&identity, confirmed);
        }
        if written < head && connection.is_in_recovery()? {
            return Err(Error::Slot(format!(
                "the server is a standby that has come to {written}, the journal ends at {head}: waiting until it has \
                 caught up, or is promoted"
            )));
        }
        let ours = Ours {
            head,
            timeline: self.journal.identity().timeline,
        };
        let theirs = Theirs {
            confirmed,
            written,
            timeline: identity.timeline,
            switches: connection.timeline_history(identity.timeline)?,
        };
        let continues = match vouched {
            _ if is_recreated => Err(Break::Recreated { head, confirmed }),
            Some(false) => Err(Break::UnknownDelivery { head, confirmed }),
            _ => continuity::compare(ours, &theirs),
        };
        if let Err(broken) = continues {
            tracing::error!(
                event = "history_broken", reason = %broken, start = %confirmed,
                "the history is broken: a new epoch begins"
            );
            self.metrics.epoch_changes.inc();
            return self.begin_epoch(&identity, confirmed);
        }
        if ours.timeline != identity.timeline {
            self.writer.set_timeline(identity.timeline)?;
        }
        Ok(())
    }
}

/// The identity of the history that a replication connection leads to, and the position up to which the server has
/// written.
///
/// # Errors
/// The server refuses, or the connection breaks.
pub fn identify(connection: &mut Connection, slot: &SlotName) -> Result<(Identity, Lsn), postgres::Error> {
    let system = connection.identify_system()?;
    let oid = "SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()";
    let identity = Identity {
        system_id: system.system_id,
        database_oid: connection.query_one("the database's oid", oid)?.parse(0, "oid")?,
        database: system.database,
        slot: slot.as_str().to_owned(),
        timeline: system.timeline,
    };
    Ok((identity, system.wal_position))
}

/// The longest interval between status updates: a third of the server's `wal_sender_timeout`.
fn status_interval(connection: &mut Connection) -> Result<Duration, postgres::Error> {
    const MOST: Duration = Duration::from_secs(10);
    let setting = "SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'";
    let millis: u64 = connection
        .query_one("wal_sender_timeout", setting)?
        .parse(0, "wal_sender_timeout")?;
    Ok(if millis == 0 {
        MOST
    } else {
        (Duration::from_millis(millis) / 3).min(MOST)
    })
}
