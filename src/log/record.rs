//! Records: what a log is made of, as bytes. Pure.
//!
//! A record is `{payload length u32, CRC-32C of kind and payload u32, kind u8, payload}`; integers are little-endian,
//! tuples are as Postgres sent them. Payloads by kind:
//!
//! | kind | payload |
//! |---|---|
//! | 1 segment | `version u32, sequence u64, base u64, last transaction's end u64, length of the segment before u64, length of the records about tables that follow u64, epoch` |
//! | 2 relation | `local id u32, event::Relation as JSON` |
//! | 3 commit | `part, xid u32, commit u64, end u64, committed at i64`: a whole transaction |
//! | 4 chunk | `part`: the beginning or the middle of a large transaction |
//! | 5 end | as commit, then `span u64`: a large transaction's last part, and how many bytes before this record its first one starts |
//! | 6 position | `lsn u64`: the stream got here and there was nothing in between |
//! | 7 table version | `seen u64, highest i16, earlier versions were forgotten u8, event::Relation as JSON`: the columns that a table has from `seen` on |
//! | 8 table name | `oid u32, since u64, event::TableName as JSON`: the name that a table's rows come under from `since` on |
//!
//! Records about tables stand before the rows that they are needed for, and hold whatever becomes of the transaction
//! around them. A segment opens with all that those before it said: see [`TableHistory`](super::TableHistory).
//!
//! A part is `{seq of its first change u32, number of changes u32, changes}`, a change `{length u32 of what follows,
//! op u8, local id of its relation u32, tuples}`, so that it can be skipped without reading its tuples. The op's
//! highest bit says that the row was oversize.

use super::TableRecord;
use crate::event::{OldTuple, Op, Timestamp, Transaction, Tuple};
use crate::lsn::Lsn;

/// The bytes before a record's payload.
pub(crate) const HEADER: usize = 9;

/// The segment's first record, after the file's magic.
pub(crate) const SEGMENT: u8 = 1;
/// A relation, before the records that need it.
pub(crate) const RELATION: u8 = 2;
/// A whole transaction.
pub(crate) const COMMIT: u8 = 3;
/// A part of a large transaction that is not its last.
pub(crate) const CHUNK: u8 = 4;
/// The last part of a large transaction.
pub(crate) const END: u8 = 5;
/// A position without a transaction.
pub(crate) const POSITION: u8 = 6;
/// The columns of a table.
pub(crate) const TABLE_VERSION: u8 = 7;
/// The name of a table.
pub(crate) const TABLE_NAME: u8 = 8;

/// The bytes are no record, although their checksum may say so: what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) &'static str);

const CUT: Malformed = Malformed("a record is cut short");

/// A record's bytes, split from what follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
    checksum: u32,
    /// The kind and the payload.
    checked: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first record of `bytes` and what follows it; `None` if it isn't whole.
    pub(crate) fn split(bytes: &'a [u8]) -> Option<(Frame<'a>, &'a [u8])> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (checksum, rest) = rest.split_first_chunk()?;
        let (checked, rest) = rest.split_at_checked(1 + u32::from_le_bytes(*len) as usize)?;
        let (&kind, payload) = checked.split_first()?;
        let checksum = u32::from_le_bytes(*checksum);
        Some((
            Frame {
                kind,
                payload,
                checksum,
                checked,
            },
            rest,
        ))
    }

    /// The number of bytes that the record has with its header.
    pub(crate) fn len(&self) -> usize {
        HEADER + self.payload.len()
    }

    /// True if the checksum is right.
    pub(crate) fn is_intact(&self) -> bool {
        crc32c::crc32c(self.checked) == self.checksum
    }

    /// The content of the record.
    pub(crate) fn record(&self) -> Result<Record<'a>, Malformed> {
        let mut bytes = self.payload;
        match self.kind {
            RELATION => Ok(Record::Relation {
                id: take_u32(&mut bytes)?,
                json: bytes,
            }),
            COMMIT => {
                let transaction = take_transaction(&mut bytes)?;
                Ok(Record::Commit(Part::parse(bytes)?, transaction))
            }
            CHUNK => Ok(Record::Chunk(Part::parse(bytes)?)),
            END => {
                let (rest, span) = bytes.split_last_chunk().ok_or(CUT)?;
                bytes = rest;
                let transaction = take_transaction(&mut bytes)?;
                let span = u64::from_le_bytes(*span);
                Ok(Record::End(Part::parse(bytes)?, transaction, span))
            }
            POSITION => match take_u64(&mut bytes)? {
                lsn if bytes.is_empty() => Ok(Record::Position(Lsn(lsn))),
                _ => Err(Malformed("a position has bytes left over")),
            },
            TABLE_VERSION | TABLE_NAME => Ok(Record::Table(*self)),
            _ => Err(Malformed("unknown kind of record")),
        }
    }

    /// The content of a record about a table.
    pub(crate) fn table(&self) -> Result<TableRecord, Malformed> {
        TableRecord::parse(self.kind, self.payload)
    }
}

/// The length of the record whose header (at least) is given, its header included.
pub(crate) fn record_len(header: &[u8; HEADER]) -> u64 {
    let [a, b, c, d, ..] = *header;
    HEADER as u64 + u64::from(u32::from_le_bytes([a, b, c, d]))
}

/// The content of a record after the segment's header.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record<'a> {
    Relation {
        id: u32,
        json: &'a [u8],
    },
    /// Its content is read by [`Frame::table`].
    Table(Frame<'a>),
    Commit(Part<'a>, Transaction),
    Chunk(Part<'a>),
    End(Part<'a>, Transaction, u64),
    Position(Lsn),
}

/// Consecutive changes of one transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) first_seq: u32,
    pub(crate) count: u32,
    pub(crate) changes: &'a [u8],
}

impl<'a> Part<'a> {
    fn parse(mut bytes: &'a [u8]) -> Result<Part<'a>, Malformed> {
        let first_seq = take_u32(&mut bytes)?;
        let count = take_u32(&mut bytes)?;
        first_seq
            .checked_add(count)
            .ok_or(Malformed("a part counts too many changes"))?;
        Ok(Part {
            first_seq,
            count,
            changes: bytes,
        })
    }

    /// The seq of the first change after this part.
    pub(crate) fn next_seq(&self) -> u32 {
        self.first_seq + self.count
    }
}

/// A change whose tuples haven't been looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawChange<'a> {
    op: u8,
    pub(crate) relation: u32,
    tuples: &'a [u8],
}

const INSERT: u8 = 1;
const UPDATE: u8 = 2;
const UPDATE_KEY: u8 = 3;
const UPDATE_FULL: u8 = 4;
const DELETE_KEY: u8 = 5;
const DELETE_FULL: u8 = 6;
const TRUNCATE: u8 = 7;
/// Added to the op of a change whose row was too large to be kept whole.
const OVERSIZE: u8 = 0x80;

impl<'a> RawChange<'a> {
    /// The first change of `bytes` and what follows it.
    pub(crate) fn split(bytes: &'a [u8]) -> Result<(RawChange<'a>, &'a [u8]), Malformed> {
        const CUT: Malformed = Malformed("a change is cut short");
        let (len, rest) = bytes.split_first_chunk().ok_or(CUT)?;
        let (change, rest) = rest
            .split_at_checked(u32::from_le_bytes(*len) as usize)
            .ok_or(CUT)?;
        let (&op, change) = change.split_first().ok_or(CUT)?;
        let (relation, tuples) = change.split_first_chunk().ok_or(CUT)?;
        let relation = u32::from_le_bytes(*relation);
        Ok((RawChange { op, relation, tuples }, rest))
    }

    /// True if large values were left out of the tuples.
    pub(crate) fn is_oversize(&self) -> bool {
        self.op & OVERSIZE != 0
    }

    /// The operation, with its tuples checked.
    pub(crate) fn op(&self) -> Result<Op<'a>, Malformed> {
        let mut bytes = self.tuples;
        let mut tuple = || {
            let (tuple, rest) = Tuple::parse(bytes).map_err(|_| Malformed("a tuple is malformed"))?;
            bytes = rest;
            Ok(tuple)
        };
        let op = match self.op & !OVERSIZE {
            INSERT => Op::Insert { new: tuple()? },
            UPDATE => Op::Update {
                old: None,
                new: tuple()?,
            },
            UPDATE_KEY => Op::Update {
                old: Some(OldTuple::Key(tuple()?)),
                new: tuple()?,
            },
            UPDATE_FULL => Op::Update {
                old: Some(OldTuple::Full(tuple()?)),
                new: tuple()?,
            },
            DELETE_KEY => Op::Delete {
                old: OldTuple::Key(tuple()?),
            },
            DELETE_FULL => Op::Delete {
                old: OldTuple::Full(tuple()?),
            },
            TRUNCATE => Op::Truncate,
            _ => return Err(Malformed("unknown op in a change")),
        };
        if bytes.is_empty() {
            Ok(op)
        } else {
            Err(Malformed("a change has bytes left over"))
        }
    }
}

/// The longest change, twice what Postgres can put into one message.
const MAX_CHANGE: u32 = 1 << 31;

/// Appends a change; `None`, and nothing appended, if it is longer than [`MAX_CHANGE`].
#[inline]
pub(crate) fn put_change(out: &mut Vec<u8>, relation: u32, op: &Op<'_>) -> Option<()> {
    put_flagged(out, relation, op, 0)
}

/// The same for a change whose large values were left out.
pub(crate) fn put_oversize(out: &mut Vec<u8>, relation: u32, op: &Op<'_>) -> Option<()> {
    put_flagged(out, relation, op, OVERSIZE)
}

#[inline]
fn put_flagged(out: &mut Vec<u8>, relation: u32, op: &Op<'_>, flags: u8) -> Option<()> {
    let (tag, old, new) = match op {
        Op::Insert { new } => (INSERT, None, Some(new)),
        Op::Update { old: None, new } => (UPDATE, None, Some(new)),
        Op::Update {
            old: Some(OldTuple::Key(old)),
            new,
        } => (UPDATE_KEY, Some(old), Some(new)),
        Op::Update {
            old: Some(OldTuple::Full(old)),
            new,
        } => (UPDATE_FULL, Some(old), Some(new)),
        Op::Delete {
            old: OldTuple::Key(old),
        } => (DELETE_KEY, Some(old), None),
        Op::Delete {
            old: OldTuple::Full(old),
        } => (DELETE_FULL, Some(old), None),
        Op::Truncate => (TRUNCATE, None, None),
    };
    let start = out.len();
    let [a, b, c, d] = relation.to_le_bytes();
    out.extend_from_slice(&[0, 0, 0, 0, tag | flags, a, b, c, d]);
    for tuple in [old, new].into_iter().flatten() {
        tuple.encode(out);
    }
    let len = u32::try_from(out.len() - start - 4)
        .ok()
        .filter(|len| *len <= MAX_CHANGE);
    let Some(len) = len else {
        out.truncate(start);
        return None;
    };
    overwrite(out, start, &len.to_le_bytes());
    Some(())
}

/// Appends the place of a record's header, to be filled in by [`finish`].
pub(crate) fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; HEADER]);
}

/// Fills in the header of the record that starts at `start` and ends with `out`.
pub(crate) fn finish(out: &mut [u8], start: usize, kind: u8) {
    let len =
        u32::try_from(out.len() - start - HEADER).expect("a record is bounded by one change and a block");
    overwrite(out, start, &len.to_le_bytes());
    overwrite(out, start + 8, &[kind]);
    let checksum = crc32c::crc32c(out.get(start + 8..).unwrap_or_default());
    overwrite(out, start + 4, &checksum.to_le_bytes());
}

/// Appends the place of a part's two counts, to be filled in by [`finish_part`].
pub(crate) fn begin_part(out: &mut Vec<u8>) {
    begin(out);
    out.extend_from_slice(&[0; 8]);
}

/// Fills in the counts of the part whose record starts at `start`.
pub(crate) fn finish_part(out: &mut [u8], start: usize, first_seq: u32, count: u32) {
    overwrite(out, start + HEADER, &first_seq.to_le_bytes());
    overwrite(out, start + HEADER + 4, &count.to_le_bytes());
}

/// Appends what a commit's record has after its part.
pub(crate) fn put_transaction(out: &mut Vec<u8>, transaction: &Transaction) {
    out.extend_from_slice(&transaction.xid.to_le_bytes());
    out.extend_from_slice(&transaction.commit.0.to_le_bytes());
    out.extend_from_slice(&transaction.end.0.to_le_bytes());
    out.extend_from_slice(&transaction.committed_at.0.to_le_bytes());
}

/// Appends a whole record of that payload.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, payload: &[&[u8]]) {
    let start = out.len();
    begin(out);
    payload.iter().for_each(|bytes| out.extend_from_slice(bytes));
    finish(out, start, kind);
}

fn overwrite(out: &mut [u8], at: usize, bytes: &[u8]) {
    out.get_mut(at..at + bytes.len())
        .expect("the place was reserved before")
        .copy_from_slice(bytes);
}

fn take_transaction(bytes: &mut &[u8]) -> Result<Transaction, Malformed> {
    let (rest, mut trailer) = bytes
        .split_last_chunk::<28>()
        .map(|(a, b)| (a, &b[..]))
        .ok_or(CUT)?;
    *bytes = rest;
    Ok(Transaction {
        xid: take_u32(&mut trailer)?,
        commit: Lsn(take_u64(&mut trailer)?),
        end: Lsn(take_u64(&mut trailer)?),
        committed_at: Timestamp(take_u64(&mut trailer)? as i64),
    })
}

pub(crate) fn take_u32(bytes: &mut &[u8]) -> Result<u32, Malformed> {
    let (value, rest) = bytes.split_first_chunk().ok_or(CUT)?;
    *bytes = rest;
    Ok(u32::from_le_bytes(*value))
}

pub(crate) fn take_u64(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let (value, rest) = bytes.split_first_chunk().ok_or(CUT)?;
    *bytes = rest;
    Ok(u64::from_le_bytes(*value))
}
