//! [`Client`]: a GET within bounds: https only, no redirects, at most 1 MiB, and a time limit.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::auth::{JwksAddress, JwksError};
use crate::fetch::{ExchangeError, exchange};
use crate::tls::{Roots, http_client};

/// The largest set of keys that is read, in bytes.
pub const MAX_JWKS_BYTES: usize = 1024 * 1024;
/// The time that a fetch may take, from the look-up of the name to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The reason why keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// This machine has no trusted certificate authorities.
    #[error("this machine has no certificates of authorities (SSL_CERT_FILE names others)")]
    NoRoots,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
    /// The server cannot be reached, or its certificate is not trusted.
    #[error("the server cannot be reached: {0}")]
    Connect(io::Error),
    /// The address cannot be asked for.
    #[error("the request cannot be made: {0}")]
    Request(axum::http::Error),
    /// It took too long.
    #[error("it took longer than {} s", TIMEOUT.as_secs())]
    Timeout,
    /// There is no answer, or it is too large.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The server redirects, which is not followed, since a redirect could name other keys.
    #[error("the server redirects ({0}), which is not followed: write the address that it leads to")]
    Redirect(StatusCode),
    /// The status is not 200.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// The body is not a set of keys.
    #[error(transparent)]
    Set(#[from] JwksError),
}

impl FetchError {
    /// The kind of error as a metric's label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            FetchError::Request(_) => "address",
            FetchError::NoRoots | FetchError::Tls(_) => "tls",
            FetchError::Connect(_) => "connect",
            FetchError::Timeout => "timeout",
            FetchError::Exchange(ExchangeError::TooLarge(_)) => "size",
            FetchError::Exchange(_) => "http",
            FetchError::Redirect(_) => "redirect",
            FetchError::Status(_) => "status",
            FetchError::Set(_) => "keys",
        }
    }
}

/// Fetches one address.
pub(super) struct Client {
    address: JwksAddress,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(super) timeout: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client for an address. It trusts the authorities that this machine trusts.
    pub(super) fn new(address: JwksAddress) -> Result<Client, FetchError> {
        Client::trusting(address, Roots::system)
    }

    pub(super) fn trusting(
        address: JwksAddress,
        roots: impl FnOnce() -> Option<Roots>,
    ) -> Result<Client, FetchError> {
        let tls = match address.tls_name() {
            Some(name) => Some((connector(roots())?, name.clone())),
            None => None,
        };
        Ok(Client {
            address,
            tls,
            timeout: TIMEOUT,
        })
    }

    /// The address.
    pub(super) fn address(&self) -> &JwksAddress {
        &self.address
    }

    /// Fetches the answer.
    pub(super) async fn get(&self) -> Result<Bytes, FetchError> {
        let answer = tokio::time::timeout(self.timeout, self.answer()).await;
        answer.unwrap_or(Err(FetchError::Timeout))
    }

    async fn answer(&self) -> Result<Bytes, FetchError> {
        let stream = self.connect().await.map_err(FetchError::Connect)?;
        match &self.tls {
            None => self.exchange(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                self.exchange(stream.map_err(FetchError::Connect)?).await
            }
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let addresses = tokio::net::lookup_host((self.address.host(), self.address.port())).await?;
        let addresses: Vec<SocketAddr> = addresses.collect();
        TcpStream::connect(addresses.as_slice()).await
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> Result<Bytes, FetchError> {
        let request = Request::get(self.address.path_and_query())
            .header(header::HOST, self.address.authority())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, concat!("walcast/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .body(Body::empty());
        let request = request.map_err(FetchError::Request)?;
        exchange(stream, request, MAX_JWKS_BYTES, |status| match status {
            StatusCode::OK => Ok(()),
            status if status.is_redirection() => Err(FetchError::Redirect(status)),
            status => Err(FetchError::Status(status)),
        })
        .await
    }
}

/// TLS that trusts these authorities.
fn connector(roots: Option<Roots>) -> Result<TlsConnector, FetchError> {
    let roots = roots.ok_or(FetchError::NoRoots)?;
    let config = http_client(roots).map_err(FetchError::Tls)?;
    Ok(TlsConnector::from(Arc::new(config)))
}
