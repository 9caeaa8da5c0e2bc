//! [`Drain`]: finds that the server shuts down and waits for us. Pure.
//!
//! A server that shuts down sends all that there is, and then asks for a status, again after each answer, until what is
//! confirmed is what it sent (`WalSndDone` in its source); other reasons to ask are seconds apart. Where the journal cannot
//! sync it would wait for ever.

use std::time::{Duration, Instant};

use crate::lsn::Lsn;

/// How long the server asks, and for what.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Since when, and when it asked last.
    asks: Option<(Instant, Instant)>,
}

/// A server whose requests are further apart does not shut down.
const APART: Duration = Duration::from_millis(250);
/// How long its shutdown waits for the journal.
const PATIENCE: Duration = Duration::from_secs(5);

impl Drain {
    /// Something else came than a request.
    pub(super) fn goes_on(&mut self) {
        self.asks = None;
    }

    /// The server, which is at `wal_end`, asks at `now` for a status; what can be confirmed is `durable`. Whether it has
    /// waited for long enough.
    pub(super) fn is_asked(&mut self, now: Instant, wal_end: Lsn, durable: Lsn) -> bool {
        if durable >= wal_end {
            self.asks = None;
            return false;
        }
        let since = match self.asks {
            Some((since, last)) if now.duration_since(last) <= APART => since,
            _ => now,
        };
        self.asks = Some((since, now));
        now.duration_since(since) >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks every `apart` for ten seconds, the journal being at `durable` and the server at 10; after how many times that
    /// was enough.
    fn asked(drain: &mut Drain, apart: Duration, durable: u64) -> Option<u32> {
        let began = Instant::now();
        let times = (Duration::from_secs(10).as_millis() / apart.as_millis()) as u32;
        (0..times).find(|time| drain.is_asked(began + apart * *time, Lsn(10), Lsn(durable)))
    }

    #[test]
    fn a_server_that_asks_again_and_again_for_what_is_not_durable_is_let_go() {
        let often = Duration::from_millis(10);
        assert_eq!(asked(&mut Drain::default(), often, 9), Some(500));
        assert_eq!(asked(&mut Drain::default(), often, 10), None);
        assert_eq!(asked(&mut Drain::default(), Duration::from_millis(500), 9), None);
    }

    #[test]
    fn a_server_that_sends_more_does_not_shut_down_yet() {
        let mut drain = Drain::default();
        let began = Instant::now();
        for second in 0..20 {
            for request in 0..10 {
                let now = began + Duration::from_secs(second) + Duration::from_millis(100) * request;
                assert!(!drain.is_asked(now, Lsn(10), Lsn(9)));
            }
            if second % 4 == 3 {
                drain.goes_on();
            }
        }
    }
}
