//! Messages between the server and its clients, version 1: `docs/protocol.md` as types. Pure.
//!
//! The one thing to know: the server is strict with what it is sent, because a typo that is silently ignored is a
//! subscription that shows something else than was asked for; what it sends may grow, so clients ignore what they do
//! not know.

mod caller;
mod client;
mod error;
mod fields;
mod frame;
mod server;

pub use caller::Caller;
pub use client::{ClientMessage, Opening, Ops, Subscribe, Token, Undecided};
pub use error::{CloseCode, Detail, ErrorCode, ErrorMessage};
pub use frame::{Frame, Framing, Part};
pub use server::{ColumnInfo, Hello, ServerMessage, Subscribed};
