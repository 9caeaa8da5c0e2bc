//! Snapshots: the rows that match a query now, and the place from which the stream continues them.
//!
//! A [`SnapshotBoundary`](crate::log::SnapshotBoundary) says which transactions the rows hold. The rows are read on a
//! connection of a pool as fast as the server sends them, are kept in files, and are taken by each client at its own
//! pace. Clients that ask for the same query at the same time share one read.

mod disk;
mod pool;
mod queue;
mod read;
mod rights;
mod rows;
mod shown;
mod spool;
mod statement;
mod take;

pub use read::{Cursor, Next, Rows};
pub use rights::Denied;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use deadpool::managed::{Object, PoolError};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::event::Relation;
use crate::log::{Log, PendingVisibility};
use crate::lsn::Lsn;
use crate::matching::{Query, QueryKey};
use crate::postgres::{self, Catalog, ConnInfo, Connection, Publication, Purpose};
use crate::telemetry::traces::Span;
use crate::telemetry::{Metrics, in_this_span};
use pool::Pool;
use queue::Queue;
use read::{Read, Turn};
use spool::Budget;
use tracing::Instrument as _;

/// The source of snapshots, and bounds on them.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server that the rows are read from: the primary, or a standby of it.
    pub conninfo: ConnInfo,
    /// The primary.
    pub primary: ConnInfo,
    /// The publications, whose row filters apply to snapshots too.
    pub publications: Vec<Publication>,
    /// The most snapshots that are read at the same time.
    pub max_connections: usize,
    /// The time that reading one may take at the server, from its snapshot to its last row.
    pub timeout: Duration,
    /// The most that is kept on disk until clients have taken it, in bytes.
    pub max_bytes: u64,
    /// The largest row, in bytes of its selected values' text. A larger one fails the snapshot.
    pub max_row_bytes: usize,
    /// About how large a message with rows may be, in bytes.
    pub max_frame_bytes: usize,
    /// The directory for the rows that are kept.
    pub dir: PathBuf,
}

/// The reason why the rows cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refuses, or cannot be reached.
    #[error("the rows cannot be read")]
    Postgres(#[from] postgres::Error),
    /// The rows cannot be kept on disk.
    #[error("the rows cannot be kept on disk")]
    Spool(#[source] std::io::Error),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] crate::log::Error),
    /// Too many requests wait already.
    #[error("{MAX_WAITING} snapshots wait to be read already")]
    Busy,
    /// It gave up its connection: all were busy for long, and others waited.
    #[error(
        "all --max-snapshots connections have been busy for long, and others wait for one: try again later"
    )]
    GivenWay,
    /// It took too long at the server, or its clients took too long to take it.
    #[error("the rows were not read, or not taken, within {0:?} (--snapshot-timeout)")]
    TimedOut(Duration),
    /// The role may not read the table.
    #[error("{0}")]
    Denied(Denied),
    /// The server does not take a value of the predicate.
    #[error("the server does not take a value of the predicate")]
    Values(#[source] postgres::Error),

    /// A row of the result is larger than one may be.
    #[error(
        "a row of the result is larger than the {0} bytes that this server sends (--max-row-bytes): leave it out by \"where\", or \
         its large columns by \"columns\""
    )]
    RowTooLarge(usize),
    /// The table was locked for too long.
    #[error(
        "the table, a partition of it or an index has been locked for long (as by ALTER TABLE, TRUNCATE or REINDEX)"
    )]
    Locked,
    /// The table has changed since the subscription was checked.
    #[error("the table was changed meanwhile")]
    TableChanged,
    /// The table is no longer in any of the publications.
    #[error("the table is not published any more")]
    Unpublished,
    /// The predicate does not fit the table.
    #[error("the predicate does not fit the table")]
    Predicate(#[source] crate::filter::Error),
    /// The predicate fails for a row, of which the database was not asked.
    #[error("the predicate fails for a row")]
    Fails,
    /// The server is not of the same history as the stream.
    #[error("the server of --snapshot-url is not of this history: {0}")]
    OtherHistory(String),
    /// The standby lags too far behind.
    #[error(
        "the standby of --snapshot-url has replayed up to {replayed} after {waited:?}, and not yet {wanted}"
    )]
    Behind {
        /// The position that it has reached.
        replayed: Lsn,
        /// The position that it was to reach.
        wanted: Lsn,
        /// The time that was waited.
        waited: Duration,
    },
    /// The place where the stream continues could not be determined.
    #[error("the place where the stream continues could not be determined; try again")]
    Unsettled,
    /// No client waits for it any more.
    #[error("nobody waits for it")]
    Abandoned,
}

/// The most requests that may wait for a connection. The first request of an owner may exceed it.
const MAX_WAITING: usize = 1_000;
/// The least time between two searches of a full queue for requests that nobody waits for any more.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// The least time between two requests to the primary to flush its WAL.
const WAL_FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// SQLSTATE: the role may not do that.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

impl Error {
    /// True if the connection is of no further use.
    fn is_fatal(&self) -> bool {
        match self {
            Error::Postgres(error) | Error::Values(error) => error.is_fatal(),
            _ => false,
        }
    }

    /// The kind of error as a trace has it: without the words of a server, which may repeat values of rows.
    fn kind(&self) -> &'static str {
        match self {
            Error::Postgres(_) => "postgres",
            Error::Denied(_) => "denied",
            Error::Locked => "locked",
            Error::TimedOut(_) => "timed_out",
            Error::GivenWay => "gives_way",
            Error::Abandoned => "abandoned",
            Error::TableChanged | Error::Unpublished => "table_changed",
            Error::Behind { .. } => "standby_behind",
            _ => "not_read",
        }
    }
}

/// A place among the snapshots that are read at the same time, given back on drop.
struct Place<H: Log> {
    snapshots: Arc<Snapshots<H>>,
    place: queue::Place,
}

impl<H: Log> Place<H> {
    /// True once it has to be given back early.
    fn is_asked_for(&self) -> bool {
        let now = Instant::now();
        self.place.is_long(now)
            && self
                .snapshots
                .queue
                .lock()
                .queue
                .is_asked_for(self.place, now, Request::is_waiting)
    }
}

impl<H: Log> Drop for Place<H> {
    fn drop(&mut self) {
        self.snapshots
            .queue
            .lock()
            .queue
            .give_back(self.place, Instant::now());
    }
}

/// Reads snapshots.
pub struct Snapshots<H: Log> {
    history: H,
    options: Options,
    pending_visibility: Arc<PendingVisibility>,
    pool: Pool,
    budget: Arc<Budget>,
    queue: Mutex<Waiting>,
    reads: Mutex<HashMap<Arc<QueryKey>, Shared>>,
    /// All reads whose rows may be kept.
    all: Mutex<Vec<Weak<Read>>>,
    /// For questions whether a table has changed.
    catalog: Mutex<Catalog>,
    wal_flush_requested_at: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
    /// The threads that it reads on.
    background: Handle,
}

/// A read that requests with the same key may join, as long as their table is the same version.
#[derive(Debug)]
struct Shared {
    relation: Option<Arc<Relation>>,
    read: Weak<Read>,
}

/// The reads that wait for a connection.
#[derive(Debug)]
struct Waiting {
    queue: Queue<Request>,
    swept: Option<Instant>,
}

impl Waiting {
    /// Adds a request.
    fn push(&mut self, owner: u64, read: &Arc<Read>, query: &Arc<Query>) -> Result<(), Error> {
        let request = || {
            let span = Span::here("snapshot");
            Request {
                read: Arc::clone(read),
                query: Arc::clone(query),
                waiting: span.part("snapshot wait"),
                span,
            }
        };
        let pushed = self.queue.push(owner, request(), Request::is_waiting);
        if pushed.is_ok() || self.swept.is_some_and(|at| at.elapsed() < SWEEP_INTERVAL) {
            return pushed.map_err(|_| Error::Busy);
        }
        self.swept = Some(Instant::now());
        self.queue.sweep(Request::is_waiting);
        self.queue
            .push(owner, request(), Request::is_waiting)
            .map_err(|_| Error::Busy)
    }
}

/// A read that waits for its turn.
#[derive(Debug)]
struct Request {
    read: Arc<Read>,
    query: Arc<Query>,
    /// Its part of the trace of the subscription that asked first.
    span: Span,
    waiting: Span,
}

impl Request {
    fn is_waiting(&self) -> bool {
        self.read.is_waiting()
    }
}

impl<H: Log> std::fmt::Debug for Snapshots<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<H: Log> Snapshots<H> {
    /// Snapshots that `history` continues. `pending_visibility` knows which of its transactions may not be visible yet.
    pub fn new(
        history: H,
        pending_visibility: Arc<PendingVisibility>,
        options: Options,
        metrics: Arc<Metrics>,
        background: Handle,
    ) -> Arc<Snapshots<H>> {
        Arc::new(Snapshots {
            pool: pool::new(&options),
            budget: Budget::new(options.max_bytes, &options.dir),
            catalog: Mutex::new(Catalog::new(options.conninfo.clone())),
            queue: Mutex::new(Waiting {
                queue: Queue::new(options.max_connections, MAX_WAITING),
                swept: None,
            }),
            history,
            options,
            pending_visibility,
            reads: Mutex::default(),
            all: Mutex::default(),
            wal_flush_requested_at: Mutex::default(),
            metrics,
            background,
        })
    }

    /// Opens the rows of a query whose client was told its table: by a read that is under way, or by one that begins
    /// when its `owner`, which is a subject or a connection, has its turn.
    ///
    /// # Errors
    /// Too many wait.
    pub fn open(self: &Arc<Self>, query: &Arc<Query>, owner: u64) -> Result<Cursor, Error> {
        let mut reads = self.reads.lock();
        // A read of another version of the table cannot be shared.
        let same = reads
            .get(query.key())
            .filter(|shared| shared.relation.as_ref() == query.relation())
            .and_then(|shared| shared.read.upgrade());
        let joined = same.and_then(|read| Some((read.join(&self.history.epoch())?, read)));
        if let Some((cursor, read)) = joined {
            drop(reads);
            if read.is_waiting() {
                // The client that asked first may have to wait longer for its turn than this one.
                self.queue.lock().push(owner, &read, query)?;
                self.dispatch();
            }
            self.metrics.snapshots_shared.inc();
            return Ok(cursor);
        }
        let (read, cursor) = Read::new();
        self.queue.lock().push(owner, &read, query)?;
        if reads.len() >= 2 * self.options.max_connections {
            reads.retain(|_, shared| shared.read.strong_count() > 0);
        }
        let shared = Shared {
            relation: query.relation().cloned(),
            read: Arc::downgrade(&read),
        };
        reads.insert(Arc::clone(query.key()), shared);
        drop(reads);
        self.all.lock().push(Arc::downgrade(&read));
        self.metrics.snapshots.inc();
        self.dispatch();
        Ok(cursor)
    }

    /// Begins as many reads as there are free places.
    fn dispatch(self: &Arc<Self>) {
        while let Some((place, request)) = self.next() {
            let this = Arc::clone(self);
            let reading = async move {
                this.run(place, request).await;
                this.dispatch();
            };
            self.background.spawn(reading.in_current_span());
        }
    }

    /// The request whose turn it is, with its place.
    fn next(self: &Arc<Self>) -> Option<(Place<H>, Request)> {
        let mut waiting = self.queue.lock();
        let next = loop {
            let Some((place, request)) = waiting.queue.next(Instant::now(), Request::is_waiting) else {
                break None;
            };
            if request.read.start() {
                let snapshots = Arc::clone(self);
                break Some((Place { snapshots, place }, request));
            }
            waiting.queue.give_back(place, Instant::now());
        };
        self.metrics.snapshots_waiting.set(waiting.queue.len() as i64);
        next
    }

    /// Runs one read, whose turn it is.
    async fn run(self: &Arc<Self>, place: Place<H>, request: Request) {
        let Request {
            read,
            query,
            span,
            waiting,
        } = request;
        drop(waiting);
        span.during(self.run_now(place, read, query, &span)).await;
    }

    async fn run_now(self: &Arc<Self>, place: Place<H>, read: Arc<Read>, query: Arc<Query>, span: &Span) {
        let connecting = span.part("snapshot connect");
        let connection = match self.pool.get().await {
            Ok(connection) => connection,
            Err(PoolError::Backend(error)) => return read.end(Err(error.into())),
            Err(_) => return read.end(Err(Error::Unsettled)),
        };
        drop(connecting);
        let ended = Arc::clone(&read);
        let this = Arc::clone(self);
        let read_all = in_this_span(move || this.read(&place, &read, &query, connection));
        let reading = tokio::task::spawn_blocking(read_all);
        if reading.await.is_err() {
            tracing::error!(event = "snapshot_panicked", "reading a snapshot panicked");
            ended.end(Err(Error::Unsettled));
        }
        self.metrics.snapshot_bytes.set(self.budget.used());
    }

    /// Reads on a connection, which is reused afterwards unless it failed or was cancelled. Blocking.
    fn read(&self, place: &Place<H>, read: &Read, query: &Query, mut connection: Object<pool::Connections>) {
        self.metrics.snapshots_reading.inc();
        let span = Span::here("snapshot read");
        let is_asked_for = || place.is_asked_for();
        let turn = Turn::new(read, self.options.timeout, &is_asked_for);
        let done = span.enter(|| self.read_on(&turn, query, &mut connection));
        let released = connection.query("ROLLBACK");
        let done = match done {
            Err(Error::Postgres(error)) if error.sqlstate() == Some(INSUFFICIENT_PRIVILEGE) => {
                Err(self.denied(query, &mut connection, error))
            }
            Err(_) if turn.has_given_way() => Err(Error::GivenWay),
            Err(_) if turn.is_late() => Err(Error::TimedOut(self.options.timeout)),
            done => done,
        };
        // A cancel request may still be on its way, and would hit the next statement.
        if released.is_err() || connection.was_cancelled() || done.as_ref().is_err_and(Error::is_fatal) {
            drop(Object::take(connection));
        }
        self.metrics.snapshots_reading.dec();
        if let Err(error) = &done {
            span.failed(error.kind());
        }
        drop(span);
        read.end(done);
    }

    /// Makes the primary flush its WAL, so that the history reaches the place that a snapshot waits for. On an idle
    /// database that may take long otherwise.
    pub fn request_wal_flush(self: &Arc<Self>) {
        let mut wal_flush_requested_at = self.wal_flush_requested_at.lock();
        if wal_flush_requested_at.is_some_and(|at| at.elapsed() < WAL_FLUSH_INTERVAL) {
            return;
        }
        *wal_flush_requested_at = Some(Instant::now());
        drop(wal_flush_requested_at);
        let conninfo = self.options.primary.clone();
        tokio::task::spawn_blocking(in_this_span(move || {
            let asked = Connection::connect(&conninfo, Purpose::Query).and_then(|mut connection| {
                connection.query(statement::REQUEST_WAL_FLUSH)?;
                connection.close();
                Ok(())
            });
            if let Err(error) = asked {
                tracing::debug!(
                    error = crate::telemetry::chain(&error),
                    "the primary was not asked to write"
                );
            }
        }));
    }

    /// Closes connections that have been idle for a while. On a disk that is nearly full, rows that clients have not
    /// taken yet give way to the journal.
    pub fn tidy(&self) {
        self.pool.retain(|_, metrics| metrics.last_used() < pool::IDLE);
        let mut all = self.all.lock();
        all.retain(|read| read.strong_count() > 0);
        let reads: Vec<Arc<Read>> = all.iter().filter_map(Weak::upgrade).collect();
        drop(all);
        if let Some(lacking) = self.budget.lacking() {
            let kept: Vec<u64> = reads.iter().map(|read| read.kept()).collect();
            for read in disk::giving_way(&kept, lacking)
                .into_iter()
                .filter_map(|place| reads.get(place))
            {
                read.give_way(Error::Spool(disk::no_room()));
            }
        }
        self.metrics.snapshot_bytes.set(self.budget.used());
    }
}
