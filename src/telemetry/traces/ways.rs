//! [`SourceTraces`]: the traces of one source, and those of a few of its transactions on their way from the commit to the
//! clients.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use super::span::{Span, is_on, time_of};
use crate::event::Transaction;
use crate::lsn::Lsn;

/// The least time between two transactions that are candidates for a trace.
const INTERVAL: Duration = Duration::from_secs(1);
/// The most transactions whose way is followed at the same moment.
const MOST: usize = 4;
/// The most clients whose part of a transaction's way is recorded.
const MOST_SENT: u64 = 8;
/// The time after which a transaction is followed no further: its clients take it later, from the journal.
const PATIENCE: Duration = Duration::from_secs(10);

/// The traces of one source.
#[derive(Debug)]
pub struct SourceTraces {
    source: Option<String>,
    /// The ends of the transactions that are followed, 0 for none: what others ask before they lock.
    ends: [AtomicU64; MOST],
    ways: Mutex<Ways>,
}

#[derive(Debug, Default)]
struct Ways {
    /// The time of the last candidate.
    last: Option<Instant>,
    followed: [Option<Way>; MOST],
}

/// A transaction that is followed.
#[derive(Debug)]
struct Way {
    span: Span,
    began: Instant,
    end: Lsn,
    /// The time of its last step.
    stepped: SystemTime,
    is_journaled: bool,
    /// The number of frames that the router made of it, once it has.
    frames: Option<u64>,
    /// The number of them that were sent.
    sent: u64,
}

impl Way {
    /// Notes a step, which took from the last one until now.
    fn step(&mut self, name: &'static str) -> Span {
        let since = std::mem::replace(&mut self.stepped, SystemTime::now());
        self.span.part_from(name, Some(since))
    }

    /// Notes that it is visible in the journal, if that was not noted yet.
    fn is_visible(&mut self) {
        if !self.is_journaled {
            self.is_journaled = true;
            drop(self.step("transaction journal"));
        }
    }

    fn is_done(&self) -> bool {
        let most = |frames: u64| frames.min(MOST_SENT);
        self.frames.is_some_and(|frames| self.sent >= most(frames))
    }
}

impl SourceTraces {
    /// The traces of the source of that name, or of the only one.
    pub(in crate::telemetry) fn new(source: Option<&str>) -> SourceTraces {
        SourceTraces {
            source: source.map(str::to_owned),
            ends: [const { AtomicU64::new(0) }; MOST],
            ways: Mutex::default(),
        }
    }

    fn of_source(&self, span: Span) -> Span {
        if let Some(source) = &self.source {
            span.say("walcast.source", source);
        }
        span
    }

    /// The first span of a trace.
    pub fn root(&self, name: &'static str) -> Span {
        self.of_source(Span::root(name, None))
    }

    /// The first span of a trace, which began at `since`.
    pub fn root_since(&self, name: &'static str, since: Instant) -> Span {
        if !is_on() {
            return Span::none();
        }
        self.of_source(Span::root(name, Some(time_of(since))))
    }

    /// The first span of a trace that names another one as what led to it.
    pub fn following(&self, name: &'static str, other: &Span) -> Span {
        self.of_source(Span::following(name, other))
    }

    /// Follows a transaction that is about to be journaled, if it is one of the few.
    pub fn committed(&self, transaction: &Transaction) {
        if !is_on() {
            return;
        }
        let now = Instant::now();
        let mut ways = self.ways.lock();
        if ways.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            return;
        }
        ways.last = Some(now);
        self.forget_old(&mut ways, now);
        let free = ways.followed.iter_mut().zip(&self.ends);
        let Some((place, end)) = free.into_iter().find(|(way, _)| way.is_none()) else {
            return;
        };
        let read = SystemTime::now();
        // Two machines' clocks may differ.
        let committed = transaction.committed_at.to_system_time().min(read);
        let span = self.of_source(Span::root("transaction", Some(committed)));
        if !span.is_recorded() {
            return;
        }
        span.say("walcast.lsn", &transaction.end);
        let mut way = Way {
            span,
            began: now,
            end: transaction.end,
            stepped: committed,
            is_journaled: false,
            frames: None,
            sent: 0,
        };
        drop(way.step("transaction receive"));
        *place = Some(way);
        end.store(transaction.end.0, Ordering::Release);
    }

    /// Notes that everything up to `head` is visible in the journal.
    pub fn journaled(&self, head: Lsn) {
        if !self
            .ends
            .iter()
            .any(|end| (1..=head.0).contains(&end.load(Ordering::Relaxed)))
        {
            return;
        }
        let mut ways = self.ways.lock();
        let journaled = ways.followed.iter_mut().flatten();
        for way in journaled.filter(|way| way.end <= head) {
            way.is_visible();
        }
    }

    /// True if the transaction that ends there is followed.
    pub fn has(&self, end: Lsn) -> bool {
        self.ends
            .iter()
            .any(|known| known.load(Ordering::Relaxed) == end.0)
    }

    /// Notes that all of a transaction is in the outboxes of its clients, in so many frames.
    pub fn routed(&self, end: Lsn, frames: u64) {
        self.on(end, |way| {
            // The router may be faster than the thread that made it visible, and a client faster than the router.
            way.is_visible();
            let routed = way.step("transaction route");
            routed.note("walcast.frames", i64::try_from(frames).unwrap_or(i64::MAX));
            way.frames = Some(frames);
        });
    }

    /// Notes that a frame of a transaction was written to the socket of a client's connection.
    pub fn sent(&self, end: Lsn, connection: u64) {
        self.on(end, |way| {
            way.is_visible();
            way.sent += 1;
            if way.sent <= MOST_SENT {
                let sent = way.span.part_from("transaction send", Some(way.stepped));
                sent.note(
                    "walcast.connection",
                    i64::try_from(connection).unwrap_or(i64::MAX),
                );
            }
        });
    }

    fn on(&self, end: Lsn, note: impl FnOnce(&mut Way)) {
        let mut ways = self.ways.lock();
        let mut places = ways.followed.iter_mut().zip(&self.ends);
        let found = places.find(|(way, _)| way.as_ref().is_some_and(|way| way.end == end));
        if let Some((place, known)) = found
            && let Some(way) = place
        {
            note(way);
            if way.is_done() {
                *place = None;
                known.store(0, Ordering::Release);
            }
        }
    }

    /// Follows no further what has been on its way for long.
    pub fn tidy(&self) {
        if self.ends.iter().any(|end| end.load(Ordering::Relaxed) != 0) {
            self.forget_old(&mut self.ways.lock(), Instant::now());
        }
    }

    fn forget_old(&self, ways: &mut Ways, now: Instant) {
        let is_old = |way: &Option<Way>| {
            way.as_ref()
                .is_some_and(|way| now.duration_since(way.began) >= PATIENCE)
        };
        let places = ways.followed.iter_mut().zip(&self.ends);
        for (place, end) in places.filter(|(way, _)| is_old(way)) {
            if let Some(way) = place.take() {
                let stepped = way.stepped;
                way.span.end_at(stepped);
            }
            end.store(0, Ordering::Release);
        }
    }
}

/// Counts the frames that the router makes of a transaction.
#[derive(Debug, Default)]
pub struct Tally(u64);

impl Tally {
    /// Counts one.
    pub fn add(&mut self) {
        self.0 += 1;
    }

    /// The number since the last call.
    pub fn take(&mut self) -> u64 {
        std::mem::take(&mut self.0)
    }
}
