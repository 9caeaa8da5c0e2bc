//! [`StreamingPause`]: the time in which large transactions are read after their commit only. Pure.
//!
//! Each change from one way to the other is a connection of its own, for which the server reads again whatever still
//! runs. Therefore one transaction that has to be read again costs no more than itself, but several in a row cost ten
//! minutes.

use std::time::{Duration, Instant};

use crate::lsn::Lsn;

/// The moment and the position until which transactions are not asked for while they still run.
#[derive(Debug, Default)]
pub(super) struct StreamingPause {
    until: Option<Instant>,
    to: Option<Lsn>,
    /// The last time that one was to be read again.
    read_again: Option<Instant>,
}

/// The time for which they are left to the server.
const LONG: Duration = Duration::from_secs(10 * 60);
/// Two that are to be read again within this time are taken for a sign that more will follow.
const IN_A_ROW: Duration = Duration::from_secs(60);

impl StreamingPause {
    /// Notes that there is no room for them: they are not asked for during the next ten minutes.
    pub(super) fn for_a_while(&mut self, now: Instant) {
        self.until = Some(now + LONG);
    }

    /// Notes that a transaction which ends at `end` is to be read again.
    pub(super) fn past(&mut self, end: Lsn, now: Instant) {
        self.to = self.to.max(Some(end));
        let before = self.read_again.replace(now);
        if before.is_some_and(|before| now.duration_since(before) < IN_A_ROW) {
            self.for_a_while(now);
        }
    }

    /// Says whether it is over, the journal being at `head`.
    pub(super) fn is_over(&self, now: Instant, head: Lsn) -> bool {
        self.until.is_none_or(|until| now >= until) && self.to.is_none_or(|end| head >= end)
    }

    /// Notes that a stream begins with them, the journal being at `head`.
    pub(super) fn begins(&mut self, head: Lsn) {
        self.to = self.to.filter(|end| *end > head);
    }

    /// Says whether the stream at hand, which was begun without them, is to start again: it has come past the
    /// transaction that was to be read again.
    pub(super) fn ends(&mut self, now: Instant, head: Lsn) -> bool {
        let ends = self.to.is_some() && self.is_over(now, head);
        if ends {
            self.to = None;
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_read_again_is_over_once_it_is_past_and_several_after_a_while() {
        let mut streaming_pause = StreamingPause::default();
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(streaming_pause.is_over(now, Lsn(0)) && !streaming_pause.ends(now, Lsn(0)));
        streaming_pause.past(Lsn(100), now);
        assert!(!streaming_pause.is_over(at(1), Lsn(99)) && !streaming_pause.ends(at(1), Lsn(99)));
        assert!(streaming_pause.is_over(at(1), Lsn(100)) && streaming_pause.ends(at(1), Lsn(100)));
        assert!(!streaming_pause.ends(at(1), Lsn(100)), "once");
        // Another stream has begun before it was looked.
        streaming_pause.past(Lsn(150), at(2000));
        streaming_pause.begins(Lsn(150));
        assert!(!streaming_pause.ends(at(2001), Lsn(150)));
        streaming_pause.past(Lsn(200), at(3000));
        assert!(streaming_pause.ends(at(3001), Lsn(250)));
        streaming_pause.past(Lsn(300), at(3002));
        assert!(!streaming_pause.is_over(at(3003), Lsn(300)) && !streaming_pause.ends(at(3601), Lsn(300)));
        assert!(streaming_pause.ends(at(3602), Lsn(300)));
    }

    #[test]
    fn for_want_of_room_it_is_for_a_while_and_the_stream_goes_on() {
        let mut streaming_pause = StreamingPause::default();
        let now = Instant::now();
        streaming_pause.for_a_while(now);
        assert!(!streaming_pause.is_over(now, Lsn(0)));
        let later = now + LONG;
        assert!(streaming_pause.is_over(later, Lsn(0)) && !streaming_pause.ends(later, Lsn(0)));
    }
}
