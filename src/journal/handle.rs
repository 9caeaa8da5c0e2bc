//! [`Journal`]: the handle that everyone but the writer holds.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::directory::Recovery;
use super::error::Error;
use super::files::{Disk, Files};
use super::reader::Reader;
use super::retention::{Hold, Retention};
use super::shared::Shared;
use super::writer::Writer;
use super::{Options, recover};
use crate::log::{self, Identity, Log, TableHistory};
use crate::lsn::{Epoch, Lsn, Start};

/// The journal as everyone but its one writer sees it. Cloning it copies a pointer.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

impl Journal {
    /// Opens the directory, or makes it one of an empty history that starts at [`Lsn::ZERO`]. The tail that a crash
    /// left is cut off; [`Journal::recovery`] says what was found.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NotOurs`], [`Error::Identity`], [`Error::Format`], [`Error::ForeignSegment`], and whatever goes wrong
    /// with the files.
    pub fn open(dir: &Path, options: Options, identity: &Identity) -> Result<(Writer, Journal), Error> {
        Journal::open_on(Arc::new(Disk), dir, options, identity)
    }

    /// The end of the newest transaction; the start of the history, if there is none.
    pub fn last_transaction_end(&self) -> Lsn {
        self.shared.state().last_transaction
    }

    /// The durable position whenever it moves. When the journal fails it is notified once more without moving.
    pub fn durable_changes(&self) -> watch::Receiver<Lsn> {
        self.shared.sync.subscribe()
    }

    /// True if the journal still takes what it is given: its failure, if it had one.
    ///
    /// # Errors
    /// [`Error::Failed`]
    pub fn check(&self) -> Result<(), Error> {
        self.shared.sync.check()
    }

    /// A position from which at least so many bytes of the journal lead to the head, and not many more; the earliest if
    /// there are not so many.
    pub fn recent(&self, bytes: u64) -> Lsn {
        let state = self.shared.state();
        let mut left = bytes;
        for segment in state.segments.iter().rev() {
            let held = state.limit(segment);
            if held >= left {
                return segment.base;
            }
            left -= held;
        }
        state.earliest()
    }

    /// The start of the current history, whether that is still held or not.
    pub fn start(&self) -> Lsn {
        self.shared.state().manifest.start
    }

    /// The space that the segments take on disk, those set aside included.
    pub fn size_bytes(&self) -> u64 {
        self.shared.state().size_bytes()
    }

    /// The report of the opening.
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// The same on files of another kind.
    pub(super) fn open_on(
        files: Arc<dyn Files>,
        dir: &Path,
        options: Options,
        identity: &Identity,
    ) -> Result<(Writer, Journal), Error> {
        let (writer, shared) = recover::open(files, dir, options, identity)?;
        Ok((writer, Journal { shared }))
    }

    /// Removes what need not be kept any more, oldest first, and returns how many bytes that were.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be removed; the history has been shortened all the same.
    pub fn retain(&self, retention: &Retention, now: SystemTime) -> Result<u64, Error> {
        retention.apply(&self.shared, now)
    }

    /// The journal's size or age as a fraction of what is kept, whichever is nearer to its bound.
    pub fn retention_used(&self, retention: &Retention, now: SystemTime) -> f64 {
        retention.used(&self.shared, now)
    }
}

impl Log for Journal {
    type Reader = Reader;
    type Hold = Hold;

    fn identity(&self) -> Identity {
        self.shared.state().manifest.identity.clone()
    }

    fn epoch(&self) -> Epoch {
        self.shared.state().manifest.epoch.clone()
    }

    fn head(&self) -> Lsn {
        *self.shared.head.borrow()
    }

    fn head_changes(&self) -> watch::Receiver<Lsn> {
        self.shared.head.subscribe()
    }

    fn earliest(&self) -> Lsn {
        self.shared.state().earliest()
    }

    fn tables(&self) -> watch::Receiver<TableHistory> {
        self.shared.tables.subscribe()
    }

    fn durable(&self) -> Lsn {
        self.shared.sync.durable()
    }

    fn sync_now(&self, timeout: Duration) -> Result<Lsn, log::Error> {
        self.shared.sync.sync_now(timeout)
    }

    fn hold(&self, lsn: Lsn) -> Hold {
        Hold::new(&self.shared, lsn)
    }

    fn between(&self, after: Lsn, before: Lsn) -> Option<Lsn> {
        let state = self.shared.state();
        let segments = &state.segments;
        let first = segments.partition_point(|segment| segment.base <= after);
        let end = segments.partition_point(|segment| segment.base < before);
        if first < end {
            return segments.get(first.midpoint(end)).map(|segment| segment.base);
        }
        let segment = Arc::clone(segments.get(first.checked_sub(1)?)?);
        drop(state);
        let contents = segment.contents.lock();
        contents.as_ref()?.between(after, before)
    }

    fn reader(&self, start: Start) -> Result<Reader, log::Error> {
        Reader::new(&self.shared, start)
    }
}
