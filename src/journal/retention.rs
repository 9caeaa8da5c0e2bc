//! [`Retention`]: removes the oldest sealed segments; a [`Hold`] keeps it from some.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::directory::SEGMENTS;
use super::error::Error;
use super::files::Files;
use super::shared::{Shared, State};
use crate::log::RetentionHold;
use crate::lsn::Lsn;

/// The amount of the history to keep. The newest segment, and what somebody holds, is always kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Remove the oldest segments while all of them take more than this.
    pub max_bytes: Option<u64>,
    /// Remove segments whose newest transaction is older than this.
    pub max_age: Option<Duration>,
}

/// Keeps everything after a position from being removed, as long as it lives.
pub struct Hold {
    shared: Arc<Shared>,
    id: u64,
}

impl Hold {
    pub(super) fn new(shared: &Arc<Shared>, lsn: Lsn) -> Hold {
        let mut state = shared.state();
        let id = state.next_hold;
        state.next_hold += 1;
        state.holds.insert(id, lsn);
        let shared = Arc::clone(shared);
        Hold { shared, id }
    }
}

impl RetentionHold for Hold {
    fn advance(&self, lsn: Lsn) {
        if let Some(held) = self.shared.state().holds.get_mut(&self.id) {
            *held = lsn.max(*held);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.state().holds.remove(&self.id);
    }
}

impl Retention {
    /// Removes what need not be kept any more, oldest first; how many bytes that were.
    pub(super) fn apply(&self, shared: &Shared, now: SystemTime) -> Result<u64, Error> {
        let mut gone = Vec::new();
        {
            let mut state = shared.state();
            while let Some(file) = state.expire(self, now) {
                gone.push(file);
            }
        }
        for (path, _) in &gone {
            remove(&*shared.files, path).map_err(Error::io("remove", path))?;
        }
        if !gone.is_empty() {
            let dir = shared.dir.join(SEGMENTS);
            shared.files.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
        }
        Ok(gone.iter().map(|(_, bytes)| bytes).sum())
    }

    /// The part of what is to be kept that there is.
    pub(super) fn used(&self, shared: &Shared, now: SystemTime) -> f64 {
        shared.state().used(self, now)
    }
}

impl State {
    /// The part of what is to be kept that there is, by size or by the age of the oldest sealed segment's newest
    /// transaction, whichever is more; 0 without bounds.
    fn used(&self, retention: &Retention, now: SystemTime) -> f64 {
        let by_size = retention
            .max_bytes
            .map(|max| self.size_bytes() as f64 / max.max(1) as f64);
        let sealed = self.segments.front().and_then(|oldest| oldest.sealed.get());
        let age = sealed.map_or(Duration::ZERO, |sealed| {
            now.duration_since(sealed.at).unwrap_or_default()
        });
        let by_age = retention
            .max_age
            .map(|max| age.as_secs_f64() / max.as_secs_f64().max(1.0));
        by_size.unwrap_or(0.0).max(by_age.unwrap_or(0.0))
    }

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
        let held = self.holds.values().min().copied().unwrap_or(Lsn(u64::MAX));
        let oldest = self.segments.front()?;
        let sealed = *oldest.sealed.get()?;
        if sealed.end > held || !expired(sealed.at) {
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
