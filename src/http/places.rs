//! [`Places`]: those of the websockets, of which there are `--max-connections`.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::FULL;
use super::warnings::Warnings;
use crate::telemetry::Metrics;

/// The places of websockets. A connection takes one when its request is complete and allowed, not before.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    free: Arc<Semaphore>,
    full: Warnings,
    metrics: Arc<Metrics>,
}

/// All places are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full;

impl IntoResponse for Full {
    fn into_response(self) -> Response {
        FULL.into_response()
    }
}

impl Places {
    pub(super) fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Places> {
        Arc::new(Places {
            most,
            free: Arc::new(Semaphore::new(most)),
            full: Warnings::default(),
            metrics,
        })
    }

    /// Fails if all places are taken, for a request that has still to be looked at.
    pub(super) fn check(&self) -> Result<(), Full> {
        match self.free.available_permits() {
            0 => Err(self.refuse()),
            _ => Ok(()),
        }
    }

    /// Takes a place, until what is returned is dropped.
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, Full> {
        let place = Arc::clone(&self.free).try_acquire_owned();
        place.map_err(|_| self.refuse())
    }

    fn refuse(&self) -> Full {
        self.metrics.refused("limit");
        if self.full.is_due() {
            let connections = self.most;
            tracing::warn!(
                event = "connection_limit_reached",
                connections,
                "the limit of connections is reached (--max-connections): refusing more with 503"
            );
        }
        Full
    }
}
