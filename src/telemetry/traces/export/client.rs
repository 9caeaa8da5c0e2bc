//! [`Client`]: one POST to the collector, over a connection of its own.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, header};
use opentelemetry_http::{HttpClient, HttpError};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsConnector;

use super::super::environment::Settings;
use crate::fetch::{ExchangeError, exchange};
use crate::tls::{Roots, http_client};

/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The last reason why a collector was not reached, which the library leaves out of its errors.
#[derive(Debug, Default)]
pub(super) struct Problem(Mutex<Option<String>>);

impl Problem {
    /// The reason, once.
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().take()
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the collector cannot be reached: {0}")]
    Connect(#[from] io::Error),
    #[error("the collector did not answer within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
}

/// Sends batches to a collector, on the thread that asks for it, with a runtime of its own: it takes none of the threads
/// that serve clients.
pub(super) struct Client {
    host: String,
    authority: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
    runtime: Mutex<Runtime>,
    problem: Arc<Problem>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the collector at an address. The error says what is wrong with that, without the address, which may
    /// hold a password.
    pub(super) fn new(address: &str, settings: &Settings, problem: Arc<Problem>) -> Result<Client, String> {
        let invalid = || "it is no address such as http://collector:4318".to_owned();
        let uri: Uri = address.parse().map_err(|_| invalid())?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(invalid()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let authority = match uri.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let tls = is_tls.then(|| tls(&host, settings)).transpose()?;
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Client {
            host,
            authority,
            port,
            tls,
            timeout: settings.timeout,
            runtime: Mutex::new(runtime.map_err(|error| error.to_string())?),
            problem,
        })
    }

    /// The host and the port, without what else the address may hold.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    async fn answer(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
        let authority = self.authority.parse().map_err(http::Error::from)?;
        parts.headers.insert(header::HOST, authority);
        parts
            .headers
            .insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        let request = Request::from_parts(parts, Body::from(body));
        let mut status = StatusCode::OK;
        let accept = |answered| {
            status = answered;
            Ok::<(), SendError>(())
        };
        let addresses = tokio::net::lookup_host((&*self.host, self.port)).await?;
        let addresses: Vec<SocketAddr> = addresses.collect();
        let stream = TcpStream::connect(addresses.as_slice()).await?;
        let body = match &self.tls {
            None => exchange(stream, request, MAX_ANSWER_BYTES, accept).await?,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                exchange(stream, request, MAX_ANSWER_BYTES, accept).await?
            }
        };
        Ok(Response::builder().status(status).body(body)?)
    }
}

impl HttpClient for Client {
    fn send_bytes<'c, 'f>(
        &'c self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'c: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            // The library bounds only the time of its retries.
            let answered = self.runtime.lock().block_on(async {
                let answered = tokio::time::timeout(self.timeout, self.answer(request)).await;
                answered.unwrap_or(Err(SendError::Timeout(self.timeout)))
            });
            let problem = match &answered {
                Ok(answer) if answer.status().is_success() => None,
                Ok(answer) => Some(format!("the collector answered {}", answer.status())),
                Err(error) => Some(error.to_string()),
            };
            *self.problem.0.lock() = problem;
            Ok(answered?)
        })
    }
}

/// TLS that trusts the authorities of the settings' file, or those that this machine trusts.
fn tls(host: &str, settings: &Settings) -> Result<(TlsConnector, ServerName<'static>), String> {
    let roots = match &settings.roots {
        Some(path) => Roots::file(path).map_err(|error| error.to_string())?,
        None => Roots::system().ok_or(
            "this machine has no certificates of authorities (OTEL_EXPORTER_OTLP_CERTIFICATE names others)",
        )?,
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let config = http_client(roots).map_err(|error| error.to_string())?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}
