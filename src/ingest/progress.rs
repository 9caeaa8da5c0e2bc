//! [`Progress`] of a stream.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::lsn::Lsn;

/// The state that the reading and the confirming thread share during one connection.
#[derive(Debug, Default)]
pub(super) struct Progress {
    received: AtomicU64,
    pub(super) reply_requested: AtomicBool,
    pub(super) ended: AtomicBool,
    /// The position up to which the slot was confirmed when the stream began.
    pub(super) start: Lsn,
}

impl Progress {
    pub(super) fn new(start: Lsn) -> Progress {
        Progress {
            start,
            ..Progress::default()
        }
    }

    pub(super) fn received(&self, lsn: Lsn) {
        self.received.fetch_max(lsn.0, Ordering::Relaxed);
    }

    /// The newest position that came.
    pub(super) fn newest(&self) -> Lsn {
        Lsn(self.received.load(Ordering::Relaxed))
    }

    /// Notes that the server waits for an update.
    pub(super) fn request_reply(&self) {
        self.reply_requested.store(true, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}
