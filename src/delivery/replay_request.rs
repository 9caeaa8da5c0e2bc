//! [`ReplayRequest`]: a session's request to the replay pool.

use std::sync::Arc;
use std::time::Instant;

use super::handle::ActiveSubscription;
use super::replay_cursor::{ReplayCursor, ReplayFilter, ResumePoint};
use crate::log::{Log, SnapshotBoundary};
use crate::lsn::Position;
use crate::matching::Subscription;

/// A request for one step of a replay.
pub struct ReplayRequest<H: Log> {
    /// The owner whose turns its steps take: a subject, or a connection.
    pub owner: u64,
    /// The subscriptions to read for.
    pub subscriptions: Arc<Vec<ActiveSubscription>>,
    /// The subscription that catches up alone; `None` for a whole connection.
    pub only: Option<Arc<Subscription>>,
    /// The place to read from.
    pub from: ResumePoint,
    /// The place to stop at; `None` for the head.
    pub until: Option<Position>,
    /// The boundary of the snapshot that the subscription began with.
    pub boundary: Option<Arc<SnapshotBoundary>>,
    /// State that the pool keeps from earlier steps of this replay.
    pub standing: Standing,
    /// The cursor that the previous step returned, if nothing was rewound since.
    pub cursor: Option<ReplayCursor<H>>,
}

/// State of a replay that the pool keeps from step to step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// True if it is read for alone, because a shared step failed.
    pub is_unshared: bool,
}

/// The recent work of a request's queries from which on it is served apart: a hundredth of a processor. The others that are
/// behind would wait for what it takes.
const MUCH: u64 = 20_000_000;

/// Reading panicked: a defect, which is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reading the journal failed")]
pub struct Panicked;

impl<H: Log> ReplayRequest<H> {
    /// The part of the history to be read.
    pub(super) fn filter(&self) -> ReplayFilter<'_> {
        ReplayFilter {
            subscriptions: &self.subscriptions,
            only: self.only.as_deref(),
            from: self.from,
            until: self.until,
        }
    }

    pub(super) fn at(&self) -> Position {
        self.from.position
    }

    /// True if it is to be served apart, since one of its queries takes long, or all of them together take much.
    pub(super) fn is_apart(&self) -> bool {
        ActiveSubscription::take_much(&self.subscriptions, MUCH, Instant::now())
    }

    /// True if it can share a cursor with others. Up to a snapshot's boundary it cannot, since the others need what the
    /// snapshot holds. Those that are served apart are not asked.
    pub(super) fn is_shareable(&self) -> bool {
        let boundary = self.boundary.as_ref();
        let is_before = boundary.is_some_and(|boundary| boundary.is_ahead_of(self.at()));
        !self.standing.is_unshared && !is_before
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::lsn::Lsn;
    use crate::matching::tests::subscription;

    /// A request of an owner for everything.
    pub(in crate::delivery) fn request<H: Log>(owner: u64) -> Box<ReplayRequest<H>> {
        let start = Position::after(Lsn::ZERO);
        let subscription = subscription("s", None);
        Box::new(ReplayRequest {
            owner,
            subscriptions: Arc::new(vec![ActiveSubscription {
                subscription: Arc::clone(&subscription),
                after: start,
            }]),
            only: Some(subscription),
            from: ResumePoint::told(start),
            until: None,
            boundary: None,
            standing: Standing::default(),
            cursor: None,
        })
    }
}
