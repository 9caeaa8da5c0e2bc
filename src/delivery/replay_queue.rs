//! [`ReplayQueue`]: the requests that wait for the threads of a pool, and whose turn is next.
//!
//! Requests have their turns by owner, a subject or a connection: the owner for whom the fewest steps were read is next, and
//! has a few of them read at the same moment at most, so that one with many connections waits for itself.
//!
//! Requests with a query that takes long, or with queries that took much lately, are served apart, by a thread of their
//! own, so that only they wait for it. Of them the owner that has taken the least work is next, so that each gets an equal
//! share of that thread.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::oneshot;

use super::replay_pool::{ReplayResult, Share};
use super::replay_request::ReplayRequest;
use super::replay_shares::Shares;
use crate::limit::{Limit, Turns};
use crate::log::Log;
use crate::lsn::{self, Position};
use crate::matching::Lane;
use crate::telemetry::Metrics;

/// The number of threads that read the journal at the same moment.
const MAX_THREADS: usize = 2;
/// The number of further threads, for requests that are served apart.
const MAX_APART_THREADS: usize = 1;
/// Number of free shares from which on reading begins again, unless fewer requests wait.
pub(super) const ENOUGH_ROOM: usize = 32;
/// Number of waiting requests below which each is read for alone and keeps its cursor, which costs less than a new
/// cursor for all of them at each step.
pub(super) const FEW: usize = 8;
/// The least work that a step apart counts for: it reads of the journal.
const STEP: u64 = 1_000_000;
/// The distance within which requests are grouped, in bytes of WAL: one that is further ahead than a step of a cursor
/// comes would wait for nothing.
const REACH: u64 = 64 * 1024 * 1024;

/// The requests that wait for the threads of a pool, in its lanes.
pub(super) struct ReplayQueue<H: Log> {
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
pub(super) struct Waiting<H: Log> {
    /// The number of requests before it.
    number: u64,
    pub(super) request: Box<ReplayRequest<H>>,
    pub(super) answer: oneshot::Sender<ReplayResult<H>>,
    /// Held while it is being served.
    pub(super) share: Option<Share<H>>,
    /// Its owner had as many that were served already.
    was_held_up: bool,
}

/// One lane of the queue.
struct LaneState<'q, H: Log> {
    waiting: &'q mut VecDeque<Waiting<H>>,
    /// The number of threads that serve it.
    threads: &'q mut usize,
    max_threads: usize,
}

impl<H: Log> Default for ReplayQueue<H> {
    fn default() -> ReplayQueue<H> {
        ReplayQueue {
            waiting: VecDeque::new(),
            apart: VecDeque::new(),
            turns: Turns::default(),
            apart_turns: Turns::default(),
            asked: 0,
            threads: 0,
            apart_threads: 0,
            sending: Shares::default(),
        }
    }
}

impl<H: Log> ReplayQueue<H> {
    /// The number of requests that wait and are not served apart.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds a request that waits for its next step, which is served apart or not.
    pub(super) fn ask(
        &mut self,
        request: Box<ReplayRequest<H>>,
        is_apart: bool,
    ) -> oneshot::Receiver<ReplayResult<H>> {
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
    pub(super) fn takes_thread(&mut self, lane: Lane, room: usize) -> bool {
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

    /// Counts one thread less for the lane.
    pub(super) fn ends_thread(&mut self, lane: Lane) {
        *self.lane(lane).threads -= 1;
    }

    /// Counts the work of a step apart among its owner's.
    pub(super) fn took(&mut self, owner: u64, work: u64) {
        self.apart_turns.took(owner, work.saturating_add(STEP));
    }

    /// Takes the share of this number back.
    pub(super) fn give_back(&mut self, share: u64) {
        self.sending.give_back(share);
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

    /// The request whose turn it is, with those that can be grouped with it in the order of their places, and a share for
    /// each. An owner has at most `max_of_owner`.
    pub(super) fn next(
        &mut self,
        lane: Lane,
        max_of_owner: usize,
        metrics: &Metrics,
    ) -> Option<(VecDeque<Waiting<H>>, Vec<u64>)> {
        let now = Instant::now();
        self.lane(lane)
            .waiting
            .retain(|waiting| !waiting.answer.is_closed());
        let room = self.sending.room(now);
        let mut of_owners = self.sending.of_owners();
        let mut may_be_served = |waiting: &mut Waiting<H>| {
            let owner = waiting.request.owner;
            let is_served = of_owners.get(&owner).copied().unwrap_or_default();
            let may_be = is_served < max_of_owner;
            if !may_be && !std::mem::replace(&mut waiting.was_held_up, true) {
                metrics.limit(Limit::SubjectReplays);
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
            return Some((VecDeque::from([first]), vec![share]));
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
                let joins = *of_owner < max_of_owner;
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
        Some((ahead, shares))
    }

    /// Puts requests that were not served back to where they waited.
    pub(super) fn put_back(&mut self, left: Vec<Waiting<H>>) {
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
}

#[cfg(test)]
#[path = "replay_queue_tests.rs"]
mod tests;
