//! `GET /v1/stream`: the upgrade to a websocket, and the session behind it.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig};

use super::origin::{Noted, Origins};
use super::server::Arrival;
use crate::auth::Subject;
use crate::health::Readiness;
use crate::log::Log;
use crate::protocol::{Caller, Token};
use crate::session::{self, Socket};
use crate::telemetry::{CLIENT_CHARS, Excerpt, Metrics};
use crate::types::json::Numbers;

/// The subprotocol that a client may offer.
const SUBPROTOCOL: &str = "walcast.v1";
/// A connection's read buffer: client messages are small, and every connection holds one.
const READ_BUFFER_BYTES: usize = 1024;
/// The amount that a connection gathers before it writes: several small frames go out in one write.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;
/// The most that a connection ever gathers of what the kernel did not take: small frames, and answers to pings. Nothing
/// that a session does fills it: it waits for the client long before.
const MAX_WRITE_BUFFER_BYTES: usize = 128 * 1024;

/// The state that every session gets, and the tracker by which they are waited for.
#[derive(Debug)]
pub struct Gate<H: Log> {
    /// The state that sessions share.
    pub shared: Arc<session::Services<H>>,
    /// Keeps clients out until there is something to serve, and closes their sessions.
    pub readiness: Readiness,
    /// Keeps the pages of other sites out.
    pub origins: Arc<Origins>,
    /// The pages that were kept out.
    pub refused: Arc<Noted>,
    /// Every open session's task.
    pub sessions: TaskTracker,
    /// Keeps clients out for good.
    pub stop: CancellationToken,
}

// Not derived: `H` need not be `Clone` for this.
impl<H: Log> Clone for Gate<H> {
    fn clone(&self) -> Gate<H> {
        Gate {
            shared: Arc::clone(&self.shared),
            readiness: self.readiness.clone(),
            origins: Arc::clone(&self.origins),
            refused: Arc::clone(&self.refused),
            sessions: self.sessions.clone(),
            stop: self.stop.clone(),
        }
    }
}

/// The route of the websocket.
pub fn stream<H: Log>(gate: Gate<H>) -> Router {
    Router::new()
        .route("/v1/stream", get(upgrade::<H>))
        .with_state(gate)
}

/// The query parameters of the handshake.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
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

async fn upgrade<H: Log>(
    State(gate): State<Gate<H>>,
    Extension(arrival): Extension<Arrival>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
    mut request: Request,
) -> Response {
    let Ok(Query(parameters)) = parameters else {
        let help = "the only query parameter is numbers=string (or numbers=native)\n";
        return (StatusCode::BAD_REQUEST, help).into_response();
    };
    let key = match websocket_key(request.headers()) {
        Ok(key) => key,
        Err(refusal) => return refusal.into_response(),
    };
    if let Err(refused) = gate.origins.check(request.headers()) {
        gate.shared.metrics.refused("origin");
        let words = refused.to_string();
        let words = Excerpt::of(&words, 2 * CLIENT_CHARS);
        match gate.refused.is_new(&refused) {
            true => tracing::warn!(refused = %words, "a page was refused"),
            false => tracing::debug!(refused = %words, "a page was refused"),
        }
        return (StatusCode::FORBIDDEN, format!("{refused}\n")).into_response();
    }
    let token = bearer(request.headers());
    let subject = match subject(&gate, token).await {
        Ok(subject) => subject,
        Err(refusal) => return refusal,
    };
    let unavailable = |reason: &str| {
        gate.shared.metrics.refused("unready");
        unavailable(reason)
    };
    if gate.stop.is_cancelled() {
        return unavailable("going away");
    }
    let stop = match gate.readiness.serves() {
        Ok(stop) => stop,
        Err(reason) => return unavailable(&reason),
    };
    let Some(on_upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Refusal::NoUpgrade.into_response();
    };
    let numbers = match parameters.numbers {
        NumbersParameter::Native => Numbers::Native,
        NumbersParameter::String => Numbers::Strings,
    };
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
    let sessions = gate.sessions.clone();
    sessions.spawn(async move {
        let Some(socket) = websocket(on_upgrade).await else {
            return;
        };
        let caller = Caller {
            connection: arrival.number,
            peer: arrival.peer,
            numbers,
            subject,
        };
        let shared = Arc::clone(&gate.shared);
        Box::pin(session::serve(socket, shared, caller, arrival.at, stop)).await;
        drop(arrival);
    });
    response
}

/// The reason why a request is no websocket handshake (RFC 6455, section 4.2.1).
#[derive(Debug)]
enum Refusal {
    NoUpgrade,
    Version,
    Key,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
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

/// The subject of a client as far as its handshake tells: `None` if it is still to be said, or need not be.
async fn subject<H: Log>(
    gate: &Gate<H>,
    token: Result<Option<Token>, NoBearer>,
) -> Result<Option<Arc<Subject>>, Response> {
    let Some(auth) = &gate.shared.auth else {
        return Ok(None);
    };
    let metrics = &gate.shared.metrics;
    if !auth.is_ready() {
        metrics.refused("unready");
        return Err(unavailable("there are no keys yet to verify tokens by"));
    }
    let words = match token {
        Ok(None) => return Ok(auth.anonymous()),
        Ok(Some(token)) => match auth.authenticate(token.reveal()).await {
            Ok(subject) => return Ok(Some(subject)),
            Err(reason) => format!("the token is not accepted: {reason}\n"),
        },
        Err(NoBearer) => "write one header, Authorization: Bearer and the token\n".to_owned(),
    };
    metrics.refused("token");
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
    Err((StatusCode::UNAUTHORIZED, challenge, words).into_response())
}

/// There is an `Authorization` that is no bearer's.
#[derive(Debug)]
struct NoBearer;

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1), if there is such a header.
fn bearer(headers: &HeaderMap) -> Result<Option<Token>, NoBearer> {
    let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| NoBearer)?,
        (Some(_), Some(_)) => return Err(NoBearer),
    };
    let (scheme, token) = value.split_once(' ').ok_or(NoBearer)?;
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(NoBearer);
    }
    Ok(Some(Token::new(token.trim())))
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
    // 16 bytes in base64.
    key.filter(|key| key.len() == 24)
        .map(str::to_owned)
        .ok_or(Refusal::Key)
}

fn offers_subprotocol(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    offers
        .filter_map(|offer| offer.to_str().ok())
        .flat_map(|offer| offer.split(','))
        .any(|o| o.trim() == SUBPROTOCOL)
}

/// Routes for clients that come before there is anything to serve: each is told when to come again, and why.
pub fn unready(readiness: Readiness, metrics: Arc<Metrics>) -> Router {
    Router::new().fallback(async move || {
        metrics.refused("unready");
        unavailable(&readiness.get().err().unwrap_or_default())
    })
}

fn unavailable(reason: &str) -> Response {
    let retry = [(header::RETRY_AFTER, "1")];
    (
        StatusCode::SERVICE_UNAVAILABLE,
        retry,
        format!("not ready: {reason}\n"),
    )
        .into_response()
}

/// The websocket on the TCP stream itself: the HTTP library's layers are gone from under it.
async fn websocket(on_upgrade: OnUpgrade) -> Option<WebSocketStream<Socket>> {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "an upgrade failed");
            return None;
        }
    };
    let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        tracing::error!("an upgraded connection is not the socket that was accepted");
        return None;
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(Some(session::MAX_CLIENT_MESSAGE_BYTES))
        .max_frame_size(Some(session::MAX_CLIENT_MESSAGE_BYTES));
    let early = read_buf.to_vec();
    let socket = Socket::new(io.into_inner());
    Some(WebSocketStream::from_partially_read(socket, early, Role::Server, Some(config)).await)
}
