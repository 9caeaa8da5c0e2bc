//! [`Stages`]: the running parts, and the order in which they are stopped.

use crate::bridge::Stage;

/// The running parts, in the order in which they are stopped.
#[derive(Default)]
pub(super) struct Stages {
    /// The clients' listener. Its token also closes the sessions.
    pub(super) clients: Stage,
    /// The sources, each of which lets its sessions end before it does.
    pub(super) sources: Stage,
    /// The admin listener, which answers until the end.
    pub(super) admin: Stage,
}

impl Stages {
    /// Waits for a part to end on its own, which none should.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            failed = self.clients.failed() => failed,
            failed = self.sources.failed() => failed,
            failed = self.admin.failed() => failed,
        }
    }

    /// Stops accepting and closes the sessions, then stops the sources, then the admin listener. Returns what had
    /// `failed`, or what fails meanwhile.
    pub(super) async fn stop(self, failed: Option<anyhow::Error>) -> anyhow::Result<()> {
        tracing::info!(event = "stopping", "stopping");
        self.clients.token().cancel();
        let (clients, sources) = tokio::join!(self.clients.stop(), self.sources.stop());
        let admin = self.admin.stop().await;
        tracing::info!(event = "stopped", "stopped");
        failed.map_or(Ok(()), Err).and(clients).and(sources).and(admin)
    }
}
