//! A data directory: what may be in it, who has it open, and what opening it found.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::legacy;
use crate::private_files;

/// A report of what opening the journal found and did. It is logged as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The directory held no history yet.
    pub created: bool,
    /// The number of bytes that were cut off the newest segment: what came after the last whole transaction.
    pub cut_bytes: u64,
    /// Damaged segments, and segments that a damaged or missing one cuts off from the rest, by their new names.
    pub set_aside: Vec<PathBuf>,
}

/// The file that is locked while somebody has the directory open.
const LOCK: &str = "LOCK";
/// The directory of the segments.
pub(super) const SEGMENTS: &str = "segments";
/// The contents of a data directory, its manifest apart: of a first start that was cut short there may be some of it.
const CONTENTS: [&str; 6] = [
    LOCK,
    SEGMENTS,
    "journal.json.new",
    "received",
    "spool",
    "snapshots",
];

/// True if a directory is a journal's, or empty.
pub(super) fn check_contents(dir: &Path) -> Result<(), Error> {
    if dir.join("journal.json").exists() {
        return Ok(());
    }
    let listing = || Error::io("list", dir);
    for entry in fs::read_dir(dir).map_err(listing())? {
        let name = entry.map_err(listing())?.file_name();
        let name = name.to_string_lossy();
        if !CONTENTS.contains(&&*name) && !legacy::FILES.contains(&&*name) {
            return Err(Error::NotEmpty {
                dir: dir.to_owned(),
                holds: name.into_owned(),
            });
        }
    }
    Ok(())
}

/// The directory's lock, given up when it is dropped.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that is being started right now holds a copy of every open file until it
        // runs its own program, and the lock with it. Should it fail, closing comes next anyway.
        let _closed_next = self.0.unlock();
    }
}

pub(super) fn take_lock(dir: &Path) -> Result<Lock, Error> {
    let path = dir.join(LOCK);
    let file = private_files::open_or_create(&path).map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(dir.to_owned())),
        Err(TryLockError::Error(e)) => Err(Error::io("lock", &path)(e)),
    }
}
