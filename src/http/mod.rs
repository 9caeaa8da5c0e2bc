//! The front: HTTP, its upgrade to websockets, and the admin listener.

mod addresses;
mod admin;
mod answer;
mod arrival;
mod bearer;
mod client_script;
mod connection;
mod etag;
mod forwarded;
mod handshakes;
mod host;
mod last_words;
mod network;
mod operators;
mod options;
mod origin;
mod places;
mod proxy_protocol;
mod server;
mod status;
mod stream;
mod tls;
mod warnings;
mod websocket;

pub(crate) use admin::{answered, failed};
pub(crate) use etag::{entity_tag, is_known};
pub(crate) use host::host_of;
pub(crate) use stream::STREAM_PATH;

pub use addresses::{AddressLimit, AddressLimits};
pub use admin::{
    Admin, AdminOptions, AdminTokenError, Exposure, RowsRefused, SourceState, admin, state_in_words,
};
pub use forwarded::{ForwardedHeader, Proxies};
pub use host::{BadHostName, HostName};
pub use network::{BadNetwork, Network};
pub use operators::{MAX_STREAMS, OperatorGate, operators};
pub use options::Options;
pub use origin::{Allowed, BadOrigin, Noted, Origin, Origins, Refused};
pub use server::Server;
pub use status::{NamedSource, Slot, Source, Status};
pub use stream::{Gate, Serving, ServingPlace, streams};
pub use tls::{CertificateFiles, Tls, TlsError};
