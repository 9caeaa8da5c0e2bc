//! [`Source`]: a database that is served, and opened again if it fails.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use super::Announcement;
use crate::bridge::{self, Bridge};
use crate::config::SourceName;
use crate::health::Readiness;
use crate::http::{Serving, ServingPlace};
use crate::ingest;
use crate::journal::Journal;
use crate::session::{self, Host};
use crate::telemetry::Metrics;

/// The pause before a source that failed is opened again, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// A source that has been served for this long begins with the first pause again.
const STEADY: Duration = Duration::from_secs(60);

/// A database to serve.
#[derive(Clone)]
pub struct Source {
    /// Its name, where there are several.
    pub name: Option<SourceName>,
    /// The way in which it is read and served.
    pub bridge: bridge::Options,
}

/// A source with everything that outlives its failures.
pub(super) struct Keeper {
    pub(super) source: Source,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Readiness,
    /// The place where clients find it while it is served.
    pub(super) place: Arc<ServingPlace<Journal>>,
    pub(super) shared: session::Shared,
    pub(super) background: Handle,
    pub(super) drain_timeout: Duration,
    pub(super) announcement: Arc<Mutex<Announcement>>,
}

/// The end of one time that a source was served.
enum Ended {
    /// It was stopped; or the error of what had to be finished then.
    Stopped(anyhow::Result<()>),
    /// It failed before that.
    Failed(anyhow::Error),
}

impl Keeper {
    /// Serves the source until `stop`. One with a name that fails is opened again after a pause, so that the others are
    /// served meanwhile.
    ///
    /// # Errors
    /// The only source failed, or what failed while it was stopped.
    pub(super) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let span = match &self.source.name {
            Some(source) => tracing::error_span!("serving", %source),
            None => Span::none(),
        };
        self.keep(stop).instrument(span).await
    }

    async fn keep(self, stop: CancellationToken) -> anyhow::Result<()> {
        let [first, most] = PAUSES;
        let mut pause = first;
        loop {
            let began = Instant::now();
            let served = AssertUnwindSafe(self.serve(&stop)).catch_unwind().await;
            let error = match served {
                Ok(Ended::Stopped(stopped)) => return stopped,
                Ok(Ended::Failed(error)) => error,
                Err(_) => anyhow!("opening it panicked"),
            };
            if self.source.name.is_none() {
                return Err(error);
            }
            let words = in_a_line(&error);
            self.metrics.source_closed(is_slot_gone(&error));
            self.readiness.remark(None);
            // Once more, since its parts may have said otherwise until they ended.
            self.readiness.closed(format!("failed: {words}"));
            if stop.is_cancelled() {
                tracing::error!(event = "source_failed", "the source failed: {words}");
                return Ok(());
            }
            if began.elapsed() >= STEADY {
                pause = first;
            }
            self.metrics.source_failures.inc();
            tracing::error!(
                event = "source_failed",
                retry_seconds = pause.as_secs(),
                "the source failed and will be opened again: {words}"
            );
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            pause = most.min(2 * pause);
        }
    }

    /// Opens the source and serves it until `stop`, or until it fails.
    async fn serve(&self, stop: &CancellationToken) -> Ended {
        let opening = Bridge::open(
            self.source.bridge.clone(),
            &self.metrics,
            self.readiness.clone(),
            self.shared.clone(),
            self.background.clone(),
            || self.announcement.lock().make(),
        );
        let bridge = tokio::select! {
            bridge = opening => bridge,
            () = stop.cancelled() => return Ended::Stopped(Ok(())),
        };
        let started = bridge.and_then(|bridge| Ok((bridge.services(), bridge.start()?)));
        let (services, mut running) = match started {
            Ok(started) => started,
            Err(error) => {
                return Ended::Failed(error);
            }
        };
        let sessions = TaskTracker::new();
        let host = Host {
            live: Handle::current(),
            background: self.background.clone(),
            sessions: sessions.clone(),
        };
        let span = Span::current();
        self.place.set(Some(Serving { services, host, span }));
        self.announcement.lock().make();
        let failed = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            failed = running.failed() => Some(failed),
        };
        self.place.set(None);
        if let Some(error) = &failed {
            self.readiness.closed(format!("failed: {}", in_a_line(error)));
        }
        self.drain(&sessions).await;
        match (running.stop().await, failed) {
            (stopped, None) => Ended::Stopped(stopped),
            (Ok(()), Some(failed)) => Ended::Failed(failed),
            (Err(stopped), Some(failed)) => {
                tracing::warn!(
                    event = "source_stop_failed",
                    "the source did not stop in good order: {stopped:#}"
                );
                Ended::Failed(failed)
            }
        }
    }

    /// Waits for the clients to take their close frames.
    async fn drain(&self, sessions: &TaskTracker) {
        sessions.close();
        let drained = tokio::time::timeout(self.drain_timeout, sessions.wait()).await;
        if drained.is_err() {
            let sessions = sessions.len();
            tracing::warn!(
                event = "clients_not_drained",
                sessions,
                "clients did not take their close frames in time"
            );
        }
    }
}

/// An error with its causes and its cure in one line, as a log has it.
fn in_a_line(error: &anyhow::Error) -> String {
    format!("{error:#}").replace("\n    ", "; ").replace('\n', "; ")
}

/// True if the replication slot is not there any more.
fn is_slot_gone(error: &anyhow::Error) -> bool {
    let mut causes = error.chain();
    causes.any(|cause| matches!(cause.downcast_ref(), Some(ingest::Error::SlotGone(_))))
}
