//! [`Journal`]: the handle that everyone but the writer holds, and what they share with the writer.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::error::Error;
use super::files::{Disk, Files, LogFile};
use super::identity::{Identity, Manifest};
use super::read_ahead::ReadAhead;
use super::reader::Reader;
use super::recover::{self, Lock, Recovery};
use super::retention::Pin;
use super::seam::History;
use super::segment::{Contents, Header, Sealed, Segment, scan};
use super::sync::Syncer;
use super::window::Window;
use super::{Options, Writer, lock};
use crate::lsn::{Epoch, Lsn, Start};

/// The journal as everyone but its one writer sees it. Cloning it copies a pointer.
#[derive(Clone)]
pub struct Journal {
    pub(super) shared: Arc<Shared>,
}

impl Journal {
    /// Opens the directory, or makes it one of an empty history that starts at [`Lsn::ZERO`]. The tail that a crash
    /// left is cut off; [`Journal::recovery`] says what was found.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NotOurs`], [`Error::Identity`], [`Error::ForeignSegment`], and whatever goes wrong
    /// with the files.
    pub fn open(dir: &Path, options: Options, identity: &Identity) -> Result<(Writer, Journal), Error> {
        recover::open(Arc::new(Disk), dir, options, identity)
    }

    /// The newest position that can be read: the end of the newest whole transaction, or a position noted after it.
    pub fn head(&self) -> Lsn {
        *self.shared.head.borrow()
    }

    /// The head whenever it moves, for those who wait for it.
    pub fn head_changes(&self) -> watch::Receiver<Lsn> {
        self.shared.head.subscribe()
    }

    /// The end of the newest transaction; the start of the history, if there is none.
    pub fn last_transaction_end(&self) -> Lsn {
        self.shared.state().last_transaction
    }

    /// Up to where the history would survive a crash of this machine.
    pub fn durable(&self) -> Lsn {
        self.shared.sync.durable()
    }

    /// The durable position whenever it moves. When the journal fails it is notified once more without moving.
    pub fn durable_changes(&self) -> watch::Receiver<Lsn> {
        self.shared.sync.subscribe()
    }

    /// Waits, at most that long, until everything that was visible when this was called is durable.
    ///
    /// # Errors
    /// [`Error::TimedOut`], or the failure.
    pub fn sync_now(&self, timeout: Duration) -> Result<Lsn, Error> {
        self.shared.sync.sync_now(timeout)
    }

    /// True if the journal still takes what it is given: its failure, if it had one.
    ///
    /// # Errors
    /// [`Error::Failed`]
    pub fn check(&self) -> Result<(), Error> {
        self.shared.sync.check()
    }

    /// The oldest position that can be read from.
    pub fn earliest(&self) -> Lsn {
        self.shared.state().earliest()
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

    /// The name of the current history.
    pub fn epoch(&self) -> Epoch {
        self.shared.state().manifest.epoch.clone()
    }

    /// Whose history it is, with the timeline it was last continued on.
    pub fn identity(&self) -> Identity {
        self.shared.state().manifest.identity.clone()
    }

    /// The space that the segments take on disk, those set aside included.
    pub fn size_bytes(&self) -> u64 {
        self.shared.state().size_bytes()
    }

    /// The report of the opening.
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// A reader that begins there. After a place inside a transaction it begins with the whole of that transaction.
    /// Beyond the head it has nothing to return until the head has passed it.
    ///
    /// # Errors
    /// [`Error::Expired`] if the place is no longer held.
    pub fn reader(&self, start: Start) -> Result<Reader, Error> {
        Reader::new(&self.shared, start)
    }
}

impl History for Journal {
    type Reader = Reader;
    type Pin = Pin;

    fn identity(&self) -> Identity {
        Journal::identity(self)
    }

    fn sync_now(&self, timeout: Duration) -> Result<Lsn, Error> {
        Journal::sync_now(self, timeout)
    }

    fn epoch(&self) -> Epoch {
        Journal::epoch(self)
    }

    fn head(&self) -> Lsn {
        Journal::head(self)
    }

    fn durable(&self) -> Lsn {
        Journal::durable(self)
    }

    fn earliest(&self) -> Lsn {
        Journal::earliest(self)
    }

    fn head_changes(&self) -> watch::Receiver<Lsn> {
        Journal::head_changes(self)
    }

    fn pin(&self, lsn: Lsn) -> Pin {
        Journal::pin(self, lsn)
    }

    fn reader(&self, start: Start) -> Result<Reader, Error> {
        Journal::reader(self, start)
    }
}

/// The state that the writer and the handles share.
pub(super) struct Shared {
    pub(super) files: Arc<dyn Files>,
    pub(super) dir: PathBuf,
    pub(super) state: Mutex<State>,
    pub(super) head: watch::Sender<Lsn>,
    /// Locked for a look-up, after the state if at all.
    pub(super) ahead: Mutex<ReadAhead>,
    pub(super) sync: Arc<Syncer>,
    pub(super) recovery: Recovery,
    /// Locked as long as anyone has the journal.
    pub(super) _lock: Lock,
}

/// The state that changes. Locked for a few lines, never across a file operation.
pub(super) struct State {
    pub(super) manifest: Manifest,
    /// Counts the histories since opening.
    pub(super) generation: u64,
    /// From the oldest to the one that is written; never empty.
    pub(super) segments: VecDeque<Arc<Segment>>,
    /// The amount of the newest segment that can be read.
    pub(super) visible: u64,
    pub(super) last_transaction: Lsn,
    pub(super) window: Window,
    pub(super) pins: BTreeMap<u64, Lsn>,
    pub(super) next_pin: u64,
    pub(super) aside: VecDeque<Aside>,
}

/// A file that holds no history any more.
pub(super) struct Aside {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
}

impl State {
    pub(super) fn earliest(&self) -> Lsn {
        self.segments.front().map_or(Lsn::ZERO, |segment| segment.base)
    }

    pub(super) fn size_bytes(&self) -> u64 {
        let sealed = self.segments.iter().filter_map(|segment| segment.sealed.get());
        let aside: u64 = self.aside.iter().map(|aside| aside.bytes).sum();
        sealed.map(|sealed| sealed.bytes).sum::<u64>() + aside + self.visible
    }

    /// The end of the part of the segment that can be read.
    pub(super) fn limit(&self, segment: &Segment) -> u64 {
        segment.sealed.get().map_or(self.visible, |sealed| sealed.bytes)
    }

    /// The segment after that one, if it is still held.
    pub(super) fn after(&self, sequence: u64) -> Option<&Arc<Segment>> {
        let front = self.segments.front()?.sequence;
        self.segments
            .get(usize::try_from((sequence + 1).checked_sub(front)?).ok()?)
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Opens the segment for reading and, if an earlier run sealed it, first reads and checks the whole of it: nothing
    /// of a damaged segment is served.
    pub(super) fn enter(&self, segment: &Arc<Segment>) -> Result<Arc<dyn LogFile>, Error> {
        let file = match segment.file(&*self.files) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(self.set_aside(segment, "it is gone"));
            }
            Err(e) => return Err(Error::io("open", &segment.path)(e)),
        };
        let mut contents = lock(&segment.contents);
        if let (None, Some(sealed)) = (&*contents, segment.sealed.get()) {
            match check_whole(&*file, sealed).map_err(Error::io("read", &segment.path))? {
                Ok(found) => *contents = Some(found),
                Err(reason) => {
                    drop(contents);
                    return Err(self.set_aside(segment, reason));
                }
            }
        }
        Ok(file)
    }

    /// Replaces the history; returns the segments of the old one.
    pub(super) fn restart(&self, manifest: Manifest, segment: Arc<Segment>) -> VecDeque<Arc<Segment>> {
        let start = manifest.start;
        let gone = {
            let mut state = self.state();
            state.generation += 1;
            state.visible = segment.start;
            state.last_transaction = start;
            state.window.clear();
            lock(&self.ahead).clear();
            state.manifest = manifest;
            self.head.send_replace(start);
            std::mem::replace(&mut state.segments, VecDeque::from([segment]))
        };
        self.sync.settled(start);
        gone
    }

    /// Takes a sealed segment that turned out damaged, and those before it, out of the history.
    pub(super) fn set_aside(&self, segment: &Segment, reason: &'static str) -> Error {
        let (gone, earliest) = {
            let mut state = self.state();
            let held = state
                .segments
                .iter()
                .position(|held| std::ptr::eq(&**held, segment));
            let count = held
                .filter(|at| at + 1 < state.segments.len())
                .map_or(0, |at| at + 1);
            let gone: Vec<_> = state.segments.drain(..count).collect();
            (gone, state.earliest())
        };
        if !gone.is_empty() {
            tracing::error!(path = %segment.path.display(), reason, %earliest, "damaged journal segment set aside");
        }
        for segment in gone {
            let bytes = segment.sealed.get().map_or(0, |sealed| sealed.bytes);
            match set_aside(&*self.files, &segment.path) {
                Ok(path) => self.state().aside.push_back(Aside {
                    path,
                    bytes,
                    modified: SystemTime::now(),
                }),
                Err(e) => {
                    tracing::warn!(error = %e, path = %segment.path.display(), "cannot rename a journal segment")
                }
            }
        }
        Error::Expired { earliest }
    }
}

/// Reads the whole of a sealed segment: its contents, or what is wrong with it.
fn check_whole(file: &dyn LogFile, sealed: &Sealed) -> io::Result<Result<Contents, &'static str>> {
    let (header, start) = match Header::read(file)? {
        Ok(header) => header,
        Err(malformed) => return Ok(Err(malformed.0)),
    };
    let scan = scan(file, &header, start, sealed.bytes)?;
    Ok(match scan.broken {
        Some((_, reason)) => Err(reason),
        None if scan.head != sealed.end => Err("it does not end where the next one begins"),
        None => Ok(scan.contents),
    })
}

/// Renames a file so that it is no longer taken for a segment.
pub(super) fn set_aside(files: &dyn Files, path: &Path) -> io::Result<PathBuf> {
    let aside = path.with_extension("seg.aside");
    files.rename(path, &aside)?;
    Ok(aside)
}
