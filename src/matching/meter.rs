//! [`Meter`]: counts the work that a query takes over time, and remembers whether it is served apart from others.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::filter::Allowance;

/// The work that a query may take in one burst.
const BURST: u64 = 10_000_000_000;
/// The work per second that it may take all the time: about a tenth of a processor.
const PER_SECOND: u64 = 100_000_000;

/// The time for which a query is served apart once it has held up others. It is twice the last one if the query holds
/// them up again soon, since each return makes work, up to a limit.
const APART: Duration = Duration::from_secs(10);
const MAX_APART: Duration = Duration::from_secs(640);

/// The work that a query took, wherever it was matched: at the head, or in replays.
#[derive(Debug, Default)]
pub struct Meter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The work above the rate, and the time at which that was computed.
    taken: u64,
    at: Option<Instant>,
    /// All work so far.
    total: u64,
    apart: Option<Apart>,
    recent: Recent,
}

/// The work of the last seconds: of each second that has passed since, half as much counts.
#[derive(Debug, Default)]
struct Recent {
    work: u64,
    /// The time up to which `work` was halved.
    at: Option<Instant>,
}

impl Recent {
    fn at(&mut self, now: Instant) -> u64 {
        let at = *self.at.get_or_insert(now);
        let seconds = now.saturating_duration_since(at).as_secs();
        if seconds > 0 {
            self.work =
                u32::try_from(seconds).map_or(0, |seconds| self.work.checked_shr(seconds).unwrap_or(0));
            self.at = Some(at + Duration::from_secs(seconds));
        }
        self.work
    }
}

impl State {
    fn is_apart(&self, now: Instant) -> bool {
        self.apart.is_some_and(|apart| now < apart.until)
    }
}

/// The time for which a query is served apart.
#[derive(Clone, Copy, Debug)]
struct Apart {
    until: Instant,
    time: Duration,
}

impl Meter {
    /// Counts work. False if the query may not take so much.
    pub(super) fn take(&self, units: u64, now: Instant) -> bool {
        let mut state = self.0.lock();
        let since = state
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let made_up = u64::try_from(since.as_millis() * u128::from(PER_SECOND / 1_000)).unwrap_or(u64::MAX);
        state.taken = state.taken.saturating_sub(made_up).saturating_add(units);
        state.at = state.at.max(Some(now));
        state.total = state.total.saturating_add(units);
        state.recent.work = state.recent.at(now).saturating_add(units);
        state.taken <= BURST
    }

    /// All work that was counted, in units of about a nanosecond. A query that takes little for each change is not counted.
    pub fn total(&self) -> u64 {
        self.0.lock().total
    }

    /// Says whether the query is to be served apart, and how much work it took in the last seconds, of which the older
    /// counts less: at a steady rate about twice that of a second.
    pub fn lately(&self, now: Instant) -> (bool, u64) {
        let mut state = self.0.lock();
        (state.is_apart(now), state.recent.at(now))
    }

    /// Has the query served apart for a while.
    pub(super) fn put_apart(&self, now: Instant) {
        let mut state = self.0.lock();
        let time = match state.apart {
            Some(last) if now < last.until => last.time,
            Some(last) if now < last.until + last.time => (last.time * 2).min(MAX_APART),
            _ => APART,
        };
        let until = now + time;
        state.apart = Some(Apart { until, time });
    }

    /// True if the query is to be served apart.
    pub fn is_apart(&self, now: Instant) -> bool {
        self.0.lock().is_apart(now)
    }
}

/// The work that may be done for one change, and what becomes of queries that need more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The most work for one query.
    pub query: u64,
    /// The work for all queries together, beyond which each gets only a little.
    pub all: u64,
    /// True if queries that need more are put apart; otherwise they end.
    pub puts_apart: bool,
}

impl Lane {
    /// The lane at the head, and for shared replays, where a slow query would hold up all others.
    pub const SHARED: Lane = Lane {
        query: 2_500_000,
        all: 5_000_000,
        puts_apart: true,
    };

    /// The lane of the queries that were put apart.
    pub const APART: Lane = Lane {
        query: 500_000_000,
        all: 2_000_000_000,
        puts_apart: false,
    };

    /// A lane without bounds.
    pub const UNBOUNDED: Lane = Lane {
        query: u64::MAX,
        all: u64::MAX,
        puts_apart: false,
    };
}

/// The work for one change from which on a query that is apart stays so.
pub(super) const LONG: u64 = 1_000_000;

/// The work that slow queries together may take of the threads that serve many clients; it refills over time.
#[derive(Debug)]
pub(super) struct Spare {
    left: u64,
    /// The amount that was taken beyond what was left, up to [`SPARE`].
    owed: u64,
    at: Instant,
}

/// The most that may be spare, and the amount that refills each second: a fortieth of a processor.
const SPARE: u64 = Lane::SHARED.all;
const SPARE_PER_SECOND: u64 = 25_000_000;
/// The amount that each query may have in any case where nothing is left, and where a lot is owed beside that: enough for
/// comparisons of ordinary values.
const LITTLE: u64 = Allowance::LITTLE;
const LEAST: u64 = 250;

impl Spare {
    pub(super) fn new(now: Instant) -> Spare {
        Spare {
            left: SPARE,
            owed: 0,
            at: now,
        }
    }

    /// The rest.
    pub(super) fn left(&mut self, now: Instant) -> u64 {
        if now == self.at {
            return self.left;
        }
        let since = now.saturating_duration_since(self.at).as_micros();
        let back = u64::try_from(since * u128::from(SPARE_PER_SECOND / 1_000_000)).unwrap_or(u64::MAX);
        if back > 0 {
            let paid = back.min(self.owed);
            self.owed -= paid;
            self.left = self.left.saturating_add(back - paid).min(SPARE);
            self.at = now;
        }
        self.left
    }

    pub(super) fn take(&mut self, units: u64) {
        let owed = units.saturating_sub(self.left);
        self.owed = self.owed.saturating_add(owed).min(SPARE);
        self.left = self.left.saturating_sub(units);
    }

    /// The amount that each query may have where nothing is left. The more is owed, the less it is: many queries that take
    /// little each hold up the others as a few do that take much.
    pub(super) fn little(&self) -> u64 {
        let part = (SPARE - self.owed) / (SPARE / LITTLE);
        part.clamp(LEAST, LITTLE)
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
        // Time makes up for it.
        assert!(meter.take(PER_SECOND / 2, after(1)));
        assert!(!meter.take(PER_SECOND, after(1)));
        assert!(meter.take(BURST, after(1_000)));
        // A clock that goes back adds nothing.
        assert!(!meter.take(1, start));
        let steady = Meter::default();
        assert!((0..1_000).all(|second| steady.take(PER_SECOND, after(second))));
    }

    #[test]
    fn of_older_work_less_counts() {
        let meter = Meter::default();
        let start = Instant::now();
        let after = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(meter.lately(start).1, 0);
        meter.take(1_000, start);
        meter.take(1_000, after(900));
        assert_eq!(meter.lately(after(999)).1, 2_000);
        assert_eq!(meter.lately(after(1_500)).1, 1_000);
        meter.take(500, after(1_700));
        assert_eq!(meter.lately(after(2_000)).1, 750);
        assert_eq!(meter.lately(after(1_000_000)).1, 0);
        let steady = Meter::default();
        for tenth in 0..200 {
            steady.take(100, after(tenth * 100));
        }
        assert!((1_900..=2_000).contains(&steady.lately(after(19_900)).1));
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
    fn a_query_that_holds_up_others_again_soon_is_apart_for_longer() {
        let meter = Meter::default();
        let start = Instant::now();
        let mut now = start;
        for time in [1, 2, 4, 8, 16, 32, 64, 64].map(|times| APART * times) {
            meter.put_apart(now);
            assert!(meter.is_apart(now + time - Duration::from_secs(1)));
            now += time;
            assert!(!meter.is_apart(now), "{time:?}");
        }
        // It was quiet for long.
        now += MAX_APART;
        meter.put_apart(now);
        // Further rows that take long prolong it, and no more.
        now += APART / 2;
        meter.put_apart(now);
        assert!(meter.is_apart(now + APART / 2) && !meter.is_apart(now + APART));
    }

    #[test]
    fn what_is_spare_fills_again() {
        let start = Instant::now();
        let mut spare = Spare::new(start);
        spare.take(SPARE);
        assert_eq!(spare.left(start), 0);
        assert_eq!(
            spare.left(start + Duration::from_millis(10)),
            SPARE_PER_SECOND / 100
        );
        assert_eq!(spare.left(start + Duration::from_secs(9)), SPARE);
    }

    #[test]
    fn the_more_is_owed_the_less_each_query_gets() {
        let start = Instant::now();
        let mut spare = Spare::new(start);
        spare.take(SPARE);
        assert_eq!(spare.little(), LITTLE);
        spare.take(SPARE / 2);
        assert_eq!(spare.little(), LITTLE / 2);
        spare.take(10 * SPARE);
        assert_eq!(spare.little(), LEAST);
        // What is owed comes back first.
        let later =
            start + Duration::from_secs(1) * (SPARE / 1_000) as u32 / (SPARE_PER_SECOND / 1_000) as u32;
        assert_eq!((spare.left(later), spare.little()), (0, LITTLE));
    }
}
