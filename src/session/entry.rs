//! A client that has not sent its token yet: it is sent nothing, costs little, and has little time.

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
use crate::limit::Limit;
use crate::protocol::{ClientMessage, CloseCode, ErrorCode, ErrorMessage, Token};

/// The largest message before the token, in bytes: the token, and the JSON around it.
const MAX_MESSAGE_BYTES: usize = MAX_TOKEN_BYTES + 64;
/// The most bytes of an incomplete message: those of a whole one, and the headers of its fragments.
const MAX_UNFINISHED_BYTES: usize = MAX_MESSAGE_BYTES + 1024;
/// The most messages before the token, pings included.
const MAX_MESSAGES: usize = 20;

/// Input from a client without a token.
enum Came {
    Message(Option<tungstenite::Result<Message>>),
    TooBig,
}

/// Tells whether a token is the operators'.
pub type OperatorCheck = Arc<dyn Fn(&Token) -> bool + Send + Sync>;

/// The one who knows the tokens that are waited for.
#[derive(Clone, Copy)]
pub(super) enum Doorkeeper<'a> {
    /// Those of clients.
    Clients(&'a Authenticator),
    /// That of operators.
    Operators(&'a OperatorCheck),
}

/// The time that an operator has to send the token.
const OPERATOR_TIMEOUT: Duration = Duration::from_secs(5);

impl Doorkeeper<'_> {
    pub(super) fn timeout(self) -> Duration {
        match self {
            Doorkeeper::Clients(auth) => auth.timeout(),
            Doorkeeper::Operators(_) => OPERATOR_TIMEOUT,
        }
    }

    /// The subject of a token; operators have none.
    async fn authenticate(self, token: &Token) -> Result<Option<Arc<Subject>>, (ErrorMessage, CloseCode)> {
        match self {
            Doorkeeper::Clients(auth) => match auth.authenticate(token.reveal()).await {
                Ok(subject) => Ok(Some(subject)),
                Err(reason) => {
                    tracing::debug!(%reason, "a token was refused");
                    Err(identity::refusal(reason))
                }
            },
            Doorkeeper::Operators(is_token) if is_token(token) => Ok(None),
            Doorkeeper::Operators(_) => {
                let error = unauthenticated("the token is not that of --admin-token-file");
                Err((error, CloseCode::Unauthenticated))
            }
        }
    }
}

/// Waits for a client's token, until `deadline`.
pub(super) async fn token(
    wire: &mut Wire,
    doorkeeper: Doorkeeper<'_>,
    deadline: Instant,
    stop: &CancellationToken,
    spread: Duration,
) -> Result<Option<Arc<Subject>>, End> {
    let came = async {
        for _ in 0..MAX_MESSAGES {
            let token = match next(wire).await {
                Came::TooBig => return Err(End::Close(CloseCode::TooBig)),
                Came::Message(None) => return Err(End::Lost),
                Came::Message(Some(Err(error))) => return Err(of_error(&error)),
                Came::Message(Some(Ok(message))) => read(wire, message).await?,
            };
            let Some(token) = token else { continue };
            return match doorkeeper.authenticate(&token).await {
                Ok(subject) => Ok(subject),
                Err((error, code)) => {
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
            wire.reached(Limit::AuthTimeout);
            wire.error(&unauthenticated("no token came in time")).await?;
            Err(End::Close(CloseCode::Unauthenticated))
        }
    }
}

async fn next(wire: &mut Wire) -> Came {
    poll_fn(|cx| match wire.socket.poll_next_unpin(cx) {
        Poll::Ready(message) => Poll::Ready(Came::Message(message)),
        Poll::Pending => {
            if wire.socket.get_mut().frames().is_beyond(MAX_UNFINISHED_BYTES) {
                return Poll::Ready(Came::TooBig);
            }
            Poll::Pending
        }
    })
    .await
}

/// The token in a message; any other message is answered with an error.
async fn read(wire: &mut Wire, message: Message) -> Result<Option<Token>, End> {
    let refused = match message {
        Message::Text(text) => {
            if text.len() > MAX_MESSAGE_BYTES {
                return Err(End::Close(CloseCode::TooBig));
            }
            match ClientMessage::parse(&text) {
                Ok(ClientMessage::Auth { token }) => return Ok(Some(token)),
                Ok(_) => unauthenticated("send auth with a token first"),
                Err(error) => unauthenticated(&format!("send auth with a token first ({})", error.message)),
            }
        }
        Message::Binary(_) => unauthenticated("send auth with a token first, as text"),
        Message::Ping(_) | Message::Pong(_) => {
            // The library has queued the answer.
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
