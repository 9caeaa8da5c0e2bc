//! Ingest: from the replication stream into the journal, and confirmations back to Postgres.
//!
//! It runs on a thread of its own, which reads, decodes and appends; a second one confirms. Whenever the connection
//! fails, it starts again at the journal's head. Only a failed journal ends it.

mod composites;
mod confirm;
mod connect;
mod continuity;
mod drain;
mod failures;
mod frames;
mod incoming;
mod kinds;
mod learn;
mod oversize;
mod progress;
mod received;
mod slot_check;
mod slots;
mod standby;
mod stream;
mod streaming_pause;
mod unsettled;
mod upcoming;
mod verifier;
mod visible;
mod wal2json;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::decode;
use crate::health::Readiness;
use crate::log::{self, Log, LogWriter, PendingVisibility, TableHistory};
use crate::lsn::{Epoch, Lsn};
use crate::postgres::{self, ConnInfo, Plugin, Publication, ReplicationStream, ServerError, SlotName};
use crate::schema::Tables;
use crate::telemetry::{Metrics, chain};
pub use connect::identify;
use failures::FailureTracker;
use received::Received;
pub use slot_check::SlotCheckRequest;
use standby::Sighting;
pub use standby::Standbys;
use streaming_pause::StreamingPause;

/// The slot to read, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub conninfo: ConnInfo,
    /// The slot.
    pub slot: SlotName,
    /// The output plugin of the slot.
    pub plugin: Plugin,
    /// True to create the slot if there never was one.
    pub create_slot: bool,
    /// True to create it again, under a new epoch, if it is lost or gone.
    pub recreate_slot: bool,
    /// The most WAL, in bytes, that the server may keep for the slot. Beyond it the slot is given up.
    pub max_slot_lag: Option<u64>,
    /// The time for which confirmations are held back while a standby waits for the slot, so that it gets the changes
    /// again that its clients may lack.
    pub standby_window: Duration,
    /// The publications.
    pub publications: Vec<Publication>,
    /// The directory in which transactions that still run are kept.
    pub spool_dir: PathBuf,
    /// The directory in which the server's messages are kept while they cannot be decoded yet.
    pub received_dir: PathBuf,
    /// True if large transactions are streamed while they still run.
    pub streaming: bool,
    /// The most that is kept of transactions that still run, in bytes. Beyond it they are left to the server for a
    /// while.
    pub max_spool_bytes: u64,
    /// The prefixes of logical messages that can be subscribed to.
    pub messages: Vec<String>,
    /// Rows of more bytes than this are journaled without their large values.
    pub max_row_bytes: usize,
}

/// The reason why the stream ended, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection, or the server's refusal.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// Bytes that are not pgoutput's.
    #[error("cannot decode the stream")]
    Decode(#[from] decode::pgoutput::Error),
    /// Bytes that are not pgoutput's, or blocks of streamed transactions out of order.
    #[error("cannot decode the stream")]
    Streams(#[from] decode::streams::Error),
    /// Bytes that are not wal2json's, or changes that it must not deliver.
    #[error("cannot translate the stream")]
    Translate(#[from] decode::wal2json::Error),
    /// Messages out of order.
    #[error("the stream is out of order")]
    Order(#[from] decode::assemble::Error),
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] log::Error),
    /// Transactions that still run cannot be kept, or what is kept of them cannot be read.
    #[error("cannot keep transactions that still run")]
    Spool(#[source] log::Error),
    /// The journal has no space, and transactions that still run take some.
    #[error("transactions that still run leave no space for the journal")]
    SpaceTaken(#[source] log::Error),
    /// Transactions that still run are larger than is allowed.
    #[error("transactions that still run take more than --max-spool-bytes ({0} bytes)")]
    SpoolBound(u64),
    /// A transaction that came while it ran holds logical messages of which the stream does not say whether they were
    /// rolled back.
    #[error("the transaction {xid} holds messages that may have been rolled back")]
    Doubtful {
        /// The transaction.
        xid: u32,
        /// Its end.
        end: Lsn,
    },
    /// The transaction that had to be read after its commit is done, so streaming can begin again.
    #[error("large transactions can be streamed again")]
    Streamable,
    /// The slot is not there, or not usable.
    #[error("{0}")]
    Slot(String),
    /// The slot that was read is lost or gone: changes may be lost.
    #[error("{0}")]
    SlotGone(String),
    /// The server left out changes because a publication does not exist.
    #[error("{0}")]
    PassedOver(Box<ServerError>),
    /// The slot is to be looked at.
    #[error("the slot is to be looked at")]
    Nudged,
    /// walcast stops.
    #[error("walcast is stopping")]
    Stopped,
    /// The server is not the one that the journal belongs to.
    #[error(
        "the server is {found}, the journal is of {expected}: connect to that one, or use another --data-dir"
    )]
    OtherServer {
        /// The identity of the server.
        found: String,
        /// The identity of the journal.
        expected: String,
    },
    /// walcast stops while it waits for a transaction that the database does not show yet.
    #[error("the transaction {0} is not visible yet")]
    Invisible(u32),
    /// A transaction is not visible yet, perhaps because it waits for us to confirm it.
    #[error("the transaction {0} is not visible yet: receiving and confirming first what is read once it is")]
    Unconfirmed(u32),
    /// A transaction cannot end where its message says that it does.
    #[error(
        "a transaction whose commit record is at {start} cannot end at {end}, in a frame that ends at {wal_end}: it was \
         garbled on its way"
    )]
    End {
        /// The start of its commit record.
        start: Lsn,
        /// The end that is claimed.
        end: Lsn,
        /// The position in the frame.
        wal_end: Lsn,
    },
    /// The server named a position that it has not written yet.
    #[error(
        "a message names the position {claimed}, but the server has written only up to {written}: it was garbled on its \
         way, or the hosts of --database-url are servers with different histories"
    )]
    Unwritten {
        /// The position.
        claimed: Lsn,
        /// The position up to which the server had really written.
        written: Lsn,
    },
    /// The received log cannot be read back.
    #[error("what was received cannot be read back: {0}")]
    Unreadable(&'static str),
    /// The received log cannot be read back.
    #[error("what was received cannot be read back")]
    Malformed(#[from] log::Malformed),
    /// A table has another name than in the stream, or its partitions log other columns than was known.
    #[error("a table was renamed, or its partitions changed, without a word in the stream")]
    Renamed,
    /// The server shuts down.
    #[error("the server is shutting down")]
    ServerShutdown,
    /// The server shuts down, and would wait for a journal that cannot be written or synced.
    #[error(
        "the server is shutting down, and the disk of --data-dir has been full, or not synced, for seconds: letting \
         the server go"
    )]
    Undrained,
}

impl Error {
    /// True if trying again cannot help: the journal has failed, and must be opened again, or the slot is gone.
    fn is_fatal(&self) -> bool {
        use log::Error::{Full, NotAfter};
        match self {
            Error::Journal(error) => !matches!(error, Full { .. } | NotAfter { .. }),
            Error::SlotGone(_) => true,
            _ => false,
        }
    }

    /// True if the system has run out of file descriptors.
    fn is_exhaustion(&self) -> bool {
        match self {
            Error::Postgres(error) => error.is_exhaustion(),
            _ => false,
        }
    }

    /// True if another process was faster to take the slot.
    fn is_taken(&self) -> bool {
        matches!(self, Error::Postgres(error) if error.sqlstate() == Some("55006"))
    }

    /// True if the server itself ended the stream, perhaps at a change that it can never get past.
    fn is_of_the_server(&self) -> bool {
        match self {
            Error::Postgres(error) => error.sqlstate().is_some(),
            Error::PassedOver(_) => true,
            _ => false,
        }
    }

    /// True if what was received cannot be read, however often it is tried.
    fn is_about_what_was_received(&self) -> bool {
        matches!(
            self,
            Error::Decode(_)
                | Error::Streams(_)
                | Error::Translate(_)
                | Error::Order(_)
                | Error::Unreadable(_)
                | Error::Malformed(_)
        )
    }

    /// True for errors that do not occur if transactions are sent only after their commit.
    fn is_of_spools(&self) -> bool {
        matches!(
            self,
            Error::Spool(_) | Error::SpaceTaken(_) | Error::SpoolBound(_)
        )
    }
}

/// A stream that has begun.
struct Started {
    stream: ReplicationStream,
    /// The longest interval at which the server wants to hear from us.
    status_interval: Duration,
    /// True if the database's encoding is UTF8.
    is_utf8: bool,
    /// The position up to which the slot is confirmed.
    confirmed: Lsn,
    /// The position up to which the server had written.
    written: Lsn,
    /// True if the stream is received and confirmed before it is decoded.
    receives_first: bool,
}

/// The ingest loop and what it owns.
pub struct Ingest<W: LogWriter, H: Log> {
    options: Arc<Options>,
    slot_check: SlotCheckRequest,
    /// The standbys that wait to take the slot over.
    standbys: Standbys,
    writer: W,
    journal: H,
    /// The journaled transactions that snapshots may not see.
    pending_visibility: Arc<PendingVisibility>,
    tables: Arc<Tables>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    /// True until wal2json has refused the option for exact numbers.
    exact_numbers: bool,
    /// The pause in which large transactions are read only after their commit.
    streaming_pause: StreamingPause,
    /// True while something is kept of transactions in progress, or of one that is being read back.
    spooling: bool,
    /// The messages that were received and cannot be decoded yet.
    received: Received,
    /// True if the stream is received and confirmed before it is decoded.
    receives_first: bool,
    /// True if `synchronous_standby_names` includes us.
    is_synchronous: bool,
    failures: FailureTracker,
    /// The last server process of ours that read the slot.
    own_pid: u32,
    /// The last other reader of the slot.
    sighting: Option<Sighting>,
    /// The names of the tables in that reader's history.
    sighted_names: Option<(Epoch, TableHistory)>,
}

/// The first pause after a failure. Each further one doubles it, unless the stream made progress in between.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// The time after which a connection counts as good.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);
/// The time that the journal gets to sync when walcast stops.
const FINAL_SYNC: Duration = Duration::from_secs(10);
/// The time that the server gets to end the stream when walcast stops.
const FINISH: Duration = Duration::from_secs(2);

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// An ingest loop that writes to `writer`'s journal.
    pub fn new(
        options: Arc<Options>,
        writer: W,
        journal: H,
        pending_visibility: Arc<PendingVisibility>,
        tables: Arc<Tables>,
        metrics: Arc<Metrics>,
        readiness: Readiness,
    ) -> Ingest<W, H> {
        Ingest {
            received: Received::new(options.received_dir.clone()),
            receives_first: false,
            is_synchronous: false,
            slot_check: SlotCheckRequest::default(),
            standbys: Standbys::none(options.standby_window),
            options,
            writer,
            journal,
            pending_visibility,
            tables,
            metrics,
            readiness,
            exact_numbers: true,
            streaming_pause: StreamingPause::default(),
            spooling: false,
            failures: FailureTracker::default(),
            own_pid: 0,
            sighting: None,
            sighted_names: None,
        }
    }

    /// The handle that makes it check its slot.
    pub fn slot_check(&self) -> SlotCheckRequest {
        self.slot_check.clone()
    }

    /// The standbys that wait to take the slot over.
    pub fn standbys(&self) -> Standbys {
        self.standbys.clone()
    }

    /// Reads until `stop`, then syncs, confirms and ends the stream.
    ///
    /// # Errors
    /// The journal failed, or the slot is gone and not to be created again.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), Error> {
        let mut backoff = MIN_BACKOFF;
        let mut failed_at = Lsn::ZERO;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let (has_begun, ended) = self.session(stop);
            self.metrics.replication_up.set(0);
            let Err(error) = ended else { break };
            self.writer.rollback()?;
            if error.is_fatal() {
                return Err(error);
            }
            if stop.is_cancelled() {
                break;
            }
            if matches!(error, Error::Renamed | Error::Nudged | Error::Streamable) {
                tracing::info!(event = "stream_restarted", reason = %error, "starting the stream again");
                continue;
            }
            if matches!(error, Error::Unconfirmed(_)) {
                tracing::info!(event = "stream_restarted", reason = %error, "starting the stream again");
                self.received.use_for_a_while();
                continue;
            }
            if error.is_taken() {
                pause(MIN_BACKOFF, stop);
                continue;
            }
            if error.is_of_spools() {
                self.leave_to_the_server(&error);
                continue;
            }
            if let Error::Doubtful { xid, end } = error {
                self.read_again(xid, end);
                continue;
            }
            let head = self.writer.head();
            let slot = &self.options.slot;
            if head > failed_at || began.elapsed() >= GOOD_CONNECTION {
                backoff = MIN_BACKOFF;
            }
            failed_at = head;
            // Logged once per change of state, not once per attempt.
            let said = self.failures.because(&error, has_begun, head, slot);
            self.metrics
                .replication_stuck
                .set(self.failures.is_stuck().into());
            if let Some((reason, cure)) = said {
                let cure = cure.map(|cure| cure.to_string());
                tracing::warn!(
                    event = "replication_interrupted",
                    error = reason,
                    cure,
                    "replication interrupted; trying again"
                );
                let cure = cure.map(|cure| format!(": {cure}"));
                self.readiness.unready(format!(
                    "replication interrupted: {reason}{}",
                    cure.unwrap_or_default()
                ));
            }
            pause(backoff.mul_f64(0.5 + fastrand::f64() / 2.0), stop);
            // The attempt to connect has already waited for a file descriptor.
            let most = if error.is_exhaustion() {
                MIN_BACKOFF
            } else {
                MAX_BACKOFF
            };
            backoff = (backoff * 2).min(most);
        }
        self.gather_found()?;
        self.writer.flush()?;
        self.journal.sync_now(FINAL_SYNC)?;
        Ok(())
    }

    /// Reads one connection to its end. True if a stream began on it.
    fn session(&mut self, stop: &CancellationToken) -> (bool, Result<(), Error>) {
        let span = self.metrics.traces.root("replication");
        span.say("walcast.slot", &self.options.slot);
        let ended = span.enter(|| {
            let connecting = span.part("replication connect");
            let started = connecting.enter(|| self.note_found().and_then(|()| self.connect(stop)));
            if let Err(error) = &started {
                connecting.failed(error.kind());
            }
            drop(connecting);
            span.say("walcast.lsn", &self.writer.head());
            (
                started.is_ok(),
                started.and_then(|stream| self.stream(stream, stop)),
            )
        });
        if let (_, Err(error)) = &ended {
            span.failed(error.kind());
        }
        ended
    }

    /// Notes that there is no room for transactions in progress. Their files are gone by now, and the server, which has
    /// all of them, keeps them on its own disk.
    fn leave_to_the_server(&mut self, error: &Error) {
        self.streaming_pause.for_a_while(Instant::now());
        self.metrics.spool_overflows.inc();
        tracing::warn!(
            event = "spool_overflow",
            error = chain(error),
            "no room for a large transaction that still runs: it and others like it are read after their commit, and \
             hold up what commits behind them; for more room, free space on the disk of --data-dir or raise \
             --max-spool-bytes. Nothing is lost. The next connection after ten minutes, or a restart, tries again"
        );
    }

    /// Has a committed transaction sent again, up to its `end`, as a whole and without what was rolled back.
    fn read_again(&mut self, xid: u32, end: Lsn) {
        self.streaming_pause.past(end, Instant::now());
        self.metrics.transactions_reread.inc();
        tracing::info!(
            event = "transaction_reread",
            xid,
            "a large transaction with logical messages rolled a savepoint back, and the stream does not say which of the \
             messages went with it: it is read again after its commit"
        );
    }

    /// Updates the metrics, and logs that changes flow again once the stream has passed the change that may have broken
    /// it. `received` is the position up to which it has come.
    fn note_progress(&mut self, received: Lsn) {
        self.metrics
            .catalog_questions
            .inc_by(self.tables.take_questions());
        if !self.failures.is_over(received, self.writer.head()) {
            return;
        }
        let slot = &self.options.slot;
        let epoch = self.journal.epoch();
        tracing::info!(event = "streaming", position = %self.writer.head(), %slot, %epoch, "streaming");
        self.metrics.replication_up.set(1);
        self.metrics.replication_stuck.set(0);
        self.readiness.ready();
    }
}

/// Waits, or returns early at `stop`.
fn pause(time: Duration, stop: &CancellationToken) {
    let until = Instant::now() + time;
    while !stop.is_cancelled() && Instant::now() < until {
        thread::sleep(Duration::from_millis(20).min(time));
    }
}
