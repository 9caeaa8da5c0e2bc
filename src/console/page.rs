//! The files of the console's page, as they were built into the program. The page comes with the requester's access in it,
//! so that it connects without asking for that first.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Console;
use super::access::access_of;
use crate::http::{entity_tag, is_known};
use crate::log::Log;

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

const PAGE: File = File {
    path: "/",
    name: "index.html",
    kind: "text/html; charset=utf-8",
    contents: include_bytes!("../../console/dist/index.html"),
    cache: "no-store",
};

const FILES: [File; 2] = [
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

/// The place in the page for the requester's access.
const ACCESS: &str = r#"<meta name="walcast-access" content=""#;

/// The routes of the files.
pub(super) fn page<H: Log>() -> Router<Arc<Console<H>>> {
    let routes = Router::new().route(PAGE.path, get(index::<H>));
    FILES.iter().fold(routes, |routes, file| {
        let answer = async |headers: HeaderMap| answer(file, contents(file), &headers);
        routes.route(file.path, get(answer))
    })
}

async fn index<H: Log>(State(console): State<Arc<Console<H>>>, headers: HeaderMap) -> Response {
    let contents = contents(&PAGE);
    // Cannot fail: it has names and booleans alone. The page asks for what it does not come with.
    let access = serde_json::to_string(&access_of(&console, &headers)).unwrap_or_default();
    answer(&PAGE, with_access(contents, &access), &headers)
}

/// The page with the requester's access, which is JSON, as the value of an attribute.
fn with_access(page: Cow<'static, [u8]>, access: &str) -> Cow<'static, [u8]> {
    let Ok(text) = std::str::from_utf8(&page) else {
        return page;
    };
    let Some(at) = text.find(ACCESS) else {
        return page;
    };
    let (before, after) = text.split_at(at + ACCESS.len());
    // Names are of whoever asks and of those who wrote the configuration.
    let access = access
        .replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;");
    [before, &access, after].concat().into_bytes().into()
}

fn answer(file: &File, contents: Cow<'static, [u8]>, headers: &HeaderMap) -> Response {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_access_as_text_of_one_attribute() {
        let page = with_access(PAGE.contents.into(), r#"{"public":"\"><script>&amp;"}"#);
        let page = std::str::from_utf8(&page).unwrap();
        let value = r#"content="{&quot;public&quot;:&quot;\&quot;>&lt;script>&amp;amp;&quot;}">"#;
        assert!(page.contains(value), "{page}");
    }
}
