//! A model of the client, which knows the changes that it must be sent, and checks every message as it comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::log::{Log, topic};
use crate::delivery::Delivery;
use crate::event::Timestamp;
use crate::lsn::{Done, Lsn, Position};
use crate::matching::Subscription;
use crate::protocol::Frame;

/// The contents of a frame.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) position: Position,
    /// The changes, by seq and subscription.
    pub(super) changes: Vec<(u32, Arc<str>)>,
    /// The only subscription that it is for, if it says so.
    pub(super) only: Option<Arc<str>>,
}

/// The contents of all frames, by the numbers that are their texts.
#[derive(Debug, Default)]
pub(super) struct Frames(Vec<Text>);

impl Frames {
    pub(super) fn frame(&mut self, text: Text) -> Delivery {
        let frame = Frame {
            position: text.position,
            committed_at: Timestamp(0),
            text: self.0.len().to_string().into(),
        };
        self.0.push(text);
        Delivery::Frame(frame)
    }

    pub(super) fn of(&self, frame: &Frame) -> &Text {
        &self.0[frame.text.parse::<usize>().unwrap()]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It was asked for, and is not live yet.
    Joining,
    Live,
    Over,
}

/// A subscription as the client sees it.
#[derive(Debug)]
pub(super) struct Subscribed {
    pub(super) subscription: Arc<Subscription>,
    pub(super) state: State,
    /// The place after which it gets changes, once the client was told.
    pub(super) start: Option<Position>,
    pub(super) seen: Arc<[Lsn]>,
    /// The place of the last change that it got, or its start.
    got: Position,
    /// More of this transaction is to follow.
    open: Option<Lsn>,
    pub(super) is_unsubscribed: bool,
    /// Nothing more of it may come.
    pub(super) is_revoked: bool,
}

#[derive(Debug, Default)]
pub(super) struct Client {
    pub(super) subscriptions: Vec<Subscribed>,
    /// The last position of the whole connection that it was told.
    pub(super) at: Option<Position>,
    /// The pings that are not answered yet, by their numbers.
    pub(super) pings: BTreeMap<u32, Ping>,
}

/// A ping, which is to be answered once this is true.
#[derive(Debug)]
pub(super) struct Ping {
    /// Everything is complete up to here.
    pub(super) place: Position,
    /// These are live, or over.
    pub(super) awaits: Vec<Arc<str>>,
}

impl Subscribed {
    pub(super) fn new(subscription: Arc<Subscription>) -> Subscribed {
        Subscribed {
            subscription,
            state: State::Joining,
            start: None,
            seen: Arc::default(),
            got: Position::after(Lsn::ZERO),
            open: None,
            is_unsubscribed: false,
            is_revoked: false,
        }
    }

    pub(super) fn starts(&mut self, start: Position, seen: Arc<[Lsn]>) {
        self.start = Some(start);
        self.got = start;
        self.seen = seen;
    }

    /// The place of the first change of the log that it must get, after what it got.
    fn next(&self, log: &Log) -> Option<Position> {
        let mut index = log.index_after(self.got);
        while let Some(transaction) = log.transactions.get(index) {
            let from = transaction.count_before(self.got);
            if !self.seen.contains(&transaction.end) {
                let mut rest = transaction.topics.iter().enumerate().skip(from);
                if let Some((seq, _)) = rest.find(|(_, of)| **of == topic(&self.subscription)) {
                    return Some(Position::after_change(transaction.end, seq as u32));
                }
            }
            index += 1;
        }
        None
    }

    /// It got a change.
    pub(super) fn has_some(&self) -> bool {
        self.start.is_some_and(|start| self.got > start)
    }

    /// It got everything up to a place, and nothing beyond.
    fn is_complete_at(&self, place: Position, log: &Log) -> bool {
        self.next(log).is_none_or(|next| next > place)
            && (self.got <= place || self.start.is_some_and(|start| self.got == start))
    }

    fn change(&mut self, place: Position, log: &Log) {
        assert_ne!(
            self.state,
            State::Over,
            "{:?} is over and gets {place}",
            self.subscription.id
        );
        assert!(
            self.start.is_some(),
            "{:?} gets {place} before it began",
            self.subscription.id
        );
        assert_eq!(
            Some(place),
            self.next(log),
            "{:?} gets {place} and is to get what is on the right",
            self.subscription.id
        );
        self.got = place;
    }

    fn opened(&mut self, position: Position) {
        if let Some(open) = self.open {
            assert_eq!(
                open, position.end,
                "{:?} waits for the rest of {open}",
                self.subscription.id
            );
        }
        self.open = (position.done != Done::Commit).then_some(position.end);
    }
}

impl Client {
    pub(super) fn find(&mut self, id: &Arc<str>) -> &mut Subscribed {
        let is_it = |subscribed: &&mut Subscribed| Arc::ptr_eq(&subscribed.subscription.id, id);
        self.subscriptions.iter_mut().find(is_it).unwrap()
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Subscribed> {
        let is_live = |subscribed: &&Subscribed| subscribed.state == State::Live;
        self.subscriptions.iter().filter(is_live)
    }

    pub(super) fn frame(&mut self, text: &Text, log: &Log) {
        let end = text.position.end;
        for (seq, id) in &text.changes {
            let subscribed = self.find(id);
            assert!(!subscribed.is_revoked, "{id:?} was revoked");
            match &text.only {
                Some(only) => assert!(
                    Arc::ptr_eq(only, id),
                    "a frame of {only:?} has a change of {id:?}"
                ),
                None => assert!(
                    subscribed.state == State::Live || subscribed.is_unsubscribed,
                    "{id:?} is not live, and in a frame of all"
                ),
            }
            subscribed.change(Position::after_change(end, *seq), log);
        }
        match &text.only {
            Some(only) => {
                let subscribed = self.find(only);
                assert_eq!(
                    subscribed.state,
                    State::Joining,
                    "a frame of {only:?} alone, which is not on its way"
                );
                subscribed.opened(text.position);
                assert!(
                    subscribed.is_complete_at(text.position, log),
                    "{only:?} is not complete at {}",
                    text.position
                );
            }
            None => {
                for subscribed in &mut self.subscriptions {
                    if subscribed.state == State::Live && !subscribed.is_unsubscribed {
                        subscribed.opened(text.position);
                    }
                }
                self.all_at(text.position, log);
            }
        }
    }

    /// Checks that the live subscriptions are complete at a place which the client was told: it may resume all of them
    /// from there.
    fn all_at(&mut self, place: Position, log: &Log) {
        assert!(
            self.at.is_none_or(|at| at <= place) || self.live().count() == 0,
            "the connection goes back from {:?} to {place}",
            self.at
        );
        self.at = Some(place);
        for subscribed in self.live() {
            // It went on without those that were unsubscribed.
            assert!(
                subscribed.is_unsubscribed || subscribed.is_complete_at(place, log),
                "{:?} is not complete at {place}: got {}, next {:?}",
                subscribed.subscription.id,
                subscribed.got,
                subscribed.next(log)
            );
        }
    }

    pub(super) fn progress(&mut self, to: Lsn, log: &Log) {
        for subscribed in self.live() {
            assert_eq!(
                subscribed
                    .open
                    .filter(|open| *open <= to && !subscribed.is_unsubscribed),
                None,
                "progress to {to} inside a transaction"
            );
        }
        self.all_at(Position::after(to), log);
    }

    pub(super) fn pong(&mut self, number: u32, at: Position, log: &Log) {
        let Ping { place, awaits } = self.pings.remove(&number).expect("it was asked for");
        assert!(at >= place, "a pong at {at} for {place}");
        for id in awaits {
            let subscribed = self.find(&id);
            let is_awaited = subscribed.state == State::Joining && !subscribed.is_unsubscribed;
            assert!(!is_awaited, "a pong before {id:?} is live");
        }
        if self.live().any(|subscribed| !subscribed.is_unsubscribed) {
            self.all_at(at, log);
        }
    }

    pub(super) fn goes_live(&mut self, subscription: &Arc<Subscription>, position: Position, log: &Log) {
        let before = self.at.filter(|_| self.live().count() > 0);
        let subscribed = self.find(&subscription.id);
        assert_eq!(subscribed.state, State::Joining, "{subscription:?} goes live");
        assert!(
            subscribed.start.is_some_and(|start| start <= position),
            "live before its start"
        );
        subscribed.state = State::Live;
        self.at = before;
        // A client that resumes all subscriptions at the last position that it was told must lose and repeat nothing.
        self.all_at(before.map_or(position, |before| before.max(position)), log);
    }

    /// Ends a subscription: nothing more of it may come.
    pub(super) fn is_over(&mut self, id: &Arc<str>) {
        let subscribed = self.find(id);
        assert_ne!(subscribed.state, State::Over, "{id:?} is over twice");
        subscribed.state = State::Over;
    }
}
