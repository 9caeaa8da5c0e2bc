//! Sending the rows that a subscription begins with.
//!
//! They go out message by message, and other jobs have their turns in between. After the last one the subscription
//! reads the history from the snapshot's boundary on, leaving out the transactions that the rows hold.

use std::sync::Arc;
use std::time::Duration;

use super::cursor::{Input, Preparation, Rows};
use super::outcome::Outcome;
use super::snapshot_rows::{Search, Snapshot, SnapshotOutput};
use super::subscribe::Prepared;
use super::{End, Services, Session};
use crate::log::Log;
use crate::lsn::Position;
use crate::protocol::v1::SnapshotMessage;
use crate::protocol::{Caller, ErrorCode, ErrorMessage, Wanted};
use crate::snapshot::{self, Next};

/// The time within which all snapshots of a connection have a turn: each step waits for its share of it at most.
const POLL: Duration = Duration::from_millis(200);
/// The least that a step waits.
const SHORTEST_POLL: Duration = Duration::from_millis(2);
/// The most times that a subscription is checked again because its table changed meanwhile.
const MAX_CHECKS: usize = 5;

/// Waits for the next of a subscription's rows: for its share of the time while so many `others` of the connection
/// wait, or for a moment only if `None`.
pub(super) async fn step<H: Log>(
    services: Arc<Services<H>>,
    mut rows: Box<Snapshot>,
    caller: Caller,
    others: Option<usize>,
) -> Outcome<H> {
    let has_begun = match &rows.search {
        None => rows.boundary.is_some(),
        Some(search) => search.has_begun,
    };
    let share = others.and_then(|others| u32::try_from(others).ok()?.checked_add(1));
    let turn = share.map_or(SHORTEST_POLL, |share| (POLL / share).max(SHORTEST_POLL));
    let next = tokio::time::timeout(turn, rows.cursor.next(has_begun)).await;
    if rows.search.is_some() {
        return match next {
            Err(_) => Outcome::Rows(rows, Ok(SnapshotOutput::Nothing)),
            Ok(Ok(next)) => search(services, rows, next, caller).await,
            Ok(Err(error)) => failed(services, rows, error, caller).await,
        };
    }
    let found = match next {
        Err(_) => Ok(SnapshotOutput::Nothing),
        Ok(Ok(Next::Begun(boundary))) => Ok(SnapshotOutput::Begun(boundary)),
        Ok(Ok(Next::End)) => Ok(SnapshotOutput::End),
        Ok(Ok(Next::Rows(chunk))) => {
            let message = rows.message.clone();
            let Ok(permit) = services.spool_readers.acquire().await else {
                return Outcome::Stopped;
            };
            let read = services
                .background
                .spawn_blocking(move || chunk.read(message.before(), SnapshotMessage::AFTER))
                .await;
            drop(permit);
            match read {
                Ok(read) => read
                    .map(SnapshotOutput::Message)
                    .map_err(|error| Arc::new(snapshot::Error::Spool(error))),
                Err(_) => return Outcome::Panicked,
            }
        }
        Ok(Err(error)) => return failed(services, rows, error, caller).await,
    };
    Outcome::Rows(rows, found)
}

/// Continues after an error: a subscription whose table has changed is checked again.
async fn failed<H: Log>(
    services: Arc<Services<H>>,
    mut rows: Box<Snapshot>,
    error: Arc<snapshot::Error>,
    caller: Caller,
) -> Outcome<H> {
    match (&*error, rows.prepared.message.take()) {
        (snapshot::Error::TableChanged, Some((mut message, checks))) if checks < MAX_CHECKS => {
            message.now = rows.prepared.subscription.query.now().or(message.now);
            let id = Arc::clone(&rows.prepared.subscription.id);
            drop(rows);
            check_again(services, id, (message, checks + 1), caller).await
        }
        _ => Outcome::Rows(rows, Err(error)),
    }
}

/// Goes on with the search for the bound of an order. Once it is known, the subscription is one to the rows within it.
async fn search<H: Log>(
    services: Arc<Services<H>>,
    mut rows: Box<Snapshot>,
    next: Next,
    caller: Caller,
) -> Outcome<H> {
    let (Some(search), Some((message, checks))) = (&mut rows.search, &rows.prepared.message) else {
        return Outcome::Rows(rows, Err(Arc::new(snapshot::Error::Unsettled)));
    };
    match next {
        Next::Begun(_) => search.has_begun = true,
        Next::Rows(chunk) => {
            let Ok(permit) = services.spool_readers.acquire().await else {
                return Outcome::Stopped;
            };
            let read = services
                .background
                .spawn_blocking(move || chunk.read("", ""))
                .await;
            drop(permit);
            let Ok(read) = read else {
                return Outcome::Panicked;
            };
            let read: Vec<_> = match read.and_then(|text| Ok(serde_json::from_str(&text)?)) {
                Ok(read) => read,
                Err(error) => {
                    let error = Arc::new(snapshot::Error::Spool(error));
                    return Outcome::Rows(rows, Err(error));
                }
            };
            search.rows = search
                .rows
                .saturating_add(u32::try_from(read.len()).unwrap_or(u32::MAX));
            search.last = read.into_iter().next_back().or(search.last.take());
        }
        Next::End => {
            let mut message = message.clone();
            let checks = *checks;
            if let Some(order) = &mut message.order {
                order.wanted = match (&order.wanted, &search.last) {
                    (Wanted::First(limit), Some(last)) if search.rows >= *limit => {
                        let values = order.by.iter().map(|by| last.get(&by.column).cloned());
                        let Some(values) = values.collect() else {
                            return hidden(&rows.prepared.subscription.id);
                        };
                        Wanted::Within(values)
                    }
                    _ => Wanted::All,
                };
            }
            message.now = rows.prepared.subscription.query.now().or(message.now);
            let id = Arc::clone(&rows.prepared.subscription.id);
            drop(rows);
            let prepared = Prepared::new(&services, Arc::clone(&id), &message, &caller).await;
            let prepared = prepared.map(|mut prepared| {
                prepared.message = Some((message, checks));
                Box::new(prepared)
            });
            return Outcome::Prepared(id, prepared);
        }
    }
    Outcome::Rows(rows, Ok(SnapshotOutput::Nothing))
}

/// The outcome where policies hide columns of the order in some of the rows.
fn hidden<H: Log>(id: &Arc<str>) -> Outcome<H> {
    let message = "the token's policies hide columns of \"order_by\" in some of the rows";
    let error = ErrorMessage::new(ErrorCode::Forbidden, message).about(&**id);
    Outcome::Prepared(Arc::clone(id), Err(error))
}

/// Checks a subscription against its table once more.
async fn check_again<H: Log>(
    services: Arc<Services<H>>,
    id: Arc<str>,
    message: (Box<crate::protocol::Subscribe>, usize),
    caller: Caller,
) -> Outcome<H> {
    if let Err(error) = services.tables.renew().await {
        let error = services.unanswered(&error).about(&*id);
        return Outcome::Prepared(id, Err(error));
    }
    let prepared = Prepared::new(&services, Arc::clone(&id), &message.0, &caller).await;
    let prepared = prepared.map(|mut prepared| {
        prepared.message = Some(message);
        Box::new(prepared)
    });
    Outcome::Prepared(id, prepared)
}

impl<H: Log> Session<H> {
    /// Opens the snapshot of a subscription.
    pub(super) fn open_snapshot(&mut self, prepared: Box<Prepared>) -> Preparation {
        let subscription = &prepared.subscription;
        let snapshots = &self.services.snapshots;
        let place = match self.member.snapshot() {
            Ok(place) => place,
            Err(limit) => {
                return Preparation::Refused(Box::new(self.services.over(limit).about(&*subscription.id)));
            }
        };
        let owner = self.member.owner();
        self.traced.step(&subscription.id, "subscribe snapshot");
        let opened = self
            .traced
            .enter(&subscription.id, || snapshots.open(&subscription.query, owner));
        match opened {
            Ok(cursor) => {
                let is_search = subscription.query.key().first.is_some();
                self.rows.push(Snapshot {
                    search: is_search.then(Search::default),
                    _place: place,
                    message: SnapshotMessage::new(&subscription.id),
                    prepared,
                    cursor,
                    boundary: None,
                });
                Preparation::Rows
            }
            Err(error) => Preparation::Refused(Box::new(self.refusal(&error).about(&*subscription.id))),
        }
    }

    /// Continues with the outcome of a step.
    pub(super) async fn has_rows(
        &mut self,
        mut rows: Box<Snapshot>,
        found: Result<SnapshotOutput, Arc<snapshot::Error>>,
    ) -> Result<(), End> {
        self.same_epoch().await?;
        let id = Arc::clone(rows.id());
        let found = match (found, &rows.boundary) {
            _ if !self.cursor.awaits(&id) => Ok(Rows::Nothing),
            (Ok(SnapshotOutput::Nothing), _) => Ok(Rows::Nothing),
            (Ok(SnapshotOutput::Begun(boundary)), _) if boundary.epoch != self.epoch => {
                Err(self.refusal(&snapshot::Error::Unsettled))
            }
            (Ok(SnapshotOutput::Begun(boundary)), _) => {
                let start = Position::after(boundary.after);
                rows.boundary = Some(boundary);
                Ok(Rows::Message(rows.prepared.subscribed(start)))
            }
            (Ok(SnapshotOutput::Message(text)), _) => Ok(Rows::Message(text)),
            (Ok(SnapshotOutput::End), Some(boundary)) => {
                let subscription = Arc::clone(&rows.prepared.subscription);
                self.traced.step(&id, "subscribe replay");
                Ok(Rows::End(subscription, Arc::clone(boundary)))
            }
            (Ok(SnapshotOutput::End), None) => Err(self.refusal(&snapshot::Error::Unsettled)),
            (Err(error), _) => Err(self.refusal(&error)),
        };
        self.rows.push(*rows);
        let found = found.unwrap_or_else(|refusal| Rows::Refused(Box::new(refusal.about(&*id))));
        self.feed(Input::Rows(id, found)).await
    }
}
