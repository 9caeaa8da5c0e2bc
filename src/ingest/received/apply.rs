//! From the received log into the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::super::confirm::{self, Pace};
use super::super::frames::StreamContext;
use super::super::incoming::Incoming;
use super::super::progress::Progress;
use super::super::upcoming::Upcoming;
use super::super::verifier::PositionVerifier;
use super::super::{Error, FINISH, Ingest, Started};
use super::{Kept, ReceivedLog, Receiving, tidy};
use crate::decode::wal2json::Translator;
use crate::decode::{Boundary, Message};
use crate::event::{Op, RowChange, Value};
use crate::journal::Journal;
use crate::log::{self, Entries, Entry, Log, LogReader, LogWriter, Piece, RetentionHold};
use crate::lsn::{Done, Lsn, Position, Start};
use crate::postgres::{Plugin, ReplicationStream};
use crate::telemetry::{chain, in_this_span};

/// The amount of the log that is read at once, in bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// The longest wait for more messages, if no notice of them comes.
const WAIT: Duration = Duration::from_millis(20);
/// The interval at which messages that were read are removed.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// Receives the stream into the log, and reads the log into the journal, until either ends. `Ok` if that was
    /// because of `stop`.
    pub(in crate::ingest) fn stream_by_log(
        &mut self,
        started: Started,
        mut log: ReceivedLog,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let Started {
            stream: ReplicationStream { mut receiver, sender },
            status_interval,
            is_utf8,
            confirmed,
            written,
            ..
        } = started;
        let journal = log.journal.clone();
        let progress = Progress::new(confirmed);
        let verifier = PositionVerifier::new(written);
        let read = AtomicU64::new(self.writer.head().0);
        let metrics = Arc::clone(&self.metrics);
        let readiness = self.readiness.clone();
        let options = Arc::clone(&self.options);
        let pace = Pace {
            interval: status_interval,
            standbys: self.standbys.clone(),
            at_once: true,
        };
        let over = stop.child_token();
        let reader = thread::current();
        let ended = thread::scope(|scope| {
            let confirming = scope.spawn(in_this_span(|| {
                confirm::run(&sender, (&progress, &verifier), &journal, &metrics, &pace)
            }));
            let confirmer = confirming.thread().clone();
            let asking = &verifier;
            let conninfo = &options.conninfo;
            let claims = &progress;
            let context = confirmer.clone();
            scope.spawn(in_this_span(move || asking.run(conninfo, claims, &context, true)));
            let receiving = Receiving {
                log: &mut log,
                plugin: options.plugin,
                context: StreamContext {
                    progress: &progress,
                    verifier: &verifier,
                    metrics: &metrics,
                    conninfo: &options.conninfo,
                },
                readiness: &readiness,
                read: &read,
                max_ahead: options.max_spool_bytes,
                waiting: [reader.clone(), confirmer.clone()],
            };
            let receiver = &mut receiver;
            let over = &over;
            let reader = &reader;
            let receiving = scope.spawn(in_this_span(move || {
                let received = receiving.run(receiver, over);
                over.cancel();
                reader.unpark();
                received
            }));
            let applied = self.apply(&journal, is_utf8, &read, over);
            over.cancel();
            let received = receiving
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            verifier.stop();
            // The last update confirms what is durable by now.
            progress.end();
            confirmer.unpark();
            // If the connection broke, reading was stopped because of that.
            (received, applied)
        });
        self.received.put_back(log);
        if let (_, Err(error)) = &ended
            && error.is_about_what_was_received()
        {
            tracing::error!(
                event = "received_log_given_up",
                error = chain(error),
                "what was received and confirmed cannot be read: it is given up"
            );
            self.received.give_up();
        }
        ended.0.and(ended.1)?;
        if let Err(error) = receiver.finish(FINISH) {
            tracing::debug!(%error, "the stream was not ended in good order");
        }
        Ok(())
    }

    /// Reads the log into the journal until `over`.
    fn apply(
        &mut self,
        log: &Journal,
        is_utf8: bool,
        read: &AtomicU64,
        over: &CancellationToken,
    ) -> Result<(), Error> {
        let head = self.writer.head();
        let damaged = |error| match error {
            // The history is held only up to the journal's end, which is compared with the slot again.
            log::Error::Expired { .. } => Error::Unreadable("it is damaged, or gone"),
            error => Error::Journal(error),
        };
        let mut reader = log.reader(Start::After(Position::after(head))).map_err(damaged)?;
        let kept = log.hold(head);
        let mut translator = (self.options.plugin == Plugin::Wal2json).then(Translator::new);
        self.tables.stream_begins();
        self.spooling = false;
        let mut incoming = Incoming::new(&self.options, is_utf8, head, &self.tables, &self.metrics);
        let mut tidied = Instant::now();
        while !over.is_cancelled() {
            if self.slot_check.take() {
                return Err(Error::Nudged);
            }
            match reader.next_blocking(BATCH_BYTES).map_err(damaged)? {
                None => thread::park_timeout(WAIT),
                Some(batch) => {
                    incoming.composites.received();
                    let mut entries = batch.entries();
                    while let Some(entry) = entries.next() {
                        match entry? {
                            Entry::Position(lsn) => incoming.passed.note(lsn, false),
                            Entry::Piece(piece) => {
                                self.apply_piece(
                                    &mut incoming,
                                    translator.as_mut(),
                                    (piece, &entries),
                                    over,
                                )?;
                            }
                        }
                        if over.is_cancelled() {
                            return Ok(());
                        }
                    }
                }
            }
            if let Some(lsn) = incoming
                .passed
                .due(Lsn(u64::MAX))
                .filter(|_| !self.writer.in_transaction())
            {
                self.until_space(over, |writer| writer.position(lsn))?;
            }
            self.flush(over)?;
            let at = reader.position();
            let reached = match at.done {
                Done::Commit => at.end.max(self.writer.head()),
                Done::Change(_) => self.writer.head(),
            };
            read.store(reached.0, Ordering::Relaxed);
            self.metrics.journaled_lsn.set(self.writer.head().0);
            self.note_progress(reached);
            if tidied.elapsed() >= TIDY_INTERVAL {
                kept.advance(self.journal.durable());
                tidy(log);
                tidied = Instant::now();
            }
            if self.tables.is_outdated(self.writer.head()) {
                return Err(Error::Renamed);
            }
        }
        Ok(())
    }

    fn apply_piece(
        &mut self,
        incoming: &mut Incoming,
        mut translator: Option<&mut Translator>,
        (piece, behind): (Piece<'_>, &Entries<'_>),
        over: &CancellationToken,
    ) -> Result<(), Error> {
        // It was checked when it was received.
        incoming.wal_end = piece.transaction.end;
        if piece.transaction.xid == 0 {
            incoming.sent_at = piece.transaction.committed_at;
        }
        let mut changes = piece.changes;
        while let Some(change) = changes.next() {
            let change = change?;
            let message = message(&change)?;
            let upcoming = Upcoming::Kept(&changes, behind);
            if let Some(translator) = &mut translator {
                self.wal2json_message(translator, incoming, message, over)?;
                continue;
            }
            let kept = Kept::of(&change.relation.table);
            let kept = kept.ok_or(Error::Unreadable("it holds messages of an unknown kind"))?;
            let is_known = Boundary::described(message)
                .is_some_and(|table| incoming.assembler.described(table).is_some());
            match kept {
                Kept::AsItCame => self.message(incoming, message, upcoming, over)?,
                Kept::DescribedBefore | Kept::PartitionBefore if is_known => {}
                Kept::DescribedBefore => self.take(incoming, Message::parse(message)?, upcoming, over)?,
                Kept::PartitionBefore => {
                    let (message, root) = message
                        .split_last_chunk()
                        .ok_or(Error::Unreadable("a partition's description has no root"))?;
                    incoming.assembler.expect_partition_of(u32::from_be_bytes(*root));
                    self.take(incoming, Message::parse(message)?, upcoming, over)?;
                }
            }
        }
        Ok(())
    }
}

/// The message that a row of the log is.
fn message<'a>(change: &RowChange<'a>) -> Result<&'a [u8], Error> {
    let value = match change.op {
        Op::Insert { new } => new.values().next(),
        _ => None,
    };
    match value {
        Some(Value::Text(message)) => Ok(message),
        _ => Err(Error::Unreadable("it holds something else than messages")),
    }
}
