//! [`Rate`], [`Bucket`] and [`SharedBucket`]: token buckets, which allow a rate and a burst.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A sustained rate and a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The sustained amount per second.
    pub per_second: u32,
    /// The amount that may come at once.
    pub burst: u32,
}

impl Rate {
    /// A rate with a burst of ten seconds' worth.
    pub fn of(per_second: u32) -> Rate {
        Rate {
            per_second,
            burst: per_second.saturating_mul(10),
        }
    }

    /// The same rate with a burst of at least `least`.
    #[must_use]
    pub fn at_once(self, least: u32) -> Rate {
        Rate {
            burst: self.burst.max(least),
            ..self
        }
    }

    /// The time in which an amount is refilled.
    fn time_of(self, amount: u32) -> Duration {
        Duration::from_secs(1) * amount / self.per_second.max(1)
    }
}

/// A token bucket. It stores only the time at which it will be full again, which keeps it small, since there are many
/// connections.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn full(now: Instant) -> Bucket {
        Bucket { full_at: now }
    }

    /// True if nothing is missing.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// True if it has that much.
    pub fn has(&self, amount: u32, rate: Rate, now: Instant) -> bool {
        let missing = self.full_at.saturating_duration_since(now);
        missing <= rate.time_of(rate.burst.saturating_sub(amount))
    }

    /// Takes an amount, if the bucket has that much.
    ///
    /// # Errors
    /// The time after which it will have that much.
    pub fn take(&mut self, amount: u32, rate: Rate, now: Instant) -> Result<(), Duration> {
        self.take_above(amount, 0, rate, now)
    }

    /// Takes an amount, if at least `left` remains.
    ///
    /// # Errors
    /// The time after which it will.
    pub fn take_above(&mut self, amount: u32, left: u32, rate: Rate, now: Instant) -> Result<(), Duration> {
        // An amount larger than the bucket costs all of it, since it could never be taken otherwise.
        let amount = amount.min(rate.burst.saturating_sub(left));
        let full_at = self.full_at.max(now) + rate.time_of(amount);
        let most = rate.time_of(rate.burst.saturating_sub(left));
        let missing = full_at.saturating_duration_since(now).saturating_sub(most);
        if missing > Duration::ZERO {
            return Err(missing);
        }
        self.full_at = full_at;
        Ok(())
    }

    /// Takes an amount after the fact, or all that the bucket has.
    pub fn drain(&mut self, amount: u32, rate: Rate, now: Instant) {
        let full_at = self.full_at.max(now) + rate.time_of(amount);
        self.full_at = full_at.min(now + rate.time_of(rate.burst));
    }
}

/// A bucket that many threads take from.
#[derive(Debug)]
pub struct SharedBucket {
    rate: Rate,
    began: Instant,
    /// The time at which it will be full again, in nanoseconds since it was made.
    full_at: AtomicU64,
}

impl SharedBucket {
    /// A full bucket.
    pub fn full(rate: Rate, now: Instant) -> SharedBucket {
        SharedBucket {
            rate,
            began: now,
            full_at: AtomicU64::new(0),
        }
    }

    /// Takes an amount, if the bucket has that much.
    ///
    /// # Errors
    /// The time after which it will have that much.
    pub fn take(&self, amount: u32, now: Instant) -> Result<(), Duration> {
        let now = nanos(now.saturating_duration_since(self.began));
        let amount = nanos(self.rate.time_of(amount.min(self.rate.burst)));
        let most = nanos(self.rate.time_of(self.rate.burst));
        let after = |full_at: u64| full_at.max(now).saturating_add(amount);
        let taken = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
                Some(after(full_at)).filter(|after| after - now <= most)
            });
        taken.map(drop).map_err(|full_at| {
            let missing = (after(full_at) - now).saturating_sub(most);
            Duration::from_nanos(missing)
        })
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 50,
        burst: 500,
    };

    #[test]
    fn a_bucket_gives_a_burst_and_then_a_steady_amount() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut bucket = Bucket::full(start);
        assert!((0..500).all(|_| bucket.take(1, RATE, start).is_ok()));
        assert_eq!(bucket.take(1, RATE, start), Err(Duration::from_millis(20)));
        // A refused request takes nothing.
        assert!((1..1000).all(|number| bucket.take(1, RATE, at(20 * number)).is_ok()));
        assert_eq!(
            bucket.take(5, RATE, at(20 * 999)),
            Err(Duration::from_millis(100))
        );
        assert!((0..500).all(|_| bucket.take(1, RATE, at(3_600_000)).is_ok()));
        assert!(bucket.take(1, RATE, at(3_600_000)).is_err());
    }

    #[test]
    fn what_is_larger_than_the_bucket_takes_all_of_it() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        assert_eq!(bucket.take(501, RATE, start), Ok(()));
        assert_eq!(bucket.take(501, RATE, start), Err(Duration::from_secs(10)));
    }

    #[test]
    fn a_part_of_a_bucket_may_be_left_untouched() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        assert!((0..50).all(|_| bucket.take_above(1, 450, RATE, start).is_ok()));
        assert_eq!(
            bucket.take_above(1, 450, RATE, start),
            Err(Duration::from_millis(20))
        );
        assert_eq!(bucket.take(1, RATE, start), Ok(()));
    }

    #[test]
    fn what_is_drained_is_at_most_what_there_is() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start);
        bucket.drain(10_000, RATE, start);
        assert_eq!(bucket.take(1, RATE, start), Err(Duration::from_millis(20)));
        assert_eq!(bucket.take(1, RATE, start + Duration::from_millis(20)), Ok(()));
    }

    #[test]
    fn a_shared_bucket_gives_as_one_of_ones_own_does() {
        let start = Instant::now();
        let (mut own, shared) = (Bucket::full(start), SharedBucket::full(RATE, start));
        let mut now = start;
        for step in 0..5_000_u64 {
            now += Duration::from_millis(step * 7 % 31);
            let amount = (step % 5) as u32;
            assert_eq!(
                own.take(amount, RATE, now),
                shared.take(amount, now),
                "step {step}"
            );
        }
    }
}
