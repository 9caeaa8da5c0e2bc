//! [`Cursor`]: a connection's place in the history. It decides what is read, sent and asked of the router, and when a
//! subscription is live. Pure: what happened comes in as an [`Input`] with the time, and what is to be done goes out
//! as [`Action`]s.
//!
//! Every change must reach the client once. While the client keeps up, frames come from the outbox at the router; when
//! that overflows, the registration is given up, and the whole connection reads on from the journal until the router
//! takes over again. A subscription that starts in the past reads the journal on its own until it has caught up with
//! the connection. The steps of a hand-over, and why they cannot lose or repeat anything, are in docs/architecture.md
//! ("Joining, falling behind, coming back").
//!
//! The session performs the actions in their order, and answers those that ask for something. Of these there is at
//! most one for the client (`Deliver` or `Take`, always the last of its list) and one beside it (the work at hand).

mod hand_over;
mod jobs;
mod messages;
mod reaches;
mod replay;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::delivery::{ActiveSubscription, Delivery, Received};
use crate::log::SnapshotBoundary;
use crate::lsn::{self, Lsn, Position};
use crate::matching::Subscription;
use crate::protocol::ErrorMessage;
use jobs::{Job, Turns};
pub(super) use messages::{Action, Delivered, Input, Preparation, Reading, Rows};
use reaches::Reach;
use replay::Replay;
pub(super) use replay::{ReadRequest, ReplayId, Wait};

/// A connection's place in the history, and the work for its subscriptions.
#[derive(Debug)]
pub(super) struct Cursor {
    progress_interval: Duration,
    registered: Registered,
    /// True once it fell behind and gave up its registration. It rejoins before anything else is done at the router: a
    /// registration that lacks some of the live subscriptions would report progress that these have not made.
    behind: bool,
    /// True while the whole connection reads the journal, to rejoin.
    rejoining: bool,
    /// The time of the last progress message while the connection is served apart.
    progressed: Option<Instant>,
    /// The turns of other jobs while it rejoins.
    turns: Turns,
    /// The ids of subscriptions that are neither live nor over.
    joining: Vec<Arc<str>>,
    /// The live subscriptions, which advance together.
    live: Vec<ActiveSubscription>,
    /// The place up to which the client has everything of the live subscriptions.
    at: Position,
    jobs: VecDeque<Job>,
    work: Option<Work>,
    /// True if the outcome of the work at hand must not be sent.
    discards: bool,
    pending: Pending,
    /// The id of the next replay.
    next_replay: u32,
    replays: usize,
    /// The pings that wait for a place to be reached, in their order.
    reaches: Vec<Reach>,
    /// The actions to be performed next.
    actions: VecDeque<Action>,
}

/// The number of actions to keep space for: small, since there are many connections.
const FEW_ACTIONS: usize = 8;

/// The connection's registration at the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registered {
    /// There is none: before the first subscription is live, and while the whole connection reads the journal.
    No,
    /// Active: the contents of the outbox are sent as they come.
    Here,
    /// In use by the work at hand, or by the replay that reads up to where the router took over. The contents of the
    /// outbox are sent after that.
    Lent,
}

/// The job under way, whose outcome will be an input.
#[derive(Debug)]
enum Work {
    Prepare,
    Rows,
    Read(Box<Replay>),
    HandOver(Box<Replay>),
    Remove(Arc<Subscription>),
}

/// The continuation once the last action has been answered.
#[derive(Debug)]
enum Pending {
    /// No answer is awaited.
    Nothing,
    /// The contents of the outbox were asked for.
    Take(Then),
    /// Items of the outbox are being sent.
    Outbox(Then),
    /// Items of a replay's step are being sent. True if the step reached its end; and the router's place.
    Step(Box<Replay>, bool, Lsn),
}

/// The continuation once the contents of the outbox were sent.
#[derive(Debug)]
enum Then {
    Nothing,
    /// Tell the client that everything up to here was sent.
    Progress(Position),
    /// Tell the client that a subscription is over.
    Over(Arc<Subscription>),
    /// A subscription goes live at a place: what the outbox has of after it is sent later.
    Join(Box<Replay>, Position),
    Joined(Box<Replay>, Position, Vec<Delivery>),
}

impl Cursor {
    /// A connection without subscriptions. While it is served apart, the client hears of its progress every
    /// `progress_interval`.
    pub(super) fn new(progress_interval: Duration) -> Cursor {
        Cursor {
            progress_interval,
            registered: Registered::No,
            behind: false,
            rejoining: false,
            progressed: None,
            turns: Turns::default(),
            joining: Vec::new(),
            live: Vec::new(),
            at: Position::after(Lsn::ZERO),
            jobs: VecDeque::new(),
            work: None,
            discards: false,
            pending: Pending::Nothing,
            next_replay: 0,
            replays: 0,
            reaches: Vec::new(),
            actions: VecDeque::new(),
        }
    }

    /// True if the contents of the outbox are to be taken as they come.
    pub(super) fn is_registered(&self) -> bool {
        self.registered == Registered::Here
    }

    /// The number of live subscriptions.
    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    /// The end of the last transaction that the client has everything of that its live subscriptions show, as far as it
    /// is not inside a later one.
    pub(super) fn complete_to(&self) -> Lsn {
        match self.at.done {
            lsn::Done::Commit => self.at.end,
            lsn::Done::Change(_) => Lsn::ZERO,
        }
    }

    /// The position up to which everything of all subscriptions was sent or read: that of the live ones, or of a replay
    /// that is further behind. `None` before the first of either.
    pub(super) fn furthest_behind(&self) -> Option<Lsn> {
        let live = (!self.live.is_empty()).then_some(self.at.end);
        if self.replays == 0 {
            return live;
        }
        let replays = self.all_replays().map(|replay| replay.at().end);
        replays.chain(live).min()
    }

    /// The replays, wherever they are.
    fn all_replays(&self) -> impl Iterator<Item = &Replay> {
        let waiting = self.jobs.iter().filter_map(|job| match job {
            Job::Replay(replay) => Some(&**replay),
            _ => None,
        });
        let at_work = match &self.work {
            Some(Work::Read(replay) | Work::HandOver(replay)) => Some(&**replay),
            _ => None,
        };
        let pending = match &self.pending {
            Pending::Step(replay, ..)
            | Pending::Take(Then::Join(replay, _) | Then::Joined(replay, ..))
            | Pending::Outbox(Then::Join(replay, _) | Then::Joined(replay, ..)) => Some(&**replay),
            _ => None,
        };
        let all = waiting.chain(at_work).chain(pending);
        all.flat_map(|replay| std::iter::once(replay).chain(&replay.coming))
    }

    /// The number of replays.
    pub(super) fn replays(&self) -> usize {
        self.replays
    }

    /// True if a subscription is on its way to be live.
    pub(super) fn awaits(&self, id: &Arc<str>) -> bool {
        self.joining.iter().any(|joining| Arc::ptr_eq(joining, id))
    }

    /// The subscriptions of the replay at work, unless it is abandoned.
    pub(super) fn at_work(&self) -> &[ActiveSubscription] {
        match &self.work {
            Some(Work::Read(replay) | Work::HandOver(replay)) if !self.is_abandoned(replay) => {
                &replay.subscriptions
            }
            _ => &[],
        }
    }

    /// Handles an event. The actions that follow come from [`Cursor::next_action`].
    pub(super) fn on(&mut self, input: Input, now: Instant) {
        debug_assert!(self.actions.is_empty(), "what asks for an answer is the last");
        match input {
            Input::Subscribe(id, subscribe) => {
                self.joining.push(Arc::clone(&id));
                self.jobs.push_back(Job::Subscribe(id, subscribe));
            }
            Input::Unsubscribe(id) => self.unsubscribe(id),
            Input::Discard => self.discard(),
            Input::Outbox(received, items) => self.received(received, items, Then::Nothing),
            Input::Taken(received, items) => self.taken(received, items),
            Input::Sent(delivered) => self.sent(delivered, now),
            Input::Tick { reached } => {
                if self.is_registered() && !self.live.is_empty() {
                    self.take(Then::Progress(Position::after(reached)));
                }
            }
            Input::Prepared(id, preparation) => self.prepared(id, preparation),
            Input::Rows(id, rows) => self.rows(id, rows),
            Input::Read(reading, routed) => self.has_read(reading, routed, now),
            Input::HandedOver { position, gone } => self.handed_over(position, gone),
            Input::Removed => self.removed(),
            Input::EpochChanged => self.actions.push_back(Action::EndEpoch),
            Input::Reach(place, reference) => self.reach(place, reference, now),
            Input::Reached(reached) => self.reached(reached),
            Input::Unreachable(place, error) => self.unreachable(place, &error),
        }
        self.answer_reaches();
    }

    /// The next action to be performed. One that needs an answer is the last until that has come.
    pub(super) fn next_action(&mut self) -> Option<Action> {
        let next = self.actions.pop_front();
        if next.is_none() {
            self.actions.shrink_to(FEW_ACTIONS);
        }
        next
    }

    /// Ends a subscription once nothing more of it can be on its way. Jobs for it find that it is over, and send
    /// nothing.
    fn unsubscribe(&mut self, id: Arc<str>) {
        self.has_joined(&id);
        let is_it = |placed: &ActiveSubscription| Arc::ptr_eq(&placed.subscription.id, &id);
        let job = match self.live.iter().position(is_it) {
            Some(index) => Job::Unsubscribe(self.live.swap_remove(index).subscription),
            None => Job::Over(id),
        };
        self.jobs.push_back(job);
    }

    /// Notes that a subscription is live, or over.
    fn has_joined(&mut self, id: &Arc<str>) {
        if let Some(place) = self.joining.iter().position(|joining| Arc::ptr_eq(joining, id)) {
            self.joining.remove(place);
            self.await_no_more(place);
        }
        if self.joining.is_empty() {
            // Free the space: of many connections, few have a subscription on its way.
            self.joining = Vec::new();
        }
    }

    /// Drops everything that was found for the client and not sent. It is read again for the subscriptions that are
    /// left by then.
    fn discard(&mut self) {
        self.discards = matches!(self.work, Some(Work::Read(_) | Work::HandOver(_)));
        let waits_for_turn = |job: &mut Job| match job {
            Job::Replay(replay) if replay.is_of_all() => replay.until.take().is_some(),
            _ => false,
        };
        // The outbox may hold what must not be sent.
        if self.jobs.iter_mut().any(waits_for_turn) {
            self.leave();
        }
    }

    /// Asks for the contents of the outbox.
    fn take(&mut self, then: Then) {
        self.pending = Pending::Take(then);
        self.actions.push_back(Action::Take);
    }

    fn taken(&mut self, received: Option<Received>, mut items: Vec<Delivery>) {
        let Pending::Take(then) = std::mem::replace(&mut self.pending, Pending::Nothing) else {
            debug_assert!(false, "nothing was asked of the outbox");
            return;
        };
        let then = match then {
            Then::Join(replay, until) => {
                let later = hand_over::split_off_later(&mut items, until, &replay);
                Then::Joined(replay, until, later)
            }
            then => then,
        };
        match received {
            Some(received) => self.received(received, items, then),
            None => self.go_on_after(then),
        }
    }

    fn received(&mut self, received: Received, items: Vec<Delivery>, then: Then) {
        match received {
            Received::Items => {
                self.pending = Pending::Outbox(then);
                self.deliver_to_all(items);
            }
            Received::Behind => {
                self.fall_behind();
                self.go_on_after(then);
            }
            Received::EpochChanged => self.actions.push_back(Action::EndEpoch),
        }
    }

    /// Sends items that concern the whole connection.
    fn deliver_to_all(&mut self, mut items: Vec<Delivery>) {
        // A subscription ends once, even if both the router and a replay find that it has to.
        items.retain(|item| {
            let is_it = |placed: &ActiveSubscription| replay::ended_is(item, &placed.subscription);
            replay::ended(item).is_none() || self.live.iter().any(is_it)
        });
        self.actions.push_back(Action::Deliver(items));
    }

    fn sent(&mut self, delivered: Delivered, now: Instant) {
        for subscription in &delivered.ended {
            self.has_joined(&subscription.id);
            self.live
                .retain(|placed| !Arc::ptr_eq(&placed.subscription, subscription));
        }
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Outbox(then) => {
                self.at = delivered.position.unwrap_or(self.at);
                if delivered.stalled {
                    // Whatever was not sent is read again, so no later position may be reported before that.
                    self.fall_behind();
                    self.actions.push_back(Action::Flush);
                }
                self.go_on_after(then);
            }
            Pending::Step(replay, done, routed) => self.sent_step(replay, done, &delivered, routed, now),
            Pending::Nothing | Pending::Take(_) => debug_assert!(false, "nothing was being sent"),
        }
    }

    /// Continues once the contents of the outbox were sent, or were dropped because the connection fell behind.
    fn go_on_after(&mut self, then: Then) {
        match then {
            Then::Nothing => {}
            Then::Progress(to) if self.is_registered() => self.progress(to),
            Then::Progress(_) => {}
            Then::Over(subscription) => self
                .actions
                .push_back(Action::Unsubscribed(Arc::clone(&subscription.id))),
            Then::Join(replay, until) => self.joined(replay, until, Vec::new()),
            Then::Joined(replay, until, later) => self.joined(replay, until, later),
        }
    }

    /// Gives up the registration, to rejoin from where the client is.
    fn fall_behind(&mut self) {
        self.registered = Registered::No;
        self.behind = true;
        self.actions.push_back(Action::Leave);
    }

    /// Notes that the live subscriptions are complete up to a place. The client is told if that is news to it, and not
    /// inside a transaction.
    fn progress(&mut self, to: Position) {
        if to <= self.at {
            return;
        }
        self.at = to;
        if to.done == lsn::Done::Commit && !self.live.is_empty() {
            self.actions.push_back(Action::Progress(to.end));
        }
    }

    fn prepared(&mut self, id: Arc<str>, preparation: Preparation) {
        self.work = None;
        match preparation {
            _ if !self.awaits(&id) => self.actions.push_back(Action::ForgetRows(id)),
            Preparation::Unneeded => debug_assert!(false, "a subscription that is awaited is needed"),
            Preparation::Refused(error) => self.refuse(id, error),
            Preparation::Rows => self.jobs.push_back(Job::Rows(id)),
            Preparation::From {
                subscription,
                start,
                subscribed,
                at_head,
            } => {
                self.actions.push_back(Action::Send(subscribed));
                let replay = self.begin_replay(Vec::new(), Some(subscription), start, None);
                // A subscription that starts at the head, as most do, goes to the router without a replay.
                if at_head && !self.is_behind() {
                    self.hand_over(replay);
                } else {
                    self.jobs.push_back(Job::Replay(replay));
                }
            }
        }
    }

    fn rows(&mut self, id: Arc<str>, rows: Rows) {
        self.work = None;
        match rows {
            _ if !self.awaits(&id) => self.actions.push_back(Action::ForgetRows(id)),
            Rows::Nothing => self.jobs.push_back(Job::Rows(id)),
            Rows::Message(text) => {
                self.actions.push_back(Action::Send(text));
                self.jobs.push_back(Job::Rows(id));
            }
            Rows::End(subscription, boundary) => {
                let start = Position::after(boundary.after);
                let replay = self.begin_replay(Vec::new(), Some(subscription), start, Some(boundary));
                self.actions.push_back(Action::ForgetRows(id));
                self.jobs.push_back(Job::Replay(replay));
            }
            Rows::Refused(error) => {
                self.actions.push_back(Action::ForgetRows(Arc::clone(&id)));
                self.refuse(id, error);
            }
        }
    }

    fn refuse(&mut self, id: Arc<str>, error: Box<ErrorMessage>) {
        self.has_joined(&id);
        self.actions.push_back(Action::Refuse(id, error));
    }

    fn removed(&mut self) {
        let Some(Work::Remove(subscription)) = self.work.take() else {
            debug_assert!(false, "nothing was being removed");
            return;
        };
        self.registered = Registered::Here;
        // Whatever the outbox still holds of it is sent before the client is told that it is over.
        self.take(Then::Over(subscription));
    }

    /// Begins a replay for the whole connection, or for one subscription alone from its start on, which is the boundary
    /// of its snapshot if it began with one.
    fn begin_replay(
        &mut self,
        mut subscriptions: Vec<ActiveSubscription>,
        alone: Option<Arc<Subscription>>,
        start: Position,
        boundary: Option<Arc<SnapshotBoundary>>,
    ) -> Box<Replay> {
        subscriptions.extend(alone.iter().map(|subscription| ActiveSubscription {
            subscription: Arc::clone(subscription),
            after: start,
        }));
        let id = ReplayId(self.next_replay);
        self.next_replay = self.next_replay.wrapping_add(1);
        self.replays += 1;
        Replay::new(id, subscriptions, alone, start, boundary)
    }

    /// Ends a replay that is done, or not needed any more.
    fn end_replay(&mut self, replay: &Replay) {
        self.replays -= 1;
        self.actions.push_back(Action::LetGo(replay.id));
    }
}
