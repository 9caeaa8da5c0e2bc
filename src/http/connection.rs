//! [`Front`]: from an accepted connection to its only response, or to a websocket.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, Version, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use futures_util::future::OptionFuture;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use prometheus::IntGauge;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::addresses::{Addresses, Refusal};
use super::answer::{Answer, CROWDED, FULL, HURRIED, NEEDS_TLS, TOO_SLOW};
use super::arrival::Arrival;
use super::forwarded::Proxies;
use super::handshakes::{Handshake, Handshakes};
use super::last_words::{self, LastWords, Line};
use super::options::Options;
use super::places::Places;
use super::proxy_protocol::{self, Header};
use super::tls::Tls;
use super::warnings::Warnings;
use crate::session::Transport;
use crate::telemetry::Metrics;

/// The largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The most headers of a request.
const MAX_HEADERS: usize = 64;
/// The time that refusing a client may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The most connections that are being refused at the same time because of their addresses' limits, and as many because
/// there is no place for their handshakes. Further ones are told so at once without TLS, and closed without an answer
/// with it.
const MAX_REFUSING: usize = 64;
/// The most that TLS may buffer while the kernel takes nothing, in bytes: one record. The rest stays in the outbox,
/// where it is counted.
const TLS_BUFFER_BYTES: usize = 16 * 1024;
/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// The way in which a connection is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// By the router.
    Routed,
    /// With 503, since all places for handshakes are taken.
    Full,
    /// With 429, since its address has reached its limit.
    Crowded,
    /// With 429, since new connections come from its address too fast.
    Hurried,
}

impl Served {
    /// The words to one that does not take its answer, or asks for none, in time.
    fn last_words(self) -> &'static Answer {
        match self {
            Served::Routed => &TOO_SLOW,
            Served::Full => &FULL,
            Served::Crowded => &CROWDED,
            Served::Hurried => &HURRIED,
        }
    }
}

/// The state that the connections of a listener share.
#[derive(Debug)]
pub(super) struct Front {
    router: Router,
    handshake_timeout: Duration,
    proxies: Proxies,
    tls: Option<Arc<Tls>>,
    addresses: Arc<Addresses>,
    pub(super) metrics: Arc<Metrics>,
    stop: CancellationToken,
    /// The threads that handshakes are made on.
    background: Handle,
    places: Arc<Places>,
    handshakes: Arc<Handshakes>,
    refusing_crowded: Arc<Semaphore>,
    refusing_full: Arc<Semaphore>,
    crowded: Warnings,
    hurried: Warnings,
    full: Warnings,
    unproxied: Warnings,
}

/// The reason why a connection gets no HTTP answer.
#[derive(Debug, thiserror::Error)]
enum Unserved {
    #[error("the client is gone: {0}")]
    Gone(io::Error),
    #[error(transparent)]
    NoProxy(#[from] proxy_protocol::Malformed),
    #[error("no TLS: {0}")]
    NoTls(io::Error),
    #[error("it does not begin TLS")]
    Plaintext,
    #[error("a limit of its address is reached")]
    Crowded,
    #[error("in HTTP: {0}")]
    Http(hyper::Error),
    #[error("walcast stops")]
    Stopped,
}

impl Unserved {
    /// The label in the metrics, if the reason is counted.
    fn label(&self) -> Option<&'static str> {
        match self {
            Unserved::NoProxy(_) => Some("proxy"),
            Unserved::NoTls(_) => Some("tls"),
            Unserved::Plaintext => Some("plaintext"),
            Unserved::Gone(_) | Unserved::Crowded | Unserved::Http(_) | Unserved::Stopped => None,
        }
    }
}

impl Front {
    pub(super) fn new(
        router: Router,
        options: &Options,
        tls: Option<Arc<Tls>>,
        addresses: Arc<Addresses>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
        background: Handle,
    ) -> Arc<Front> {
        Arc::new(Front {
            router,
            handshake_timeout: options.handshake_timeout,
            proxies: options.proxies.clone(),
            tls,
            addresses,
            places: Places::new(options.max_connections, Arc::clone(&metrics)),
            handshakes: Handshakes::new(options.max_handshakes),
            metrics,
            stop,
            background,
            refusing_crowded: Arc::new(Semaphore::new(MAX_REFUSING)),
            refusing_full: Arc::new(Semaphore::new(MAX_REFUSING)),
            crowded: Warnings::default(),
            hurried: Warnings::default(),
            full: Warnings::default(),
            unproxied: Warnings::default(),
        })
    }

    /// A connection from an address.
    pub(super) fn arrival(&self, number: u64, peer: SocketAddr) -> Arrival {
        Arrival::new(number, peer, Arc::clone(&self.places))
    }

    /// Serves a connection, or refuses it, without waiting for that; only for a place among the handshakes, as long as
    /// others come to their end.
    pub(super) async fn meet(self: &Arc<Front>, socket: TcpStream, mut arrival: Arrival) {
        if let Err(served) = self.admit(&mut arrival) {
            return self.refuse(socket, arrival, served);
        }
        let address = Some(arrival.client).filter(|client| !self.proxies.trusts(*client));
        match self.handshakes.begin(arrival.number, address).await {
            Some(handshake) => {
                self.background.spawn(Arc::clone(self).serve(
                    socket,
                    arrival,
                    Served::Routed,
                    Some(handshake),
                ));
            }
            None => {
                self.metrics.refused("handshakes");
                self.warn_of_handshakes();
                self.refuse(socket, arrival, Served::Full);
            }
        }
    }

    fn warn_of_handshakes(&self) {
        if self.full.is_due() {
            tracing::warn!(
                event = "handshake_limit_reached",
                "as many connections as there may be are in their handshake (--max-handshakes): those that take long give \
                 way, or more are refused with 503"
            );
        }
    }

    /// Counts a connection towards the limits of its client's address. Proxies are not counted.
    ///
    /// # Errors
    /// A limit is reached. Says how the connection is to be answered.
    pub(super) fn admit(&self, arrival: &mut Arrival) -> Result<(), Served> {
        if self.proxies.trusts(arrival.client) {
            return Ok(());
        }
        let address = arrival.client;
        match self.addresses.share(address, Instant::now()) {
            Ok(share) => {
                arrival.share = Some(Arc::new(share));
                Ok(())
            }
            Err(Refusal::Crowded) => {
                self.metrics.refused("address");
                if self.crowded.is_due() {
                    tracing::warn!(
                        event = "address_connection_limit_reached",
                        %address,
                        "an address has as many connections as it may have (--max-connections-per-address): refusing more \
                         with 429"
                    );
                }
                Err(Served::Crowded)
            }
            Err(Refusal::Hurried) => {
                self.metrics.refused("address_connection_rate");
                if self.hurried.is_due() {
                    tracing::warn!(
                        event = "address_rate_limit_reached",
                        %address,
                        "new connections come from an address faster than they may (--max-connection-rate-per-address): \
                         refusing them with 429"
                    );
                }
                Err(Served::Hurried)
            }
        }
    }

    /// Refuses a connection: in HTTP, unless too many are being refused already. Then it is told so if that takes no time.
    fn refuse(self: &Arc<Front>, socket: TcpStream, mut arrival: Arrival, served: Served) {
        let refusing = match served {
            Served::Crowded | Served::Hurried => &self.refusing_crowded,
            Served::Full | Served::Routed => &self.refusing_full,
        };
        if let Ok(place) = Arc::clone(refusing).try_acquire_owned() {
            arrival.is_refused(place);
            self.background
                .spawn(Arc::clone(self).serve(socket, arrival, served, None));
        } else if self.tls.is_none() {
            last_words::say(&socket, served.last_words());
        }
    }

    /// Serves one request within a time limit: a client that sends or reads nothing must not keep its place.
    async fn serve(
        self: Arc<Front>,
        socket: TcpStream,
        arrival: Arrival,
        served: Served,
        handshake: Option<Handshake>,
    ) {
        let _handshake = Counted::one_of(&self.metrics.handshakes);
        let timeout = match served {
            Served::Routed => self.handshake_timeout,
            Served::Full | Served::Crowded | Served::Hurried => self.handshake_timeout.min(REFUSAL_TIMEOUT),
        };
        let number = arrival.number;
        let last_words = LastWords::default();
        let mut answering = pin!(self.answer(socket, arrival, served, &last_words));
        let gives_way = handshake.as_ref().map(Handshake::gives_way);
        tokio::select! {
            biased;
            ended = answering.as_mut() => match ended {
                Ok(()) => {
                    if let Some(handshake) = &handshake {
                        handshake.is_done(Instant::now());
                    }
                }
                Err(unserved) => {
                    if let Some(label) = unserved.label() {
                        self.metrics.refused(label);
                    }
                    tracing::debug!(connection = number, why = %unserved, "a connection was not served");
                }
            },
            () = tokio::time::sleep(timeout) => {
                if served == Served::Routed {
                    self.metrics.refused("timeout");
                }
                last_words.are(served.last_words());
                tracing::debug!(connection = number, "a handshake took too long");
            }
            Some(()) = OptionFuture::from(gives_way) => {
                self.metrics.refused("handshakes");
                self.warn_of_handshakes();
                last_words.are(&FULL);
                tracing::debug!(connection = number, "a handshake gave way to another one");
            }
        }
    }

    async fn answer(
        self: &Arc<Front>,
        mut socket: TcpStream,
        mut arrival: Arrival,
        mut served: Served,
        last_words: &LastWords,
    ) -> Result<(), Unserved> {
        let preparing = async {
            if self.proxies.protocol && self.proxies.trusts(arrival.client) {
                let client = self.proxied(&mut socket, arrival.peer).await?;
                arrival.client = client.map_or(arrival.client, |client| client.ip().to_canonical());
                if served == Served::Routed
                    && let Err(refused) = self.admit(&mut arrival)
                {
                    let refusing = Arc::clone(&self.refusing_crowded).try_acquire_owned();
                    arrival.is_refused(refusing.map_err(|_| Unserved::Crowded)?);
                    served = refused;
                }
            }
            match &self.tls {
                None => Ok(Transport::Plain(socket)),
                Some(tls) => secured(socket, tls).await,
            }
        };
        let transport = tokio::select! {
            transport = preparing => transport?,
            () = self.stop.cancelled() => return Err(Unserved::Stopped),
        };
        let line = Line::new(transport, last_words.clone());
        self.http(line, arrival, served).await
    }

    /// Reads the PROXY protocol's header of a trusted proxy.
    async fn proxied(
        &self,
        socket: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<Option<SocketAddr>, Unserved> {
        let mut bytes = Vec::new();
        loop {
            match proxy_protocol::read(&bytes) {
                Ok(Header::Whole(client)) => return Ok(client),
                Ok(Header::More(more)) => {
                    let read = (&mut *socket).take(more as u64).read_to_end(&mut bytes).await;
                    match read.map_err(Unserved::Gone)? {
                        read if read < more => {
                            return Err(Unserved::Gone(io::ErrorKind::UnexpectedEof.into()));
                        }
                        _ => {}
                    }
                }
                Err(error) => {
                    if self.unproxied.is_due() {
                        tracing::warn!(
                            event = "proxy_header_invalid", %peer, %error,
                            "a trusted proxy does not speak the PROXY protocol (--proxy-protocol)"
                        );
                    }
                    return Err(error.into());
                }
            }
        }
    }

    async fn http(self: &Arc<Front>, line: Line, arrival: Arrival, served: Served) -> Result<(), Unserved> {
        let router = match served {
            Served::Routed => self
                .router
                .clone()
                .layer(from_fn_with_state(Arc::clone(self), enter)),
            Served::Full | Served::Crowded | Served::Hurried => {
                Router::new().fallback(move || async move { served.last_words() })
            }
        };
        let router = router.layer(map_response(last)).layer(axum::Extension(arrival));
        let connection = http1::Builder::new()
            // Its own timer would end a connection without a word, and where we stand everything has its time.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(line), TowerToHyperService::new(router))
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        ended.map_err(Unserved::Http)
    }
}

/// Performs the TLS handshake, or answers a client that does not begin one that TLS is needed.
async fn secured(mut socket: TcpStream, tls: &Tls) -> Result<Transport, Unserved> {
    let mut first = [0];
    if socket.peek(&mut first).await.map_err(Unserved::Gone)? == 0 {
        return Err(Unserved::Gone(io::ErrorKind::UnexpectedEof.into()));
    }
    if first != [TLS_HANDSHAKE] {
        let answer = NEEDS_TLS.to_text();
        socket
            .write_all(answer.as_bytes())
            .await
            .map_err(Unserved::Gone)?;
        socket.shutdown().await.map_err(Unserved::Gone)?;
        // A socket that is closed with unread data is reset, and the answer may be lost.
        let mut rest = tokio::io::sink();
        let read = tokio::io::copy(&mut socket.take(MAX_HEAD_BYTES as u64), &mut rest).await;
        read.map_err(Unserved::Gone)?;
        return Err(Unserved::Plaintext);
    }
    let mut stream = tls.acceptor().accept(socket).await.map_err(Unserved::NoTls)?;
    stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER_BYTES));
    Ok(Transport::Tls(Box::new(stream)))
}

/// Checks a request's host and finds its client's address, before the router gets it.
async fn enter(State(front): State<Arc<Front>>, mut request: Request, next: Next) -> Response {
    if !names_one_host(request.version(), request.uri(), request.headers()) {
        front.metrics.refused("host");
        return (StatusCode::BAD_REQUEST, "a request names its Host, once\n").into_response();
    }
    if let Some(mut arrival) = request.extensions_mut().remove::<Arrival>() {
        let client = front.proxies.client(arrival.client, request.headers());
        if client != arrival.client {
            arrival.client = client;
            if let Err(served) = front.admit(&mut arrival) {
                return served.last_words().into_response();
            }
        }
        request.extensions_mut().insert(arrival);
    }
    next.run(request).await
}

/// True if a request names exactly one host, everywhere (RFC 9112, section 3.2), so that a proxy and a later check
/// cannot read different ones.
fn names_one_host(version: Version, uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).into_iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => uri.authority().is_none_or(|authority| {
            authority
                .as_str()
                .as_bytes()
                .eq_ignore_ascii_case(host.as_bytes())
        }),
        (None, _) => version < Version::HTTP_11 && uri.authority().is_none(),
        (Some(_), Some(_)) => false,
    }
}

/// Marks an answer as the connection's last, unless it upgrades to a websocket.
async fn last(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// Counts one in a gauge until it is dropped.
struct Counted(IntGauge);

impl Counted {
    fn one_of(gauge: &IntGauge) -> Counted {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
