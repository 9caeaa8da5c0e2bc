//! [`Shared`]: what the writer and everyone else who has the journal share.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::directory::{Lock, Recovery};
use super::error::Error;
use super::files::{Files, LogFile};
use super::header::Beginning;
use super::manifest::Manifest;
use super::read_ahead::ReadAhead;
use super::segment::{Contents, Sealed, Segment, scan};
use super::sync::Syncer;
use super::window::Window;
use crate::log::{self, Interner, TableHistory};
use crate::lsn::Lsn;

/// The state that the writer and the handles share.
pub(super) struct Shared {
    pub(super) files: Arc<dyn Files>,
    pub(super) dir: PathBuf,
    pub(super) state: Mutex<State>,
    pub(super) head: watch::Sender<Lsn>,
    pub(super) tables: watch::Sender<TableHistory>,
    /// The relations of all segments.
    pub(super) interner: Arc<Interner>,
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
    /// The positions behind which nothing is removed, by the numbers of those who hold them.
    pub(super) holds: BTreeMap<u64, Lsn>,
    pub(super) next_hold: u64,
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
        self.state.lock()
    }

    /// Opens the segment for reading and, if an earlier run sealed it, first reads and checks the whole of it: nothing
    /// of a damaged segment is served.
    pub(super) fn enter(&self, segment: &Arc<Segment>) -> Result<Arc<dyn LogFile>, log::Error> {
        let file = match segment.file(&*self.files) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(self.set_aside(segment, "it is gone"));
            }
            Err(e) => return Err(Error::io("open", &segment.path)(e).into()),
        };
        let mut contents = segment.contents.lock();
        if let (None, Some(sealed)) = (&*contents, segment.sealed.get()) {
            match check_whole(&*file, sealed, &self.interner).map_err(Error::io("read", &segment.path))? {
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
    pub(super) fn restart(
        &self,
        manifest: Manifest,
        segment: Arc<Segment>,
        tables: TableHistory,
    ) -> VecDeque<Arc<Segment>> {
        let start = manifest.start;
        let gone = {
            let mut state = self.state();
            state.generation += 1;
            state.visible = segment.start;
            state.last_transaction = start;
            state.window.clear();
            self.ahead.lock().clear();
            state.manifest = manifest;
            self.tables.send_replace(tables);
            self.head.send_replace(start);
            std::mem::replace(&mut state.segments, VecDeque::from([segment]))
        };
        self.sync.settled(start);
        gone
    }

    /// Takes a sealed segment that turned out damaged, and those before it, out of the history.
    pub(super) fn set_aside(&self, segment: &Segment, reason: &'static str) -> log::Error {
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
            tracing::error!(
                event = "journal_segment_damaged", path = %segment.path.display(), reason, %earliest,
                "damaged journal segment set aside"
            );
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
                    tracing::warn!(
                        event = "journal_segment_rename_failed", error = %e, path = %segment.path.display(),
                        "cannot rename a journal segment"
                    )
                }
            }
        }
        log::Error::Expired { earliest }
    }
}

/// Reads the whole of a sealed segment: its contents, or what is wrong with it.
fn check_whole(
    file: &dyn LogFile,
    sealed: &Sealed,
    interner: &Interner,
) -> io::Result<Result<Contents, &'static str>> {
    let beginning = match Beginning::read(file)? {
        Ok(beginning) => beginning,
        Err(malformed) => return Ok(Err(malformed.0)),
    };
    let scan = scan(file, &beginning, sealed.bytes, interner)?;
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
