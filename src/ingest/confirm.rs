//! The thread that tells Postgres how far the journal has come. It waits neither for the socket nor for the disk, so
//! the server hears from us in time whatever else happens.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::journal::History;
use crate::lsn::Lsn;
use crate::postgres::{StatusSender, StatusUpdate};
use crate::telemetry::Metrics;

/// What the reading thread and this one share for the time of one connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    received: AtomicU64,
    reply_requested: AtomicBool,
    ended: AtomicBool,
}

/// How often the durable position is looked at.
const POLL: Duration = Duration::from_millis(5);
/// The least time between two updates that only report progress.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

impl Progress {
    pub(super) fn received(&self, lsn: Lsn) {
        self.received.fetch_max(lsn.0, Ordering::Relaxed);
    }

    /// The newest position that came.
    pub(super) fn newest(&self) -> Lsn {
        Lsn(self.received.load(Ordering::Relaxed))
    }

    /// The server waits for an update.
    pub(super) fn request_reply(&self) {
        self.reply_requested.store(true, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// Confirms what is durable: when it moves, when the server asks, and at least every `interval`, until the connection
/// ends. Nothing but the journal's durable position is ever confirmed.
pub(super) fn run(
    sender: &StatusSender,
    progress: &Progress,
    journal: &impl History,
    metrics: &Metrics,
    interval: Duration,
) {
    let mut confirmed = Lsn::ZERO;
    let mut last_sent: Option<Instant> = None;
    loop {
        // Looked at first: what is asked for together with the end is still sent.
        let ended = progress.ended.load(Ordering::Acquire);
        let durable = journal.durable();
        let since = last_sent.map_or(interval, |at| at.elapsed());
        let moved = durable > confirmed && since >= MIN_INTERVAL;
        // The server repeats its request for as long as what we confirm is not what it waits for.
        let asked = progress.reply_requested.swap(false, Ordering::AcqRel);
        if asked || moved || since >= interval {
            let written = progress.newest().max(durable);
            let update = StatusUpdate {
                written,
                flushed: durable,
                applied: durable,
                // The first answer says that the stream lives, also on a server on which nothing happens.
                reply_requested: last_sent.is_none(),
            };
            if let Err(error) = sender.send(&update) {
                // The reading thread finds the connection broken as well, and says so.
                tracing::debug!(%error, "a status update was not sent");
                return;
            }
            (confirmed, last_sent) = (durable, Some(Instant::now()));
            metrics.confirmed_lsn.set(durable.0.cast_signed());
        }
        if ended {
            return;
        }
        thread::park_timeout(POLL);
    }
}
