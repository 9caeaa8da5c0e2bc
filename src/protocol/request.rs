//! [`ClientMessage`]: what a client asks for, however its dialect writes it.

use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

pub use crate::event::Ops;
use crate::event::{TableName, Timestamp};
use crate::lsn::{Epoch, Start};

/// A message from a client.
#[derive(Clone, Debug)]
pub enum ClientMessage {
    /// A token that says who is asking, or a fresh one for the same subject.
    Auth {
        /// The token, as yet unverified.
        token: Token,
    },
    /// A new subscription.
    Subscribe(Box<Subscribe>),
    /// The end of a subscription.
    Unsubscribe {
        /// The subscription.
        id: String,
    },
    /// Asks for a pong.
    Ping {
        /// Any JSON, for the pong to repeat as it was written.
        reference: Option<Box<RawValue>>,
    },
}

/// A live query, as asked for: not yet checked against the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// The client's own name for it, of 1 to 128 characters.
    pub id: String,
    /// The table, or what stands for the logical messages of a prefix.
    pub table: TableName,
    /// The `where` predicate's text.
    pub predicate: Option<String>,
    /// The predicate's parameters, `$1` first; none without a predicate. Their numbers hold every digit that was
    /// written.
    pub params: Vec<Value>,
    /// The names of the columns wanted, unquoted and as written; all if it is `None`.
    pub columns: Option<Vec<String>>,
    /// The operations wanted.
    pub ops: Ops,
    /// True if to send old rows where they are known.
    pub old: bool,
    /// The opening of it.
    pub opening: Opening,
    /// The epoch that the client's position is of.
    pub epoch: Option<Epoch>,
    /// The way to treat changes of which the log does not tell whether they concern it.
    pub undecided: Undecided,
    /// The value of `now()` in the predicate.
    pub now: Option<Timestamp>,
}

/// The way in which a subscription treats changes of which the log does not tell whether they concern its result: the
/// old row's membership is unknown, or the new row's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Undecided {
    /// It is refused, or ends, where the table's replica identity leaves anything open.
    #[default]
    Refuse,
    /// It gets them: a row that may have left the result by an update is a delete of its key.
    Send,
    /// It does not get updates of rows that are not in the result now and may have been.
    Withhold,
}

/// The opening of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The rows as they are now, then their changes.
    Snapshot,
    /// Changes only, from there on.
    Changes(Start),
}

/// A bearer token. Printing it for debugging shows that there is one, not which.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Guards a token.
    pub fn new(token: impl Into<String>) -> Token {
        Token(token.into())
    }

    /// The token's text, for its verification.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
