//! [`serve`]: builds the stages, starts them in the order of the flow, and stops them in order.

mod descriptors;
mod stages;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::Router as Routes;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use self::stages::Stages;
use crate::delivery::{self, ReplayPool, Router};
use crate::health::Readiness;
use crate::http::{self, Gate, Server};
use crate::ingest::{self, Ingest};
use crate::journal::{self, Entry, Journal, Observer, Retention, Writer};
use crate::lsn::{Lsn, Position, Start};
use crate::maintenance::Maintenance;
use crate::postgres::{
    self, ConnInfo, Connection, Finding, Plugin, Publication, Purpose, Requirements, Severity, SlotName,
};
use crate::protocol::ErrorCode;
use crate::schema::Tables;
use crate::session;
use crate::snapshot::{self, PendingVisibility, Snapshots};
use crate::telemetry::{Metrics, chain};

/// All that `serve` needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server and the database.
    pub conninfo: ConnInfo,
    /// The slot to read.
    pub slot: SlotName,
    /// The output plugin of the slot.
    pub plugin: Plugin,
    /// True if to make it if there is none.
    pub create_slot: bool,
    /// True if to make it anew if it is lost or gone.
    pub recreate_slot: bool,
    /// The amount of WAL that the server may keep for it, in bytes.
    pub max_slot_lag: Option<u64>,
    /// The amount that is kept for a standby that takes over.
    pub standby_window: Duration,
    /// The publications to read.
    pub publications: Vec<Publication>,
    /// True if to make missing ones, of all tables.
    pub create_publication: bool,
    /// True if large transactions are read while they still run.
    pub streaming: bool,
    /// The prefixes of logical messages that can be subscribed to.
    pub messages: Vec<String>,
    /// The address that clients connect to.
    pub listen: SocketAddr,
    /// The address that operators and Prometheus connect to.
    pub admin_listen: SocketAddr,
    /// Which web pages may connect.
    pub origins: http::Origins,
    /// Bounds on the clients' listener.
    pub http: http::Options,
    /// The directory of the journal.
    pub data_dir: PathBuf,
    /// The history that it keeps.
    pub retention: Retention,
    /// Rows of more bytes than this are delivered by their key alone.
    pub max_row_bytes: usize,
    /// The amount that is kept of transactions that still run.
    pub max_spool_bytes: u64,
    /// The database that snapshots are read from, and bounds on them.
    pub snapshots: SnapshotConfig,
    /// A segment of the journal is followed by a new one at this size, in bytes.
    pub segment_bytes: u64,
    /// Bounds and habits of sessions.
    pub session: session::Options,
    /// The time that clients get to take their close frames when walcast stops.
    pub drain_timeout: Duration,
}

/// The configuration of snapshots.
#[derive(Clone, Debug)]
pub struct SnapshotConfig {
    /// The server that they are read from.
    pub conninfo: ConnInfo,
    /// The number of those that are read at once.
    pub max_connections: usize,
    /// The time that one may take at the server.
    pub timeout: Duration,
    /// The amount that is kept of what clients have not taken yet, in bytes.
    pub max_bytes: u64,
}

/// Sessions that may read what is kept of snapshots at the same moment; each has a thread meanwhile.
const MAX_SPOOL_READERS: usize = 4;

/// Bounds on the admin listener.
const ADMIN: http::Options = http::Options {
    max_connections: 64,
    handshake_timeout: Duration::from_secs(5),
    send_buffer_bytes: 0,
};

/// Serves until `stop`, or until something fails that cannot be tried again. `page` adds routes to the clients'
/// listener; `bound` hears the addresses of both listeners.
///
/// # Errors
/// What keeps it from starting, or what failed.
pub async fn serve(
    config: Config,
    page: Option<Routes>,
    mut bound: Option<oneshot::Sender<(SocketAddr, SocketAddr)>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    ErrorCode::ALL
        .iter()
        .for_each(|code| metrics.know_error(code.as_str()));
    let descriptors = descriptors::raise();
    let mut stages = Stages::default();
    let readiness = Readiness::not_yet("starting", &stages.clients);
    let front = Server::bind(config.listen, config.http).await;
    let mut front = front.with_context(|| format!("cannot listen on {} (--listen)", config.listen))?;
    let wanted = config.http.max_connections;
    let connections = descriptors::connections(wanted, descriptors, config.snapshots.max_connections);
    if let Some(descriptors) = descriptors.filter(|_| connections < wanted) {
        tracing::warn!(
            "the limit on open files is {descriptors}: at most {connections} connections instead of {wanted} \
             (--max-connections); raise it by LimitNOFILE= in the systemd unit, or ulimit -H -n"
        );
        front.limit_connections(connections);
    }
    let admin = Server::bind(config.admin_listen, ADMIN).await;
    let admin =
        admin.with_context(|| format!("cannot listen on {} (--admin-listen)", config.admin_listen))?;
    let addresses = (front.local_addr()?, admin.local_addr()?);

    stages.serve({
        let routes = http::admin(Arc::clone(&metrics), readiness.clone());
        let (metrics, stop) = (Arc::clone(&metrics), stages.rest.clone());
        endless(async move { admin.run(routes, metrics, stop).await })
    });
    let mut is_announced = false;
    let mut announce = || {
        if !std::mem::replace(&mut is_announced, true) {
            tracing::info!(listen = %addresses.0, admin_listen = %addresses.1, "listening");
            if let Some(bound) = bound.take() {
                // Whoever wanted to know may have stopped waiting.
                let _gone = bound.send(addresses);
            }
        }
    };
    let unready = http::unready(readiness.clone(), Arc::clone(&metrics));
    let prepared = tokio::select! {
        prepared = prepare_once_there(&config, &metrics, &readiness, &mut announce) => Some(prepared?),
        () = front.run(unready, Arc::clone(&metrics), stop.clone()) => None,
    };
    let Some(Prepared {
        writer,
        journal,
        tables,
        pending_visibility,
    }) = prepared
    else {
        readiness.unready("stopping");
        return stages.stop(config.drain_timeout, None).await;
    };

    let (router, handle) = Router::new(
        journal.clone(),
        delivery::Options {
            max_frame_bytes: config.session.max_frame_bytes,
        },
        Arc::clone(&metrics),
    )
    .context("the router cannot start")?;
    let routed = handle.clone();
    let snapshots = Snapshots::new(
        journal.clone(),
        Arc::clone(&pending_visibility),
        config.snapshot_options(),
        Arc::clone(&metrics),
    );
    let shared = session::Services {
        history: journal.clone(),
        snapshots: Arc::clone(&snapshots),
        router: handle,
        tables: Arc::clone(&tables),
        metrics: Arc::clone(&metrics),
        database: config.conninfo.database.clone(),
        options: config.session,
        replays: ReplayPool::new(
            journal.clone(),
            config.session.max_frame_bytes,
            Arc::clone(&metrics),
        ),
        spool_readers: Semaphore::new(MAX_SPOOL_READERS),
    };
    let gate = Gate {
        shared: Arc::new(shared),
        readiness: readiness.clone(),
        origins: Arc::new(config.origins.clone()),
        refused: Arc::default(),
        sessions: stages.sessions.clone(),
        stop: stages.clients.clone(),
    };

    let nudge = ingest::SlotCheckRequest::default();
    let standbys = ingest::Standbys::none(config.standby_window);
    let ingest = Ingest::new(
        ingest::Options {
            conninfo: config.conninfo.clone(),
            slot: config.slot.clone(),
            plugin: config.plugin,
            create_slot: config.create_slot,
            recreate_slot: config.recreate_slot,
            max_slot_lag: config.max_slot_lag,
            nudge: nudge.clone(),
            standbys: standbys.clone(),
            publications: config.publications.clone(),
            spool_dir: config.data_dir.join("spool"),
            received_dir: config.data_dir.join("received"),
            streaming: config.streaming,
            messages: config.messages.clone(),
            max_row_bytes: config.max_row_bytes,
            max_spool_bytes: config.max_spool_bytes,
        },
        (writer, journal.clone()),
        pending_visibility,
        Arc::clone(&tables),
        Arc::clone(&metrics),
        readiness.clone(),
    );
    stages.feed(on_a_thread(ingest, stages.ingest.clone())?);
    let routing = router.run(stages.rest.clone());
    stages.serve(async { routing.await.context("the router failed") });
    let upkeep = Maintenance {
        conninfo: config.conninfo.clone(),
        slot: config.slot.clone(),
        publications: config.publications.clone(),
        max_slot_lag: config.max_slot_lag,
        nudge,
        standbys,
        retention: config.retention,
        journal,
        tables,
        snapshots,
        router: routed,
        metrics: Arc::clone(&metrics),
    };
    stages.serve(endless(upkeep.run(stages.rest.clone())));
    let routes = http::stream(gate).merge(page.unwrap_or_default());
    let stop_accepting = stages.clients.clone();
    stages.feed(endless(async move {
        front.run(routes, metrics, stop_accepting).await
    }));
    announce();

    let failed = tokio::select! {
        () = stop.cancelled() => None,
        failed = stages.failed() => Some(failed),
    };
    readiness.unready("stopping");
    stages.stop(config.drain_timeout, failed).await
}

/// A task that nothing but a panic ends early.
async fn endless(task: impl Future<Output = ()>) -> anyhow::Result<()> {
    task.await;
    Ok(())
}

/// The parts that there are before anything runs.
struct Prepared {
    writer: Writer,
    journal: Journal,
    tables: Arc<Tables>,
    pending_visibility: Arc<PendingVisibility>,
}

impl Config {
    fn snapshot_options(&self) -> snapshot::Options {
        snapshot::Options {
            conninfo: self.snapshots.conninfo.clone(),
            primary: self.conninfo.clone(),
            publications: self.publications.clone(),
            max_connections: self.snapshots.max_connections,
            timeout: self.snapshots.timeout,
            max_bytes: self.snapshots.max_bytes,
            max_row_bytes: self.max_row_bytes,
            max_frame_bytes: self.session.max_frame_bytes,
            dir: self.data_dir.join("snapshots"),
        }
    }
}

/// The pause between two looks whether a server is there again.
const SERVER_PAUSE: Duration = Duration::from_millis(500);

/// [`prepare`], as soon as the server is there: one that starts, stops or has been stopped is waited for, as it is later on.
/// `announce` is called before the first wait.
async fn prepare_once_there(
    config: &Config,
    metrics: &Arc<Metrics>,
    readiness: &Readiness,
    announce: &mut impl FnMut(),
) -> anyhow::Result<Prepared> {
    let mut said = String::new();
    loop {
        let (config, metrics) = (config.clone(), Arc::clone(metrics));
        let error = match tokio::task::spawn_blocking(move || prepare(&config, &metrics)).await? {
            Err(error) if is_of_an_absent_server(&error) => error,
            prepared => return prepared,
        };
        let words = format!("{error:#}").replace("\n    ", "; ");
        if words != said {
            announce();
            tracing::warn!("waiting for the database server: {words}");
            readiness.unready(format!("waiting for the database server: {words}"));
            said = words;
        }
        tokio::time::sleep(SERVER_PAUSE).await;
    }
}

/// True if a server was not there, and may be soon.
fn is_of_an_absent_server(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let unreachable = cause
            .downcast_ref::<Unreachable>()
            .map(|unreachable| &unreachable.error);
        unreachable
            .or_else(|| cause.downcast_ref())
            .is_some_and(postgres::Error::is_absence)
    })
}

/// Checks the database, opens the journal and reads the tables. Blocking.
fn prepare(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Prepared> {
    let wanted = Requirements {
        slot: config.slot.clone(),
        publications: config.publications.clone(),
        plugin: config.plugin,
        create_slot: config.create_slot,
        recreate_slot: config.recreate_slot,
        create_publication: config.create_publication,
    };
    let findings = postgres::check(&config.conninfo, &wanted)
        .map_err(|error| Unreachable::new(error, &config.conninfo))?;
    let (blocking, others): (Vec<_>, Vec<_>) = findings
        .into_iter()
        .partition(|finding| finding.severity == Severity::Blocks);
    for finding in others {
        tracing::warn!(cure = finding.cure.replace('\n', " "), "{}", finding.what);
    }
    if !blocking.is_empty() {
        let list: Vec<String> = blocking.iter().map(Finding::in_words).collect();
        bail!("the database is not ready for walcast:\n{}", list.join("\n"));
    }
    if config.create_publication {
        let mut connection = Connection::connect(&config.conninfo, Purpose::Query)?;
        for publication in connection.missing_publications(&config.publications)? {
            tracing::info!(%publication, "creating the publication, of all tables");
            connection.create_publication(&publication)?;
        }
        connection.close();
    }
    let mut connection = Connection::connect(&config.conninfo, Purpose::Replication)?;
    let (identity, _) = ingest::identify(&mut connection, &config.slot)?;
    connection.close();
    let options = journal::Options {
        segment_bytes: config.segment_bytes,
        database_made_anew: config.recreate_slot,
        observer: Arc::new(Syncs(Arc::clone(metrics))),
        ..journal::Options::default()
    };
    let (writer, journal) =
        Journal::open(&config.data_dir, options, &identity).context("cannot open the journal")?;
    let (conninfo, publications) = (config.conninfo.clone(), config.publications.clone());
    let tables = Tables::open(
        conninfo,
        publications,
        &config.messages,
        &config.data_dir,
        journal.epoch(),
    )
    .context("cannot open tables.jsonl in the data directory")?;
    tables.refresh().context("cannot read the published tables")?;
    let (pending_visibility, from) = recently_written(&journal).context("cannot read the journal")?;
    if from > journal.start() {
        // Whoever has waited for a standby for longer is not among them.
        pending_visibility.require(tables.horizon().context("cannot look what is visible")?);
    }
    pending_visibility.forget(&tables.snapshot().context("cannot look what is visible")?);
    Ok(Prepared {
        writer,
        journal,
        tables,
        pending_visibility: Arc::new(pending_visibility),
    })
}

/// The amount of the journal that is read at the start.
const RECENT_BYTES: u64 = 64 * 1024 * 1024;

/// The transactions that the journal ends with, and from where on: some of them may wait for a synchronous standby
/// since before we started. What is damaged is found now, and left out.
fn recently_written(journal: &Journal) -> Result<(PendingVisibility, Lsn), journal::Error> {
    loop {
        let from = journal.recent(RECENT_BYTES);
        let pending_visibility = PendingVisibility::default();
        match note_written(journal, from, &pending_visibility) {
            Ok(()) => return Ok((pending_visibility, from)),
            Err(journal::Error::Expired { earliest }) if earliest > from => {}
            Err(error) => return Err(error),
        }
    }
}

fn note_written(
    journal: &Journal,
    from: Lsn,
    pending_visibility: &PendingVisibility,
) -> Result<(), journal::Error> {
    const BATCH_BYTES: usize = 1024 * 1024;
    let mut reader = journal.reader(Start::After(Position::after(from)))?;
    while let Some(batch) = reader.next(BATCH_BYTES)? {
        for entry in batch.entries() {
            if let Entry::Piece(piece) = entry?
                && piece.last
                && piece.transaction.xid != 0
            {
                pending_visibility.note(piece.transaction.end, piece.transaction.xid);
            }
        }
    }
    Ok(())
}

/// A database that cannot be looked at, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot look at the database: {}{}", chain(.error), .cure.as_ref().map(|cure| format!("\n    {cure}")).unwrap_or_default())]
pub(crate) struct Unreachable {
    error: postgres::Error,
    cure: Option<String>,
}

impl Unreachable {
    /// The server of `info` answered with `error`, or not at all.
    pub(crate) fn new(error: postgres::Error, info: &ConnInfo) -> Unreachable {
        let cure = postgres::next_step(&error, info);
        Unreachable { error, cure }
    }
}

/// Ingest on a thread of its own, and the future of its end.
fn on_a_thread(
    ingest: Ingest<Writer, Journal>,
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + 'static> {
    let (ended, end) = oneshot::channel();
    let run = move || {
        // Whoever waits may be gone.
        drop(ended.send(ingest.run(&stop)));
    };
    thread::Builder::new()
        .name("ingest".into())
        .spawn(run)
        .context("cannot start a thread")?;
    Ok(async {
        match end.await {
            Ok(ended) => ended.context("ingest failed"),
            Err(_) => Err(anyhow!("ingest panicked")),
        }
    })
}

/// Counts the journal's syncs.
struct Syncs(Arc<Metrics>);

impl Observer for Syncs {
    fn synced(&self, took: Duration, _bytes: u64) {
        self.0.journal_fsync_seconds.observe(took.as_secs_f64());
    }
}
