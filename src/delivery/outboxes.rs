//! [`Outboxes`]: puts the frames of the registry into the outboxes of their connections.

use std::sync::Arc;

use super::outbox::{Delivery, Outbox, Refused};
use crate::matching::{ConnectionId, Sink, Subscription};
use crate::protocol::{ErrorMessage, Frame};
use crate::telemetry::traces::Tally;

/// The outboxes by connection.
#[derive(Debug, Default)]
pub(super) struct Outboxes {
    by_connection: Vec<Option<Arc<Outbox>>>,
    /// Connections that fell behind just now.
    pub(super) refused: Vec<ConnectionId>,
    /// The frames that were put there.
    pub(super) frames: Tally,
}

impl Outboxes {
    pub(super) fn put(&mut self, connection: ConnectionId, outbox: &Arc<Outbox>) {
        if self.by_connection.len() <= connection {
            self.by_connection.resize(connection + 1, None);
        }
        if let Some(place) = self.by_connection.get_mut(connection) {
            *place = Some(Arc::clone(outbox));
        }
    }

    /// True if a connection still takes frames.
    pub(super) fn has(&self, connection: ConnectionId) -> bool {
        self.by_connection.get(connection).is_some_and(Option::is_some)
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) {
        if let Some(place) = self.by_connection.get_mut(connection) {
            *place = None;
        }
    }

    fn push(&mut self, connection: ConnectionId, item: Delivery) {
        let outbox = self.by_connection.get(connection).and_then(Option::as_ref);
        if outbox.map(|outbox| outbox.push(item)) == Some(Err(Refused)) {
            self.remove(connection);
            self.refused.push(connection);
        }
    }

    /// Makes every session read on from the journal.
    pub(super) fn put_all_behind(&mut self) {
        for place in &mut self.by_connection {
            if let Some(outbox) = place.take() {
                outbox.put_behind();
            }
        }
    }

    pub(super) fn end_epoch(&mut self) {
        for (connection, place) in self.by_connection.iter_mut().enumerate() {
            if let Some(outbox) = place.take() {
                outbox.end_epoch();
                self.refused.push(connection);
            }
        }
    }
}

impl Sink for Outboxes {
    fn frame(&mut self, connection: ConnectionId, frame: &Frame) {
        self.frames.add();
        self.push(connection, Delivery::Frame(frame.clone()));
    }

    fn ended(&mut self, connection: ConnectionId, subscription: &Arc<Subscription>, error: ErrorMessage) {
        self.push(
            connection,
            Delivery::Ended {
                subscription: Arc::clone(subscription),
                error: Box::new(error),
            },
        );
    }

    fn put_apart(&mut self, connection: ConnectionId) {
        if let Some(outbox) = self.by_connection.get_mut(connection).and_then(Option::take) {
            outbox.put_behind();
        }
    }
}
