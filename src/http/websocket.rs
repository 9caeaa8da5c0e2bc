//! The handshake of a websocket (RFC 6455, section 4.2), and the session on it.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig};

use super::arrival::Arrival;
use super::last_words::Line;
use super::stream::Serving;
use crate::auth::Subject;
use crate::log::Log;
use crate::protocol::Caller;
use crate::session::{self, Client, Socket, Waiting};
use crate::telemetry::traces;
use crate::types::json::Numbers;

/// The subprotocol that a client may offer.
const SUBPROTOCOL: &str = "walcast.v1";
/// The read buffer of a connection, in bytes: client messages are small, and every connection holds one.
const READ_BUFFER_BYTES: usize = 1024;
/// The amount that a connection gathers before it writes, in bytes, so that several small frames go out in one write.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;
/// The most that a connection gathers while the kernel takes nothing, in bytes: small frames, and answers to pings. A
/// session does not fill it, since it waits for the client long before.
const MAX_WRITE_BUFFER_BYTES: usize = 128 * 1024;

/// The query parameters of the handshake.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    #[serde(default)]
    numbers: NumbersParameter,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NumbersParameter {
    #[default]
    Native,
    String,
}

/// The one who connects.
pub(super) struct Who {
    /// The subject of the token, if there is one.
    pub(super) subject: Option<Arc<Subject>>,
    /// True for an operator.
    pub(super) is_operator: bool,
    /// The place of one who still has to send a token.
    pub(super) waiting: Option<Waiting>,
    /// The session's part of a trace.
    pub(super) span: traces::Span,
}

/// The longest origin that is kept, in bytes.
const MAX_ORIGIN_BYTES: usize = 256;

/// The page that a request comes from, as its browser names it.
fn origin(headers: &HeaderMap) -> Option<Box<str>> {
    let origin = headers.get(header::ORIGIN)?.to_str().ok()?;
    (origin.len() <= MAX_ORIGIN_BYTES).then(|| origin.into())
}

/// A request for a websocket, whose headers are right.
#[derive(Debug)]
pub(super) struct Handshake {
    key: String,
    numbers: Numbers,
}

impl Handshake {
    /// Reads it.
    ///
    /// # Errors
    /// The reason why it is none.
    pub(super) fn read(
        parameters: Result<Query<Parameters>, QueryRejection>,
        headers: &HeaderMap,
    ) -> Result<Handshake, Refusal> {
        let Ok(Query(parameters)) = parameters else {
            return Err(Refusal::Parameters);
        };
        let key = websocket_key(headers)?;
        let numbers = match parameters.numbers {
            NumbersParameter::Native => Numbers::Native,
            NumbersParameter::String => Numbers::Strings,
        };
        Ok(Handshake { key, numbers })
    }

    /// Answers it, and starts the session, which keeps `held` to its end.
    pub(super) fn open<H: Log>(
        self,
        mut request: Request,
        mut arrival: Arrival,
        serving: Serving<H>,
        who: Who,
        stop: CancellationToken,
        held: impl Send + 'static,
    ) -> Response {
        let Handshake { key, numbers } = self;
        let Who {
            subject,
            is_operator,
            waiting,
            span: traced,
        } = who;
        traced.note("walcast.connection", arrival.number as i64);
        let origin = origin(request.headers());
        let Some(on_upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
            return Refusal::NoUpgrade.into_response();
        };
        if let Err(full) = arrival.take_place() {
            return full.into_response();
        }
        let mut response = (
            StatusCode::SWITCHING_PROTOCOLS,
            [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "websocket")],
            [(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))],
        )
            .into_response();
        if offers_subprotocol(request.headers()) {
            let headers = response.headers_mut();
            headers.insert(
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(SUBPROTOCOL),
            );
        }
        let Serving { services, host, span } = serving;
        host.spawn(|effort| {
            let session = async move {
                // In a box, as the session is: a connection keeps the space of the largest of its steps.
                let Some(socket) = Box::pin(websocket(on_upgrade)).await else {
                    return;
                };
                let caller = Caller {
                    connection: arrival.number,
                    peer: arrival.peer,
                    client: arrival.client,
                    numbers,
                    subject,
                };
                let client = Client {
                    caller,
                    origin,
                    is_operator,
                    waiting,
                    span: traced,
                };
                Box::pin(session::serve(socket, services, client, effort, stop)).await;
                drop((arrival, held));
            };
            session.instrument(span)
        });
        response
    }
}

/// The reason why a request is no websocket handshake (RFC 6455, section 4.2.1), or not one that is understood.
#[derive(Debug)]
pub(super) enum Refusal {
    Parameters,
    NoUpgrade,
    Version,
    Key,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::Parameters => {
                let help = "the only query parameter is numbers=string (or numbers=native)\n";
                (StatusCode::BAD_REQUEST, help).into_response()
            }
            Refusal::NoUpgrade => (
                StatusCode::UPGRADE_REQUIRED,
                [(header::UPGRADE, "websocket")],
                "this is a websocket endpoint\n",
            )
                .into_response(),
            Refusal::Version => {
                let version = [(header::SEC_WEBSOCKET_VERSION, "13")];
                (
                    StatusCode::UPGRADE_REQUIRED,
                    version,
                    "only websocket version 13\n",
                )
                    .into_response()
            }
            Refusal::Key => (StatusCode::BAD_REQUEST, "no valid Sec-WebSocket-Key\n").into_response(),
        }
    }
}

fn websocket_key(headers: &HeaderMap) -> Result<String, Refusal> {
    let has_token = |name, token: &str| {
        let values = headers
            .get_all(name)
            .into_iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    if !has_token(header::CONNECTION, "upgrade") || !has_token(header::UPGRADE, "websocket") {
        return Err(Refusal::NoUpgrade);
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(Refusal::Version);
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .and_then(|key| key.to_str().ok());
    key.filter(|key| is_16_bytes_in_base64(key))
        .map(str::to_owned)
        .ok_or(Refusal::Key)
}

/// 22 digits, of which the last has four spare bits that are zero, and the padding (RFC 4648, section 4).
fn is_16_bytes_in_base64(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let digits = text.strip_suffix("==").filter(|digits| digits.len() == 22);
    digits.is_some_and(|digits| digits.bytes().all(is_digit) && digits.ends_with(['A', 'Q', 'g', 'w']))
}

fn offers_subprotocol(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    offers
        .filter_map(|offer| offer.to_str().ok())
        .flat_map(|offer| offer.split(','))
        .any(|o| o.trim() == SUBPROTOCOL)
}

/// The websocket on the connection itself, without the HTTP library's layers; in a box, since it is large and handed on
/// several times.
async fn websocket(on_upgrade: OnUpgrade) -> Option<Box<WebSocketStream<Socket>>> {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "an upgrade failed");
            return None;
        }
    };
    let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<TokioIo<Line>>() else {
        tracing::error!(
            event = "websocket_upgrade_failed",
            "an upgraded connection is not the socket that was accepted"
        );
        return None;
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(Some(session::MAX_CLIENT_MESSAGE_BYTES))
        .max_frame_size(Some(session::MAX_CLIENT_MESSAGE_BYTES));
    let early = read_buf.to_vec();
    let socket = Socket::new(io.into_inner().into_transport()?, &early);
    let socket = WebSocketStream::from_partially_read(socket, early, Role::Server, Some(config));
    Some(Box::new(socket.await))
}
