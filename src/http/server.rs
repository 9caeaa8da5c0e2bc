//! [`Server`]: a listener whose connections are served by a router, with bounds on what a handshake may cost.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::exhaustion::is_exhaustion;
use crate::telemetry::Metrics;

/// Bounds on a listener.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections that may be open at once, handshakes included. Further ones are answered 503.
    pub max_connections: usize,
    /// The time that a client may take for its request and for reading the answer; a websocket has been upgraded by
    /// then.
    pub handshake_timeout: Duration,
    /// The amount that the kernel may buffer for a client that does not read, in bytes; 0 leaves it to the kernel.
    pub send_buffer_bytes: usize,
}

/// A bound listener, not yet served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    options: Options,
}

/// Largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;
/// Connections that are being refused at once. Further ones wait in the kernel's queue.
const MAX_REFUSING: usize = 16;
/// The time that a client may take to be refused.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The time to rest when the system has no file descriptor left for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// The interval at which it is logged that the limit is reached, or that no connection can be accepted.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(address: SocketAddr, options: Options) -> io::Result<Server> {
        Ok(Server {
            listener: TcpListener::bind(address).await?,
            options,
        })
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Lets fewer connections be open at once.
    pub fn limit_connections(&mut self, most: usize) {
        self.options.max_connections = self.options.max_connections.min(most);
    }

    /// Accepts connections and serves them with `router` until `stop`. What was accepted goes on by itself.
    pub async fn run(&self, router: Router, metrics: Arc<Metrics>, stop: CancellationToken) {
        let (listener, options) = (&self.listener, self.options);
        let places = Arc::new(Semaphore::new(options.max_connections));
        let refusing = Arc::new(Semaphore::new(MAX_REFUSING));
        let full = Router::new().fallback(full);
        let mut warnings = Warnings::default();
        let mut number = 0;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = async {
                    // Should there be no place for it, there is one to refuse it.
                    (Arc::clone(&refusing).acquire_owned().await, listener.accept().await)
                } => accepted,
            };
            let (refusal, socket, peer) = match accepted {
                (Ok(refusal), Ok((socket, peer))) => (refusal, socket, peer),
                (Err(_), _) => return,
                (_, Err(error)) if is_exhaustion(&error) => {
                    if warnings.is_due() {
                        tracing::warn!(%error, "cannot accept connections");
                    }
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    continue;
                }
                // The client went away between its connect and our accept.
                (_, Err(error)) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    continue;
                }
            };
            let (router, permit, timeout) = match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => (router.clone(), place, options.handshake_timeout),
                Err(_) => {
                    metrics.refused("limit");
                    if warnings.is_due() {
                        let connections = options.max_connections;
                        tracing::warn!(
                            connections,
                            "the limit of connections is reached: refusing more with 503"
                        );
                    }
                    (
                        full.clone(),
                        refusal,
                        REFUSAL_TIMEOUT.min(options.handshake_timeout),
                    )
                }
            };
            if let Err(error) = tune(&socket, options) {
                tracing::debug!(%error, "a socket option was refused");
            }
            let arrival = Arrival {
                number,
                peer,
                at: Instant::now(),
                _place: Arc::new(permit),
            };
            number += 1;
            tokio::spawn(serve(socket, router, timeout, arrival, stop.clone()));
        }
    }
}

/// Marks an answer as the connection's last, unless it makes a websocket of it.
async fn last(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// The answer to a client that comes when all places are taken.
async fn full() -> impl IntoResponse {
    let retry = [(header::RETRY_AFTER, "5")];
    (
        StatusCode::SERVICE_UNAVAILABLE,
        retry,
        "too many connections: try again later\n",
    )
}

/// The time at which a warning was last logged that would come again and again.
#[derive(Debug, Default)]
struct Warnings(Option<Instant>);

impl Warnings {
    fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|at| at.elapsed() >= WARN_INTERVAL);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// A connection that was accepted, with its place among [`Options::max_connections`], which is kept as long as any task
/// serves it.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// The number of those that were accepted before, of this listener's.
    pub(super) number: u64,
    pub(super) peer: SocketAddr,
    /// The time at which it was accepted.
    pub(super) at: Instant,
    _place: Arc<OwnedSemaphorePermit>,
}

/// Serves one request, with an end to it all: a client that sends nothing, or reads nothing, must not keep its place.
async fn serve(
    socket: TcpStream,
    router: Router,
    timeout: Duration,
    arrival: Arrival,
    stop: CancellationToken,
) {
    let router = router.layer(map_response(last)).layer(axum::Extension(arrival));
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let served = async {
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    match tokio::time::timeout(timeout, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection ended"),
        Err(_) => tracing::debug!("an HTTP connection took too long"),
    }
}

fn tune(socket: &TcpStream, options: Options) -> io::Result<()> {
    socket.set_nodelay(true)?;
    if options.send_buffer_bytes > 0 {
        socket2::SockRef::from(socket).set_send_buffer_size(options.send_buffer_bytes)?;
    }
    Ok(())
}
