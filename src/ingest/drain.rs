//! [`Drain`]: decides when to check whether the server is shutting down and waits for us. Pure.
//!
//! A server that shuts down sends everything, and then asks for a status, again after each answer, until all of it is
//! confirmed (`WalSndDone` in its source). If the journal cannot be written or synced, it would wait for ever.

use std::time::{Duration, Instant};

/// The time for which the journal has lagged behind what the server sent.
#[derive(Debug, Default)]
pub(super) struct Drain {
    since: Option<Instant>,
}

/// The time that a shutdown waits for the journal.
const PATIENCE: Duration = Duration::from_secs(5);

impl Drain {
    /// Notes progress of the journal or of the server.
    pub(super) fn goes_on(&mut self) {
        self.since = None;
    }

    /// Notes that everything waits for the journal at `now`. True if that has lasted so long that it is time to check
    /// for a shutdown.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let due = now.duration_since(since) >= PATIENCE;
        if due {
            self.since = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_again_and_again_while_everything_waits() {
        let mut drain = Drain::default();
        let began = Instant::now();
        let looks = |drain: &mut Drain, millis: std::ops::Range<u64>| {
            let due = millis.filter(|at| drain.is_due(began + Duration::from_millis(*at)));
            due.collect::<Vec<_>>()
        };
        assert_eq!(looks(&mut drain, 0..11_000), [5_000, 10_000]);
        drain.goes_on();
        assert_eq!(looks(&mut drain, 11_000..17_000), [16_000]);
    }
}
