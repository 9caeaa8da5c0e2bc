//! `GET /v1/stream`, or `/v1/stream/NAME` with several sources: the upgrade to a websocket, and the session behind it.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig};

use super::bearer::{NoBearer, bearer};
use super::client_script::script;
use super::connection::Arrival;
use super::last_words::Line;
use super::origin::{Noted, Origins};
use crate::auth::Subject;
use crate::config::SourceName;
use crate::health::Readiness;
use crate::log::Log;
use crate::protocol::{Caller, Token};
use crate::session::{self, Client, Host, Socket, Waiting};
use crate::telemetry::{CLIENT_CHARS, Excerpt, Metrics, traces};
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

/// A source that is being served.
#[derive(Debug)]
pub struct Serving<H: Log> {
    /// The services that its sessions share.
    pub services: Arc<session::Services<H>>,
    /// The threads of its sessions, and their tasks.
    pub host: Host,
    /// The span that its sessions are logged in.
    pub span: Span,
}

// Not derived, since that would need `H: Clone`.
impl<H: Log> Clone for Serving<H> {
    fn clone(&self) -> Serving<H> {
        Serving {
            services: Arc::clone(&self.services),
            host: self.host.clone(),
            span: self.span.clone(),
        }
    }
}

/// The place where clients find a source while it is being served.
#[derive(Debug)]
pub struct ServingPlace<H: Log>(RwLock<Option<Serving<H>>>);

impl<H: Log> Default for ServingPlace<H> {
    fn default() -> ServingPlace<H> {
        ServingPlace(RwLock::new(None))
    }
}

impl<H: Log> ServingPlace<H> {
    /// Puts what serves the source there; `None` if nothing does.
    pub fn set(&self, serving: Option<Serving<H>>) {
        *self.0.write() = serving;
    }

    pub(crate) fn get(&self) -> Option<Serving<H>> {
        self.0.read().clone()
    }
}

/// The way to a source.
#[derive(Clone, Debug)]
pub struct Gate<H: Log> {
    /// The name by which clients ask for it; `None` for the only one.
    pub name: Option<SourceName>,
    /// The place of what serves it.
    pub place: Arc<ServingPlace<H>>,
    /// Everything that is counted of it.
    pub metrics: Arc<Metrics>,
    /// Keeps clients out while there is nothing to serve.
    pub readiness: Readiness,
    /// The web pages that may connect.
    pub origins: Arc<Origins>,
    /// The pages that were refused.
    pub refused: Arc<Noted>,
    /// Places for clients that have not sent their token yet, if tokens are asked for.
    pub waiting: Arc<Semaphore>,
    /// Cancelled when walcast stops.
    pub stop: CancellationToken,
}

/// The path of the websocket, of one source without a name or before the name.
pub(crate) const STREAM_PATH: &str = "/v1/stream";

/// The routes of clients: a websocket for each source, and the script that speaks its protocol.
pub fn streams<H: Log>(gates: impl IntoIterator<Item = Gate<H>>) -> Router {
    let mut routes = script();
    let mut is_named = false;
    for gate in gates {
        let path = match &gate.name {
            Some(name) => {
                is_named = true;
                format!("{STREAM_PATH}/{name}")
            }
            None => STREAM_PATH.to_owned(),
        };
        let route = Router::new().route(&path, get(upgrade::<H>)).with_state(gate);
        routes = routes.merge(route);
    }
    if is_named {
        let unnamed = async || (StatusCode::NOT_FOUND, "name a source, as in /v1/stream/NAME\n");
        let unknown = async || (StatusCode::NOT_FOUND, "there is no source of this name\n");
        routes = routes
            .route(STREAM_PATH, get(unnamed))
            .route(&format!("{STREAM_PATH}/{{name}}"), get(unknown));
    }
    routes
}

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

async fn upgrade<H: Log>(
    State(gate): State<Gate<H>>,
    Extension(arrival): Extension<Arrival>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    request: Request,
) -> Response {
    let span = gate.metrics.traces.root_since("handshake", arrival.at);
    span.note("walcast.connection", arrival.number as i64);
    let response = answer(gate, arrival, parameters, request, &span).await;
    let status = response.status();
    span.note("http.response.status_code", i64::from(status.as_u16()));
    if status != StatusCode::SWITCHING_PROTOCOLS {
        span.failed("refused");
    }
    response
}

async fn answer<H: Log>(
    gate: Gate<H>,
    arrival: Arrival,
    parameters: Result<Query<Parameters>, QueryRejection>,
    request: Request,
    span: &traces::Span,
) -> Response {
    // Taken once all else is right; one that comes meanwhile is refused then.
    if let Err(full) = arrival.check_places() {
        return full.into_response();
    }
    let handshake = match Handshake::read(parameters, request.headers()) {
        Ok(handshake) => handshake,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(serving) = gate.place.get() else {
        gate.metrics.refused("unready");
        return unavailable();
    };
    let services = &serving.services;
    if let Err(refused) = gate.origins.check(request.headers()) {
        gate.metrics.refused("origin");
        let words = refused.to_string();
        let words = Excerpt::of(&words, 2 * CLIENT_CHARS);
        if gate.refused.is_new(&refused) {
            tracing::warn!(event = "origin_refused", refused = %words, "a page was refused")
        } else {
            tracing::debug!(refused = %words, "a page was refused")
        }
        return (StatusCode::FORBIDDEN, format!("{refused}\n")).into_response();
    }
    let token = bearer(request.headers());
    let verifying = span.part("handshake token");
    let subject = match verifying.during(subject(services, token)).await {
        Ok(subject) => subject,
        Err(refusal) => return refusal,
    };
    drop(verifying);
    // It is counted once it is a session. If the limit is reached meanwhile, it is closed then.
    let subjects = &services.shared.subjects;
    if !subjects.has_room(subject.as_deref(), arrival.client) {
        gate.metrics.refused("subject");
        return crowded();
    }
    let is_awaited = subject.is_none() && services.auth.is_some();
    let waiting = match is_awaited.then(|| waiting(&gate, arrival.at)).transpose() {
        Ok(waiting) => waiting,
        Err(refusal) => return refusal.into_response(),
    };
    let serves = gate.readiness.serves();
    let Some(stop) = serves.ok().filter(|_| !gate.stop.is_cancelled()) else {
        gate.metrics.refused("unready");
        return unavailable();
    };
    let who = Who {
        subject,
        is_operator: false,
        waiting,
        span: span.part("session"),
    };
    handshake.open(request, arrival, serving, who, stop, ())
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

/// All places for clients without a token are taken.
#[derive(Debug)]
struct NoPlace;

impl IntoResponse for NoPlace {
    fn into_response(self) -> Response {
        let retry = [(header::RETRY_AFTER, "5")];
        let words = "too many connections are without a token: send it in the header, or try again later\n";
        (StatusCode::SERVICE_UNAVAILABLE, retry, words).into_response()
    }
}

/// The place of a client that still has to send its token. Clients without tokens can take only these places, and none
/// of the others.
fn waiting<H: Log>(gate: &Gate<H>, since: Instant) -> Result<Waiting, NoPlace> {
    let place = Arc::clone(&gate.waiting).try_acquire_owned();
    let place = place.map_err(|_| {
        gate.metrics.refused("unauthenticated");
        NoPlace
    })?;
    Ok(Waiting {
        since,
        place,
        operators: None,
    })
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

/// The subject of a client by its handshake. `None` if the token comes later, or none is asked for.
async fn subject<H: Log>(
    services: &session::Services<H>,
    token: Result<Option<Token>, NoBearer>,
) -> Result<Option<Arc<Subject>>, Response> {
    let Some(auth) = &services.auth else {
        return Ok(None);
    };
    let metrics = &services.metrics;
    if !auth.is_ready() {
        metrics.refused("unready");
        return Err(unavailable());
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

/// The answer to a client whose subject has as many connections as it may have.
fn crowded() -> Response {
    let retry = [(header::RETRY_AFTER, "10")];
    let help = "too many connections of this token's subject: close some, or try again later\n";
    (StatusCode::TOO_MANY_REQUESTS, retry, help).into_response()
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

/// The reason is for operators: it names hosts, roles and paths. `/health/ready` and the log have it.
pub(super) fn unavailable() -> Response {
    let retry = [(header::RETRY_AFTER, "1")];
    (
        StatusCode::SERVICE_UNAVAILABLE,
        retry,
        "not ready: try again later\n",
    )
        .into_response()
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
