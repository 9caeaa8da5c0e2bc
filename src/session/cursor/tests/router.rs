//! A model of the router and of the one outbox that it has for the connection.

use std::sync::Arc;

use super::client::Frames;
use super::log::{Log, Matching, end_of, topic};
use crate::delivery::{ActiveSubscription, Delivery, Received};
use crate::lsn::{Done, Lsn, Position};
use crate::matching::Subscription;

#[derive(Debug)]
pub(super) struct Registration {
    matching: Matching,
    items: Vec<Delivery>,
    /// The outbox takes nothing more.
    refuses: Option<Received>,
    capacity: usize,
}

#[derive(Debug)]
pub(super) enum Command {
    Join(Vec<ActiveSubscription>, Position),
    Add(Arc<Subscription>, Position),
    Remove(Arc<Subscription>),
}

#[derive(Debug)]
pub(super) struct Router {
    pub(super) at: Position,
    /// Every transaction up to here is in the outbox.
    pub(super) position: Lsn,
    pub(super) registration: Option<Registration>,
}

impl Registration {
    pub(super) fn take(&mut self) -> Option<(Received, Vec<Delivery>)> {
        match self.refuses {
            Some(refuses) => Some((refuses, Vec::new())),
            None if self.items.is_empty() => None,
            None => Some((Received::Items, std::mem::take(&mut self.items))),
        }
    }

    /// Stops taking items, after an overflow or because the client takes nothing.
    pub(super) fn give_up(&mut self, why: Received) {
        self.items.clear();
        self.refuses = Some(why);
        self.matching.subscriptions.clear();
    }

    fn push(&mut self, items: Vec<Delivery>) {
        if self.refuses.is_none() {
            self.items.extend(items);
            if self.items.len() > self.capacity {
                self.give_up(Received::Behind);
            }
        }
    }

    fn open(&mut self, at: Position) {
        self.matching.open |= at.done != Done::Commit;
    }
}

impl Router {
    /// Performs a command of the session, unless it is too early for it. Returns the place from which on the router
    /// serves it.
    pub(super) fn apply(&mut self, command: &Command, capacity: usize) -> Option<Position> {
        match command {
            Command::Join(subscriptions, after) => {
                let mut registration = Registration {
                    matching: Matching {
                        subscriptions: subscriptions.clone(),
                        only: false,
                        open: false,
                    },
                    items: Vec::new(),
                    refuses: None,
                    capacity,
                };
                registration.open(self.at.max(*after));
                self.registration = Some(registration);
            }
            Command::Add(subscription, after) => {
                let registration = self.registration.as_mut().expect("a registration to add to");
                if registration.refuses.is_none() {
                    if *after > self.at {
                        return None;
                    }
                    registration.matching.subscriptions.push(ActiveSubscription {
                        subscription: Arc::clone(subscription),
                        after: *after,
                    });
                    registration.open(self.at.max(*after));
                }
            }
            Command::Remove(subscription) => {
                let registration = self.registration.as_mut().expect("a registration to remove from");
                let subscriptions = &mut registration.matching.subscriptions;
                subscriptions.retain(|placed| !Arc::ptr_eq(&placed.subscription, subscription));
            }
        }
        Some(self.at)
    }

    /// Delivers the next part of the log; false if there is none.
    pub(super) fn step(&mut self, log: &Log, rng: &mut fastrand::Rng, frames: &mut Frames) -> bool {
        let Some(transaction) = log.transactions.get(log.index_after(self.at)) else {
            return false;
        };
        let count = transaction.topics.len();
        let from = transaction.count_before(self.at);
        let to = match rng.u32(0..3) {
            0 if from < count => rng.usize(from + 1..=count),
            _ => count,
        };
        if let Some(registration) = &mut self.registration {
            let mut items = Vec::new();
            registration
                .matching
                .part(transaction, from, to, frames, &mut items);
            registration.push(items);
        }
        if to == count {
            self.at = Position::after(transaction.end);
            self.position = transaction.end;
        } else {
            self.at = transaction.place_behind(to);
        }
        true
    }

    /// Ends the subscriptions to a table that was found gone.
    pub(super) fn end(&mut self, dropped: u8) {
        if let Some(registration) = &mut self.registration {
            let is_its = |placed: &mut ActiveSubscription| topic(&placed.subscription) == dropped;
            let ended = registration.matching.subscriptions.extract_if(.., is_its);
            let ended: Vec<Delivery> = ended.map(|placed| end_of(&placed.subscription)).collect();
            registration.push(ended);
        }
    }
}
