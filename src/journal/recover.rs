//! Opening a directory: whose it is, which segments make up the history, and where it ends.
//!
//! Headers are read, and the newest segment is scanned; older ones are scanned when they are first read. What comes
//! after the last boundary of the newest segment is cut off, whether a crash tore it or it was damaged later: the two
//! cannot be told apart, and Postgres sends again whatever was not confirmed.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Options;
use super::directory::{Recovery, SEGMENTS, check_contents, take_lock};
use super::error::Error;
use super::files::{Entry, Files};
use super::header::{Beginning, Header};
use super::legacy;
use super::manifest::{FORMAT, Manifest};
use super::segment::{Created, Sealed, Segment, scan};
use super::shared::{Aside, Shared, State, set_aside};
use super::sync::Syncer;
use super::window::Window;
use super::writer::{Tail, Writer};
use crate::log::{Identity, Interner, TableHistory};
use crate::lsn::{Epoch, Lsn};
use crate::private_files;

/// Opens the directory, or makes it one of an empty history.
pub(super) fn open(
    files: Arc<dyn Files>,
    dir: &Path,
    options: Options,
    identity: &Identity,
) -> Result<(Writer, Arc<Shared>), Error> {
    if private_files::check_directory(dir).map_err(Error::io("use", dir))? {
        check_contents(dir)?;
        // Before anything is changed: a directory of a later version stays as it is.
        Manifest::check_format(&*files, dir)?;
    }
    let segments_dir = dir.join(SEGMENTS);
    for directory in [dir, &segments_dir] {
        private_files::claim_directory(directory).map_err(Error::io("use", directory))?;
    }
    let lock = take_lock(dir)?;
    let manifest = Manifest::read(&*files, dir, identity, options.accepts_recreated_database)?;
    let mut directory = Directory::read(&*files, segments_dir)?;
    let mut manifest = match manifest {
        Some(manifest) => manifest,
        None => directory.begin(dir, identity)?,
    };
    let segments = directory.history(&manifest)?;
    let (segments, mut tail) = directory.finish(segments, &manifest)?;
    directory.remove_drafts()?;
    files
        .sync_dir(&directory.path)
        .map_err(Error::io("sync", &directory.path))?;
    let is_of_an_earlier_version = !tail.has_opening;
    if is_of_an_earlier_version {
        tail.tables = legacy::tables(dir, &manifest.epoch)?;
    }
    if manifest.format != FORMAT {
        // Before anything is written that an earlier version would not read.
        manifest.raise();
        manifest.write(&*files, dir)?;
    }

    let state = State {
        manifest,
        generation: 0,
        segments,
        visible: tail.end,
        last_transaction: tail.last_transaction,
        window: Window::new(options.window_bytes),
        holds: BTreeMap::new(),
        next_hold: 0,
        aside: std::mem::take(&mut directory.aside),
    };
    let interner = Arc::clone(&directory.interner);
    let recovery = directory.recovery;
    let observer = options.observer.clone();
    let sync = Arc::new(Syncer::new(
        tail.head,
        options.sync_interval,
        options.sync_bytes,
        observer,
    ));
    let thread = std::thread::Builder::new()
        .name("journal-sync".to_owned())
        .spawn({
            let sync = sync.clone();
            move || sync.run()
        });
    let shared = Arc::new(Shared {
        files,
        dir: dir.to_owned(),
        state: Mutex::new(state),
        head: watch::Sender::new(tail.head),
        tables: watch::Sender::new(std::mem::take(&mut tail.tables)),
        interner,
        ahead: Mutex::default(),
        sync,
        recovery,
        _lock: lock,
    });
    let thread = thread.map_err(Error::io("start the syncing thread for", dir))?;
    let unsettled = std::mem::take(&mut tail.unsettled);
    let mut writer = Writer::new(shared.clone(), &options, thread, tail);
    writer.restore(&unsettled)?;
    if is_of_an_earlier_version {
        writer.roll()?;
    }
    legacy::remove(&*shared.files, dir)?;
    Ok((writer, shared))
}

/// The segments' directory while it is being opened.
struct Directory<'a> {
    files: &'a dyn Files,
    path: PathBuf,
    /// The segment files by sequence.
    found: BTreeMap<u64, Entry>,
    /// Files of segments that did not get their names.
    drafts: Vec<PathBuf>,
    aside: VecDeque<Aside>,
    interner: Arc<Interner>,
    recovery: Recovery,
}

/// A segment file with a good header.
struct Found {
    beginning: Beginning,
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl<'a> Directory<'a> {
    fn read(files: &'a dyn Files, path: PathBuf) -> Result<Directory<'a>, Error> {
        let mut directory = Directory {
            files,
            found: BTreeMap::new(),
            drafts: Vec::new(),
            aside: VecDeque::new(),
            interner: Arc::default(),
            recovery: Recovery::default(),
            path,
        };
        let mut entries = files
            .list(&directory.path)
            .map_err(Error::io("list", &directory.path))?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let path = directory.path.join(&entry.name);
            if let Some(sequence) = Segment::sequence_of(&entry.name) {
                directory.found.insert(sequence, entry);
            } else if entry.name.ends_with(".seg.new") {
                directory.drafts.push(path);
            } else if entry.name.ends_with(".seg.aside") {
                directory.aside.push_back(Aside {
                    path,
                    bytes: entry.bytes,
                    modified: entry.modified,
                });
            } else {
                tracing::warn!(
                    event = "journal_stray_file", path = %path.display(),
                    "stray file in the journal, ignored"
                );
            }
        }
        Ok(directory)
    }

    /// Begins a history where there is none.
    fn begin(&mut self, dir: &Path, identity: &Identity) -> Result<Manifest, Error> {
        if !self.found.is_empty() {
            return Err(Error::Identity {
                path: dir.join("journal.json"),
                reason: "it is missing although there are segments".to_owned(),
            });
        }
        let manifest = Manifest::new(identity, Epoch::random(), Lsn::ZERO, 1);
        manifest.write(self.files, dir)?;
        self.recovery.created = true;
        Ok(manifest)
    }

    /// The segments of the current history that follow each other without a gap up to the newest, oldest first. Others
    /// are set aside, or removed if they are left over from an older history.
    fn history(&mut self, manifest: &Manifest) -> Result<VecDeque<Found>, Error> {
        let mut segments = VecDeque::<Found>::new();
        while let Some((sequence, entry)) = self.found.pop_last() {
            let path = self.path.join(&entry.name);
            if sequence < manifest.first_segment {
                self.files.remove(&path).map_err(Error::io("remove", &path))?;
                continue;
            }
            match (self.header(&path, sequence, manifest)?, segments.front()) {
                (Ok(beginning), None) => {
                    segments.push_front(Found {
                        beginning,
                        path,
                        bytes: entry.bytes,
                        modified: entry.modified,
                    });
                }
                (Ok(beginning), Some(next)) => {
                    match follows(&beginning.header, entry.bytes, &next.beginning.header) {
                        None => {
                            segments.push_front(Found {
                                beginning,
                                path,
                                bytes: entry.bytes,
                                modified: entry.modified,
                            });
                        }
                        Some(reason) => {
                            self.set_aside(&path, entry.bytes, reason)?;
                            self.set_rest_aside(manifest)?;
                        }
                    }
                }
                // Without it the history ends earlier, which the caller notices by comparing with the slot.
                (Err(reason), None) => self.set_aside(&path, entry.bytes, reason)?,
                (Err(reason), Some(_)) => {
                    self.set_aside(&path, entry.bytes, reason)?;
                    self.set_rest_aside(manifest)?;
                }
            }
        }
        Ok(segments)
    }

    /// Reads and checks a segment's header; what is wrong with it, if it cannot be one of ours.
    fn header(
        &self,
        path: &Path,
        sequence: u64,
        manifest: &Manifest,
    ) -> Result<Result<Beginning, &'static str>, Error> {
        let file = self.files.open(path).map_err(Error::io("open", path))?;
        let read = Beginning::read(&*file).map_err(Error::io("read", path))?;
        Ok(match read {
            Ok(Beginning { header, .. }) if header.epoch != manifest.epoch.0 => {
                return Err(Error::ForeignSegment {
                    path: path.to_owned(),
                    epoch: header.epoch,
                });
            }
            Ok(Beginning { header, .. }) if header.sequence != sequence => {
                Err("it is a copy of another segment")
            }
            Ok(found) => Ok(found),
            Err(malformed) => Err(malformed.0),
        })
    }

    /// Sets aside what is older than a segment that is damaged or missing.
    fn set_rest_aside(&mut self, manifest: &Manifest) -> Result<(), Error> {
        for entry in self.found.split_off(&manifest.first_segment).into_values().rev() {
            let path = self.path.join(&entry.name);
            self.set_aside(&path, entry.bytes, "it is cut off from what follows")?;
        }
        Ok(())
    }

    fn set_aside(&mut self, path: &Path, bytes: u64, reason: &str) -> Result<(), Error> {
        tracing::error!(
            event = "journal_segment_damaged", path = %path.display(), reason,
            "damaged journal segment set aside"
        );
        let path = set_aside(self.files, path).map_err(Error::io("rename", path))?;
        self.recovery.set_aside.push(path.clone());
        self.aside.push_back(Aside {
            path,
            bytes,
            modified: SystemTime::now(),
        });
        Ok(())
    }

    /// Removes what did not become a segment.
    fn remove_drafts(&mut self) -> Result<(), Error> {
        for path in self.drafts.drain(..) {
            match self.files.remove(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(Error::io("remove", &path))?,
            }
        }
        Ok(())
    }

    /// Finds the end of the history, cuts off what comes after it, and makes durable what is before it.
    fn finish(
        &mut self,
        mut found: VecDeque<Found>,
        manifest: &Manifest,
    ) -> Result<(VecDeque<Arc<Segment>>, Tail), Error> {
        let (last, file, bytes, scan) = loop {
            let Some(last) = found.pop_back() else {
                return self.first_segment(manifest);
            };
            let path = &last.path;
            let file = self.files.open(path).map_err(Error::io("open", path))?;
            let bytes = file.len().map_err(Error::io("read", path))?;
            let scan =
                scan(&*file, &last.beginning, bytes, &self.interner).map_err(Error::io("read", path))?;
            match scan.broken_opening(&last.beginning) {
                None => break (last, file, bytes, scan),
                // As if its header was damaged: without it the history ends earlier.
                Some(reason) => self.set_aside(path, bytes, reason)?,
            }
        };
        let mut segments = VecDeque::new();
        let mut all = found.into_iter().peekable();
        while let Some(segment) = all.next() {
            let next = all.peek().map_or(&last.beginning, |next| &next.beginning);
            let sealed = Sealed {
                bytes: segment.bytes,
                end: next.header.base,
                at: segment.modified,
            };
            let segment = Segment::new(&segment.beginning, segment.path, None);
            segment.sealed.get_or_init(|| sealed);
            segments.push_back(Arc::new(segment));
        }
        let path = &last.path;
        if let Some((offset, reason)) = scan.broken {
            self.recovery.cut_bytes = bytes - scan.end;
            tracing::warn!(
                event = "journal_truncated",
                path = %path.display(), offset, reason, cut_bytes = self.recovery.cut_bytes, head = %scan.head,
                "journal cut at its last whole transaction"
            );
            file.truncate(scan.end).map_err(Error::io("truncate", path))?;
        }
        file.sync().map_err(Error::io("sync", path))?;
        let segment = Arc::new(Segment::new(&last.beginning, last.path, Some(scan.contents)));
        segment.keep(&file);
        segments.push_back(segment.clone());
        let tail = Tail {
            segment,
            file,
            end: scan.end,
            head: scan.head,
            last_transaction: scan.last_transaction,
            has_opening: last.beginning.opening.is_some(),
            tables: scan.tables,
            unsettled: scan.unsettled,
        };
        Ok((segments, tail))
    }

    /// Begins the history's first segment, unless that was begun and only lacks its name: it opens with what was known
    /// of the tables before.
    fn first_segment(&self, manifest: &Manifest) -> Result<(VecDeque<Arc<Segment>>, Tail), Error> {
        let start = manifest.start;
        let header = manifest.first_header();
        let created = Segment::created(self.files, &self.path, &header, &self.interner);
        let created = match created.map_err(Error::io("read", &self.path))? {
            Some(created) => created,
            None => {
                let tables = TableHistory::default();
                let (segment, file) = Segment::create(self.files, &self.path, &header, &tables)?;
                Created {
                    segment,
                    file,
                    tables,
                }
            }
        };
        let Created {
            segment,
            file,
            tables,
        } = created;
        segment.publish(self.files)?;
        let segment = Arc::new(segment);
        let tail = Tail {
            end: segment.start,
            head: start,
            last_transaction: start,
            file,
            has_opening: true,
            tables,
            unsettled: Vec::new(),
            segment: segment.clone(),
        };
        Ok((VecDeque::from([segment]), tail))
    }
}

/// The reason why a segment of that length is not the one before `next`; `None` if it is.
fn follows(header: &Header, bytes: u64, next: &Header) -> Option<&'static str> {
    if header.sequence + 1 != next.sequence {
        Some("the segment after it is missing")
    } else if bytes != next.previous_bytes {
        Some("it has not the length that it had")
    } else if header.base > next.base {
        Some("it begins after the one that follows it")
    } else {
        None
    }
}
