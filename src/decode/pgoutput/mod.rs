//! [`Message`]: what the plugin `pgoutput` sends, in versions 1 and 2 of its protocol.
//!
//! Formats, names and their order are those of the documentation's chapter "Logical Replication Message Formats".
//! Anything that its protocol does not allow is refused: a message that we misread would become a row that nobody
//! wrote.

mod error;
mod fields;
mod message;
mod read;

pub use error::Error;
pub(super) use fields::Fields;
pub use message::{Message, TruncatedRelations};

#[cfg(test)]
mod tests;
