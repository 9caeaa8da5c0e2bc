//! The demo's page, in the binary.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::routing::get;

/// Only what comes from here, and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page and its parts.
pub(super) fn routes() -> Router {
    let files = [
        ("/", "text/html", include_str!("page.html")),
        ("/demo/page.css", "text/css", include_str!("page.css")),
        ("/demo/page.js", "text/javascript", include_str!("page.js")),
        ("/demo/stream.js", "text/javascript", include_str!("stream.js")),
    ];
    files
        .into_iter()
        .fold(Router::new(), |routes, (path, kind, text)| {
            routes.route(path, get(move || async move { (headers(kind), text) }))
        })
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
