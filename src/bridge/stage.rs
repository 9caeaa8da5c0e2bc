//! [`Stage`]: tasks that run for as long as walcast does, watched, and ended together.

use anyhow::anyhow;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Tasks that end together. None of them ends before it is told to: if one does, by an error or a panic, walcast ends.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Stage {
    /// Cancelled when the tasks are to end.
    pub(crate) fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that ends soon after [`Stage::token`] is cancelled.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Starts a task that nothing but a panic ends early.
    pub(crate) fn spawn_infallible(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async {
            task.await;
            Ok(())
        });
    }

    /// Waits for a task to end by itself, which none should.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        let Some(ended) = self.tasks.join_next().await else {
            return std::future::pending().await;
        };
        match flat(ended) {
            Ok(()) => anyhow!("a task ended before it was told to"),
            Err(error) => error,
        }
    }

    /// Ends the tasks, and waits for them. Returns the first error of one.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            result = result.and(flat(ended));
        }
        result
    }
}

fn flat(ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Result<()> {
    ended.unwrap_or_else(|error| Err(anyhow!("a task failed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Stage {
        let mut stage = Stage::default();
        let stop = stage.token();
        stage.spawn_infallible(async move { stop.cancelled().await });
        stage
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_by_itself_is_noticed_and_the_others_can_be_stopped() {
        let mut stage = running();
        stage.spawn(async { panic!("a defect") });
        let failed = stage.failed().await.to_string();
        assert!(failed.contains("a defect"), "{failed}");
        assert!(stage.stop().await.is_ok());

        let mut stage = running();
        stage.spawn(async { Ok(()) });
        let failed = stage.failed().await.to_string();
        assert!(failed.contains("before it was told to"), "{failed}");
    }

    #[tokio::test]
    async fn a_task_that_fails_while_it_is_stopped_is_the_error_of_the_stop() {
        assert!(running().stop().await.is_ok());
        let mut stage = running();
        let stop = stage.token();
        stage.spawn(async move {
            stop.cancelled().await;
            Err(anyhow!("the last sync failed"))
        });
        let error = stage.stop().await.unwrap_err();
        assert_eq!(error.to_string(), "the last sync failed");
    }
}
