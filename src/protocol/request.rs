//! [`ClientMessage`]: what a client asks for, however its dialect writes it.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

pub use crate::event::Ops;
use crate::event::{TableName, Timestamp};
use crate::lsn::{Epoch, Position, Start};

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
        /// The value for the pong to repeat.
        reference: Option<Reference>,
        /// The place up to which the connection is to be complete before the pong comes; `None` for a pong at once.
        reach: Option<Position>,
    },
}

/// The `ref` of a ping: any JSON, which its answer repeats as it was written.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Reference(Box<RawValue>);

impl Reference {
    /// The longest one of a ping with a `reach`, in bytes: it is kept until the place is reached. An error repeats none
    /// that is longer.
    pub const MAX_KEPT_BYTES: usize = 256;

    /// The value as it was written.
    pub fn new(json: &RawValue) -> Reference {
        Reference(json.to_owned())
    }

    /// True if it may be kept.
    pub fn is_short(&self) -> bool {
        self.0.get().len() <= Reference::MAX_KEPT_BYTES
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get())
    }
}

impl PartialEq for Reference {
    fn eq(&self, other: &Reference) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Reference {}

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
    /// The order of the rows, of which it is about the first; `None` if it is about all.
    pub order: Option<Ordered>,
}

/// The part of some rows that comes first in an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Ordered {
    /// The order, the most significant column first.
    pub by: Vec<OrderBy>,
    /// The end of the part.
    pub wanted: Wanted,
}

/// The end of the first rows of an order.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// The row of this number, which is still to be found, and those that tie with it.
    First(u32),
    /// The rows up to one with these values of the columns, and those that tie with it.
    Within(Vec<Value>),
    /// All of them: there were fewer than were asked for.
    All,
}

/// A column of an order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OrderBy {
    /// The column's name, unquoted and as written.
    pub column: String,
    /// True if large values come first.
    pub descending: bool,
    /// True if nulls come before all values.
    pub nulls_first: bool,
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
    /// Changes only, from the first transaction on that was committed at this time or later.
    Since(Timestamp),
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
