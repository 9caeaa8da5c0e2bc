//! Delivery: from the journal to the outboxes of connections.
//!
//! The [`Router`] serves everybody at the head of the journal; a [`ReplayCursor`] reads the past for subscriptions
//! that are not there yet. Both match by a registry of [`crate::matching`], and so deliver the same bytes for the same
//! change.

mod handle;
mod outbox;
mod outboxes;
mod progress;
mod replay_alone;
mod replay_cursor;
#[cfg(test)]
mod replay_cursor_tests;
mod replay_pool;
mod replay_queue;
mod replay_request;
mod replay_shares;
mod router;

pub use handle::{ActiveSubscription, Handle, Registration, Stopped};
pub use outbox::{Delivery, Outbox, Received, Refused};
pub use replay_cursor::{ReplayCursor, ReplayFilter, ReplayOutput, ReplaySink, ResumePoint};
pub use replay_pool::{ReplayPool, ReplayResult, Share};
pub use replay_request::{Panicked, ReplayRequest, Standing};
pub use router::{Error, Options, Router};
