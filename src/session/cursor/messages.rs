//! [`Input`] and [`Action`]: the events that a cursor handles, and the actions that it asks for.

use std::sync::Arc;

use super::replay::{ReadRequest, ReplayId};
use crate::delivery::{ActiveSubscription, Delivery, Received, ReplayOutput, Standing};
use crate::log::SnapshotBoundary;
use crate::lsn::{Lsn, Position};
use crate::matching::Subscription;
use crate::protocol::{CloseCode, ErrorMessage, Reference, Subscribe};

/// An event.
#[derive(Debug)]
pub(in crate::session) enum Input {
    /// The client subscribed under an unused id.
    Subscribe(Arc<str>, Box<Subscribe>),
    /// The client unsubscribed.
    Unsubscribe(Arc<str>),
    /// The client may no longer see what some of its subscriptions show. Each of these is unsubscribed next, and the
    /// outbox has been emptied.
    Discard,
    /// The contents of the outbox, which are taken only while [`super::Cursor::is_registered`].
    Outbox(Received, Vec<Delivery>),
    /// The answer to [`Action::Take`].
    Taken(Option<Received>, Vec<Delivery>),
    /// The answer to [`Action::Deliver`].
    Sent(Delivered),
    /// It is time for a progress message. Everything up to `reached` was in the outbox before this.
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
    /// A new epoch has begun.
    EpochChanged,
    /// The client asks for a pong once everything that it has asked for is complete up to a place.
    Reach(Position, Option<Reference>),
    /// A place that is [awaited](super::Cursor::is_due) has come: everything up to `reached` was in the outbox before
    /// this.
    Reached(Lsn),
    /// The database has not written as much as a place that pings wait for.
    Unreachable(Lsn, Box<ErrorMessage>),
}

/// Something for the session to do.
#[derive(Debug)]
pub(in crate::session) enum Action {
    /// Send these items, unless the client stalls.
    Deliver(Vec<Delivery>),
    /// Take the contents of the outbox.
    Take,
    /// Wait until the client has taken everything.
    Flush,
    /// Send a message.
    Send(String),
    /// Tell the client that a subscription is live from a place on.
    Live(Arc<Subscription>, Position),
    /// Tell the client that a subscription is over: nothing more of it comes, and its id is free.
    Unsubscribed(Arc<str>),
    /// Tell the client that a subscription is refused; its id is free.
    Refuse(Arc<str>, Box<ErrorMessage>),
    /// Tell the client how far its live subscriptions are complete.
    Progress(Lsn),
    /// Tell the client that everything it had asked for by then is complete up to a place.
    Pong(Option<Reference>, Position),
    /// Tell the client that a ping cannot be answered.
    RefusePing(Box<ErrorMessage>),
    /// Tell the client that the history of all its subscriptions is over, and close.
    EndEpoch,
    /// Close, with an error before if there is one.
    Close(Option<Box<ErrorMessage>>, CloseCode),
    /// Give up the registration.
    Leave,
    /// Check a subscription.
    Prepare(Arc<str>, Box<Subscribe>),
    /// Read the next of a subscription's rows. So many `others` wait for their turn meanwhile; `None` if something more
    /// urgent does.
    ReadRows { id: Arc<str>, others: Option<usize> },
    /// Forget the rows of a subscription that is over.
    ForgetRows(Arc<str>),
    /// Read a step of a replay.
    Read(Box<ReadRequest>),
    /// Drop a replay's cursor: it continues from elsewhere, or not at all.
    LetGo(ReplayId),
    /// Stop reading for one subscription of a replay.
    LeaveOut(ReplayId, Arc<Subscription>),
    /// Register subscriptions whose client has everything up to a place.
    Join(Vec<ActiveSubscription>, Position),
    /// Add a subscription, whose client has everything up to a place, to the registration.
    Add(Arc<Subscription>, Position),
    /// Remove a subscription from the registration.
    Remove(Arc<Subscription>),
}

/// The part of some items that was sent.
#[derive(Debug, Default)]
pub(in crate::session) struct Delivered {
    /// The position of the last frame that was sent.
    pub(in crate::session) position: Option<Position>,
    /// The subscriptions whose end was sent.
    pub(in crate::session) ended: Vec<Arc<Subscription>>,
    /// The client takes nothing now.
    pub(in crate::session) stalled: bool,
    /// Some items were not sent.
    pub(in crate::session) is_cut: bool,
}

/// The outcome of the check of a subscription.
#[derive(Debug)]
pub(in crate::session) enum Preparation {
    /// It was unsubscribed in the meantime.
    Unneeded,
    /// It is refused.
    Refused(Box<ErrorMessage>),
    /// Its rows are to be sent first.
    Rows,
    /// It starts after a place, which this message tells the client.
    From {
        subscription: Arc<Subscription>,
        start: Position,
        subscribed: String,
        /// It starts at the head: there is nothing to read.
        at_head: bool,
    },
}

/// The outcome of reading a subscription's rows.
#[derive(Debug)]
pub(in crate::session) enum Rows {
    /// Nothing yet.
    Nothing,
    /// A message to the client.
    Message(String),
    /// All were sent. The boundary says which transactions they hold.
    End(Arc<Subscription>, Arc<SnapshotBoundary>),
    /// They cannot be read.
    Refused(Box<ErrorMessage>),
}

/// The outcome of a step of a replay.
#[derive(Debug)]
pub(in crate::session) enum Reading {
    /// Something was read. `gone` has the ends of subscriptions whose tables are gone, if the step reached its end, or have
    /// other columns now.
    Found {
        found: ReplayOutput,
        gone: Vec<Delivery>,
        standing: Standing,
    },
    /// The history has not reached the start yet.
    NotYet,
    /// No file descriptor was free: the step is tried again.
    Exhausted,
    /// The journal no longer holds what was to be read.
    Expired(Box<ErrorMessage>),
    /// It cannot be read.
    Failed(Box<ErrorMessage>),
}
