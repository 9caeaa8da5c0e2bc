//! `GET /v1/stream` on the admin listener: the clients' protocol for operators, who see what is published as it is,
//! without policies.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::admin::{Admin, RowsRefused, failed};
use super::arrival::Arrival;
use super::stream::{STREAM_PATH, Serving, ServingPlace, unavailable};
use super::websocket::{Handshake, Parameters, Who};
use crate::config::SourceName;
use crate::health::Readiness;
use crate::log::Log;
use crate::protocol::Token;
use crate::session::{OperatorCheck, Waiting};
use crate::telemetry::Metrics;

/// The most websockets of operators at the same time.
pub const MAX_STREAMS: usize = 16;
/// The most of them that have not sent the token yet.
const MAX_WAITING: usize = 8;

/// The numbers of operators' connections begin here: those of clients, which are counted by another listener, do not come
/// so far.
const FIRST_NUMBER: u64 = 1_000_000_000_000;

/// The places of operators' websockets.
#[derive(Debug)]
struct Places {
    streams: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// The way of operators to a source.
#[derive(Debug)]
pub struct OperatorGate<H: Log> {
    /// The name by which they ask for it; `None` for the only one.
    pub name: Option<SourceName>,
    /// The place of what serves it.
    pub place: Arc<ServingPlace<H>>,
    /// Everything that is counted of it.
    pub metrics: Arc<Metrics>,
    /// Keeps them out while there is nothing to serve.
    pub readiness: Readiness,
    /// Cancelled when walcast stops.
    pub stop: CancellationToken,
}

/// The routes of operators: a websocket for each source, for those whom `admin` lets see rows.
pub fn operators<H: Log>(admin: &Arc<Admin>, gates: impl IntoIterator<Item = OperatorGate<H>>) -> Router {
    let places = Arc::new(Places {
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        waiting: Arc::new(Semaphore::new(MAX_WAITING)),
    });
    let mut routes = Router::new();
    for gate in gates {
        let path = match &gate.name {
            Some(name) => format!("{STREAM_PATH}/{name}"),
            None => STREAM_PATH.to_owned(),
        };
        let state = (Arc::clone(admin), Arc::clone(&places), Arc::new(gate));
        routes = routes.merge(Router::new().route(&path, get(operate::<H>)).with_state(state));
    }
    routes
}

type Operated<H> = (Arc<Admin>, Arc<Places>, Arc<OperatorGate<H>>);

async fn operate<H: Log>(
    State((admin, places, gate)): State<Operated<H>>,
    Extension(mut arrival): Extension<Arrival>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    request: Request,
) -> Response {
    let handshake = match Handshake::read(parameters, request.headers()) {
        Ok(handshake) => handshake,
        Err(refusal) => return refusal.into_response(),
    };
    // A page cannot set headers, and sends the token as the first message.
    let is_awaited = match admin.rows(request.headers()) {
        Ok(()) => false,
        Err(RowsRefused::Token) if !request.headers().contains_key(header::AUTHORIZATION) => true,
        Err(RowsRefused::Token) => return admin.refuse_token(),
        Err(refused) => return failed(StatusCode::FORBIDDEN, "rows_refused", &refused.to_string()),
    };
    let Ok(held) = Arc::clone(&places.streams).try_acquire_owned() else {
        return crowded(&format!(
            "there are {MAX_STREAMS} such connections already: close one, or try again later"
        ));
    };
    let waiting = if is_awaited {
        let Ok(place) = Arc::clone(&places.waiting).try_acquire_owned() else {
            return crowded(&format!(
                "there are {MAX_WAITING} such connections already that have not sent the token: try again later, or send it as \
                 Authorization: Bearer"
            ));
        };
        let is_token: OperatorCheck = Arc::new(move |token: &Token| admin.admits(token.reveal()));
        Some(Waiting {
            since: arrival.at,
            place,
            operators: Some(is_token),
        })
    } else {
        None
    };
    let serves = gate.readiness.serves();
    let stop = serves.ok().filter(|_| !gate.stop.is_cancelled());
    let (Some(serving), Some(stop)) = (gate.place.get(), stop) else {
        gate.metrics.refused("unready");
        return unavailable();
    };
    let Serving { services, host, span } = serving;
    let serving = Serving {
        services: Arc::new(services.for_operator()),
        host,
        span,
    };
    arrival.number += FIRST_NUMBER;
    let who = Who {
        subject: None,
        is_operator: true,
        waiting,
        span: gate.metrics.traces.root("session"),
    };
    handshake.open(request, arrival, serving, who, stop, held)
}

fn crowded(message: &str) -> Response {
    let mut answer = failed(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", message);
    let seconds = HeaderValue::from_static("5");
    answer.headers_mut().insert(header::RETRY_AFTER, seconds);
    answer
}
