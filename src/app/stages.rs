//! [`Stages`]: the running parts, and the order in which they are stopped.

use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio_util::task::TaskTracker;

use crate::bridge::{self, Stage};

/// The running parts, in the order in which they are stopped.
#[derive(Default)]
pub(super) struct Stages {
    /// The clients' listener. Its token also closes the sessions.
    pub(super) clients: Stage,
    /// The tasks of all open sessions.
    pub(super) sessions: TaskTracker,
    /// `None` until the database has been opened.
    pub(super) bridge: Option<bridge::Running>,
    /// The admin listener, which answers until the end.
    pub(super) admin: Stage,
}

impl Stages {
    /// Waits for a part to end on its own, which none should.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            failed = self.clients.failed() => failed,
            Some(failed) = OptionFuture::from(self.bridge.as_mut().map(bridge::Running::failed)) => failed,
            failed = self.admin.failed() => failed,
        }
    }

    /// Stops accepting and closes the sessions, then stops the bridge, then the admin listener. Returns what had
    /// `failed`, or what fails meanwhile.
    pub(super) async fn stop(
        self,
        drain_timeout: Duration,
        failed: Option<anyhow::Error>,
    ) -> anyhow::Result<()> {
        tracing::info!(sessions = self.sessions.len(), "stopping");
        self.clients.token().cancel();
        self.sessions.close();
        let drained = tokio::time::timeout(drain_timeout, self.sessions.wait()).await;
        if drained.is_err() {
            let sessions = self.sessions.len();
            tracing::warn!(sessions, "clients did not take their close frames in time");
        }
        let bridge = async {
            match self.bridge {
                Some(bridge) => bridge.stop().await,
                None => Ok(()),
            }
        };
        let (clients, bridge) = tokio::join!(self.clients.stop(), bridge);
        let admin = self.admin.stop().await;
        tracing::info!("stopped");
        failed.map_or(Ok(()), Err).and(clients).and(bridge).and(admin)
    }
}
