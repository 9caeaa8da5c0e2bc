//! The steps of a script: the actions of the client, the database and the router.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::client::{Ping, State, Subscribed};
use super::log::Transaction;
use super::router::Command;
use super::world::{Opening, Work, World};
use crate::delivery::Received;
use crate::lsn::{Lsn, Position};
use crate::protocol::Reference;
use crate::session::cursor::Input;

/// The number of topics that changes have.
pub(super) const TOPICS: u8 = 4;

impl World {
    /// Performs one random step.
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
            75..79 => self.ping(),
            73..75 => self.revoke(),
            _ => self.work(),
        }
        self.see_to_reaches();
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
                // A place that the history has not reached yet.
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

    /// The client asks for a pong once it has everything up to a place of the past, or a little ahead.
    fn ping(&mut self) {
        if self.closed.is_some() {
            return;
        }
        let end = self.log.head().0 + self.rng.u64(0..25);
        let place = match self.rng.u32(0..4) {
            0 => Position::after_change(Lsn(end.saturating_sub(10)), self.rng.u32(0..3)),
            _ => Position::after(Lsn(end.saturating_sub(10))),
        };
        let number = self.pings;
        self.pings += 1;
        self.note(|| format!("ping {number} {place}"));
        let awaits = self.there();
        self.client.pings.insert(number, Ping { place, awaits });
        let number = RawValue::from_string(number.to_string()).unwrap();
        self.feed(Input::Reach(place, Some(Reference::new(&number))));
    }

    /// The subscriptions that the client has.
    fn there(&self) -> Vec<Arc<str>> {
        let subscriptions = self.client.subscriptions.iter();
        subscriptions
            .filter(|subscribed| subscribed.state != State::Over && !subscribed.is_unsubscribed)
            .map(|subscribed| Arc::clone(&subscribed.subscription.id))
            .collect()
    }

    /// Revokes some subscriptions, whose contents the client may no longer see.
    fn revoke(&mut self) {
        let mut there = self.there();
        there.retain(|_| self.rng.bool());
        if there.is_empty() || self.closed.is_some() {
            return;
        }
        self.note(|| format!("revoke {there:?}"));
        if self.is_registered {
            self.overflow();
        }
        self.feed(Input::Discard);
        for id in there {
            let subscribed = self.client.find(&id);
            subscribed.is_unsubscribed = true;
            subscribed.is_revoked = true;
            self.feed(Input::Unsubscribe(id));
        }
    }

    fn unsubscribe(&mut self) {
        let there = self.there();
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

    /// Drops a table, of which the log says nothing.
    pub(super) fn drop_table(&mut self) {
        let topic = self.rng.u8(0..TOPICS);
        if self.has_faults && self.router.position == self.log.head() && !self.log.gone.contains(&topic) {
            self.note(|| format!("drop {topic}"));
            self.log.gone.push(topic);
            self.router.end(topic);
        }
    }

    /// Lets the router advance.
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

    /// Rarely, changes the epoch or loses the connection.
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
