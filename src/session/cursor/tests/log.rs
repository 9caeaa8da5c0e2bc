//! A model of the journal: transactions whose changes have topics, and reading it for subscriptions.

use std::sync::Arc;

use super::client::{Frames, Text};
use crate::delivery::{ActiveSubscription, Delivery, ReplayOutput, ResumePoint};
use crate::lsn::{Done, Lsn, Position};
use crate::matching::Subscription;
use crate::protocol::{ErrorCode, ErrorMessage};

/// A transaction: the topics of its changes. Without changes, it is a place that the history reached without a
/// transaction.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) end: Lsn,
    pub(super) topics: Vec<u8>,
    /// The table of a topic changed, so that its subscriptions end before this.
    pub(super) drops: Option<u8>,
}

impl Transaction {
    fn place(&self, seq: usize) -> Position {
        Position::after_change(self.end, seq as u32)
    }

    /// The place behind the first `count` changes, of which there is one at least unless it has none.
    pub(super) fn place_behind(&self, count: usize) -> Position {
        if count >= self.topics.len() {
            Position::after(self.end)
        } else {
            self.place(count - 1)
        }
    }

    /// The number of its changes at or before a place.
    pub(super) fn count_before(&self, place: Position) -> usize {
        match place.done {
            _ if place.end > self.end => self.topics.len(),
            Done::Commit if place.end == self.end => self.topics.len(),
            Done::Change(seq) if place.end == self.end => (seq as usize + 1).min(self.topics.len()),
            _ => 0,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) transactions: Vec<Transaction>,
    /// The topics whose tables are gone.
    pub(super) gone: Vec<u8>,
}

/// The topic of a subscription: the last character of its id.
pub(super) fn topic(subscription: &Subscription) -> u8 {
    subscription.id.as_bytes()[subscription.id.len() - 1] - b'0'
}

/// The end of a subscription whose table is gone.
pub(super) fn end_of(subscription: &Arc<Subscription>) -> Delivery {
    Delivery::Ended {
        subscription: Arc::clone(subscription),
        error: Box::new(ErrorMessage::new(ErrorCode::SchemaChanged, "gone")),
    }
}

impl Log {
    pub(super) fn head(&self) -> Lsn {
        self.transactions
            .last()
            .map_or(Lsn(100), |transaction| transaction.end)
    }

    /// The place of the first transaction that is not all before a place.
    pub(super) fn index_after(&self, place: Position) -> usize {
        self.transactions
            .partition_point(|transaction| Position::after(transaction.end) <= place)
    }

    pub(super) fn is_gone(&self, subscription: &Subscription) -> bool {
        self.gone.contains(&topic(subscription))
    }

    /// The ends of those whose tables are gone.
    pub(super) fn gone_of(&self, subscriptions: &[ActiveSubscription]) -> Vec<Delivery> {
        let is_gone = |placed: &&ActiveSubscription| self.is_gone(&placed.subscription);
        let gone = subscriptions.iter().filter(is_gone);
        gone.map(|placed| end_of(&placed.subscription)).collect()
    }
}

/// A reading of the log: by a replay, or by the router for a registration.
#[derive(Clone, Debug)]
pub(super) struct Matching {
    pub(super) subscriptions: Vec<ActiveSubscription>,
    pub(super) only: bool,
    /// The client was told that more of the transaction at hand follows.
    pub(super) open: bool,
}

impl Matching {
    /// The changes that a part of a transaction, from `from` to `to`, has for the subscriptions.
    pub(super) fn part(
        &mut self,
        transaction: &Transaction,
        from: usize,
        to: usize,
        frames: &mut Frames,
        items: &mut Vec<Delivery>,
    ) {
        if let Some(dropped) = transaction.drops.filter(|_| from == 0) {
            let ends = |placed: &mut ActiveSubscription| {
                topic(&placed.subscription) == dropped && placed.after < Position::after(transaction.end)
            };
            for placed in self.subscriptions.extract_if(.., ends) {
                items.push(end_of(&placed.subscription));
            }
        }
        let mut changes = Vec::new();
        for seq in from..to {
            let place = transaction.place(seq);
            for placed in &self.subscriptions {
                if topic(&placed.subscription) == transaction.topics[seq] && placed.after < place {
                    changes.push((seq as u32, Arc::clone(&placed.subscription.id)));
                }
            }
        }
        let is_last = to == transaction.topics.len();
        if changes.is_empty() && !(is_last && self.open) {
            return;
        }
        self.open = !is_last;
        let position = if is_last {
            Position::after(transaction.end)
        } else {
            transaction.place(to - 1)
        };
        items.push(
            frames.frame(Text {
                position,
                changes,
                only: self
                    .only
                    .then(|| self.subscriptions.first())
                    .flatten()
                    .map(|placed| Arc::clone(&placed.subscription.id)),
            }),
        );
    }
}

/// A reading of the log by a replay.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) matching: Matching,
    /// Everything up to here was read.
    pub(super) at: Position,
    /// The positions of the transactions that the rows of a snapshot hold, up to the boundary's end.
    pub(super) seen: Arc<[Lsn]>,
}

impl Reader {
    /// Reads on until `until` or the head, or so many parts of transactions.
    pub(super) fn step(
        &mut self,
        log: &Log,
        until: Option<Position>,
        mut parts: usize,
        rng: &mut fastrand::Rng,
        frames: &mut Frames,
    ) -> ReplayOutput {
        let mut items = Vec::new();
        let mut next = ResumePoint {
            position: self.at,
            open: self.matching.open,
        };
        let reached = |at: Position| until.is_some_and(|until| at >= until);
        let mut index = log.index_after(self.at);
        while let Some(transaction) = log.transactions.get(index)
            && parts > 0
            && !reached(self.at)
        {
            parts -= 1;
            let count = transaction.topics.len();
            if self.seen.contains(&transaction.end) {
                self.at = Position::after(transaction.end);
                index += 1;
                continue;
            }
            let from = transaction.count_before(self.at);
            let mut to = match rng.u32(0..3) {
                0 if from < count => rng.usize(from + 1..=count),
                _ => count,
            };
            if let Some(until) = until.filter(|until| until.end == transaction.end) {
                to = to.min(transaction.count_before(until));
            }
            self.matching.part(transaction, from, to, frames, &mut items);
            self.at = transaction.place_behind(to);
            if to == count {
                self.at = Position::after(transaction.end);
                index += 1;
            }
        }
        next.position = self.at;
        next.open = self.matching.open;
        ReplayOutput {
            items,
            next,
            done: reached(self.at) || index == log.transactions.len(),
            is_cut: false,
        }
    }
}
