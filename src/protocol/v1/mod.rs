//! walcast.v1, the protocol of `docs/protocol.md`: every byte of it is read and written here.
//!
//! The one thing to know: the server is strict with what it is sent, because a typo that is silently ignored is a
//! subscription that shows something else than was asked for; what it sends may grow, so clients ignore what they do
//! not know.

mod change;
mod client;
mod fields;
mod frame;
mod server;
mod snapshot;

pub use change::{RowEncoder, RowShape};
pub use frame::{Frame, Framing, Part};
pub use server::{ColumnInfo, Hello, HelloLimits, ServerMessage, Subscribed};
pub use snapshot::{Rows, SnapshotMessage};

/// A text as JSON writes it, with its quotes: the form in which a subscription's id goes into messages.
pub fn quoted_id(id: &str) -> Box<str> {
    serde_json::Value::from(id).to_string().into_boxed_str()
}
