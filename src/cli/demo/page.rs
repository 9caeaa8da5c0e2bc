//! The demo's pages, in the binary, and tokens for them.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::tenants::{CONFIG, Issuer};

/// Only what comes from here, and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The pages and their parts. Whoever can reach them can have the tokens of both tenants.
pub(super) fn routes(issuer: Issuer) -> Router {
    let files = [
        ("/", "text/html", include_str!("page.html")),
        ("/tenants", "text/html", include_str!("tenants.html")),
        ("/demo/page.css", "text/css", include_str!("page.css")),
        ("/demo/page.js", "text/javascript", include_str!("page.js")),
        ("/demo/tenants.js", "text/javascript", include_str!("tenants.js")),
        ("/demo/show.js", "text/javascript", include_str!("show.js")),
        ("/demo/stream.js", "text/javascript", include_str!("stream.js")),
        ("/demo/walcast.toml", "text/plain", CONFIG),
    ];
    let issuer = Arc::new(issuer);
    let token = move |Path(tenant): Path<String>| async move { answer(issuer.token(&tenant)) };
    let tokens = Router::new().route("/demo/token/{tenant}", get(token));
    files.into_iter().fold(tokens, |routes, (path, kind, text)| {
        routes.route(path, get(move || async move { (headers(kind), text) }))
    })
}

fn answer(token: Option<String>) -> Response {
    match token {
        Some(token) => (headers("text/plain"), token).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn headers(kind: &str) -> [(HeaderName, String); 4] {
    [
        (header::CONTENT_TYPE, format!("{kind}; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.into()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".into()),
        // A rebuilt demo is on the same address.
        (header::CACHE_CONTROL, "no-store".into()),
    ]
}
