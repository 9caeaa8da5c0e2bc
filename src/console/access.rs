//! `/api/access`: what a requester may do. The page comes with the same answer.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::Console;
use crate::http::{STREAM_PATH, answered, host_of};
use crate::log::Log;

/// The answer. It is the only one that needs no token.
#[derive(Debug, Serialize)]
pub(super) struct Access<'a> {
    version: &'static str,
    /// `none` is needed, one is `needed`, or it was `given`.
    token: &'static str,
    /// True if row values are shown.
    rows: bool,
    /// The reason why not, and what to do about it.
    rows_refused: Option<String>,
    /// The names of several sources; none are told without the token.
    sources: Vec<&'a str>,
    /// The path of the operators' websocket, of one source without a name or before the name.
    stream: &'static str,
    /// The address of the clients' websocket, of one source without a name or before the name.
    public: Option<String>,
    /// The path of the metrics.
    metrics: &'static str,
}

pub(super) async fn access<H: Log>(State(console): State<Arc<Console<H>>>, headers: HeaderMap) -> Response {
    answered(StatusCode::OK, &access_of(&console, &headers))
}

/// The access of a requester who sends these headers.
pub(super) fn access_of<'a, H: Log>(console: &'a Console<H>, headers: &HeaderMap) -> Access<'a> {
    let admin = &console.admin;
    let rows = admin.rows(headers);
    let knows = admin.knows(headers);
    Access {
        version: env!("CARGO_PKG_VERSION"),
        token: match (admin.has_token(), knows) {
            (false, _) => "none",
            (true, false) => "needed",
            (true, true) => "given",
        },
        rows: rows.is_ok(),
        rows_refused: rows.err().map(|refused| refused.to_string()),
        sources: if knows {
            console.names().collect()
        } else {
            Vec::new()
        },
        stream: STREAM_PATH,
        public: public(console, headers),
        metrics: "/metrics",
    }
}

/// The address of the clients' websocket. A listener on all addresses is asked by the host that the requester knows.
fn public<H: Log>(console: &Console<H>, headers: &HeaderMap) -> Option<String> {
    let scheme = if console.is_tls { "wss" } else { "ws" };
    let clients = console.clients;
    if !clients.ip().is_unspecified() {
        return Some(format!("{scheme}://{clients}{STREAM_PATH}"));
    }
    let host = host_of(headers.get(header::HOST)?.to_str().ok()?);
    Some(format!("{scheme}://{host}:{}{STREAM_PATH}", clients.port()))
}
