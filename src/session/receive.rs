//! Messages of a client: read, counted and handed on, or the end of the connection.

use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use tungstenite::error::ProtocolError;
use tungstenite::{Error, Message};

use super::cursor::Input;
use super::guard::Request;
use super::rates::weight;
use super::{End, Event, Session};
use crate::limit::Limit;
use crate::log::Log;
use crate::protocol::CloseCode;

/// The most requests of a client that may wait for their turn. With so many, nothing more is read from its socket.
const MAX_WAITING_REQUESTS: usize = 16;

impl<H: Log> Session<H> {
    /// The next message of the client. Nothing is read as long as the client does not take the answers to its pings,
    /// since these would pile up.
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Event<H>> {
        if self.cursor.waiting_requests() >= MAX_WAITING_REQUESTS {
            self.frames().pause();
            // Reading resumes once one of them is done: the work under way wakes this task when it ends.
            return Poll::Pending;
        }
        if self
            .identity
            .as_ref()
            .is_some_and(|identity| identity.is_verifying())
        {
            self.frames().pause();
            // Messages after a token are judged by that token, so they wait until it is verified.
            return Poll::Pending;
        }
        if self.owes_pong {
            match self.wire.socket.poll_flush_unpin(cx) {
                Poll::Pending => {
                    self.frames().pause();
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Message(Some(Err(error)))),
                Poll::Ready(Ok(())) => self.owes_pong = false,
            }
        }
        let polled = self.wire.socket.poll_next_unpin(cx);
        let is_broken = matches!(polled, Poll::Ready(None | Some(Err(_))));
        if !is_broken && self.frames().is_fragmented() {
            return Poll::Ready(Event::Fragmented);
        }
        polled.map(Event::Message)
    }

    pub(super) fn frames(&mut self) -> &mut super::frames::Frames {
        self.wire.socket.get_mut().frames()
    }

    /// Counts a message towards the limit of all clients together. True if they send too many.
    fn is_crowded(&self, bytes: usize, now: Instant) -> bool {
        self.services.shared.messages.take(weight(bytes), now).is_err()
    }

    pub(super) async fn received(
        &mut self,
        message: Option<tungstenite::Result<Message>>,
    ) -> Result<(), End> {
        let now = Instant::now();
        self.guard.heard(now);
        let request = match message {
            Some(Ok(Message::Text(text))) => {
                let is_crowded = self.is_crowded(text.len(), now);
                self.guard.text(&text, is_crowded, now)
            }
            Some(Ok(Message::Binary(bytes))) => {
                let is_crowded = self.is_crowded(bytes.len(), now);
                self.guard.binary(bytes.len(), is_crowded, now)
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                self.owes_pong = true;
                if self.guard.control(now) {
                    return Ok(());
                }
                self.services.metrics.limit(Limit::ControlFrames);
                return Err(End::Close(CloseCode::RateLimited));
            }
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map_or(NO_STATUS, |frame| frame.code.into());
                // The library has queued the answer. The client may be gone already.
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
            Request::Subscribe(id, subscribe) => match self.member.subscribe() {
                Ok(()) => {
                    let traces = &self.services.metrics.traces;
                    let connection = self.caller.connection;
                    self.traced.subscribes(traces, connection, (&id, &subscribe));
                    self.feed(Input::Subscribe(id, subscribe)).await?
                }
                Err(limit) => {
                    self.guard.free(&id);
                    self.guard.refused(now);
                    let error = self.services.over(limit).about(&*id);
                    self.wire.error(&error).await?;
                }
            },
            Request::Unsubscribe(id) => self.feed(Input::Unsubscribe(id)).await?,
            Request::Auth(token) => self.verify(token),
            Request::Reach(place, reference) => self.reach(place, reference).await?,
        }
        Ok(())
    }
}

/// The code of a close frame that has none (RFC 6455, section 7.1.5).
pub(super) const NO_STATUS: u16 = 1005;

/// The way in which a connection ends after an error of the websocket protocol.
pub(super) fn of_error(error: &Error) -> End {
    match error {
        Error::Capacity(_) => End::Close(CloseCode::TooBig),
        Error::Utf8(_) => End::Close(CloseCode::NotText),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Lost,
        Error::Protocol(_) => End::Close(CloseCode::ProtocolError),
        _ => End::Lost,
    }
}
