//! [`Error`]: why a message cannot stand where it came.

use crate::event::TableName;
use crate::lsn::Lsn;

/// The reason why a message cannot stand where it came, or a relation not for the one described. The stream's order is
/// lost: the caller drops the connection and the open transaction, and starts again from the journal's head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A change or a commit without a begin.
    #[error("a {0} message outside a transaction")]
    OutsideTransaction(&'static str),
    /// A logical message of no transaction among the changes of one.
    #[error("a {0} message of no transaction inside a transaction")]
    InsideTransaction(&'static str),
    /// A logical message that is too long for a row.
    #[error("a logical message is too long")]
    Content,
    /// A begin while a transaction is open.
    #[error("the transaction at {new} begins before the one at {open} has committed")]
    Nested {
        /// The commit LSN of the open transaction.
        open: Lsn,
        /// The commit LSN of the other.
        new: Lsn,
    },
    /// A transaction that does not commit after the one before it ended.
    #[error("a transaction commits at {commit}, before the end of the one sent before it, {previous_end}")]
    Backwards {
        /// Its commit LSN.
        commit: Lsn,
        /// The end LSN of the one before it.
        previous_end: Lsn,
    },
    /// The commit is not that of the transaction that began.
    #[error("the transaction that began for {begun} commits at {committed}")]
    OtherCommit {
        /// The commit LSN that the begin announced.
        begun: Lsn,
        /// The one that the commit names.
        committed: Lsn,
    },
    /// A commit record that does not end after its start.
    #[error("the commit record at {commit} ends at {end}, not after its start")]
    EmptyCommit {
        /// Its start.
        commit: Lsn,
        /// Its end.
        end: Lsn,
    },
    /// The journal's head lies inside the commit record: the two are not of one history.
    #[error(
        "the journal's head {head} lies inside the commit record from {commit} to {end}: the journal belongs to another history"
    )]
    HeadInsideCommit {
        /// The journal's head.
        head: Lsn,
        /// The start of the commit record.
        commit: Lsn,
        /// The end of the commit record.
        end: Lsn,
    },
    /// A change to a table that no relation message described on this connection.
    #[error("a {message} message for the table with oid {oid}, which was never described")]
    Undescribed {
        /// The kind of message.
        message: &'static str,
        /// The table's OID.
        oid: u32,
    },
    /// A change to a table that was described, but nothing was learned since:
    /// [`Assembler::learn_relation`](super::Assembler::learn_relation) was not called.
    #[error("a {message} message for {table}, of which nothing was learned since it was described")]
    NotLearned {
        /// The kind of message.
        message: &'static str,
        /// The table.
        table: TableName,
    },
    /// The catalog's answer about a relation contradicts how the stream described it.
    #[error("what was learned of {table} (oid {oid}) is not what the stream described")]
    Mislearned {
        /// The OID of the relation that was learned.
        oid: u32,
        /// Its name.
        table: TableName,
    },
    /// A row with more or fewer columns than its table.
    #[error("a row of {table} has {found} columns, the table {expected}")]
    Columns {
        /// The table.
        table: TableName,
        /// The number of columns that the table was described with.
        expected: usize,
        /// The number of columns that the row has.
        found: usize,
    },
    /// A message about a streamed transaction, which [`Streams`](crate::decode::Streams) reads.
    #[error("a {0} message that was not told apart from the rest")]
    Streamed(&'static str),
    /// A transaction of more changes than `seq` counts.
    #[error("the transaction at {commit} has more than 4294967295 changes")]
    TooManyChanges {
        /// The transaction's commit LSN.
        commit: Lsn,
    },
}
