//! `GET /client.js`: the client as one module, for pages without a build.

use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::etag::{entity_tag, is_known};

/// The package `@walcast/client` in one file, as `npm run build` made it in `client/`.
const SCRIPT: &str = include_str!("../../client/dist/client.min.js");

/// Its entity tag.
static TAG: LazyLock<String> = LazyLock::new(|| entity_tag(SCRIPT.as_bytes()));

/// The route of the script. Pages of all origins may have it: it is the same for everybody, and holds nothing of the
/// database.
pub(super) fn script() -> Router {
    Router::new().route("/client.js", get(answer))
}

async fn answer(headers: HeaderMap) -> Response {
    if is_known(&headers, &TAG) {
        return (StatusCode::NOT_MODIFIED, common()).into_response();
    }
    let of_script = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (common(), of_script, SCRIPT).into_response()
}

fn common() -> [(HeaderName, HeaderValue); 4] {
    let tag = HeaderValue::from_str(&TAG).unwrap_or(HeaderValue::from_static("\"\""));
    [
        (header::ETAG, tag),
        // It changes with the server: each page asks, and is told that it has it.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("cross-origin"),
        ),
    ]
}
