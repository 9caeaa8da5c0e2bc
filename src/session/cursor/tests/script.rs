//! The steps of a script: what clients, the database and the router do.

use std::sync::Arc;
use std::time::Duration;

use super::client::{State, Subscribed};
use super::log::Transaction;
use super::router::Command;
use super::world::{Opening, Work, World};
use crate::delivery::Received;
use crate::lsn::{Lsn, Position};
use crate::session::cursor::Input;

/// The number of topics that changes have.
pub(super) const TOPICS: u8 = 4;

impl World {
    /// Does something.
    pub(super) fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.u64(0..40));
        match self.rng.u32(0..100) {
            0..8 => self.subscribe(),
            8..11 => self.unsubscribe(),
            11..27 => self.write(),
            27..29 => self.drop_table(),
            29..50 => self.route(),
            50..58 => self.tick(),
            58..72 => self.outbox(),
            72..73 => self.lose(),
            _ => self.work(),
        }
    }

    /// The client subscribes to something.
    pub(super) fn subscribe(&mut self) {
        let Some(subscription) = self.unused.pop() else {
            return;
        };
        let opening = match self.rng.u32(0..4) {
            0 => Opening::Rows,
            1 => Opening::Now,
            2 if self.rng.u32(0..4) == 0 => {
                // It has come to where the history is not yet.
                Opening::After(Position::after(Lsn(self.log.head().0 + self.rng.u64(0..15))))
            }
            _ if self.log.transactions.is_empty() => Opening::After(Position::after(Lsn(100))),
            _ => {
                let transaction = &self.log.transactions[self.rng.usize(..self.log.transactions.len())];
                let count = self.rng.usize(..=transaction.topics.len());
                Opening::After(match count {
                    0 => Position::after(Lsn(transaction.end.0 - 5)),
                    count => transaction.place_behind(count),
                })
            }
        };
        let id = Arc::clone(&subscription.id);
        self.note(|| format!("subscribe {id} {opening:?}"));
        self.opening.push((Arc::clone(&id), opening));
        self.client.subscriptions.push(Subscribed::new(subscription));
        self.feed(Input::Subscribe(id, Box::new(self.message.clone())));
    }

    fn unsubscribe(&mut self) {
        let subscriptions = self.client.subscriptions.iter();
        let there: Vec<Arc<str>> = subscriptions
            .filter(|subscribed| subscribed.state != State::Over && !subscribed.is_unsubscribed)
            .map(|subscribed| Arc::clone(&subscribed.subscription.id))
            .collect();
        if there.is_empty() {
            return;
        }
        let id = Arc::clone(&there[self.rng.usize(..there.len())]);
        self.note(|| format!("unsubscribe {id}"));
        self.client.find(&id).is_unsubscribed = true;
        self.feed(Input::Unsubscribe(id));
    }

    /// One more transaction.
    pub(super) fn write(&mut self) {
        let end = Lsn(self.log.head().0 + 10);
        let count = match self.rng.u32(0..6) {
            0 => 0,
            1 => self.rng.usize(5..12),
            _ => self.rng.usize(1..4),
        };
        let drops = self
            .chance(30)
            .then(|| self.rng.u8(0..TOPICS))
            .filter(|topic| !self.log.gone.contains(topic));
        self.log.gone.extend(drops);
        let mut topics = Vec::new();
        for _ in 0..count {
            let topic = self.rng.u8(0..TOPICS);
            if !self.log.gone.contains(&topic) {
                topics.push(topic);
            }
        }
        let transaction = Transaction { end, topics, drops };
        self.note(|| format!("write {transaction:?}"));
        self.log.transactions.push(transaction);
    }

    /// A table is found gone, of which the log says nothing.
    pub(super) fn drop_table(&mut self) {
        let topic = self.rng.u8(0..TOPICS);
        if self.has_faults && self.router.position == self.log.head() && !self.log.gone.contains(&topic) {
            self.note(|| format!("drop {topic}"));
            self.log.gone.push(topic);
            self.router.end(topic);
        }
    }

    /// The router goes on.
    pub(super) fn route(&mut self) {
        if let Some(Work::Command(command)) = &self.work
            && self.rng.bool()
        {
            // Sessions that fall behind do so early here, but not all.
            let capacity = if self.has_faults {
                self.rng.usize(1..6)
            } else {
                usize::MAX
            };
            let applied = self.router.apply(command, capacity);
            self.note(|| format!("the router did so: {applied:?}"));
            self.work = match (self.work.take(), applied) {
                (Some(Work::Command(Command::Remove(_))), Some(_)) => Some(Work::Removed),
                (_, Some(position)) => Some(Work::HandedOver(position)),
                (work, None) => work,
            };
        } else if self.router.step(&self.log, &mut self.rng, &mut self.frames) {
            let at = self.router.at;
            self.note(|| format!("the router is at {at}"));
        }
    }

    pub(super) fn tick(&mut self) {
        let reached = self.router.position;
        self.feed(Input::Tick { reached });
    }

    pub(super) fn outbox(&mut self) {
        if !self.cursor.is_registered() {
            return;
        }
        assert!(
            self.is_registered,
            "the cursor has a registration that is given up"
        );
        let registration = self.router.registration.as_mut().unwrap();
        if let Some((received, items)) = registration.take() {
            self.feed(Input::Outbox(received, items));
        }
    }

    /// Something that ends much, seldom.
    fn lose(&mut self) {
        if self.chance(10) {
            self.note(|| "the epoch changes".to_owned());
            self.epoch_changed = true;
            if let Some(registration) = &mut self.router.registration {
                registration.give_up(Received::EpochChanged);
            }
        }
    }
}
