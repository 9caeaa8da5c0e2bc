//! [`Segment`]: one file of the journal, and what is known of its inside.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::error::Error;
use super::files::{Files, LogFile, Reads, write_all_at};
use super::header::{Beginning, Header};
use crate::event::Relation;
use crate::log::record::{self, Frame, HEADER, Record};
use crate::log::{Interner, Malformed, Relations, TableHistory, TableRecord};
use crate::lsn::Lsn;

/// One file of the journal.
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    /// Everything in it ends after this position.
    pub(super) base: Lsn,
    /// The place where the history's records begin: behind the header, and behind what it opens with.
    pub(super) start: u64,
    /// The number of bytes that it opens with.
    pub(super) opening: u64,
    /// Known once nothing is appended any more.
    pub(super) sealed: OnceLock<Sealed>,
    /// `None` until the first reader of a segment that an earlier run sealed; it is then read and checked whole.
    pub(super) contents: Mutex<Option<Contents>>,
    /// Open while someone reads or writes it, also when retention has removed its name.
    file: Mutex<Weak<dyn LogFile>>,
}

/// The part of a segment that does not change any more once it is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) bytes: u64,
    /// The base of the segment after it.
    pub(super) end: Lsn,
    pub(super) at: SystemTime,
}

/// The relations that a segment's records refer to, and where they are.
#[derive(Clone, Default)]
pub(super) struct Contents {
    pub(super) relations: Relations,
    /// Boundaries between transactions, at least [`MARK_EVERY`] bytes apart, in order.
    pub(super) marks: Vec<Mark>,
}

/// A boundary between transactions: what is before `offset` ends at or before `lsn`, what follows ends after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) lsn: Lsn,
    pub(super) offset: u64,
}

/// The number of bytes that lie at least between two marks.
pub(super) const MARK_EVERY: u64 = 64 * 1024;

impl Contents {
    /// The place to begin reading for what ends after `lsn`.
    pub(super) fn seek(&self, lsn: Lsn) -> Option<Mark> {
        let after = self.marks.partition_point(|mark| mark.lsn <= lsn);
        self.marks.get(after.checked_sub(1)?).copied()
    }

    /// The middle one of the marks between two places.
    pub(super) fn between(&self, after: Lsn, before: Lsn) -> Option<Lsn> {
        let first = self.marks.partition_point(|mark| mark.lsn <= after);
        let end = self.marks.partition_point(|mark| mark.lsn < before);
        let middle = (first < end).then(|| first.midpoint(end))?;
        self.marks.get(middle).map(|mark| mark.lsn)
    }
}

/// A segment to which nothing was appended yet.
pub(super) struct Created {
    pub(super) segment: Segment,
    pub(super) file: Arc<dyn LogFile>,
    pub(super) tables: TableHistory,
}

impl Segment {
    pub(super) fn new(beginning: &Beginning, path: PathBuf, contents: Option<Contents>) -> Segment {
        Segment {
            sequence: beginning.header.sequence,
            path,
            base: beginning.header.base,
            start: beginning.end(),
            opening: beginning.opening.unwrap_or(0),
            sealed: OnceLock::new(),
            contents: Mutex::new(contents),
            file: Mutex::new(Weak::<std::fs::File>::new()),
        }
    }

    /// The name of the file that holds segment `sequence`.
    pub(super) fn path(dir: &Path, sequence: u64) -> PathBuf {
        dir.join(format!("{sequence:016x}.seg"))
    }

    /// The sequence of the segment file of that name.
    pub(super) fn sequence_of(name: &str) -> Option<u64> {
        let digits = name.strip_suffix(".seg")?;
        let valid = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    }

    /// Writes a new segment's header, and what it opens with, durably, under a name that opening does not take for a
    /// segment, so that a file called `.seg` always had a whole beginning. [`Segment::publish`] gives it its name.
    pub(super) fn create(
        files: &dyn Files,
        dir: &Path,
        header: &Header,
        tables: &TableHistory,
    ) -> Result<(Segment, Arc<dyn LogFile>), Error> {
        let path = Segment::path(dir, header.sequence);
        let draft = draft(&path);
        let bytes = header.encode(tables);
        let file = files
            .create(&draft)
            .and_then(|file| {
                write_all_at(&*file, &bytes, 0)?;
                Ok(file)
            })
            .map_err(|e| Error::write(&draft, e))?;
        file.sync().map_err(|e| Error::failed("sync", &draft, e))?;
        let beginning = Beginning::parse(&bytes).expect("it was written just now");
        let marks = vec![Mark {
            lsn: header.base,
            offset: beginning.end(),
        }];
        let contents = Contents {
            relations: Relations::default(),
            marks,
        };
        let segment = Segment::new(&beginning, path, Some(contents));
        segment.keep(&file);
        Ok((segment, file))
    }

    /// The segment that was created with that header and did not get its name any more; `None` if there is none.
    pub(super) fn created(
        files: &dyn Files,
        dir: &Path,
        header: &Header,
        interner: &Interner,
    ) -> io::Result<Option<Created>> {
        let path = Segment::path(dir, header.sequence);
        let file = match files.open(&draft(&path)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let Ok(beginning) = Beginning::read(&*file)? else {
            return Ok(None);
        };
        let bytes = file.len()?;
        if beginning.header != *header || beginning.end() != bytes {
            return Ok(None);
        }
        let scan = scan(&*file, &beginning, bytes, interner)?;
        Ok(scan.broken.is_none().then(|| {
            let segment = Segment::new(&beginning, path, Some(scan.contents));
            segment.keep(&file);
            Created {
                segment,
                file,
                tables: scan.tables,
            }
        }))
    }

    /// Gives a created segment its name, durably.
    pub(super) fn publish(&self, files: &dyn Files) -> Result<(), Error> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        files
            .rename(&draft(&self.path), &self.path)
            .and_then(|()| files.sync_dir(dir))
            .map_err(|e| Error::failed("publish", &self.path, e))
    }

    /// Remembers the open file for readers.
    pub(super) fn keep(&self, file: &Arc<dyn LogFile>) {
        *self.file.lock() = Arc::downgrade(file);
    }

    /// The file, opened once for everyone who reads it.
    pub(super) fn file(&self, files: &dyn Files) -> io::Result<Arc<dyn LogFile>> {
        let mut kept = self.file.lock();
        if let Some(file) = kept.upgrade() {
            return Ok(file);
        }
        let file = files.open(&self.path)?;
        *kept = Arc::downgrade(&file);
        Ok(file)
    }
}

fn draft(path: &Path) -> PathBuf {
    path.with_extension("seg.new")
}

/// The finds of a scan: everything up to the last boundary between transactions, and whether anything came after it.
pub(super) struct Scan {
    pub(super) contents: Contents,
    /// The end of the last whole transaction's or position's record.
    pub(super) end: u64,
    pub(super) head: Lsn,
    pub(super) last_transaction: Lsn,
    /// Everything that it says of tables up to `end`.
    pub(super) tables: TableHistory,
    /// Records of them after that, inside a transaction without its end: they hold all the same.
    pub(super) unsettled: Vec<TableRecord>,
    /// The reason why the scan ended before `limit`, and at which byte; `None` if it ended there.
    pub(super) broken: Option<(u64, &'static str)>,
}

impl Scan {
    /// The reason why it is not known what the segment opens with, if that is so.
    pub(super) fn broken_opening(&self, beginning: &Beginning) -> Option<&'static str> {
        let (at, reason) = self.broken?;
        (at < beginning.end()).then_some(reason)
    }
}

/// Reads the records of `file` from the header's end to `limit`, checking each, up to the first that is not right.
pub(super) fn scan(
    file: &dyn LogFile,
    beginning: &Beginning,
    limit: u64,
    interner: &Interner,
) -> io::Result<Scan> {
    let header = &beginning.header;
    let start = beginning.end();
    let mut scanner = Scanner {
        interner,
        start,
        tables: TableHistory::default(),
        unsettled: Vec::new(),
        base: header.base,
        relations: Vec::new(),
        committed_relations: 0,
        marks: vec![Mark {
            lsn: header.base,
            offset: start,
        }],
        end: start,
        head: header.base,
        last_transaction: header.last_transaction,
        open: None,
    };
    let mut offset = beginning.header_end;
    let broken = loop {
        if offset == limit && limit >= start {
            break scanner
                .open
                .map(|_| (scanner.end, "a transaction without its end"));
        }
        let bytes = read_records(file, Reads::All, offset, SCAN_BYTES, limit)?;
        let mut rest = &bytes[..];
        let mut broken = bytes.is_empty().then_some("a record is cut short");
        while let (None, Some((frame, after))) = (broken, Frame::split(rest)) {
            match scanner.record(&frame, offset) {
                Ok(()) => {
                    offset += frame.len() as u64;
                    rest = after;
                }
                Err(malformed) => broken = Some(malformed.0),
            }
        }
        if let Some(reason) = broken {
            break Some((offset, reason));
        }
    };
    scanner.relations.truncate(scanner.committed_relations);
    Ok(Scan {
        contents: Contents {
            relations: Arc::new(scanner.relations),
            marks: scanner.marks,
        },
        end: scanner.end,
        head: scanner.head,
        last_transaction: scanner.last_transaction,
        tables: scanner.tables,
        unsettled: scanner.unsettled,
        broken,
    })
}

const SCAN_BYTES: usize = 1 << 20;

/// Reads whole records from `offset`: as many as fit into `want` bytes, but at least one if it ends before `limit`.
/// Their checksums are not yet checked. Empty if not even one is whole.
pub(super) fn read_records(
    file: &dyn LogFile,
    reads: Reads,
    offset: u64,
    want: usize,
    limit: u64,
) -> io::Result<Vec<u8>> {
    let available = limit.saturating_sub(offset);
    let within = |bytes: u64| usize::try_from(bytes.min(available)).unwrap_or(usize::MAX);
    let mut bytes = reads.up_to(file, offset, within(want.max(HEADER) as u64))?;
    if let Some(header) = bytes.first_chunk() {
        let first = record::record_len(header);
        if first > bytes.len() as u64 && first <= available {
            bytes = reads.up_to(file, offset, within(first))?;
        }
    }
    let whole = whole_records(&bytes, usize::MAX);
    bytes.truncate(whole);
    Ok(bytes)
}

/// The number of bytes that the whole records at the front of `bytes` take: as many as fit into `want`, but at least
/// one.
pub(super) fn whole_records(bytes: &[u8], want: usize) -> usize {
    let mut whole = 0;
    while let Some((frame, _)) = bytes.get(whole..).and_then(Frame::split) {
        if whole > 0 && whole + frame.len() > want {
            break;
        }
        whole += frame.len();
    }
    whole
}

struct Scanner<'i> {
    interner: &'i Interner,
    /// The place where what the segment opens with ends.
    start: u64,
    tables: TableHistory,
    unsettled: Vec<TableRecord>,
    base: Lsn,
    relations: Vec<Arc<Relation>>,
    committed_relations: usize,
    marks: Vec<Mark>,
    end: u64,
    head: Lsn,
    last_transaction: Lsn,
    /// The large transaction that is being read: where its first chunk starts, and the seq that must come next.
    open: Option<(u64, u32)>,
}

impl Scanner<'_> {
    fn record(&mut self, frame: &Frame<'_>, offset: u64) -> Result<(), Malformed> {
        if !frame.is_intact() {
            return Err(Malformed("a record's checksum is wrong"));
        }
        let after = offset + frame.len() as u64;
        match (frame.record()?, self.open) {
            (Record::Table(table), open) if after <= self.start || offset >= self.start => {
                let record = table.table()?;
                if open.is_some() {
                    self.unsettled.push(record);
                } else {
                    self.tables.apply(&record);
                    self.settle(after);
                }
            }
            _ if offset < self.start => return Err(Malformed("what it opens with has another length")),
            (Record::Relation { id, json }, _) => {
                if id as usize != self.relations.len() {
                    return Err(Malformed("a relation is out of order"));
                }
                let relation =
                    serde_json::from_slice(json).map_err(|_| Malformed("a relation is unreadable"))?;
                self.relations.push(self.interner.intern(&Arc::new(relation)));
            }
            (Record::Position(lsn), None) => self.boundary(lsn, after)?,
            (Record::Commit(part, transaction), None) if part.first_seq == 0 => {
                self.boundary(transaction.end, after)?;
                self.last_transaction = transaction.end;
            }
            (Record::Chunk(part), None) if part.first_seq == 0 => self.open = Some((offset, part.next_seq())),
            (Record::Chunk(part), Some((first, seq))) if part.first_seq == seq => {
                self.open = Some((first, part.next_seq()));
            }
            (Record::End(part, transaction, span), Some((first, seq)))
                if part.first_seq == seq && span == offset - first =>
            {
                self.open = None;
                self.boundary(transaction.end, after)?;
                self.last_transaction = transaction.end;
            }
            _ => return Err(Malformed("a record does not follow the one before it")),
        }
        Ok(())
    }

    fn boundary(&mut self, lsn: Lsn, offset: u64) -> Result<(), Malformed> {
        if lsn <= self.head || lsn <= self.base {
            return Err(Malformed("a position is not after the one before it"));
        }
        self.head = lsn;
        self.settle(offset);
        if self
            .marks
            .last()
            .is_none_or(|mark| offset - mark.offset >= MARK_EVERY)
        {
            self.marks.push(Mark { lsn, offset });
        }
        Ok(())
    }

    /// The transactions up to there are whole.
    fn settle(&mut self, offset: u64) {
        self.end = offset.max(self.start);
        self.committed_relations = self.relations.len();
        for record in self.unsettled.drain(..) {
            self.tables.apply(&record);
        }
    }
}
