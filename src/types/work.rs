//! [`Work`]: how much is done to answer a question about a row, and how much may be.

use std::cell::Cell;

/// Counts work in units of about a byte that is looked at, a nanosecond of a processor's time.
///
/// It is counted by what is done, not by the clock, so that the same question about the same row takes the same
/// everywhere.
#[derive(Debug)]
pub struct Work {
    done: Cell<u64>,
    limit: Cell<u64>,
    is_exhausted: Cell<bool>,
}

/// There is more to be done than there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it takes more work than there may be")]
pub struct Exhausted;

impl Work {
    /// None yet, of which there may be so much.
    pub fn within(limit: u64) -> Work {
        Work {
            done: Cell::new(0),
            limit: Cell::new(limit),
            is_exhausted: Cell::new(false),
        }
    }

    /// None yet, without a limit.
    pub fn unlimited() -> Work {
        Work::within(u64::MAX)
    }

    /// Counts what is about to be done, unless that is too much.
    ///
    /// # Errors
    /// It is too much, as everything is from then on.
    #[inline]
    pub fn spend(&self, units: usize) -> Result<(), Exhausted> {
        let done = self.done.get().saturating_add(units as u64);
        if done > self.limit.get() || self.is_exhausted.get() {
            self.is_exhausted.set(true);
            return Err(Exhausted);
        }
        self.done.set(done);
        Ok(())
    }

    /// Begins to answer another question, for which there may be so much more.
    pub fn allow(&self, units: u64) {
        self.limit.set(self.done.get().saturating_add(units));
        self.is_exhausted.set(false);
    }

    /// So much was done.
    pub fn done(&self) -> u64 {
        self.done.get()
    }

    /// True if there was too much to be done.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted.get()
    }
}
