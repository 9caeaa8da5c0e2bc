//! [`Snapshot`]: the rows that a subscription begins with, on their way to the client.
//!
//! They go out message by message, and others have their turn in between. Once the last is sent, the subscription reads
//! the history from where they were read, leaving out what they hold.

use std::sync::Arc;
use std::time::Duration;

use super::job::{Job, JobOutcome};
use super::replay::Replay;
use super::subscribe::Prepared;
use super::{End, Services, Session};
use crate::journal::History;
use crate::lsn::Position;
use crate::protocol::Caller;
use crate::snapshot::{self, Cursor, Next, SnapshotBoundary};

/// Rows on their way.
pub(super) struct Snapshot {
    prepared: Box<Prepared>,
    cursor: Cursor,
    /// Their end, once they have begun.
    boundary: Option<Arc<SnapshotBoundary>>,
    /// The text before the rows of a message.
    before: String,
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

/// The time that one step waits for something to come: others want their turn, all of whom have it within this time.
const POLL: Duration = Duration::from_millis(200);
/// The time that it waits at least.
const SHORTEST_POLL: Duration = Duration::from_millis(2);
/// The number of times that a subscription is checked again because its table changed meanwhile.
const MAX_CHECKS: usize = 5;

/// Waits for what comes next: while so many `others` of the connection's wait for theirs, or, without a number, no
/// longer than a moment.
pub(super) async fn step<H: History>(
    shared: Arc<Services<H>>,
    mut rows: Box<Snapshot>,
    caller: Caller,
    others: Option<usize>,
) -> JobOutcome<H> {
    let has_begun = rows.boundary.is_some();
    let share = others.and_then(|others| u32::try_from(others).ok()?.checked_add(1));
    let turn = share.map_or(SHORTEST_POLL, |share| (POLL / share).max(SHORTEST_POLL));
    let next = tokio::time::timeout(turn, rows.cursor.next(has_begun)).await;
    let found = match next {
        Err(_) => Ok(Found::Nothing),
        Ok(Ok(Next::Begun(boundary))) => Ok(Found::Begun(boundary)),
        Ok(Ok(Next::End)) => Ok(Found::End),
        Ok(Ok(Next::Rows(chunk))) => {
            let before = rows.before.clone();
            let Ok(permit) = shared.spool_readers.acquire().await else {
                return JobOutcome::Stopped;
            };
            let read = tokio::task::spawn_blocking(move || chunk.read(&before, "}")).await;
            drop(permit);
            match read {
                Ok(read) => read
                    .map(Found::Message)
                    .map_err(|error| Arc::new(snapshot::Error::Spool(error))),
                Err(_) => return JobOutcome::Panicked,
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
    JobOutcome::Snapshot(rows, found)
}

/// Checks a subscription against its table once more.
async fn check_again<H: History>(
    shared: Arc<Services<H>>,
    id: Arc<str>,
    message: (Box<crate::protocol::Subscribe>, usize),
    caller: Caller,
) -> JobOutcome<H> {
    if let Err(error) = shared.tables.renew().await {
        let error = shared.unanswered(&error).about(&*id);
        return JobOutcome::Prepared(id, Err(error));
    }
    let prepared = Prepared::new(&shared, Arc::clone(&id), &message.0, &caller).await;
    let prepared = prepared.map(|mut prepared| {
        prepared.message = Some(message);
        Box::new(prepared)
    });
    JobOutcome::Prepared(id, prepared)
}

impl<H: History> Session<H> {
    /// Asks for the rows.
    pub(super) async fn open_snapshot(&mut self, prepared: Box<Prepared>) -> Result<(), End> {
        let subscription = &prepared.subscription;
        match self
            .shared
            .snapshots
            .open(&subscription.query, self.caller.connection)
        {
            Ok(cursor) => {
                let id = serde_json::Value::from(&*subscription.id);
                self.jobs.push_back(Job::Snapshot(Box::new(Snapshot {
                    before: format!("{{\"type\":\"snapshot\",\"id\":{id},\"rows\":"),
                    prepared,
                    cursor,
                    boundary: None,
                })));
                Ok(())
            }
            Err(error) => {
                let refusal = self.refusal(&error).about(&*subscription.id);
                self.refuse(&subscription.id, &refusal).await
            }
        }
    }

    /// Goes on from what a step came to.
    pub(super) async fn snapshot(
        &mut self,
        mut rows: Box<Snapshot>,
        found: Result<Found, Arc<snapshot::Error>>,
    ) -> Result<(), End> {
        let subscription = Arc::clone(&rows.prepared.subscription);
        self.same_epoch().await?;
        if !self.machine.holds(&subscription.id) {
            return Ok(());
        }
        match (found, &rows.boundary) {
            (Ok(Found::Nothing), _) => {}
            (Ok(Found::Begun(boundary)), _) if boundary.epoch != self.epoch => {
                let refusal = self.refusal(&snapshot::Error::Unsettled).about(&*subscription.id);
                return self.refuse(&subscription.id, &refusal).await;
            }
            (Ok(Found::Begun(boundary)), _) => {
                let start = Position::after(boundary.after);
                rows.boundary = Some(boundary);
                self.wire.send(rows.prepared.subscribed(start)).await?;
            }
            (Ok(Found::Message(text)), _) => self.wire.send(text).await?,
            (Ok(Found::End), Some(boundary)) => {
                let (start, boundary) = (Position::after(boundary.after), Some(Arc::clone(boundary)));
                let replay = Replay::alone(&self.shared, subscription, start, boundary);
                self.jobs.push_back(Job::Replay(replay));
                return Ok(());
            }
            (Ok(Found::End), None) => {
                let refusal = self.refusal(&snapshot::Error::Unsettled).about(&*subscription.id);
                return self.refuse(&subscription.id, &refusal).await;
            }
            (Err(error), _) => {
                let refusal = self.refusal(&error).about(&*subscription.id);
                return self.refuse(&subscription.id, &refusal).await;
            }
        }
        self.jobs.push_back(Job::Snapshot(rows));
        Ok(())
    }
}
