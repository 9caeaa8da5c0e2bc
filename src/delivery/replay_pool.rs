//! [`ReplayPool`]: the threads that read the journal for sessions behind its head, and the requests that wait.
//!
//! A few threads read. Requests have their turns by owner, a subject or a connection: the owner for whom the fewest
//! steps were read is next, and has a few of them read at the same moment at most, so that one with many connections
//! waits for itself. As long as few requests wait, each is read for alone and keeps its cursor. Where many wait, as
//! when thousands of clients reconnect at once, they are grouped: a free thread goes to the place of the request whose
//! turn it is, and reads on from there for all requests whose places it comes to.
//!
//! Requests with a query that takes long, or with queries that took much lately, are served apart, by a thread of their
//! own, so that only they wait for it. Of them the owner that has taken the least work is next, so that each gets an equal
//! share of that thread.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::replay_cursor::{ReplayCursor, ReplayFilter, ReplayOutput, ReplaySink};
use super::replay_request::{Panicked, ReplayRequest, Standing};
use super::replay_shares::{AWAY_AFTER, Shares};
use crate::limit::{Limit, Turns};
use crate::log::{self, Log, SnapshotBoundary};
use crate::lsn::{self, Lsn, Position};
use crate::matching::Lane;
use crate::telemetry::Metrics;

/// The number of threads that read the journal at the same moment.
const MAX_THREADS: usize = 2;
/// The number of further threads, for requests that are served apart.
const MAX_APART_THREADS: usize = 1;
/// Number of free shares from which on reading begins again, unless fewer requests wait.
const ENOUGH_ROOM: usize = 32;
/// Number of waiting requests below which each is read for alone and keeps its cursor, which costs less than a new
/// cursor for all of them at each step.
const FEW: usize = 8;
/// The least work that a step apart counts for: it reads of the journal.
const STEP: u64 = 1_000_000;
/// The distance within which requests are grouped, in bytes of WAL: one that is further ahead than a step of a cursor
/// comes would wait for nothing.
const REACH: u64 = 64 * 1024 * 1024;

/// The threads that read the journal for sessions behind its head, and the requests that wait for them.
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
    queue: Mutex<Queue<H>>,
}

struct Queue<H: Log> {
    /// The requests that wait, oldest first.
    waiting: VecDeque<Waiting<H>>,
    /// The requests that wait to be served apart.
    apart: VecDeque<Waiting<H>>,
    turns: Turns,
    apart_turns: Turns,
    /// The number of requests so far.
    asked: u64,
    threads: usize,
    apart_threads: usize,
    /// The shares of sessions that are being read for, or have not sent their results yet.
    sending: Shares,
}

/// A request that waits for its turn.
struct Waiting<H: Log> {
    /// The number of requests before it.
    number: u64,
    request: Box<ReplayRequest<H>>,
    answer: oneshot::Sender<ReplayResult<H>>,
    /// Held while it is being served.
    share: Option<Share<H>>,
    /// Its owner had as many that were served already.
    was_held_up: bool,
}

impl<H: Log> std::fmt::Debug for ReplayPool<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayPool")
            .field("waiting", &self.queue.lock().waiting.len())
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
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                apart: VecDeque::new(),
                turns: Turns::default(),
                apart_turns: Turns::default(),
                asked: 0,
                threads: 0,
                apart_threads: 0,
                sending: Shares::default(),
            }),
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
            self.queue
                .lock()
                .apart_turns
                .took(owner, work.saturating_add(STEP));
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
        self.pool.queue.lock().sending.give_back(self.number);
        self.pool.start_threads(ENOUGH_ROOM);
    }
}

/// Serves requests as long as there are any that may be served.
fn read_for_all<H: Log>(pool: &Arc<ReplayPool<H>>, lane: Lane) {
    loop {
        let (mut together, shares) = {
            let mut queue = pool.queue.lock();
            match queue.next(lane, pool) {
                Some(together) => together,
                None => {
                    *queue.lane(lane).threads -= 1;
                    return;
                }
            }
        };
        for (waiting, number) in together.ahead.iter_mut().zip(shares) {
            waiting.share = Some(Share {
                pool: Arc::clone(pool),
                number,
            });
        }
        match together.ahead.len() {
            1 => together
                .ahead
                .into_iter()
                .for_each(|waiting| waiting.read(pool, lane)),
            _ => {
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

/// One lane of the queue.
struct LaneState<'q, H: Log> {
    waiting: &'q mut VecDeque<Waiting<H>>,
    /// The number of threads that serve it.
    threads: &'q mut usize,
    max_threads: usize,
}

impl<H: Log> Queue<H> {
    /// Adds a request that waits for its next step, which is served apart or not.
    fn ask(&mut self, request: Box<ReplayRequest<H>>, is_apart: bool) -> oneshot::Receiver<ReplayResult<H>> {
        let (answer, answered) = oneshot::channel();
        let waiting = if is_apart {
            &mut self.apart
        } else {
            &mut self.waiting
        };
        waiting.push_back(Waiting {
            number: self.asked,
            request,
            answer,
            share: None,
            was_held_up: false,
        });
        self.asked += 1;
        answered
    }

    /// Counts one more thread for the lane, and returns true, if requests wait and there is room for so many results.
    fn takes_thread(&mut self, lane: Lane, room: usize) -> bool {
        let has_room = self.sending.room(Instant::now()) >= room;
        let LaneState {
            waiting,
            threads,
            max_threads,
        } = self.lane(lane);
        let takes = !waiting.is_empty() && *threads < max_threads && has_room;
        *threads += usize::from(takes);
        takes
    }

    fn lane(&mut self, lane: Lane) -> LaneState<'_, H> {
        if lane.puts_apart {
            LaneState {
                waiting: &mut self.waiting,
                threads: &mut self.threads,
                max_threads: MAX_THREADS,
            }
        } else {
            LaneState {
                waiting: &mut self.apart,
                threads: &mut self.apart_threads,
                max_threads: MAX_APART_THREADS,
            }
        }
    }

    /// The request whose turn it is, with those that can be grouped with it, and a share for each.
    fn next(&mut self, lane: Lane, pool: &ReplayPool<H>) -> Option<(ReplayGroup<H>, Vec<u64>)> {
        let now = Instant::now();
        self.lane(lane)
            .waiting
            .retain(|waiting| !waiting.answer.is_closed());
        let room = self.sending.room(now);
        let mut of_owners = self.sending.of_owners();
        let mut may_be_served = |waiting: &mut Waiting<H>| {
            let owner = waiting.request.owner;
            let is_served = of_owners.get(&owner).copied().unwrap_or_default();
            let may_be = is_served < pool.max_of_owner;
            if !may_be && !std::mem::replace(&mut waiting.was_held_up, true) {
                pool.metrics.limit(Limit::SubjectReplays);
            }
            may_be
        };
        if lane == Lane::APART {
            let first = turn(&mut self.apart, &self.apart_turns, |waiting| {
                room > 0 && may_be_served(waiting)
            })?;
            let owner = first.request.owner;
            self.apart_turns.serve(owner);
            let share = self.sending.take(owner, now);
            return Some((ReplayGroup::of(first), vec![share]));
        }
        // Reading for a few of many at a time would waste the grouping.
        if room < self.waiting.len().min(ENOUGH_ROOM) {
            return None;
        }
        let first = turn(&mut self.waiting, &self.turns, &mut may_be_served)?;
        let owner = first.request.owner;
        self.turns.serve(owner);
        self.turns.took(owner, 1);
        *of_owners.entry(owner).or_default() += 1;
        let place = first.request.at();
        let mut ahead = VecDeque::new();
        if self.waiting.len() >= FEW && first.request.is_shareable() {
            let mut left = room - 1;
            let mut joins = |other: &Waiting<H>| {
                if left == 0 || !other.is_ahead_of(place) {
                    return false;
                }
                let of_owner = of_owners.entry(other.request.owner).or_default();
                let joins = *of_owner < pool.max_of_owner;
                left -= usize::from(joins);
                *of_owner += usize::from(joins);
                joins
            };
            let (joining, staying) = std::mem::take(&mut self.waiting)
                .into_iter()
                .partition(&mut joins);
            ahead = joining;
            self.waiting = staying;
            ahead
                .make_contiguous()
                .sort_by_key(|waiting| waiting.request.at());
        }
        ahead.push_front(first);
        let mut share = |waiting: &Waiting<H>| self.sending.take(waiting.request.owner, now);
        let shares = ahead.iter().map(&mut share).collect();
        let together = ReplayGroup {
            ahead,
            joined: Vec::new(),
        };
        Some((together, shares))
    }

    /// Puts requests that were not served back to where they waited.
    fn put_back(&mut self, left: Vec<Waiting<H>>) {
        self.waiting.extend(left);
        self.waiting
            .make_contiguous()
            .sort_by_key(|waiting| waiting.number);
    }
}

/// Takes the request out whose owner has had the least, of those that may be served: of an owner's the oldest.
fn turn<H: Log>(
    waiting: &mut VecDeque<Waiting<H>>,
    turns: &Turns,
    mut may_be_served: impl FnMut(&mut Waiting<H>) -> bool,
) -> Option<Waiting<H>> {
    let mut next: Option<(u64, usize)> = None;
    // The oldest are first, so of two whose owners had as much the first one is next.
    for (place, waiting) in waiting.iter_mut().enumerate() {
        let had = turns.had(waiting.request.owner);
        if next.is_none_or(|(least, _)| had < least) && may_be_served(waiting) {
            next = Some((had, place));
            // Where thousands wait, there mostly is one that has had nothing yet.
            if had == turns.least() {
                break;
            }
        }
    }
    let (_, place) = next?;
    waiting.remove(place)
}

impl<H: Log> Waiting<H> {
    /// True if a cursor at `place` comes to its place soon. In the middle of a transaction it comes only from there.
    fn is_ahead_of(&self, place: Position) -> bool {
        let at = self.request.at();
        let is_ahead = at == place || at > place && at.done == lsn::Done::Commit;
        is_ahead && at.end.0 - place.end.0 <= REACH && self.request.is_shareable()
    }

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
    fn of(one: Waiting<H>) -> ReplayGroup<H> {
        ReplayGroup {
            ahead: VecDeque::from([one]),
            joined: Vec::new(),
        }
    }

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
mod panic_tests;
