//! [`Streams`]: transactions that are sent while they still run, told apart. Pure.
//!
//! With the option `streaming` (protocol version 2) a transaction that outgrows the server's
//! `logical_decoding_work_mem` comes in blocks, between which others commit. Inside a block each message carries the
//! ID of the transaction or subtransaction that it belongs to; without it, it is a message of version 1. So the parts
//! of a streamed transaction are put aside as they come, and once it has committed they are read like those of any
//! other.

use std::collections::HashSet;

use super::pgoutput::Fields;
use super::{Message, pgoutput};

/// Sorts one connection's messages into those that stand alone and the parts of running transactions.
#[derive(Debug, Default)]
pub struct Streams {
    /// The transaction whose block is open.
    open: Option<u32>,
    /// The transactions of which something has come and that have not ended.
    running: HashSet<u32>,
}

/// The part that a message plays where streamed transactions are put aside.
#[derive(Debug)]
#[must_use = "a message that is not taken is a change that is lost"]
pub enum Routed<'a> {
    /// A message outside of all blocks, for the [`Assembler`](super::Assembler).
    Message(Message<'a>),
    /// A part of a running transaction, to be put aside.
    Part(Part<'a>),
    /// A block has ended, or a message that means nothing.
    Nothing,
    /// A running transaction has committed: its parts are to be read now, in order, between a begin and a commit.
    Commit {
        /// The transaction.
        xid: u32,
        /// The begin that it would have had.
        begin: Message<'a>,
        /// The commit that it would have had.
        commit: Message<'a>,
    },
    /// A running transaction was rolled back: its parts are to be forgotten.
    Abort {
        /// The transaction.
        xid: u32,
    },
    /// A subtransaction was rolled back: all parts of the transaction from that one's first part on are to be
    /// forgotten. (Subtransactions nest: what came after its start is its own, or its parent's that is rolled back
    /// too.)
    AbortSub {
        /// The transaction.
        xid: u32,
        /// The subtransaction, of which nothing may have come.
        subxid: u32,
    },
}

/// A message inside a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The transaction whose block it is.
    pub xid: u32,
    /// The subtransaction that it belongs to; the same if it is of none.
    pub subxid: u32,
    /// The message's type.
    pub tag: u8,
    /// The bytes behind the type in a message of version 1.
    pub rest: &'a [u8],
}

impl Part<'_> {
    /// True if it describes a table.
    pub fn is_relation(&self) -> bool {
        self.tag == b'R'
    }

    /// The prefix of a logical message; `None` for all others. Its `subxid` says nothing: pgoutput sends such a message
    /// under its transaction's ID, whichever subtransaction wrote it (`pgoutput_message` in its source, in all versions
    /// up to 18; everything else goes by `change->txn->xid`).
    ///
    /// # Errors
    /// It cannot be read.
    pub fn logical_prefix(&self) -> Result<Option<&str>, Error> {
        if self.tag != b'M' {
            return Ok(None);
        }
        let mut fields = Fields::new(self.rest);
        fields.u8("flags")?;
        fields.lsn("message's lsn")?;
        Ok(Some(fields.string("message's prefix")?))
    }
}

/// The reason why a message cannot be read, or not where it came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no message of pgoutput's.
    #[error(transparent)]
    Message(#[from] pgoutput::Error),
    /// It cannot stand inside a block, or not outside of one.
    #[error("a {message} message {place} a block of a streamed transaction")]
    Misplaced {
        /// The kind of message.
        message: &'static str,
        /// `inside` or `outside`.
        place: &'static str,
    },
    /// A block that is not the first of its transaction, of which nothing has come, or the reverse.
    #[error("the streamed transaction {xid} {how}")]
    Unknown {
        /// The transaction.
        xid: u32,
        /// The complaint about it.
        how: &'static str,
    },
}

impl Streams {
    /// Takes the connection's next message.
    ///
    /// # Errors
    /// It cannot be read, or cannot stand here.
    pub fn route<'a>(&mut self, message: &'a [u8]) -> Result<Routed<'a>, Error> {
        match self.open {
            Some(xid) => self.inside(xid, message),
            None => self.outside(message),
        }
    }

    /// True if a block is open. A keepalive's position says nothing meanwhile.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn inside<'a>(&mut self, xid: u32, message: &'a [u8]) -> Result<Routed<'a>, Error> {
        let mut fields = Fields::new(message);
        let tag = fields.u8("message type")?;
        match tag {
            b'E' => {
                self.open = None;
                fields.finish("Stream Stop")?;
                Ok(Routed::Nothing)
            }
            b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M' => Ok(Routed::Part(Part {
                xid,
                subxid: fields.u32("xid")?,
                tag,
                rest: fields.rest(),
            })),
            // Comes without an ID, and is the same for all of the transaction.
            b'O' => Ok(Routed::Nothing),
            _ => Err(Error::Misplaced {
                message: Message::parse(message)?.name(),
                place: "inside",
            }),
        }
    }

    fn outside<'a>(&mut self, message: &'a [u8]) -> Result<Routed<'a>, Error> {
        match Message::parse(message)? {
            Message::StreamStart { xid, first } => {
                if self.running.insert(xid) != first {
                    let how = if first {
                        "begins twice"
                    } else {
                        "goes on without having begun"
                    };
                    return Err(Error::Unknown { xid, how });
                }
                self.open = Some(xid);
                Ok(Routed::Nothing)
            }
            Message::StreamStop => Err(Error::Misplaced {
                message: "Stream Stop",
                place: "outside",
            }),
            Message::StreamCommit {
                xid,
                commit,
                end,
                committed_at,
            } => {
                if !self.running.remove(&xid) {
                    let how = "commits without having begun";
                    return Err(Error::Unknown { xid, how });
                }
                Ok(Routed::Commit {
                    xid,
                    begin: Message::Begin {
                        commit,
                        committed_at,
                        xid,
                    },
                    commit: Message::Commit {
                        commit,
                        end,
                        committed_at,
                    },
                })
            }
            Message::StreamAbort { xid, subxid } if xid == subxid => {
                self.running.remove(&xid);
                Ok(Routed::Abort { xid })
            }
            Message::StreamAbort { xid, subxid } => Ok(Routed::AbortSub { xid, subxid }),
            message => Ok(Routed::Message(message)),
        }
    }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
