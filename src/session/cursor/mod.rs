//! [`Cursor`]: a connection's place in the history. It decides what is read, sent and asked of the router, and when a
//! subscription is live. Pure: what happened comes in as an [`Input`] with the time, and what is to be done goes out
//! as [`Action`]s.
//!
//! Every change must reach the client once. While the client keeps up, frames come from the outbox at the router;
//! when that overflows, the registration is given up, and the whole connection reads on from the journal until the
//! router takes over again. A subscription that starts in the past reads the journal alone, until it moves with the
//! connection. The steps of a hand-over, and why they cannot lose or repeat anything, are in docs/architecture.md
//! ("Joining, falling behind, coming back").
//!
//! The session performs the actions in their order, and answers those that ask for something. Of these there is at
//! most one for the client (`Deliver` or `Take`, always the last of its list) and one beside it (the work at hand).

mod hand_over;
mod jobs;
mod messages;
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
use replay::Replay;
pub(super) use replay::{ReadRequest, ReplayId, Wait};

/// A connection's place in the history, and what is being done for its subscriptions.
#[derive(Debug)]
pub(super) struct Cursor {
    progress_interval: Duration,
    registered: Registered,
    /// It fell behind and gave up its registration. It rejoins before anything else is done at the router: a
    /// registration without all of the live subscriptions would tell of a progress that they have not made.
    behind: bool,
    /// It reads the journal as a whole, to rejoin.
    rejoining: bool,
    /// The time at which the client last heard how far it is while it was served apart.
    progressed: Option<Instant>,
    /// The turns of other jobs meanwhile.
    turns: Turns,
    /// The subscriptions that are neither live nor over.
    joining: Vec<Arc<str>>,
    /// The subscriptions that move with the connection.
    live: Vec<ActiveSubscription>,
    /// They are complete up to here.
    at: Position,
    jobs: VecDeque<Job>,
    work: Option<Work>,
    pending: Pending,
    /// The number of the next replay, and how many there are.
    next_replay: u32,
    replays: usize,
    /// Actions that are to be taken.
    actions: VecDeque<Action>,
}

/// The actions that space is kept for: connections are many.
const FEW_ACTIONS: usize = 8;

/// The place of the connection's registration at the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registered {
    /// There is none: before the first subscription, and while the whole connection reads the journal.
    No,
    /// Here: what the outbox holds is sent as it comes.
    Here,
    /// With the work at hand, or with the replay that reads up to where the router took over. What the outbox holds is
    /// sent after that.
    Lent,
}

/// The job that is being done; its outcome is an input.
#[derive(Debug)]
enum Work {
    Prepare,
    Rows,
    Read(Box<Replay>),
    HandOver(Box<Replay>),
    Remove(Arc<Subscription>),
}

/// The work that goes on once the last action is answered.
#[derive(Debug)]
enum Pending {
    /// None was asked.
    Nothing,
    /// The contents of the outbox are asked for.
    Take(Then),
    /// Items of the outbox are being sent.
    Outbox(Then),
    /// Items of a replay's step are being sent. It came to its end; where the router is.
    Step(Box<Replay>, bool, Lsn),
}

/// The work that comes after the contents of the outbox.
#[derive(Debug)]
enum Then {
    Nothing,
    /// The client hears that everything up to here was sent.
    Progress(Position),
    /// A subscription is over.
    Over(Arc<Subscription>),
    /// A subscription moves with the others from a place on: what the outbox has of after that comes later.
    Join(Box<Replay>, Position),
    Joined(Box<Replay>, Position, Vec<Delivery>),
}

impl Cursor {
    /// A connection without subscriptions. A client that is served apart hears every `progress_interval` how far it is.
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
            pending: Pending::Nothing,
            next_replay: 0,
            replays: 0,
            actions: VecDeque::new(),
        }
    }

    /// True if what the outbox has is to be taken as it comes.
    pub(super) fn is_registered(&self) -> bool {
        self.registered == Registered::Here
    }

    /// The number of live subscriptions.
    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    /// The number of replays.
    pub(super) fn replays(&self) -> usize {
        self.replays
    }

    /// True if a subscription is on its way to be live.
    pub(super) fn awaits(&self, id: &Arc<str>) -> bool {
        self.joining.iter().any(|joining| Arc::ptr_eq(joining, id))
    }

    /// The subscriptions that the work at hand reads for or hands over, unless it is abandoned.
    pub(super) fn at_work(&self) -> &[ActiveSubscription] {
        match &self.work {
            Some(Work::Read(replay) | Work::HandOver(replay)) if !self.is_abandoned(replay) => {
                &replay.subscriptions
            }
            _ => &[],
        }
    }

    /// Takes note of something that happened. What is to be done is in [`Cursor::next_action`].
    pub(super) fn on(&mut self, input: Input, now: Instant) {
        debug_assert!(self.actions.is_empty(), "what asks for an answer is the last");
        match input {
            Input::Subscribe(id, subscribe) => {
                self.joining.push(Arc::clone(&id));
                self.jobs.push_back(Job::Subscribe(id, subscribe));
            }
            Input::Unsubscribe(id) => self.unsubscribe(id),
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
        }
    }

    /// The next thing to be done. What asks for an answer is the last before that.
    pub(super) fn next_action(&mut self) -> Option<Action> {
        let next = self.actions.pop_front();
        if next.is_none() {
            self.actions.shrink_to(FEW_ACTIONS);
        }
        next
    }

    /// Ends a subscription once nothing more of it can come: a job that is about it finds that it is over, and sends
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

    /// A subscription is live, or over.
    fn has_joined(&mut self, id: &Arc<str>) {
        self.joining.retain(|joining| !Arc::ptr_eq(joining, id));
        if self.joining.is_empty() {
            // Connections are many, and most of them have nothing on its way.
            self.joining = Vec::new();
        }
    }

    /// Asks for what the outbox has.
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

    /// Sends what concerns the whole connection.
    fn deliver_to_all(&mut self, mut items: Vec<Delivery>) {
        // A subscription ends once, also if both the router and a replay find that it has to.
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
                    // Whatever was not sent is read again. Until then its place must not seem to be past.
                    self.fall_behind();
                    self.actions.push_back(Action::Flush);
                }
                self.go_on_after(then);
            }
            Pending::Step(replay, done, routed) => self.sent_step(replay, done, &delivered, routed, now),
            Pending::Nothing | Pending::Take(_) => debug_assert!(false, "nothing was being sent"),
        }
    }

    /// Goes on once the contents of the outbox were sent, or are lost because the connection fell behind.
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

    /// Gives up the place at the router, to rejoin from where the client is.
    fn fall_behind(&mut self) {
        self.registered = Registered::No;
        self.behind = true;
        self.actions.push_back(Action::Leave);
    }

    /// The live subscriptions are complete up to a place: the client hears of it if it lies beyond what it was sent,
    /// and not inside a transaction.
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
                // A subscription that starts at the head, as most do, needs no reading before the router takes it.
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
        // Whatever of it the outbox still holds comes before the word that it is over.
        self.take(Then::Over(subscription));
    }

    /// A replay for the whole connection, or from its start on for one subscription alone, with what that has by its
    /// snapshot if it began with one.
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

    /// A replay has come to its end, or is not needed any more.
    fn end_replay(&mut self, replay: &Replay) {
        self.replays -= 1;
        self.actions.push_back(Action::LetGo(replay.id));
    }
}
