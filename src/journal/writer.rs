//! [`Writer`]: appends to the newest segment, and begins the next one.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use super::Options;
use super::block::Block;
use super::directory::SEGMENTS;
use super::error::Error as FileError;
use super::files::{LogFile, write_all_at};
use super::header::Header;
use super::manifest::Manifest;
use super::segment::{Sealed, Segment};
use super::shared::Shared;
use crate::event::{Op, Relation, Transaction};
use crate::log::{Error, Identity, LogWriter, TableHistory, TableRecord};
use crate::lsn::{Epoch, Lsn};

/// The one who appends. Changes gather in a block, which [`flush`](LogWriter::flush) hands to the file in one write.
/// Dropping it stops the syncing thread; what was flushed but not synced is in the file.
pub struct Writer {
    shared: Arc<Shared>,
    block_bytes: usize,
    segment_bytes: u64,
    thread: Option<JoinHandle<()>>,
    segment: Arc<Segment>,
    file: Arc<dyn LogFile>,
    block: Block,
    head: Lsn,
    last_transaction: Lsn,
    /// The number of the segment's relations that readers know.
    visible_relations: usize,
}

/// The place where a writer goes on.
pub(super) struct Tail {
    pub(super) segment: Arc<Segment>,
    pub(super) file: Arc<dyn LogFile>,
    pub(super) end: u64,
    pub(super) head: Lsn,
    pub(super) last_transaction: Lsn,
    /// True if the segment says what was known of tables before it.
    pub(super) has_opening: bool,
    /// Everything that the history says of tables up to its end.
    pub(super) tables: TableHistory,
    /// Records of them in a transaction that was cut off.
    pub(super) unsettled: Vec<TableRecord>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, options: &Options, thread: JoinHandle<()>, tail: Tail) -> Writer {
        let block = Block::new(
            options.block_bytes,
            options.record_bytes,
            Arc::clone(&shared.interner),
        );
        let mut writer = Writer {
            shared,
            block_bytes: options.block_bytes,
            segment_bytes: options.segment_bytes,
            thread: Some(thread),
            block,
            head: tail.head,
            last_transaction: tail.last_transaction,
            visible_relations: 0,
            segment: tail.segment.clone(),
            file: tail.file.clone(),
        };
        writer.go_on(tail.segment, tail.file, tail.end);
        writer
    }

    fn begin(
        &mut self,
        identity: &Identity,
        epoch: Epoch,
        start: Lsn,
        tables: TableHistory,
    ) -> Result<(), Error> {
        self.shared.sync.check()?;
        self.shared
            .state()
            .manifest
            .check(&self.shared.dir, identity, true)?;
        let manifest = Manifest::new(identity, epoch, start, self.segment.sequence + 1);
        let (segment, file) = self.create(&manifest.first_header(), &tables)?;
        // The manifest is what makes the new history the current one: a crash before it leaves a nameless draft, a
        // crash after it a draft to be named and an old history to be removed.
        self.replace_manifest(&manifest)?;
        segment.publish(&*self.shared.files).map_err(|e| self.fail(e))?;
        let segment = Arc::new(segment);
        for old in self.shared.restart(manifest, segment.clone(), tables) {
            if let Err(e) = self.shared.files.remove(&old.path) {
                tracing::warn!(
                    event = "journal_segment_removal_failed", error = %e, path = %old.path.display(),
                    "cannot remove a journal segment"
                );
            }
        }
        self.head = start;
        self.last_transaction = start;
        let start = segment.start;
        self.go_on(segment, file, start);
        Ok(())
    }

    #[inline]
    fn flush_if_due(&mut self) -> Result<(), Error> {
        let whole = self.block.whole_bytes();
        let full = !self.in_transaction() && self.is_full(self.block.boundary());
        if whole >= self.block_bytes || full {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// True if the segment is to be followed by another one once it has so many bytes. What it opens with does not
    /// count.
    #[inline]
    fn is_full(&self, bytes: u64) -> bool {
        bytes >= self.segment_bytes.saturating_add(self.segment.opening)
    }

    /// Writes the block's whole records.
    fn write(&mut self) -> Result<(), FileError> {
        if self.block.whole_bytes() == 0 {
            return Ok(());
        }
        let offset = self.block.offset();
        if let Err(e) = write_all_at(&*self.file, self.block.whole(), offset) {
            // What was written of it must not be taken for records when the journal is opened again.
            self.file
                .truncate(offset)
                .map_err(|e| self.failed("truncate", e))?;
            return Err(self.fail(FileError::write(&self.segment.path, e)));
        }
        self.publish();
        Ok(())
    }

    /// Hands the block, which is in the file now, to the readers and to the syncing thread.
    fn publish(&mut self) {
        let offset = self.block.offset();
        let bytes = self.block.take();
        let len = bytes.len() as u64;
        if let Some(contents) = &mut *self.segment.contents.lock() {
            contents.marks.append(&mut self.block.take_marks());
            let relations = self.block.settled_relations();
            if relations.len() != self.visible_relations {
                self.visible_relations = relations.len();
                contents.relations = Arc::new(relations.to_vec());
            }
        }
        {
            let mut state = self.shared.state();
            state.window.push(self.segment.sequence, offset, bytes);
            state.visible = self.block.boundary().max(state.visible);
            state.last_transaction = self.last_transaction;
        }
        self.shared
            .head
            .send_if_modified(|head| std::mem::replace(head, self.head) != self.head);
        self.shared
            .sync
            .written(&self.file, &self.segment.path, self.head, len);
    }

    /// Notes again what was noted of tables in a transaction that opening cut off.
    pub(super) fn restore(&mut self, tables: &[TableRecord]) -> Result<(), FileError> {
        for record in tables {
            self.take_table(record);
        }
        self.write()
    }

    fn take_table(&mut self, record: &TableRecord) {
        self.block.note_table(record);
        self.shared.tables.send_modify(|tables| tables.apply(record));
    }

    /// Seals the segment, durably, and begins the next one.
    pub(super) fn roll(&mut self) -> Result<(), FileError> {
        self.file.sync().map_err(|e| self.failed("sync", e))?;
        self.shared.sync.settled(self.head);
        let bytes = self.block.offset();
        let header = Header {
            sequence: self.segment.sequence + 1,
            epoch: self.shared.state().manifest.epoch.0.clone(),
            base: self.head,
            last_transaction: self.last_transaction,
            previous_bytes: bytes,
        };
        let created = self.create(&header, &self.shared.tables.borrow());
        let (segment, file) = created?;
        segment.publish(&*self.shared.files).map_err(|e| self.fail(e))?;
        let segment = Arc::new(segment);
        let sealed = Sealed {
            bytes,
            end: self.head,
            at: SystemTime::now(),
        };
        {
            let mut state = self.shared.state();
            self.segment.sealed.get_or_init(|| sealed);
            state.visible = segment.start;
            state.segments.push_back(segment.clone());
        }
        let start = segment.start;
        self.go_on(segment, file, start);
        Ok(())
    }

    /// Goes on at the end of a segment.
    fn go_on(&mut self, segment: Arc<Segment>, file: Arc<dyn LogFile>, end: u64) {
        let (relations, last_mark) = match &*segment.contents.lock() {
            Some(contents) => (
                contents.relations.to_vec(),
                contents.marks.last().map_or(0, |mark| mark.offset),
            ),
            None => (Vec::new(), 0),
        };
        self.visible_relations = relations.len();
        self.block.restart(end, relations, last_mark);
        self.segment = segment;
        self.file = file;
    }

    fn create(
        &self,
        header: &Header,
        tables: &TableHistory,
    ) -> Result<(Segment, Arc<dyn LogFile>), FileError> {
        let dir = self.shared.dir.join(SEGMENTS);
        Segment::create(&*self.shared.files, &dir, header, tables).map_err(|e| self.fail(e))
    }

    fn replace_manifest(&self, manifest: &Manifest) -> Result<(), FileError> {
        manifest
            .write(&*self.shared.files, &self.shared.dir)
            .map_err(|e| self.fail(e))
    }

    fn failed(&self, action: &'static str, source: std::io::Error) -> FileError {
        self.fail(FileError::failed(action, &self.segment.path, source))
    }

    /// Makes a failure everyone's; other errors are the caller's alone.
    fn fail(&self, error: FileError) -> FileError {
        match error {
            FileError::Failed { .. } => self.shared.sync.fail(error),
            error => error,
        }
    }
}

impl LogWriter for Writer {
    #[inline]
    fn change(&mut self, relation: &Arc<Relation>, op: &Op<'_>) -> Result<(), Error> {
        self.shared.sync.check()?;
        self.block.change(relation, op, false)?;
        self.flush_if_due()
    }

    fn oversize_change(&mut self, relation: &Arc<Relation>, op: &Op<'_>) -> Result<(), Error> {
        self.shared.sync.check()?;
        self.block.change(relation, op, true)?;
        self.flush_if_due()
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), Error> {
        self.shared.sync.check()?;
        if transaction.end <= self.head {
            return Err(Error::NotAfter {
                end: transaction.end,
                head: self.head,
            });
        }
        self.block.commit(transaction);
        self.head = transaction.end;
        self.last_transaction = transaction.end;
        self.flush_if_due()
    }

    fn position(&mut self, lsn: Lsn) -> Result<(), Error> {
        self.shared.sync.check()?;
        if self.in_transaction() {
            return Err(Error::InTransaction);
        }
        if lsn <= self.head {
            return Ok(());
        }
        self.block.position(lsn);
        self.head = lsn;
        self.flush_if_due()
    }

    fn rollback(&mut self) -> Result<(), Error> {
        self.shared.sync.check()?;
        let written = self.block.offset();
        self.block.rollback();
        let offset = self.block.offset();
        if offset < written {
            self.file
                .truncate(offset)
                .map_err(|e| self.failed("truncate", e))?;
            self.shared.state().window.truncate(self.segment.sequence, offset);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.shared.sync.check()?;
        self.write()?;
        if self.is_full(self.block.offset()) && !self.in_transaction() {
            self.roll()?;
        }
        Ok(())
    }

    fn note_table(&mut self, record: &TableRecord) -> Result<(), Error> {
        self.shared.sync.check()?;
        self.take_table(record);
        self.flush_if_due()
    }

    fn retain_tables(&mut self, published: &HashSet<u32>) {
        self.shared
            .tables
            .send_if_modified(|tables| tables.retain(published));
    }

    fn head(&self) -> Lsn {
        self.head
    }

    fn in_transaction(&self) -> bool {
        self.block.in_transaction()
    }

    fn new_epoch(&mut self, identity: &Identity, start: Lsn) -> Result<(), Error> {
        let tables = self.shared.tables.borrow().next_epoch(start);
        self.begin(identity, Epoch::random(), start, tables)
    }

    fn adopt_epoch(
        &mut self,
        identity: &Identity,
        epoch: &Epoch,
        start: Lsn,
        tables: TableHistory,
    ) -> Result<(), Error> {
        self.begin(identity, epoch.clone(), start, tables)
    }

    fn set_timeline(&mut self, timeline: u32) -> Result<(), Error> {
        self.shared.sync.check()?;
        let mut manifest = self.shared.state().manifest.clone();
        manifest.identity.timeline = timeline;
        self.replace_manifest(&manifest)?;
        self.shared.state().manifest = manifest;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.sync.stop();
        if let Some(thread) = self.thread.take() {
            // It logs what goes wrong with it.
            let _ = thread.join();
        }
    }
}
