//! [`Handle`]: the sessions' way to the router, and the commands that go by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::outbox::Outbox;
use crate::event::{Relation, TableName};
use crate::lsn::{Lsn, Position};
use crate::matching::{ConnectionId, Subscription};

/// Commands that may wait for the router; beyond it sessions wait.
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
    Changed {
        tables: Vec<Arc<Relation>>,
        seen_at: Lsn,
    },
}

/// A subscription to be added to a connection.
#[derive(Debug)]
pub(super) struct Add {
    pub(super) connection: ConnectionId,
    pub(super) subscription: Arc<Subscription>,
    pub(super) after: Position,
    pub(super) reply: oneshot::Sender<Position>,
}

/// A subscription and what it has already.
#[derive(Clone, Debug)]
pub struct ActiveSubscription {
    /// The subscription.
    pub subscription: Arc<Subscription>,
    /// Changes at or before this are not sent: it has them, or they lie before its start.
    pub after: Position,
}

impl ActiveSubscription {
    /// True if one of these is to be served apart: it has a query that takes long.
    pub fn any_is_apart(subscriptions: &[ActiveSubscription], now: Instant) -> bool {
        let mut queries = subscriptions.iter().map(|placed| &placed.subscription.query);
        queries.any(|query| query.meter.is_apart(now))
    }
}

/// A connection's place at the router, given up when it is dropped.
#[derive(Debug)]
pub struct Registration {
    pub(super) connection: ConnectionId,
    pub(super) router: Handle,
    /// The queue of what the router has for the connection.
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
    pub(super) position: Arc<AtomicU64>,
}

impl Handle {
    /// Every transaction up to here is in the outboxes that it concerns.
    pub fn position(&self) -> Lsn {
        Lsn(self.position.load(Ordering::Acquire))
    }

    /// Takes a registration with an outbox of `outbox_bytes` for `subscriptions`, and says from where on they get
    /// everything by it. A session that has everything up to `after` reads the rest up to there from the journal.
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

    /// Adds a subscription to a connection, and says from where on it gets everything: `after` or further on. A
    /// session that has everything of it up to `after` reads the rest up to there from the journal; by then the
    /// connection's outbox had everything else up to there.
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

    /// Ends the subscriptions that need columns which are not what they were told: tables were found to have these
    /// versions when the server had written up to `seen_at`. Everything up to there is delivered before.
    pub async fn end_changed(&self, tables: Vec<Arc<Relation>>, seen_at: Lsn) -> Result<(), Stopped> {
        self.send(Command::Changed { tables, seen_at }).await
    }

    /// Removes a connection. Never waits: where the router is busy, a task of its own sees to it.
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
