//! [`Receiving`]: from the connection into the received log.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

use tokio_util::sync::CancellationToken;

use super::super::drain::Drain;
use super::super::frames::{Data, FrameHandler, StreamContext, take_frames, unless_draining};
use super::super::incoming::Passed;
use super::super::stream::FULL_PAUSE;
use super::super::verifier::check_end;
use super::super::{Error, FINAL_SYNC, pause};
use super::{Kept, ReceivedLog};
use crate::decode::{Boundary, Descriptions, Message, Needed, assemble};
use crate::event::{Op, Relation, Timestamp, Transaction, Tuple, Value, encode_values};
use crate::health::Readiness;
use crate::log::{self, Log, LogWriter};
use crate::lsn::Lsn;
use crate::postgres::{Plugin, Receiver};
use crate::telemetry::chain;

/// Takes one connection's messages into the log.
pub(in crate::ingest) struct Receiving<'a> {
    pub(in crate::ingest) log: &'a mut ReceivedLog,
    pub(in crate::ingest) plugin: Plugin,
    pub(in crate::ingest) context: StreamContext<'a>,
    pub(in crate::ingest) readiness: &'a Readiness,
    /// The position up to which the log has been read.
    pub(in crate::ingest) read: &'a AtomicU64,
    /// The most that is received ahead of what was read, in bytes of WAL.
    pub(in crate::ingest) max_ahead: u64,
    /// The threads that wait for more: the reading and the confirming one.
    pub(in crate::ingest) waiting: [Thread; 2],
}

/// The state of the connection's messages.
struct State {
    open: Option<Open>,
    /// The end of the log. Transactions that end there or before are in it already.
    head: Lsn,
    descriptions: Descriptions,
    /// The tables that the open transaction already holds a description of.
    held: HashSet<u32>,
    /// The tables for whose rows it holds all that they are read by.
    readable: HashSet<u32>,
    /// The newest position that the server passed without a transaction.
    passed: Passed,
    relations: Relations,
    row: Vec<u8>,
}

/// The relations of the log's messages.
struct Relations {
    as_it_came: Arc<Relation>,
    described_before: Arc<Relation>,
    partition_before: Arc<Relation>,
}

/// The handler of one connection's frames.
struct Keeping<'r, 'a> {
    receiving: &'r mut Receiving<'a>,
    state: State,
}

struct Open {
    commit: Lsn,
    xid: u32,
    /// True if the log already has the open transaction.
    skipped: bool,
}

impl Receiving<'_> {
    /// Receives until `over`, or until the stream ends.
    pub(in crate::ingest) fn run(
        mut self,
        receiver: &mut Receiver,
        over: &CancellationToken,
    ) -> Result<(), Error> {
        let state = State {
            open: None,
            head: self.log.journal.head(),
            descriptions: Descriptions::default(),
            held: HashSet::new(),
            readable: HashSet::new(),
            passed: Passed::default(),
            relations: Relations {
                as_it_came: Kept::AsItCame.relation(),
                described_before: Kept::DescribedBefore.relation(),
                partition_before: Kept::PartitionBefore.relation(),
            },
            row: Vec::new(),
        };
        let context = self.context;
        let mut keeping = Keeping {
            receiving: &mut self,
            state,
        };
        let received = take_frames(receiver, &mut keeping, context, over);
        self.log.writer.rollback()?;
        received?;
        self.flush(over)?;
        let durable = self.log.journal.sync_now(FINAL_SYNC)?;
        self.context.verifier.until_shown(durable);
        Ok(())
    }

    /// Appends a message to the log.
    fn keep(
        &mut self,
        state: &mut State,
        body: &[u8],
        (sent_at, wal_end): (Timestamp, Lsn),
        over: &CancellationToken,
    ) -> Result<(), Error> {
        let is_pgoutput = self.plugin == Plugin::Pgoutput;
        // Messages that cannot be parsed must not be confirmed.
        let boundary = if is_pgoutput {
            Boundary::of_pgoutput(body)?
        } else {
            Boundary::of_wal2json(body)?
        };
        if is_pgoutput {
            state.note(body)?;
        }
        match boundary {
            Boundary::Begin { commit, xid } => {
                let skipped = commit < state.head;
                state.open = Some(Open { commit, xid, skipped });
                state.held.clear();
                state.readable.clear();
                self.append(state, body, over)
            }
            Boundary::Inside => self.append(state, body, over),
            Boundary::Commit {
                commit,
                end,
                committed_at,
            } => {
                self.append(state, body, over)?;
                let Some(open) = state.open.take() else {
                    return Ok(());
                };
                if open.commit != commit {
                    return Err(Error::Order(assemble::Error::OtherCommit {
                        begun: open.commit,
                        committed: commit,
                    }));
                }
                check_end(commit, end, wal_end)?;
                if open.skipped {
                    return Ok(());
                }
                let transaction = Transaction {
                    xid: open.xid,
                    commit,
                    end,
                    committed_at,
                };
                self.commit(state, &transaction, over)
            }
            Boundary::Alone { at } if at <= state.head => Ok(()),
            Boundary::Alone { at } => {
                check_end(at, at, wal_end)?;
                state.open = Some(Open {
                    commit: at,
                    xid: 0,
                    skipped: false,
                });
                self.append(state, body, over)?;
                state.open = None;
                let transaction = Transaction {
                    xid: 0,
                    commit: at,
                    end: at,
                    committed_at: sent_at,
                };
                self.commit(state, &transaction, over)
            }
        }
    }

    /// Appends a message of the open transaction, after the descriptions of its tables.
    fn append(&mut self, state: &mut State, body: &[u8], over: &CancellationToken) -> Result<(), Error> {
        if state.open.as_ref().is_none_or(|open| open.skipped) {
            return Ok(());
        }
        let State {
            descriptions,
            held,
            readable,
            relations,
            row: buffer,
            ..
        } = state;
        if self.plugin == Plugin::Pgoutput {
            for table in Boundary::tables(body).filter(|table| readable.insert(*table)) {
                for needed in descriptions.needed(table) {
                    if held.insert(needed.oid) {
                        self.keep_description(relations, buffer, needed, over)?;
                    }
                }
                if !held.contains(&table) {
                    let message = "row";
                    let oid = table;
                    return Err(Error::Order(assemble::Error::Undescribed { message, oid }));
                }
            }
        }
        let row = row(buffer, body)?;
        self.until_space(over, |log| log.writer.change(&relations.as_it_came, &row))
    }

    /// Appends the description of a table that came in another transaction.
    fn keep_description(
        &mut self,
        relations: &Relations,
        buffer: &mut Vec<u8>,
        needed: Needed<'_>,
        over: &CancellationToken,
    ) -> Result<(), Error> {
        let Needed { message, .. } = needed;
        let (relation, row) = match needed.root {
            None => (&relations.described_before, row(buffer, message)?),
            Some(root) => {
                let row = row(buffer, &[message, &root.to_be_bytes()].concat())?;
                (&relations.partition_before, row)
            }
        };
        self.until_space(over, |log| log.writer.change(relation, &row))
    }

    fn commit(
        &mut self,
        state: &mut State,
        transaction: &Transaction,
        over: &CancellationToken,
    ) -> Result<(), Error> {
        self.until_space(over, |log| log.writer.commit(transaction))?;
        state.head = transaction.end;
        Ok(())
    }

    fn flush(&mut self, over: &CancellationToken) -> Result<(), Error> {
        self.until_space(over, |log| log.writer.flush())
    }

    /// Runs an operation of the log's writer, and waits for space while the disk is full. The writer keeps what it has
    /// meanwhile.
    fn until_space(
        &mut self,
        over: &CancellationToken,
        act: impl FnOnce(&mut ReceivedLog) -> Result<(), log::Error>,
    ) -> Result<(), Error> {
        let mut acted = act(self.log);
        let mut drain = Drain::default();
        let mut waited = false;
        while let Err(full @ log::Error::Full { .. }) = &acted {
            if !waited {
                let reason = chain(full);
                tracing::error!(
                    event = "disk_full",
                    error = reason,
                    "the disk of --data-dir is full"
                );
                self.readiness
                    .unready(format!("the disk of --data-dir is full: {reason}"));
                waited = true;
            }
            if over.is_cancelled() {
                break;
            }
            unless_draining(self.context.conninfo, &mut drain)?;
            pause(FULL_PAUSE, over);
            acted = self.log.writer.flush();
        }
        if waited && acted.is_ok() {
            tracing::info!(
                event = "writing_resumed",
                "there is space on the disk of --data-dir again"
            );
            self.readiness.ready();
        }
        Ok(acted?)
    }
}

impl State {
    /// Notes what a message says of tables: also one of a transaction that the log already has.
    fn note(&mut self, body: &[u8]) -> Result<(), Error> {
        if Boundary::described(body).is_some()
            && let Message::Relation(relation) = Message::parse(body)?
        {
            let root = self.descriptions.describe(&relation, body);
            self.held.insert(relation.oid);
            // The root's rows may be read by another partition's description now.
            for outdated in root.into_iter().chain([relation.oid]) {
                self.readable.remove(&outdated);
            }
        }
        for table in Boundary::tables(body) {
            self.descriptions.named(table);
        }
        Ok(())
    }
}

impl FrameHandler for Keeping<'_, '_> {
    fn has_room(&mut self) -> Result<bool, Error> {
        let read = Lsn(self.receiving.read.load(Ordering::Relaxed));
        Ok(self.state.head.bytes_since(read) <= self.receiving.max_ahead)
    }

    fn take(&mut self, data: Data<'_>, over: &CancellationToken) -> Result<(), Error> {
        let Keeping { receiving, state } = self;
        receiving.keep(state, data.body, (data.sent_at, data.wal_end), over)
    }

    fn is_open(&self) -> bool {
        self.state.open.is_some()
    }

    fn passed(&mut self) -> &mut Passed {
        &mut self.state.passed
    }

    fn note_position(&mut self, lsn: Lsn, over: &CancellationToken) -> Result<(), Error> {
        if self.is_open() {
            return Ok(());
        }
        self.receiving.until_space(over, |log| log.writer.position(lsn))?;
        self.state.head = self.state.head.max(lsn);
        Ok(())
    }

    fn flush(&mut self, over: &CancellationToken) -> Result<Lsn, Error> {
        self.receiving.flush(over)?;
        Ok(self.state.head)
    }

    fn durable(&self) -> Lsn {
        self.receiving.log.journal.durable()
    }

    fn caught_up(&mut self, _newest: Lsn) -> Result<(), Error> {
        self.receiving.waiting.iter().for_each(Thread::unpark);
        Ok(())
    }
}

/// A message as a row of the log.
fn row<'a>(buffer: &'a mut Vec<u8>, message: &[u8]) -> Result<Op<'a>, Error> {
    buffer.clear();
    encode_values(std::iter::once(Value::Text(message)), buffer);
    let (new, _) =
        Tuple::parse(buffer).map_err(|_| Error::Unreadable("a message is not the row it was written as"))?;
    Ok(Op::Insert { new })
}
