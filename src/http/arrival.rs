//! [`Arrival`]: an accepted connection, with its permits.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

use super::addresses::Share;
use super::places::{Full, Places};

/// An accepted connection with its permits, which are held as long as any task serves it.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// The number of connections that this listener accepted before.
    pub(super) number: u64,
    /// The address of the other end.
    pub(super) peer: SocketAddr,
    /// The client's address, as far as it is known: that of the other end, or the one that a trusted proxy names.
    pub(super) client: IpAddr,
    /// The time at which it was accepted.
    pub(super) at: Instant,
    /// The places of websockets.
    places: Arc<Places>,
    /// Its permit among these, or among those that are being refused.
    place: Option<Arc<OwnedSemaphorePermit>>,
    /// Its share of the limit of its address.
    pub(super) share: Option<Arc<Share>>,
}

impl Arrival {
    /// One from an address, which has no place yet.
    pub(super) fn new(number: u64, peer: SocketAddr, places: Arc<Places>) -> Arrival {
        Arrival {
            number,
            peer,
            client: peer.ip().to_canonical(),
            at: Instant::now(),
            places,
            place: None,
            share: None,
        }
    }

    /// Fails if there is no place for a websocket.
    pub(super) fn check_places(&self) -> Result<(), Full> {
        self.places.check()
    }

    /// Gives it the place of a websocket.
    pub(super) fn take_place(&mut self) -> Result<(), Full> {
        self.place = Some(Arc::new(self.places.take()?));
        Ok(())
    }

    /// Gives it a place among those that are being refused.
    pub(super) fn is_refused(&mut self, place: OwnedSemaphorePermit) {
        self.place = Some(Arc::new(place));
    }
}
