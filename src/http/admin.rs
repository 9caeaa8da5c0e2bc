//! The admin listener: `/metrics`, `/health/live`, `/health/ready`, that of one source (`/health/ready/NAME`), and
//! `/api/status`.
//!
//! A web page can make the browser send requests to every address that the browser reaches. It can read the answers if
//! its own name is made to lead to that address ("DNS rebinding"). So a request has to name a host that does not depend
//! on a name server, or one that the operator lists.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::bearer::bearer;
use super::host::{HostName, is_unnamed};
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
enum Refusal {
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

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Refusal::Host => {
                let words =
                    "ask by an IP address, as localhost, or by a name that walcast was told (--admin-host)\n";
                (StatusCode::FORBIDDEN, words).into_response()
            }
            Refusal::Origin => (StatusCode::FORBIDDEN, "web pages are not answered here\n").into_response(),
            Refusal::Token => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                let words = "send Authorization: Bearer and the token of --admin-token-file\n";
                (StatusCode::UNAUTHORIZED, challenge, words).into_response()
            }
        }
    }
}

impl Admin {
    /// Reads the token, if the options name a file.
    ///
    /// # Errors
    /// Its file cannot be used.
    pub fn open(options: AdminOptions, metrics: Arc<Metrics>) -> Result<Admin, AdminTokenError> {
        let token = options.token_file.map(|path| {
            let now = Mutex::new(read_token(&path)?);
            Ok(TokenFile { path, now })
        });
        Ok(Admin {
            hosts: options.hosts,
            token: token.transpose()?,
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

    /// Checks the host that a request asks for, and its origin.
    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if headers.contains_key(header::ORIGIN) {
            return Err(Refusal::Origin);
        }
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
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let Ok(Some(said)) = bearer(headers) else {
            return false;
        };
        let now = token.now.lock();
        said.reveal().as_bytes().ct_eq(now.reveal().as_bytes()).into()
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        self.metrics.admin_refused(refusal.label());
        refusal.into_response()
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

/// The admin listener's routes. Health probes are answered without the token. It is needed for metrics, for the status,
/// and for the reason why walcast is not ready, which may name hosts and roles.
pub fn admin(admin: Arc<Admin>, metrics: Arc<Metrics>, sources: Vec<SourceState>) -> Router {
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
            return knows.refuse(Refusal::Token);
        }
        match serde_json::to_string(&Status::now(&counted, &states, started)) {
            Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    };
    let knows = Arc::clone(&admin);
    let metrics = async move |headers: HeaderMap| {
        if !knows.knows(&headers) {
            return knows.refuse(Refusal::Token);
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
        .layer(from_fn_with_state(admin, enter))
}

async fn enter(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    match admin.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => admin.refuse(refusal),
    }
}
