//! [`Receiving`]: from the connection into the log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::confirm::Progress;
use super::super::drain::Drain;
use super::super::incoming::Passed;
use super::super::stream::{FILL_TIMEOUT, FULL_PAUSE, is_passing_over, unless_draining};
use super::super::witness::{Witness, check_end};
use super::super::{Error, FINAL_SYNC, pause};
use super::{AS_IT_CAME, DESCRIBED_BEFORE, Log, messages};
use crate::decode::{Boundary, assemble};
use crate::event::{Op, Relation, Timestamp, Transaction, Tuple, Value, encode_values};
use crate::health::Readiness;
use crate::journal;
use crate::lsn::Lsn;
use crate::postgres::{ConnInfo, Filled, Frame, Plugin, Receiver};
use crate::telemetry::{Metrics, chain};

/// Takes one connection's messages into the log.
pub(in crate::ingest) struct Receiving<'a> {
    pub(in crate::ingest) log: &'a mut Log,
    pub(in crate::ingest) plugin: Plugin,
    pub(in crate::ingest) conninfo: &'a ConnInfo,
    pub(in crate::ingest) progress: &'a Progress,
    pub(in crate::ingest) witness: &'a Witness,
    pub(in crate::ingest) metrics: &'a Metrics,
    pub(in crate::ingest) readiness: &'a Readiness,
    /// How far the log has been read.
    pub(in crate::ingest) read: &'a AtomicU64,
    /// No more than this is received beyond what has been read, in bytes of WAL.
    pub(in crate::ingest) max_ahead: u64,
    /// Those who wait for more: who reads it, and who confirms it.
    pub(in crate::ingest) waiting: [Thread; 2],
}

/// What is known of the connection's messages so far.
struct State {
    open: Option<Open>,
    /// Where the log ends: what ends there or before is in it already.
    head: Lsn,
    /// The tables' descriptions as they came last.
    described: HashMap<u32, Vec<u8>>,
    /// Those that the open transaction holds already.
    named: HashSet<u32>,
    as_it_came: Arc<Relation>,
    described_before: Arc<Relation>,
    row: Vec<u8>,
}

struct Open {
    commit: Lsn,
    xid: u32,
    /// Whether the log has it already.
    skipped: bool,
}

/// Between two looks whether the reading has come on.
const BEHIND_PAUSE: Duration = Duration::from_millis(20);

impl Receiving<'_> {
    /// Receives until `over`, or until the stream ends.
    pub(in crate::ingest) fn run(
        mut self,
        receiver: &mut Receiver,
        over: &CancellationToken,
    ) -> Result<(), Error> {
        let received = self.receive(receiver, over);
        self.log.writer.rollback()?;
        received?;
        self.flush(over)?;
        let durable = self.log.journal.sync_now(FINAL_SYNC)?;
        self.witness.until_shown(durable);
        Ok(())
    }

    fn receive(&mut self, receiver: &mut Receiver, over: &CancellationToken) -> Result<(), Error> {
        let mut state = State {
            open: None,
            head: self.log.journal.head(),
            described: HashMap::new(),
            named: HashSet::new(),
            as_it_came: messages(AS_IT_CAME),
            described_before: messages(DESCRIBED_BEFORE),
            row: Vec::new(),
        };
        let (mut passed, mut drain) = (Passed::default(), Drain::default());
        while !over.is_cancelled() {
            // The server waits, and hears from us.
            let ahead = state.head.bytes_since(Lsn(self.read.load(Ordering::Relaxed)));
            if ahead > self.max_ahead {
                pause(BEHIND_PAUSE, over);
                continue;
            }
            if let Filled::Bytes(bytes) = receiver.fill(FILL_TIMEOUT)? {
                self.metrics.replication_received_bytes.inc_by(bytes as u64);
            }
            let mut asked = false;
            while let Some(frame) = receiver.next()? {
                match frame {
                    Frame::Data {
                        wal_end,
                        sent_at,
                        body,
                        ..
                    } => {
                        self.progress.received(wal_end);
                        drain.goes_on();
                        self.keep(&mut state, body, (sent_at, wal_end), over)?;
                    }
                    Frame::Keepalive {
                        wal_end,
                        reply_requested,
                        ..
                    } => {
                        self.progress.received(wal_end);
                        self.witness.said(wal_end);
                        asked |= reply_requested;
                        if self.log.journal.durable() >= wal_end {
                            drain.goes_on();
                        } else if reply_requested {
                            unless_draining(self.conninfo, &mut drain)?;
                        }
                        if state.open.is_none() {
                            passed.note(wal_end, reply_requested);
                        }
                    }
                    Frame::Notice(notice) if is_passing_over(&notice) => {
                        return Err(Error::PassedOver(notice));
                    }
                    Frame::Notice(notice) => tracing::warn!(%notice, "the server says"),
                    Frame::End => return Err(Error::ServerShutdown),
                }
            }
            self.witness.check()?;
            let due = passed.due(self.witness.shown());
            if let Some(lsn) = due.filter(|_| state.open.is_none()) {
                self.until_space(over, |log| log.writer.position(lsn))?;
                state.head = state.head.max(lsn);
            }
            self.flush(over)?;
            self.metrics.received_lsn.set(self.progress.newest().0);
            if asked {
                self.progress.request_reply();
            }
            self.witness.wake(self.progress);
            self.waiting.iter().for_each(Thread::unpark);
        }
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
        // What cannot be read is not confirmed.
        let boundary = match is_pgoutput {
            true => Boundary::of_pgoutput(body)?,
            false => Boundary::of_wal2json(body)?,
        };
        if let Some(table) = Boundary::described(body).filter(|_| is_pgoutput) {
            state.described.insert(table, body.to_vec());
            state.named.insert(table);
        }
        match boundary {
            Boundary::Begin { commit, xid } => {
                let skipped = commit < state.head;
                state.open = Some(Open { commit, xid, skipped });
                state.named.clear();
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
        if self.plugin == Plugin::Pgoutput {
            for table in Boundary::tables(body) {
                if state.named.insert(table) {
                    let message = "row";
                    let Some(described) = state.described.get(&table) else {
                        let oid = table;
                        return Err(Error::Order(assemble::Error::Undescribed { message, oid }));
                    };
                    let row = row(&mut state.row, described)?;
                    self.until_space(over, |log| log.writer.change(&state.described_before, &row))?;
                }
            }
        }
        let row = row(&mut state.row, body)?;
        self.until_space(over, |log| log.writer.change(&state.as_it_came, &row))
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

    /// Does something with the log; while the disk is full, waits for space. What was given is kept meanwhile.
    fn until_space(
        &mut self,
        over: &CancellationToken,
        act: impl FnOnce(&mut Log) -> Result<(), journal::Error>,
    ) -> Result<(), Error> {
        let mut acted = act(self.log);
        let mut drain = Drain::default();
        let mut waited = false;
        while let Err(full @ journal::Error::Full { .. }) = &acted {
            if !waited {
                let reason = chain(full);
                tracing::error!(error = reason, "the disk of --data-dir is full");
                self.readiness
                    .unready(format!("the disk of --data-dir is full: {reason}"));
                waited = true;
            }
            if over.is_cancelled() {
                break;
            }
            unless_draining(self.conninfo, &mut drain)?;
            pause(FULL_PAUSE, over);
            acted = self.log.writer.flush();
        }
        if waited && acted.is_ok() {
            tracing::info!("there is space on the disk of --data-dir again");
            self.readiness.ready();
        }
        Ok(acted?)
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
