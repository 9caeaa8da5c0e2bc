//! [`Snapshot`]: the rows that a subscription begins with, on their way to the client.
//!
//! They go out message by message, and others have their turn in between. Once the last is sent, the subscription reads
//! the history from where they were read, leaving out what they hold.

use std::sync::Arc;
use std::time::Duration;

use super::cursor::{Input, Preparation, Rows};
use super::outcome::Outcome;
use super::snapshot_rows::{Found, Snapshot};
use super::subscribe::Prepared;
use super::{End, Services, Session};
use crate::log::Log;
use crate::lsn::Position;
use crate::protocol::Caller;
use crate::protocol::v1::SnapshotMessage;
use crate::snapshot::{self, Next};

/// The time that one step waits for something to come: others want their turn, all of whom have it within this time.
const POLL: Duration = Duration::from_millis(200);
/// The time that it waits at least.
const SHORTEST_POLL: Duration = Duration::from_millis(2);
/// The number of times that a subscription is checked again because its table changed meanwhile.
const MAX_CHECKS: usize = 5;

/// Waits for what comes next: while so many `others` of the connection's wait for theirs, or, without a number, no
/// longer than a moment.
pub(super) async fn step<H: Log>(
    shared: Arc<Services<H>>,
    mut rows: Box<Snapshot>,
    caller: Caller,
    others: Option<usize>,
) -> Outcome<H> {
    let has_begun = rows.boundary.is_some();
    let share = others.and_then(|others| u32::try_from(others).ok()?.checked_add(1));
    let turn = share.map_or(SHORTEST_POLL, |share| (POLL / share).max(SHORTEST_POLL));
    let next = tokio::time::timeout(turn, rows.cursor.next(has_begun)).await;
    let found = match next {
        Err(_) => Ok(Found::Nothing),
        Ok(Ok(Next::Begun(boundary))) => Ok(Found::Begun(boundary)),
        Ok(Ok(Next::End)) => Ok(Found::End),
        Ok(Ok(Next::Rows(chunk))) => {
            let message = rows.message.clone();
            let Ok(permit) = shared.spool_readers.acquire().await else {
                return Outcome::Stopped;
            };
            let read =
                tokio::task::spawn_blocking(move || chunk.read(message.before(), SnapshotMessage::AFTER))
                    .await;
            drop(permit);
            match read {
                Ok(read) => read
                    .map(Found::Message)
                    .map_err(|error| Arc::new(snapshot::Error::Spool(error))),
                Err(_) => return Outcome::Panicked,
            }
        }
        Ok(Err(error)) => match (&*error, rows.prepared.message.take()) {
            (snapshot::Error::TableChanged, Some((mut message, checks))) if checks < MAX_CHECKS => {
                message.now = rows.prepared.subscription.query.now().or(message.now);
                let id = Arc::clone(&rows.prepared.subscription.id);
                drop(rows);
                return check_again(shared, id, (message, checks + 1), caller).await;
            }
            _ => Err(error),
        },
    };
    Outcome::Rows(rows, found)
}

/// Checks a subscription against its table once more.
async fn check_again<H: Log>(
    shared: Arc<Services<H>>,
    id: Arc<str>,
    message: (Box<crate::protocol::Subscribe>, usize),
    caller: Caller,
) -> Outcome<H> {
    if let Err(error) = shared.tables.renew().await {
        let error = shared.unanswered(&error).about(&*id);
        return Outcome::Prepared(id, Err(error));
    }
    let prepared = Prepared::new(&shared, Arc::clone(&id), &message.0, &caller).await;
    let prepared = prepared.map(|mut prepared| {
        prepared.message = Some(message);
        Box::new(prepared)
    });
    Outcome::Prepared(id, prepared)
}

impl<H: Log> Session<H> {
    /// Asks for the rows.
    pub(super) fn open_snapshot(&mut self, prepared: Box<Prepared>) -> Preparation {
        let subscription = &prepared.subscription;
        let snapshots = &self.shared.snapshots;
        match snapshots.open(&subscription.query, self.caller.connection) {
            Ok(cursor) => {
                self.rows.push(Snapshot {
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

    /// Goes on from what a step came to.
    pub(super) async fn has_rows(
        &mut self,
        mut rows: Box<Snapshot>,
        found: Result<Found, Arc<snapshot::Error>>,
    ) -> Result<(), End> {
        self.same_epoch().await?;
        let id = Arc::clone(rows.id());
        let found = match (found, &rows.boundary) {
            _ if !self.cursor.awaits(&id) => Ok(Rows::Nothing),
            (Ok(Found::Nothing), _) => Ok(Rows::Nothing),
            (Ok(Found::Begun(boundary)), _) if boundary.epoch != self.epoch => {
                Err(self.refusal(&snapshot::Error::Unsettled))
            }
            (Ok(Found::Begun(boundary)), _) => {
                let start = Position::after(boundary.after);
                rows.boundary = Some(boundary);
                Ok(Rows::Message(rows.prepared.subscribed(start)))
            }
            (Ok(Found::Message(text)), _) => Ok(Rows::Message(text)),
            (Ok(Found::End), Some(boundary)) => {
                let subscription = Arc::clone(&rows.prepared.subscription);
                Ok(Rows::End(subscription, Arc::clone(boundary)))
            }
            (Ok(Found::End), None) => Err(self.refusal(&snapshot::Error::Unsettled)),
            (Err(error), _) => Err(self.refusal(&error)),
        };
        self.rows.push(*rows);
        let found = found.unwrap_or_else(|refusal| Rows::Refused(Box::new(refusal.about(&*id))));
        self.feed(Input::Rows(id, found)).await
    }
}
