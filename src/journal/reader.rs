//! [`Reader`]: forward through the history from any place, the newest part from memory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::error::Error as FileError;
use super::files::{LogFile, Reads};
use super::segment::{Segment, read_records, whole_records};
use super::shared::Shared;
use crate::event::Transaction;
use crate::log::record::{
    CHUNK, END, Frame, HEADER, RELATION, Record, TABLE_NAME, TABLE_VERSION, record_len,
};
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

/// The reason why a record is not passed.
enum Stop {
    /// The disk has to be waited for.
    Waits,
    Damaged(u64, &'static str),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

/// The records that come next.
enum Next {
    /// They are in memory, and need no check because they were never out of it, or were checked by another reader.
    Known(Bytes),
    /// They are in the segment's file.
    InFile,
    /// They are in this segment.
    In(Arc<Segment>),
    /// There are none: this is the head.
    Nothing,
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
        let mark = segment
            .contents
            .lock()
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

    fn read_on(&mut self, max_bytes: usize, reads: Reads) -> Result<Option<Batch>, Stop> {
        while let Some((bytes, checked)) = self.fetch(max_bytes, reads)? {
            if let Some(batch) = self.accept(bytes, checked, reads)? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The next records, and true if they need no check; `None` at the head.
    fn fetch(&mut self, max_bytes: usize, reads: Reads) -> Result<Option<(Bytes, bool)>, Stop> {
        loop {
            match self.look()? {
                Next::Nothing => return Ok(None),
                Next::Known(mut bytes) => {
                    if bytes.len() > max_bytes {
                        bytes.truncate(whole_records(&bytes, max_bytes));
                    }
                    return Ok(Some((bytes, true)));
                }
                Next::InFile => {
                    let bytes = read_records(&*self.file, reads, self.offset, max_bytes, self.limit);
                    let bytes = bytes.map_err(|error| self.unread(error, reads))?;
                    if bytes.is_empty() {
                        return Err(self.damaged(self.offset, "a record is cut short").into());
                    }
                    return Ok(Some((Bytes::from(bytes), false)));
                }
                // Its file is opened, and all of it may be read.
                Next::In(_) if reads == Reads::Cached => return Err(Stop::Waits),
                Next::In(next) => {
                    self.file = self.shared.enter(&next)?;
                    self.offset = next.start;
                    self.segment = next;
                }
            }
        }
    }

    /// Looks where the next records are.
    fn look(&mut self) -> Result<Next, Error> {
        let sequence = self.segment.sequence;
        let state = self.shared.state();
        if state.generation != self.generation {
            return Err(Error::EpochChanged);
        }
        self.limit = state.limit(&self.segment);
        if self.offset < self.limit {
            let newest = state.window.get(sequence, self.offset, self.limit);
            drop(state);
            let known = newest.or_else(|| self.shared.ahead.lock().get(sequence, self.offset));
            return Ok(known.map_or(Next::InFile, Next::Known));
        }
        if self.segment.sealed.get().is_none() {
            return Ok(Next::Nothing);
        }
        let earliest = state.earliest();
        let next = state.after(sequence).cloned();
        next.map(Next::In).ok_or(Error::Expired { earliest })
    }

    /// The reason that a failed read is.
    fn unread(&self, error: io::Error, reads: Reads) -> Stop {
        if reads == Reads::Cached && error.kind() == io::ErrorKind::WouldBlock {
            return Stop::Waits;
        }
        Stop::Error(FileError::io("read", &self.segment.path)(error).into())
    }

    /// Goes past the records, up to the first that is not right, and returns those that the reader was asked for.
    fn accept(&mut self, mut bytes: Bytes, checked: bool, reads: Reads) -> Result<Option<Batch>, Stop> {
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
            let stop = match self.pass(&frame, checked, reads, &mut large) {
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
                    Stop::Damaged(offset, reason) => self.damaged(offset, reason).into(),
                    stop => stop,
                });
            }
            break;
        }
        bytes.truncate(at);
        if !checked {
            self.shared
                .ahead
                .lock()
                .put(self.segment.sequence, start, bytes.clone());
        }
        let Some(wanted_from) = wanted_from else {
            return Ok(None);
        };
        let contents = self.segment.contents.lock();
        let relations = contents
            .as_ref()
            .map(|contents| contents.relations.clone())
            .unwrap_or_default();
        Ok(Some(Batch::new(bytes.slice(wanted_from..), relations, large)))
    }

    /// Goes past the record at the current offset. True if it is one that the reader was asked for.
    fn pass(
        &mut self,
        frame: &Frame<'_>,
        checked: bool,
        reads: Reads,
        large: &mut Vec<Transaction>,
    ) -> Result<bool, Stop> {
        let damaged = |reason| Stop::Damaged(self.offset, reason);
        if !checked && !frame.is_intact() {
            return Err(damaged("a record's checksum is wrong"));
        }
        match (
            frame.record().map_err(|malformed| damaged(malformed.0))?,
            self.inside,
        ) {
            (Record::Relation { .. } | Record::Table(_), _) => Ok(false),
            (Record::Position(lsn), None) if lsn > self.passed => {
                Ok(self.pass_boundary(lsn, lsn > self.from.end))
            }
            (Record::Commit(part, transaction), None)
                if transaction.end > self.passed && part.first_seq == 0 =>
            {
                Ok(self.pass_boundary(transaction.end, holds_not(transaction.end, self.from)))
            }
            (Record::Chunk(part), None) if part.first_seq == 0 && part.count > 0 => {
                let transaction = self.find_end(reads)?;
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
    fn find_end(&self, reads: Reads) -> Result<Transaction, Stop> {
        let unread = |error| self.unread(error, reads);
        let mut at = self.offset;
        loop {
            let damaged = |reason| Stop::Damaged(at, reason);
            let header = reads.up_to(&*self.file, at, HEADER).map_err(unread)?;
            let header: &[u8; HEADER] = header.first_chunk().ok_or(damaged("a record is cut short"))?;
            let (len, kind) = (record_len(header), header[HEADER - 1]);
            if len > self.limit.saturating_sub(at) {
                return Err(damaged("a record is cut short"));
            }
            match kind {
                CHUNK | RELATION | TABLE_NAME | TABLE_VERSION => at += len,
                END => {
                    let bytes = read_records(&*self.file, reads, at, 0, self.limit).map_err(unread)?;
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
    /// Never waits but for the disk: what neither the journal nor the system has in memory is read by a thread that
    /// gives its other tasks away first. That costs more than to read it, where it is there.
    async fn next(&mut self, max_bytes: usize) -> Result<Option<Batch>, Error> {
        let read = match self.read_on(max_bytes, Reads::Cached) {
            Err(Stop::Waits) => off_the_workers(|| self.read_on(max_bytes, Reads::All)),
            read => read,
        };
        read.map_err(|stop| match stop {
            Stop::Error(error) => error,
            Stop::Damaged(offset, reason) => self.damaged(offset, reason),
            Stop::Waits => {
                let path = &self.segment.path;
                FileError::io("read", path)(io::ErrorKind::WouldBlock.into()).into()
            }
        })
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
