//! [`Error`]: why bytes are no message of pgoutput's.

use crate::event::Truncated;

/// The reason why bytes are no message of pgoutput's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end before or inside a field.
    #[error("the message is cut short at its {field}")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// The message goes on after its last field.
    #[error("{bytes} bytes are left over after the end of a {message} message")]
    Leftover {
        /// The kind of message, by its name in the documentation.
        message: &'static str,
        /// The number of bytes too many.
        bytes: usize,
    },
    /// The first byte is none that pgoutput uses.
    #[error("unknown message type {0:#04x}: this is not pgoutput, or a version of it newer than walcast")]
    UnknownMessage(u8),
    /// A message that pgoutput sends only when asked for `two_phase`, which we never ask for.
    #[error(
        "unexpected {0} message: walcast does not ask for two-phase commit; was the slot created with two_phase?"
    )]
    Unexpected(&'static str),
    /// A name is not in UTF-8, the encoding that the session asked for.
    #[error("the {field} is not valid utf-8")]
    NotUtf8 {
        /// The field.
        field: &'static str,
    },
    /// A byte that announces a part of the message is none of those possible there.
    #[error("the {field} is {value:#04x}, which has no meaning there")]
    BadByte {
        /// The field.
        field: &'static str,
        /// The byte.
        value: u8,
    },
    /// A row does not hold what TupleData holds.
    #[error("the {row} cannot be read")]
    Tuple {
        /// The row of the message.
        row: &'static str,
        /// The problem with it.
        #[source]
        cause: Truncated,
    },
}
