//! [`StreamingPause`]: a pause in which large transactions are read only after their commit. Pure.
//!
//! Each switch takes a new connection, for which the server reads again whatever still runs. Therefore one transaction
//! that has to be read again pauses streaming only for itself, but several in a row pause it for ten minutes.

use std::time::{Duration, Instant};

use crate::lsn::Lsn;

/// The time and the position until which transactions are not streamed while they still run.
#[derive(Debug, Default)]
pub(super) struct StreamingPause {
    until: Option<Instant>,
    to: Option<Lsn>,
    /// The last time that a transaction had to be read again.
    read_again: Option<Instant>,
}

/// The long pause.
const LONG: Duration = Duration::from_secs(10 * 60);
/// Two transactions that have to be read again within this time are taken as a sign that more will follow.
const IN_A_ROW: Duration = Duration::from_secs(60);

impl StreamingPause {
    /// Pauses streaming for ten minutes, since there is no room.
    pub(super) fn for_a_while(&mut self, now: Instant) {
        self.until = Some(now + LONG);
    }

    /// Notes that a transaction which ends at `end` has to be read again.
    pub(super) fn past(&mut self, end: Lsn, now: Instant) {
        self.to = self.to.max(Some(end));
        let before = self.read_again.replace(now);
        if before.is_some_and(|before| now.duration_since(before) < IN_A_ROW) {
            self.for_a_while(now);
        }
    }

    /// True if the pause is over, with the journal at `head`.
    pub(super) fn is_over(&self, now: Instant, head: Lsn) -> bool {
        self.until.is_none_or(|until| now >= until) && self.to.is_none_or(|end| head >= end)
    }

    /// Notes that a stream begins with transactions in progress, with the journal at `head`.
    pub(super) fn begins(&mut self, head: Lsn) {
        self.to = self.to.filter(|end| *end > head);
    }

    /// True if the current stream, which began without transactions in progress, is to start again because it has
    /// passed the transaction that had to be read again.
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
        // Another stream began before the check.
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
