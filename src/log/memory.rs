//! [`MemoryLog`]: a second log, for tests. It keeps what is written as messages of a log over a network would hold
//! it: one transaction each, with the descriptions of its relations, which are decoded anew whenever a message is
//! read; and one for each record about a table.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::record::{self, Frame};
use super::{Batch, Error, Identity, Interner, Log, LogReader, RetentionHold, TableHistory, TableRecord};
use crate::event::{Op, Relation, Transaction};
use crate::lsn::{Epoch, Lsn, Position, Start};

/// A log in memory. Cloning it copies a pointer.
#[derive(Clone)]
pub(crate) struct MemoryLog(Arc<Shared>);

struct Shared {
    messages: Arc<Mutex<Vec<Message>>>,
    head: watch::Sender<Lsn>,
    interner: Interner,
    tables: watch::Sender<TableHistory>,
    /// The number of messages whose records about tables were taken.
    followed: Mutex<usize>,
}

#[derive(Clone)]
struct Message {
    /// The end of its transaction, or that of the one before a record about a table.
    end: Lsn,
    records: Vec<u8>,
    relation: Option<String>,
}

impl MemoryLog {
    pub(crate) fn new() -> MemoryLog {
        MemoryLog::of(Arc::default())
    }

    /// The same log as somebody else sees it, who has nothing but its messages.
    pub(crate) fn elsewhere(&self) -> MemoryLog {
        MemoryLog::of(Arc::clone(&self.0.messages))
    }

    fn of(messages: Arc<Mutex<Vec<Message>>>) -> MemoryLog {
        let head = messages.lock().last().map_or(Lsn::ZERO, |message| message.end);
        MemoryLog(Arc::new(Shared {
            messages,
            head: watch::Sender::new(head),
            interner: Interner::default(),
            tables: watch::Sender::default(),
            followed: Mutex::default(),
        }))
    }

    /// Appends a transaction of changes to one relation.
    pub(crate) fn commit(&self, relation: &Relation, ops: &[Op<'_>], transaction: &Transaction) {
        let mut records = Vec::new();
        record::begin_part(&mut records);
        for op in ops {
            record::put_change(&mut records, 0, op).unwrap();
        }
        record::finish_part(&mut records, 0, 0, ops.len() as u32);
        record::put_transaction(&mut records, transaction);
        record::finish(&mut records, 0, record::COMMIT);
        self.messages().push(Message {
            end: transaction.end,
            records,
            relation: Some(serde_json::to_string(relation).unwrap()),
        });
        self.0.head.send_replace(transaction.end);
    }

    /// Appends what is noted of a table.
    pub(crate) fn note_table(&self, record: &TableRecord) {
        let end = self.head();
        let mut records = Vec::new();
        record.encode(&mut records);
        self.messages().push(Message {
            end,
            records,
            relation: None,
        });
    }

    fn messages(&self) -> MutexGuard<'_, Vec<Message>> {
        self.0.messages.lock()
    }

    /// Takes what the messages say of tables that came since.
    fn follow(&self) {
        let messages = self.messages();
        let mut followed = self.0.followed.lock();
        for message in messages.iter().skip(*followed) {
            let (frame, _) = Frame::split(&message.records).unwrap();
            if let Ok(record) = frame.table() {
                self.0.tables.send_modify(|tables| tables.apply(&record));
            }
        }
        *followed = messages.len();
    }
}

impl Log for MemoryLog {
    type Reader = MemoryReader;
    type Hold = ();

    fn identity(&self) -> Identity {
        Identity {
            system_id: 1,
            database_oid: 1,
            database: "d".into(),
            slot: "s".into(),
            timeline: 1,
        }
    }

    fn epoch(&self) -> Epoch {
        Epoch("memory".into())
    }

    fn head(&self) -> Lsn {
        *self.0.head.borrow()
    }

    fn head_changes(&self) -> watch::Receiver<Lsn> {
        self.0.head.subscribe()
    }

    fn earliest(&self) -> Lsn {
        Lsn::ZERO
    }

    fn tables(&self) -> watch::Receiver<TableHistory> {
        self.follow();
        self.0.tables.subscribe()
    }

    fn durable(&self) -> Lsn {
        self.head()
    }

    fn sync_now(&self, _: Duration) -> Result<Lsn, Error> {
        Ok(self.head())
    }

    fn hold(&self, _: Lsn) {}

    fn between(&self, after: Lsn, before: Lsn) -> Option<Lsn> {
        let messages = self.messages();
        let ends = messages.iter().map(|message| message.end);
        let between: Vec<Lsn> = ends.filter(|end| *end > after && *end < before).collect();
        between.get(between.len() / 2).copied()
    }

    fn reader(&self, start: Start) -> Result<MemoryReader, Error> {
        let position = match start {
            Start::Now => Position::after(self.head()),
            Start::Earliest => Position::after(Lsn::ZERO),
            Start::After(position) => position,
        };
        let log = self.clone();
        Ok(MemoryReader { log, position })
    }
}

/// Nothing is ever removed.
impl RetentionHold for () {
    fn advance(&self, _: Lsn) {}
}

/// Reads message by message.
pub(crate) struct MemoryReader {
    log: MemoryLog,
    position: Position,
}

impl LogReader for MemoryReader {
    async fn next(&mut self, _: usize) -> Result<Option<Batch>, Error> {
        // As if it came over a network.
        tokio::task::yield_now().await;
        let is_next =
            |message: &&Message| message.relation.is_some() && Position::after(message.end) > self.position;
        let Some(message) = self.log.messages().iter().find(is_next).cloned() else {
            return Ok(None);
        };
        self.position = Position::after(message.end);
        let decoded = message
            .relation
            .iter()
            .map(|relation| Arc::new(serde_json::from_str(relation).unwrap()));
        let relations = Arc::new(
            decoded
                .map(|relation| self.log.0.interner.intern(&relation))
                .collect(),
        );
        Ok(Some(Batch::new(message.records.into(), relations, Vec::new())))
    }

    fn position(&self) -> Position {
        self.position
    }
}
