//! [`Caller`]: what the handshake told of a client.

use std::net::SocketAddr;

use crate::types::json::Numbers;

/// A client as the handshake showed it. It is made once for each connection, and is all that a session, a query or a
/// limit may know of whom it serves: a fact about the client that shapes what is sent to it stands here, and is taken
/// over into the key of its queries.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The number of its connection, since walcast was started.
    pub connection: u64,
    /// The address that it connects from.
    pub peer: SocketAddr,
    /// The way in which it reads numbers beyond a double's precision.
    pub numbers: Numbers,
}
