//! The console: a page for operators on the admin listener, and the answers that it asks for.
//!
//! Nothing here changes anything, and nothing is counted for it that is not counted anyway. Values of rows come by the
//! operators' websocket alone ([`crate::http::operators`]); what else repeats words of clients, such as predicates, is told
//! only where rows are shown.

mod access;
mod cached;
mod connections;
mod event;
mod page;
mod parse;
mod published;
mod queries;
mod rates;
mod record;
mod series;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::cached::{Answer, Cached};
use self::connections::Connections;
use self::page::page;
use self::parse::parse;
use self::published::{PublishedTable, findings, judge, published};
use self::queries::Queries;
use self::record::Record;
use crate::config::{Access, SourceName};
use crate::event::TableName;
use crate::health::Readiness;
use crate::http::{Admin, ServingPlace, answered, failed};
use crate::log::Log;
use crate::policy::Misfit;
use crate::postgres::{self, Code, ConnInfo, Finding, Requirements};
use crate::schema::{TypeScriptNumbers, typescript};
use crate::session::{MAX_CLIENT_MESSAGE_BYTES, Services};
use crate::telemetry::{Metrics, in_this_span};

/// The time that an answer may take: less than the listener gives a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// The time for which the database's answers are told again.
const TABLES_AGE: Duration = Duration::from_secs(5);
const CHECK_AGE: Duration = Duration::from_secs(10);

/// A source as the console reaches it.
#[derive(Debug)]
pub struct ConsoleSource<H: Log> {
    /// Its name; `None` for the only one.
    pub name: Option<SourceName>,
    /// The place of what serves it.
    pub place: Arc<ServingPlace<H>>,
    /// Everything that is counted of it.
    pub metrics: Arc<Metrics>,
    /// The state that says if clients are served from it.
    pub readiness: Readiness,
    /// The database.
    pub conninfo: ConnInfo,
    /// The setup that is to work there.
    pub wanted: Requirements,
    /// The access that callers have, of all sources.
    pub access: watch::Receiver<Arc<Access>>,
}

/// The console of a server.
#[derive(Debug)]
pub struct Console<H: Log> {
    admin: Arc<Admin>,
    sources: Vec<Shown<H>>,
    /// The address of the clients' listener.
    clients: SocketAddr,
    /// True if clients connect by TLS.
    is_tls: bool,
}

/// A source, and what was found of it.
#[derive(Debug)]
struct Shown<H: Log> {
    source: ConsoleSource<H>,
    record: Arc<Record>,
    queries: Arc<Queries>,
    connections: Arc<Connections>,
    tables: Cached<Vec<PublishedTable>>,
    check: Cached<Checked>,
    /// `None` if there is no such table.
    types: Cached<Option<String>>,
}

/// Everything that `walcast check` would say.
#[derive(Debug)]
struct Checked {
    findings: Vec<Finding>,
    /// The policies that do not fit.
    misfits: Vec<Misfit>,
}

/// The query parameters of a request.
#[derive(Debug, Default, Deserialize)]
struct Ask {
    source: Option<String>,
    since: Option<f64>,
    table: Option<String>,
}

type Asked = Result<Query<Ask>, QueryRejection>;

impl<H: Log> Console<H> {
    /// The console of these sources, for those whom `admin` lets in.
    pub fn new(
        admin: Arc<Admin>,
        sources: impl IntoIterator<Item = ConsoleSource<H>>,
        clients: SocketAddr,
        is_tls: bool,
    ) -> Arc<Console<H>> {
        let shown = |source| Shown {
            source,
            record: Arc::default(),
            queries: Arc::default(),
            connections: Arc::default(),
            tables: Cached::default(),
            check: Cached::default(),
            types: Cached::default(),
        };
        Arc::new(Console {
            admin,
            sources: sources.into_iter().map(shown).collect(),
            clients,
            is_tls,
        })
    }

    /// The routes of the page and of what it asks for.
    pub fn routes(self: &Arc<Self>) -> Router {
        let length = DefaultBodyLimit::max(MAX_CLIENT_MESSAGE_BYTES);
        let unknown = async || failed(StatusCode::NOT_FOUND, "not_found", "there is nothing here");
        Router::new()
            .route("/api/access", get(access::access::<H>))
            .route("/api/series", get(series::<H>))
            .route("/api/tables", get(tables::<H>))
            .route("/api/check", get(check::<H>))
            .route("/api/types", get(types::<H>))
            .route("/api/queries", get(queries::<H>))
            .route("/api/connections", get(connections::<H>))
            .route("/api/parse", post(parsed::<H>).layer(length))
            .route("/api/{*rest}", get(unknown))
            .merge(page())
            .with_state(Arc::clone(self))
    }

    /// Records what happens to the sources until `stop`.
    pub async fn record(self: Arc<Self>, stop: CancellationToken) {
        let recorded = self.sources.iter().map(|Shown { source, record, .. }| {
            record.keep(
                Arc::clone(&source.metrics),
                source.readiness.clone(),
                Arc::clone(&source.place),
                stop.clone(),
            )
        });
        join_all(recorded).await;
    }

    /// The source that a request asks about, if it may.
    fn source(&self, headers: &HeaderMap, asked: Asked) -> Result<(&Shown<H>, Ask), Refused> {
        if !self.admin.knows(headers) {
            return Err(self.admin.refuse_token().into());
        }
        let Ok(Query(ask)) = asked else {
            let help = "the parameters are source, since (seconds since 1970) and table";
            return Err(failed(StatusCode::BAD_REQUEST, "bad_request", help).into());
        };
        let found = match (&ask.source, &*self.sources) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), sources) => sources.iter().find(|shown| {
                let own = shown.source.name.as_ref();
                own.is_some_and(|own| own.as_str() == name)
            }),
        };
        match found {
            Some(shown) => Ok((shown, ask)),
            None => {
                let names: Vec<&str> = self.names().collect();
                let message = if names.is_empty() {
                    "this server has one source, which has no name: leave source out".to_owned()
                } else {
                    format!(
                        "name a source, as in ?source=NAME: there are {}",
                        names.join(", ")
                    )
                };
                Err(failed(StatusCode::NOT_FOUND, "unknown_source", &message).into())
            }
        }
    }

    /// The names of several sources.
    fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.sources.iter().filter_map(|shown| shown.source.name.as_ref());
        names.map(SourceName::as_str)
    }
}

impl<H: Log> Shown<H> {
    /// The services for an operator, while the source is served.
    fn services(&self) -> Result<Services<H>, Refused> {
        let serving = self.source.place.get();
        serving
            .map(|serving| serving.services.for_operator())
            .ok_or_else(unready)
    }

    async fn checked(&self) -> Result<Answer<Checked>, Refused> {
        let (info, wanted) = (self.source.conninfo.clone(), self.source.wanted.clone());
        let metrics = Arc::clone(&self.source.metrics);
        let access = self.source.access.borrow().of_source(self.source.name.as_ref());
        let asking = self.check.get(CHECK_AGE, move || {
            let mut findings = postgres::check(&info, &wanted)?;
            // The one who reads the slot is this walcast.
            findings.retain(|finding| finding.code != Code::SlotActive || metrics.replication_up.get() == 0);
            let is_published = |finding: &Finding| finding.code != Code::PublicationMissing;
            let misfits = if findings.iter().all(is_published) {
                postgres::check_policies(&info, &wanted.publications, &access)?
            } else {
                Vec::new()
            };
            Ok::<_, postgres::Error>(Checked { findings, misfits })
        });
        in_time(Asking::Database, asking).await
    }

    async fn published(&self) -> Result<Answer<Vec<PublishedTable>>, Refused> {
        let (info, wanted) = (self.source.conninfo.clone(), self.source.wanted.clone());
        let asking = self
            .tables
            .get(TABLES_AGE, move || published(&info, &wanted.publications));
        in_time(Asking::Database, asking).await
    }
}

fn unready() -> Refused {
    let message = "the source is not served now: /health/ready says why";
    failed(StatusCode::SERVICE_UNAVAILABLE, "unready", message).into()
}

/// The one who is late if there is no answer in time.
#[derive(Clone, Copy, Debug)]
enum Asking {
    Database,
    Server,
}

/// An answer that comes in time.
async fn in_time<T>(asking: Asking, answer: impl Future<Output = T>) -> Result<T, Refused> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
    answer.map_err(|_| {
        let message = match asking {
            Asking::Database => "the database does not answer in time: try again later",
            Asking::Server => "walcast is too busy to answer in time: try again later",
        };
        failed(StatusCode::GATEWAY_TIMEOUT, "timeout", message).into()
    })
}

/// An answer that is long to write: it is made away from the threads that serve clients.
async fn written(write: impl FnOnce() -> Response + Send + 'static) -> Result<Response, Refused> {
    let writing = tokio::task::spawn_blocking(in_this_span(write));
    // Fails only if the runtime ends.
    writing.await.map_err(|_| unready())
}

/// The answer of the database, or the error that says why there is none.
fn found<T>(found: Result<Arc<T>, Arc<str>>) -> Result<Arc<T>, Refused> {
    found.map_err(|error| {
        let message = format!("the database cannot be asked: {error}");
        failed(StatusCode::BAD_GATEWAY, "database", &message).into()
    })
}

/// The answer that says why there is no other.
#[derive(Debug)]
struct Refused(Box<Response>);

impl From<Response> for Refused {
    fn from(answer: Response) -> Refused {
        Refused(Box::new(answer))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

async fn series<H: Log>(
    State(console): State<Arc<Console<H>>>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, Refused> {
    let (shown, ask) = console.source(&headers, asked)?;
    // A number that is no second counts as the nearest one.
    let since = ask.since.unwrap_or(0.0) as u64;
    let record = Arc::clone(&shown.record);
    written(move || answered(StatusCode::OK, &record.after(since))).await
}

async fn tables<H: Log>(
    State(console): State<Arc<Console<H>>>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, Refused> {
    let (shown, _) = console.source(&headers, asked)?;
    let (tables, checked) = tokio::join!(shown.published(), shown.checked());
    let tables = found(tables?.found)?;
    let checked = checked.and_then(|checked| found(checked.found)).ok();
    let subscriptions = match shown.services() {
        Ok(services) => in_time(Asking::Server, shown.queries.by_table(&services)).await?,
        Err(_) => Default::default(),
    };
    let rates = shown.record.table_rates();
    let shows = console.admin.rows(&headers).is_ok();
    let write = move || {
        let mut tables: Vec<PublishedTable> = (*tables).clone();
        if let Some(checked) = checked {
            judge(&mut tables, &checked.findings);
        }
        let tables = tables.into_iter().map(|mut table| {
            if !shows {
                table.hide();
            }
            let mut json = json!(table);
            if let Some(fields) = json.as_object_mut() {
                let subscribed = subscriptions.get(&table.name).copied().unwrap_or(0);
                fields.insert("subscriptions".to_owned(), json!(subscribed));
                let rate = rates.get(&table.name).copied().unwrap_or(0.0);
                fields.insert("changes_per_second".to_owned(), json!(rate));
            }
            json
        });
        let tables: Vec<serde_json::Value> = tables.collect();
        answered(StatusCode::OK, &json!({"tables": tables}))
    };
    written(write).await
}

async fn check<H: Log>(
    State(console): State<Arc<Console<H>>>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, Refused> {
    let (shown, _) = console.source(&headers, asked)?;
    let checked = shown.checked().await?;
    let shows = console.admin.rows(&headers).is_ok();
    let findings = findings(&*found(checked.found)?, shows);
    Ok(answered(
        StatusCode::OK,
        &json!({"at": checked.at, "findings": findings}),
    ))
}

async fn types<H: Log>(
    State(console): State<Arc<Console<H>>>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, Refused> {
    let (shown, ask) = console.source(&headers, asked)?;
    let wanted = match ask.table.as_deref().map(str::parse::<TableName>).transpose() {
        Ok(wanted) => wanted,
        Err(error) => {
            return Err(failed(StatusCode::BAD_REQUEST, "bad_request", &error.to_string()).into());
        }
    };
    let (info, publications) = (
        shown.source.conninfo.clone(),
        shown.source.wanted.publications.clone(),
    );
    let name = wanted.as_ref().map(ToString::to_string);
    // Asked each time, but once at a time: it is clicked for.
    let asking = shown.types.get(Duration::ZERO, move || {
        let typed = typescript(&info, &publications, wanted.as_ref(), TypeScriptNumbers::Text)?;
        let is_unknown = typed.is_empty && wanted.is_some();
        Ok::<_, postgres::Error>((!is_unknown).then(|| typed.text()))
    });
    let typed = in_time(Asking::Database, asking).await?;
    let typed = found(typed.found)?;
    let Some(text) = &*typed else {
        let message = format!("there is no published table {}", name.unwrap_or_default());
        return Err(failed(StatusCode::NOT_FOUND, "not_found", &message).into());
    };
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((kind, text.clone()).into_response())
}

async fn queries<H: Log>(
    State(console): State<Arc<Console<H>>>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, Refused> {
    let (shown, _) = console.source(&headers, asked)?;
    let services = shown.services()?;
    let shows = console.admin.rows(&headers).is_ok();
    let answer = in_time(Asking::Server, shown.queries.answer(&services, shows)).await?;
    let answer = answer.ok_or_else(unready)?;
    Ok(answered(StatusCode::OK, &answer))
}

async fn connections<H: Log>(
    State(console): State<Arc<Console<H>>>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, Refused> {
    let (shown, _) = console.source(&headers, asked)?;
    let services = shown.services()?;
    let shows = console.admin.rows(&headers).is_ok();
    let answer = in_time(Asking::Server, shown.connections.answer(services, shows)).await?;
    let answer = answer.ok_or_else(unready)?;
    Ok(answered(StatusCode::OK, &answer))
}

async fn parsed<H: Log>(
    State(console): State<Arc<Console<H>>>,
    headers: HeaderMap,
    asked: Asked,
    request: Request,
) -> Result<Response, Refused> {
    let (shown, _) = console.source(&headers, asked)?;
    let services = shown.services()?;
    // Its length is limited by the route.
    let body = match Bytes::from_request(request, &()).await {
        Ok(body) => body,
        Err(refused) if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body may have {MAX_CLIENT_MESSAGE_BYTES} bytes");
            return Err(failed(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &message).into());
        }
        Err(_) => {
            let message = "the body breaks off, or its chunks cannot be read";
            return Err(failed(StatusCode::BAD_REQUEST, "bad_request", message).into());
        }
    };
    let Ok(body) = std::str::from_utf8(&body) else {
        return Err(failed(StatusCode::BAD_REQUEST, "bad_request", "the body is no UTF-8").into());
    };
    let answer = in_time(Asking::Database, parse(&services, body)).await?;
    Ok(answered(StatusCode::OK, &answer))
}
