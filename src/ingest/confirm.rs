//! The thread that reports the journal's position to Postgres. It waits neither for the socket nor for the disk, so the
//! server hears from us in time.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::progress::Progress;
use super::standby::Standbys;
use super::verifier::PositionVerifier;
use crate::log::Log;
use crate::lsn::Lsn;
use crate::postgres::{StatusSender, StatusUpdate};
use crate::telemetry::Metrics;

/// The schedule of confirmations.
pub(super) struct Pace {
    /// The longest time between two updates.
    pub(super) interval: Duration,
    /// The standbys that wait to take the slot over.
    pub(super) standbys: Standbys,
    /// True if commits wait for confirmations: then positions are reported at once, and nothing is held back for a
    /// standby.
    pub(super) at_once: bool,
}

/// The interval at which the durable position is checked.
const POLL: Duration = Duration::from_millis(5);
/// The same interval while commits wait.
const POLL_AT_ONCE: Duration = Duration::from_millis(1);
/// The number of samples that are kept per standby window.
const STEPS: u32 = 100;
/// The least time between two updates that only report progress.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The durable positions of the last while.
#[derive(Debug, Default)]
struct Trail(VecDeque<(Instant, Lsn)>);

impl Trail {
    /// Adds the durable position at `now`, and returns the one `window` before that, if it is known.
    fn walk(&mut self, now: Instant, durable: Lsn, window: Duration) -> Option<Lsn> {
        let step = (window / STEPS).max(MIN_INTERVAL);
        if self
            .0
            .back()
            .is_none_or(|(at, _)| now.duration_since(*at) >= step)
        {
            self.0.push_back((now, durable));
        }
        let is_old = |at: &Instant| now.duration_since(*at) >= window;
        while self.0.get(1).is_some_and(|(at, _)| is_old(at)) {
            self.0.pop_front();
        }
        self.0.front().filter(|(at, _)| is_old(at)).map(|(_, lsn)| *lsn)
    }
}

/// Confirms what is durable: when it moves, when the server asks, and at least every `interval`, until the connection
/// ends. Nothing but the journal's durable position is ever confirmed, nothing that the server is not known to have
/// written, and while a standby waits, nothing younger than its window, unless the server asks, since it would not shut
/// down otherwise.
///
/// Positions that were received are told as written at once: of a logical slot the server keeps only what was
/// confirmed as flushed, so that it can all be received again, and commits under `synchronous_commit = remote_write`
/// need not wait for our sync.
pub(super) fn run(
    sender: &StatusSender,
    (progress, verifier): (&Progress, &PositionVerifier),
    journal: &impl Log,
    metrics: &Metrics,
    pace: &Pace,
) {
    let Pace {
        interval,
        standbys,
        at_once,
    } = pace;
    let interval = *interval;
    let at_once = *at_once;
    let least = if at_once { Duration::ZERO } else { MIN_INTERVAL };
    // A server may take a slot back to a lower position.
    let mut confirmed = progress.start;
    let mut told_written = Lsn::ZERO;
    let mut last_sent: Option<Instant> = None;
    let mut trail = Trail::default();
    loop {
        // Read first, so that an update which was asked for together with the end is still sent.
        let ended = progress.ended.load(Ordering::Acquire);
        let asked = progress.reply_requested.swap(false, Ordering::AcqRel);
        let shown = verifier.shown();
        let durable = journal.durable().min(shown);
        let passed = trail.walk(Instant::now(), durable, standbys.window());
        let safe = if standbys.wait() && !asked && !at_once {
            passed.unwrap_or(confirmed).max(confirmed)
        } else {
            durable.max(confirmed)
        };
        let since = last_sent.map_or(interval, |at| at.elapsed());
        let written = progress.newest().min(shown).max(durable);
        let moved = (safe > confirmed || at_once && written > told_written) && since >= least;
        // The server repeats its request until it gets the confirmation that it waits for.
        if asked || moved || ended || since >= interval {
            let update = StatusUpdate {
                written,
                flushed: safe,
                applied: safe,
                // The answer to the first update shows that the stream works, even on an idle server.
                reply_requested: last_sent.is_none(),
            };
            if let Err(error) = sender.send(&update) {
                // The reading thread finds the connection broken too, and reports it.
                tracing::debug!(%error, "a status update was not sent");
                return;
            }
            confirmed = safe;
            told_written = written;
            last_sent = Some(Instant::now());
            metrics.confirmed_lsn.set(safe.0);
        }
        if ended {
            return;
        }
        let is_awaited = at_once && durable < progress.newest();
        thread::park_timeout(if is_awaited { POLL_AT_ONCE } else { POLL });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_says_where_the_journal_was_a_while_ago() {
        let mut trail = Trail::default();
        let began = Instant::now();
        let window = Duration::from_secs(10);
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        for second in 0..10 {
            assert_eq!(trail.walk(at(second), Lsn(second), window), None, "{second}");
        }
        for second in 10..1000 {
            assert_eq!(
                trail.walk(at(second), Lsn(second), window),
                Some(Lsn(second - 10))
            );
        }
        assert!(trail.0.len() <= 12, "{}", trail.0.len());
        // After a pause, all of it is old.
        assert_eq!(trail.walk(at(2000), Lsn(2000), window), Some(Lsn(999)));
    }
}
