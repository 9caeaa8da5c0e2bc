//! [`Reach`]: pings that are answered once the connection is complete up to a place.
//!
//! A ping waits for the subscriptions that were asked for before it to be live, and for all live ones to be complete up
//! to its place. While the connection is fed by the router, that is known once the router has come to the place and the
//! contents of the outbox are sent; while it reads the journal, once it has come that far there.

use std::time::Instant;

use super::{Action, Cursor, Pending, Registered, Then};
use crate::lsn::{Lsn, Position};
use crate::protocol::{ErrorMessage, Reference};

/// A ping that waits.
#[derive(Debug)]
pub(super) struct Reach {
    place: Position,
    reference: Option<Reference>,
    /// The number of subscriptions that it waits for: the first ones of those that are joining.
    awaits: usize,
    since: Instant,
}

impl Cursor {
    /// The number of pings that wait.
    pub(in crate::session) fn reaches(&self) -> usize {
        self.reaches.len()
    }

    /// The first place beyond `reached` that a ping waits for, and since when one does.
    pub(in crate::session) fn awaited(&self, reached: Lsn) -> Option<(Lsn, Instant)> {
        let places = self.reaches.iter().map(|reach| (reach.place.end, reach.since));
        places.filter(|(place, _)| *place > reached).min()
    }

    /// True if pings can be answered once everything up to `reached`, where the router is, has been sent.
    pub(in crate::session) fn is_due(&self, reached: Lsn) -> bool {
        let can_be_asked = self.live.is_empty() || self.registered == Registered::Here;
        can_be_asked && self.reaches.iter().any(|reach| reach.is_free(reached))
    }

    pub(super) fn reach(&mut self, place: Position, reference: Option<Reference>, now: Instant) {
        self.reaches.push(Reach {
            place,
            reference,
            awaits: self.joining.len(),
            since: now,
        });
    }

    /// Continues with the router at `reached`.
    pub(super) fn reached(&mut self, reached: Lsn) {
        if self.live.is_empty() {
            self.answer(Position::after(reached));
        } else if self.is_due(reached) {
            self.take(Then::Progress(Position::after(reached)));
        }
    }

    /// Refuses the pings that wait for this place.
    pub(super) fn unreachable(&mut self, place: Lsn, error: &ErrorMessage) {
        for reach in self.reaches.extract_if(.., |reach| reach.place.end == place) {
            let error = error.clone().answering(reach.reference);
            self.actions.push_back(Action::RefusePing(Box::new(error)));
        }
    }

    /// Notes that a subscription, the one of this index among those that were joining, is live or over.
    pub(super) fn await_no_more(&mut self, index: usize) {
        for reach in self.reaches.iter_mut().filter(|reach| reach.awaits > index) {
            reach.awaits -= 1;
        }
    }

    /// True if a ping waits for a place at or before this one, and for nothing else.
    pub(super) fn is_awaited(&self, at: Position) -> bool {
        self.reaches
            .iter()
            .any(|reach| reach.awaits == 0 && reach.place <= at)
    }

    /// Answers the pings whose places the live subscriptions have come to, unless an action awaits its answer: it is
    /// the last of its list.
    pub(super) fn answer_reaches(&mut self) {
        if !self.live.is_empty() && matches!(self.pending, Pending::Nothing) {
            self.answer(self.at);
        }
    }

    fn answer(&mut self, at: Position) {
        if !self.is_awaited(at) {
            return;
        }
        let is_answered = |reach: &mut Reach| reach.awaits == 0 && reach.place <= at;
        for reach in self.reaches.extract_if(.., is_answered) {
            self.actions.push_back(Action::Pong(reach.reference, at));
        }
        if self.reaches.is_empty() {
            // Free the space: of many connections, few have a ping that waits.
            self.reaches = Vec::new();
        }
    }
}

impl Reach {
    /// True if it waits for nothing but a place that the router has reached.
    fn is_free(&self, reached: Lsn) -> bool {
        self.awaits == 0 && self.place.end <= reached
    }
}
