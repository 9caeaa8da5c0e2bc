//! [`Server`]: a listener whose connections are served by a router, with bounds on the cost of handshakes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::addresses::Addresses;
use super::connection::Front;
use super::options::Options;
use super::tls::Tls;
use super::warnings::Warnings;
use crate::exhaustion::is_exhaustion;
use crate::telemetry::Metrics;

/// A bound listener, not yet served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    options: Options,
    tls: Option<Arc<Tls>>,
    addresses: Arc<Addresses>,
    background: Handle,
}

/// The pause when the system has no file descriptor left for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// The number of connections that may wait to be accepted: after a restart all clients come at once. The kernel's own bound
/// (`net.core.somaxconn`) holds beside it.
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // An address that connections of the process before are still closing on is free.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Server {
    /// Binds the address, with TLS if it is configured. Handshakes, and answers in HTTP, are made on the threads of
    /// `background`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn bind(
        address: SocketAddr,
        options: Options,
        tls: Option<Arc<Tls>>,
        background: Handle,
    ) -> io::Result<Server> {
        Ok(Server {
            listener: listen(address)?,
            addresses: Addresses::new(options.address_limits),
            options,
            tls,
            background,
        })
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Lowers the limit of open connections, those in their handshake included.
    pub fn limit_connections(&mut self, most: usize) {
        let options = &mut self.options;
        options.max_handshakes = options.max_handshakes.min(most.div_ceil(10));
        let rest = most.saturating_sub(options.max_handshakes);
        options.max_connections = options.max_connections.min(rest.max(1));
    }

    /// The most open connections, without those in their handshake.
    pub fn max_connections(&self) -> usize {
        self.options.max_connections
    }

    /// Accepts connections and serves them with `router` until `stop`. Accepted ones continue on their own.
    pub async fn run(&self, router: Router, metrics: Arc<Metrics>, stop: CancellationToken) {
        let options = &self.options;
        let exhausted = Warnings::default();
        let front = Front::new(
            router,
            options,
            self.tls.clone(),
            Arc::clone(&self.addresses),
            metrics,
            stop.clone(),
            self.background.clone(),
        );
        let mut number = 0;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_exhaustion(&error) => {
                    if exhausted.is_due() {
                        tracing::warn!(event = "accept_failed", %error, "cannot accept connections");
                    }
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    continue;
                }
                // The client left between its connect and our accept.
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    continue;
                }
            };
            if let Err(error) = tune(&socket, options) {
                tracing::debug!(%error, "a socket option was refused");
            }
            let arrival = front.arrival(number, peer);
            number += 1;
            tokio::select! {
                () = stop.cancelled() => return,
                () = front.meet(socket, arrival) => {}
            }
        }
    }
}

fn tune(socket: &TcpStream, options: &Options) -> io::Result<()> {
    socket.set_nodelay(true)?;
    if options.send_buffer_bytes > 0 {
        socket2::SockRef::from(socket).set_send_buffer_size(options.send_buffer_bytes)?;
    }
    Ok(())
}
