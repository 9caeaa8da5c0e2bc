//! [`Reader`]: forward through the history from any place, the newest part from memory.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::error::Error as FileError;
use super::files::{LogFile, read_up_to};
use super::lock;
use super::segment::{Segment, read_records, whole_records};
use super::shared::Shared;
use crate::event::Transaction;
use crate::log::record::{CHUNK, END, Frame, HEADER, RELATION, Record, record_len};
use crate::log::{Batch, Error, LogReader};
use crate::lsn::{Done, Lsn, Position, Start};

/// Goes forward through the history. It keeps its segment's file open, so that retention can remove the segment and the
/// reader still finishes it; that its place is gone it learns when the *next* segment is gone too.
pub struct Reader {
    shared: Arc<Shared>,
    generation: u64,
    segment: Arc<Segment>,
    file: Arc<dyn LogFile>,
    /// The place in the file where the next record is, and where the part that can be read ends.
    offset: u64,
    limit: u64,
    /// The place up to which entries are left out.
    from: Position,
    /// The last boundary that was passed.
    passed: Lsn,
    position: Position,
    /// The large transaction that the next record belongs to.
    inside: Option<Inside>,
}

#[derive(Clone, Copy)]
struct Inside {
    transaction: Transaction,
    next_seq: u32,
    wanted: bool,
}

/// The reason why a record is not passed: what is wrong with it, or that it could not be read.
enum Stop {
    Damaged(u64, &'static str),
    Error(Error),
}

impl Reader {
    pub(super) fn new(shared: &Arc<Shared>, start: Start) -> Result<Reader, Error> {
        let (generation, segment, from) = {
            let state = shared.state();
            let earliest = state.earliest();
            let from = match start {
                Start::Now => Position::after(*shared.head.borrow()),
                Start::Earliest => Position::after(earliest),
                Start::After(position) => position,
            };
            if !holds(earliest, from) {
                return Err(Error::Expired { earliest });
            }
            let at = state
                .segments
                .partition_point(|segment| holds(segment.base, from));
            let segment = at.checked_sub(1).and_then(|at| state.segments.get(at)).cloned();
            (
                state.generation,
                segment.ok_or(Error::Expired { earliest })?,
                from,
            )
        };
        let file = shared.enter(&segment)?;
        let before = match from.done {
            Done::Commit => from.end,
            Done::Change(_) => Lsn(from.end.0.saturating_sub(1)),
        };
        let mark = lock(&segment.contents)
            .as_ref()
            .and_then(|contents| contents.seek(before));
        let (offset, passed) = mark.map_or((segment.start, segment.base), |mark| (mark.offset, mark.lsn));
        Ok(Reader {
            shared: shared.clone(),
            generation,
            segment,
            file,
            offset,
            limit: 0,
            from,
            passed,
            position: from,
            inside: None,
        })
    }

    fn read_on(&mut self, max_bytes: usize) -> Result<Option<Batch>, Error> {
        while let Some((bytes, checked)) = self.fetch(max_bytes)? {
            if let Some(batch) = self.accept(bytes, checked)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// True if there is nothing to read from a file: the reader is at the head, or what comes next was written last.
    /// (Of a large transaction the end is looked up by the headers of its records, which the system has in memory
    /// then.)
    fn is_in_memory(&self) -> bool {
        let state = self.shared.state();
        let limit = state.limit(&self.segment);
        let is_at_head = self.offset >= limit && self.segment.sealed.get().is_none();
        let sequence = self.segment.sequence;
        is_at_head || state.window.get(sequence, self.offset, limit).is_some()
    }

    /// The next records, and whether they need no check because they were never out of memory; `None` at the head.
    fn fetch(&mut self, max_bytes: usize) -> Result<Option<(Bytes, bool)>, Error> {
        loop {
            let next = {
                let state = self.shared.state();
                if state.generation != self.generation {
                    return Err(Error::EpochChanged);
                }
                self.limit = state.limit(&self.segment);
                if self.offset < self.limit {
                    if let Some(mut bytes) = state.window.get(self.segment.sequence, self.offset, self.limit)
                    {
                        drop(state);
                        if bytes.len() > max_bytes {
                            bytes.truncate(whole_records(&bytes, max_bytes));
                        }
                        return Ok(Some((bytes, true)));
                    }
                    None
                } else if self.segment.sealed.get().is_none() {
                    return Ok(None);
                } else {
                    let next = state.after(self.segment.sequence).cloned();
                    Some(next.ok_or(Error::Expired {
                        earliest: state.earliest(),
                    })?)
                }
            };
            let Some(next) = next else { break };
            self.file = self.shared.enter(&next)?;
            (self.offset, self.segment) = (next.start, next);
        }
        if let Some(mut bytes) = lock(&self.shared.ahead).get(self.segment.sequence, self.offset) {
            bytes.truncate(whole_records(&bytes, max_bytes));
            return Ok(Some((bytes, true)));
        }
        let bytes = read_records(&*self.file, self.offset, max_bytes, self.limit)
            .map_err(FileError::io("read", &self.segment.path))?;
        if bytes.is_empty() {
            return Err(self.damaged(self.offset, "a record is cut short"));
        }
        Ok(Some((Bytes::from(bytes), false)))
    }

    /// Goes past the records, up to the first that is not right, and returns those that the reader was asked for.
    fn accept(&mut self, mut bytes: Bytes, checked: bool) -> Result<Option<Batch>, Error> {
        let start = self.offset;
        let mut large: Vec<_> = self
            .inside
            .iter()
            .filter(|inside| inside.wanted)
            .map(|i| i.transaction)
            .collect();
        let mut wanted_from = None;
        let mut at = 0;
        while let Some((frame, _)) = bytes.get(at..).and_then(Frame::split) {
            let stop = match self.pass(&frame, checked, &mut large) {
                Ok(wanted) => {
                    if wanted {
                        wanted_from.get_or_insert(at);
                    }
                    at += frame.len();
                    self.offset = start + at as u64;
                    continue;
                }
                Err(stop) => stop,
            };
            if at == 0 {
                return Err(match stop {
                    Stop::Damaged(offset, reason) => self.damaged(offset, reason),
                    Stop::Error(error) => error,
                });
            }
            break;
        }
        bytes.truncate(at);
        if !checked {
            lock(&self.shared.ahead).put(self.segment.sequence, start, bytes.clone());
        }
        let Some(wanted_from) = wanted_from else {
            return Ok(None);
        };
        let contents = lock(&self.segment.contents);
        let relations = contents
            .as_ref()
            .map(|contents| contents.relations.clone())
            .unwrap_or_default();
        Ok(Some(Batch::new(bytes.slice(wanted_from..), relations, large)))
    }

    /// Goes past the record at the current offset; whether it is one that the reader was asked for.
    fn pass(&mut self, frame: &Frame<'_>, checked: bool, large: &mut Vec<Transaction>) -> Result<bool, Stop> {
        let damaged = |reason| Stop::Damaged(self.offset, reason);
        if !checked && !frame.is_intact() {
            return Err(damaged("a record's checksum is wrong"));
        }
        match (
            frame.record().map_err(|malformed| damaged(malformed.0))?,
            self.inside,
        ) {
            (Record::Relation { .. }, _) => Ok(false),
            (Record::Position(lsn), None) if lsn > self.passed => {
                Ok(self.pass_boundary(lsn, lsn > self.from.end))
            }
            (Record::Commit(part, transaction), None)
                if transaction.end > self.passed && part.first_seq == 0 =>
            {
                Ok(self.pass_boundary(transaction.end, holds_not(transaction.end, self.from)))
            }
            (Record::Chunk(part), None) if part.first_seq == 0 && part.count > 0 => {
                let transaction = self.find_end()?;
                if transaction.end <= self.passed {
                    return Err(damaged("a transaction ends before the one before it"));
                }
                let wanted = holds_not(transaction.end, self.from);
                large.extend(wanted.then_some(transaction));
                Ok(self.pass_chunk(Inside {
                    transaction,
                    next_seq: part.next_seq(),
                    wanted,
                }))
            }
            (Record::Chunk(part), Some(inside)) if part.first_seq == inside.next_seq && part.count > 0 => {
                Ok(self.pass_chunk(Inside {
                    next_seq: part.next_seq(),
                    ..inside
                }))
            }
            (Record::End(part, transaction, _), Some(inside))
                if part.first_seq == inside.next_seq && transaction == inside.transaction =>
            {
                self.inside = None;
                Ok(self.pass_boundary(transaction.end, inside.wanted))
            }
            _ => Err(damaged("a record does not follow the one before it")),
        }
    }

    fn pass_boundary(&mut self, lsn: Lsn, wanted: bool) -> bool {
        self.passed = lsn;
        if wanted {
            self.position = Position::after(lsn);
        }
        wanted
    }

    fn pass_chunk(&mut self, inside: Inside) -> bool {
        self.inside = Some(inside);
        if inside.wanted {
            self.position = Position::after_change(inside.transaction.end, inside.next_seq - 1);
        }
        inside.wanted
    }

    /// Finds the end of the large transaction whose first chunk is next: from header to header, without reading what is
    /// in between. The end says where its transaction starts, so a damaged length cannot lead to another one's.
    fn find_end(&self) -> Result<Transaction, Stop> {
        let unreadable = |e| Stop::Error(FileError::io("read", &self.segment.path)(e).into());
        let mut at = self.offset;
        loop {
            let damaged = |reason| Stop::Damaged(at, reason);
            let header = read_up_to(&*self.file, at, HEADER).map_err(unreadable)?;
            let header: &[u8; HEADER] = header.first_chunk().ok_or(damaged("a record is cut short"))?;
            let (len, kind) = (record_len(header), header[HEADER - 1]);
            if len > self.limit.saturating_sub(at) {
                return Err(damaged("a record is cut short"));
            }
            match kind {
                CHUNK | RELATION => at += len,
                END => {
                    let bytes = read_records(&*self.file, at, 0, self.limit).map_err(unreadable)?;
                    let frame = Frame::split(&bytes)
                        .map(|(frame, _)| frame)
                        .filter(Frame::is_intact);
                    return match frame.map(|frame| frame.record()) {
                        Some(Ok(Record::End(_, transaction, span))) if span == at - self.offset => {
                            Ok(transaction)
                        }
                        _ => Err(damaged("a transaction's end is damaged")),
                    };
                }
                _ => return Err(damaged("a transaction has no end")),
            }
        }
    }

    /// A damaged sealed segment is taken out of the history; the newest is the writer's.
    fn damaged(&self, offset: u64, reason: &'static str) -> Error {
        if self.segment.sealed.get().is_some() {
            return self.shared.set_aside(&self.segment, reason);
        }
        let path = self.segment.path.clone();
        FileError::Damaged { path, offset, reason }.into()
    }
}

impl LogReader for Reader {
    /// Never waits but for the disk: what is not in memory is read by a thread that gives its other tasks away first.
    async fn next(&mut self, max_bytes: usize) -> Result<Option<Batch>, Error> {
        if self.is_in_memory() {
            return self.read_on(max_bytes);
        }
        off_the_workers(|| self.read_on(max_bytes))
    }

    fn position(&self) -> Position {
        self.position
    }
}

/// Does what blocks. On a thread that runs tasks, others take these over meanwhile.
fn off_the_workers<T>(read: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(read),
        _ => read(),
    }
}

/// True if everything after `from` lies in a history that starts at `base`.
fn holds(base: Lsn, from: Position) -> bool {
    match from.done {
        Done::Commit => base <= from.end,
        Done::Change(_) => base < from.end,
    }
}

/// True if a transaction that ends at `end` is, at least partly, after `from`.
fn holds_not(end: Lsn, from: Position) -> bool {
    match from.done {
        Done::Commit => end > from.end,
        Done::Change(_) => end >= from.end,
    }
}
