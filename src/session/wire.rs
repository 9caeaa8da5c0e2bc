//! [`Wire`]: the sending side of a client's websocket. Several small frames go out in one write, and large ones from
//! where they are.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::Data;
use tungstenite::{Error, Message, Utf8Bytes};

use super::seen::Seen;
use super::socket::{Outgoing, Socket};
use crate::delivery::{Delivery, Outbox};
use crate::event::Timestamp;
use crate::limit::Limit;
use crate::protocol::{CloseCode, ErrorMessage, ServerMessage};
use crate::telemetry::Metrics;

/// The reason why a client gets nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The connection has ended.
    Gone,
    /// It read nothing for too long.
    Stalled,
    /// It reads nothing, and all clients are to go.
    Stopped,
}

/// The pace at which a client takes what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// It takes it.
    Taken,
    /// It has taken nothing for a while.
    Stalled,
}

impl From<Error> for Lost {
    fn from(_: Error) -> Lost {
        Lost::Gone
    }
}

/// A websocket, and what is counted of it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: Box<WebSocketStream<Socket>>,
    metrics: Arc<Metrics>,
    /// The record for operators.
    pub(super) seen: Arc<Seen>,
    /// True while a message is sent only in part: nothing but a close frame may follow.
    is_amid: bool,
    pub(super) patience: Patience,
}

/// Messages up to this size, in bytes, are copied, so that several go out in one write.
const COPIED_BYTES: usize = 8 * 1024;
/// The size of the fragments, in bytes, in which larger messages go out: a client may not accept larger frames.
const FRAGMENT_BYTES: usize = 32 * 1024;
/// The time without progress after which a client counts as stalled, and nothing is kept for it in memory any more.
const GRACE: Duration = Duration::from_secs(1);

/// The most messages that are read between our close frame and the answer to it. A client that sends more is cut off.
const MAX_AFTER_CLOSE: usize = 1000;

impl Wire {
    pub(super) fn new(
        socket: Box<WebSocketStream<Socket>>,
        metrics: Arc<Metrics>,
        seen: Arc<Seen>,
        stall_timeout: Duration,
        stop: CancellationToken,
    ) -> Wire {
        Wire {
            socket,
            patience: Patience {
                metrics: Arc::clone(&metrics),
                seen: Arc::clone(&seen),
                stall_timeout,
                stop,
                outbox: Weak::new(),
            },
            metrics,
            seen,
            is_amid: false,
        }
    }

    /// True if a message was sent in part, and was then given up.
    pub(super) fn is_amid(&self) -> bool {
        self.is_amid
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), Lost> {
        self.feed(text.into()).await?;
        self.flush().await
    }

    /// Sends an error, and counts it.
    pub(super) async fn error(&mut self, error: &ErrorMessage) -> Result<(), Lost> {
        self.count(error);
        self.send(ServerMessage::Error(error.clone()).to_json()).await
    }

    /// Counts a limit that the client has met.
    pub(super) fn reached(&self, limit: Limit) {
        self.metrics.limit(limit);
    }

    fn count(&self, error: &ErrorMessage) {
        self.metrics.error(error.code.as_str());
        if let Some(limit) = error.limit() {
            self.metrics.limit_of_name(limit);
        }
    }

    /// Queues a delivery of the router or of a replay for the next flush, unless the client is stalled. `is_timed`: its age
    /// counts as a delay.
    pub(super) async fn item(
        &mut self,
        item: &Delivery,
        now: Timestamp,
        is_timed: bool,
    ) -> Result<Pace, Lost> {
        match item {
            Delivery::Frame(frame) => {
                if is_timed {
                    let age = now.seconds_since(frame.committed_at);
                    self.metrics.commit_to_send_seconds.observe(age);
                }
                self.feed_unless_stalled(frame.text.clone()).await
            }
            Delivery::Ended { error, .. } => {
                self.count(error);
                let text = ServerMessage::Error((**error).clone()).to_json();
                self.feed_unless_stalled(text.into()).await
            }
        }
    }

    /// Sends what was queued, unless the client stalls.
    pub(super) async fn flush_unless_stalled(&mut self) -> Result<Pace, Lost> {
        match in_time(GRACE, self.socket.flush()).await {
            Err(Lost::Stalled) => Ok(Pace::Stalled),
            flushed => flushed.map(|()| Pace::Taken),
        }
    }

    /// Sends what was queued, however long the client takes.
    pub(super) async fn flush(&mut self) -> Result<(), Lost> {
        self.patience.wait(self.socket.flush()).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), Lost> {
        self.patience
            .wait(self.socket.send(Message::Ping(Default::default())))
            .await
    }

    /// Sends a close frame, and waits for the answer.
    pub(super) async fn close(&mut self, code: CloseCode) {
        let frame = CloseFrame {
            code: code.code().into(),
            reason: code.reason().as_ref().into(),
        };
        if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
            for _ in 0..MAX_AFTER_CLOSE {
                let Some(Ok(_)) = self.socket.next().await else {
                    break;
                };
            }
        }
    }

    async fn feed_unless_stalled(&mut self, text: Utf8Bytes) -> Result<Pace, Lost> {
        let ready = if is_copied(&text) {
            in_time(GRACE, std::future::poll_fn(|cx| self.socket.poll_ready_unpin(cx))).await
        } else {
            in_time(GRACE, self.socket.flush()).await
        };
        match ready {
            Err(Lost::Stalled) => return Ok(Pace::Stalled),
            ready => ready?,
        }
        self.feed(text).await?;
        Ok(Pace::Taken)
    }

    async fn feed(&mut self, text: Utf8Bytes) -> Result<(), Lost> {
        self.metrics.sent_messages.inc();
        self.metrics.sent_bytes.inc_by(text.len() as u64);
        self.seen.sent(text.len() as u64);
        let Wire {
            socket,
            patience,
            is_amid,
            ..
        } = self;
        if is_copied(&text) {
            return patience.wait(socket.feed(Message::Text(text))).await;
        }
        let mut rest = Bytes::from(text);
        let mut opcode = Data::Text;
        while !rest.is_empty() {
            let fragment = rest.split_to(rest.len().min(FRAGMENT_BYTES));
            // After the small messages that were queued before it.
            patience.wait(socket.flush()).await?;
            socket
                .get_mut()
                .put(Outgoing::new(opcode, rest.is_empty(), fragment));
            opcode = Data::Continue;
            *is_amid = !rest.is_empty();
        }
        Ok(())
    }
}

/// True if a message is small enough to be sent with others.
fn is_copied(text: &str) -> bool {
    text.len() <= COPIED_BYTES
}

/// The patience with a client that takes nothing.
#[derive(Debug)]
pub(super) struct Patience {
    metrics: Arc<Metrics>,
    seen: Arc<Seen>,
    stall_timeout: Duration,
    /// Cancelled when all clients are to go.
    stop: CancellationToken,
    /// The outbox of its registration at the router.
    pub(super) outbox: Weak<Outbox>,
}

impl Patience {
    /// Waits for a write. Once the client has stalled, the router keeps nothing for it any more: to read on from the
    /// journal later costs less than the memory until then.
    async fn wait(&self, write: impl Future<Output = Result<(), Error>>) -> Result<(), Lost> {
        let mut write = pin!(write);
        match in_time(GRACE, write.as_mut()).await {
            Err(Lost::Stalled) => {}
            taken => return taken,
        }
        if let Some(outbox) = self.outbox.upgrade() {
            outbox.give_up();
        }
        let _stalled = Stalled::new(&self.metrics, &self.seen);
        tokio::select! {
            written = in_time(self.stall_timeout, write) => written,
            // Whoever waits on would keep what is being closed from its end.
            () = self.stop.cancelled() => Err(Lost::Stopped),
        }
    }
}

/// A stalled client in the metrics, counted until it goes on or its session ends.
struct Stalled<'a>(&'a Metrics, &'a Seen);

impl Stalled<'_> {
    fn new<'a>(metrics: &'a Metrics, seen: &'a Seen) -> Stalled<'a> {
        metrics.stalled.inc();
        seen.stalls(true);
        Stalled(metrics, seen)
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.stalled.dec();
        self.1.stalls(false);
    }
}

/// Waits for a write. Mostly it is done at once, and no timer is made.
async fn in_time(limit: Duration, write: impl Future<Output = Result<(), Error>>) -> Result<(), Lost> {
    let mut write = pin!(write);
    if let Some(written) = write.as_mut().now_or_never() {
        return Ok(written?);
    }
    match tokio::time::timeout(limit, write).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(Lost::Stalled),
    }
}
