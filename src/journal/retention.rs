//! Retention: [`Journal::retain`] removes the oldest sealed segments, [`Pin`] keeps it from some.

use std::io;
use std::time::{Duration, SystemTime};

use super::error::Error;
use super::files::Files;
use super::seam::RetentionHold;
use super::shared::{Journal, State};
use crate::lsn::Lsn;

/// The amount of the history to keep. The newest segment, and what is pinned, is always kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Remove the oldest segments while all of them take more than this.
    pub max_bytes: Option<u64>,
    /// Remove segments whose newest transaction is older than this.
    pub max_age: Option<Duration>,
}

/// Keeps everything after a position from being removed, as long as it is held.
pub struct Pin {
    journal: Journal,
    id: u64,
}

impl RetentionHold for Pin {
    fn advance(&self, lsn: Lsn) {
        if let Some(pinned) = self.journal.shared.state().pins.get_mut(&self.id) {
            *pinned = lsn.max(*pinned);
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.journal.shared.state().pins.remove(&self.id);
    }
}

impl Journal {
    /// Keeps everything after `lsn` from being removed by retention. (A new epoch, and damage, respect no pin.)
    pub fn pin(&self, lsn: Lsn) -> Pin {
        let mut state = self.shared.state();
        let id = state.next_pin;
        state.next_pin += 1;
        state.pins.insert(id, lsn);
        Pin {
            journal: self.clone(),
            id,
        }
    }

    /// Removes what need not be kept any more, oldest first, and returns how many bytes that were.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be removed; the history has been shortened all the same.
    pub fn retain(&self, retention: &Retention, now: SystemTime) -> Result<u64, Error> {
        let mut gone = Vec::new();
        {
            let mut state = self.shared.state();
            while let Some(file) = state.expire(retention, now) {
                gone.push(file);
            }
        }
        for (path, _) in &gone {
            remove(&*self.shared.files, path).map_err(Error::io("remove", path))?;
        }
        if !gone.is_empty() {
            let dir = self.shared.dir.join("segments");
            self.shared
                .files
                .sync_dir(&dir)
                .map_err(Error::io("sync", &dir))?;
        }
        Ok(gone.iter().map(|(_, bytes)| bytes).sum())
    }
}

impl State {
    /// Takes the oldest file out if it need not be kept: first those set aside, then sealed segments.
    fn expire(&mut self, retention: &Retention, now: SystemTime) -> Option<(std::path::PathBuf, u64)> {
        let too_much = retention.max_bytes.is_some_and(|max| self.size_bytes() > max);
        let expired = |at: SystemTime| {
            let age = now.duration_since(at).unwrap_or_default();
            too_much || retention.max_age.is_some_and(|max| age > max)
        };
        if self.aside.front().is_some_and(|aside| expired(aside.modified)) {
            return self.aside.pop_front().map(|aside| (aside.path, aside.bytes));
        }
        let pinned = self.pins.values().min().copied().unwrap_or(Lsn(u64::MAX));
        let oldest = self.segments.front()?;
        let sealed = *oldest.sealed.get()?;
        if sealed.end > pinned || !expired(sealed.at) {
            return None;
        }
        let path = oldest.path.clone();
        self.segments.pop_front();
        Some((path, sealed.bytes))
    }
}

/// Removes a file that may be gone already.
fn remove(files: &dyn Files, path: &std::path::Path) -> io::Result<()> {
    match files.remove(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
