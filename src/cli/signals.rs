//! The signals that end a long-running command, and those that must not.

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The meaning of SIGHUP to a command.
#[derive(Clone, Debug)]
pub(crate) enum Hangup {
    /// The terminal was closed: the command ends, unless it was started with the signal ignored (`nohup`).
    Ends,
    /// Files are to be read again, by whoever waits for this.
    Reloads(Arc<Notify>),
}

/// Cancels `stop` at SIGTERM or SIGINT, and takes SIGHUP as it is meant. Needs a runtime.
///
/// # Errors
/// The system does not let the process handle a signal.
pub(crate) fn cancel_on_signals(stop: &CancellationToken, meaning: Hangup) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = if matches!(meaning, Hangup::Ends) && ignores_hangup() {
        None
    } else {
        Some(signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?)
    };
    // Without a handler a limit on the size of files (RLIMIT_FSIZE) kills the process; with one, the write fails, and
    // that is dealt with like a full disk.
    let file_size = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    let exceeded = signal(file_size).context("cannot listen for SIGXFSZ")?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = received(&mut hangup) => match &meaning {
                    Hangup::Ends => break,
                    Hangup::Reloads(hung_up) => hung_up.notify_one(),
                },
            }
        }
        stop.cancel();
        drop(exceeded);
    });
    Ok(())
}

/// Waits for the signal; for ever if there is none to wait for.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Tells if this process was started with SIGHUP ignored: proc(5), `SigIgn` in `/proc/self/status`.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal 1 is the lowest bit.
    mask.is_some_and(|mask| mask & 1 == 1)
}
