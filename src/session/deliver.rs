//! Sending what the router or the journal had, as far as the client takes it.

use std::sync::Arc;

use super::wire::Pace;
use super::{End, Session};
use crate::delivery::Delivery;
use crate::event::Timestamp;
use crate::journal::History;
use crate::lsn::Position;
use crate::matching::Subscription;

/// The part of some items that a client was sent.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// The end of the last frame that it was sent.
    pub(super) position: Option<Position>,
    /// The subscriptions whose end it was told.
    pub(super) ended: Vec<Arc<Subscription>>,
    /// It takes nothing now.
    pub(super) stalled: bool,
    /// It was not sent all.
    pub(super) is_cut: bool,
}

impl<H: History> Session<H> {
    /// Sends what concerns the whole connection.
    pub(super) async fn send_items(&mut self, items: &mut Vec<Delivery>) -> Result<Delivered, End> {
        // A subscription ends once, whoever finds it out.
        items.retain(|item| match item {
            Delivery::Frame(_) => true,
            Delivery::Ended { subscription, .. } => self
                .live
                .iter()
                .any(|placed| Arc::ptr_eq(&placed.subscription, subscription)),
        });
        let delivered = self.deliver(items).await?;
        self.at = delivered.position.unwrap_or(self.at);
        Ok(delivered)
    }

    /// Sends items in as few writes as it takes, and empties `items`. Once the client stalls, the rest is dropped: it
    /// is read again when the client goes on.
    pub(super) async fn deliver(&mut self, items: &mut Vec<Delivery>) -> Result<Delivered, End> {
        let mut delivered = Delivered::default();
        let now = Timestamp::now();
        for item in items.iter() {
            if self.wire.item(item, now).await? == Pace::Stalled {
                delivered.stalled = true;
                break;
            }
            match item {
                Delivery::Frame(frame) => delivered.position = Some(frame.position),
                Delivery::Ended { subscription, error } => {
                    self.log_end(&subscription.id, error.code.as_str());
                    self.has_ended(subscription);
                    delivered.ended.push(Arc::clone(subscription));
                }
            }
        }
        delivered.is_cut = delivered.stalled;
        delivered.stalled = delivered.stalled || self.wire.flush_unless_stalled().await? == Pace::Stalled;
        items.clear();
        // What one burst needed is not kept for ever: connections are many.
        items.shrink_to(64);
        Ok(delivered)
    }

    fn has_ended(&mut self, subscription: &Arc<Subscription>) {
        self.machine.free(&subscription.id);
        let before = self.live.len();
        self.live
            .retain(|placed| !Arc::ptr_eq(&placed.subscription, subscription));
        self.shared
            .metrics
            .subscriptions
            .sub((before - self.live.len()) as i64);
    }
}
