//! [`Drain`]: when to look whether the server shuts down and waits for us. Pure.
//!
//! A server that shuts down sends all that there is, and then asks for a status, again after each answer, until what is
//! confirmed is what it sent (`WalSndDone` in its source). Where the journal cannot take that, or not sync it, it
//! would wait for ever.

use std::time::{Duration, Instant};

/// For how long the journal has not come to what the server sent.
#[derive(Debug, Default)]
pub(super) struct Drain {
    since: Option<Instant>,
}

/// The time that a shutdown waits for the journal.
const PATIENCE: Duration = Duration::from_secs(5);

impl Drain {
    /// The journal has come on, or the server.
    pub(super) fn goes_on(&mut self) {
        self.since = None;
    }

    /// Everything waits for the journal at `now`. Whether it has for so long that it is time to look why, once more.
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
