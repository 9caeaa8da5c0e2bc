//! [`Server`]: a listener whose connections are served by a router, with bounds on what a handshake may cost.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Bounds on a listener.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections that may be open at once, handshakes included. Further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// How long a client may take to send its request's head.
    pub head_timeout: Duration,
    /// How much the kernel may buffer for a client that does not read, in bytes; 0 leaves it to the kernel.
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
/// How long to rest when the system has no file descriptor left for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

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

    /// Accepts connections and serves them with `router` until `stop`. What was accepted goes on by itself.
    pub async fn run(self, router: Router, stop: CancellationToken) {
        let permits = Arc::new(Semaphore::new(self.options.max_connections));
        loop {
            let permit = Arc::clone(&permits).acquire_owned();
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = async { (permit.await, self.listener.accept().await) } => accepted,
            };
            match accepted {
                (Ok(permit), Ok((socket, _))) => {
                    let connection = serve(socket, router.clone(), self.options, permit, stop.clone());
                    tokio::spawn(connection);
                }
                (Err(_), _) => return,
                (_, Err(error)) if is_exhaustion(&error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                // The client went away between its connect and our accept.
                (_, Err(error)) => tracing::debug!(%error, "a connection was not accepted"),
            }
        }
    }
}

/// A connection's place among [`Options::max_connections`], kept as long as any task serves it.
#[derive(Clone, Debug)]
pub(super) struct Place(#[allow(dead_code, reason = "held for its drop")] Arc<OwnedSemaphorePermit>);

async fn serve(
    socket: TcpStream,
    router: Router,
    options: Options,
    permit: OwnedSemaphorePermit,
    stop: CancellationToken,
) {
    if let Err(error) = tune(&socket, options) {
        tracing::debug!(%error, "a socket option was refused");
    }
    let place = Place(Arc::new(permit));
    let service = TowerToHyperService::new(router.layer(axum::Extension(place)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

fn tune(socket: &TcpStream, options: Options) -> io::Result<()> {
    socket.set_nodelay(true)?;
    if options.send_buffer_bytes > 0 {
        socket2::SockRef::from(socket).set_send_buffer_size(options.send_buffer_bytes)?;
    }
    Ok(())
}

/// Whether the process or the system has run out of file descriptors or memory for sockets.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error
        .raw_os_error()
        .is_some_and(|raw| exhausted.iter().any(|errno| errno.raw_os_error() == raw))
}
