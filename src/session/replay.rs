//! A step of a replay: what it waits for, and its outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Services;
use super::cursor::{ReadRequest, Wait};
use super::outcome::Outcome;
use crate::delivery::{ActiveSubscription, Delivery, ReplayCursor, ReplayRequest};
use crate::log::Log;
use crate::lsn::Lsn;
use crate::matching::{Subscription, gone_message, unfit_message};
use crate::schema::Tables;

/// The time that what is served apart waits at the head before it looks again, at least.
const APART_POLL: Duration = Duration::from_millis(20);

/// The time that a subscription whose start has not come yet waits before it looks again, at most.
const FUTURE_POLL: Duration = Duration::from_millis(200);

/// The time to wait for a place that Postgres has reached in memory alone, until it is asked to write it to disk. By
/// itself it does so in three times `wal_writer_delay`, 0.6 s. A place that lies just behind the head of a page comes
/// with the next record only.
const FUTURE_PATIENCE: Duration = Duration::from_secs(1);

/// Reads one step, with the cursor of the step before if there is one.
pub(super) async fn step<H: Log>(
    shared: Arc<Services<H>>,
    request: ReadRequest,
    cursor: Option<ReplayCursor<H>>,
) -> Outcome<H> {
    let ReadRequest { replay, wait, .. } = request;
    if !wait_for(&shared, wait, request.from.position.end).await {
        return Outcome::NotYet;
    }
    let request = Box::new(ReplayRequest {
        subscriptions: request.subscriptions,
        only: request.only,
        from: request.from,
        until: request.until,
        boundary: request.boundary,
        standing: request.standing,
        cursor,
    });
    match shared.replays.read(request).await {
        // It goes on where it is once there is a file descriptor for it.
        Ok(result) if result.found.as_ref().is_err_and(|error| error.is_temporary()) => {
            drop(result);
            tokio::time::sleep(FUTURE_POLL).await;
            Outcome::Exhausted
        }
        Ok(result) => Outcome::Read(replay, Box::new(result)),
        Err(panicked) => panicked.into(),
    }
}

/// Waits before a step that goes on from `at`, a moment at most. False if the place to start from is not there yet.
async fn wait_for<H: Log>(shared: &Services<H>, wait: Wait, at: Lsn) -> bool {
    let mut heads = shared.history.head_changes();
    match wait {
        Wait::No => {}
        Wait::Apart => {
            // A reading for each transaction would be too many.
            tokio::time::sleep(APART_POLL).await;
            drop(tokio::time::timeout(FUTURE_POLL, heads.wait_for(|head| *head > at)).await);
        }
        Wait::Boundary => {
            let moved = tokio::time::timeout(FUTURE_POLL, heads.wait_for(|head| *head > at)).await;
            if moved.is_err() {
                shared.snapshots.request_wal_flush();
            }
        }
        Wait::Start(_) if at <= shared.router.position() => {}
        Wait::Start(since) => {
            // Looked at again below, come or not.
            drop(tokio::time::timeout(FUTURE_POLL, heads.wait_for(|head| *head >= at)).await);
            let is_there = at <= shared.history.head();
            if !is_there && since.is_some_and(|since: Instant| since.elapsed() >= FUTURE_PATIENCE) {
                shared.snapshots.request_wal_flush();
            }
            return is_there;
        }
    }
    true
}

/// The ends of those subscriptions whose tables are gone, or have other columns: the router ended others like them
/// while it did not have these.
pub(super) fn gone(tables: &Tables, subscriptions: &[ActiveSubscription]) -> Vec<Delivery> {
    let end = |placed: &ActiveSubscription| {
        let subscription = &placed.subscription;
        let Subscription { query, oid, .. } = &**subscription;
        let error = if tables.has(query.table(), *oid) {
            unfit_message(query, &*tables.newest_version(*oid)?)?
        } else {
            gone_message(query.table())
        };
        Some(Delivery::Ended {
            subscription: Arc::clone(subscription),
            error: Box::new(error.about(&*subscription.id)),
        })
    };
    subscriptions.iter().filter_map(end).collect()
}
