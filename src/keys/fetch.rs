//! [`Client`]: one GET, within bounds: no redirects, no other scheme than https, at most 1 MiB, and not for long.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, Uri, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::auth::JwksError;
use crate::tls::{Roots, Trust, provider};

/// The largest set of keys that is read, in bytes.
pub const MAX_JWKS_BYTES: usize = 1024 * 1024;
/// The time that a fetch may take, from the name's look-up to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// The reason why keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address is none.
    #[error("it is no address")]
    NoAddress,
    /// The address is of another scheme.
    #[error("only https is allowed, and http to an address of this machine, such as 127.0.0.1")]
    Scheme,
    /// This machine believes no certificate authority.
    #[error("this machine has no certificates of authorities (SSL_CERT_FILE names others)")]
    NoRoots,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
    /// The server cannot be reached, or its certificate is not believed.
    #[error("the server cannot be reached: {0}")]
    Connect(io::Error),
    /// It took too long.
    #[error("it took longer than {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The bytes that came are no answer.
    #[error("the answer cannot be read: {0}")]
    Http(hyper::Error),
    /// The body ended early.
    #[error("the answer ended early: {0}")]
    Body(axum::Error),
    /// It leads elsewhere, which is not followed: whoever can redirect could name other keys.
    #[error("the server redirects ({0}), which is not followed: write the address that it leads to")]
    Redirect(StatusCode),
    /// It is no success.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// It is too large.
    #[error("the answer is larger than {MAX_JWKS_BYTES} bytes")]
    TooLarge,
    /// It is no set of keys.
    #[error(transparent)]
    Set(#[from] JwksError),
}

impl FetchError {
    /// The kind of it, for a metric.
    pub(super) fn label(&self) -> &'static str {
        match self {
            FetchError::NoAddress | FetchError::Scheme => "address",
            FetchError::NoRoots | FetchError::Tls(_) => "tls",
            FetchError::Connect(_) => "connect",
            FetchError::Timeout => "timeout",
            FetchError::Http(_) | FetchError::Body(_) => "http",
            FetchError::Redirect(_) => "redirect",
            FetchError::Status(_) => "status",
            FetchError::TooLarge => "size",
            FetchError::Set(_) => "keys",
        }
    }
}

/// Gets one address.
pub(super) struct Client {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    pub(super) timeout: Duration,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of an address, which is checked. It believes the authorities that this machine believes.
    pub(super) fn new(url: &str) -> Result<Client, FetchError> {
        Client::trusting(url, Roots::system)
    }

    pub(super) fn trusting(url: &str, roots: impl FnOnce() -> Option<Roots>) -> Result<Client, FetchError> {
        let uri: Uri = url.parse().map_err(|_| FetchError::NoAddress)?;
        let authority = uri.authority().ok_or(FetchError::NoAddress)?;
        if authority.as_str().contains('@') {
            return Err(FetchError::NoAddress);
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let host = host.to_owned();
        let (port, tls) = match uri.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| FetchError::NoAddress)?;
                (443, Some((connector(roots())?, name)))
            }
            Some("http") if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) => (80, None),
            _ => return Err(FetchError::Scheme),
        };
        Ok(Client {
            port: uri.port_u16().unwrap_or(port),
            host,
            tls,
            uri,
            timeout: TIMEOUT,
        })
    }

    /// The address, without what may be a secret in its query.
    pub(super) fn url(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}{}", self.uri.path())
    }

    /// Its answer.
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
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        let addresses: Vec<SocketAddr> = addresses.collect();
        TcpStream::connect(addresses.as_slice()).await
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> Result<Bytes, FetchError> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES);
        let (mut sender, connection) = builder
            .handshake(TokioIo::new(stream))
            .await
            .map_err(FetchError::Http)?;
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(path)
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, concat!("walcast/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .body(Body::empty());
        let request = request.map_err(|_| FetchError::NoAddress)?;
        let answer = async move {
            let response = sender.send_request(request).await.map_err(FetchError::Http)?;
            match response.status() {
                StatusCode::OK => {}
                status if status.is_redirection() => return Err(FetchError::Redirect(status)),
                status => return Err(FetchError::Status(status)),
            }
            let mut pieces = Body::new(response.into_body()).into_data_stream();
            let mut body = BytesMut::new();
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(FetchError::Body)?;
                if body.len() + piece.len() > MAX_JWKS_BYTES {
                    return Err(FetchError::TooLarge);
                }
                body.extend_from_slice(&piece);
            }
            Ok(body.freeze())
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            ended = connection => match ended {
                // What came before the end may be the whole answer.
                Ok(()) => answer.await,
                Err(error) => Err(FetchError::Http(error)),
            },
        }
    }
}

/// Believes these authorities, for the name that was connected to.
fn connector(roots: Option<Roots>) -> Result<TlsConnector, FetchError> {
    let roots = roots.ok_or(FetchError::NoRoots)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(FetchError::Tls)?;
    let mut config = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trust::new(Some(roots), true)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
