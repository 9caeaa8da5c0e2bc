//! Messages of a client: read, counted and handed on, or the end of the connection.

use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use tungstenite::error::ProtocolError;
use tungstenite::{Error, Message};

use super::cursor::Input;
use super::machine::Request;
use super::{End, Event, MAX_CLIENT_MESSAGE_BYTES, Session};
use crate::log::Log;
use crate::protocol::CloseCode;

/// The number of a client's requests that wait for their turn; with so many, nothing more is read from it.
const MAX_WAITING_REQUESTS: usize = 16;
/// The amount that may come until a message is whole: as much as it may have, and as much again for the heads of its
/// fragments.
const MAX_UNFINISHED_BYTES: usize = 2 * MAX_CLIENT_MESSAGE_BYTES;

impl<H: Log> Session<H> {
    /// The next message of the client. As long as it does not take the answers to its pings, nothing more is read from
    /// it: they would have to be kept.
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Event<H>> {
        if self.cursor.waiting_requests() >= MAX_WAITING_REQUESTS {
            // Read on once one of them is done: work is under way, whose end wakes us.
            return Poll::Pending;
        }
        if self
            .identity
            .as_ref()
            .is_some_and(|identity| identity.is_verifying())
        {
            // What comes behind a token is judged by it.
            return Poll::Pending;
        }
        if self.owes_pong {
            match self.wire.socket.poll_flush_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Message(Some(Err(error)))),
                Poll::Ready(Ok(())) => self.owes_pong = false,
            }
        }
        match self.wire.socket.poll_next_unpin(cx) {
            Poll::Ready(message) => Poll::Ready(Event::Message(message)),
            Poll::Pending if self.unfinished().is_beyond(MAX_UNFINISHED_BYTES) => Poll::Ready(Event::TooBig),
            Poll::Pending => Poll::Pending,
        }
    }

    pub(super) fn unfinished(&mut self) -> &mut super::socket::Unfinished {
        self.wire.socket.get_mut().unfinished()
    }

    pub(super) async fn received(
        &mut self,
        message: Option<tungstenite::Result<Message>>,
    ) -> Result<(), End> {
        let now = Instant::now();
        self.machine.heard(now);
        let request = match message {
            Some(Ok(Message::Text(text))) => {
                self.unfinished().message();
                self.machine.text(&text)
            }
            Some(Ok(Message::Binary(_))) => {
                self.unfinished().message();
                self.machine.binary()
            }
            Some(Ok(Message::Ping(payload) | Message::Pong(payload))) => {
                self.owes_pong = true;
                self.unfinished().control(payload.len());
                return if self.machine.control(now) {
                    Ok(())
                } else {
                    Err(End::Close(CloseCode::RateLimited))
                };
            }
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map_or(NO_STATUS, |frame| frame.code.into());
                // The library has its answer ready. A client that leaves need not wait for it.
                let _gone = self.wire.flush().await;
                return Err(End::Left(code));
            }
            Some(Ok(Message::Frame(_))) => return Ok(()),
            Some(Err(error)) => return Err(of_error(&error)),
            None => return Err(End::Lost),
        };
        match request {
            Request::Reply(text) => self.wire.send(text).await?,
            Request::Refuse(error) => self.wire.error(&error).await?,
            Request::Close(error, code) => {
                self.wire.error(&error).await?;
                return Err(End::Close(code));
            }
            Request::Subscribe(id, subscribe) => self.feed(Input::Subscribe(id, subscribe)).await?,
            Request::Unsubscribe(id) => self.feed(Input::Unsubscribe(id)).await?,
            Request::Auth(token) => self.verify(token),
        }
        Ok(())
    }
}

/// The code of a close frame that has none (RFC 6455, section 7.1.5).
pub(super) const NO_STATUS: u16 = 1005;

/// The way in which a connection ends on which something came that cannot be.
pub(super) fn of_error(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::Close(CloseCode::TooBig),
        Error::Utf8(_) => End::Close(CloseCode::NotText),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Lost,
        Error::Protocol(_) => End::Close(CloseCode::ProtocolError),
        _ => End::Lost,
    }
}
