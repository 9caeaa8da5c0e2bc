//! One connection's stream: frames in, records out.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::confirm::{self, Pace, Progress};
use super::drain::Drain;
use super::incoming::Incoming;
use super::witness::{Witness, check_end};
use super::{Error, FINAL_SYNC, FINISH, Ingest, Started, pause};
use crate::decode::wal2json::Translator;
use crate::decode::{Changes, Message, Part, Routed, Step};
use crate::event::{StreamRelation, Transaction};
use crate::journal::{self, Append, History};
use crate::postgres::{
    ConnInfo, Connection, Filled, Frame, Plugin, Purpose, Receiver, ReplicationStream, ServerError,
};
use crate::telemetry::chain;

/// How long one read waits for something to come; also how soon a stop is noticed.
pub(super) const FILL_TIMEOUT: Duration = Duration::from_millis(50);
/// How long to wait for space on a full disk before it is tried again.
pub(super) const FULL_PAUSE: Duration = Duration::from_millis(500);

/// Whether the server says, as it does from version 18 on where it failed before, that it leaves out a publication which
/// is not there: changes are missing from here on. By its code, since the words are in the server's language.
pub(super) fn is_passing_over(notice: &ServerError) -> bool {
    (notice.severity.as_str(), notice.code.as_str()) == ("WARNING", "55000")
}

/// Lets a server go that shuts down and has waited for the journal for long enough: it tells whoever connects.
pub(super) fn unless_draining(conninfo: &ConnInfo, drain: &mut Drain) -> Result<(), Error> {
    if !drain.is_due(Instant::now()) {
        return Ok(());
    }
    match Connection::connect(conninfo, Purpose::Query) {
        Err(error) if error.cannot_connect_now() => Err(Error::Undrained),
        _ => Ok(()),
    }
}

impl<W: Append, H: History> Ingest<W, H> {
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
        let (progress, witness) = (Progress::new(confirmed), Witness::new(written));
        let conninfo = self.options.conninfo.clone();
        let (journal, metrics) = (self.journal.clone(), Arc::clone(&self.metrics));
        let pace = Pace {
            interval: status_interval,
            standbys: self.options.standbys.clone(),
            at_once: false,
        };
        let ended = thread::scope(|scope| {
            let confirming =
                scope.spawn(|| confirm::run(&sender, (&progress, &witness), &journal, &metrics, &pace));
            let confirmer = confirming.thread().clone();
            let (asking, conninfo, claims, heard) = (&witness, &conninfo, &progress, confirmer.clone());
            scope.spawn(move || asking.run(conninfo, claims, &heard, false));
            let shared = (&progress, &witness);
            let ended = self.read(&mut receiver, is_utf8, shared, stop).and_then(|()| {
                self.flush(stop)?;
                let durable = self.journal.sync_now(FINAL_SYNC)?;
                witness.until_shown(durable);
                Ok(())
            });
            witness.stop();
            // What is durable by now is confirmed with the last update.
            progress.end();
            confirmer.unpark();
            ended
        });
        self.metrics.spooled_transactions.set(0);
        self.metrics.spooled_bytes.set(0);
        ended?;
        // The server ends its side by itself if it does not see the end of ours.
        if let Err(error) = receiver.finish(FINISH) {
            tracing::debug!(%error, "the stream was not ended in good order");
        }
        Ok(())
    }

    fn read(
        &mut self,
        receiver: &mut Receiver,
        is_utf8: bool,
        (progress, witness): (&Progress, &Witness),
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut translator = (self.options.plugin == Plugin::Wal2json).then(Translator::new);
        self.tables.stream_begins();
        let head = self.writer.head();
        self.spooling = false;
        let mut incoming = Incoming::new(&self.options, is_utf8, head, &self.tables, &self.metrics);
        while !stop.is_cancelled() {
            if self.options.nudge.take() {
                return Err(Error::Nudged);
            }
            if let Filled::Bytes(bytes) = receiver.fill(FILL_TIMEOUT)? {
                self.metrics.replication_received_bytes.inc_by(bytes as u64);
                incoming.composites.received();
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
                        progress.received(wal_end);
                        incoming.drain.goes_on();
                        (incoming.sent_at, incoming.wal_end) = (sent_at, wal_end);
                        match &mut translator {
                            None => self.message(&mut incoming, body, stop)?,
                            Some(translator) => {
                                self.wal2json_message(translator, &mut incoming, body, stop)?;
                            }
                        }
                    }
                    Frame::Keepalive {
                        wal_end,
                        reply_requested,
                        ..
                    } => {
                        progress.received(wal_end);
                        witness.said(wal_end);
                        asked |= reply_requested;
                        if self.journal.durable() >= wal_end {
                            incoming.drain.goes_on();
                        } else if reply_requested {
                            unless_draining(&self.options.conninfo, &mut incoming.drain)?;
                        }
                        // Inside a transaction the server's position says nothing of what we have whole.
                        if !incoming.is_open() {
                            incoming.passed.note(wal_end, reply_requested);
                        }
                    }
                    Frame::Notice(notice) if is_passing_over(&notice) => {
                        return Err(Error::PassedOver(notice));
                    }
                    Frame::Notice(notice) => tracing::warn!(%notice, "the server says"),
                    Frame::End => return Err(Error::ServerShutdown),
                }
            }
            witness.check()?;
            let passed = incoming.passed.due(witness.shown());
            if let Some(lsn) = passed.filter(|_| !self.writer.in_transaction()) {
                self.until_space(stop, |writer| writer.position(lsn))?;
            }
            self.flush(stop)?;
            witness.holds(self.writer.head());
            witness.wake(progress);
            self.metrics.received_lsn.set(progress.newest().0);
            self.metrics.journaled_lsn.set(self.writer.head().0);
            self.note_progress(progress.newest());
            if asked {
                progress.request_reply();
            }
            if self.tables.is_outdated(self.writer.head()) {
                return Err(Error::Renamed);
            }
        }
        Ok(())
    }

    pub(super) fn message(
        &mut self,
        incoming: &mut Incoming,
        body: &[u8],
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        match incoming.streams.route(body)? {
            Routed::Message(message) => return self.take(incoming, message, stop),
            Routed::Part(part) => return self.put_aside(incoming, &part),
            // A block has ended: until its next one, a transaction takes no memory.
            Routed::Nothing => {
                incoming.spools.flush().map_err(Error::Spool)?;
            }
            Routed::Commit { xid, .. } if incoming.spools.is_doubtful(xid) => {
                return Err(Error::Doubtful(xid));
            }
            Routed::Commit { xid, begin, commit } => self.replay(incoming, xid, (begin, commit), stop)?,
            Routed::Abort { xid } => incoming.spools.forget(xid),
            Routed::AbortSub { xid, subxid } => {
                incoming.spools.roll_back(xid, subxid).map_err(Error::Spool)?;
            }
        }
        let spools = &incoming.spools;
        self.spooling = !spools.is_empty();
        self.metrics.spooled_transactions.set(spools.len() as i64);
        self.metrics.spooled_bytes.set(spools.bytes());
        Ok(())
    }

    /// Keeps a part of a running transaction until it is known whether that commits.
    fn put_aside(&mut self, incoming: &mut Incoming, part: &Part<'_>) -> Result<(), Error> {
        let prefix = part.logical_prefix()?;
        if prefix.is_some_and(|prefix| !incoming.assembler.wants_messages(prefix)) {
            return Ok(());
        }
        // Descriptions of tables are numbered as they come, between the tag and the rest.
        let arrival = part
            .is_relation()
            .then(|| incoming.assembler.arrival().to_be_bytes());
        let message = [
            &[part.tag][..],
            arrival.as_ref().map_or(&[], |a| &a[..]),
            part.rest,
        ];
        let spools = &mut incoming.spools;
        self.spooling = true;
        match prefix {
            Some(_) => spools.append_unattributed(part.xid, &message),
            None => spools.append(part.xid, part.subxid, &message),
        }
        .map_err(Error::Spool)?;
        let most = self.options.max_spool_bytes;
        if spools.bytes() > most {
            return Err(Error::SpoolBound(most));
        }
        Ok(())
    }

    /// Takes a transaction that was put aside and has committed now.
    fn replay(
        &mut self,
        incoming: &mut Incoming,
        xid: u32,
        (begin, commit): (Message<'_>, Message<'_>),
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.take(incoming, begin, stop)?;
        incoming.assembler.enter_stream();
        if let Some(mut spooled) = incoming.spools.take(xid) {
            let mut described = Vec::new();
            while let Some(message) = spooled.next_message().map_err(Error::Spool)? {
                if stop.is_cancelled() {
                    // The open transaction is forgotten; the server sends it again.
                    return Ok(());
                }
                let [b'R', numbered @ ..] = message else {
                    self.take(incoming, Message::parse(message)?, stop)?;
                    continue;
                };
                let (arrival, rest) = numbered.split_first_chunk().unwrap_or((&[0; 8], &[]));
                described.clear();
                described.push(b'R');
                described.extend_from_slice(rest);
                if let Message::Relation(relation) = Message::parse(&described)? {
                    let arrival = u64::from_be_bytes(*arrival);
                    incoming.assembler.describe(relation.clone(), arrival);
                    self.learn(incoming, &relation, stop)?;
                }
            }
        }
        incoming.assembler.leave_stream();
        self.metrics.transactions_streamed.inc();
        self.take(incoming, commit, stop)
    }

    /// Takes a message of a transaction, or one between transactions, into the journal.
    pub(super) fn take(
        &mut self,
        incoming: &mut Incoming,
        message: Message<'_>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let begins = matches!(message, Message::Begin { .. });
        let Incoming {
            assembler,
            counts,
            composites,
            cutter,
            passed,
            visible,
            sent_at,
            wal_end,
            ..
        } = incoming;
        let (xid, commit) = (assembler.open_xid(), assembler.open_commit());
        let mut append = |ingest: &mut Self, changes: Changes<'_>| {
            for change in changes {
                if counts.count(&change) && change.relation.logging.partitioned {
                    ingest.tables.read_by(change.relation);
                }
                let relation = match composites.are_to_ask(&change) {
                    false => composites.known(&change, commit),
                    true => {
                        ingest.until_visible(visible, xid, stop)?;
                        composites.ask(&change, visible.renewed(), commit)?
                    }
                };
                match cutter.cut(relation, &change.op) {
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
            Step::Nothing if begins => return self.ask_unsettled(incoming),
            Step::Nothing => return Ok(()),
            Step::Relation(described) => return self.learn(incoming, &described, stop),
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
            // Nothing but logical messages, or changes of tables that are not published.
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
        if transaction.xid != 0 && self.unseen.note(transaction.end, transaction.xid) {
            self.unseen.forget(&self.tables.snapshot()?);
        }
        self.until_space(stop, |writer| writer.commit(&transaction))?;
        self.metrics.transactions.inc();
        Ok(())
    }

    /// Asks the catalogs for the rest of a table's description.
    fn learn(
        &mut self,
        incoming: &mut Incoming,
        described: &StreamRelation,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let Incoming {
            assembler,
            visible,
            unsettled,
            ..
        } = incoming;
        self.until_visible(visible, assembler.open_xid(), stop)?;
        let (epoch, head) = (self.journal.epoch(), self.writer.head());
        let relation = self
            .tables
            .describe(described, &epoch, head, assembler.open_commit())?;
        tracing::debug!(table = %relation.table, "a table was described");
        unsettled.note(&relation, &self.tables);
        assembler.learn(relation)?;
        // What was learned of all partitions is older than what is described of this one.
        if let Some(root) = assembler.outdated_root(described.oid).cloned() {
            let relation = self.tables.describe_root(&root, assembler.open_commit())?;
            unsettled.note(&relation, &self.tables);
            assembler.learn(relation)?;
        }
        Ok(())
    }

    /// Asks once more for tables of which it could not be told which columns their rows had: those of the transaction
    /// that begins surely have the columns that the catalogs had before it, unless the stream says otherwise.
    fn ask_unsettled(&self, incoming: &mut Incoming) -> Result<(), Error> {
        let Incoming {
            assembler, unsettled, ..
        } = incoming;
        let commit = assembler.open_commit();
        for oid in unsettled.due(commit) {
            let Some(described) = assembler.described(oid).cloned() else {
                continue;
            };
            let relation = self.tables.describe_again(&described, commit)?;
            unsettled.note(&relation, &self.tables);
            assembler.learn(relation)?;
        }
        Ok(())
    }

    /// Makes what was gathered visible.
    pub(super) fn flush(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        self.until_space(stop, W::flush)
    }

    /// Does something with the journal's writer; while the disk is full, waits for space.
    pub(super) fn until_space(
        &mut self,
        stop: &CancellationToken,
        act: impl FnOnce(&mut W) -> Result<(), journal::Error>,
    ) -> Result<(), Error> {
        let acted = act(&mut self.writer);
        self.wait_for_space(stop, acted, W::flush)
    }

    /// While the disk is full, waits and tries again. Nothing is lost meanwhile: what was given is kept, the server keeps
    /// the rest, and hears from us. It does not wait for space that running transactions take: they are to go first.
    fn wait_for_space(
        &mut self,
        stop: &CancellationToken,
        mut acted: Result<(), journal::Error>,
        mut again: impl FnMut(&mut W) -> Result<(), journal::Error>,
    ) -> Result<(), Error> {
        let mut waited = false;
        let mut drain = Drain::default();
        while let Err(full @ journal::Error::Full { .. }) = &acted {
            if self.spooling {
                return Err(Error::SpaceTaken(full.clone()));
            }
            if !waited {
                let reason = chain(full);
                let what = match full.is_exhaustion() {
                    true => "the system has run out of file descriptors",
                    false => "the journal's disk is full",
                };
                tracing::error!(error = reason, "{what}");
                self.readiness.unready(format!("{what}: {reason}"));
                waited = true;
            }
            if stop.is_cancelled() {
                break;
            }
            if self.options.nudge.take() {
                return Err(Error::Nudged);
            }
            unless_draining(&self.options.conninfo, &mut drain)?;
            pause(FULL_PAUSE, stop);
            acted = again(&mut self.writer);
        }
        if waited && acted.is_ok() {
            tracing::info!("there is space for the journal again");
            self.readiness.ready();
        }
        Ok(acted?)
    }
}
