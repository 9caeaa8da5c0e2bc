//! The admin listener: `/metrics`, `/health/live`, `/health/ready`, that of one source (`/health/ready/NAME`),
//! `/api/status`, and the console with what it asks for ([`crate::console`]).
//!
//! A web page can make the browser send requests to every address that the browser reaches. It can read the answers if
//! its own name is made to lead to that address ("DNS rebinding"). So a request has to name a host that does not depend
//! on a name server, or one that the operator lists; and of web pages only those are answered that came from here.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::bearer::bearer;
use super::host::{HostName, is_unnamed};
use super::origin::is_own;
use super::status::Status;
use super::tls::changed;
use super::warnings::Warnings;
use crate::config::SourceName;
use crate::health::Readiness;
use crate::private_files::read_secret;
use crate::protocol::Token;
use crate::telemetry::{CLIENT_CHARS, Excerpt, Metrics};

/// The options of the admin listener.
#[derive(Clone, Debug, Default)]
pub struct AdminOptions {
    /// The host names that requests may ask for, besides IP addresses and localhost.
    pub hosts: Vec<HostName>,
    /// The file with the token that requests need to have.
    pub token_file: Option<PathBuf>,
    /// True if rows are shown to programs of this machine without a token although clients need tokens: those of the demo
    /// are no secret.
    pub shows_rows: bool,
}

/// The surroundings of the admin listener, which decide if rows are shown without a token.
#[derive(Clone, Copy, Debug)]
pub struct Exposure {
    /// True if only programs of this machine reach it.
    pub is_loopback: bool,
    /// True if clients need tokens, so that policies may hide rows from them.
    pub has_policies: bool,
}

/// The reason why rows are not shown to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowsRefused {
    /// There is a token, and the request does not carry it.
    #[error("rows are shown once the token of --admin-token-file is given")]
    Token,
    /// Other machines reach the listener.
    #[error(
        "rows are not shown without a token on an address that other machines reach: start walcast with --admin-token-file"
    )]
    Exposed,
    /// Policies would be circumvented.
    #[error(
        "rows are not shown without a token where clients need tokens, since policies do not apply to operators: start \
         walcast with --admin-token-file"
    )]
    Policies,
    /// The request came through a proxy, and so perhaps from another machine.
    #[error("rows are not shown without a token through a proxy: start walcast with --admin-token-file")]
    Proxy,
}

/// The reason why the admin listener's token cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// The file cannot be read, or can be read by others.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem.
        error: std::io::Error,
    },
    /// The file does not hold a token.
    #[error(
        "{}: it holds no token: write {MIN_TOKEN_BYTES} characters or more, without spaces between them, as openssl rand \
         -hex 32 makes them",
        .0.display()
    )]
    NoToken(PathBuf),
}

/// The shortest token, in bytes.
const MIN_TOKEN_BYTES: usize = 16;

/// The rules for requests to the admin listener.
#[derive(Debug)]
pub struct Admin {
    hosts: Vec<HostName>,
    token: Option<TokenFile>,
    /// The reason why rows are not shown where there is no token, if they are not.
    without_token: Result<(), RowsRefused>,
    metrics: Arc<Metrics>,
    refused: Warnings,
}

#[derive(Debug)]
struct TokenFile {
    path: PathBuf,
    now: Mutex<Token>,
}

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    Host,
    Origin,
    Token,
}

impl Refusal {
    fn label(self) -> &'static str {
        match self {
            Refusal::Host => "host",
            Refusal::Origin => "origin",
            Refusal::Token => "token",
        }
    }
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Refusal::Host | Refusal::Origin => StatusCode::FORBIDDEN,
            Refusal::Token => StatusCode::UNAUTHORIZED,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Refusal::Host => {
                "ask by an IP address, as localhost, or by a name that walcast was told (--admin-host)"
            }
            Refusal::Origin => "web pages of other origins are not answered here",
            Refusal::Token => "send Authorization: Bearer and the token of --admin-token-file",
        }
    }

    /// The answer to a request for this path: under `/api/` in JSON.
    fn answer(self, path: &str) -> Response {
        let mut answer = if path.starts_with(API) {
            failed(self.status(), self.label(), self.words())
        } else {
            (self.status(), format!("{}\n", self.words())).into_response()
        };
        if let Refusal::Token = self {
            let bearer = HeaderValue::from_static("Bearer");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        answer
    }
}

/// The answer to a request of the console that fails.
pub(crate) fn failed(status: StatusCode, code: &str, message: &str) -> Response {
    let error = json!({"error": {"code": code, "message": message}});
    answered(status, &error)
}

/// An answer in JSON.
pub(crate) fn answered(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (status, kind, text + "\n").into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// The paths of what the console asks for, and of its websockets.
const API: &str = "/api/";
const STREAM: &str = "/v1/";

impl Admin {
    /// Reads the token, if the options name a file.
    ///
    /// # Errors
    /// Its file cannot be used.
    pub fn open(
        options: AdminOptions,
        exposure: Exposure,
        metrics: Arc<Metrics>,
    ) -> Result<Admin, AdminTokenError> {
        let token = options.token_file.map(|path| {
            let now = Mutex::new(read_token(&path)?);
            Ok(TokenFile { path, now })
        });
        Ok(Admin {
            hosts: options.hosts,
            token: token.transpose()?,
            without_token: match exposure {
                Exposure {
                    is_loopback: false, ..
                } => Err(RowsRefused::Exposed),
                Exposure {
                    has_policies: true, ..
                } if !options.shows_rows => Err(RowsRefused::Policies),
                Exposure { .. } => Ok(()),
            },
            metrics,
            refused: Warnings::default(),
        })
    }

    /// True if requests need a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Reads the token again with each change of `reload`, until `stop`. A file that cannot be used changes nothing.
    pub async fn follow<T>(&self, mut reload: watch::Receiver<T>, stop: CancellationToken) {
        let Some(token) = &self.token else {
            return stop.cancelled().await;
        };
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed(&mut reload) => {}
            }
            let path = token.path.clone();
            // Fails only if the runtime ends.
            let Ok(read) = spawn_blocking(move || read_token(&path)).await else {
                return;
            };
            match read {
                Ok(new) => {
                    *token.now.lock() = new;
                    tracing::info!(
                        event = "admin_token_reloaded",
                        "the admin listener's token was read again"
                    );
                }
                Err(error) => tracing::error!(
                    event = "admin_token_reload_failed", %error,
                    "the admin listener's old token stays"
                ),
            }
        }
    }

    /// Checks the host that a request asks for, and the page that it comes from.
    fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        self.check_host(headers)?;
        // Browsers that are not old say so of every request, also where they name no origin.
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let is_foreign = matches!(site, Some(b"cross-site" | b"same-site"));
        let is_guarded = path.starts_with(API) || path.starts_with(STREAM);
        if (is_guarded && is_foreign) || !is_own(headers) {
            return Err(Refusal::Origin);
        }
        Ok(())
    }

    fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        // There is at most one. Only HTTP/1.0, which no browser speaks, may lack it.
        let Some(host) = headers.get(header::HOST) else {
            return Ok(());
        };
        let host = host.to_str().unwrap_or_default();
        if is_unnamed(host) || self.hosts.iter().any(|name| name.is_of(host)) {
            return Ok(());
        }
        if self.refused.is_due() {
            let host = Excerpt::of(host, CLIENT_CHARS);
            tracing::warn!(
                event = "admin_host_refused",
                %host,
                "a request to the admin listener was refused that asks for another host: if it is a name of this one, give \
                 it by --admin-host"
            );
        }
        Err(Refusal::Host)
    }

    /// True if the request carries the token, or none is needed.
    pub(crate) fn knows(&self, headers: &HeaderMap) -> bool {
        self.token.is_none() || matches!(bearer(headers), Ok(Some(said)) if self.is_token(said.reveal()))
    }

    /// True if this is the token, as a websocket's first message has it. A wrong one is counted.
    pub(super) fn admits(&self, said: &str) -> bool {
        let is_token = self.is_token(said);
        if !is_token {
            self.metrics.admin_refused(Refusal::Token.label());
        }
        is_token
    }

    /// True if this is the token. Nothing is, if there is none.
    fn is_token(&self, said: &str) -> bool {
        self.token.as_ref().is_some_and(|token| {
            let now = token.now.lock();
            said.as_bytes().ct_eq(now.reveal().as_bytes()).into()
        })
    }

    /// Says whether rows, and what clients say of them, may be shown to a requester.
    ///
    /// # Errors
    /// The reason why not.
    pub(crate) fn rows(&self, headers: &HeaderMap) -> Result<(), RowsRefused> {
        if self.has_token() {
            return if self.knows(headers) {
                Ok(())
            } else {
                Err(RowsRefused::Token)
            };
        }
        let is_forwarded = ["forwarded", "x-forwarded-for", "x-real-ip", "via"]
            .iter()
            .any(|name| headers.contains_key(*name));
        self.without_token?;
        if is_forwarded {
            return Err(RowsRefused::Proxy);
        }
        Ok(())
    }

    /// The answer to a request under `/api/` that lacks the token, which is counted.
    pub(crate) fn refuse_token(&self) -> Response {
        self.refuse(Refusal::Token, API)
    }

    /// The answer to a request for this path that is refused, which is counted.
    pub(super) fn refuse(&self, refusal: Refusal, path: &str) -> Response {
        self.metrics.admin_refused(refusal.label());
        refusal.answer(path)
    }
}

fn read_token(path: &std::path::Path) -> Result<Token, AdminTokenError> {
    let bytes = read_secret(path).map_err(|error| AdminTokenError::File {
        path: path.to_owned(),
        error,
    })?;
    let token = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    let is_token = token.len() >= MIN_TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token {
        Ok(Token::new(token))
    } else {
        Err(AdminTokenError::NoToken(path.to_owned()))
    }
}

/// The state of a source, for operators.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// Its name; `None` for the only one.
    pub name: Option<SourceName>,
    /// Everything that is counted of it. That of the only one is that of the program.
    pub metrics: Arc<Metrics>,
    /// The state that says if clients are served from it.
    pub readiness: Readiness,
}

impl SourceState {
    /// Its readiness in words, with the reasons where they may be told; an error if it is not ready.
    fn in_words(&self, is_told: bool) -> Result<String, String> {
        let remark = self.readiness.remarks().filter(|_| is_told);
        match (self.readiness.get(), remark) {
            (Ok(()), None) => Ok("ready".to_owned()),
            (Ok(()), Some(remark)) => Ok(format!("ready: {remark}")),
            (Err(reason), _) if is_told => Err(format!("not ready: {reason}")),
            (Err(_), _) => Err("not ready".to_owned()),
        }
    }
}

/// The state of all sources in one line, for the service manager.
pub fn state_in_words(sources: &[SourceState]) -> String {
    let words = sources.iter().map(|source| {
        let (Ok(words) | Err(words)) = source.in_words(true);
        match &source.name {
            Some(name) => format!("{name}: {words}"),
            None => words,
        }
    });
    words.collect::<Vec<_>>().join("; ")
}

/// The readiness of all sources, a line for each. Where there are several, one that is ready is enough: a load balancer
/// that took the whole program away would take those that work away, too.
fn readiness(sources: &[SourceState], is_told: bool) -> (StatusCode, String) {
    let mut text = String::new();
    let mut code = StatusCode::SERVICE_UNAVAILABLE;
    for source in sources {
        let words = source.in_words(is_told);
        if words.is_ok() {
            code = StatusCode::OK;
        }
        let (Ok(words) | Err(words)) = words;
        // Writing to a string does not fail.
        let _ = match &source.name {
            Some(name) => writeln!(text, "{name}: {words}"),
            None => writeln!(text, "{words}"),
        };
    }
    (code, text)
}

/// The admin listener's routes, and those of the `console`. Health probes are answered without the token. It is needed for
/// metrics, for the status, and for the reason why walcast is not ready, which may name hosts and roles.
pub fn admin(admin: Arc<Admin>, metrics: Arc<Metrics>, sources: Vec<SourceState>, console: Router) -> Router {
    let sources: Arc<[SourceState]> = sources.into();
    let knows = Arc::clone(&admin);
    let states = Arc::clone(&sources);
    let ready = async move |headers: HeaderMap| readiness(&states, knows.knows(&headers));
    let knows = Arc::clone(&admin);
    let states = Arc::clone(&sources);
    let one_ready = async move |headers: HeaderMap, Path(name): Path<String>| {
        let source = states
            .iter()
            .find(|source| source.name.as_ref().is_some_and(|own| own.as_str() == name));
        match source {
            Some(source) => readiness(std::slice::from_ref(source), knows.knows(&headers)),
            None => (
                StatusCode::NOT_FOUND,
                "there is no source of this name\n".to_owned(),
            ),
        }
    };
    let knows = Arc::clone(&admin);
    let counted = Arc::clone(&metrics);
    let states = Arc::clone(&sources);
    let started = Instant::now();
    let status = async move |headers: HeaderMap| {
        if !knows.knows(&headers) {
            return knows.refuse(Refusal::Token, API);
        }
        answered(StatusCode::OK, &Status::now(&counted, &states, started))
    };
    let knows = Arc::clone(&admin);
    let metrics = async move |headers: HeaderMap| {
        if !knows.knows(&headers) {
            return knows.refuse(Refusal::Token, "/metrics");
        }
        let named = sources.iter().filter(|source| source.name.is_some());
        let text = metrics.render(named.map(|source| &*source.metrics));
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route("/health/live", get(|| async { "alive\n" }))
        .route("/health/ready", get(ready))
        .route("/health/ready/{source}", get(one_ready))
        .merge(console)
        .layer(from_fn_with_state(admin, enter))
}

/// Headers of every answer: pages of other origins can neither read it nor embed it, and nothing is guessed of it.
const COMMON: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

async fn enter(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_api = path.starts_with(API);
    let mut answer = match admin.check(path, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => admin.refuse(refusal, path),
    };
    let headers = answer.headers_mut();
    for (name, value) in COMMON {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_api {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    answer
}
