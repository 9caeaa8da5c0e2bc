//! `GET /client.js`: the client as one module, for pages without a build.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The package `@walcast/client` in one file, as `npm run build` made it in `client/`.
const SCRIPT: &str = include_str!("../../client/dist/client.min.js");

/// Its entity tag (RFC 9110, section 8.8.3), by its contents.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = DefaultHasher::new();
    SCRIPT.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
});

/// The route of the script. Pages of all origins may have it: it is the same for everybody, and holds nothing of the
/// database.
pub(super) fn script() -> Router {
    Router::new().route("/client.js", get(answer))
}

async fn answer(headers: HeaderMap) -> Response {
    if knows(&headers, &TAG) {
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

/// True if the requester has what the tag stands for, by `If-None-Match` (RFC 9110, section 13.1.2).
fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let fields = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let known = fields.filter_map(|field| field.to_str().ok());
    let mut known = known.flat_map(|field| field.split(',')).map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_alone_in_a_list_and_weak() {
        let knows = |field: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, field.parse().unwrap());
            knows(&headers, "\"a\"")
        };
        for field in ["\"a\"", "\"b\", \"a\"", "W/\"a\"", "*"] {
            assert!(knows(field), "{field}");
        }
        assert!(!knows("\"b\"") && !knows("a") && !knows(""));
    }
}
