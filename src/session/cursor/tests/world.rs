//! A model of everything around the cursor: it performs actions as the session does, at moments that a script chooses.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::client::{Client, Frames, State, Subscribed};
use super::log::{Log, Matching, Reader, Transaction};
use super::router::{Command, Router};
use crate::delivery::{Delivery, Found, Received, Standing};
use crate::lsn::{Lsn, Position};
use crate::matching::Subscription;
use crate::protocol::{ErrorCode, ErrorMessage, Subscribe};
use crate::session::cursor::{
    Action, Cursor, Delivered, Input, Preparation, ReadRequest, Reading, ReplayId, Rows, Wait,
};
use crate::snapshot::SnapshotBoundary;

pub(super) const TOPICS: u8 = 4;

/// What the session has under way beside the client.
#[derive(Debug)]
enum Work {
    Prepare(Arc<str>),
    Rows(Arc<str>),
    Read(Box<ReadRequest>),
    HasRead(ReplayId, Result<(Found, Reader), ReadFailure>, Box<ReadRequest>),
    Command(Command),
    HandedOver(Position),
    Removed,
}

#[derive(Clone, Copy, Debug)]
enum ReadFailure {
    NotYet,
    Exhausted,
    Expired,
    Failed,
    EpochChanged,
}

/// The rows of a snapshot on their way.
#[derive(Debug)]
struct RowsOnTheirWay {
    subscription: Arc<Subscription>,
    boundary: Option<Arc<SnapshotBoundary>>,
    seen: Arc<[Lsn]>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    EpochChanged,
    Unreadable,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) log: Log,
    pub(super) router: Router,
    pub(super) cursor: Cursor,
    pub(super) client: Client,
    pub(super) closed: Option<Closed>,
    /// Things go wrong, and the client stalls.
    pub(super) has_faults: bool,
    frames: Frames,
    work: Option<Work>,
    /// The session holds the registration.
    is_registered: bool,
    readers: Vec<(ReplayId, Reader)>,
    rows: Vec<RowsOnTheirWay>,
    boundaries: Vec<(Arc<SnapshotBoundary>, Arc<[Lsn]>)>,
    epoch_changed: bool,
    /// A read has failed for good.
    has_failed: bool,
    /// What a client may subscribe to.
    unused: Vec<Arc<Subscription>>,
    message: Subscribe,
    opening: Vec<(Arc<str>, Opening)>,
    /// What happens is printed.
    traces: bool,
}

#[derive(Clone, Copy, Debug)]
enum Opening {
    Now,
    After(Position),
    Rows,
}

impl World {
    pub(super) fn new(rng: Rng, unused: Vec<Arc<Subscription>>, message: Subscribe, traces: bool) -> World {
        World {
            rng,
            now: Instant::now(),
            log: Log::default(),
            router: Router {
                at: Position::after(Lsn(100)),
                position: Lsn(100),
                registration: None,
            },
            cursor: Cursor::new(Duration::from_millis(500)),
            client: Client::default(),
            closed: None,
            has_faults: true,
            frames: Frames::default(),
            work: None,
            is_registered: false,
            readers: Vec::new(),
            rows: Vec::new(),
            boundaries: Vec::new(),
            epoch_changed: false,
            has_failed: false,
            unused,
            message,
            opening: Vec::new(),
            traces,
        }
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.traces {
            eprintln!("{}", what());
        }
    }

    fn chance(&mut self, of: u32) -> bool {
        self.has_faults && self.rng.u32(0..of) == 0
    }

    /// Something happened; everything that it leads to is performed.
    fn feed(&mut self, input: Input) {
        self.note(|| format!("  {input:?}"));
        let mut actions = VecDeque::from(self.cursor.on(input, self.now));
        while let Some(action) = actions.pop_front()
            && self.closed.is_none()
        {
            if let Some(answer) = self.perform(action) {
                assert!(actions.is_empty(), "what is to be answered is the last");
                self.note(|| format!("  {answer:?}"));
                actions.extend(self.cursor.on(answer, self.now));
            }
        }
        if self.work.is_none() && self.closed.is_none() {
            for action in self.cursor.start(self.now) {
                assert!(self.perform(action).is_none(), "a job begins without an answer");
            }
        }
    }

    fn perform(&mut self, action: Action) -> Option<Input> {
        self.note(|| format!("    -> {action:?}"));
        let log = &self.log;
        match action {
            Action::Deliver(items) => return Some(Input::Sent(self.deliver(items))),
            Action::Take => {
                let registration = self.router.registration.as_mut().filter(|_| self.is_registered);
                let (received, items) = registration
                    .and_then(|registration| registration.take())
                    .map_or((None, Vec::new()), |(received, items)| (Some(received), items));
                return Some(Input::Taken(received, items));
            }
            Action::Flush => {
                self.now += Duration::from_millis(1_500);
                // The client takes nothing for a while: if it is long, nothing is kept for it.
                if let Some(registration) = &mut self.router.registration
                    && self.rng.bool()
                {
                    registration.give_up(Received::Behind);
                }
            }
            // What it says was noted when it was made.
            Action::Send(_) => {}
            Action::Live(subscription, position) => self.client.goes_live(&subscription, position, log),
            Action::Unsubscribed(id) => {
                assert!(
                    self.client.find(&id).is_unsubscribed,
                    "{id:?} was not unsubscribed"
                );
                self.client.is_over(&id);
            }
            Action::Refuse(id, _) => self.client.is_over(&id),
            Action::Progress(to) => self.client.progress(to, log),
            Action::EndEpoch => {
                assert!(self.epoch_changed, "the history is the same");
                self.closed = Some(Closed::EpochChanged);
            }
            Action::Close(..) => {
                assert!(self.has_failed, "nothing went wrong");
                self.closed = Some(Closed::Unreadable);
            }
            Action::Leave => {
                self.is_registered = false;
                self.router.registration = None;
            }
            Action::ForgetRows(id) => self.rows.retain(|rows| !Arc::ptr_eq(&rows.subscription.id, &id)),
            Action::LetGo(replay) => self.readers.retain(|(other, _)| *other != replay),
            Action::LeaveOut(replay, subscription) => {
                for (_, reader) in self.readers.iter_mut().filter(|(other, _)| *other == replay) {
                    let subscriptions = &mut reader.matching.subscriptions;
                    subscriptions.retain(|placed| !Arc::ptr_eq(&placed.subscription, &subscription));
                }
            }
            Action::Prepare(id, _) => self.begin(Work::Prepare(id)),
            Action::ReadRows { id, .. } => self.begin(Work::Rows(id)),
            Action::Read(request) => self.begin(Work::Read(request)),
            Action::Join(subscriptions, at) => {
                assert!(!self.is_registered, "registered twice");
                self.begin(Work::Command(Command::Join(subscriptions, at)));
            }
            Action::Add(subscription, at) => {
                assert!(self.is_registered, "added without a registration");
                self.begin(Work::Command(Command::Add(subscription, at)));
            }
            Action::Remove(subscription) => {
                assert!(self.is_registered, "removed without a registration");
                self.begin(Work::Command(Command::Remove(subscription)));
            }
        }
        None
    }

    fn begin(&mut self, work: Work) {
        assert!(self.work.is_none(), "one thing at a time");
        self.work = Some(work);
    }

    /// The client takes so much of this.
    fn deliver(&mut self, items: Vec<Delivery>) -> Delivered {
        let mut delivered = Delivered::default();
        for item in items {
            if self.chance(12) {
                delivered.stalled = true;
                delivered.is_cut = true;
                return delivered;
            }
            match item {
                Delivery::Frame(frame) => {
                    self.client.frame(self.frames.of(&frame), &self.log);
                    delivered.position = Some(frame.position);
                }
                Delivery::Ended { subscription, .. } => {
                    assert!(self.log.is_gone(&subscription), "its table is there");
                    self.client.is_over(&subscription.id);
                    delivered.ended.push(subscription);
                }
            }
        }
        delivered.stalled = self.chance(20);
        delivered
    }

    /// A step of a script. False if there was nothing to be done of the kind that was drawn.
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
    fn drop_table(&mut self) {
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

    /// The work at hand goes on.
    pub(super) fn work(&mut self) {
        let Some(work) = self.work.take() else {
            // Whatever it waits for is an event.
            return;
        };
        if self.epoch_changed && !matches!(work, Work::Command(_) | Work::Read(_) | Work::Removed) {
            return self.feed(Input::EpochChanged);
        }
        match work {
            Work::Prepare(id) => {
                let preparation = self.prepare(&id);
                self.feed(Input::Prepared(id, preparation));
            }
            Work::Rows(id) => {
                let rows = self.read_rows(&id);
                self.feed(Input::Rows(id, rows));
            }
            Work::Read(request) => {
                // The server is asked to write on, so that a place comes that is waited for.
                if !self.has_faults
                    && request.wait != Wait::No
                    && request.from.position.end >= self.log.head()
                {
                    self.write();
                }
                let read = self.read(&request);
                self.work = Some(Work::HasRead(request.replay, read, request));
            }
            Work::HasRead(replay, read, request) => self.has_read(replay, read, &request),
            Work::HandedOver(position) => {
                self.is_registered = true;
                let gone = self.log.gone_of(self.cursor.at_work());
                self.feed(Input::HandedOver { position, gone });
            }
            Work::Removed => self.feed(Input::Removed),
            // The router has to come to it.
            Work::Command(_) => self.work = Some(work),
        }
    }

    fn refusal(&self) -> Box<ErrorMessage> {
        Box::new(ErrorMessage::new(ErrorCode::Internal, "no"))
    }

    fn prepare(&mut self, id: &Arc<str>) -> Preparation {
        if !self.cursor.awaits(id) {
            return Preparation::Unneeded;
        }
        let (_, opening) = self
            .opening
            .iter()
            .find(|(other, _)| Arc::ptr_eq(other, id))
            .unwrap();
        let opening = *opening;
        let subscribed = self.client.find(id);
        let subscription = Arc::clone(&subscribed.subscription);
        if self.log.is_gone(&subscription) {
            return Preparation::Refused(self.refusal());
        }
        let start = match opening {
            Opening::Rows => {
                self.rows.push(RowsOnTheirWay {
                    subscription,
                    boundary: None,
                    seen: Arc::default(),
                });
                return Preparation::Rows;
            }
            Opening::After(start) => start,
            Opening::Now => Position::after(self.router.position.min(self.log.head())),
        };
        subscribed.starts(start, Arc::default());
        Preparation::From {
            subscription,
            start,
            subscribed: "subscribed".to_owned(),
            at_head: matches!(opening, Opening::Now) && self.log.head() <= start.end,
        }
    }

    fn read_rows(&mut self, id: &Arc<str>) -> Rows {
        if !self.cursor.awaits(id) {
            return Rows::Nothing;
        }
        if self.chance(20) {
            return Rows::Refused(self.refusal());
        }
        let place = self
            .rows
            .iter()
            .position(|rows| Arc::ptr_eq(&rows.subscription.id, id));
        let place = place.unwrap();
        let rows = &mut self.rows[place];
        match (&rows.boundary, self.rng.u32(0..3)) {
            (_, 0) => Rows::Nothing,
            (None, _) => {
                // It saw everything up to a place, nothing behind another, and some of what lies in between.
                let head = self.log.head();
                let after = Lsn(head.0.saturating_sub(10 * self.rng.u64(0..4)).max(100));
                let until = Lsn(head.0 + 10 * self.rng.u64(0..3));
                let (rng, ends) = (&mut self.rng, (after.0 / 10 + 1..=until.0 / 10));
                let between: Vec<Lsn> = ends.filter(|_| rng.bool()).map(|end| Lsn(end * 10)).collect();
                rows.seen = between.into();
                let boundary = Arc::new(SnapshotBoundary::between(after, until));
                rows.boundary = Some(Arc::clone(&boundary));
                let seen = Arc::clone(&rows.seen);
                self.boundaries.push((boundary, Arc::clone(&seen)));
                self.client.find(id).starts(Position::after(after), seen);
                Rows::Message("subscribed".to_owned())
            }
            (Some(_), 1) => Rows::Message("rows".to_owned()),
            (Some(boundary), _) => Rows::End(Arc::clone(&rows.subscription), Arc::clone(boundary)),
        }
    }

    /// Reads a step, with the reader of the step before if there is one.
    fn read(&mut self, request: &ReadRequest) -> Result<(Found, Reader), ReadFailure> {
        if self.epoch_changed {
            return Err(ReadFailure::EpochChanged);
        }
        if matches!(request.wait, Wait::Start(_)) && request.from.position.end > self.router.position {
            self.now += Duration::from_millis(200);
            if request.from.position.end > self.log.head() {
                return Err(ReadFailure::NotYet);
            }
        }
        if self.chance(20) {
            return Err(ReadFailure::Exhausted);
        }
        if self.chance(150) {
            self.has_failed = true;
            return Err(if self.rng.bool() {
                ReadFailure::Expired
            } else {
                ReadFailure::Failed
            });
        }
        let place = self.readers.iter().position(|(id, _)| *id == request.replay);
        let mut reader = match place {
            // Somebody else may have read for it, too.
            Some(place) => self.readers.swap_remove(place).1,
            None => {
                let mut subscriptions = request.subscriptions.clone();
                for placed in &mut subscriptions {
                    placed.after = placed.after.max(request.from.position);
                }
                Reader {
                    matching: Matching {
                        subscriptions,
                        only: request.only.is_some(),
                        open: request.from.open,
                    },
                    at: request.from.position,
                    seen: self.seen_by(request.boundary.as_ref()),
                }
            }
        };
        let parts = self.rng.usize(1..6);
        let found = reader.step(&self.log, request.until, parts, &mut self.rng, &mut self.frames);
        Ok((found, reader))
    }

    fn seen_by(&self, boundary: Option<&Arc<SnapshotBoundary>>) -> Arc<[Lsn]> {
        let mut boundaries = self.boundaries.iter();
        let is_it = |(other, _): &&(Arc<SnapshotBoundary>, Arc<[Lsn]>)| {
            boundary.is_some_and(|boundary| Arc::ptr_eq(other, boundary))
        };
        boundaries
            .find(is_it)
            .map_or_else(Arc::default, |(_, seen)| Arc::clone(seen))
    }

    fn has_read(
        &mut self,
        replay: ReplayId,
        read: Result<(Found, Reader), ReadFailure>,
        request: &ReadRequest,
    ) {
        let routed = self.router.position;
        let reading = match read {
            Ok((found, reader)) => {
                let gone = if found.done {
                    self.log.gone_of(self.cursor.at_work())
                } else {
                    Vec::new()
                };
                // Where it was read for others too, it does not keep a reader.
                if self.rng.u32(0..4) > 0 {
                    self.readers.push((replay, reader));
                }
                Reading::Found {
                    found,
                    gone,
                    standing: Standing::default(),
                }
            }
            Err(ReadFailure::EpochChanged) => return self.feed(Input::EpochChanged),
            Err(ReadFailure::NotYet) => Reading::NotYet,
            Err(ReadFailure::Exhausted) => Reading::Exhausted,
            Err(ReadFailure::Expired) => Reading::Expired(self.refusal()),
            Err(ReadFailure::Failed) => Reading::Failed(self.refusal()),
        };
        // A failed read of one alone ends only that.
        if request.only.is_some() && !matches!(reading, Reading::Found { .. }) {
            self.has_failed = false;
        }
        self.feed(Input::Read(reading, routed));
    }

    /// Nothing goes wrong any more: in a bounded number of rounds everything that there is comes to the head and is
    /// live there.
    pub(super) fn settle(&mut self) {
        self.has_faults = false;
        // Whatever waits for a place that was to come has come there.
        for _ in 0..3 {
            self.write();
        }
        for _ in 0..1_000 {
            if self.is_settled() {
                return;
            }
            self.now += Duration::from_millis(50);
            self.route();
            self.work();
            self.work();
            self.outbox();
            self.tick();
        }
        panic!(
            "it does not come back: {:#?}\nat work: {:?}\nrouter {} of {}",
            self.cursor,
            self.work,
            self.router.at,
            self.log.head()
        );
    }

    /// The outbox has overflowed.
    pub(super) fn overflow(&mut self) {
        if let Some(registration) = &mut self.router.registration {
            registration.give_up(Received::Behind);
        }
    }

    fn is_settled(&self) -> bool {
        if self.closed.is_some() {
            return true;
        }
        if self.epoch_changed {
            return self.client.live().count() == 0 && self.cursor.is_idle();
        }
        let head = Position::after(self.log.head());
        let is_over = |subscribed: &Subscribed| subscribed.state == State::Over;
        let is_live = |subscribed: &Subscribed| {
            // Whose table is gone has heard that it is over.
            subscribed.state == State::Live
                && !subscribed.is_unsubscribed
                && !self.log.is_gone(&subscribed.subscription)
                && self.cursor.is_registered()
        };
        let all = &self.client.subscriptions;
        self.router.at == head
            && all
                .iter()
                .all(|subscribed| is_over(subscribed) || is_live(subscribed))
            && (self.client.live().count() == 0 || self.client.at == Some(head))
            && self.cursor.is_idle()
    }
}
