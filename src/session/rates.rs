//! [`Rates`]: the rates at which a connection may send messages, and the answer to a message beyond them. Pure: time is
//! an argument.

use std::time::{Duration, Instant};

use crate::limit::{Bucket, Limit, Rate};
use crate::protocol::{Detail, ErrorCode, ErrorMessage};

/// Control frames (pings and pongs) that a client may send. A flag would help nobody: browsers send none by themselves,
/// and one ping per second is plenty.
const CONTROL_FRAMES: Rate = Rate {
    per_second: 50,
    burst: 500,
};
/// The number of answers `rate_limited` that a client gets before it is closed.
const WARNINGS: Rate = Rate {
    per_second: 1,
    burst: 100,
};
/// Each further piece of this size, in bytes, makes a message count as one more.
const PIECE_BYTES: usize = 4 * 1024;
/// The number of further messages that a refused one counts as, since checking it took about as much as performing it.
const REFUSED: u32 = 4;
/// The number of further messages that a token counts as: to verify a signature takes that much longer.
const TOKEN: u32 = 20;
/// While all clients together send more than they may, each may use this fraction of its own burst.
const CROWDED: u32 = 10;

/// The number of messages that one of so many bytes counts as.
pub(super) fn weight(bytes: usize) -> u32 {
    u32::try_from(1 + bytes / PIECE_BYTES).unwrap_or(u32::MAX)
}

/// A message that came too early: the limit that it met, and the time to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooEarly {
    pub(super) limit: Limit,
    pub(super) wait: Duration,
}

impl TooEarly {
    /// The error for the client.
    pub(super) fn error(self) -> ErrorMessage {
        // Rounded up, so that a client that waits for this long is let in.
        let ms = u64::try_from(self.wait.as_millis())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let what = match self.limit {
            Limit::Subscribes => "subscriptions (--max-subscribe-rate)",
            Limit::TotalMessages => "messages, as all clients together do (--max-total-message-rate)",
            _ => "messages (--max-message-rate)",
        };
        let message = format!("too many {what}: this one was not looked at; send it again in {ms} ms");
        let limit = self.limit.as_str();
        let mut error = ErrorMessage::new(ErrorCode::RateLimited, message);
        error.detail = Some(Detail::RetryAfter { limit, ms });
        error
    }
}

/// The rates of a connection, and how much of them is used.
#[derive(Debug)]
pub(super) struct Rates {
    of_messages: Rate,
    of_subscribes: Rate,
    control_frames: Bucket,
    messages: Bucket,
    subscribes: Bucket,
    /// The answers `rate_limited` that the client gets until it is closed.
    warnings: Bucket,
}

impl Rates {
    /// Nothing is used at `now`.
    pub(super) fn new(messages: Rate, subscribes: Rate, now: Instant) -> Rates {
        Rates {
            of_messages: messages,
            of_subscribes: subscribes,
            control_frames: Bucket::full(now),
            messages: Bucket::full(now),
            subscribes: Bucket::full(now),
            warnings: Bucket::full(now),
        }
    }

    /// Counts a control frame. False if the client may not send as many.
    pub(super) fn control(&mut self, now: Instant) -> bool {
        self.control_frames.take(1, CONTROL_FRAMES, now).is_ok()
    }

    /// True if the client has used more than a tenth of a burst.
    pub(super) fn is_used(&self, now: Instant) -> bool {
        let is_used = |bucket: &Bucket, rate: Rate| !bucket.has(rate.burst - rate.burst / 10, rate, now);
        is_used(&self.messages, self.of_messages) || is_used(&self.control_frames, CONTROL_FRAMES)
    }

    /// Counts a message of so many bytes. It is crowded while all clients together send more than they may.
    ///
    /// # Errors
    /// The client sends too many.
    pub(super) fn admit(
        &mut self,
        bytes: usize,
        is_subscribe: bool,
        is_crowded: bool,
        now: Instant,
    ) -> Result<(), TooEarly> {
        let Rates {
            of_messages,
            of_subscribes,
            ..
        } = *self;
        let too_early = |limit| move |wait| TooEarly { limit, wait };
        if is_crowded {
            // Clients that have sent much wait, so that the others need not.
            let left = of_messages.burst - of_messages.burst / CROWDED;
            self.messages
                .take_above(weight(bytes), left, of_messages, now)
                .map_err(too_early(Limit::TotalMessages))?;
        } else {
            self.messages
                .take(weight(bytes), of_messages, now)
                .map_err(too_early(Limit::Messages))?;
        }
        if is_subscribe {
            self.subscribes
                .take(1, of_subscribes, now)
                .map_err(too_early(Limit::Subscribes))?;
        }
        Ok(())
    }

    /// Counts a request that was refused after all.
    pub(super) fn refused(&mut self, now: Instant) {
        self.messages.drain(REFUSED, self.of_messages, now);
    }

    /// Counts a token that is verified.
    pub(super) fn token(&mut self, now: Instant) {
        self.messages.drain(TOKEN, self.of_messages, now);
    }

    /// Counts an answer `rate_limited`. False if the client has had too many of them.
    pub(super) fn warns(&mut self, now: Instant) -> bool {
        self.warnings.take(1, WARNINGS, now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> (Rates, Instant) {
        let now = Instant::now();
        let messages = Rate {
            per_second: 10,
            burst: 1000,
        };
        let subscribes = Rate {
            per_second: 1,
            burst: 20,
        };
        (Rates::new(messages, subscribes, now), now)
    }

    #[test]
    fn control_frames_may_come_in_a_burst_and_then_steadily() {
        let (mut rates, start) = rates();
        let at = |millis| start + Duration::from_millis(millis);
        assert!((0..500).all(|_| rates.control(start)));
        assert!(!rates.control(start));
        assert!((1..1000).all(|number| rates.control(at(20 * number))));
        assert!(!rates.control(at(20 * 999)));
        assert!((0..500).all(|_| rates.control(at(3_600_000))));
        assert!(!rates.control(at(3_600_000)));
    }

    #[test]
    fn messages_beyond_the_rate_are_told_when_to_come_again_and_come_in_then() {
        let (mut rates, start) = rates();
        assert!((0..1000).all(|_| rates.admit(20, false, false, start).is_ok()));
        let refused = rates.admit(20, false, false, start).unwrap_err();
        let error = refused.error();
        let detail = Detail::RetryAfter {
            limit: "messages",
            ms: 101,
        };
        assert_eq!((error.code, error.detail), (ErrorCode::RateLimited, Some(detail)));
        let later = start + Duration::from_millis(101);
        assert_eq!(rates.admit(20, false, false, later), Ok(()));
        assert!(rates.admit(20, false, false, later).is_err());
    }

    #[test]
    fn a_token_counts_as_many_messages() {
        let (mut rates, start) = rates();
        let verified = (0..1000).take_while(|_| {
            let is_admitted = rates.admit(300, false, false, start).is_ok();
            rates.token(start);
            is_admitted
        });
        assert_eq!(verified.count(), 48);
    }

    #[test]
    fn a_large_message_counts_as_several_and_a_refused_one_too() {
        let (mut rates, start) = rates();
        assert!((0..62).all(|_| rates.admit(60 * 1024, false, false, start).is_ok()));
        assert!(rates.admit(60 * 1024, false, false, start).is_err());
        // 992 of 1,000 are gone: one more that is refused, and three.
        assert_eq!(rates.admit(20, false, false, start), Ok(()));
        rates.refused(start);
        assert!((0..3).all(|_| rates.admit(20, false, false, start).is_ok()));
        assert!(rates.admit(20, false, false, start).is_err());
    }

    #[test]
    fn subscribes_have_a_rate_of_their_own() {
        let (mut rates, start) = rates();
        assert!((0..20).all(|_| rates.admit(20, true, false, start).is_ok()));
        let refused = rates.admit(20, true, false, start).unwrap_err();
        assert_eq!(refused.limit, Limit::Subscribes);
        assert_eq!(rates.admit(20, false, false, start), Ok(()));
        let later = start + Duration::from_secs(1);
        assert_eq!(rates.admit(20, true, false, later), Ok(()));
    }

    #[test]
    fn when_all_send_too_much_those_who_sent_the_most_wait() {
        let (mut noisy, start) = rates();
        let (mut quiet, _) = rates();
        assert!((0..101).all(|_| noisy.admit(20, false, false, start).is_ok()));
        let refused = noisy.admit(20, false, true, start).unwrap_err();
        assert_eq!(refused.limit, Limit::TotalMessages);
        assert_eq!(quiet.admit(20, false, true, start), Ok(()));
        assert_eq!(noisy.admit(20, false, false, start), Ok(()));
    }
}
