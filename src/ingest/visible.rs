//! [`Visible`]: the catalogs are asked about a transaction once they show what it did.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Error, Ingest, pause};
use crate::log::{Log, LogWriter, PgSnapshot};
use crate::schema::Tables;

/// The newest snapshot that the catalogs' answers are not older than.
#[derive(Debug, Default)]
pub(super) struct Visible {
    newest: Option<PgSnapshot>,
    /// The number of times that there was a newer one.
    renewed: u64,
}

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// So long the stream waits for a transaction. After that it is asked, again and again, whether the transaction may
/// wait for us: then what follows is received and confirmed first, and then read (see
/// [`Received`](super::received::Received)).
pub(super) const MAX_INVISIBLE: Duration = Duration::from_millis(200);
/// After so long it is said what is waited for.
const SAID_AFTER: Duration = Duration::from_secs(1);

impl Visible {
    /// True if questions asked from here on see the transaction.
    fn sees(&mut self, xid: u32, tables: &Arc<Tables>) -> Result<bool, Error> {
        if self.newest.as_ref().is_some_and(|snapshot| snapshot.sees(xid)) {
            return Ok(true);
        }
        self.renew(tables)?;
        Ok(self.newest.as_ref().is_some_and(|snapshot| snapshot.sees(xid)))
    }

    /// Takes a new snapshot, which shows all that the one before did.
    pub(super) fn renew(&mut self, tables: &Arc<Tables>) -> Result<(), Error> {
        self.newest = Some(tables.snapshot()?);
        self.renewed += 1;
        Ok(())
    }

    /// The number of the newest snapshot, 0 if none was taken: answers from before may be older than a transaction.
    pub(super) fn renewed(&self) -> u64 {
        self.renewed
    }
}

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// Waits until the catalogs show what a transaction did: it is decoded before it is visible. Under synchronous
    /// replication that may be long; nobody has been told that it committed until then.
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
                tracing::warn!(reason, "a transaction is not visible yet");
                self.readiness.unready(reason);
                said = true;
            }
            if self.slot_check.take() {
                return Err(Error::Nudged);
            }
            // What came before it is not held up.
            self.flush(stop)?;
            pause(PAUSE, stop);
        }
        if said {
            tracing::info!(xid, "the transaction is visible");
            self.readiness.ready();
        }
        Ok(())
    }
}
