//! `GET /v1/stream`, or `/v1/stream/NAME` with several sources: the upgrade to a websocket, and the session behind it.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::arrival::Arrival;
use super::bearer::{NoBearer, bearer};
use super::client_script::script;
use super::origin::{Noted, Origins};
use super::websocket::{Handshake, Parameters, Who};
use crate::auth::Subject;
use crate::config::SourceName;
use crate::health::Readiness;
use crate::log::Log;
use crate::protocol::Token;
use crate::session::{self, Host, Waiting};
use crate::telemetry::{CLIENT_CHARS, Excerpt, Metrics, traces};

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
