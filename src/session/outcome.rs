//! [`Outcome`] of work that a session hands to others.

use std::sync::Arc;

use super::cursor::ReplayId;
use super::snapshot_rows::{Snapshot, SnapshotOutput};
use super::subscribe::Prepared;
use crate::delivery::{Panicked, Registration, ReplayResult, Stopped};
use crate::log::Log;
use crate::lsn::Position;
use crate::protocol::ErrorMessage;
use crate::snapshot;
/// The outcome of work.
pub(super) enum Outcome<H: Log> {
    Prepared(Arc<str>, Result<Box<Prepared>, ErrorMessage>),
    Rows(Box<Snapshot>, Result<SnapshotOutput, Arc<snapshot::Error>>),
    Read(ReplayId, Box<ReplayResult<H>>),
    /// The history has not reached the place to read from yet.
    NotYet,
    /// There was no file descriptor to read with.
    Exhausted,
    Joined(Registration, Position),
    Added(Position),
    Removed,
    Stopped,
    /// Reading panicked: a defect.
    Panicked,
}

impl<H: Log> From<Stopped> for Outcome<H> {
    fn from(_: Stopped) -> Outcome<H> {
        Outcome::Stopped
    }
}

impl<H: Log> From<Panicked> for Outcome<H> {
    fn from(_: Panicked) -> Outcome<H> {
        Outcome::Panicked
    }
}
