//! [`Wire`]: the sending side of a client's websocket. Several frames go out in one write.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Error, Message, Utf8Bytes};

use crate::event::Timestamp;
use crate::protocol::{CloseCode, ErrorMessage, ServerMessage};
use crate::router::Item;
use crate::telemetry::Metrics;

/// The client takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The connection has ended.
    Gone,
    /// It read nothing for too long.
    Stalled,
}

impl From<Error> for Lost {
    fn from(_: Error) -> Lost {
        Lost::Gone
    }
}

/// A websocket, and what is counted of it.
#[derive(Debug)]
pub(super) struct Wire<S> {
    pub(super) socket: S,
    metrics: Arc<Metrics>,
    stall_timeout: Duration,
}

/// A larger message goes out in fragments of this size, in bytes: the socket copies what it is given, moves the rest at
/// every write, and never gives back what the largest frame took.
const FRAGMENT_BYTES: usize = 256 * 1024;
/// How long a client gets to take our close frame and answer it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl<S> Wire<S>
where
    S: Sink<Message, Error = Error> + Stream<Item = Result<Message, Error>> + Unpin,
{
    pub(super) fn new(socket: S, metrics: Arc<Metrics>, stall_timeout: Duration) -> Wire<S> {
        Wire {
            socket,
            metrics,
            stall_timeout,
        }
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), Lost> {
        self.feed(text.into()).await?;
        self.flush().await
    }

    /// Sends an error, and counts it.
    pub(super) async fn error(&mut self, error: &ErrorMessage) -> Result<(), Lost> {
        self.metrics.error(error.code.as_str());
        self.send(ServerMessage::Error(error.clone()).to_json()).await
    }

    /// Sends what the router or the journal had, all in as few writes as it takes, and empties `items`.
    pub(super) async fn items(&mut self, items: &mut Vec<Item>) -> Result<(), Lost> {
        let now = Timestamp::now();
        for item in items.drain(..) {
            match item {
                Item::Frame(frame) => {
                    let age = now.seconds_since(frame.committed_at);
                    self.metrics.commit_to_send_seconds.observe(age);
                    self.feed(frame.text).await?;
                }
                Item::Ended { error, .. } => {
                    self.metrics.error(error.code.as_str());
                    self.feed(ServerMessage::Error(*error).to_json().into()).await?;
                }
            }
        }
        self.flush().await
    }

    pub(super) async fn ping(&mut self) -> Result<(), Lost> {
        let stall_timeout = self.stall_timeout;
        in_time(stall_timeout, self.socket.send(Message::Ping(Default::default()))).await
    }

    /// Closes, and gives the client a moment to take it and to answer: a socket that is dropped with something unread
    /// in it takes the close frame with it.
    pub(super) async fn close(&mut self, code: CloseCode) {
        let frame = CloseFrame {
            code: code.code().into(),
            reason: code.reason().as_ref().into(),
        };
        let closing = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        // A client that takes no close frame loses its connection without one.
        let _late = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    }

    async fn feed(&mut self, text: Utf8Bytes) -> Result<(), Lost> {
        self.metrics.sent_messages.inc();
        self.metrics.sent_bytes.inc_by(text.len() as u64);
        if text.len() <= FRAGMENT_BYTES {
            return in_time(self.stall_timeout, self.socket.feed(Message::Text(text))).await;
        }
        let mut rest = Bytes::from(text);
        let mut opcode = Data::Text;
        while !rest.is_empty() {
            let fragment = rest.split_to(rest.len().min(FRAGMENT_BYTES));
            let frame = Frame::message(fragment, OpCode::Data(opcode), rest.is_empty());
            in_time(self.stall_timeout, self.socket.feed(Message::Frame(frame))).await?;
            opcode = Data::Continue;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Lost> {
        in_time(self.stall_timeout, self.socket.flush()).await
    }
}

/// Waits for a write; mostly there is nothing to wait for, and no timer is made.
async fn in_time(limit: Duration, write: impl Future<Output = Result<(), Error>>) -> Result<(), Lost> {
    let mut write = std::pin::pin!(write);
    if let Some(written) = write.as_mut().now_or_never() {
        return Ok(written?);
    }
    match tokio::time::timeout(limit, write).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(Lost::Stalled),
    }
}
