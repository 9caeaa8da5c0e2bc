//! [`Snapshot`]: the rows that a subscription begins with, and how far they have been sent.

use std::sync::Arc;

use super::subscribe::Prepared;
use crate::limit::SnapshotPlace;
use crate::log::SnapshotBoundary;
use crate::protocol::v1::SnapshotMessage;
use crate::snapshot::Cursor;

/// Rows on their way.
pub(super) struct Snapshot {
    pub(super) prepared: Box<Prepared>,
    pub(super) cursor: Cursor,
    /// The boundary that says which transactions they hold, once they have begun.
    pub(super) boundary: Option<Arc<SnapshotBoundary>>,
    pub(super) message: SnapshotMessage,
    /// The state of a search for the bound of an order, whose rows are not for the client.
    pub(super) search: Option<Search>,
    /// Its place among the snapshots of the client's subject.
    pub(super) _place: SnapshotPlace,
}

/// A search for the last of an order's first rows.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// True once the snapshot is taken.
    pub(super) has_begun: bool,
    /// The number of rows so far.
    pub(super) rows: u32,
    /// The last of them.
    pub(super) last: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The outcome of a step.
#[derive(Debug)]
pub(super) enum SnapshotOutput {
    /// Nothing yet.
    Nothing,
    /// The snapshot is taken.
    Begun(Arc<SnapshotBoundary>),
    /// A message with rows.
    Message(String),
    /// There are no more.
    End,
}

impl Snapshot {
    /// The id of the subscription that begins with them.
    pub(super) fn id(&self) -> &Arc<str> {
        &self.prepared.subscription.id
    }
}
