//! [`Meter`]: the work that a query takes over time, and whether it is served apart from others.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The work that a query may take at once, after a while of taking none.
const BURST: u64 = 10_000_000_000;
/// The work that it may take in a second for as long as it likes: about a tenth of a processor.
const PER_SECOND: u64 = 100_000_000;

/// The time that a query is served apart once it took too much for those beside it.
const APART: Duration = Duration::from_secs(10);

/// The work that a query took, wherever it was matched: at the head, or in replays.
#[derive(Debug, Default)]
pub struct Meter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The work that was taken and is not made up for by the time since, and when that was so.
    taken: u64,
    at: Option<Instant>,
    apart_until: Option<Instant>,
}

impl Meter {
    /// Counts work. Whether the query may take so much.
    pub(super) fn take(&self, units: u64, now: Instant) -> bool {
        let mut state = self.0.lock();
        let since = state
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let made_up = u64::try_from(since.as_millis() * u128::from(PER_SECOND / 1_000)).unwrap_or(u64::MAX);
        state.taken = state.taken.saturating_sub(made_up).saturating_add(units);
        state.at = state.at.max(Some(now));
        state.taken <= BURST
    }

    /// Has it served apart for a while.
    pub(super) fn put_apart(&self, now: Instant) {
        self.0.lock().apart_until = Some(now + APART);
    }

    /// True if it is to be served apart.
    pub fn is_apart(&self, now: Instant) -> bool {
        self.0.lock().apart_until.is_some_and(|until| now < until)
    }
}

/// The work that may be done for one change, and what becomes of queries that need more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Work for one query.
    pub query: u64,
    /// Work for all queries together. Beyond it each has only a little.
    pub all: u64,
    /// Those that need more are put apart; else they end.
    pub puts_apart: bool,
}

impl Lane {
    /// At the head, and where many are read for: what takes long for one would be waited for by all.
    pub const SHARED: Lane = Lane {
        query: 10_000_000,
        all: 50_000_000,
        puts_apart: true,
    };

    /// The place where those are read for that were put apart.
    pub const APART: Lane = Lane {
        query: 500_000_000,
        all: 2_000_000_000,
        puts_apart: false,
    };

    /// Without bounds.
    pub const UNBOUNDED: Lane = Lane {
        query: u64::MAX,
        all: u64::MAX,
        puts_apart: false,
    };
}

/// Work for one change from which on a query stays apart where it is.
pub(super) const LONG: u64 = 1_000_000;

/// The work that all changes together may take of threads that serve many clients, beside what matches: it refills as
/// time goes by.
#[derive(Debug)]
pub(super) struct Spare {
    left: u64,
    at: Instant,
}

/// The most that this may be, and the part of it that comes back in a second: a quarter of a processor.
const SPARE: u64 = Lane::SHARED.all;
const SPARE_PER_SECOND: u64 = 250_000_000;

impl Spare {
    pub(super) fn new(now: Instant) -> Spare {
        Spare { left: SPARE, at: now }
    }

    /// The rest.
    pub(super) fn left(&mut self, now: Instant) -> u64 {
        if now == self.at {
            return self.left;
        }
        let since = now.saturating_duration_since(self.at).as_micros();
        let back = u64::try_from(since * u128::from(SPARE_PER_SECOND / 1_000_000)).unwrap_or(u64::MAX);
        if back > 0 {
            self.left = self.left.saturating_add(back).min(SPARE);
            self.at = now;
        }
        self.left
    }

    pub(super) fn take(&mut self, units: u64) {
        self.left = self.left.saturating_sub(units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_may_take_much_at_once_but_not_for_long() {
        let meter = Meter::default();
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(meter.take(BURST, start));
        assert!(!meter.take(1, start));
        // It is made up for by time.
        assert!(meter.take(PER_SECOND / 2, after(1)));
        assert!(!meter.take(PER_SECOND, after(1)));
        assert!(meter.take(BURST, after(1_000)));
        // Another clock's past is no time gone by.
        assert!(!meter.take(1, start));
        let steady = Meter::default();
        assert!((0..1_000).all(|second| steady.take(PER_SECOND, after(second))));
    }

    #[test]
    fn a_query_is_apart_for_a_while() {
        let meter = Meter::default();
        let start = Instant::now();
        assert!(!meter.is_apart(start));
        meter.put_apart(start);
        assert!(meter.is_apart(start) && meter.is_apart(start + APART / 2));
        assert!(!meter.is_apart(start + APART));
    }

    #[test]
    fn what_is_spare_fills_again() {
        let start = Instant::now();
        let mut spare = Spare::new(start);
        spare.take(SPARE + 1);
        assert_eq!(spare.left(start), 0);
        assert_eq!(
            spare.left(start + Duration::from_millis(10)),
            SPARE_PER_SECOND / 100
        );
        assert_eq!(spare.left(start + Duration::from_secs(9)), SPARE);
    }
}
