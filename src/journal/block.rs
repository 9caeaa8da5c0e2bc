//! [`Block`]: what the writer gathers between two writes. Pure.

use std::sync::Arc;

use bytes::Bytes;

use super::relations::LocalRelations;
use super::segment::{MARK_EVERY, Mark};
use crate::event::{Op, Relation, Transaction};
use crate::log::record::{self, CHUNK, COMMIT, END, POSITION, RELATION};
use crate::log::{Error, Interner, TableRecord};
use crate::lsn::Lsn;

/// Records that are not yet in the file: whole ones, and after them the one that is being filled.
pub(super) struct Block {
    bytes: Vec<u8>,
    usual_capacity: usize,
    record_bytes: usize,
    /// The place in the file where the block goes.
    offset: u64,
    /// The place where the last boundary between transactions is: in the block, or before it in the file.
    boundary: u64,
    /// The boundaries that readers will look for.
    marks: Vec<Mark>,
    last_mark: u64,
    relations: LocalRelations,
    interner: Arc<Interner>,
    /// The number of the relations that stand before the boundary.
    settled_relations: usize,
    /// The records about tables that stand after the boundary. They outlive what they stand among.
    unsettled_tables: Vec<u8>,
    /// The place in the file where the open transaction's first chunk is.
    first_chunk: Option<u64>,
    open: Option<Open>,
    /// The next change's.
    seq: u32,
}

/// The record that is being filled.
#[derive(Clone, Copy)]
struct Open {
    /// The place in the block where it starts.
    start: usize,
    first_seq: u32,
}

impl Block {
    /// A block of about `block_bytes`, of records of about `record_bytes`. Nowhere until [`Block::restart`].
    pub(super) fn new(block_bytes: usize, record_bytes: usize, interner: Arc<Interner>) -> Block {
        Block {
            bytes: Vec::new(),
            usual_capacity: block_bytes + block_bytes / 4,
            // With one more change a record must not exceed 32 bits.
            record_bytes: record_bytes.min(1 << 30),
            offset: 0,
            boundary: 0,
            marks: Vec::new(),
            last_mark: 0,
            relations: LocalRelations::default(),
            interner,
            settled_relations: 0,
            unsettled_tables: Vec::new(),
            first_chunk: None,
            open: None,
            seq: 0,
        }
    }

    /// Goes on, empty, at `offset` of a segment that describes these relations and has its last mark there.
    pub(super) fn restart(&mut self, offset: u64, relations: Vec<Arc<Relation>>, last_mark: u64) {
        self.bytes.clear();
        self.marks.clear();
        self.offset = offset;
        self.boundary = offset;
        self.last_mark = last_mark;
        self.settled_relations = relations.len();
        self.relations = LocalRelations::new(relations);
        self.unsettled_tables.clear();
        self.close();
    }

    /// The number of bytes of whole records.
    pub(super) fn whole_bytes(&self) -> usize {
        self.open.map_or(self.bytes.len(), |open| open.start)
    }

    /// The whole records.
    pub(super) fn whole(&self) -> &[u8] {
        self.bytes.get(..self.whole_bytes()).unwrap_or_default()
    }

    /// The place in the file where the block goes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The place in the file where the last boundary between transactions is, or will be.
    pub(super) fn boundary(&self) -> u64 {
        self.boundary
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.open.is_some() || self.first_chunk.is_some()
    }

    /// The relations that stand before the boundary.
    pub(super) fn settled_relations(&self) -> &[Arc<Relation>] {
        self.relations
            .list()
            .get(..self.settled_relations)
            .unwrap_or_default()
    }

    pub(super) fn take_marks(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.marks)
    }

    #[inline]
    pub(super) fn change(
        &mut self,
        relation: &Arc<Relation>,
        op: &Op<'_>,
        oversize: bool,
    ) -> Result<(), Error> {
        let next_seq = self.seq.checked_add(1).ok_or(Error::TooLarge("transaction"))?;
        if let Some(open) = self.open
            && self.bytes.len() - open.start >= self.record_bytes
            && self.seq > open.first_seq
        {
            self.end_chunk(open);
        }
        let relation = match self.relations.find(relation) {
            Some(id) => id,
            None => self.describe(relation),
        };
        self.open();
        let put = if oversize {
            record::put_oversize(&mut self.bytes, relation, op)
        } else {
            record::put_change(&mut self.bytes, relation, op)
        };
        put.ok_or(Error::TooLarge("change"))?;
        self.seq = next_seq;
        Ok(())
    }

    pub(super) fn commit(&mut self, transaction: &Transaction) {
        let open = self.open();
        record::finish_part(
            &mut self.bytes,
            open.start,
            open.first_seq,
            self.seq - open.first_seq,
        );
        record::put_transaction(&mut self.bytes, transaction);
        match self.first_chunk {
            None => record::finish(&mut self.bytes, open.start, COMMIT),
            Some(first) => {
                let span = self.offset + open.start as u64 - first;
                self.bytes.extend_from_slice(&span.to_le_bytes());
                record::finish(&mut self.bytes, open.start, END);
            }
        }
        self.close();
        self.settle(transaction.end);
    }

    pub(super) fn position(&mut self, lsn: Lsn) {
        record::put(&mut self.bytes, POSITION, &[&lsn.0.to_le_bytes()]);
        self.settle(lsn);
    }

    /// Notes something of a table: before the record that is being filled, or as the end of what is whole.
    pub(super) fn note_table(&mut self, record: &TableRecord) {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        if self.in_transaction() {
            self.unsettled_tables.extend_from_slice(&bytes);
            self.put_before_open(bytes);
        } else {
            self.bytes.append(&mut bytes);
            self.move_boundary();
        }
    }

    /// Forgets what came after the boundary, but for what was noted of tables. If that was in the file, the file ends
    /// there now.
    pub(super) fn rollback(&mut self) {
        self.offset = self.offset.min(self.boundary);
        self.bytes.truncate((self.boundary - self.offset) as usize);
        self.relations.truncate(self.settled_relations);
        self.close();
        self.bytes.append(&mut self.unsettled_tables);
        self.move_boundary();
    }

    /// Takes the whole records, which are in the file now. A well-filled block is handed over and a small one copied,
    /// so that whoever keeps the bytes does not keep much more memory.
    pub(super) fn take(&mut self) -> Bytes {
        let whole = self.whole_bytes();
        self.offset += whole as u64;
        if let Some(open) = &mut self.open {
            open.start = 0;
        }
        if whole < self.usual_capacity / 2 {
            let taken = Bytes::copy_from_slice(self.bytes.get(..whole).unwrap_or_default());
            self.bytes.drain(..whole);
            if self.bytes.capacity() > 2 * self.usual_capacity {
                self.bytes.shrink_to(self.usual_capacity);
            }
            return taken;
        }
        let rest = self.bytes.get(whole..).unwrap_or_default();
        let mut next = Vec::with_capacity(self.usual_capacity.max(rest.len()));
        next.extend_from_slice(rest);
        self.bytes.truncate(whole);
        Bytes::from(std::mem::replace(&mut self.bytes, next))
    }

    /// The open record, begun if there is none.
    #[inline]
    fn open(&mut self) -> Open {
        if let Some(open) = self.open {
            return open;
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(self.usual_capacity);
        }
        let open = Open {
            start: self.bytes.len(),
            first_seq: self.seq,
        };
        record::begin_part(&mut self.bytes);
        self.open = Some(open);
        open
    }

    fn end_chunk(&mut self, open: Open) {
        record::finish_part(
            &mut self.bytes,
            open.start,
            open.first_seq,
            self.seq - open.first_seq,
        );
        record::finish(&mut self.bytes, open.start, CHUNK);
        self.first_chunk.get_or_insert(self.offset + open.start as u64);
        self.open = None;
    }

    /// Describes a relation to the segment, before the open record so that this one stays whole.
    fn describe(&mut self, relation: &Arc<Relation>) -> u32 {
        let id = self.relations.add(relation, self.interner.intern(relation));
        let json = serde_json::to_vec(&**relation).expect("a relation is plain JSON");
        let mut record = Vec::new();
        record::put(&mut record, RELATION, &[&id.to_le_bytes(), &json]);
        self.put_before_open(record);
        id
    }

    fn put_before_open(&mut self, record: Vec<u8>) {
        let at = self.whole_bytes();
        if let Some(open) = &mut self.open {
            open.start += record.len();
        }
        self.bytes.splice(at..at, record);
    }

    /// There is no open transaction any more.
    fn close(&mut self) {
        self.open = None;
        self.first_chunk = None;
        self.seq = 0;
    }

    /// The block now ends at a boundary.
    fn settle(&mut self, lsn: Lsn) {
        self.unsettled_tables.clear();
        self.move_boundary();
        if self.boundary - self.last_mark >= MARK_EVERY {
            self.last_mark = self.boundary;
            self.marks.push(Mark {
                lsn,
                offset: self.boundary,
            });
        }
    }

    fn move_boundary(&mut self) {
        self.boundary = self.offset + self.bytes.len() as u64;
        self.settled_relations = self.relations.list().len();
    }
}
