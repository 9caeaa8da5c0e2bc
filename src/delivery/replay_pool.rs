//! [`ReplayPool`]: the threads that read the journal for sessions behind its head.
//!
//! A few threads read for the requests whose turn it is. As long as few requests wait, each is read for alone and keeps
//! its cursor. Where many wait, as when thousands of clients reconnect at once, they are grouped: a free thread goes to the
//! place of the request whose turn it is, and reads on from there for all requests whose places it comes to.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::replay_cursor::{ReplayCursor, ReplayFilter, ReplayOutput, ReplaySink};
use super::replay_queue::{ENOUGH_ROOM, ReplayQueue, Waiting};
use super::replay_request::{Panicked, ReplayRequest, Standing};
use super::replay_shares::AWAY_AFTER;
use crate::log::{self, Log, SnapshotBoundary};
use crate::lsn::{Lsn, Position};
use crate::matching::Lane;
use crate::telemetry::Metrics;

/// The threads that read the journal for sessions behind its head.
pub struct ReplayPool<H: Log> {
    history: H,
    metrics: Arc<Metrics>,
    max_frame_bytes: usize,
    /// The most requests of an owner that are served, or whose results are on their way, at the same moment.
    max_of_owner: usize,
    /// The oldest place that was asked for since somebody looked; `u64::MAX` if none was.
    oldest: AtomicU64,
    /// The threads that it reads on.
    background: Handle,
    queue: Mutex<ReplayQueue<H>>,
}

impl<H: Log> std::fmt::Debug for ReplayPool<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayPool")
            .field("waiting", &self.queue.lock().len())
            .finish()
    }
}

impl<H: Log> ReplayPool<H> {
    /// A pool that reads `history`, with frames of about `max_frame_bytes`, for at most `max_of_owner` requests of an
    /// owner at the same moment. It reads on the blocking threads of `background`: they must not keep others from the
    /// processors, since there is no end to what clients that are behind may ask for.
    pub fn new(
        history: H,
        max_frame_bytes: usize,
        max_of_owner: usize,
        metrics: Arc<Metrics>,
        background: Handle,
    ) -> Arc<ReplayPool<H>> {
        Arc::new(ReplayPool {
            max_of_owner,
            history,
            metrics,
            max_frame_bytes,
            oldest: AtomicU64::new(u64::MAX),
            background,
            queue: Mutex::new(ReplayQueue::default()),
        })
    }

    /// Has one step read.
    ///
    /// # Errors
    /// Reading panicked, where it was for this request alone.
    pub async fn read(self: &Arc<Self>, request: Box<ReplayRequest<H>>) -> Result<ReplayResult<H>, Panicked> {
        self.oldest.fetch_min(request.at().end.0, Ordering::Relaxed);
        let is_apart = request.is_apart();
        let answered = self.queue.lock().ask(request, is_apart);
        self.start_threads(1);
        let mut answered = pin!(answered);
        loop {
            match tokio::time::timeout(AWAY_AFTER, answered.as_mut()).await {
                Ok(answer) => return answer.map_err(|_| Panicked),
                // If sessions that wait for their clients hold all shares, none is given back.
                Err(_) => self.start_threads(1),
            }
        }
    }

    /// The oldest position that was asked for since this was called last.
    pub fn take_oldest(&self) -> Option<Lsn> {
        let oldest = self.oldest.swap(u64::MAX, Ordering::Relaxed);
        (oldest != u64::MAX).then_some(Lsn(oldest))
    }

    /// Starts the threads that are missing, if there is room for so many.
    fn start_threads(self: &Arc<Self>, room: usize) {
        for lane in [Lane::SHARED, Lane::APART] {
            if self.queue.lock().takes_thread(lane, room) {
                let pool = Arc::clone(self);
                // It ends once no request waits, or too many sessions have results to send.
                drop(self.background.spawn_blocking(move || read_for_all(&pool, lane)));
            }
        }
    }

    /// A cursor over the journal from a place, without requests yet.
    pub(super) fn cursor(
        &self,
        place: Position,
        boundary: Option<Arc<SnapshotBoundary>>,
    ) -> Result<ReplayCursor<H>, log::Error> {
        ReplayCursor::new(&self.history, place, boundary, self.max_frame_bytes)
    }

    /// Counts the work of a step among its owner's.
    pub(super) fn took(&self, owner: u64, lane: Lane, work: u64) {
        if lane == Lane::APART {
            self.queue.lock().took(owner, work);
        }
    }

    /// Adds the work that a cursor did to the metrics.
    pub(super) fn count(&self, cursor: &mut ReplayCursor<H>) {
        let registry = cursor.registry();
        self.metrics.undecided(registry.take_undecided());
        registry.take_work(|table, units| self.metrics.match_work(&table.schema, &table.name, units));
    }
}

/// The outcome of one step of a replay.
pub struct ReplayResult<H: Log> {
    /// The result of the step.
    pub found: Result<ReplayOutput, log::Error>,
    /// To be handed back with the next request.
    pub standing: Standing,
    /// To be handed back with the next request, if that goes on where this one ended.
    pub cursor: Option<ReplayCursor<H>>,
    /// The share that what was found holds of the pool until it is sent.
    pub share: Option<Share<H>>,
}

/// A permit to hold unread results; given back when it is dropped.
pub struct Share<H: Log> {
    pool: Arc<ReplayPool<H>>,
    number: u64,
}

impl<H: Log> Share<H> {
    /// Runs the session's part, from its turn on, and gives the share back once that waits for the client.
    pub async fn during<T>(self, sends: impl Future<Output = T>) -> T {
        let mut sends = pin!(sends);
        let mut share = Some(self);
        poll_fn(|cx| {
            let sent = sends.as_mut().poll(cx);
            share = None;
            sent
        })
        .await
    }
}

impl<H: Log> Drop for Share<H> {
    fn drop(&mut self) {
        self.pool.queue.lock().give_back(self.number);
        self.pool.start_threads(ENOUGH_ROOM);
    }
}

/// Serves requests as long as there are any that may be served.
fn read_for_all<H: Log>(pool: &Arc<ReplayPool<H>>, lane: Lane) {
    loop {
        let (mut ahead, shares) = {
            let mut queue = pool.queue.lock();
            match queue.next(lane, pool.max_of_owner, &pool.metrics) {
                Some(next) => next,
                None => {
                    queue.ends_thread(lane);
                    return;
                }
            }
        };
        for (waiting, number) in ahead.iter_mut().zip(shares) {
            waiting.share = Some(Share {
                pool: Arc::clone(pool),
                number,
            });
        }
        match ahead.len() {
            1 => ahead.into_iter().for_each(|waiting| waiting.read(pool, lane)),
            _ => {
                let mut together = ReplayGroup {
                    ahead,
                    joined: Vec::new(),
                };
                // If it fails, each request is served alone, and gets the error that concerns it.
                match catch_unwind(AssertUnwindSafe(|| together.read(pool))) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "a shared replay failed"),
                    Err(_) => {
                        tracing::error!(
                            event = "shared_replay_panicked",
                            "a shared replay panicked: each of its requests is read for alone"
                        )
                    }
                }
                let left = together.left();
                pool.queue.lock().put_back(left);
            }
        }
    }
}

impl<H: Log> Waiting<H> {
    fn read(mut self, pool: &ReplayPool<H>, lane: Lane) {
        // A panic in one session ends that session: it waits for an answer, and finds the sender gone.
        let read = catch_unwind(AssertUnwindSafe(|| pool.read_alone(&mut self.request, lane)));
        if let Ok(found) = read {
            self.answer(found);
        }
    }

    fn answer(self, found: Result<ReplayOutput, log::Error>) {
        let ReplayRequest { standing, cursor, .. } = *self.request;
        // A session that does not wait for it any more has ended.
        drop(self.answer.send(ReplayResult {
            found,
            standing,
            cursor,
            share: self.share,
        }));
    }
}

/// Requests that one cursor serves.
struct ReplayGroup<H: Log> {
    /// Those whose places it has not reached, in their order.
    ahead: VecDeque<Waiting<H>>,
    /// Those that it has reached, until they are answered.
    joined: Vec<Option<Waiting<H>>>,
}

impl<H: Log> ReplayGroup<H> {
    /// The requests whose places the cursor did not reach, and those that it failed for.
    fn left(self) -> Vec<Waiting<H>> {
        let failed = self.joined.into_iter().flatten().map(|mut waiting| {
            waiting.request.standing.is_unshared = true;
            waiting
        });
        let mut left: Vec<Waiting<H>> = failed.chain(self.ahead).collect();
        for waiting in &mut left {
            waiting.share = None;
        }
        left
    }

    fn read(&mut self, pool: &ReplayPool<H>) -> Result<(), log::Error> {
        // A failure from here on concerns the first request at least.
        self.joined.extend(self.ahead.pop_front().map(Some));
        let Some(Some(first)) = self.joined.first() else {
            return Ok(());
        };
        let mut scan = pool.cursor(first.request.at(), None)?;
        scan.join(&first.request.filter());
        let read = scan.step(&mut Answering { together: self }, Lane::SHARED);
        pool.count(&mut scan);
        read
    }
}

struct Answering<'t, H: Log> {
    together: &'t mut ReplayGroup<H>,
}

impl<H: Log> ReplaySink for Answering<'_, H> {
    fn next(&self) -> Option<Position> {
        self.together.ahead.front().map(|waiting| waiting.request.at())
    }

    fn join(&mut self, joins: impl FnOnce(&ReplayFilter<'_>)) {
        let joined = &mut self.together.joined;
        joined.extend(self.together.ahead.pop_front().map(Some));
        if let Some(Some(waiting)) = joined.last() {
            joins(&waiting.request.filter());
        }
    }

    fn found(&mut self, number: usize, found: ReplayOutput) -> bool {
        let waiting = self.together.joined.get_mut(number).and_then(Option::take);
        if let Some(mut waiting) = waiting {
            // Its own cursor, if it had one, is at an older place.
            waiting.request.cursor = None;
            waiting.answer(Ok(found));
        }
        true
    }
}

#[cfg(test)]
#[path = "replay_pool_tests.rs"]
mod tests;
