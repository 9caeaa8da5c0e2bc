//! [`Replay`]: how far the journal has been read for subscriptions that are not at the head. Pure.
//!
//! It goes step by step, so that a slow client is sent one step's messages before the next is read.

use std::sync::Arc;
use std::time::Instant;

use crate::delivery::{ActiveSubscription, Delivery, Found, ResumePoint, Standing};
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
    /// The one that catches up alone; none if it is the whole connection.
    pub(super) alone: Option<Arc<Subscription>>,
    /// Those that came to the head alone while the whole connection had not. They wait where they are for it to come
    /// there: from then on it is read for them too.
    pub(super) coming: Vec<Replay>,
    /// The place where it goes on, and where it went on before the last step.
    next: ResumePoint,
    before: ResumePoint,
    /// Something has been read: the place where it starts has come.
    has_begun: bool,
    /// Since when the place where it starts has been waited for.
    pub(super) waits_since: Option<Instant>,
    /// The part that the readers remember of it.
    pub(super) standing: Standing,
    /// The part that the subscription has by its snapshot. The router knows nothing of that, so it takes over beyond
    /// it.
    boundary: Option<Arc<SnapshotBoundary>>,
    /// The last step came to the head.
    at_head: bool,
    /// The place where the router takes over, once it is known. Until this has come there, the connection's
    /// registration rests.
    pub(super) until: Option<Position>,
}

/// The part to read in one step, and for whom.
#[derive(Debug)]
pub(in crate::session) struct ReadRequest {
    pub(in crate::session) replay: ReplayId,
    pub(in crate::session) subscriptions: Arc<Vec<ActiveSubscription>>,
    /// The one that is read for alone, if it is not the whole connection.
    pub(in crate::session) only: Option<Arc<Subscription>>,
    pub(in crate::session) from: ResumePoint,
    /// Up to here, if not to the head.
    pub(in crate::session) until: Option<Position>,
    pub(in crate::session) boundary: Option<Arc<SnapshotBoundary>>,
    pub(in crate::session) standing: Standing,
    /// The event to wait for before anything is read.
    pub(in crate::session) wait: Wait,
}

/// The event that a step waits for, a moment at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) enum Wait {
    /// Nothing.
    No,
    /// The head is to move, and may go on moving meanwhile.
    Apart,
    /// The head is to come to the boundary of a snapshot.
    Boundary,
    /// The place to start from is to be there; since when it is waited for.
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

    /// True if it is of the whole connection.
    pub(super) fn is_of_all(&self) -> bool {
        self.alone.is_none()
    }

    /// The next step of it.
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

    /// The place where the next of those that wait for it is.
    fn next_coming(&self) -> Option<Position> {
        self.coming.iter().map(Replay::at).min()
    }

    /// Has one that is further on, or as far, wait for it; gives it back if that cannot be.
    pub(super) fn awaits(&mut self, replay: Box<Replay>) -> Result<(), Box<Replay>> {
        // Once the router has the others, it is a moment until it can have this one.
        if self.until.is_some() || replay.at() < self.at() {
            return Err(replay);
        }
        self.coming.push(*replay);
        Ok(())
    }

    /// Those whose places it has come to.
    pub(super) fn met(&mut self) -> Vec<Replay> {
        let at = self.at();
        self.coming.extract_if(.., |coming| coming.at() <= at).collect()
    }

    /// It is read for one more from where it is.
    pub(super) fn take_in(&mut self, subscription: Arc<Subscription>) {
        let after = self.at();
        Arc::make_mut(&mut self.subscriptions).push(ActiveSubscription { subscription, after });
    }

    /// True if there may still be transactions that the snapshot's rows hold already.
    fn is_before_boundary(&self) -> bool {
        let boundary = self.boundary.as_ref();
        boundary.is_some_and(|boundary| boundary.is_ahead_of(self.at()))
    }

    pub(super) fn leave_out(&mut self, subscription: &Arc<Subscription>) {
        Arc::make_mut(&mut self.subscriptions)
            .retain(|placed| !Arc::ptr_eq(&placed.subscription, subscription));
    }

    /// True if the place to start from has not been reached yet by the router, which is at `routed`.
    pub(super) fn is_early(&self, routed: Lsn) -> bool {
        self.is_before_boundary() || !self.has_begun && self.at().end > routed
    }

    /// True if it stays apart at the head, where the router would take it over: the whole connection, as long as it
    /// has a query that takes long.
    pub(super) fn waits_apart(&self, now: Instant) -> bool {
        self.is_of_all() && self.until.is_none() && ActiveSubscription::any_is_apart(&self.subscriptions, now)
    }

    /// Goes back to `position`, or to where the last step began: what came after it was not sent.
    pub(super) fn rewind(&mut self, position: Option<Position>) {
        self.next = position.map_or(self.before, ResumePoint::told);
        self.at_head = false;
    }

    /// Goes on behind a step that had nothing to read.
    pub(super) fn nothing_more(&mut self, gone: Vec<Delivery>) -> Step {
        self.took(Found::nothing(self.next), gone)
    }

    /// Goes on behind what was found. At its end those end whose tables are `gone`.
    pub(super) fn took(&mut self, found: Found, gone: Vec<Delivery>) -> Step {
        // Where others wait for it, it only halts.
        let halts = self
            .next_coming()
            .is_some_and(|place| found.next.position >= place);
        let done = found.done && !halts;
        self.before = std::mem::replace(&mut self.next, found.next);
        self.has_begun = true;
        self.at_head = done;
        let mut items = found.items;
        if done {
            let ended: Vec<_> = items.iter().filter_map(ended).cloned().collect();
            let is_new = |item: &Delivery| {
                ended.iter().all(|before| !ended_is(item, before))
                    && self
                        .subscriptions
                        .iter()
                        .any(|placed| ended_is(item, &placed.subscription))
            };
            items.extend(gone.into_iter().filter(is_new));
        }
        Step { items, done }
    }
}

/// The finds of one step.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// The items that the client gets, in order.
    pub(super) items: Vec<Delivery>,
    /// True if there is nothing more to read now, or not up to where it was to read.
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
