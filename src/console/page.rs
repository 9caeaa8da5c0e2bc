//! The files of the console's page, as they were built into the program.

use std::borrow::Cow;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::http::{entity_tag, is_known};

/// A file of the page, as `npm run build` made it in `console/`.
#[derive(Clone, Copy, Debug)]
struct File {
    path: &'static str,
    name: &'static str,
    kind: &'static str,
    contents: &'static [u8],
    /// `no-store` for the page itself; browsers ask again for the others, and are told that they have them.
    cache: &'static str,
}

const FILES: [File; 3] = [
    File {
        path: "/",
        name: "index.html",
        kind: "text/html; charset=utf-8",
        contents: include_bytes!("../../console/dist/index.html"),
        cache: "no-store",
    },
    File {
        path: "/console/app.js",
        name: "app.js",
        kind: "text/javascript; charset=utf-8",
        contents: include_bytes!("../../console/dist/app.js"),
        cache: "no-cache",
    },
    File {
        path: "/console/app.css",
        name: "app.css",
        kind: "text/css; charset=utf-8",
        contents: include_bytes!("../../console/dist/app.css"),
        cache: "no-cache",
    },
];

/// Only what comes from here, and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The variable that names a directory with the files, for those who work on the page. Programs that are built for release
/// do not read it.
const DIRECTORY: &str = "WALCAST_CONSOLE_DIR";

/// The routes of the files.
pub(super) fn page() -> Router {
    FILES.iter().fold(Router::new(), |routes, file| {
        routes.route(file.path, get(async |headers: HeaderMap| answer(file, &headers)))
    })
}

fn answer(file: &File, headers: &HeaderMap) -> Response {
    let contents = contents(file);
    let tag = entity_tag(&contents);
    let common = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-embedder-policy"),
            "require-corp",
        ),
        (header::CACHE_CONTROL, file.cache),
    ];
    let mut answer = if is_known(headers, &tag) {
        (StatusCode::NOT_MODIFIED, common).into_response()
    } else {
        let kind = [(header::CONTENT_TYPE, file.kind)];
        (common, kind, contents).into_response()
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer
}

fn contents(file: &File) -> Cow<'static, [u8]> {
    if cfg!(debug_assertions)
        && let Some(directory) = std::env::var_os(DIRECTORY)
        && let Ok(contents) = std::fs::read(std::path::Path::new(&directory).join(file.name))
    {
        return contents.into();
    }
    file.contents.into()
}
