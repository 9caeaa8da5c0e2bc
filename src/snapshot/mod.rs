//! Snapshots: the rows that match a query now, and where the stream continues them.
//!
//! A [`Seam`] says which transactions the rows hold. The rows are read by a pool's connection as fast as the server
//! gives them, wait in files, and are taken by each client at its own pace; clients that ask for the same query at the
//! same time share one reading.

mod pool;
mod read;
mod rows;
mod seam;
mod spool;
mod statement;
mod take;

pub use read::{Cursor, Next, Rows};
pub use seam::{Seam, Unseen};

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use deadpool::managed::{Object, PoolError};

use crate::fanout::Query;
use crate::journal::History;
use crate::lsn::Lsn;
use crate::postgres::{self, Catalog, ConnInfo, Connection, Publication, Purpose};
use crate::telemetry::Metrics;
use pool::Pool;
use read::Read;
use spool::Budget;

/// Bounds on snapshots, and where they come from.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server that the rows are read from: the primary, or a standby of it.
    pub conninfo: ConnInfo,
    /// The primary.
    pub primary: ConnInfo,
    /// The publications: rows that they leave out are left out here.
    pub publications: Vec<Publication>,
    /// How many are read at the same moment.
    pub max_connections: usize,
    /// How much may be kept on disk of what clients have not taken yet, in bytes.
    pub max_bytes: u64,
    /// Rows beyond this fail the snapshot, in bytes.
    pub max_row_bytes: usize,
    /// About how large a message with rows grows, in bytes.
    pub max_frame_bytes: usize,
    /// Where it is kept.
    pub dir: PathBuf,
}

/// Why the rows cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refuses, or cannot be reached.
    #[error("the rows cannot be read")]
    Postgres(#[from] postgres::Error),
    /// What was read cannot be kept.
    #[error("the rows cannot be kept on disk")]
    Spool(#[source] std::io::Error),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] crate::journal::Error),
    /// Too many wait already.
    #[error("{MAX_WAITING} snapshots wait to be read already")]
    Busy,
    /// The table is another than it was when the subscription was checked.
    #[error("the table was changed meanwhile")]
    TableChanged,
    /// The table is in none of the publications any more.
    #[error("the table is not published any more")]
    Unpublished,
    /// The predicate does not fit the table.
    #[error("the predicate does not fit the table")]
    Predicate(#[source] crate::filter::Error),
    /// The rows would not be of the history that the stream continues.
    #[error("the server of --snapshot-url is not of this history: {0}")]
    OtherHistory(String),
    /// The standby has not come far enough.
    #[error(
        "the standby of --snapshot-url has replayed up to {replayed} after {waited:?}, and not yet {wanted}"
    )]
    Behind {
        /// How far it has come.
        replayed: Lsn,
        /// How far it was to come.
        wanted: Lsn,
        /// How long that was waited for.
        waited: Duration,
    },
    /// The place where the stream would continue could not be told.
    #[error("where the stream continues could not be told; try again")]
    Unsettled,
    /// Nobody waits any more.
    #[error("nobody waits for it")]
    Abandoned,
}

/// How many readings may wait for a connection.
const MAX_WAITING: usize = 1_000;
/// How often the primary is asked to write what a snapshot waits for, at most.
const NUDGE_INTERVAL: Duration = Duration::from_secs(1);

/// Reads snapshots.
pub struct Snapshots<H: History> {
    history: H,
    options: Options,
    unseen: Arc<Unseen>,
    pool: Pool,
    budget: Arc<Budget>,
    waiting: AtomicUsize,
    reads: Mutex<HashMap<Arc<Query>, Weak<Read>>>,
    /// Asked whether a table is still what it was.
    catalog: Mutex<Catalog>,
    nudged: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
}

impl<H: History> std::fmt::Debug for Snapshots<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<H: History> Snapshots<H> {
    /// Snapshots beside `history`, of whose transactions `unseen` knows which may not be seen yet.
    pub fn new(
        history: H,
        unseen: Arc<Unseen>,
        options: Options,
        metrics: Arc<Metrics>,
    ) -> Arc<Snapshots<H>> {
        Arc::new(Snapshots {
            pool: pool::new(&options),
            budget: Budget::new(options.max_bytes),
            catalog: Mutex::new(Catalog::new(options.conninfo.clone())),
            history,
            options,
            unseen,
            waiting: AtomicUsize::new(0),
            reads: Mutex::default(),
            nudged: Mutex::default(),
            metrics,
        })
    }

    /// The rows of a query, which was told of its table: by a reading that is under way, or by one that begins when a
    /// connection is free.
    pub fn open(self: &Arc<Self>, query: &Arc<Query>) -> Result<Cursor, Error> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        // As the same query of a table that was another then is not the same.
        let same = reads
            .get_key_value(query)
            .filter(|(known, _)| known.relation() == query.relation());
        if let Some(cursor) = same
            .and_then(|(_, read)| read.upgrade())
            .and_then(|read| read.join(&self.history.epoch()))
        {
            self.metrics.snapshots_shared.inc();
            return Ok(cursor);
        }
        if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            return Err(Error::Busy);
        }
        let (read, cursor) = Read::new();
        if reads.len() >= 2 * self.options.max_connections {
            reads.retain(|_, read| read.strong_count() > 0);
        }
        // The key is the newest query's, which insert alone would not replace.
        reads.remove(query);
        reads.insert(Arc::clone(query), Arc::downgrade(&read));
        drop(reads);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.metrics.snapshots.inc();
        self.metrics.snapshots_waiting.inc();
        let (this, query) = (Arc::clone(self), Arc::clone(query));
        tokio::spawn(async move { this.run(read, query).await });
        Ok(cursor)
    }

    /// One reading, once a connection is free.
    async fn run(self: Arc<Self>, read: Arc<Read>, query: Arc<Query>) {
        let connection = self.pool.get().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.metrics.snapshots_waiting.dec();
        let connection = match connection {
            Ok(connection) => connection,
            Err(PoolError::Backend(error)) => return read.end(Err(error.into())),
            Err(_) => return read.end(Err(Error::Unsettled)),
        };
        let ended = Arc::clone(&read);
        let this = Arc::clone(&self);
        let reading = tokio::task::spawn_blocking(move || this.read(&read, &query, connection));
        if reading.await.is_err() {
            tracing::error!("reading a snapshot panicked");
            ended.end(Err(Error::Unsettled));
        }
        self.metrics.snapshot_bytes.set(self.budget.used());
    }

    /// Reads on a connection, which is of use to others afterwards unless it failed or was cancelled. Blocking.
    fn read(&self, read: &Read, query: &Query, mut connection: Object<pool::Connections>) {
        self.metrics.snapshots_reading.inc();
        let done = self.read_on(read, query, &mut connection);
        let released = connection.query("ROLLBACK");
        if done.is_err() || released.is_err() {
            drop(Object::take(connection));
        }
        self.metrics.snapshots_reading.dec();
        read.end(done);
    }

    /// Sees to it that the primary writes what it has made ready, and so the history comes to where a snapshot waits for
    /// it: on a database where nothing else happens that may be long.
    pub fn nudge(self: &Arc<Self>) {
        let mut nudged = self.nudged.lock().unwrap_or_else(PoisonError::into_inner);
        if nudged.is_some_and(|at| at.elapsed() < NUDGE_INTERVAL) {
            return;
        }
        *nudged = Some(Instant::now());
        drop(nudged);
        let conninfo = self.options.primary.clone();
        tokio::task::spawn_blocking(move || {
            let asked = Connection::connect(&conninfo, Purpose::Query).and_then(|mut connection| {
                connection.query(statement::NUDGE)?;
                connection.close();
                Ok(())
            });
            if let Err(error) = asked {
                tracing::debug!(
                    error = crate::telemetry::chain(&error),
                    "the primary was not asked to write"
                );
            }
        });
    }

    /// Closes connections that were not used for a while.
    pub fn tidy(&self) {
        self.pool.retain(|_, metrics| metrics.last_used() < pool::IDLE);
        self.metrics.snapshot_bytes.set(self.budget.used());
    }
}
