//! [`Caller`]: what the handshake and the token told of a client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::auth::Subject;
use crate::types::json::Numbers;

/// A client as the handshake and its token showed it. It is made once for each token, and is all that a session, a
/// query or a limit may know of whom it serves: a fact about the client that shapes what is sent to it stands here,
/// and is taken over into the key of its queries.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The number of its connection, since walcast was started.
    pub connection: u64,
    /// The address that its connection comes from: its own, or a proxy's.
    pub peer: SocketAddr,
    /// The client's own address, as far as a trusted proxy says it.
    pub client: IpAddr,
    /// The way in which it reads numbers beyond a double's precision.
    pub numbers: Numbers,
    /// The subject of its token, or the one of callers without. `None` where no tokens are asked for, and everything
    /// that is published is open.
    pub subject: Option<Arc<Subject>>,
}
