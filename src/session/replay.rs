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
use crate::protocol::ErrorMessage;
use crate::schema::Tables;

/// The least time that a subscription which is served apart waits at the head before the next step.
const APART_POLL: Duration = Duration::from_millis(20);

/// The most time that a subscription whose start is in the future waits before the next step.
const FUTURE_POLL: Duration = Duration::from_millis(200);

/// The time to wait for a place that Postgres has reached in memory alone, until it is asked to write it to disk. On
/// its own it does so within three times `wal_writer_delay`, 0.6 s. A place right behind a page header is reached only
/// with the next record.
const FUTURE_PATIENCE: Duration = Duration::from_secs(1);

/// Reads one step, with the cursor of the previous step if there is one.
pub(super) async fn step<H: Log>(
    services: Arc<Services<H>>,
    request: ReadRequest,
    cursor: Option<ReplayCursor<H>>,
    owner: u64,
) -> Outcome<H> {
    let ReadRequest { replay, wait, .. } = request;
    if !wait_for(&services, wait, request.from.position.end).await {
        return Outcome::NotYet;
    }
    let request = Box::new(ReplayRequest {
        owner,
        subscriptions: request.subscriptions,
        only: request.only,
        from: request.from,
        until: request.until,
        boundary: request.boundary,
        standing: request.standing,
        cursor,
    });
    match services.replays.read(request).await {
        // It is tried again from the same place, once there is a file descriptor.
        Ok(result) if result.found.as_ref().is_err_and(|error| error.is_temporary()) => {
            drop(result);
            tokio::time::sleep(FUTURE_POLL).await;
            Outcome::Exhausted
        }
        Ok(result) => Outcome::Read(replay, Box::new(result)),
        Err(panicked) => panicked.into(),
    }
}

/// Waits, for a moment at most, before a step that goes on from `at`. False if the history has not reached the start
/// yet.
async fn wait_for<H: Log>(services: &Services<H>, wait: Wait, at: Lsn) -> bool {
    let mut heads = services.history.head_changes();
    match wait {
        Wait::No => {}
        Wait::Apart => {
            // A step for each transaction would be too many.
            tokio::time::sleep(APART_POLL).await;
            drop(tokio::time::timeout(FUTURE_POLL, heads.wait_for(|head| *head > at)).await);
        }
        Wait::Boundary => {
            let moved = tokio::time::timeout(FUTURE_POLL, heads.wait_for(|head| *head > at)).await;
            if moved.is_err() {
                services.snapshots.request_wal_flush();
            }
        }
        Wait::Start(_) if at <= services.router.position() => {}
        Wait::Start(since) => {
            // The outcome does not matter: the head is compared below.
            drop(tokio::time::timeout(FUTURE_POLL, heads.wait_for(|head| *head >= at)).await);
            let is_there = at <= services.history.head();
            if !is_there && since.is_some_and(|since: Instant| since.elapsed() >= FUTURE_PATIENCE) {
                services.snapshots.request_wal_flush();
            }
            return is_there;
        }
    }
    true
}

/// The ends of those subscriptions whose tables are gone, or have other columns now. The router has ended others like
/// them, but did not have these at that time.
pub(super) fn gone(tables: &Tables, subscriptions: &[ActiveSubscription]) -> Vec<Delivery> {
    let end = |placed: &ActiveSubscription| {
        let subscription = &placed.subscription;
        let Subscription { query, oid, .. } = &**subscription;
        if tables.has(query.table(), *oid) {
            return unfit_end(tables, subscription);
        }
        Some(ended(subscription, gone_message(query.table())))
    };
    subscriptions.iter().filter_map(end).collect()
}

/// The ends of those subscriptions whose tables have other columns now.
pub(super) fn unfit(tables: &Tables, subscriptions: &[ActiveSubscription]) -> Vec<Delivery> {
    let ends = subscriptions
        .iter()
        .filter_map(|placed| unfit_end(tables, &placed.subscription));
    ends.collect()
}

fn unfit_end(tables: &Tables, subscription: &Arc<Subscription>) -> Option<Delivery> {
    let newest = tables.newest_version(subscription.oid)?;
    Some(ended(subscription, unfit_message(&subscription.query, &newest)?))
}

fn ended(subscription: &Arc<Subscription>, error: ErrorMessage) -> Delivery {
    Delivery::Ended {
        subscription: Arc::clone(subscription),
        error: Box::new(error.about(&*subscription.id)),
    }
}
