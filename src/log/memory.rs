//! [`MemoryLog`]: a second log, for tests. It keeps what is committed as messages of a log over a network would hold
//! it: one transaction each, with the descriptions of its relations, which are decoded anew whenever a message is
//! read.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::record;
use super::{Batch, Error, Identity, Interner, Log, LogReader, RetentionHold};
use crate::event::{Op, Relation, Transaction};
use crate::lsn::{Epoch, Lsn, Position, Start};

/// A log in memory. Cloning it copies a pointer.
#[derive(Clone)]
pub(crate) struct MemoryLog(Arc<Shared>);

struct Shared {
    messages: Mutex<Vec<Message>>,
    head: watch::Sender<Lsn>,
    interner: Interner,
}

#[derive(Clone)]
struct Message {
    end: Lsn,
    records: Vec<u8>,
    relation: String,
}

impl MemoryLog {
    pub(crate) fn new() -> MemoryLog {
        MemoryLog(Arc::new(Shared {
            messages: Mutex::default(),
            head: watch::Sender::new(Lsn::ZERO),
            interner: Interner::default(),
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
            relation: serde_json::to_string(relation).unwrap(),
        });
        self.0.head.send_replace(transaction.end);
    }

    fn messages(&self) -> MutexGuard<'_, Vec<Message>> {
        self.0.messages.lock().unwrap()
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

    fn durable(&self) -> Lsn {
        self.head()
    }

    fn sync_now(&self, _: Duration) -> Result<Lsn, Error> {
        Ok(self.head())
    }

    fn hold(&self, _: Lsn) {}

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
        let is_next = |message: &&Message| Position::after(message.end) > self.position;
        let Some(message) = self.log.messages().iter().find(is_next).cloned() else {
            return Ok(None);
        };
        self.position = Position::after(message.end);
        let decoded: Arc<Relation> = Arc::new(serde_json::from_str(&message.relation).unwrap());
        let relations = Arc::new(vec![self.log.0.interner.intern(&decoded)]);
        Ok(Some(Batch::new(message.records.into(), relations, Vec::new())))
    }

    fn position(&self) -> Position {
        self.position
    }
}
