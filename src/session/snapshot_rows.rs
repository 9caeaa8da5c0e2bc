//! [`Snapshot`]: the rows that a subscription begins with, and how far they have come.

use std::sync::Arc;

use super::subscribe::Prepared;
use crate::log::SnapshotBoundary;
use crate::protocol::v1::SnapshotMessage;
use crate::snapshot::Cursor;

/// Rows on their way.
pub(super) struct Snapshot {
    pub(super) prepared: Box<Prepared>,
    pub(super) cursor: Cursor,
    /// Their end, once they have begun.
    pub(super) boundary: Option<Arc<SnapshotBoundary>>,
    pub(super) message: SnapshotMessage,
}

/// The outcome of a step.
#[derive(Debug)]
pub(super) enum Found {
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
