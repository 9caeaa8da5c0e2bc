//! [`Stages`]: the tasks that make up walcast, watched and ended in order.

use std::time::Duration;

use anyhow::anyhow;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks that make up walcast, and what tells each to stop. None of them ends before it is told to: if one does,
/// by an error or a panic, walcast ends.
#[derive(Debug, Default)]
pub(super) struct Stages {
    /// Stops accepting, and closes the sessions.
    pub(super) clients: CancellationToken,
    /// Every open session's task.
    pub(super) sessions: TaskTracker,
    /// Lets ingest sync and confirm.
    pub(super) ingest: CancellationToken,
    /// Stops what served those.
    pub(super) rest: CancellationToken,
    feeding: JoinSet<anyhow::Result<()>>,
    serving: JoinSet<anyhow::Result<()>>,
}

impl Stages {
    /// Starts a task that ends with [`Stages::clients`] or [`Stages::ingest`].
    pub(super) fn feed(&mut self, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.feeding.spawn(task);
    }

    /// Starts a task that the others need to the last, and that ends with [`Stages::rest`].
    pub(super) fn serve(&mut self, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.serving.spawn(task);
    }

    /// Waits for a task to end by itself, which none should.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            Some(ended) = self.feeding.join_next() => ended,
            Some(ended) = self.serving.join_next() => ended,
            else => return anyhow!("there is nothing to wait for"),
        };
        match flat(ended) {
            Ok(()) => anyhow!("a task ended before it was told to"),
            Err(error) => error,
        }
    }

    /// Stops accepting and closes the sessions, then lets ingest sync and confirm, then the rest. Returns what had
    /// `failed`, or what fails meanwhile.
    pub(super) async fn stop(
        mut self,
        drain_timeout: Duration,
        failed: Option<anyhow::Error>,
    ) -> anyhow::Result<()> {
        tracing::info!(sessions = self.sessions.len(), "stopping");
        self.clients.cancel();
        self.sessions.close();
        let drained = tokio::time::timeout(drain_timeout, self.sessions.wait()).await;
        if drained.is_err() {
            let sessions = self.sessions.len();
            tracing::warn!(sessions, "clients did not take their close frames in time");
        }
        let mut result = failed.map_or(Ok(()), Err);
        self.ingest.cancel();
        while let Some(ended) = self.feeding.join_next().await {
            result = result.and(flat(ended));
        }
        self.rest.cancel();
        while let Some(ended) = self.serving.join_next().await {
            result = result.and(flat(ended));
        }
        tracing::info!("stopped");
        result
    }
}

fn flat(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    ended.unwrap_or_else(|error| Err(anyhow!("a task failed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    async fn until(stop: CancellationToken) -> anyhow::Result<()> {
        stop.cancelled().await;
        Ok(())
    }

    fn running() -> Stages {
        let mut stages = Stages::default();
        stages.feed(until(stages.clients.clone()));
        stages.feed(until(stages.ingest.clone()));
        stages.serve(until(stages.rest.clone()));
        stages
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_by_itself_ends_all_with_an_error() {
        let panics = || async { panic!("a defect") };
        for feeds in [true, false] {
            let mut stages = running();
            match feeds {
                true => stages.feed(panics()),
                false => stages.serve(panics()),
            }
            let failed = stages.failed().await;
            let ended = stages.stop(SOON, Some(failed)).await.unwrap_err();
            assert!(ended.to_string().contains("a defect"), "{ended}");
        }
        let mut stages = running();
        stages.serve(async { Ok(()) });
        assert!(
            stages
                .failed()
                .await
                .to_string()
                .contains("before it was told to")
        );
    }

    #[tokio::test]
    async fn a_stop_in_order_is_no_error_and_one_that_fails_meanwhile_is() {
        assert!(running().stop(SOON, None).await.is_ok());
        let mut stages = running();
        let stop = stages.ingest.clone();
        stages.feed(async move {
            stop.cancelled().await;
            Err(anyhow!("the last sync failed"))
        });
        let error = stages.stop(SOON, None).await.unwrap_err();
        assert_eq!(error.to_string(), "the last sync failed");
    }
}
