//! [`SendRate`]: limits the bytes that a client is sent in a second, as a slow network would.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::{Sleep, sleep};

use crate::limit::{Bucket, Limit, Rate};
use crate::telemetry::Metrics;

/// The most that is sent before the rate is asked again, in bytes.
const PIECE: u32 = 8 * 1024;

/// The rate at which a client is sent bytes, and what it has used of it.
pub(super) struct SendRate {
    rate: Rate,
    bucket: Bucket,
    /// The bytes that were taken from the bucket and are not sent yet.
    taken: usize,
    waits: Option<Pin<Box<Sleep>>>,
    metrics: Arc<Metrics>,
}

impl SendRate {
    /// So many bytes a second, and at once those of one.
    pub(super) fn new(per_second: u32, metrics: Arc<Metrics>) -> Box<SendRate> {
        let now = Instant::now();
        let burst = per_second;
        Box::new(SendRate {
            rate: Rate { per_second, burst },
            bucket: Bucket::full(now),
            taken: 0,
            waits: None,
            metrics,
        })
    }

    /// Waits until something may be sent, and returns the number of bytes.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        while self.taken == 0 {
            if let Some(waits) = &mut self.waits {
                ready!(waits.as_mut().poll(cx));
                self.waits = None;
            }
            match self.bucket.take(PIECE, self.rate, Instant::now()) {
                Ok(()) => self.taken = PIECE.min(self.rate.burst) as usize,
                Err(wait) => {
                    self.metrics.limit(Limit::SendRate);
                    self.waits = Some(Box::pin(sleep(wait)));
                }
            }
        }
        Poll::Ready(self.taken)
    }

    /// Counts bytes that were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_sub(bytes);
    }
}

impl fmt::Debug for SendRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendRate").field("rate", &self.rate).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn bytes_go_out_in_a_burst_and_then_at_the_rate() {
        let mut rate = SendRate::new(2 * PIECE, Metrics::new());
        // What the kernel did not take may be sent later.
        assert_eq!(poll_fn(|cx| rate.poll_room(cx)).await, PIECE as usize);
        rate.sent(1_000);
        assert_eq!(poll_fn(|cx| rate.poll_room(cx)).await, PIECE as usize - 1_000);
        rate.sent(PIECE as usize - 1_000);
        assert_eq!(poll_fn(|cx| rate.poll_room(cx)).await, PIECE as usize);
        rate.sent(PIECE as usize);
        let now = poll_fn(|cx| Poll::Ready(rate.poll_room(cx))).await;
        assert!(now.is_pending());
        assert!(rate.waits.is_some());
    }
}
