//! [`Syncer`]: what is written becomes durable, in groups, on a thread of its own.
//!
//! One sync covers everything that was written before it began. After a failed one the kernel may have dropped the
//! pages and call the next one a success: nothing is ever synced again, and the journal has failed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::watch;

use super::error::Error;
use super::files::LogFile;
use crate::log;
use crate::lsn::Lsn;

/// Hears of the journal's syncs, for metrics.
pub trait Observer: Send + Sync {
    /// A sync of about that many bytes succeeded after that long.
    fn synced(&self, took: Duration, bytes: u64) {
        let _ = (took, bytes);
    }
}

/// Hears nothing.
impl Observer for () {}

/// The state that the writer, the syncing thread and those who wait for it share.
pub(super) struct Syncer {
    state: Mutex<State>,
    /// Work for the thread.
    wake: Condvar,
    /// News for those who wait.
    news: Condvar,
    durable: watch::Sender<Lsn>,
    failure: OnceLock<Error>,
    interval: Duration,
    max_bytes: u64,
    observer: Arc<dyn Observer>,
}

struct State {
    /// The part that is written but not synced: the file, and up to where.
    target: Option<Target>,
    /// Up to where is written.
    written: Lsn,
    /// Counts the files that a writer synced itself, so that a sync begun before says nothing about what came after.
    turn: u64,
    urgent: bool,
    stop: bool,
}

#[derive(Clone)]
struct Target {
    file: Arc<dyn LogFile>,
    path: PathBuf,
    lsn: Lsn,
    bytes: u64,
}

impl Syncer {
    pub(super) fn new(
        durable: Lsn,
        interval: Duration,
        max_bytes: u64,
        observer: Arc<dyn Observer>,
    ) -> Syncer {
        let state = State {
            target: None,
            written: durable,
            turn: 0,
            urgent: false,
            stop: false,
        };
        Syncer {
            state: Mutex::new(state),
            wake: Condvar::new(),
            news: Condvar::new(),
            durable: watch::Sender::new(durable),
            failure: OnceLock::new(),
            interval,
            max_bytes,
            observer,
        }
    }

    pub(super) fn durable(&self) -> Lsn {
        *self.durable.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Lsn> {
        self.durable.subscribe()
    }

    /// The failure, if there was one: from then on nothing becomes durable.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// The journal has failed; everyone who waits hears of it.
    pub(super) fn fail(&self, error: Error) -> Error {
        let error = self.failure.get_or_init(|| error).clone();
        let _state = self.state.lock();
        self.news.notify_all();
        self.wake.notify_all();
        self.durable.send_modify(|_| {});
        error
    }

    /// `bytes` more were written to `file`, which now holds everything up to `lsn`.
    pub(super) fn written(&self, file: &Arc<dyn LogFile>, path: &Path, lsn: Lsn, bytes: u64) {
        let mut state = self.state.lock();
        state.written = lsn;
        let before = state.target.as_ref().map(|target| target.bytes);
        let bytes = bytes + before.unwrap_or(0);
        state.target = Some(Target {
            file: file.clone(),
            path: path.to_owned(),
            lsn,
            bytes,
        });
        let enough = before.is_some_and(|before| before < self.max_bytes) && bytes >= self.max_bytes;
        // Waking the thread is a system call; while it waits out the interval it needs none.
        if before.is_none() || enough {
            self.wake.notify_one();
        }
    }

    /// The writer has synced everything up to `lsn` itself, or begun a new history there.
    pub(super) fn settled(&self, lsn: Lsn) {
        let mut state = self.state.lock();
        state.turn += 1;
        state.target = None;
        state.written = lsn;
        self.publish(lsn);
    }

    fn publish(&self, lsn: Lsn) {
        self.durable
            .send_if_modified(|durable| std::mem::replace(durable, lsn) != lsn);
        self.news.notify_all();
    }

    /// Waits until everything that is written is durable, and hurries the thread.
    pub(super) fn sync_now(&self, timeout: Duration) -> Result<Lsn, log::Error> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        let wanted = state.written;
        let turn = state.turn;
        loop {
            self.check()?;
            let durable = self.durable();
            if durable >= wanted || state.turn != turn {
                return Ok(durable);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(log::Error::TimedOut);
            }
            state.urgent = true;
            self.wake.notify_one();
            wait(&self.news, &mut state, left);
        }
    }

    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.wake.notify_all();
    }

    /// The thread: syncs until stopped or failed.
    pub(super) fn run(&self) {
        let mut last = None;
        while let Some((target, turn)) = self.next(last) {
            let start = Instant::now();
            last = Some(start);
            if let Err(e) = target.file.sync() {
                tracing::error!(
                    event = "journal_sync_failed", error = %e, path = %target.path.display(),
                    "journal sync failed"
                );
                self.fail(Error::failed("sync", &target.path, e));
                return;
            }
            self.observer.synced(start.elapsed(), target.bytes);
            let state = self.state.lock();
            if state.turn == turn {
                self.publish(target.lsn);
            }
        }
    }

    /// Waits for something to sync, and then for more of it until the interval since the `last` sync is over.
    fn next(&self, last: Option<Instant>) -> Option<(Target, u64)> {
        let mut state = self.state.lock();
        loop {
            if state.stop || self.failure.get().is_some() {
                return None;
            }
            let left = match &state.target {
                None => Duration::MAX,
                Some(target) if state.urgent || target.bytes >= self.max_bytes => Duration::ZERO,
                Some(_) => last.map_or(Duration::ZERO, |last| {
                    self.interval.saturating_sub(last.elapsed())
                }),
            };
            if left.is_zero() {
                state.urgent = false;
                let turn = state.turn;
                return state.target.take().map(|target| (target, turn));
            }
            wait(&self.wake, &mut state, left);
        }
    }
}

fn wait<T>(condition: &Condvar, guard: &mut MutexGuard<'_, T>, at_most: Duration) {
    if at_most == Duration::MAX {
        condition.wait(guard);
    } else {
        condition.wait_for(guard, at_most);
    }
}
