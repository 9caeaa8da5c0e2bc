//! Opening sockets to a server, and the request to cancel, which has one for itself.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::conninfo::Keepalives;
use super::error::{CONNECTING, Error};
use super::link::{Deadline, Link};
use crate::exhaustion::is_exhaustion;

/// The longest time that a connection waits for a file descriptor.
const EXHAUSTED: Duration = Duration::from_secs(5);
/// The pause between two tries. It is shorter than that of the listener for clients: without the database all of them
/// wait.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(5);

/// Asks the server to cancel what the session of that key is doing. It goes in clear text: the key is good for
/// nothing else.
pub(super) fn cancel(address: &SockAddr, (pid, secret): (u32, u32)) -> Result<(), Error> {
    let deadline = Some(Instant::now() + Duration::from_secs(10));
    let socket = open_socket(address, &Keepalives::default(), deadline)?;
    let mut request = BytesMut::new();
    frontend::cancel_request(pid.cast_signed(), secret.cast_signed(), &mut request);
    Link::plain(socket).write(&request, deadline)
}

/// A socket that is connected to an address.
pub(super) fn open_socket(
    address: &SockAddr,
    keepalives: &Keepalives,
    deadline: Deadline,
) -> Result<Socket, Error> {
    let connecting = Error::io(CONNECTING);
    let socket = new_socket(address.domain()).map_err(&connecting)?;
    match deadline {
        // A unix socket answers at once, or its server's queue is full.
        Some(deadline) if address.domain() != Domain::UNIX => {
            let left = deadline.saturating_duration_since(Instant::now());
            let connected = socket.connect_timeout(address, left.max(Duration::from_millis(1)));
            connected.map_err(|e| match e.kind() {
                io::ErrorKind::TimedOut => Error::Timeout("connecting"),
                _ => connecting(e),
            })?;
        }
        _ => socket.connect(address).map_err(&connecting)?,
    }
    if address.domain() != Domain::UNIX {
        set_tcp_options(&socket, keepalives).map_err(Error::io("setting up the socket"))?;
    }
    socket.set_nonblocking(true).map_err(&connecting)?;
    Ok(socket)
}

/// A socket. Should the system have run out of file descriptors, it waits a while for others to close some.
fn new_socket(domain: Domain) -> io::Result<Socket> {
    let until = Instant::now() + EXHAUSTED;
    loop {
        match Socket::new(domain, Type::STREAM, None) {
            Err(error) if is_exhaustion(&error) && Instant::now() < until => thread::sleep(EXHAUSTED_PAUSE),
            done => return done,
        }
    }
}

fn set_tcp_options(socket: &Socket, keepalives: &Keepalives) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if keepalives.user_timeout.is_some() {
        socket.set_tcp_user_timeout(keepalives.user_timeout)?;
    }
    if keepalives.disabled {
        return Ok(());
    }
    let mut parameters = TcpKeepalive::new();
    if let Some(idle) = keepalives.idle {
        parameters = parameters.with_time(idle);
    }
    if let Some(interval) = keepalives.interval {
        parameters = parameters.with_interval(interval);
    }
    if let Some(count) = keepalives.count {
        parameters = parameters.with_retries(count);
    }
    socket.set_keepalive(true)?;
    socket.set_tcp_keepalive(&parameters)
}
