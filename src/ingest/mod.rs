//! Ingest: from the replication stream into the journal, and back to Postgres what the journal holds.
//!
//! It runs on a thread of its own, which reads, decodes and appends; a second one confirms. Whatever goes wrong with
//! the connection, it starts again at the journal's head, for ever. Only a journal that failed ends it.

mod composites;
mod confirm;
mod continuity;
mod incoming;
mod oversize;
mod stream;
mod trouble;
mod visible;
mod wal2json;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::decode;
use crate::health::Readiness;
use crate::journal::{self, Append, History, Identity};
use crate::lsn::Lsn;
use crate::postgres::{
    self, ConnInfo, Connection, Plugin, Publication, Purpose, ReplicationStream, SlotName, StartReplication,
};
use crate::snapshot::Unseen;
use crate::tables::{DescribeError, Tables};
use crate::telemetry::{Metrics, chain};
use continuity::{Ours, Theirs};
use trouble::Trouble;

/// What to read.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub conninfo: ConnInfo,
    /// The slot.
    pub slot: SlotName,
    /// What the slot decodes by.
    pub plugin: Plugin,
    /// Whether to make the slot if there is none.
    pub create_slot: bool,
    /// The publications.
    pub publications: Vec<Publication>,
    /// Where transactions that still run are kept.
    pub spool_dir: PathBuf,
    /// Whether large transactions are sent while they still run.
    pub streaming: bool,
    /// How much is kept of transactions that still run. Beyond it they are left to the server for a while.
    pub max_spool_bytes: u64,
    /// The prefixes of logical messages that can be subscribed to.
    pub messages: Vec<String>,
    /// Rows of more bytes than this are journaled without their large values.
    pub max_row_bytes: usize,
}

/// Why the stream ended, or could not begin.
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
    /// The journal does not take what came.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// Transactions that still run cannot be kept, or what is kept of them cannot be read.
    #[error("cannot keep transactions that still run")]
    Spool(#[source] journal::Error),
    /// There is no space for the journal as long as transactions that still run take some.
    #[error("transactions that still run leave no space for the journal")]
    SpaceTaken(#[source] journal::Error),
    /// Transactions that still run are larger than is allowed.
    #[error("transactions that still run take more than --max-spool-bytes ({0} bytes)")]
    SpoolBound(u64),
    /// A table that the stream describes cannot be taken.
    #[error(transparent)]
    Table(#[from] DescribeError),
    /// The slot is not there, or not usable.
    #[error("{0}")]
    Slot(String),
    /// The server is another one than the journal is of.
    #[error("the server is {found}, the journal is of {expected}")]
    OtherServer {
        /// What the connection leads to.
        found: String,
        /// What the journal holds.
        expected: String,
    },
    /// walcast stops while it waits for a transaction that the database does not show yet.
    #[error("the transaction {0} is not visible yet")]
    Invisible(u32),
    /// A table has another name than the stream calls it by.
    #[error("a table was renamed without a word in the stream")]
    Renamed,
    /// The server shuts down.
    #[error("the server is shutting down")]
    ServerShutdown,
}

impl Error {
    /// Whether trying again cannot help: the journal has failed, and must be opened anew.
    fn is_fatal(&self) -> bool {
        use journal::Error::{Full, NotAfter};
        matches!(self, Error::Journal(error) if !matches!(error, Full { .. } | NotAfter { .. }))
    }

    /// Whether it does not come again if transactions are sent after their commit only.
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
    /// How often the server wants to hear from us at least.
    status_interval: Duration,
    /// Whether the database's encoding is UTF8.
    is_utf8: bool,
}

/// The ingest loop and what it owns.
pub struct Ingest<W: Append, H: History> {
    options: Options,
    writer: W,
    journal: H,
    /// What snapshots may not see of what is journaled.
    unseen: Arc<Unseen>,
    tables: Arc<Tables>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    /// Whether wal2json is asked for exact numbers: until it refuses.
    exact_numbers: bool,
    /// Until when transactions are not asked for while they still run: there was no room for them.
    unstreamed_until: Option<Instant>,
    /// Whether something is kept of transactions that still run, or of one that is just read back.
    spooling: bool,
    trouble: Trouble,
}

/// The first pause after a failure; each further one doubles it.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A connection that held for so long was a good one.
const GOOD_CONNECTION: Duration = Duration::from_secs(10);
/// How long large transactions are left to the server once there was no room for them.
const UNSTREAMED: Duration = Duration::from_secs(10 * 60);
/// How long the journal gets to sync when walcast stops.
const FINAL_SYNC: Duration = Duration::from_secs(10);
/// How long the server gets to end the stream when walcast stops.
const FINISH: Duration = Duration::from_secs(2);

impl<W: Append, H: History> Ingest<W, H> {
    /// An ingest into `writer`'s journal.
    pub fn new(
        options: Options,
        (writer, journal): (W, H),
        unseen: Arc<Unseen>,
        tables: Arc<Tables>,
        metrics: Arc<Metrics>,
        readiness: Readiness,
    ) -> Ingest<W, H> {
        Ingest {
            options,
            writer,
            journal,
            unseen,
            tables,
            metrics,
            readiness,
            exact_numbers: true,
            unstreamed_until: None,
            spooling: false,
            trouble: Trouble::default(),
        }
    }

    /// Reads until `stop`, then syncs, confirms and says goodbye.
    ///
    /// # Errors
    /// The journal failed.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), Error> {
        let mut backoff = MIN_BACKOFF;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let started = self.connect(stop);
            let has_begun = started.is_ok();
            let ended = started.and_then(|stream| self.stream(stream, stop));
            self.metrics.replication_up.set(0);
            let Err(error) = ended else { break };
            self.writer.rollback()?;
            if error.is_fatal() {
                return Err(error);
            }
            if matches!(error, Error::Renamed) {
                tracing::info!(reason = %error, "reading the stream anew");
                continue;
            }
            if error.is_of_spools() {
                self.leave_to_the_server(&error);
                continue;
            }
            if began.elapsed() >= GOOD_CONNECTION {
                backoff = MIN_BACKOFF;
            }
            // Once per change of state, not once per try.
            if let Some((reason, cure)) = self.trouble.because(&error, has_begun, &self.options.slot) {
                let cure = cure.map(|cure| cure.to_string());
                tracing::warn!(error = reason, cure, "replication interrupted; trying again");
                let cure = cure.map(|cure| format!(": {cure}"));
                self.readiness.unready(format!(
                    "replication interrupted: {reason}{}",
                    cure.unwrap_or_default()
                ));
            }
            pause(backoff.mul_f64(0.5 + fastrand::f64() / 2.0), stop);
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
        self.writer.flush()?;
        self.journal.sync_now(FINAL_SYNC)?;
        Ok(())
    }

    /// Connects, makes sure that the history continues, and starts the stream at the journal's head.
    fn connect(&mut self, stop: &CancellationToken) -> Result<Started, Error> {
        let mut connection = Connection::connect(&self.options.conninfo, Purpose::Replication)?;
        let (identity, written) = identify(&mut connection, &self.options.slot)?;
        let expected = self.journal.identity();
        if !identity.is_of(&expected) {
            return Err(Error::OtherServer {
                found: identity.to_string(),
                expected: expected.to_string(),
            });
        }
        let confirmed = self.slot(&mut connection, stop)?;
        self.settle(&mut connection, identity, confirmed, written)?;
        let start = self.start();
        let status_interval = status_interval(&mut connection)?;
        let is_utf8 = connection.parameter("server_encoding") == Some("UTF8");
        let stream = match connection.start_replication(&start) {
            Err(error) if self.exact_numbers && postgres::is_refused_option(&error) => {
                self.exact_numbers = false;
                tracing::warn!(
                    "this wal2json is older than version 2.6: NaN and the infinities of numbers are delivered as null"
                );
                return self.connect(stop);
            }
            started => started?,
        };
        self.trouble.begins(start.from, written);
        self.metrics.replication_connects.inc();
        Ok(Started {
            stream,
            status_interval,
            is_utf8,
        })
    }

    /// The stream from the journal's head.
    fn start(&self) -> StartReplication {
        let (slot, head) = (self.options.slot.clone(), self.journal.head());
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

    /// Whether to ask for transactions while they still run.
    fn streams(&self) -> bool {
        let is_over = |until| Instant::now() >= until;
        self.options.streaming && self.unstreamed_until.is_none_or(is_over)
    }

    /// Notes that there is no room for transactions that still run. What was kept of them is gone by now, and its space
    /// free: the server has them all, and keeps them on its own disk while it is not asked for them.
    fn leave_to_the_server(&mut self, error: &Error) {
        self.unstreamed_until = Some(Instant::now() + UNSTREAMED);
        self.metrics.spool_overflows.inc();
        tracing::warn!(
            error = chain(error),
            "no room for a large transaction that still runs: it and others like it are read after their commit, and \
             hold up what commits behind them; for more room, free space on the disk of --data-dir or raise \
             --max-spool-bytes. Nothing is lost. The next connection after ten minutes, or a restart, tries again"
        );
    }

    /// Says that changes flow, once the stream has come past what may have broken it. `received` is how far it has come.
    fn note_progress(&mut self, received: Lsn) {
        if !self.trouble.is_over(received, self.writer.head()) {
            return;
        }
        let (slot, epoch) = (&self.options.slot, self.journal.epoch());
        tracing::info!(position = %self.writer.head(), %slot, %epoch, "streaming");
        self.metrics.replication_up.set(1);
        self.readiness.ready();
    }

    /// The slot's confirmed position; the slot is made if there is none and that was asked for.
    fn slot(&self, connection: &mut Connection, stop: &CancellationToken) -> Result<Lsn, Error> {
        let (name, plugin) = (&self.options.slot, self.options.plugin.as_str());
        let Some(state) = connection.slot(name)? else {
            if !self.options.create_slot {
                let cure =
                    format!("use --create-slot, or SELECT pg_create_logical_replication_slot(…, '{plugin}')");
                return Err(Error::Slot(format!(
                    "there is no replication slot {name}: {cure}"
                )));
            }
            tracing::info!(slot = %name, "creating the slot");
            return Ok(connection.create_slot(name, plugin, || !stop.is_cancelled())?);
        };
        // It may have been made anew while we run.
        if state.plugin.as_deref().is_some_and(|found| found != plugin) {
            return Err(Error::Slot(format!(
                "the slot {name} does not decode by {plugin}: drop it, or start with its --plugin"
            )));
        }
        if state.is_lost() {
            let cure = format!("drop it (SELECT pg_drop_replication_slot('{name}')) and let it be made anew");
            return Err(Error::Slot(format!(
                "the slot {name} is lost, the server has removed its WAL: {cure}"
            )));
        }
        state
            .confirmed_flush_lsn
            .ok_or_else(|| Error::Slot(format!("{name} is not a logical slot")))
    }

    fn begin_epoch(&mut self, identity: &Identity, start: Lsn) -> Result<(), Error> {
        self.unseen.clear();
        Ok(self.writer.new_epoch(identity, start)?)
    }

    /// Compares the journal with the slot, and begins a new epoch if one does not continue the other.
    fn settle(
        &mut self,
        connection: &mut Connection,
        identity: Identity,
        confirmed: Lsn,
        written: Lsn,
    ) -> Result<(), Error> {
        let head = self.journal.head();
        if head == Lsn::ZERO {
            return self.begin_epoch(&identity, confirmed);
        }
        let ours = Ours {
            head,
            timeline: self.journal.identity().timeline,
        };
        let switches = connection.timeline_history(identity.timeline)?;
        let theirs = Theirs {
            confirmed,
            written,
            timeline: identity.timeline,
            switches,
        };
        if let Err(broken) = continuity::compare(ours, &theirs) {
            tracing::error!(reason = %broken, start = %confirmed, "the history is broken: a new epoch begins");
            self.metrics.epoch_changes.inc();
            return self.begin_epoch(&identity, confirmed);
        }
        if ours.timeline != identity.timeline {
            self.writer.set_timeline(identity.timeline)?;
        }
        Ok(())
    }
}

/// Which history a replication connection leads to, and how far the server has written it.
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

/// How often the server wants to hear from us at least: a third of its `wal_sender_timeout`.
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

/// Waits, but not beyond `stop`.
fn pause(time: Duration, stop: &CancellationToken) {
    let until = Instant::now() + time;
    while !stop.is_cancelled() && Instant::now() < until {
        thread::sleep(Duration::from_millis(20).min(time));
    }
}
