//! [`Bridge`]: one database, from its replication slot to the outboxes of the clients that subscribed to its tables.
//!
//! It owns ingest, journal, schema, snapshots, router and maintenance, and starts and stops them in the order of the
//! flow. It knows no listener: sessions reach it by [`Bridge::services`].

mod open;
mod options;
mod stage;

use std::sync::Arc;
use std::thread;

use anyhow::{Context, anyhow};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

pub(crate) use self::open::Unreachable;
use self::open::{Opened, open_once_there};
pub use self::options::Options;
pub(crate) use self::stage::Stage;
use crate::delivery::{self, ReplayPool, Router};
use crate::health::Readiness;
use crate::ingest::Ingest;
use crate::journal::{Journal, Writer};
use crate::maintenance::Maintenance;
use crate::session;
use crate::snapshot::Snapshots;
use crate::telemetry::{Metrics, in_this_span};
use tracing::Instrument as _;

/// The most sessions that read the files of snapshots at the same time; each takes a thread meanwhile.
const MAX_SPOOL_READERS: usize = 4;

/// A database that is ready to be served.
pub struct Bridge {
    ingest: Ingest<Writer, Journal>,
    router: Router<Journal>,
    maintenance: Maintenance,
    services: Arc<session::Services<Journal>>,
}

/// A bridge that has been started.
pub(crate) struct Running {
    /// Stopped first, which syncs the journal and confirms it to Postgres.
    ingest: Stage,
    rest: Stage,
}

impl Bridge {
    /// Checks the database, opens the journal and reads the published tables. `readiness` is told whether changes flow.
    /// It waits for a server that cannot be reached; `waiting` is called before that is logged. What single clients ask
    /// for is done on the threads of `background`.
    ///
    /// # Errors
    /// The reason why the bridge cannot be started, with what to do about it.
    pub async fn open(
        options: Options,
        metrics: &Arc<Metrics>,
        readiness: Readiness,
        shared: session::Shared,
        background: Handle,
        waiting: impl FnMut(),
    ) -> anyhow::Result<Bridge> {
        let Opened {
            writer,
            journal,
            tables,
            pending_visibility,
        } = open_once_there(&options, metrics, &readiness, waiting).await?;

        let routing = delivery::Options {
            max_frame_bytes: options.session.max_frame_bytes,
        };
        let (router, handle) =
            Router::new(journal.clone(), routing, Arc::clone(metrics)).context("the router cannot start")?;
        let snapshots = Snapshots::new(
            journal.clone(),
            Arc::clone(&pending_visibility),
            options.snapshots,
            Arc::clone(metrics),
            background.clone(),
        );
        let ingest = Ingest::new(
            Arc::clone(&options.ingest),
            writer,
            journal.clone(),
            pending_visibility,
            Arc::clone(&tables),
            Arc::clone(metrics),
            readiness,
        );
        let replays = ReplayPool::new(
            journal.clone(),
            options.session.max_frame_bytes,
            options.session.max_replays_of_subject,
            Arc::clone(metrics),
            background.clone(),
        );
        let maintenance = Maintenance {
            source: Arc::clone(&options.ingest),
            slot_check: ingest.slot_check(),
            standbys: ingest.standbys(),
            retention: options.retention,
            journal: journal.clone(),
            tables: Arc::clone(&tables),
            snapshots: Arc::clone(&snapshots),
            router: handle.clone(),
            replays: Arc::clone(&replays),
            data_dir: options.data_dir,
            metrics: Arc::clone(metrics),
        };
        let services = session::Services {
            history: journal,
            snapshots,
            router: handle,
            tables,
            metrics: Arc::clone(metrics),
            auth: options.auth,
            policies: options.policies,
            notes: session::Notes::default(),
            database: options.ingest.conninfo.database.clone(),
            shared,
            options: options.session,
            replays,
            background,
            spool_readers: Semaphore::new(MAX_SPOOL_READERS),
            sessions: Arc::default(),
        };
        Ok(Bridge {
            ingest,
            router,
            maintenance,
            services: Arc::new(services),
        })
    }

    /// The services for sessions.
    pub fn services(&self) -> Arc<session::Services<Journal>> {
        Arc::clone(&self.services)
    }

    /// Starts ingest, then the router, then maintenance.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn start(self) -> anyhow::Result<Running> {
        let mut running = Running {
            ingest: Stage::default(),
            rest: Stage::default(),
        };
        let (ingest, stop) = (self.ingest, running.ingest.token());
        let run = move || ingest.run(&stop).context("ingest failed");
        running.ingest.spawn(on_a_thread("ingest", run)?);
        // On a thread of its own, too, which waits for no client's session.
        let routing = self.router.run(running.rest.token()).in_current_span();
        let runtime = Handle::current();
        let run = move || runtime.block_on(routing).context("the router failed");
        running.rest.spawn(on_a_thread("router", run)?);
        let maintenance = self.maintenance.run(running.rest.token()).in_current_span();
        running.rest.spawn_infallible(maintenance);
        Ok(running)
    }
}

impl Running {
    /// Waits for a part to end by itself, which none should.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            failed = self.ingest.failed() => failed,
            failed = self.rest.failed() => failed,
        }
    }

    /// Lets ingest sync and confirm, then stops the rest. Returns the first error.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let ingest = self.ingest.stop().await;
        ingest.and(self.rest.stop().await)
    }
}

/// Runs a part on a thread of its own, and returns the future of its end.
fn on_a_thread(
    name: &'static str,
    run: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + 'static> {
    let (ended, end) = oneshot::channel();
    let run = in_this_span(move || {
        // Nobody may be waiting any more.
        drop(ended.send(run()));
    });
    thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .context("cannot start a thread")?;
    Ok(async move {
        match end.await {
            Ok(ended) => ended,
            Err(_) => Err(anyhow!("{name} panicked")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ingest_has_stopped_before_the_rest_is_told_to() {
        let mut running = Running {
            ingest: Stage::default(),
            rest: Stage::default(),
        };
        let stop_ingest = running.ingest.token();
        let stop_rest = running.rest.token();
        let rest = stop_rest.clone();
        running.ingest.spawn(async move {
            stop_ingest.cancelled().await;
            tokio::task::yield_now().await;
            anyhow::ensure!(!rest.is_cancelled(), "the rest was stopped first");
            Ok(())
        });
        running
            .rest
            .spawn_infallible(async move { stop_rest.cancelled().await });
        running.stop().await.unwrap();
    }

    #[tokio::test]
    async fn the_failure_of_any_part_is_noticed() {
        for part in ["ingest", "rest"] {
            let mut running = Running {
                ingest: Stage::default(),
                rest: Stage::default(),
            };
            let stage = if part == "ingest" {
                &mut running.ingest
            } else {
                &mut running.rest
            };
            stage.spawn(async move { Err(anyhow!("{part} failed")) });
            assert_eq!(running.failed().await.to_string(), format!("{part} failed"));
        }
    }
}
