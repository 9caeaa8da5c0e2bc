//! The reasons why a message of wal2json has no meaning here.

use crate::event::TableName;

/// The reason why a message has no meaning here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not the JSON that wal2json writes.
    #[error("not a message of wal2json's: {0}")]
    Json(String),
    /// A message of a kind that does not exist in format version 2.
    #[error("unknown action {0:?}: this is not wal2json's format version 2")]
    Action(String),
    /// A field is missing that was asked for.
    #[error("the message has no {0}")]
    Missing(&'static str),
    /// A field holds something else than it should.
    #[error("the {field} is {value:?}, which has no meaning there")]
    Field {
        /// The field.
        field: &'static str,
        /// The contents.
        value: String,
    },
    /// A value is none that wal2json writes for its type, or is too long.
    #[error("the value of the column {column:?} cannot be read")]
    Value {
        /// The column.
        column: String,
    },
    /// More columns than a table can have.
    #[error("{0} has {1} columns")]
    Columns(TableName, usize),
    /// A publication has a row filter, which only pgoutput applies: rows would be delivered that are not published.
    #[error(
        "a publication has a row filter for {0}, which wal2json does not apply: remove it, or use pgoutput"
    )]
    RowFilter(TableName),
}
