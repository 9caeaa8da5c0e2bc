//! [`Batch`]: what a reader gets, whole records as they are stored, read in place. Pure.

use std::sync::Arc;

use bytes::Bytes;

use super::Relations;
use super::record::{Frame, Malformed, Part, RawChange, Record};
use crate::event::{Relation, RowChange, Transaction};
use crate::lsn::{Done, Lsn, Position};

/// Consecutive records of a log. Cloning it copies pointers.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Bytes,
    relations: Relations,
    /// The large transactions that the batch holds parts of, in order. Their chunks don't name them.
    large: Vec<Transaction>,
}

impl Batch {
    /// Whole records, checked, with the relations that they name by local id and the large transactions that they are
    /// parts of, in order.
    pub(crate) fn new(bytes: Bytes, relations: Relations, large: Vec<Transaction>) -> Batch {
        Batch {
            bytes,
            relations,
            large,
        }
    }

    /// The contents of the batch, in order. It ends after the first error, which only bytes that were written wrong,
    /// with the right checksum, can cause.
    pub fn entries(&self) -> Entries<'_> {
        Entries {
            rest: &self.bytes,
            relations: &self.relations,
            large: self.large.iter(),
            current: None,
        }
    }

    /// Its size in bytes, as stored.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if it holds nothing; a reader returns no such batch.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Something in the history.
#[derive(Clone, Debug)]
pub enum Entry<'a> {
    /// A transaction, or a part of it.
    Piece(Piece<'a>),
    /// The stream got here; between this and the entry before there was no transaction.
    Position(Lsn),
}

/// A transaction, or a part of one too large for one record. The parts follow each other with nothing in between.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    /// The transaction. It is known, and whole in the journal, from its first part on.
    pub transaction: Transaction,
    /// The seq of the first change here.
    pub first_seq: u32,
    /// The number of changes that there are here.
    pub count: u32,
    /// The changes.
    pub changes: Changes<'a>,
    /// True if this is the transaction's last part.
    pub last: bool,
}

impl Piece<'_> {
    /// The place after what has been taken from `changes`, which is something.
    pub fn position(&self) -> Position {
        match self.changes.seq.checked_sub(1) {
            Some(seq) if self.changes.left > 0 => Position::after_change(self.transaction.end, seq),
            _ => self.end_position(),
        }
    }

    /// The part up to a place in its transaction, and the rest if there is one.
    ///
    /// # Errors
    /// A change before that is malformed.
    pub fn split_at(self, place: Position) -> Result<(Self, Option<Self>), Malformed> {
        let Done::Change(seq) = place.done else {
            return Ok((self, None));
        };
        let (changes, rest) = self.changes.clone().split_after(seq)?;
        if changes.is_empty() || rest.is_empty() {
            return Ok((self, None));
        }
        let before = Piece {
            count: rest.seq.saturating_sub(self.first_seq),
            changes,
            last: false,
            ..self
        };
        let after = Piece {
            changes: rest,
            ..self
        };
        Ok((before, Some(after)))
    }

    /// The place after everything here.
    pub fn end_position(&self) -> Position {
        let end = self.transaction.end;
        match self.first_seq.saturating_add(self.count).checked_sub(1) {
            Some(seq) if !self.last => Position::after_change(end, seq),
            _ => Position::after(end),
        }
    }
}

/// The entries of a [`Batch`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    relations: &'a [Arc<Relation>],
    large: std::slice::Iter<'a, Transaction>,
    current: Option<Transaction>,
}

impl<'a> Entries<'a> {
    fn piece(&self, transaction: Transaction, part: Part<'a>, last: bool) -> Entry<'a> {
        Entry::Piece(Piece {
            transaction,
            first_seq: part.first_seq,
            count: part.count,
            changes: Changes {
                seq: part.first_seq,
                left: part.count,
                rest: part.changes,
                relations: self.relations,
            },
            last,
        })
    }

    fn step(&mut self) -> Result<Option<Entry<'a>>, Malformed> {
        while let Some((frame, rest)) = Frame::split(self.rest) {
            self.rest = rest;
            match frame.record()? {
                Record::Relation { .. } | Record::Table(_) => {}
                Record::Position(lsn) => return Ok(Some(Entry::Position(lsn))),
                Record::Commit(part, transaction) => return Ok(Some(self.piece(transaction, part, true))),
                Record::End(part, transaction, _) => {
                    if self.current.take().is_none() {
                        self.large.next();
                    }
                    return Ok(Some(self.piece(transaction, part, true)));
                }
                Record::Chunk(part) => {
                    let transaction = self.current.or_else(|| self.large.next().copied());
                    self.current = transaction;
                    let transaction = transaction.ok_or(Malformed("a chunk of an unknown transaction"))?;
                    return Ok(Some(self.piece(transaction, part, false)));
                }
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.rest = &[];
        }
        step.transpose()
    }
}

/// The changes of a [`Piece`], in order. It ends after the first error; see [`Batch::entries`].
#[derive(Clone, Debug)]
pub struct Changes<'a> {
    seq: u32,
    left: u32,
    rest: &'a [u8],
    relations: &'a [Arc<Relation>],
}

impl<'a> Changes<'a> {
    /// Leaves out the changes before `seq`, without reading them.
    pub fn from_seq(mut self, seq: u32) -> Result<Changes<'a>, Malformed> {
        while self.seq < seq && self.left > 0 {
            self.raw()?;
        }
        Ok(self)
    }

    /// The changes up to that of this `seq`, and the others.
    fn split_after(self, seq: u32) -> Result<(Changes<'a>, Changes<'a>), Malformed> {
        let mut rest = self.clone();
        while rest.seq <= seq && rest.left > 0 {
            rest.raw()?;
        }
        let read = self.rest.len() - rest.rest.len();
        let before = Changes {
            left: self.left - rest.left,
            rest: self.rest.get(..read).unwrap_or_default(),
            ..self
        };
        Ok((before, rest))
    }

    /// True if there are no more.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    fn raw(&mut self) -> Result<RawChange<'a>, Malformed> {
        let (raw, rest) = RawChange::split(self.rest)?;
        self.rest = rest;
        self.seq = self.seq.saturating_add(1);
        self.left -= 1;
        if self.left == 0 && !rest.is_empty() {
            return Err(Malformed("a part holds more than its changes"));
        }
        Ok(raw)
    }

    fn step(&mut self) -> Result<RowChange<'a>, Malformed> {
        let seq = self.seq;
        let raw = self.raw()?;
        let relation = self.relations.get(raw.relation as usize);
        let relation = relation.ok_or(Malformed("a change names an unknown relation"))?;
        Ok(RowChange {
            seq,
            relation,
            op: raw.op()?,
            oversize: raw.is_oversize(),
        })
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<RowChange<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.left = 0;
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Op, Timestamp};
    use crate::log::record;

    fn batch(records: &[(u8, &[u8])]) -> Batch {
        let mut bytes = Vec::new();
        records
            .iter()
            .for_each(|(kind, payload)| record::put(&mut bytes, *kind, &[payload]));
        Batch::new(bytes.into(), Relations::default(), vec![])
    }

    /// The first thing that is wrong with it.
    fn error(batch: &Batch) -> Option<Malformed> {
        batch.entries().find_map(|entry| match entry {
            Ok(Entry::Piece(piece)) => piece.changes.into_iter().find_map(Result::err),
            Ok(Entry::Position(_)) => None,
            Err(malformed) => Some(malformed),
        })
    }

    /// A commit's payload of that many changes, which are said to be these.
    fn commit(count: u32, changes: &[u8]) -> Vec<u8> {
        let mut payload = [&[0; 4][..], &count.to_le_bytes(), changes].concat();
        let commit = Lsn(1);
        let end = Lsn(2);
        record::put_transaction(
            &mut payload,
            &Transaction {
                xid: 1,
                commit,
                end,
                committed_at: Timestamp(0),
            },
        );
        payload
    }

    #[test]
    fn what_was_written_wrong_is_an_error_though_its_checksum_is_right() {
        let mut truncate = Vec::new();
        record::put_change(&mut truncate, 0, &Op::Truncate).unwrap();
        for (payload, expected) in [
            (commit(1, &truncate), "a change names an unknown relation"),
            (commit(2, &truncate), "a change names an unknown relation"),
            (commit(1, &truncate[..8]), "a change is cut short"),
            (
                commit(1, &[&truncate[..], b"x"].concat()),
                "a part holds more than its changes",
            ),
            (vec![0; 20], "a record is cut short"),
        ] {
            assert_eq!(
                error(&batch(&[(record::COMMIT, &payload)])),
                Some(Malformed(expected))
            );
        }
        assert_eq!(
            error(&batch(&[(99, b"")])),
            Some(Malformed("unknown kind of record"))
        );
        assert_eq!(
            error(&batch(&[(record::POSITION, &[0; 9])])),
            Some(Malformed("a position has bytes left over"))
        );
        assert_eq!(
            error(&batch(&[(record::CHUNK, &[0; 8])])),
            Some(Malformed("a chunk of an unknown transaction"))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic_a_reader(records in proptest::collection::vec((0..10u8, proptest::collection::vec(0..9u8, 0..80)), 0..6)) {
            let records: Vec<_> = records.iter().map(|(kind, payload)| (*kind, &payload[..])).collect();
            let batch = batch(&records);
            error(&batch);
            for entry in batch.entries().flatten() {
                if let Entry::Piece(piece) = entry {
                    let _ = piece.changes.from_seq(3).map(Iterator::count);
                }
            }
        }

        #[test]
        fn any_bytes_are_a_record_and_the_rest_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some((frame, rest)) = Frame::split(&bytes) {
                prop_assert_eq!(frame.len() + rest.len(), bytes.len());
                let _ = frame.record();
            }
        }
    }
}
