//! [`Warnings`]: lines of the log that would come again and again.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time at which a warning was last logged.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<Option<Instant>>);

/// The interval at which it is logged again.
const INTERVAL: Duration = Duration::from_secs(60);

impl Warnings {
    /// True if it is to be logged now.
    pub(super) fn is_due(&self) -> bool {
        let mut last = self.0.lock();
        let is_due = last.is_none_or(|at| at.elapsed() >= INTERVAL);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}
