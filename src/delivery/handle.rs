//! [`Handle`]: the sessions' way to the router, and the commands that go by it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::outbox::Outbox;
use super::progress::Progress;
use crate::event::{Relation, TableName};
use crate::log::Log;
use crate::lsn::{Epoch, Lsn, Position};
use crate::matching::{ConnectionId, QueryListing, QueryPlace, Subscription};

/// The most commands that may wait for the router. Beyond that, sessions wait.
pub(super) const MAX_COMMANDS: usize = 1024;

/// A request of a session, or of maintenance, to the router.
#[derive(Debug)]
pub(super) enum Command {
    Join {
        outbox: Arc<Outbox>,
        subscriptions: Vec<ActiveSubscription>,
        after: Position,
        router: Handle,
        reply: oneshot::Sender<(Registration, Position)>,
    },
    Add(Add),
    Remove {
        connection: ConnectionId,
        subscription: Arc<Subscription>,
        reply: oneshot::Sender<()>,
    },
    Leave {
        connection: ConnectionId,
    },
    Gone {
        tables: Vec<(TableName, u32)>,
        seen_at: Lsn,
    },
    Changed(Changed),
    List {
        from: QueryPlace,
        reply: oneshot::Sender<QueryListing>,
    },
}

/// Tables with other columns than before.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) tables: Vec<Arc<Relation>>,
    /// The position at which that was found.
    pub(super) seen_at: Lsn,
    /// Gets the end of everything that was delivered before the subscriptions ended.
    pub(super) reply: oneshot::Sender<Lsn>,
}

/// A subscription to be added to a connection.
#[derive(Debug)]
pub(super) struct Add {
    pub(super) connection: ConnectionId,
    pub(super) subscription: Arc<Subscription>,
    pub(super) after: Position,
    pub(super) reply: oneshot::Sender<Position>,
}

/// A subscription, and the place up to which it already has everything.
#[derive(Clone, Debug)]
pub struct ActiveSubscription {
    /// The subscription.
    pub subscription: Arc<Subscription>,
    /// Changes at or before this place are not sent: the client has them, or they lie before its start.
    pub after: Position,
}

impl ActiveSubscription {
    /// True if one of these is to be served apart, since its query takes long.
    pub fn any_is_apart(subscriptions: &[ActiveSubscription], now: Instant) -> bool {
        let mut queries = subscriptions.iter().map(|placed| &placed.subscription.query);
        queries.any(|query| query.meter.is_apart(now))
    }

    /// True if one of these is to be served apart, or if all of them together took more than `much` in the last seconds.
    pub(super) fn take_much(subscriptions: &[ActiveSubscription], much: u64, now: Instant) -> bool {
        let mut taken: u64 = 0;
        subscriptions.iter().any(|placed| {
            let (is_apart, recent) = placed.subscription.query.meter.lately(now);
            taken = taken.saturating_add(recent);
            is_apart || taken > much
        })
    }
}

/// A connection's registration at the router, which is given up on drop.
#[derive(Debug)]
pub struct Registration {
    pub(super) connection: ConnectionId,
    pub(super) router: Handle,
    /// The router's queue for the connection.
    pub outbox: Arc<Outbox>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.router.leave(self.connection);
    }
}

/// The router is gone: walcast is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the router has stopped")]
pub struct Stopped;

/// The sessions' way to the router. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) progress: Arc<Progress>,
}

impl Handle {
    /// The position up to which every transaction is in the outboxes.
    pub fn position(&self) -> Lsn {
        self.progress.position()
    }

    /// Waits until [`position`](Handle::position) is `lsn` or later, or a new epoch has begun.
    pub async fn reached(&self, lsn: Lsn) {
        self.progress.reached(lsn).await;
    }

    /// Waits until the router delivers the current history, and returns its epoch. A session that began before that would
    /// be taken for one of the old history.
    pub async fn current_epoch<H: Log>(&self, history: &H) -> Epoch {
        let mut delivered = self.progress.epoch();
        loop {
            let current = history.epoch();
            if *delivered.borrow_and_update() == current {
                return current;
            }
            if delivered.changed().await.is_err() {
                // Never, since the handle has the sender.
                return current;
            }
        }
    }

    /// Registers a connection with `subscriptions` and an outbox of `outbox_bytes`, and returns the position from which
    /// on they get everything by it. A session that has everything up to `after` reads the rest, up to that position,
    /// from the journal.
    pub async fn join(
        &self,
        outbox_bytes: usize,
        subscriptions: Vec<ActiveSubscription>,
        after: Position,
    ) -> Result<(Registration, Position), Stopped> {
        let (reply, joined) = oneshot::channel();
        let outbox = Outbox::new(outbox_bytes);
        let router = self.clone();
        self.send(Command::Join {
            outbox,
            subscriptions,
            after,
            router,
            reply,
        })
        .await?;
        joined.await.map_err(|_| Stopped)
    }

    /// Adds a subscription to a connection, and returns the position from which on it gets everything: `after` or
    /// later. A session that has everything of it up to `after` reads the rest, up to that position, from the journal.
    /// By then everything else up to that position has been in the connection's outbox.
    pub async fn add(
        &self,
        registration: &Registration,
        subscription: &Arc<Subscription>,
        after: Position,
    ) -> Result<Position, Stopped> {
        let (reply, added) = oneshot::channel();
        let connection = registration.connection;
        let subscription = Arc::clone(subscription);
        self.send(Command::Add(Add {
            connection,
            subscription,
            after,
            reply,
        }))
        .await?;
        added.await.map_err(|_| Stopped)
    }

    /// Removes a subscription; once this returns, nothing more of it comes into the outbox.
    pub async fn remove(
        &self,
        registration: &Registration,
        subscription: &Arc<Subscription>,
    ) -> Result<(), Stopped> {
        let (reply, removed) = oneshot::channel();
        let connection = registration.connection;
        let subscription = Arc::clone(subscription);
        self.send(Command::Remove {
            connection,
            subscription,
            reply,
        })
        .await?;
        removed.await.map_err(|_| Stopped)
    }

    /// Ends the subscriptions to tables, by name and OID, that were found gone when the server had written up to
    /// `seen_at`, once everything up to there is delivered.
    pub async fn end_tables(&self, tables: Vec<(TableName, u32)>, seen_at: Lsn) -> Result<(), Stopped> {
        self.send(Command::Gone { tables, seen_at }).await
    }

    /// Ends the subscriptions that need columns which differ from those that they were told: tables were found to have
    /// these versions when the server had written up to `seen_at`. Everything up to there is delivered before. What this
    /// returns gets the end of everything that was delivered before, once they are ended.
    pub async fn end_changed(
        &self,
        tables: Vec<Arc<Relation>>,
        seen_at: Lsn,
    ) -> Result<oneshot::Receiver<Lsn>, Stopped> {
        let (reply, told) = oneshot::channel();
        let changed = Changed {
            tables,
            seen_at,
            reply,
        };
        self.send(Command::Changed(changed)).await?;
        Ok(told)
    }

    /// The queries from a place on, as [`SubscriptionRegistry::list`](crate::matching::SubscriptionRegistry::list) has
    /// them.
    pub async fn list(&self, from: QueryPlace) -> Result<QueryListing, Stopped> {
        let (reply, listed) = oneshot::channel();
        self.send(Command::List { from, reply }).await?;
        listed.await.map_err(|_| Stopped)
    }

    /// Removes a connection. Never waits: if the router is busy, a spawned task does it.
    fn leave(&self, connection: ConnectionId) {
        if let Err(mpsc::error::TrySendError::Full(command)) =
            self.commands.try_send(Command::Leave { connection })
        {
            let commands = self.commands.clone();
            // Should the router stop meanwhile, there is nothing left to leave.
            tokio::spawn(async move { drop(commands.send(command).await) });
        }
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }
}
