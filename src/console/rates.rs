//! [`Rates`]: how fast counters go, by two looks at them. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The least time between two looks that a rate is made of.
pub(super) const LEAST: Duration = Duration::from_millis(900);
/// The time after which an earlier look says nothing of now.
const MOST: Duration = Duration::from_secs(60);

/// The counters at an earlier look.
#[derive(Debug, Default)]
pub(super) struct Rates {
    before: Option<(Instant, HashMap<u64, u64>)>,
}

impl Rates {
    /// True if the last look was a moment ago: what was found then is to be told again.
    pub(super) fn is_recent(&self, now: Instant) -> bool {
        let at = self.before.as_ref().map(|(at, _)| *at);
        at.is_some_and(|at| now.saturating_duration_since(at) < LEAST)
    }

    /// The rate of each counter since the last look, in their order; `None` for one that is new. Each has a number of its
    /// own. One that is now less than before is another counter under the number of one that is gone.
    pub(super) fn look(&mut self, counters: &[(u64, u64)], now: Instant) -> Vec<Option<f64>> {
        let before = self.before.take();
        let before = before.filter(|(at, _)| now.saturating_duration_since(*at) < MOST);
        let rates = counters.iter().map(|(number, count)| {
            let (at, before) = before.as_ref()?;
            let more = count.checked_sub(*before.get(number)?)?;
            let seconds = now.saturating_duration_since(*at).as_secs_f64();
            Some(more as f64 / seconds.max(0.001))
        });
        let rates = rates.collect();
        self.before = Some((now, counters.iter().copied().collect()));
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_since_the_last_look() {
        let mut rates = Rates::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!rates.is_recent(start));
        assert_eq!(rates.look(&[(1, 10), (2, 5)], start), [None, None]);
        assert!(rates.is_recent(start) && !rates.is_recent(after(1)));
        assert_eq!(
            rates.look(&[(2, 5), (1, 30), (3, 9)], after(2)),
            [Some(0.0), Some(10.0), None]
        );
        // Another one under the same number, and a look that was long ago.
        assert_eq!(rates.look(&[(1, 3)], after(3)), [None]);
        assert_eq!(rates.look(&[(1, 4)], after(100)), [None]);
    }
}
