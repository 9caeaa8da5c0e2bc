//! [`Input`] and [`Action`]: what a cursor is told, and what it has done.

use std::sync::Arc;

use super::replay::{ReadRequest, ReplayId};
use crate::delivery::{ActiveSubscription, Delivery, Found, Received, Standing};
use crate::log::SnapshotBoundary;
use crate::lsn::{Lsn, Position};
use crate::matching::Subscription;
use crate::protocol::{CloseCode, ErrorMessage, Subscribe};

/// Something that happened.
#[derive(Debug)]
pub(in crate::session) enum Input {
    /// The client subscribed under an id that it did not use.
    Subscribe(Arc<str>, Box<Subscribe>),
    /// The client unsubscribed.
    Unsubscribe(Arc<str>),
    /// The outbox has something. To be taken only while [`super::Cursor::is_registered`].
    Outbox(Received, Vec<Delivery>),
    /// The answer to [`Action::Take`].
    Taken(Option<Received>, Vec<Delivery>),
    /// The answer to [`Action::Deliver`].
    Sent(Delivered),
    /// It is time to tell the client how far it is. Everything up to `reached` was in the outbox before this.
    Tick { reached: Lsn },
    /// The answer to [`Action::Prepare`] or [`Action::ReadRows`].
    Prepared(Arc<str>, Preparation),
    /// The answer to [`Action::ReadRows`].
    Rows(Arc<str>, Rows),
    /// The answer to [`Action::Read`], and the place of the router.
    Read(Reading, Lsn),
    /// The answer to [`Action::Join`] and [`Action::Add`]: the router serves what is after `position`. Subscriptions
    /// whose tables are gone end.
    HandedOver { position: Position, gone: Vec<Delivery> },
    /// The answer to [`Action::Remove`].
    Removed,
    /// The history is another one.
    EpochChanged,
}

/// Something to be done.
#[derive(Debug)]
pub(in crate::session) enum Action {
    /// Send these as far as the client takes them.
    Deliver(Vec<Delivery>),
    /// Take what the outbox has by now.
    Take,
    /// Wait until the client has taken everything.
    Flush,
    /// Send a message.
    Send(String),
    /// Tell the client that a subscription is live from a place on.
    Live(Arc<Subscription>, Position),
    /// Tell the client that a subscription is over: nothing more of it comes, and its id is free.
    Unsubscribed(Arc<str>),
    /// Tell the client that a subscription cannot be; its id is free.
    Refuse(Arc<str>, Box<ErrorMessage>),
    /// Tell the client how far its live subscriptions are complete.
    Progress(Lsn),
    /// Tell the client that the history of all its subscriptions is over, and close.
    EndEpoch,
    /// Close, with an error before if there is one.
    Close(Option<Box<ErrorMessage>>, CloseCode),
    /// Give up the registration.
    Leave,
    /// Check a subscription.
    Prepare(Arc<str>, Box<Subscribe>),
    /// Have the next of a subscription's rows, while so many `others` wait for their turn; without a number, at once.
    ReadRows { id: Arc<str>, others: Option<usize> },
    /// Forget the rows of a subscription that is over.
    ForgetRows(Arc<str>),
    /// Read a step of a replay.
    Read(Box<ReadRequest>),
    /// Keep nothing of what a replay read: it goes on from elsewhere, or not at all.
    LetGo(ReplayId),
    /// Read no more for a subscription.
    LeaveOut(ReplayId, Arc<Subscription>),
    /// Register these, which have everything up to a place.
    Join(Vec<ActiveSubscription>, Position),
    /// Add one, which has everything up to a place, to the registration.
    Add(Arc<Subscription>, Position),
    /// Remove one from the registration.
    Remove(Arc<Subscription>),
}

/// The part of some items that a client was sent.
#[derive(Debug, Default)]
pub(in crate::session) struct Delivered {
    /// The end of the last frame that it was sent.
    pub(in crate::session) position: Option<Position>,
    /// The subscriptions whose end it was told.
    pub(in crate::session) ended: Vec<Arc<Subscription>>,
    /// It takes nothing now.
    pub(in crate::session) stalled: bool,
    /// It was not sent all.
    pub(in crate::session) is_cut: bool,
}

/// The outcome of the check of a subscription.
#[derive(Debug)]
pub(in crate::session) enum Preparation {
    /// It was unsubscribed meanwhile.
    Unneeded,
    /// It cannot be.
    Refused(Box<ErrorMessage>),
    /// Its rows are to be sent first.
    Rows,
    /// It starts after a place, of which the client is told by this message.
    From {
        subscription: Arc<Subscription>,
        start: Position,
        subscribed: String,
        /// It starts at the head: there is nothing to read.
        at_head: bool,
    },
}

/// The outcome of asking for a subscription's rows.
#[derive(Debug)]
pub(in crate::session) enum Rows {
    /// Nothing yet.
    Nothing,
    /// A message to the client.
    Message(String),
    /// They are all sent, and hold what the boundary says.
    End(Arc<Subscription>, Arc<SnapshotBoundary>),
    /// They cannot be had.
    Refused(Box<ErrorMessage>),
}

/// The outcome of a step of a replay.
#[derive(Debug)]
pub(in crate::session) enum Reading {
    /// Something was read. If it came to its end, those of its subscriptions end whose tables are gone.
    Found {
        found: Found,
        gone: Vec<Delivery>,
        standing: Standing,
    },
    /// The place to start from is not there yet.
    NotYet,
    /// There are no file descriptors: it is tried again.
    Exhausted,
    /// The journal does not hold what was to be read any more.
    Expired(Box<ErrorMessage>),
    /// It cannot be read.
    Failed(Box<ErrorMessage>),
}
