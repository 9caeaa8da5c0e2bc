//! [`Pacing`]: when a reader that is behind lets bytes gather before it reads on. Pure.
//!
//! `walsender` does one `send()` per message, and each one pays: for waking a reader that waits for it, and over TCP
//! for a segment of its own and the acknowledgement of it. Most of the server's time goes there when the reader takes
//! every message as it comes. A reader that is behind anyway loses nothing by sleeping until its receive window is full
//! and the rest has gathered in the server's send buffer: from there it comes in segments of up to 64 KiB, one after
//! the other with every read, and the server sends several times as fast. At the head of the log a message is worth
//! waking up for at once, so the naps depend on the rate at which messages come.

use std::time::{Duration, Instant};

/// Decides, whenever a read found nothing, whether to nap before the next one, and for how long.
#[derive(Clone, Debug)]
pub struct Pacing {
    /// The nap at rates that only a stream that is well behind has.
    long: Duration,
    /// The nap at rates that are worth a short one.
    short: Duration,
    /// The rate as it is now.
    nap: Duration,
    /// When the messages being counted started to come, and how many there are.
    window: Option<(Instant, u32)>,
}

/// The rate is taken over so many messages, or over so long.
const WINDOW_MESSAGES: u32 = 64;
const WINDOW: Duration = Duration::from_millis(2);
/// Messages a second from which on short naps pay: three of them make a small transaction.
const SHORT_RATE: f64 = 16_000.0;
/// Messages a second that come only while a backlog is worked off.
const LONG_RATE: f64 = 64_000.0;
/// The short nap.
const SHORT: Duration = Duration::from_micros(200);

impl Pacing {
    /// For TCP: the receive window fills, and more gathers at the server.
    pub fn tcp() -> Pacing {
        Pacing::new(Duration::from_millis(12))
    }

    /// For unix sockets, whose buffer is small: once it is full the server waits, and would wait for a long nap.
    pub fn unix() -> Pacing {
        Pacing::new(SHORT)
    }

    /// While far behind, naps of `long`.
    pub fn new(long: Duration) -> Pacing {
        Pacing {
            long,
            short: long.min(SHORT),
            nap: Duration::ZERO,
            window: None,
        }
    }

    /// Reads as soon as there is something.
    pub fn off() -> Pacing {
        Pacing::new(Duration::ZERO)
    }

    /// The time to nap after a read at `now` that found nothing; `messages` were taken since the one before that.
    pub fn on_empty(&mut self, now: Instant, messages: u32) -> Option<Duration> {
        let (start, counted) = self.window.unwrap_or((now, 0));
        let counted = counted.saturating_add(messages);
        let took = now.saturating_duration_since(start);
        if took >= WINDOW || counted >= WINDOW_MESSAGES {
            self.nap = self.nap_at(f64::from(counted) / took.as_secs_f64().max(1e-9));
            self.window = Some((now, 0));
        } else {
            self.window = Some((start, counted));
        }
        Some(self.nap).filter(|nap| !nap.is_zero())
    }

    fn nap_at(&self, messages_per_second: f64) -> Duration {
        if messages_per_second >= LONG_RATE {
            self.long
        } else if messages_per_second >= SHORT_RATE {
            self.short
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [Duration; 0] = [];

    /// The naps when `messages` come at a time, and the read `gap` after the last nap finds no more.
    fn naps(
        pacing: &mut Pacing,
        now: &mut Instant,
        messages: u32,
        gap: Duration,
        reads: usize,
    ) -> Vec<Duration> {
        let mut naps = Vec::new();
        for _ in 0..reads {
            *now += gap;
            let nap = pacing.on_empty(*now, messages);
            *now += nap.unwrap_or_default();
            naps.extend(nap);
        }
        naps
    }

    #[test]
    fn a_stream_at_the_head_is_never_kept_waiting() {
        let mut pacing = Pacing::tcp();
        let mut now = Instant::now();
        // Five messages a transaction, 200 and then 3,000 transactions a second.
        for gap in [Duration::from_millis(5), Duration::from_micros(330)] {
            assert_eq!(naps(&mut pacing, &mut now, 5, gap, 100), NONE);
        }
    }

    #[test]
    fn a_busy_stream_takes_short_naps_at_the_most() {
        let mut pacing = Pacing::tcp();
        let mut now = Instant::now();
        let naps = naps(&mut pacing, &mut now, 5, Duration::from_micros(150), 1000);
        assert!(naps.len() > 100, "{}", naps.len());
        assert!(naps.iter().all(|nap| *nap == SHORT), "{naps:?}");
    }

    #[test]
    fn a_stream_that_is_behind_naps_until_it_has_caught_up() {
        let mut pacing = Pacing::tcp();
        let mut now = Instant::now();
        // A few messages a read are enough to tell; then each nap lets thousands gather.
        assert!(!naps(&mut pacing, &mut now, 2, Duration::from_micros(6), 40).is_empty());
        let behind = naps(&mut pacing, &mut now, 2_000, Duration::from_micros(300), 100);
        assert_eq!(behind, [Duration::from_millis(12); 100]);
        assert_eq!(
            naps(&mut pacing, &mut now, 2, Duration::from_millis(30), 10),
            NONE
        );
    }
}
