//! [`Options`]: bounds on a listener.

use std::time::Duration;

use super::addresses::AddressLimits;
use super::forwarded::Proxies;

/// Bounds on a listener.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most open websockets. Further ones are answered with 503.
    pub max_connections: usize,
    /// The most connections that are in their handshake, or are answered in HTTP. Further ones are answered with 503, or
    /// make others give way.
    pub max_handshakes: usize,
    /// The limits of one address. Connections beyond them are answered with 429.
    pub address_limits: AddressLimits,
    /// The proxies that are trusted to name their clients.
    pub proxies: Proxies,
    /// The time from the start of a connection to the end of the answer to its request, or to the upgrade to a
    /// websocket, including TLS.
    pub handshake_timeout: Duration,
    /// The most that the kernel may buffer for a client that does not read, in bytes; 0 leaves it to the kernel.
    pub send_buffer_bytes: usize,
}
