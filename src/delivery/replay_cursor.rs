//! [`ReplayCursor`]: reads the journal for one connection, for one subscription that catches up alone, or for many of
//! them at once.
//!
//! Matching and framing are the same as at the head, over another reader, so a client gets the same bytes either way.

use std::sync::Arc;
use std::time::Instant;

use super::handle::ActiveSubscription;
use super::outbox::Delivery;
use crate::log::{self, Batch, Entry, Log, LogReader, SnapshotBoundary};
use crate::lsn::{Done, Position, Start};
use crate::matching::{ConnectionId, Lane, Sink, Subscription, SubscriptionRegistry};
use crate::protocol::{ErrorMessage, Frame};

/// A place in the journal, and the requests that are served from there.
pub struct ReplayCursor<H: Log> {
    reader: H::Reader,
    registry: SubscriptionRegistry,
    readings: Readings,
    /// The part of the history that the one subscription has from its snapshot.
    boundary: Option<Arc<SnapshotBoundary>>,
    /// Everything up to here has been read.
    at: Position,
    /// The batch that was read from the journal but is not processed yet, and the number of its entries that are.
    rest: Option<(Batch, usize)>,
    /// The work that is enough for a step.
    enough: u64,
}

/// A request to a cursor: the part of the journal to read, and for which subscriptions.
pub struct ReplayFilter<'w> {
    /// The subscriptions to read for.
    pub subscriptions: &'w [ActiveSubscription],
    /// The subscription that catches up alone; `None` for a whole connection.
    pub only: Option<&'w Subscription>,
    /// The place to start from.
    pub from: ResumePoint,
    /// The place to stop at; `None` for the head.
    pub until: Option<Position>,
}

/// The place where reading resumes.
#[derive(Clone, Copy, Debug)]
pub struct ResumePoint {
    /// The position up to which everything was delivered.
    pub position: Position,
    /// The client was told that more of the transaction at hand follows.
    pub open: bool,
}

impl ResumePoint {
    /// The place that the client names, or the end of the last frame that it was sent.
    pub fn told(position: Position) -> ResumePoint {
        ResumePoint {
            position,
            open: position.done != Done::Commit,
        }
    }
}

/// The result of one step for one request.
#[derive(Debug)]
pub struct ReplayOutput {
    /// The items that the client gets, in order.
    pub items: Vec<Delivery>,
    /// The place where it goes on.
    pub next: ResumePoint,
    /// True if there is nothing more to read now, or nothing up to the place to stop at.
    pub done: bool,
    /// True if the cursor is further on than the request, and cannot continue it.
    pub is_cut: bool,
}

impl ReplayOutput {
    /// An empty result, with nothing more to read from there on now.
    pub fn nothing(from: ResumePoint) -> ReplayOutput {
        ReplayOutput {
            items: Vec::new(),
            next: from,
            done: true,
            is_cut: false,
        }
    }
}

/// The requests that a shared cursor serves: they join as it comes to their places, and are told the results.
pub trait ReplaySink {
    /// The place of the next request that has not joined.
    fn next(&self) -> Option<Position>;
    /// Has the next request join the cursor.
    fn join(&mut self, joins: impl FnOnce(&ReplayFilter<'_>));
    /// Takes a result for the request of that number, counted from 0 in the order of joining. Returns true if the
    /// cursor is to read no more for it.
    fn found(&mut self, number: usize, found: ReplayOutput) -> bool;
}

/// The result of a request that is served alone.
struct Alone(Option<ReplayOutput>);

impl ReplaySink for Alone {
    fn next(&self) -> Option<Position> {
        None
    }

    fn join(&mut self, _: impl FnOnce(&ReplayFilter<'_>)) {}

    fn found(&mut self, _: usize, found: ReplayOutput) -> bool {
        let before = self.0.replace(found);
        debug_assert!(before.is_none(), "one step finds one thing");
        false
    }
}

/// The amount of the journal that is read at a time, in bytes.
const BATCH_BYTES: usize = if cfg!(test) { 3_000 } else { 64 * 1024 };
/// The amount of the journal that one step reads at most, in bytes, however little of it matches, so that other
/// requests get their turn.
const STEP_BYTES: usize = if cfg!(test) { 20_000 } else { 4 * 1024 * 1024 };
/// The work that one step does at most, except for a single change.
const STEP_WORK: u64 = 20_000_000;
/// The amount that one step finds at most, in bytes, except for the first request: shared frames count once.
const FOUND_BYTES: usize = if cfg!(test) { 4_000 } else { 8 * 1024 * 1024 };

impl<H: Log> ReplayCursor<H> {
    /// A cursor that reads from `start` on, without requests yet, with frames of about `max_frame_bytes`. In a step
    /// each request gets a frame or two.
    pub fn new(
        history: &H,
        start: Position,
        boundary: Option<Arc<SnapshotBoundary>>,
        max_frame_bytes: usize,
    ) -> Result<ReplayCursor<H>, log::Error> {
        Ok(ReplayCursor {
            reader: history.reader(Start::After(start))?,
            registry: SubscriptionRegistry::for_each(max_frame_bytes),
            readings: Readings {
                max_bytes: max_frame_bytes,
                ..Readings::default()
            },
            boundary,
            at: start,
            rest: None,
            enough: 0,
        })
    }

    /// Reads for one more request, whose place is where the cursor is or further on.
    pub fn join(&mut self, wanted: &ReplayFilter<'_>) {
        let number = match wanted.only {
            Some(subscription) => self.registry.connect_only(&subscription.id),
            None => self.registry.connect(),
        };
        let ResumePoint { position, open } = wanted.from;
        if open {
            self.registry.open(number, position);
        }
        for ActiveSubscription { subscription, after } in wanted.subscriptions {
            self.registry
                .subscribe(number, subscription, (*after).max(position));
        }
        self.readings.all.push(Reading {
            items: Vec::new(),
            bytes: 0,
            next: wanted.from,
            until: wanted.until,
            waits: true,
            is_cut: false,
        });
        self.readings.waiting += 1;
    }

    /// Continues a request that was told its last result.
    pub fn go_on(&mut self, number: usize, until: Option<Position>) {
        if let Some(reading) = self.readings.all.get_mut(number).filter(|reading| !reading.waits) {
            reading.until = until;
            reading.waits = true;
            self.readings.waiting += 1;
        }
    }

    /// Stops reading for a subscription.
    pub fn leave_out(&mut self, number: usize, subscription: &Arc<Subscription>) {
        self.registry.unsubscribe(number, subscription);
    }

    /// Reads on for the only request, and returns its result.
    pub fn step_alone(&mut self, lane: Lane) -> Result<Option<ReplayOutput>, log::Error> {
        let mut alone = Alone(None);
        self.step(&mut alone, lane)?;
        Ok(alone.0)
    }

    /// Reads on until each request has a result, or the step has done enough.
    pub fn step(&mut self, audience: &mut impl ReplaySink, lane: Lane) -> Result<(), log::Error> {
        self.readings.kept = 0;
        self.registry.bound(lane, Instant::now());
        self.enough = self.registry.worked().saturating_add(STEP_WORK);
        let mut read = 0;
        self.tell_reached(audience);
        while self.readings.waiting > 0 {
            let (batch, taken) = match self.rest.take() {
                Some(rest) => rest,
                None => match self.reader.next_blocking(BATCH_BYTES)? {
                    Some(batch) => {
                        read += batch.len();
                        (batch, 0)
                    }
                    None => {
                        self.let_in(audience, None);
                        self.tell_all(true, audience);
                        return Ok(());
                    }
                },
            };
            for (index, entry) in batch.entries().enumerate().skip(taken) {
                let done = self.read(entry?, audience)?;
                if self.readings.waiting == 0 || self.has_enough() {
                    self.rest = Some((batch.clone(), index + usize::from(done)));
                    break;
                }
            }
            if read >= STEP_BYTES || self.has_enough() {
                self.tell_all(false, audience);
            }
        }
        Ok(())
    }

    /// Reads an entry, or as much of it as one step does. Returns true if it is done with the entry.
    fn read(&mut self, entry: Entry<'_>, audience: &mut impl ReplaySink) -> Result<bool, log::Error> {
        let mut piece = match entry {
            Entry::Position(lsn) => {
                self.pass(Position::after(lsn), audience);
                return Ok(true);
            }
            Entry::Piece(piece) => piece,
        };
        if self
            .boundary
            .as_ref()
            .is_some_and(|boundary| boundary.saw(&piece.transaction))
        {
            self.pass(piece.end_position(), audience);
            return Ok(true);
        }
        self.let_in(audience, Some(piece.end_position()));
        if self.at.end == piece.transaction.end
            && let Done::Change(seq) = self.at.done
        {
            piece.changes = piece.changes.from_seq(seq.saturating_add(1))?;
        }
        let mut rest = Some(piece);
        while let Some(piece) = rest {
            // A request may have to stop in the middle of a piece, where the router took over: nothing behind that
            // place is delivered together with what lies before it.
            let (mut part, after) = match self.readings.next_until {
                Some(until) if until.end == piece.transaction.end => piece.split_at(until)?,
                _ => (piece, None),
            };
            loop {
                let is_read = self.registry.deliver(&mut part, &mut self.readings)?;
                self.pass(part.position(), audience);
                let has_enough = self.readings.waiting == 0 || self.has_enough();
                if has_enough && !(is_read && after.is_none()) {
                    return Ok(false);
                }
                if is_read {
                    break;
                }
            }
            rest = after;
        }
        Ok(true)
    }

    /// True if a step has found or done enough.
    fn has_enough(&self) -> bool {
        self.readings.kept >= FOUND_BYTES || self.registry.worked() >= self.enough
    }

    /// The registry that it matches with, for its counts.
    pub fn registry(&mut self) -> &mut SubscriptionRegistry {
        &mut self.registry
    }

    /// Has the requests join whose places come before `end`, or all of them.
    fn let_in(&mut self, audience: &mut impl ReplaySink, end: Option<Position>) {
        let comes = |next: Position| end.is_none_or(|end| next < end);
        while audience.next().is_some_and(comes) {
            audience.join(|wanted| self.join(wanted));
            self.tell_if_reached(self.readings.all.len() - 1, audience);
        }
    }

    /// Notes that everything up to `at` was delivered, and tells the results of requests that have enough.
    fn pass(&mut self, at: Position, audience: &mut impl ReplaySink) {
        self.at = self.at.max(at);
        while let Some(number) = self.readings.full.pop() {
            self.tell(number, false, audience);
        }
        if self.readings.next_until.is_some_and(|until| self.at >= until) {
            self.tell_reached(audience);
        }
    }

    /// Tells the results of requests that have come to the place to stop at.
    fn tell_reached(&mut self, audience: &mut impl ReplaySink) {
        self.readings.next_until = None;
        for number in 0..self.readings.all.len() {
            self.tell_if_reached(number, audience);
        }
    }

    /// Tells the result of a request that has come to its place to stop at, by its own place or because nothing lies
    /// between that and the cursor. Notes the places where the others stop.
    fn tell_if_reached(&mut self, number: usize, audience: &mut impl ReplaySink) {
        let reading = self.readings.all.get(number).filter(|reading| reading.waits);
        let Some((until, next)) = reading.and_then(|reading| Some((reading.until?, reading.next))) else {
            return;
        };
        if self.at.max(next.position) >= until {
            self.tell(number, true, audience);
        } else {
            self.readings.stop_at(until);
        }
    }

    fn tell_all(&mut self, done: bool, audience: &mut impl ReplaySink) {
        for number in 0..self.readings.all.len() {
            self.tell(number, done, audience);
        }
    }

    fn tell(&mut self, number: usize, done: bool, audience: &mut impl ReplaySink) {
        let Some(reading) = self.readings.all.get_mut(number).filter(|reading| reading.waits) else {
            return;
        };
        if !reading.is_cut {
            reading.next.position = reading.next.position.max(self.at);
        }
        let next = reading.next;
        let found = ReplayOutput {
            items: std::mem::take(&mut reading.items),
            next,
            is_cut: reading.is_cut,
            done: done && !reading.is_cut || reading.until.is_some_and(|until| next.position >= until),
        };
        reading.waits = false;
        reading.bytes = 0;
        self.readings.waiting -= 1;
        if audience.found(number, found) {
            self.registry.unsubscribe_all(number);
        }
    }
}

/// The results of all requests, by their numbers.
#[derive(Debug, Default)]
struct Readings {
    all: Vec<Reading>,
    /// The number of requests without a result yet.
    waiting: usize,
    /// The requests that have enough.
    full: Vec<usize>,
    /// The first place where a request stops.
    next_until: Option<Position>,
    /// The amount that is enough, in bytes.
    max_bytes: usize,
    /// The amount that was found in this step, in bytes.
    kept: usize,
    /// The place where the last text lies that was counted.
    counted: usize,
}

impl Readings {
    fn stop_at(&mut self, until: Position) {
        self.next_until = Some(self.next_until.map_or(until, |next| next.min(until)));
    }
}

#[derive(Debug)]
struct Reading {
    items: Vec<Delivery>,
    bytes: usize,
    /// The place where the request resumes after its results.
    next: ResumePoint,
    until: Option<Position>,
    waits: bool,
    /// Results were dropped that lie before the place of the cursor.
    is_cut: bool,
}

impl Sink for Readings {
    fn frame(&mut self, number: ConnectionId, frame: &Frame) {
        let Some(reading) = self.all.get_mut(number).filter(|reading| reading.waits) else {
            return;
        };
        // The first request always makes progress, even past the byte budget.
        if reading.is_cut || self.kept >= FOUND_BYTES && number > 0 {
            reading.is_cut = true;
            return;
        }
        let text = frame.text.as_str();
        if self.counted != text.as_ptr().addr() {
            self.counted = text.as_ptr().addr();
            self.kept += text.len();
        }
        let had_enough = reading.bytes >= self.max_bytes;
        reading.bytes += text.len();
        reading.next = ResumePoint::told(frame.position);
        reading.items.push(Delivery::Frame(frame.clone()));
        if !had_enough && reading.bytes >= self.max_bytes {
            self.full.push(number);
        }
    }

    fn put_apart(&mut self, number: ConnectionId) {
        if let Some(reading) = self.all.get_mut(number).filter(|reading| reading.waits) {
            reading.is_cut = true;
            self.full.push(number);
        }
    }

    fn ended(&mut self, number: ConnectionId, subscription: &Arc<Subscription>, error: ErrorMessage) {
        if let Some(reading) = self.all.get_mut(number) {
            reading.items.push(Delivery::Ended {
                subscription: Arc::clone(subscription),
                error: Box::new(error),
            });
        }
    }
}
