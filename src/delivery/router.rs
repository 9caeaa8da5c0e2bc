//! [`Router`]: reads the journal at its head and puts each connection's frames into its outbox.
//!
//! It alone decides from which transaction on a subscription is live. A session that joins learns the router's
//! position, reads the journal up to exactly there, and goes on with its outbox.

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::handle::{ActiveSubscription, Add, Changed, Command, Handle, MAX_COMMANDS, Registration};
use super::outboxes::Outboxes;
use super::progress::Progress;
use crate::event::TableName;
use crate::log::{Entry, Log, LogReader, Piece, RetentionHold};
use crate::lsn::{Epoch, Lsn, Position, Start};
use crate::matching::{ConnectionId, Lane, SubscriptionRegistry};
use crate::telemetry::{Failures, Metrics, chain};

/// Bounds on the router.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// About how large a frame may grow, in bytes.
    pub max_frame_bytes: usize,
}

/// The amount of the journal that is read at a time, in bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// The pause before another try when the system has run out of file descriptors.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);
/// The work after which sessions and commands have their turn.
const YIELD_WORK: u64 = 1_000_000;

/// The error that made the router stop.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the journal")]
pub struct Error(#[from] crate::log::Error);

/// The router's loop and what it owns.
pub struct Router<H: Log> {
    history: H,
    registry: SubscriptionRegistry,
    outboxes: Outboxes,
    commands: mpsc::Receiver<Command>,
    /// Everything up to here was delivered; inside a large transaction it is the last change of the piece.
    at: Position,
    progress: Arc<Progress>,
    /// Pending subscriptions, whose sessions are ahead of the router: at most one of each session.
    adding: Vec<Add>,
    /// Tables whose subscriptions end, and the positions at which they do.
    gone: Vec<(Vec<(TableName, u32)>, Lsn)>,
    changed: Vec<Changed>,
    metrics: Arc<Metrics>,
    heads: watch::Receiver<Lsn>,
    /// The total work at the time when others last had their turn.
    yielded_at: u64,
    reader: H::Reader,
    /// Keeps retention from removing what the reader has not read yet.
    pin: H::Hold,
}

impl<H: Log> Router<H> {
    /// A router that starts at the current head of `history`, and the handle to it. If the history is replaced before
    /// the router runs, that is noticed like any other replacement.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn new(history: H, options: Options, metrics: Arc<Metrics>) -> Result<(Router<H>, Handle), Error> {
        let (sender, commands) = mpsc::channel(MAX_COMMANDS);
        let heads = history.head_changes();
        let Beginning {
            at,
            epoch,
            pin,
            reader,
        } = begin(&history, Log::head)?;
        let progress = Progress::new(at.end, epoch);
        let handle = Handle {
            commands: sender,
            progress: Arc::clone(&progress),
        };
        let router = Router {
            registry: SubscriptionRegistry::new(options.max_frame_bytes),
            outboxes: Outboxes::default(),
            commands,
            at,
            progress,
            adding: Vec::new(),
            gone: Vec::new(),
            changed: Vec::new(),
            metrics,
            yielded_at: 0,
            history,
            heads,
            reader,
            pin,
        };
        Ok((router, handle))
    }

    /// Delivers until `stop`.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            self.apply_waiting();
            self.heads.mark_unchanged();
            match self.reader.next(BATCH_BYTES).await {
                Ok(Some(batch)) => {
                    for entry in batch.entries() {
                        self.deliver(entry.map_err(crate::log::Error::from)?, &stop)
                            .await?;
                        if stop.is_cancelled() {
                            break;
                        }
                    }
                    self.pin.advance(self.at.end);
                    self.count();
                    // Sessions and commands get their turn between batches.
                    tokio::task::yield_now().await;
                }
                Ok(None) => tokio::select! {
                    changed = self.heads.changed() => if changed.is_err() { return Ok(()) },
                    command = self.commands.recv() => match command {
                        Some(command) => self.apply(command),
                        None => return Ok(()),
                    },
                    () = stop.cancelled() => return Ok(()),
                },
                Err(crate::log::Error::EpochChanged) => {
                    self.outboxes.end_epoch();
                    self.unsubscribe_refused();
                    // The new history may begin before the head of the old one.
                    let epoch = match begin(&self.history, Log::earliest) {
                        Err(error) if error.is_temporary() => {
                            exhausted(&error).await;
                            continue;
                        }
                        begun => {
                            let begun = begun?;
                            self.at = begun.at;
                            self.pin = begun.pin;
                            self.reader = begun.reader;
                            begun.epoch
                        }
                    };
                    self.progress.begin(self.at.end, epoch);
                }
                Err(error) if error.is_temporary() => exhausted(&error).await,
                Err(error) => return Err(error.into()),
            }
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Ends the subscriptions to tables that are gone, once everything before that was delivered.
    fn end_gone(&mut self) {
        let at = self.at.end;
        for (tables, _) in self.gone.extract_if(.., |(_, seen_at)| *seen_at <= at) {
            for (table, oid) in tables {
                self.registry.end_table(&table, oid, &mut self.outboxes);
            }
        }
        for changed in self.changed.extract_if(.., |changed| changed.seen_at <= at) {
            for relation in changed.tables {
                self.registry.end_changed(&relation, &mut self.outboxes);
            }
            // Sessions that read for themselves may be ahead.
            let _gone = changed.reply.send(at.max(self.history.head()));
        }
        self.drop_refused();
    }

    async fn deliver(&mut self, entry: Entry<'_>, stop: &CancellationToken) -> Result<(), crate::log::Error> {
        match entry {
            Entry::Position(lsn) => self.at = Position::after(lsn),
            Entry::Piece(mut piece) => loop {
                let done = self.deliver_some(&mut piece)?;
                self.at = if done {
                    piece.end_position()
                } else {
                    piece.position()
                };
                self.drop_refused();
                if self.registry.worked() - self.yielded_at > YIELD_WORK {
                    self.yielded_at = self.registry.worked();
                    // Joining and leaving clients, and a stop, wait for this long at most.
                    self.apply_waiting();
                    tokio::task::yield_now().await;
                }
                if done && piece.last {
                    let frames = self.outboxes.frames.take();
                    if self.metrics.traces.has(piece.transaction.end) {
                        self.metrics.traces.routed(piece.transaction.end, frames);
                    }
                }
                if done || stop.is_cancelled() {
                    break;
                }
            },
        }
        if self.at == Position::after(self.at.end) {
            self.progress.advance(self.at.end);
        }
        Ok(())
    }

    /// Delivers a piece, or the first part of it. True if that was all. If it panics, every session reads the piece for
    /// itself from the journal, so that only the sessions concerned by the defect end.
    fn deliver_some(&mut self, piece: &mut Piece<'_>) -> Result<bool, crate::log::Error> {
        self.registry.bound(Lane::SHARED, Instant::now());
        let deliver = AssertUnwindSafe(|| self.registry.deliver(piece, &mut self.outboxes));
        match catch_unwind(deliver) {
            Ok(delivered) => Ok(delivered?),
            Err(_) => {
                self.have_all_read();
                Ok(true)
            }
        }
    }

    /// Makes every session read for itself, from the journal, what could not be delivered.
    fn have_all_read(&mut self) {
        tracing::error!(
            event = "delivery_panicked",
            "delivering a transaction panicked: all connections read it for themselves"
        );
        self.registry.forget_all();
        self.outboxes.put_all_behind();
    }

    /// Adds the work that was done to the metrics.
    fn count(&mut self) {
        let metrics = &self.metrics;
        metrics.undecided(self.registry.take_undecided());
        self.registry
            .take_work(|table, units| metrics.match_work(&table.schema, &table.name, units));
        let before = metrics.put_apart.get();
        metrics
            .put_apart
            .inc_by(self.registry.times_put_apart().saturating_sub(before));
    }

    /// Applies the waiting commands.
    fn apply_waiting(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            self.apply(command);
        }
        self.add_reached();
        self.end_gone();
    }

    /// Stops delivering to connections that fell behind.
    fn drop_refused(&mut self) {
        self.metrics
            .fell_behind
            .inc_by(self.outboxes.refused.len() as u64);
        self.unsubscribe_refused();
    }

    /// Removes the subscriptions of connections whose outboxes take nothing more. They keep their numbers until they
    /// give up their registrations.
    fn unsubscribe_refused(&mut self) {
        while let Some(connection) = self.outboxes.refused.pop() {
            self.registry.unsubscribe_all(connection);
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Join {
                outbox,
                subscriptions,
                after,
                router,
                reply,
            } => {
                let connection = self.registry.connect();
                self.outboxes.put(connection, &outbox);
                self.open(connection, after);
                for ActiveSubscription { subscription, after } in subscriptions {
                    self.registry.subscribe(connection, &subscription, after);
                }
                // If nobody waits for the registration any more, it is dropped, and so given up.
                drop(reply.send((
                    Registration {
                        connection,
                        router,
                        outbox,
                    },
                    self.at,
                )));
            }
            Command::Add(add) => self.adding.push(add),
            Command::Remove {
                connection,
                subscription,
                reply,
            } => {
                self.registry.unsubscribe(connection, &subscription);
                let _gone = reply.send(());
            }
            Command::Gone { tables, seen_at } => self.gone.push((tables, seen_at)),
            Command::Changed(changed) => self.changed.push(changed),
            Command::List { from, reply } => drop(reply.send(self.registry.list(from))),
            Command::Leave { connection } => {
                self.adding.retain(|add| add.connection != connection);
                self.registry.disconnect(connection);
                self.outboxes.remove(connection);
            }
        }
        self.metrics.queries.set(self.registry.queries() as i64);
    }

    /// Activates pending subscriptions whose start position the router has reached. A session that fell behind, or is
    /// in another epoch, is answered too, and learns it from its outbox.
    fn add_reached(&mut self) {
        let is_early = |add: &Add| add.after > self.at && self.outboxes.has(add.connection);
        let reached: Vec<Add> = self.adding.extract_if(.., |add| !is_early(add)).collect();
        for Add {
            connection,
            subscription,
            after,
            reply,
        } in reached
        {
            self.registry.subscribe(connection, &subscription, after);
            self.open(connection, after);
            // A session that does not wait for the answer is gone, and its registration with it.
            let _gone = reply.send(self.at);
            self.metrics.queries.set(self.registry.queries() as i64);
        }
    }

    /// Notes the transaction that a session may be inside of: one that has everything up to `after` reads on up to the
    /// router's place. If that is inside a transaction, the session may send a part of it, and the router its end. A
    /// session that is ahead of the router is so by whole transactions, since the journal shows no others.
    fn open(&mut self, connection: ConnectionId, after: Position) {
        self.registry.open(connection, self.at.max(after));
    }
}

/// The reasons for which the journal could not be read lately, as far as the log was told.
static UNAVAILABLE: Mutex<Failures> = Mutex::new(Failures::new());

/// Waits, if the system has run out of file descriptors.
async fn exhausted(error: &crate::log::Error) {
    let error = chain(error);
    let noted = UNAVAILABLE.lock().note(&error, 0, Instant::now());
    if let Some(again) = noted.now {
        tracing::warn!(
            event = "journal_unavailable",
            error,
            again,
            "the journal cannot be read now"
        );
    }
    tokio::time::sleep(EXHAUSTED_PAUSE).await;
}

/// A place where reading a history begins.
struct Beginning<H: Log> {
    at: Position,
    epoch: Epoch,
    /// Keeps retention from removing what is to be read.
    pin: H::Hold,
    reader: H::Reader,
}

/// A reader of the current history at the `place` that this names, and the hold on what is to be read. If the history
/// is replaced or shortened meanwhile, it is tried again.
fn begin<H: Log>(history: &H, place: impl Fn(&H) -> Lsn) -> Result<Beginning<H>, crate::log::Error> {
    loop {
        let epoch = history.epoch();
        let lsn = place(history);
        let pin = history.hold(lsn);
        let at = Position::after(lsn);
        match history.reader(Start::After(at)) {
            Ok(reader) if history.epoch() == epoch => {
                return Ok(Beginning {
                    at,
                    epoch,
                    pin,
                    reader,
                });
            }
            Ok(_) | Err(crate::log::Error::Expired { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}
