//! The stream of a connection: frames come in, records go out.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::confirm::{self, Pace};
use super::drain::Drain;
use super::frames::{Data, FrameHandler, StreamContext, take_frames, unless_draining};
use super::incoming::{Incoming, Passed};
use super::progress::Progress;
use super::upcoming::Upcoming;
use super::verifier::{PositionVerifier, check_end};
use super::{Error, FINAL_SYNC, FINISH, Ingest, Started, pause};
use crate::decode::wal2json::Translator;
use crate::decode::{Changes, Message, Part, Routed, Step};
use crate::event::Transaction;
use crate::log::{self, Log, LogWriter};
use crate::lsn::Lsn;
use crate::postgres::{Plugin, Receiver, ReplicationStream};
use crate::telemetry::{chain, in_this_span};

/// The pause before another try when the disk is full.
pub(super) const FULL_PAUSE: Duration = Duration::from_millis(500);

/// Reads one connection's messages into the journal.
struct Reading<'a, W: LogWriter, H: Log> {
    ingest: &'a mut Ingest<W, H>,
    incoming: Incoming,
    translator: Option<Translator>,
}

impl<W: LogWriter, H: Log> FrameHandler for Reading<'_, W, H> {
    fn has_room(&mut self) -> Result<bool, Error> {
        if self.ingest.slot_check.take() {
            Err(Error::Nudged)
        } else {
            Ok(true)
        }
    }

    fn received(&mut self) {
        self.incoming.composites.received();
    }

    fn take(&mut self, data: Data<'_>, stop: &CancellationToken) -> Result<(), Error> {
        let Reading {
            ingest,
            incoming,
            translator,
        } = self;
        incoming.sent_at = data.sent_at;
        incoming.wal_end = data.wal_end;
        match translator {
            None => ingest.message(incoming, data.body, Upcoming::Frames(data.ahead), stop),
            Some(translator) => ingest.wal2json_message(translator, incoming, data.body, stop),
        }
    }

    fn is_open(&self) -> bool {
        self.incoming.is_open()
    }

    fn passed(&mut self) -> &mut Passed {
        &mut self.incoming.passed
    }

    fn note_position(&mut self, lsn: Lsn, stop: &CancellationToken) -> Result<(), Error> {
        if self.ingest.writer.in_transaction() {
            Ok(())
        } else {
            self.ingest.until_space(stop, |writer| writer.position(lsn))
        }
    }

    fn flush(&mut self, stop: &CancellationToken) -> Result<Lsn, Error> {
        self.ingest.flush(stop)?;
        Ok(self.ingest.writer.head())
    }

    fn durable(&self) -> Lsn {
        self.ingest.journal.durable()
    }

    fn caught_up(&mut self, newest: Lsn) -> Result<(), Error> {
        let ingest = &mut *self.ingest;
        let head = ingest.writer.head();
        ingest.metrics.journaled_lsn.set(head.0);
        ingest.note_progress(newest);
        if ingest.tables.is_outdated(head) {
            return Err(Error::Renamed);
        }
        // In the middle of a transaction, a new start would only send it again.
        if !self.incoming.is_open() && ingest.streaming_pause.ends(Instant::now(), head) {
            return Err(Error::Streamable);
        }
        Ok(())
    }
}

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// Takes the stream into the journal until it ends. `Ok` if that was because of `stop`.
    pub(super) fn stream(&mut self, started: Started, stop: &CancellationToken) -> Result<(), Error> {
        if started.receives_first
            && let Some(log) = self.received.take()
        {
            return self.stream_by_log(started, log, stop);
        }
        let Started {
            stream: ReplicationStream { mut receiver, sender },
            status_interval,
            is_utf8,
            confirmed,
            written,
            ..
        } = started;
        let progress = Progress::new(confirmed);
        let verifier = PositionVerifier::new(written);
        let conninfo = self.options.conninfo.clone();
        let journal = self.journal.clone();
        let metrics = Arc::clone(&self.metrics);
        let pace = Pace {
            interval: status_interval,
            standbys: self.standbys.clone(),
            at_once: false,
        };
        let ended = thread::scope(|scope| {
            let confirming = scope.spawn(in_this_span(|| {
                confirm::run(&sender, (&progress, &verifier), &journal, &metrics, &pace)
            }));
            let confirmer = confirming.thread().clone();
            let asking = &verifier;
            let conninfo = &conninfo;
            let claims = &progress;
            let context = confirmer.clone();
            scope.spawn(in_this_span(move || {
                asking.run(conninfo, claims, &context, false)
            }));
            let shared = (&progress, &verifier);
            let ended = self.read(&mut receiver, is_utf8, shared, stop).and_then(|()| {
                self.flush(stop)?;
                let durable = self.journal.sync_now(FINAL_SYNC)?;
                verifier.until_shown(durable);
                Ok(())
            });
            verifier.stop();
            // The last update confirms what is durable by now.
            progress.end();
            confirmer.unpark();
            ended
        });
        self.metrics.spooled_transactions.set(0);
        self.metrics.spooled_bytes.set(0);
        ended?;
        // Otherwise the server ends its side by itself.
        if let Err(error) = receiver.finish(FINISH) {
            tracing::debug!(%error, "the stream was not ended in good order");
        }
        Ok(())
    }

    fn read(
        &mut self,
        receiver: &mut Receiver,
        is_utf8: bool,
        (progress, verifier): (&Progress, &PositionVerifier),
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.tables.stream_begins();
        self.spooling = false;
        let conninfo = self.options.conninfo.clone();
        let metrics = Arc::clone(&self.metrics);
        let head = self.writer.head();
        let mut reading = Reading {
            translator: (self.options.plugin == Plugin::Wal2json).then(Translator::new),
            incoming: Incoming::new(&self.options, is_utf8, head, &self.tables, &self.metrics),
            ingest: self,
        };
        let context = StreamContext {
            progress,
            verifier,
            metrics: &metrics,
            conninfo: &conninfo,
        };
        take_frames(receiver, &mut reading, context, stop)
    }

    /// Takes a message of pgoutput. `upcoming` are the messages after it.
    pub(super) fn message(
        &mut self,
        incoming: &mut Incoming,
        body: &[u8],
        upcoming: Upcoming<'_>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        match incoming.streams.route(body)? {
            Routed::Message(message) => return self.take(incoming, message, upcoming, stop),
            Routed::Part(part) => return self.put_aside(incoming, &part),
            // A block has ended. Until its next one, the transaction takes no memory.
            Routed::Nothing => {
                incoming.in_progress.flush().map_err(Error::Spool)?;
            }
            Routed::Commit {
                xid,
                commit: Message::Commit { end, .. },
                ..
            } if incoming.in_progress.is_doubtful(xid) => {
                return Err(Error::Doubtful { xid, end });
            }
            Routed::Commit { xid, begin, commit } => self.replay(incoming, xid, (begin, commit), stop)?,
            Routed::Abort { xid } => incoming.in_progress.forget(xid),
            Routed::AbortSub { xid, subxid } => {
                incoming
                    .in_progress
                    .roll_back(xid, subxid)
                    .map_err(Error::Spool)?;
            }
        }
        let in_progress = &incoming.in_progress;
        self.spooling = !in_progress.is_empty();
        self.metrics.spooled_transactions.set(in_progress.len() as i64);
        self.metrics.spooled_bytes.set(in_progress.bytes());
        Ok(())
    }

    /// Puts aside a part of a transaction in progress, until it commits or is rolled back.
    fn put_aside(&mut self, incoming: &mut Incoming, part: &Part<'_>) -> Result<(), Error> {
        let prefix = part.logical_prefix()?;
        if prefix.is_some_and(|prefix| !incoming.assembler.wants_messages(prefix)) {
            return Ok(());
        }
        // Descriptions of tables get a number by arrival, between the tag and the rest.
        let arrival = part
            .is_relation()
            .then(|| incoming.assembler.arrival().to_be_bytes());
        let message = [
            &[part.tag][..],
            arrival.as_ref().map_or(&[], |a| &a[..]),
            part.rest,
        ];
        let in_progress = &mut incoming.in_progress;
        self.spooling = true;
        match prefix {
            Some(_) => in_progress.append_unattributed(part.xid, &message),
            None => in_progress.append(part.xid, part.subxid, &message),
        }
        .map_err(Error::Spool)?;
        let most = self.options.max_spool_bytes;
        if in_progress.bytes() > most {
            return Err(Error::SpoolBound(most));
        }
        Ok(())
    }

    /// Takes a transaction that was put aside, and has now committed.
    fn replay(
        &mut self,
        incoming: &mut Incoming,
        xid: u32,
        (begin, commit): (Message<'_>, Message<'_>),
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.take(incoming, begin, Upcoming::Nothing, stop)?;
        incoming.assembler.enter_stream();
        if let Some(mut spooled) = incoming.in_progress.take(xid) {
            let mut described = Vec::new();
            while let Some(message) = spooled.next_message().map_err(Error::Spool)? {
                if stop.is_cancelled() {
                    // The open transaction is dropped; the server sends it again.
                    return Ok(());
                }
                let [b'R', numbered @ ..] = message else {
                    self.take(incoming, Message::parse(message)?, Upcoming::Nothing, stop)?;
                    continue;
                };
                let (arrival, rest) = numbered.split_first_chunk().unwrap_or((&[0; 8], &[]));
                let arrival = u64::from_be_bytes(*arrival);
                described.clear();
                described.push(b'R');
                described.extend_from_slice(rest);
                if let Message::Relation(relation) = Message::parse(&described)? {
                    incoming.assembler.describe(relation.clone(), arrival);
                    self.learn_relation(incoming, &relation, Upcoming::Spooled(&spooled), stop)?;
                }
            }
        }
        incoming.assembler.leave_stream();
        self.metrics.transactions_streamed.inc();
        self.take(incoming, commit, Upcoming::Nothing, stop)
    }

    /// Takes a message of a transaction, or one between transactions, into the journal.
    pub(super) fn take(
        &mut self,
        incoming: &mut Incoming,
        message: Message<'_>,
        upcoming: Upcoming<'_>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let begins = matches!(message, Message::Begin { .. });
        let Incoming {
            assembler,
            counts,
            composites,
            trimmer,
            passed,
            visible,
            sent_at,
            wal_end,
            ..
        } = incoming;
        let xid = assembler.open_xid();
        let commit = assembler.open_commit();
        let mut append = |ingest: &mut Self, changes: Changes<'_>| {
            for change in changes {
                if counts.count(&change) && change.relation.logging.partitioned {
                    ingest.tables.read_by(change.relation);
                }
                let relation = if composites.are_to_ask(&change) {
                    ingest.until_visible(visible, xid, stop)?;
                    let note = |learnt| ingest.note_learnt(learnt, stop);
                    composites.ask(&change, visible.renewed(), commit, note)?
                } else {
                    composites.known(&change, commit)
                };
                match trimmer.cut(relation, &change.op) {
                    None => ingest.until_space(stop, |writer| writer.change(relation, &change.op))?,
                    Some(rest) => {
                        ingest.metrics.oversize_changes.inc();
                        ingest.until_space(stop, |writer| writer.oversize_change(relation, &rest))?;
                    }
                }
            }
            Ok::<(), Error>(())
        };
        let transaction = match assembler.push(message)? {
            Step::Nothing if begins => return self.ask_unsettled(incoming, stop),
            Step::Nothing => return Ok(()),
            Step::Relation(described) => return self.learn_relation(incoming, &described, upcoming, stop),
            Step::Changes(changes) => return append(self, changes),
            Step::Alone { changes, at } => {
                check_end(at, at, *wal_end)?;
                append(self, changes)?;
                Transaction {
                    xid: 0,
                    commit: at,
                    end: at,
                    committed_at: *sent_at,
                }
            }
            Step::Skipped(_) => {
                self.metrics.transactions_deduplicated.inc();
                return Ok(());
            }
            // A transaction of nothing but logical messages, or changes of unpublished tables.
            Step::Commit {
                transaction,
                changes: 0,
            } => {
                check_end(transaction.commit, transaction.end, *wal_end)?;
                passed.note(transaction.end, false);
                return Ok(());
            }
            Step::Commit { transaction, .. } => {
                check_end(transaction.commit, transaction.end, *wal_end)?;
                transaction
            }
        };
        if transaction.xid != 0 && self.pending_visibility.note(transaction.end, transaction.xid) {
            self.pending_visibility.forget(&self.tables.snapshot()?);
        }
        self.until_space(stop, |writer| writer.commit(&transaction))?;
        self.metrics.traces.committed(&transaction);
        self.metrics.transactions.inc();
        Ok(())
    }

    /// Makes what was gathered visible.
    pub(super) fn flush(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        self.gather_found()?;
        self.until_space(stop, W::flush)?;
        self.metrics.traces.journaled(self.writer.head());
        Ok(())
    }

    /// Runs an operation of the journal's writer, and waits for space while the disk is full.
    pub(super) fn until_space(
        &mut self,
        stop: &CancellationToken,
        act: impl FnOnce(&mut W) -> Result<(), log::Error>,
    ) -> Result<(), Error> {
        let acted = act(&mut self.writer);
        self.wait_for_space(stop, acted, W::flush)
    }

    /// Waits and tries again while the disk is full. Nothing is lost meanwhile: the writer keeps what it has, the
    /// server keeps the rest and is sent status updates. It does not wait for space that transactions in progress take,
    /// since these have to go first.
    fn wait_for_space(
        &mut self,
        stop: &CancellationToken,
        mut acted: Result<(), log::Error>,
        mut again: impl FnMut(&mut W) -> Result<(), log::Error>,
    ) -> Result<(), Error> {
        let mut waited = false;
        let mut drain = Drain::default();
        while let Err(full @ log::Error::Full { .. }) = &acted {
            if self.spooling {
                return Err(Error::SpaceTaken(full.clone()));
            }
            if !waited {
                let reason = chain(full);
                let what = if full.is_exhaustion() {
                    let what = "the system has run out of file descriptors";
                    tracing::error!(event = "descriptors_exhausted", error = reason, "{what}");
                    what
                } else {
                    let what = "the journal's disk is full";
                    tracing::error!(event = "disk_full", error = reason, "{what}");
                    what
                };
                self.readiness.unready(format!("{what}: {reason}"));
                waited = true;
            }
            if stop.is_cancelled() {
                break;
            }
            if self.slot_check.take() {
                return Err(Error::Nudged);
            }
            unless_draining(&self.options.conninfo, &mut drain)?;
            pause(FULL_PAUSE, stop);
            acted = again(&mut self.writer);
        }
        if waited && acted.is_ok() {
            tracing::info!(event = "writing_resumed", "there is space for the journal again");
            self.readiness.ready();
        }
        Ok(acted?)
    }
}
