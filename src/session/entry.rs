//! A client before its token: nothing is sent to it, nothing is kept of it, and its time is short.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio_util::sync::CancellationToken;
use tungstenite::Message;

use super::end::End;
use super::identity;
use super::receive::{NO_STATUS, of_error};
use super::wire::Wire;
use crate::auth::{MAX_TOKEN_BYTES, Subject};
use crate::keys::Authenticator;
use crate::protocol::{ClientMessage, CloseCode, ErrorCode, ErrorMessage};

/// The largest message before the token: the token, and the words around it.
const MAX_MESSAGE_BYTES: usize = MAX_TOKEN_BYTES + 64;
/// The bytes that may come of a message until it is whole: as much, and the heads of its fragments.
const MAX_UNFINISHED_BYTES: usize = MAX_MESSAGE_BYTES + 1024;
/// Messages that may come before the token, pings among them.
const MAX_MESSAGES: usize = 20;

/// A message of a client that has not said who it is.
enum Came {
    Message(Option<tungstenite::Result<Message>>),
    TooBig,
}

/// Waits for a client's token, until its time is over.
pub(super) async fn token(
    wire: &mut Wire,
    auth: &Authenticator,
    deadline: Instant,
    stop: &CancellationToken,
    spread: Duration,
) -> Result<Arc<Subject>, End> {
    let came = async {
        for _ in 0..MAX_MESSAGES {
            let token = match next(wire).await {
                Came::TooBig => return Err(End::Close(CloseCode::TooBig)),
                Came::Message(None) => return Err(End::Lost),
                Came::Message(Some(Err(error))) => return Err(of_error(&error)),
                Came::Message(Some(Ok(message))) => read(wire, message).await?,
            };
            let Some(token) = token else { continue };
            return match auth.authenticate(token.reveal()).await {
                Ok(subject) => Ok(subject),
                Err(reason) => {
                    tracing::debug!(%reason, "a token was refused");
                    let (error, code) = identity::refusal(reason);
                    wire.error(&error).await?;
                    Err(End::Close(code))
                }
            };
        }
        Err(End::Close(CloseCode::Unauthenticated))
    };
    let came = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(End::Close(CloseCode::GoingAway { spread })),
        came = came => Some(came),
        () = tokio::time::sleep_until(deadline.into()) => None,
    };
    match came {
        Some(came) => came,
        None => {
            wire.error(&unauthenticated("no token came in time")).await?;
            Err(End::Close(CloseCode::Unauthenticated))
        }
    }
}

async fn next(wire: &mut Wire) -> Came {
    poll_fn(|cx| match wire.socket.poll_next_unpin(cx) {
        Poll::Ready(message) => Poll::Ready(Came::Message(message)),
        Poll::Pending => {
            let unfinished = wire.socket.get_mut().unfinished();
            if unfinished.is_beyond(MAX_UNFINISHED_BYTES) {
                return Poll::Ready(Came::TooBig);
            }
            Poll::Pending
        }
    })
    .await
}

/// The token in a message; anything else is answered.
async fn read(wire: &mut Wire, message: Message) -> Result<Option<crate::protocol::Token>, End> {
    let refused = match message {
        Message::Text(text) => {
            wire.socket.get_mut().unfinished().message();
            if text.len() > MAX_MESSAGE_BYTES {
                return Err(End::Close(CloseCode::TooBig));
            }
            match ClientMessage::parse(&text) {
                Ok(ClientMessage::Auth { token }) => return Ok(Some(token)),
                Ok(_) => unauthenticated("send auth with a token first"),
                Err(error) => unauthenticated(&format!("send auth with a token first ({})", error.message)),
            }
        }
        Message::Binary(_) => {
            wire.socket.get_mut().unfinished().message();
            unauthenticated("send auth with a token first, as text")
        }
        Message::Ping(payload) | Message::Pong(payload) => {
            wire.socket.get_mut().unfinished().control(payload.len());
            // The library has put the answer in place.
            wire.socket.flush().await.map_err(|_| End::Lost)?;
            return Ok(None);
        }
        Message::Close(frame) => {
            let code = frame.map_or(NO_STATUS, |frame| frame.code.into());
            let _gone = wire.socket.flush().await;
            return Err(End::Left(code));
        }
        Message::Frame(_) => return Ok(None),
    };
    wire.error(&refused).await?;
    Ok(None)
}

fn unauthenticated(message: &str) -> ErrorMessage {
    ErrorMessage::new(ErrorCode::Unauthenticated, message)
}
