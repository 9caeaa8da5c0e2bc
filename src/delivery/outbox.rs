//! [`Outbox`]: the router's queue for one connection.
//!
//! It is bounded in bytes. When a client reads too slowly and it is full, it is emptied and remembers that it fell
//! behind: the session then reads on from the journal, at the client's own pace, and joins again. The router never
//! waits for it.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::matching::Subscription;
use crate::protocol::{ErrorMessage, Frame};

/// A message of the router to a session.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A transaction's changes.
    Frame(Frame),
    /// A subscription ended: the table's schema changed under it.
    Ended {
        /// The subscription.
        subscription: Arc<Subscription>,
        /// The reason.
        error: Box<ErrorMessage>,
    },
}

/// The contents of an outbox, as a session finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The items, in order.
    Items,
    /// It overflowed: its items were dropped, and no more will come. The session reads on from the journal and joins
    /// again.
    Behind,
    /// A new epoch has begun, so positions of the old one mean nothing any more.
    EpochChanged,
}

/// The router's queue for one connection.
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
    waker: AtomicWaker,
    max_bytes: usize,
}

#[derive(Debug)]
struct Inner {
    items: Vec<Delivery>,
    bytes: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    Behind,
    EpochChanged,
}

/// The outbox takes nothing more, since it has overflowed, or its session is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl Outbox {
    /// An empty outbox that holds at most about `max_bytes` of messages.
    pub fn new(max_bytes: usize) -> Arc<Outbox> {
        let inner = Inner {
            items: Vec::new(),
            bytes: 0,
            state: State::Live,
        };
        Arc::new(Outbox {
            inner: Mutex::new(inner),
            waker: AtomicWaker::new(),
            max_bytes,
        })
    }

    /// Adds an item and wakes the session. A single item larger than the bound is taken if the outbox is empty.
    pub fn push(&self, item: Delivery) -> Result<(), Refused> {
        let size = match &item {
            Delivery::Frame(frame) => frame.text.len(),
            Delivery::Ended { .. } => 0,
        };
        let mut inner = self.inner.lock();
        if inner.state != State::Live {
            return Err(Refused);
        }
        let fits = inner.items.is_empty() || inner.bytes + size <= self.max_bytes;
        let was_empty = inner.items.is_empty();
        if fits {
            inner.bytes += size;
            inner.items.push(item);
        } else {
            inner.end(State::Behind);
        }
        drop(inner);
        if was_empty || !fits {
            self.waker.wake();
        }
        if fits { Ok(()) } else { Err(Refused) }
    }

    /// Drops its items and takes nothing more, as after an overflow, since its client has stalled.
    pub fn give_up(&self) {
        let mut inner = self.inner.lock();
        if inner.state == State::Live {
            inner.end(State::Behind);
        }
    }

    /// Drops its items and takes nothing more, and wakes the session, which reads on from the journal.
    pub fn put_behind(&self) {
        self.give_up();
        self.waker.wake();
    }

    /// Ends the epoch, and wakes the session.
    pub fn end_epoch(&self) {
        self.inner.lock().end(State::EpochChanged);
        self.waker.wake();
    }

    /// Moves all items into `items` (which should be empty), or waits.
    pub fn poll_take(&self, cx: &mut Context<'_>, items: &mut Vec<Delivery>) -> Poll<Received> {
        if let Some(taken) = self.try_take(items) {
            return Poll::Ready(taken);
        }
        self.waker.register(cx.waker());
        // An item that came between the check and the registration of the waker woke nobody.
        self.try_take(items).map_or(Poll::Pending, Poll::Ready)
    }

    /// Moves all items into `items` (which should be empty), if there are any.
    pub fn try_take(&self, items: &mut Vec<Delivery>) -> Option<Received> {
        let mut inner = self.inner.lock();
        match inner.state {
            State::Behind => Some(Received::Behind),
            State::EpochChanged => Some(Received::EpochChanged),
            State::Live if inner.items.is_empty() => None,
            State::Live => {
                // The two vectors are swapped, so that a steady stream allocates neither.
                std::mem::swap(&mut inner.items, items);
                inner.bytes = 0;
                Some(Received::Items)
            }
        }
    }
}

impl Inner {
    fn end(&mut self, state: State) {
        *self = Inner {
            items: Vec::new(),
            bytes: 0,
            state,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::event::Timestamp;
    use crate::lsn::{Lsn, Position};

    fn frame(end: u64, bytes: usize) -> Delivery {
        let text = "x".repeat(bytes).into();
        Delivery::Frame(Frame {
            position: Position::after(Lsn(end)),
            committed_at: Timestamp(0),
            text,
        })
    }

    fn take(outbox: &Outbox) -> (Poll<Received>, usize) {
        let mut items = Vec::new();
        let taken = outbox.poll_take(&mut Context::from_waker(Waker::noop()), &mut items);
        (taken, items.len())
    }

    #[test]
    fn items_are_taken_together_and_in_order() {
        let outbox = Outbox::new(100);
        assert_eq!(take(&outbox), (Poll::Pending, 0));
        outbox.push(frame(1, 10)).unwrap();
        outbox.push(frame(2, 10)).unwrap();
        assert_eq!(take(&outbox), (Poll::Ready(Received::Items), 2));
        assert_eq!(take(&outbox), (Poll::Pending, 0));
    }

    #[test]
    fn an_overflow_empties_it_and_is_remembered() {
        let outbox = Outbox::new(100);
        outbox.push(frame(1, 60)).unwrap();
        assert_eq!(outbox.push(frame(2, 60)), Err(Refused));
        assert_eq!(outbox.push(frame(3, 1)), Err(Refused));
        assert_eq!(take(&outbox), (Poll::Ready(Received::Behind), 0));
    }

    #[test]
    fn one_item_larger_than_the_bound_passes_alone() {
        let outbox = Outbox::new(100);
        outbox.push(frame(1, 500)).unwrap();
        assert_eq!(outbox.push(frame(2, 1)), Err(Refused));
    }
}
