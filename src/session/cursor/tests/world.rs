//! A model of everything around the cursor: it performs actions as the session does, at moments that a script chooses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::client::{Client, Frames, State, Subscribed};
use super::log::{Log, Reader};
use super::router::{Command, Router};
use crate::delivery::{Delivery, Received, ReplayOutput, Standing};
use crate::log::SnapshotBoundary;
use crate::lsn::{Lsn, Position};
use crate::matching::Subscription;
use crate::protocol::Subscribe;
use crate::session::cursor::{Action, Cursor, Delivered, Input, ReadRequest, Reading, ReplayId, Wait};

/// The work that the session has under way beside the client.
#[derive(Debug)]
pub(super) enum Work {
    Prepare(Arc<str>),
    Rows(Arc<str>),
    Read(Box<ReadRequest>),
    HasRead(
        ReplayId,
        Result<(ReplayOutput, Reader), ReadFailure>,
        Box<ReadRequest>,
    ),
    Command(Command),
    HandedOver(Position),
    Removed,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum ReadFailure {
    NotYet,
    Exhausted,
    Expired,
    Failed,
    EpochChanged,
}

/// The rows of a snapshot on their way.
#[derive(Debug)]
pub(super) struct RowsOnTheirWay {
    pub(super) subscription: Arc<Subscription>,
    pub(super) boundary: Option<Arc<SnapshotBoundary>>,
    pub(super) seen: Arc<[Lsn]>,
}

/// The end of a connection.
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
    pub(super) frames: Frames,
    pub(super) work: Option<Work>,
    /// The session holds the registration.
    pub(super) is_registered: bool,
    pub(super) readers: Vec<(ReplayId, Reader)>,
    pub(super) rows: Vec<RowsOnTheirWay>,
    pub(super) boundaries: Vec<(Arc<SnapshotBoundary>, Arc<[Lsn]>)>,
    pub(super) epoch_changed: bool,
    /// A read has failed for good.
    pub(super) has_failed: bool,
    /// The subscriptions that a client may still make.
    pub(super) unused: Vec<Arc<Subscription>>,
    pub(super) message: Subscribe,
    pub(super) opening: Vec<(Arc<str>, Opening)>,
    /// The number of pings that the client has sent.
    pub(super) pings: u32,
    /// True if everything that happens is printed.
    traces: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Opening {
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
            pings: 0,
            traces,
        }
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if self.traces {
            eprintln!("{}", what());
        }
    }

    pub(super) fn chance(&mut self, of: u32) -> bool {
        self.has_faults && self.rng.u32(0..of) == 0
    }

    /// Hands an input to the cursor, and performs all actions that follow.
    pub(super) fn feed(&mut self, input: Input) {
        self.note(|| format!("  {input:?}"));
        if self.closed.is_some() {
            return;
        }
        self.cursor.on(input, self.now);
        while self.closed.is_none()
            && let Some(action) = self.cursor.next_action()
        {
            if let Some(answer) = self.perform(action) {
                self.note(|| format!("  {answer:?}"));
                self.cursor.on(answer, self.now);
            }
        }
        if self.work.is_none() && self.closed.is_none() {
            self.cursor.start(self.now);
            while let Some(action) = self.cursor.next_action() {
                assert!(self.perform(action).is_none(), "a job begins without an answer");
            }
        }
        if self.closed.is_none() {
            self.cursor.knows_all_replays();
        }
    }

    /// Has the pings answered that can be.
    pub(super) fn see_to_reaches(&mut self) {
        let reached = self.router.position;
        if self.closed.is_some() || !self.cursor.is_due(reached) {
            return;
        }
        if self.epoch_changed {
            self.feed(Input::EpochChanged);
        } else {
            self.feed(Input::Reached(reached));
        }
    }

    fn perform(&mut self, action: Action) -> Option<Input> {
        self.note(|| format!("    -> {action:?}"));
        self.meanwhile();
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
                // The client takes nothing for a while. If that is long, the router keeps nothing for it.
                if let Some(registration) = &mut self.router.registration
                    && self.rng.bool()
                {
                    registration.give_up(Received::Behind);
                }
            }
            // Its content was noted when it was made.
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
            Action::Pong(reference, position) => {
                let number = reference.expect("each has a number").to_string();
                self.client.pong(number.parse().unwrap(), position, log);
            }
            Action::RefusePing(_) => panic!("all places come"),
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

    /// Lets the database and the router advance while the session waits for its client.
    fn meanwhile(&mut self) {
        match self.rng.u32(0..24) {
            0 => self.write(),
            1..5 => self.route(),
            5 => self.drop_table(),
            _ => {}
        }
    }

    fn begin(&mut self, work: Work) {
        assert!(self.work.is_none(), "one thing at a time");
        self.work = Some(work);
    }

    /// Delivers as many of these items as the client takes.
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

    /// Advances the work at hand.
    pub(super) fn work(&mut self) {
        let Some(work) = self.work.take() else {
            // It waits for an event of its own.
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
                // The server is asked to write on, so that the history reaches the awaited place.
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

    fn has_read(
        &mut self,
        replay: ReplayId,
        read: Result<(ReplayOutput, Reader), ReadFailure>,
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
                // A shared reader is not kept.
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
        // A failed read for one subscription alone ends only that one.
        if request.only.is_some() && !matches!(reading, Reading::Found { .. }) {
            self.has_failed = false;
        }
        self.feed(Input::Read(reading, routed));
    }

    /// From now on nothing goes wrong: within a bounded number of rounds all subscriptions must reach the head and be
    /// live there.
    pub(super) fn settle(&mut self) {
        self.has_faults = false;
        // So that places in the future have come.
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
            self.see_to_reaches();
            // Pings are answered without it.
            if self.client.pings.is_empty() {
                self.tick();
            }
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
            // A subscription whose table is gone has ended.
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
            && self.client.pings.is_empty()
            && self.cursor.is_idle()
    }
}
