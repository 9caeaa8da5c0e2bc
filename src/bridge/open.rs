//! Everything that must be there before a bridge runs: a database that is ready, the journal, the published tables, and
//! which journaled transactions snapshots may not see yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::options::Options;
use crate::health::Readiness;
use crate::ingest;
use crate::journal::{self, Journal, Observer, Writer};
use crate::log::{self, Entry, Identity, Log, LogReader, PendingVisibility};
use crate::lsn::{Lsn, Position, Start};
use crate::postgres::{self, ConnInfo, Connection, Finding, Purpose, Severity};
use crate::schema::Tables;
use crate::telemetry::traces::Span;
use crate::telemetry::{Metrics, chain, in_this_span};

/// The parts that exist before anything runs.
pub(super) struct Opened {
    pub(super) writer: Writer,
    pub(super) journal: Journal,
    pub(super) tables: Arc<Tables>,
    pub(super) pending_visibility: Arc<PendingVisibility>,
}

/// The amount of the journal that is read at the start, in bytes.
const RECENT_BYTES: u64 = 64 * 1024 * 1024;

/// The pause between two looks whether a server is there again.
const SERVER_PAUSE: Duration = Duration::from_millis(500);

/// [`open`], as soon as the server is there: one that starts, stops or has been stopped is waited for, as it is later
/// on. `waiting` is called before each change of the reason to wait.
pub(super) async fn open_once_there(
    options: &Options,
    metrics: &Arc<Metrics>,
    readiness: &Readiness,
    mut waiting: impl FnMut(),
) -> anyhow::Result<Opened> {
    let mut said = String::new();
    loop {
        let options = options.clone();
        let metrics = Arc::clone(metrics);
        let is_first = said.is_empty();
        let opening = in_this_span(move || open(&options, &metrics, is_first));
        let error = match tokio::task::spawn_blocking(opening).await? {
            Err(error) if is_of_an_absent_server(&error) => error,
            opened => return opened,
        };
        let words = format!("{error:#}").replace("\n    ", "; ");
        if words != said {
            // Whoever asks by then hears the reason.
            readiness.unready(format!("waiting for the database server: {words}"));
            waiting();
            tracing::warn!(
                event = "waiting_for_server",
                "waiting for the database server: {words}"
            );
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

/// Checks the database, opens the journal and reads the tables.
fn open(options: &Options, metrics: &Arc<Metrics>, is_first: bool) -> anyhow::Result<Opened> {
    let began = Instant::now();
    let checked = check(options);
    // A server that is not there yet is tried twice in a second: only the first time makes a trace.
    let is_traced = |error: &anyhow::Error| is_first || !is_of_an_absent_server(error);
    let span = if checked.as_ref().err().is_none_or(is_traced) {
        metrics.traces.root_since("source open", began)
    } else {
        Span::none()
    };
    span.say("db.namespace", &options.ingest.conninfo.database);
    span.say("walcast.slot", &options.ingest.slot);
    let preflight = span.part_since("preflight", began);
    let opened = span.enter(|| {
        if checked.is_err() {
            preflight.failed("not_ready");
        }
        drop(preflight);
        checked?;
        open_checked(options, metrics)
    });
    if opened.is_err() {
        span.failed("not_opened");
    }
    opened
}

/// Does a part of the opening, as a part of its trace.
fn part<T>(name: &'static str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let span = Span::here(name);
    let done = span.enter(work);
    if done.is_err() {
        span.failed("failed");
    }
    done
}

fn open_checked(options: &Options, metrics: &Arc<Metrics>) -> anyhow::Result<Opened> {
    create_publications(options)?;
    let identity = part("identify", || identify(options))?;
    let (writer, journal) = part("journal open", || open_journal(options, &identity, metrics))?;
    let tables = part("tables read", || read_tables(options, &journal))?;
    let pending_visibility = part("visibility", || pending_visibility(&journal, &tables))?;
    Ok(Opened {
        writer,
        journal,
        tables,
        pending_visibility: Arc::new(pending_visibility),
    })
}

/// Logs what is not as one might expect, and fails if something keeps the bridge from working.
fn check(options: &Options) -> anyhow::Result<()> {
    let source = &options.ingest;
    let findings = postgres::check(&source.conninfo, &options.requirements())
        .map_err(|error| Unreachable::new(error, &source.conninfo))?;
    let (blocking, others): (Vec<_>, Vec<_>) = findings
        .into_iter()
        .partition(|finding| finding.severity == Severity::Blocks);
    for finding in others {
        tracing::warn!(
            event = "preflight_warning",
            cure = finding.cure.replace('\n', " "),
            "{}",
            finding.what
        );
    }
    if !blocking.is_empty() {
        let list: Vec<String> = blocking.iter().map(Finding::in_words).collect();
        bail!("the database is not ready for walcast:\n{}", list.join("\n"));
    }
    Ok(())
}

fn create_publications(options: &Options) -> anyhow::Result<()> {
    if !options.create_publication {
        return Ok(());
    }
    let mut connection = Connection::connect(&options.ingest.conninfo, Purpose::Query)?;
    for publication in connection.missing_publications(&options.ingest.publications)? {
        tracing::info!(
            event = "publication_creation_started", %publication,
            "creating the publication, of all tables"
        );
        connection.create_publication(&publication)?;
    }
    connection.close();
    Ok(())
}

/// Asks the database whose history it is.
fn identify(options: &Options) -> anyhow::Result<Identity> {
    let mut connection = Connection::connect(&options.ingest.conninfo, Purpose::Replication)?;
    let (identity, _) = ingest::identify(&mut connection, &options.ingest.slot)?;
    connection.close();
    Ok(identity)
}

fn open_journal(
    options: &Options,
    identity: &Identity,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Writer, Journal)> {
    let journal = journal::Options {
        observer: Arc::new(Syncs(Arc::clone(metrics))),
        ..options.journal.clone()
    };
    Journal::open(&options.data_dir, journal, identity).context("cannot open the journal")
}

fn read_tables(options: &Options, journal: &Journal) -> anyhow::Result<Arc<Tables>> {
    let source = &options.ingest;
    let tables = Tables::new(
        source.conninfo.clone(),
        source.publications.clone(),
        &source.messages,
        journal.tables(),
    );
    tables.refresh().context("cannot read the published tables")?;
    Ok(tables)
}

/// The transactions in the journal that snapshots may not see yet.
fn pending_visibility(journal: &Journal, tables: &Tables) -> anyhow::Result<PendingVisibility> {
    let (pending_visibility, from) = recently_written(journal).context("cannot read the journal")?;
    if from > journal.start() {
        // A transaction from before the part that was read, which still waits for a standby, is not among them.
        pending_visibility.require(
            tables
                .horizon()
                .context("cannot ask which transactions are visible")?,
        );
    }
    pending_visibility.forget(
        &tables
            .snapshot()
            .context("cannot ask which transactions are visible")?,
    );
    Ok(pending_visibility)
}

/// The transactions that the journal ends with, and from where on: some of them may wait for a synchronous standby
/// since before we started. What is damaged is found now, and left out.
fn recently_written(journal: &Journal) -> Result<(PendingVisibility, Lsn), log::Error> {
    loop {
        let from = journal.recent(RECENT_BYTES);
        let pending_visibility = PendingVisibility::default();
        match note_written(journal, from, &pending_visibility) {
            Ok(()) => return Ok((pending_visibility, from)),
            Err(log::Error::Expired { earliest }) if earliest > from => {}
            Err(error) => return Err(error),
        }
    }
}

fn note_written(
    journal: &Journal,
    from: Lsn,
    pending_visibility: &PendingVisibility,
) -> Result<(), log::Error> {
    const BATCH_BYTES: usize = 1024 * 1024;
    let mut reader = journal.reader(Start::After(Position::after(from)))?;
    while let Some(batch) = reader.next_blocking(BATCH_BYTES)? {
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
#[error("cannot ask the database: {}{}", chain(.error), .cure.as_ref().map(|cure| format!("\n    {cure}")).unwrap_or_default())]
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

/// Counts the journal's syncs.
struct Syncs(Arc<Metrics>);

impl Observer for Syncs {
    fn synced(&self, took: Duration, _bytes: u64) {
        self.0.journal_fsync_seconds.observe(took.as_secs_f64());
    }
}
