//! [`Background`]: threads of lower priority, for what one client asks for and all others would wait for.

use anyhow::Context;
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime whose threads yield to all others of this process where there are not processors enough.
#[derive(Debug)]
pub(super) struct Background {
    /// `None` once it ends.
    runtime: Option<Runtime>,
    handle: Handle,
}

/// The priority of its threads: with as much to do they get a third of what others get (`nice(2)`).
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

impl Background {
    pub(super) fn start() -> anyhow::Result<Background> {
        let runtime = Builder::new_multi_thread()
            .thread_name("background")
            .enable_all()
            .on_thread_start(yield_to_others)
            .build()
            .context("cannot start threads")?;
        Ok(Background {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
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

/// Lowers the priority of this thread.
fn yield_to_others() {
    // Elsewhere it would be that of the whole process. It is set, not lowered, since a thread has that of the one which
    // started it.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the priority of a thread cannot be lowered");
    }
}
