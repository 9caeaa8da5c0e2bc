//! Everything that talks to Postgres. It knows frames and positions, not rows.
//!
//! The one thing to know: it blocks, on threads of its own. While it is behind, the reader of a replication stream
//! naps for a fraction of a millisecond between reads (see [`Receiver`]), which an async runtime's timers cannot do,
//! and everything else here is rare. One [`Connection`] serves replication and ordinary SQL, so that one connection
//! string means the same for both.
//!
//! Ordinary queries have bound parameters and typed answers by `postgres-types` (see `select`). `tokio-postgres`, which
//! has these values from there, was tried over our sockets for them: a session for replication takes neither its
//! parameters nor its binary answers, so this connection stays as it is, and the library came beside it.

mod auth;
mod blockers;
mod buffer;
mod catalog;
mod connect;
mod connect_hints;
mod connection;
mod conninfo;
mod dial;
mod error;
mod link;
mod minor;
mod pacing;
mod policies;
mod portal;
mod preflight;
mod publication_tables;
mod replication;
mod select;
mod server_error;
mod session;
mod settings;
mod slot;
mod standby_slots;
mod statement;
mod stream;
mod synchronous;
mod tls;
mod wire;

pub use crate::event::{quote_identifier, quote_literal};
pub use blockers::{Blocker, SlotReader};
pub(crate) use catalog::Layouts;
pub use catalog::{Catalog, Described, Moment, Unpublished};
pub use connect_hints::next_step;
pub use connection::{Connection, Row};
pub use conninfo::{
    ChannelBinding, ConnInfo, ConnInfoError, Host, Keepalives, Password, RootCert, Ssl, SslMode,
    TargetSession,
};
pub use error::{Attempt, Error};
pub use minor::remarks;
pub use pacing::Pacing;
pub use policies::check_policies;
pub use portal::Fetched;
pub use preflight::{Code, Finding, FoundTable, Requirements, Severity, check};
pub use publication_tables::publication_tables;
pub use replication::StatusUpdate;
pub(crate) use select::{PgType, TypedRow};
pub use server_error::ServerError;
pub use session::{NAMES_IN_VALUES, PINNED};
pub use settings::Purpose;
pub use slot::{NameError, Plugin, Publication, SlotName, SlotState, SystemIdentity, TimelineSwitch};
pub use standby_slots::Absent;
pub use stream::{
    Ahead, Filled, Frame, Receiver, ReplicationStream, StartReplication, StatusSender, is_refused_option,
};
pub use wire::{Field, WireError};
