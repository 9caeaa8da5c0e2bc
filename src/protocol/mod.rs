//! Requests of clients and the answers to them. Pure.
//!
//! Here is what every dialect has in common: requests, errors, closes, and who calls. Each dialect has a module of its
//! own, which alone knows how that is written: [`v1`] is `docs/protocol.md`.

mod caller;
mod error;
mod request;
pub mod v1;

pub use caller::Caller;
pub use error::{CloseCode, Detail, ErrorCode, ErrorMessage};
pub use request::{
    ClientMessage, Opening, Ops, OrderBy, Ordered, Reference, Subscribe, Token, Undecided, Wanted,
};
pub use v1::{ColumnInfo, Frame, Framing, Hello, HelloLimits, Part, ServerMessage, Subscribed};
