//! [`Drain`]: finds that the server shuts down and waits for us. Pure.
//!
//! A server that shuts down sends all that there is, and then asks for a status, again after each answer, until what is
//! confirmed is what it sent (`WalSndDone` in its source); other reasons to ask are seconds apart. Where the journal cannot
//! sync it would wait for ever.

use std::time::{Duration, Instant};

use crate::lsn::Lsn;

/// Whether the server asks again and again.
#[derive(Debug, Default)]
pub(super) struct Drain {
    asks: Option<Asks>,
}

#[derive(Clone, Copy, Debug)]
struct Asks {
    since: Instant,
    last: Instant,
    /// Where the server is: while it shuts down nothing more is written.
    wal_end: Lsn,
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
        let again = |asks: &Asks| asks.wal_end == wal_end && now.duration_since(asks.last) <= APART;
        let since = self.asks.filter(again).map_or(now, |asks| asks.since);
        self.asks = Some(Asks {
            since,
            last: now,
            wal_end,
        });
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
    fn a_server_that_writes_more_does_not_shut_down() {
        let mut drain = Drain::default();
        let began = Instant::now();
        for time in 0..1000 {
            let (now, wal_end) = (began + APART / 10 * time, Lsn(10 + u64::from(time)));
            assert!(!drain.is_asked(now, wal_end, Lsn(9)));
        }
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
