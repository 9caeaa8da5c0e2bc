//! [`Message`]: what pgoutput sends.

use crate::event::{OldTuple, StreamRelation, Timestamp, Tuple};
use crate::lsn::Lsn;

/// A message of pgoutput's, read in place. Only [`Message::Relation`], which is rare, owns what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction begins. All of it follows: pgoutput sends it once it has committed.
    Begin {
        /// The start of the commit record ("final LSN").
        commit: Lsn,
        /// The time of its commit.
        committed_at: Timestamp,
        /// The low 32 bits of the transaction's ID.
        xid: u32,
    },
    /// The transaction is complete.
    Commit {
        /// The start of the commit record; that of the [`Message::Begin`].
        commit: Lsn,
        /// The end of the commit record.
        end: Lsn,
        /// The time of its commit.
        committed_at: Timestamp,
    },
    /// The transaction was replicated to this server from another one, which the origin stands for.
    Origin {
        /// The position at which it committed on the other server.
        commit: Lsn,
        /// The origin's name.
        name: &'a str,
    },
    /// Describes a table: before its first row, and again after any change that may concern it.
    Relation(StreamRelation),
    /// Names a type that is not built in, before a relation that uses it. A domain comes with its own OID and the name
    /// of its base type.
    Type {
        /// The type's OID.
        oid: u32,
        /// Its schema.
        schema: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A new row.
    Insert {
        /// The table's OID.
        relation: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row's new version.
    Update {
        /// The table's OID.
        relation: u32,
        /// Everything that is known of the old version.
        old: Option<OldTuple<'a>>,
        /// The new version.
        new: Tuple<'a>,
    },
    /// A row's end.
    Delete {
        /// The table's OID.
        relation: u32,
        /// Everything that is known of the row.
        old: OldTuple<'a>,
    },
    /// The end of all rows of some tables.
    Truncate {
        /// True if the statement said `CASCADE`. The tables that it reached are among the relations.
        cascade: bool,
        /// True if the statement said `RESTART IDENTITY`.
        restart_identity: bool,
        /// The tables' OIDs.
        relations: TruncatedRelations<'a>,
    },
    /// A logical message (`pg_logical_emit_message`). Any role that can log in can write one: never act on it.
    Logical {
        /// True if it belongs to the transaction around it; one that does not may come between transactions.
        transactional: bool,
        /// The end of its record.
        at: Lsn,
        /// Says whose message it is.
        prefix: &'a str,
        /// Any bytes.
        content: &'a [u8],
    },
    /// A block of a transaction begins that has not ended yet. Until [`Message::StreamStop`] every message belongs to
    /// it: see [`Streams`](crate::decode::Streams), which reads them.
    StreamStart {
        /// The low 32 bits of the transaction's ID.
        xid: u32,
        /// True if it is the transaction's first block.
        first: bool,
    },
    /// The block is complete.
    StreamStop,
    /// A streamed transaction has committed: all of its blocks have come.
    StreamCommit {
        /// The transaction's ID.
        xid: u32,
        /// The start of the commit record.
        commit: Lsn,
        /// The end of the commit record.
        end: Lsn,
        /// The time of its commit.
        committed_at: Timestamp,
    },
    /// A streamed transaction, or a subtransaction of it, was rolled back. Version 18 can send this though we asked for
    /// no streaming, for a transaction of which it sent nothing.
    StreamAbort {
        /// The transaction's ID.
        xid: u32,
        /// The subtransaction's; the same if the whole transaction was rolled back.
        subxid: u32,
    },
}

impl Message<'_> {
    /// The message's name in the documentation.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Begin { .. } => "Begin",
            Message::Commit { .. } => "Commit",
            Message::Origin { .. } => "Origin",
            Message::Relation(_) => "Relation",
            Message::Type { .. } => "Type",
            Message::Insert { .. } => "Insert",
            Message::Update { .. } => "Update",
            Message::Delete { .. } => "Delete",
            Message::Truncate { .. } => "Truncate",
            Message::Logical { .. } => "Message",
            Message::StreamStart { .. } => "Stream Start",
            Message::StreamStop => "Stream Stop",
            Message::StreamCommit { .. } => "Stream Commit",
            Message::StreamAbort { .. } => "Stream Abort",
        }
    }
}

/// The tables' OIDs in a [`Message::Truncate`], in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TruncatedRelations<'a>(pub(super) &'a [u8]);

impl Iterator for TruncatedRelations<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (oid, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*oid))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.len() / 4;
        (left, Some(left))
    }
}

impl ExactSizeIterator for TruncatedRelations<'_> {}
