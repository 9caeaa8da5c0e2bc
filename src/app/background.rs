//! [`Background`]: threads that run where no other thread wants the processor, for what one client asks for and all others
//! would wait for.

#[cfg(target_os = "linux")]
mod policy;
mod yielding;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::yielding::Yielding;

/// A runtime whose threads yield to all others of the machine where there are not processors enough, as long as these leave
/// them a quarter of the time that they want.
#[derive(Debug)]
pub(super) struct Background {
    /// `None` once it ends.
    runtime: Option<Runtime>,
    handle: Handle,
    _watching: DropGuard,
}

/// The time between two looks at how much its threads have run.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The time for which they do not yield after one in which they had too little.
const LIFTED: Duration = Duration::from_secs(10);

impl Background {
    /// Starts it. The runtime that it is started on sees to it that it is not starved.
    pub(super) fn start() -> anyhow::Result<Background> {
        let threads = Arc::new(Yielding::default());
        let (started, ended) = (Arc::clone(&threads), Arc::clone(&threads));
        let runtime = Builder::new_multi_thread()
            .thread_name("background")
            .enable_all()
            .on_thread_start(move || started.join())
            .on_thread_stop(move || ended.leave())
            .build()
            .context("cannot start threads")?;
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(watch(threads)));
        Ok(Background {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            _watching: stop.drop_guard(),
        })
    }

    /// The way to its threads.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Nothing that must be finished is left.
            runtime.shutdown_background();
        }
    }
}

/// Has the threads run for a while whenever they were kept from it.
async fn watch(threads: Arc<Yielding>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let looked_at = Arc::clone(&threads);
        let looking = tokio::task::spawn_blocking(move || looked_at.are_starved());
        // It fails only when the program ends.
        if looking.await.unwrap_or_default() {
            threads.lift();
            tokio::time::sleep(LIFTED).await;
            threads.lower();
        }
    }
}
