//! [`Replay`]: the state of reading the journal for subscriptions that are not at the head. Pure.
//!
//! It goes in steps: the messages of one are sent before the next is read, however slow the client is.

use std::sync::Arc;
use std::time::Instant;

use crate::delivery::{ActiveSubscription, Delivery, ReplayOutput, ResumePoint, Standing};
use crate::log::SnapshotBoundary;
use crate::lsn::{Lsn, Position};
use crate::matching::Subscription;

/// A replay's number on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::session) struct ReplayId(pub(super) u32);

/// A replay of the journal for subscriptions that are not at the head.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) id: ReplayId,
    pub(super) subscriptions: Arc<Vec<ActiveSubscription>>,
    /// The subscription that catches up alone; `None` for the whole connection.
    pub(super) alone: Option<Arc<Subscription>>,
    /// Replays of single subscriptions that are ahead of this one of the whole connection. They pause until it reaches
    /// them, and are part of it from there on.
    pub(super) coming: Vec<Replay>,
    /// The place where it goes on.
    next: ResumePoint,
    before: ResumePoint,
    /// True once the history has reached the place where it starts.
    has_begun: bool,
    /// The time since which it waits for the history to reach its start.
    pub(super) waits_since: Option<Instant>,
    /// Its standing with the pool of readers.
    pub(super) standing: Standing,
    /// The boundary of the subscription's snapshot. The router knows nothing of it, so it takes over beyond it only.
    boundary: Option<Arc<SnapshotBoundary>>,
    /// True if the last step came to the head.
    at_head: bool,
    /// The place where the router takes over, once that is known. Until the replay has come there, nothing is taken
    /// from the outbox.
    pub(super) until: Option<Position>,
}

/// A request to read one step.
#[derive(Debug)]
pub(in crate::session) struct ReadRequest {
    pub(in crate::session) replay: ReplayId,
    pub(in crate::session) subscriptions: Arc<Vec<ActiveSubscription>>,
    /// The subscription that is read for alone; `None` for the whole connection.
    pub(in crate::session) only: Option<Arc<Subscription>>,
    pub(in crate::session) from: ResumePoint,
    /// The place to stop at; `None` for the head.
    pub(in crate::session) until: Option<Position>,
    pub(in crate::session) boundary: Option<Arc<SnapshotBoundary>>,
    pub(in crate::session) standing: Standing,
    /// The event to wait for before reading.
    pub(in crate::session) wait: Wait,
}

/// An event that a step waits for, for a moment at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Wait {
    /// Nothing.
    No,
    /// The head moves on, after a pause: for connections that are served apart.
    Apart,
    /// The head reaches the boundary of a snapshot.
    Boundary,
    /// The history reaches the start, which has been awaited since this time.
    Start(Option<Instant>),
}

impl Replay {
    pub(super) fn new(
        id: ReplayId,
        subscriptions: Vec<ActiveSubscription>,
        alone: Option<Arc<Subscription>>,
        start: Position,
        boundary: Option<Arc<SnapshotBoundary>>,
    ) -> Box<Replay> {
        Box::new(Replay {
            id,
            subscriptions: Arc::new(subscriptions),
            alone,
            coming: Vec::new(),
            next: ResumePoint::told(start),
            before: ResumePoint::told(start),
            has_begun: false,
            waits_since: None,
            standing: Standing::default(),
            boundary,
            at_head: false,
            until: None,
        })
    }

    /// Everything up to here has been read.
    pub(super) fn at(&self) -> Position {
        self.next.position
    }

    /// True if it is for the whole connection.
    pub(super) fn is_of_all(&self) -> bool {
        self.alone.is_none()
    }

    /// The request for its next step.
    pub(super) fn request(&self, now: Instant) -> ReadRequest {
        let wait = if self.at_head && self.waits_apart(now) {
            Wait::Apart
        } else if self.at_head && self.is_before_boundary() {
            Wait::Boundary
        } else if !self.has_begun && self.alone.is_some() {
            Wait::Start(self.waits_since)
        } else {
            Wait::No
        };
        ReadRequest {
            replay: self.id,
            subscriptions: Arc::clone(&self.subscriptions),
            only: self.alone.clone(),
            from: self.next,
            until: self.until.into_iter().chain(self.next_coming()).min(),
            boundary: self.boundary.clone(),
            standing: self.standing,
            wait,
        }
    }

    /// The place of the next replay that waits for it.
    fn next_coming(&self) -> Option<Position> {
        self.coming.iter().map(Replay::at).min()
    }

    /// Has another replay, which is not behind this one, wait for it. Gives it back if that is not possible.
    pub(super) fn awaits(&mut self, replay: Box<Replay>) -> Result<(), Box<Replay>> {
        // Once the router has the others, it can soon take this one.
        if self.until.is_some() || replay.at() < self.at() {
            return Err(replay);
        }
        self.coming.push(*replay);
        Ok(())
    }

    /// Takes out the waiting replays whose places it has reached.
    pub(super) fn met(&mut self) -> Vec<Replay> {
        let at = self.at();
        self.coming.extract_if(.., |coming| coming.at() <= at).collect()
    }

    /// Adds a subscription, from where the replay is.
    pub(super) fn take_in(&mut self, subscription: Arc<Subscription>) {
        let after = self.at();
        Arc::make_mut(&mut self.subscriptions).push(ActiveSubscription { subscription, after });
    }

    /// True if transactions may follow that the snapshot's rows already hold.
    fn is_before_boundary(&self) -> bool {
        let boundary = self.boundary.as_ref();
        boundary.is_some_and(|boundary| boundary.is_ahead_of(self.at()))
    }

    pub(super) fn leave_out(&mut self, subscription: &Arc<Subscription>) {
        Arc::make_mut(&mut self.subscriptions)
            .retain(|placed| !Arc::ptr_eq(&placed.subscription, subscription));
    }

    /// True if the router, which is at `routed`, has not reached the place to start from yet.
    pub(super) fn is_early(&self, routed: Lsn) -> bool {
        self.is_before_boundary() || !self.has_begun && self.at().end > routed
    }

    /// True if it stays at the head instead of being handed over to the router: for the whole connection, as long as
    /// one of its queries is served apart.
    pub(super) fn waits_apart(&self, now: Instant) -> bool {
        self.is_of_all() && self.until.is_none() && ActiveSubscription::any_is_apart(&self.subscriptions, now)
    }

    /// Goes back to `position`, or to where the last step began if `None`, since what followed was not sent.
    pub(super) fn rewind(&mut self, position: Option<Position>) {
        self.next = position.map_or(self.before, ResumePoint::told);
        self.at_head = false;
    }

    /// The step of a replay that has nothing to read.
    pub(super) fn nothing_more(&mut self, gone: Vec<Delivery>) -> Step {
        self.took(ReplayOutput::nothing(self.next), gone)
    }

    /// Moves on to the end of a step. The subscriptions of `gone` end.
    pub(super) fn took(&mut self, found: ReplayOutput, gone: Vec<Delivery>) -> Step {
        // Where others wait for it, it only pauses.
        let halts = self
            .next_coming()
            .is_some_and(|place| found.next.position >= place);
        let done = found.done && !halts;
        self.before = std::mem::replace(&mut self.next, found.next);
        self.has_begun = true;
        self.at_head = done;
        let mut items = found.items;
        let ended: Vec<_> = items.iter().filter_map(ended).cloned().collect();
        let is_new = |item: &Delivery| {
            ended.iter().all(|before| !ended_is(item, before))
                && self
                    .subscriptions
                    .iter()
                    .any(|placed| ended_is(item, &placed.subscription))
        };
        items.extend(gone.into_iter().filter(is_new));
        Step { items, done }
    }
}

/// The result of one step.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The items that the client gets, in order.
    pub(super) items: Vec<Delivery>,
    /// True if there is nothing more to read now, or nothing up to the place to stop at.
    pub(super) done: bool,
}

/// The subscription that ends by an item.
pub(super) fn ended(item: &Delivery) -> Option<&Arc<Subscription>> {
    match item {
        Delivery::Frame(_) => None,
        Delivery::Ended { subscription, .. } => Some(subscription),
    }
}

/// True if a subscription ends by an item.
pub(super) fn ended_is(item: &Delivery, subscription: &Arc<Subscription>) -> bool {
    ended(item).is_some_and(|ended| Arc::ptr_eq(ended, subscription))
}
