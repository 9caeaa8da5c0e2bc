//! [`Spool`]: the rows of a snapshot that clients have not taken yet, in files without names, and the [`Budget`] of all
//! snapshots.
//!
//! Rows are read from Postgres as fast as possible, so that no transaction stays open there because of a slow client;
//! each client takes them from here at its own pace. The last part of a disk is left to the journal. Blocking.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::disk::{Disk, no_room};
use crate::exhaustion::is_exhaustion;
use crate::private_files;

/// The size at which another file begins, in bytes. A file is removed once all clients are past it.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// The interval at which a snapshot that waits for space checks that a client still waits for it.
const LOOK: Duration = Duration::from_millis(200);

/// The bytes that all snapshots together may keep.
pub(super) struct Budget {
    used: Mutex<u64>,
    freed: Condvar,
    limit: u64,
    /// Measures the disk on which they are.
    disk: Box<dyn Fn() -> Option<Disk> + Send + Sync>,
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget")
            .field("used", &self.used)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Budget {
    /// So many bytes of a directory's disk.
    pub(super) fn new(limit: u64, directory: &Path) -> Arc<Budget> {
        let directory = directory.to_owned();
        Budget::on(limit, move || Disk::of(&directory))
    }

    fn on(limit: u64, disk: impl Fn() -> Option<Disk> + Send + Sync + 'static) -> Arc<Budget> {
        Arc::new(Budget {
            used: Mutex::new(0),
            freed: Condvar::new(),
            limit,
            disk: Box::new(disk),
        })
    }

    /// The bytes that have to become free so that the journal has room.
    pub(super) fn lacking(&self) -> Option<u64> {
        (self.disk)()?.lacking()
    }

    /// The amount that is kept now.
    pub(super) fn used(&self) -> u64 {
        *self.used.lock()
    }

    /// Waits until there is space, or no client waits any more; true if one does. Each snapshot may always keep one
    /// file, so that none waits for another one's clients.
    ///
    /// # Errors
    /// The disk has no room for it: the space that is left is for the journal.
    fn wait(&self, kept: impl Fn() -> u64, is_wanted: impl Fn() -> bool) -> io::Result<bool> {
        loop {
            if !is_wanted() {
                return Ok(false);
            }
            if (self.disk)().is_some_and(Disk::is_low) {
                return Err(no_room());
            }
            if kept() <= FILE_BYTES || !self.is_full() {
                return Ok(true);
            }
        }
    }

    /// True if there is still no space after a while.
    fn is_full(&self) -> bool {
        let mut used = self.used.lock();
        let full = |used: &mut u64| *used >= self.limit;
        self.freed.wait_while_for(&mut used, full, LOOK).timed_out()
    }

    fn take(&self, bytes: u64) {
        *self.used.lock() += bytes;
    }

    fn give_back(&self, bytes: u64) {
        let mut used = self.used.lock();
        *used = used.saturating_sub(bytes);
        self.freed.notify_all();
    }
}

/// A file of chunks, which is removed with the last of them.
#[derive(Debug)]
struct Part {
    file: File,
    bytes: Mutex<u64>,
    budget: Arc<Budget>,
}

impl Drop for Part {
    fn drop(&mut self) {
        let bytes = *self.bytes.lock();
        self.budget.give_back(bytes);
    }
}

/// Some rows, as a JSON array.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    part: Arc<Part>,
    offset: u64,
    len: usize,
}

impl Chunk {
    /// Reads it, with the text `before` and `after` it.
    pub(super) fn read(&self, before: &str, after: &str) -> io::Result<String> {
        let mut bytes = Vec::with_capacity(before.len() + self.len + after.len());
        bytes.extend_from_slice(before.as_bytes());
        bytes.resize(before.len() + self.len, 0);
        let (_, rows) = bytes.split_at_mut(before.len());
        self.part.file.read_exact_at(rows, self.offset)?;
        bytes.extend_from_slice(after.as_bytes());
        String::from_utf8(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "rows that are no text"))
    }
}

/// Writes chunks.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    budget: Arc<Budget>,
    part: Option<Arc<Part>>,
}

impl Spool {
    /// A spool in a directory, which is created when it is needed.
    pub(super) fn new(dir: &Path, budget: &Arc<Budget>) -> Spool {
        Spool {
            dir: dir.to_owned(),
            budget: Arc::clone(budget),
            part: None,
        }
    }

    /// Adds a chunk, once there is space for it besides the `kept` bytes of this snapshot; `None` if no client waits
    /// any more.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        kept: impl Fn() -> u64,
        is_wanted: impl Fn() -> bool,
    ) -> io::Result<Option<Chunk>> {
        if !self.budget.wait(kept, &is_wanted)? {
            return Ok(None);
        }
        let part = match self.part.take().filter(|part| part.len() < FILE_BYTES) {
            Some(part) => part,
            None => match self.begin_patiently(is_wanted)? {
                Some(part) => Arc::new(part),
                None => return Ok(None),
            },
        };
        let offset = part.len();
        part.file.write_all_at(bytes, offset)?;
        part.grow(bytes.len() as u64);
        self.part = Some(Arc::clone(&part));
        Ok(Some(Chunk {
            part,
            offset,
            len: bytes.len(),
        }))
    }

    /// A new file, once there is a file descriptor for it; `None` if no client waits any more.
    fn begin_patiently(&self, is_wanted: impl Fn() -> bool) -> io::Result<Option<Part>> {
        loop {
            match self.begin() {
                Err(error) if is_exhaustion(&error) => {
                    if !is_wanted() {
                        return Ok(None);
                    }
                    std::thread::sleep(LOOK);
                }
                begun => return begun.map(Some),
            }
        }
    }

    fn begin(&self) -> io::Result<Part> {
        private_files::claim_directory(&self.dir)?;
        Ok(Part {
            file: private_files::unnamed(&self.dir)?,
            bytes: Mutex::new(0),
            budget: Arc::clone(&self.budget),
        })
    }
}

impl Part {
    fn len(&self) -> u64 {
        *self.bytes.lock()
    }

    fn grow(&self, bytes: u64) {
        *self.bytes.lock() += bytes;
        self.budget.take(bytes);
    }
}

/// The kept chunks, by number.
#[derive(Debug, Default)]
pub(super) struct Kept {
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk.
    first: u64,
    bytes: u64,
}

impl Kept {
    pub(super) fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.len as u64;
        self.chunks.push_back(chunk);
    }

    pub(super) fn get(&self, number: u64) -> Option<&Chunk> {
        let index = number.checked_sub(self.first)?;
        self.chunks.get(usize::try_from(index).ok()?)
    }

    /// True if the first chunk is still here, or has not come yet.
    pub(super) fn is_whole(&self) -> bool {
        self.first == 0
    }

    /// Drops the chunks before `number`.
    pub(super) fn drop_before(&mut self, number: u64) {
        while self.first < number
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.first += 1;
            self.bytes -= chunk.len as u64;
        }
    }

    /// Their size, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;

    #[test]
    fn chunks_read_back_and_their_space_is_free_when_all_of_a_file_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let budget = Budget::on(1, || None);
        let mut spool = Spool::new(&dir.path().join("snapshots"), &budget);
        let mut kept = Kept::default();
        let rows = format!("[{}]", "1,".repeat(FILE_BYTES as usize / 4));
        for _ in 0..3 {
            let chunk = spool.write(rows.as_bytes(), || 0, || true).unwrap();
            kept.push(chunk.unwrap());
        }
        let text = kept.get(2).unwrap().read("{\"rows\":", "}").unwrap();
        assert_eq!(text, format!("{{\"rows\":{rows}}}"));
        assert_eq!(budget.used(), 3 * rows.len() as u64);
        kept.drop_before(1);
        assert!(kept.get(0).is_none() && !kept.is_whole());
        assert_eq!(budget.used(), 3 * rows.len() as u64, "two chunks share a file");
        kept.drop_before(2);
        assert_eq!(budget.used(), rows.len() as u64);
        drop((kept, spool));
        assert_eq!(budget.used(), 0);
        assert_eq!(fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 0);
    }

    #[test]
    fn without_space_it_waits_until_others_have_taken_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let budget = Budget::on(1, || None);
        let mut spool = Spool::new(dir.path(), &budget);
        let first = spool.write(&[b' '; 10], || 0, || true).unwrap();
        // Its own file is granted.
        let second = spool.write(&[b' '; 10], || FILE_BYTES, || true).unwrap();
        let others = (
            first,
            second,
            std::mem::replace(&mut spool, Spool::new(dir.path(), &budget)),
        );
        let looked = Cell::new(0);
        let others = Cell::new(Some(others));
        let is_wanted = || {
            looked.set(looked.get() + 1);
            if looked.get() == 2 {
                others.set(None);
            }
            true
        };
        let third = spool.write(b"[]", || FILE_BYTES + 1, is_wanted).unwrap().unwrap();
        assert_eq!((looked.get(), third.read("", "").unwrap().as_str()), (2, "[]"));
        // It does not wait for others once its own clients have taken everything, and gives up if no client waits for
        // it.
        let kept = Cell::new(FILE_BYTES + 2);
        let taken = || kept.replace(0);
        assert!(spool.write(b"[]", taken, || true).unwrap().is_some());
        assert!(spool.write(b"[]", || FILE_BYTES + 1, || false).unwrap().is_none());
    }

    #[test]
    fn no_row_is_kept_on_what_the_disk_leaves_to_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let available = Arc::new(Mutex::new(1_000));
        let measured = Arc::clone(&available);
        let budget = Budget::on(1 << 30, move || {
            Some(Disk {
                available: *measured.lock(),
                size: 10_000,
            })
        });
        let mut spool = Spool::new(dir.path(), &budget);
        assert!(spool.write(b"[]", || 0, || true).unwrap().is_some());
        assert_eq!(budget.lacking(), None);
        *available.lock() = 499;
        let refused = spool.write(b"[]", || 0, || true).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(budget.lacking(), None, "those that are kept may stay");
        *available.lock() = 100;
        assert_eq!(budget.lacking(), Some(400));
    }
}
