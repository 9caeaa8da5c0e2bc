//! [`Visible`]: waits until the catalogs show the effects of a transaction, before they are asked about it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Error, Ingest, pause};
use crate::log::{Log, LogWriter, PgSnapshot};
use crate::schema::Tables;

/// The newest snapshot: answers of the catalogs are at least as new.
#[derive(Debug, Default)]
pub(super) struct Visible {
    newest: Option<PgSnapshot>,
    /// The number of snapshots taken so far.
    renewed: u64,
}

/// The pause between two checks.
const PAUSE: Duration = Duration::from_millis(10);
/// The time that the stream waits for a transaction. After that it is checked, again and again, whether the transaction
/// may be waiting for us: then the stream is received and confirmed first, and decoded later (see
/// [`Received`](super::received::Received)).
pub(super) const MAX_INVISIBLE: Duration = Duration::from_millis(200);
/// The time after which the wait is logged.
const SAID_AFTER: Duration = Duration::from_secs(1);

impl Visible {
    /// True if the snapshot sees the transaction, so that questions from now on do too.
    fn sees(&mut self, xid: u32, tables: &Arc<Tables>) -> Result<bool, Error> {
        if self.newest.as_ref().is_some_and(|snapshot| snapshot.sees(xid)) {
            return Ok(true);
        }
        self.renew(tables)?;
        Ok(self.newest.as_ref().is_some_and(|snapshot| snapshot.sees(xid)))
    }

    /// Takes a new snapshot.
    pub(super) fn renew(&mut self, tables: &Arc<Tables>) -> Result<(), Error> {
        self.newest = Some(tables.snapshot()?);
        self.renewed += 1;
        Ok(())
    }

    /// The number of the newest snapshot, 0 if none was taken. Answers from before it may be older than a transaction.
    pub(super) fn renewed(&self) -> u64 {
        self.renewed
    }
}

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// Waits until the catalogs show the effects of a transaction, which is decoded before it is visible. Under
    /// synchronous replication that may take long; until then no client of the database has been told of its commit.
    ///
    /// # Errors
    /// The database does not answer, `stop`, or commits wait for us.
    pub(super) fn until_visible(
        &mut self,
        visible: &mut Visible,
        xid: Option<u32>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let Some(xid) = xid else { return Ok(()) };
        let began = Instant::now();
        let mut asked = began;
        let mut said = false;
        while !visible.sees(xid, &self.tables)? {
            if stop.is_cancelled() {
                return Err(Error::Invisible(xid));
            }
            if !self.receives_first && asked.elapsed() >= MAX_INVISIBLE {
                if self.tables.are_commits_waiting_for_us()? {
                    return Err(Error::Unconfirmed(xid));
                }
                asked = Instant::now();
            }
            if !said && began.elapsed() >= SAID_AFTER {
                let reason = format!(
                    "transaction {xid} is written, but waits for a synchronous standby before anybody may see it \
                     (synchronous_standby_names)"
                );
                tracing::warn!(
                    event = "transaction_invisible",
                    reason,
                    "a transaction is not visible yet"
                );
                self.readiness.unready(reason);
                said = true;
            }
            if self.slot_check.take() {
                return Err(Error::Nudged);
            }
            // Earlier transactions are not held up.
            self.flush(stop)?;
            pause(PAUSE, stop);
        }
        if said {
            tracing::info!(event = "transaction_visible", xid, "the transaction is visible");
            self.readiness.ready();
        }
        Ok(())
    }
}
