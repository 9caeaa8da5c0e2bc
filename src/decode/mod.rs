//! From the plugin's bytes to whole transactions. Pure.
//!
//! [`Message::parse`] reads one message where it lies; [`Streams::route`] tells apart what transactions send while they
//! still run; [`Assembler::push`] holds the messages of one connection to the order they must have and numbers the row
//! changes. The one thing to know: a message borrows from the buffer it was read into and a step borrows from both, so
//! a row costs no allocation on its way to the journal. wal2json's messages are turned into pgoutput's first
//! ([`wal2json::Translator`]), so that all that follows is the same.

pub mod assemble;
pub mod boundary;
pub mod descriptions;
pub mod pgoutput;
pub mod streams;
pub mod wal2json;

pub use assemble::{Assembler, Changes, Step};
pub use boundary::Boundary;
pub use descriptions::{Descriptions, Needed};
pub use pgoutput::Message;
pub use streams::{Part, Routed, Streams};
