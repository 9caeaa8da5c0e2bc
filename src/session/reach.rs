//! Pings that wait for a place: when it has come, and what is said if it does not come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::cursor::Input;
use super::{End, Services, Session};
use crate::limit::Limit;
use crate::log::Log;
use crate::lsn::{Lsn, Position};
use crate::protocol::{Detail, ErrorCode, ErrorMessage, Reference};

/// The most pings of a connection that may wait.
const MAX_REACHES: usize = 100;
/// The time to wait for a place until the database is asked whether it has written as much, and to write on: under
/// `synchronous_commit = off` it may hold back what it has in memory.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time until it is asked again.
const AGAIN: Duration = Duration::from_secs(5);

/// A place that the router has to come to, and the wait for it.
pub(super) struct Awaited {
    place: Lsn,
    wait: Pin<Box<dyn Future<Output = Arrival> + Send>>,
}

/// The end of a wait.
#[derive(Debug)]
pub(super) enum Arrival {
    /// The router has come to the place, or is in another epoch.
    There,
    /// The database has not written as much as this place, but up to another.
    Beyond { place: Lsn, written: Lsn },
}

impl Awaited {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        self.wait.as_mut().poll(cx)
    }
}

/// Waits for a place that a ping has asked for since some time.
async fn wait<H: Log>(services: Arc<Services<H>>, place: Lsn, since: Instant) -> Arrival {
    let mut reached = std::pin::pin!(services.router.reached(place));
    let mut patience = PATIENCE.saturating_sub(since.elapsed());
    loop {
        if tokio::time::timeout(patience, reached.as_mut()).await.is_ok() {
            return Arrival::There;
        }
        match services.tables.has_inserted(place).await {
            Ok(Ok(())) => services.snapshots.request_wal_flush(),
            Ok(Err(written)) => return Arrival::Beyond { place, written },
            // It comes once the database is there again, and so does the place.
            Err(error) => tracing::debug!(%error, "the database was not asked for its position"),
        }
        patience = AGAIN;
    }
}

impl<H: Log> Session<H> {
    /// Answers a ping once the connection is complete up to a place.
    pub(super) async fn reach(&mut self, place: Position, reference: Option<Reference>) -> Result<(), End> {
        if self.cursor.reaches() >= MAX_REACHES {
            self.guard.refused(Instant::now());
            let message = format!(
                "{MAX_REACHES} pings with \"reach\" wait already: wait for the greatest position of several"
            );
            let error = ErrorMessage::new(ErrorCode::LimitExceeded, message)
                .answering(reference)
                .with(Detail::Limit(Limit::Reaches.as_str()));
            return Ok(self.wire.error(&error).await?);
        }
        // A place of the epoch that the client was told of.
        self.same_epoch().await?;
        self.feed(Input::Reach(place, reference)).await
    }

    /// Has the pings answered that can be, and waits for the place of the next one.
    pub(super) async fn see_to_reaches(&mut self) -> Result<(), End> {
        // The position first: whatever it covers is in the outbox by then.
        let reached = self.services.router.position();
        if self.cursor.is_due(reached) {
            self.same_epoch().await?;
            self.feed(Input::Reached(reached)).await?;
        }
        let next = self.cursor.awaited(reached);
        let is_awaited = |awaited: &Awaited| next.is_some_and(|(place, _)| place == awaited.place);
        if !self.awaited.as_deref().is_some_and(is_awaited) {
            self.awaited = next.map(|(place, since)| {
                let services = Arc::clone(&self.services);
                let wait = Box::pin(wait(services, place, since));
                Box::new(Awaited { place, wait })
            });
        }
        Ok(())
    }

    /// Continues once a place has come, or will not.
    pub(super) async fn arrived(&mut self, arrival: Arrival) -> Result<(), End> {
        self.same_epoch().await?;
        if let Arrival::Beyond { place, written } = arrival {
            let message = format!("{place} lies beyond what the database has written, {written}");
            let error = Box::new(ErrorMessage::new(ErrorCode::ResumeInvalid, message));
            self.feed(Input::Unreachable(place, error)).await?;
        }
        Ok(())
    }
}
