//! [`ReplayRequest`]: what a session asks of the pool that replays for it.

use std::sync::Arc;
use std::time::Instant;

use super::handle::ActiveSubscription;
use super::replay_cursor::{ReplayCursor, ReplayFilter, ResumePoint};
use crate::log::{Log, SnapshotBoundary};
use crate::lsn::Position;
use crate::matching::Subscription;

/// A request for one step of a replay: where it goes on, and for whom.
pub struct ReplayRequest<H: Log> {
    /// The subscriptions that are read for.
    pub subscriptions: Arc<Vec<ActiveSubscription>>,
    /// The one that is read for alone, if it is no whole connection.
    pub only: Option<Arc<Subscription>>,
    /// From here on.
    pub from: ResumePoint,
    /// Up to here, if not to the head.
    pub until: Option<Position>,
    /// The part that the one subscription has by its snapshot.
    pub boundary: Option<Arc<SnapshotBoundary>>,
    /// State that the pool keeps from earlier steps of this replay.
    pub standing: Standing,
    /// The cursor that an earlier step answered, if nothing was rewound since.
    pub cursor: Option<ReplayCursor<H>>,
}

/// State of a replay that the pool keeps from step to step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// It is read for alone, because a step for it and others failed.
    pub is_unshared: bool,
    /// The work that its steps took where it is read for apart, from what the others there had taken when it came.
    pub taken: u64,
}

/// Reading panicked: a defect, which is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reading the journal failed")]
pub struct Panicked;

impl<H: Log> ReplayRequest<H> {
    /// The part of the history that is to be read.
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

    /// True if it is to be read for apart: it has a query that takes long.
    pub(super) fn is_apart(&self) -> bool {
        ActiveSubscription::any_is_apart(&self.subscriptions, Instant::now())
    }

    /// True if it can be read for together with others. Up to a snapshot's boundary it is read for by itself: the
    /// others need what the snapshot holds.
    pub(super) fn is_shareable(&self) -> bool {
        let boundary = self.boundary.as_ref();
        let is_before = boundary.is_some_and(|boundary| boundary.is_ahead_of(self.at()));
        !self.standing.is_unshared && !is_before && !self.is_apart()
    }
}
