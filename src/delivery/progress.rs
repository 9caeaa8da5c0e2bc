//! [`Progress`]: the place that the router has come to, and those who wait for it to come further.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::lsn::{Epoch, Lsn};

/// The place up to which every transaction is in the outboxes. To move on costs a store and a load while nobody waits
/// for what is reached.
#[derive(Debug)]
pub(super) struct Progress {
    position: AtomicU64,
    /// The first place that is awaited; [`NONE`] if there is none.
    first: AtomicU64,
    waiting: Mutex<Waiting>,
    /// The epoch that the place belongs to.
    epoch: watch::Sender<Epoch>,
}

/// Those who wait, by the place and their number.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    places: BTreeMap<(u64, u64), oneshot::Sender<()>>,
}

const NONE: u64 = u64::MAX;

impl Waiting {
    fn first(&self) -> u64 {
        self.places.keys().next().map_or(NONE, |(place, _)| *place)
    }
}

/// One who waits. It is forgotten when it is dropped.
struct Awaited<'a> {
    progress: &'a Progress,
    key: (u64, u64),
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let mut waiting = self.progress.waiting.lock();
        if waiting.places.remove(&self.key).is_some() {
            self.progress.first.store(waiting.first(), Ordering::SeqCst);
        }
    }
}

impl Progress {
    pub(super) fn new(position: Lsn, epoch: Epoch) -> Arc<Progress> {
        Arc::new(Progress {
            position: AtomicU64::new(position.0),
            first: AtomicU64::new(NONE),
            waiting: Mutex::default(),
            epoch: watch::Sender::new(epoch),
        })
    }

    pub(super) fn position(&self) -> Lsn {
        Lsn(self.position.load(Ordering::SeqCst))
    }

    /// Moves on to a place, and wakes those who wait for it or an earlier one.
    pub(super) fn advance(&self, to: Lsn) {
        // In this order, and sequentially consistent: either those who come now see the place, or they are seen here.
        self.position.store(to.0, Ordering::SeqCst);
        if self.first.load(Ordering::SeqCst) <= to.0 {
            self.wake(|place| place <= to.0);
        }
    }

    /// Begins at a place of another epoch, and wakes everybody: the places that they wait for mean nothing any more.
    pub(super) fn begin(&self, at: Lsn, epoch: Epoch) {
        self.position.store(at.0, Ordering::SeqCst);
        self.epoch.send_replace(epoch);
        self.wake(|_| true);
    }

    /// The epoch of the place, and its changes.
    pub(super) fn epoch(&self) -> watch::Receiver<Epoch> {
        self.epoch.subscribe()
    }

    fn wake(&self, is_reached: impl Fn(u64) -> bool) {
        let mut waiting = self.waiting.lock();
        while let Some(first) = waiting.places.first_entry() {
            if !is_reached(first.key().0) {
                break;
            }
            // Who does not wait any more needs no word.
            let _gone = first.remove().send(());
        }
        self.first.store(waiting.first(), Ordering::SeqCst);
    }

    /// Waits until the position is `lsn` or later, or an epoch has begun.
    pub(super) async fn reached(&self, lsn: Lsn) {
        let (sender, receiver) = oneshot::channel();
        let awaited = {
            let mut waiting = self.waiting.lock();
            waiting.next += 1;
            let key = (lsn.0, waiting.next);
            waiting.places.insert(key, sender);
            self.first.store(waiting.first(), Ordering::SeqCst);
            Awaited { progress: self, key }
        };
        if self.position() < lsn {
            // Its sender is dropped only with the word, or with all of this.
            let _reached = receiver.await;
        }
        drop(awaited);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_waits_is_woken_once_the_place_is_reached_and_nobody_is_kept_who_left() {
        let progress = Progress::new(Lsn(10), Epoch::random());
        assert!(progress.reached(Lsn(10)).now_or_never().is_some());
        let mut early = pin!(progress.reached(Lsn(20)));
        let mut late = pin!(progress.reached(Lsn(30)));
        assert!(early.as_mut().now_or_never().is_none() && late.as_mut().now_or_never().is_none());
        {
            let left = pin!(progress.reached(Lsn(15)));
            assert!(left.now_or_never().is_none());
            assert_eq!(progress.first.load(Ordering::SeqCst), 15);
        }
        assert_eq!(progress.first.load(Ordering::SeqCst), 20);
        progress.advance(Lsn(19));
        assert!(early.as_mut().now_or_never().is_none());
        progress.advance(Lsn(20));
        assert!(early.as_mut().now_or_never().is_some() && late.as_mut().now_or_never().is_none());
        // Another history, whose places are smaller.
        progress.begin(Lsn(5), Epoch::random());
        assert!(late.as_mut().now_or_never().is_some());
        assert_eq!(progress.position(), Lsn(5));
        assert_eq!(progress.first.load(Ordering::SeqCst), NONE);
        assert!(progress.waiting.lock().places.is_empty());
    }
}
