//! [`Assembler`]: one connection's messages, held to their order, as numbered row changes and whole transactions.
//!
//! The one thing to know: whatever cannot be handed on is an error. A change is never dropped because something about
//! it was not known, only because the journal already has its transaction.

mod error;
mod partitions;
mod tables;

use std::sync::Arc;

use self::tables::{Tables, check_columns};
use super::Message;
use super::pgoutput::TruncatedRelations;
use crate::event::{
    OldTuple, Op, Relation, RowChange, StreamRelation, Transaction, Tuple, Value, encode_values,
};
use crate::lsn::Lsn;
pub use error::Error;

/// The meaning of a message for the history.
#[derive(Debug)]
#[must_use = "a step that is not taken is a change that is lost"]
pub enum Step<'a> {
    /// Nothing to keep: a begin, a message about no row, or part of a transaction that the journal already has.
    Nothing,
    /// A table was described, perhaps again. The caller asks the catalog for the rest and answers with
    /// [`Assembler::learn_relation`] before the next row of the table, even if the description is the same as before: the types
    /// and the key, which only the catalog knows, may have changed.
    Relation(StreamRelation),
    /// The next changes of the open transaction: one, or one for each table of a truncate.
    Changes(Changes<'a>),
    /// A logical message that belongs to no transaction, as the one change of one of its own.
    Alone {
        /// The message.
        changes: Changes<'a>,
        /// The end of its record: nothing else in the history ends there.
        at: Lsn,
    },
    /// The open transaction is complete: all of its changes have been handed out.
    Commit {
        /// The transaction.
        transaction: Transaction,
        /// The number of changes that it had: none if it held only logical messages of no prefix of ours, and for what
        /// servers before version 15 send of transactions that changed no published table.
        changes: u32,
    },
    /// A transaction ended that the journal already has. None of its changes were handed out.
    Skipped(Transaction),
}

/// Puts together the transactions of one replication connection; each connection needs its own.
#[derive(Debug)]
pub struct Assembler {
    head: Lsn,
    tables: Tables,
    open: Option<Open>,
    /// The end of the last transaction of this connection.
    previous_end: Lsn,
    /// The logical messages that are changes, by their prefixes.
    messages: Vec<Arc<Relation>>,
    /// Old rows are tagged by what they hold themselves, those of partitions too.
    tagged_by_row: bool,
    /// The last such message as a row, or an old row that is not as it came.
    row: Vec<u8>,
}

/// The transaction between its begin and its commit.
#[derive(Debug)]
struct Open {
    commit: Lsn,
    xid: u32,
    /// The `seq` of its next change.
    next_seq: u32,
    /// True if the journal already has it.
    skipped: bool,
}

impl Assembler {
    /// An assembler for a new connection to a server whose transactions up to `head`, an end LSN, are in the journal.
    /// The server may send some of them again; they are dropped.
    pub fn new(head: Lsn) -> Assembler {
        Assembler {
            head,
            tables: Tables::default(),
            open: None,
            previous_end: Lsn::ZERO,
            messages: Vec::new(),
            tagged_by_row: false,
            row: Vec::new(),
        }
    }

    /// Makes changes of the logical messages of these prefixes. Their content `is_text` if the database is in UTF8.
    #[must_use]
    pub fn with_messages(mut self, prefixes: &[String], is_text: bool) -> Assembler {
        let relations = prefixes
            .iter()
            .map(|prefix| Relation::of_messages(prefix, is_text));
        self.messages = relations.map(Arc::new).collect();
        self
    }

    /// Takes an old row that is tagged as whole for a whole one, as wal2json's are: pgoutput tags those of partitions
    /// by the root's identity.
    #[must_use]
    pub fn with_tags_by_row(self, tagged_by_row: bool) -> Assembler {
        Assembler {
            tagged_by_row,
            ..self
        }
    }

    /// True if logical messages of the prefix are changes.
    pub fn wants_messages(&self, prefix: &str) -> bool {
        self.messages
            .iter()
            .any(|relation| relation.table.messages() == Some(prefix))
    }

    /// Takes the connection's next message and says what it means.
    pub fn push<'a>(&'a mut self, message: Message<'a>) -> Result<Step<'a>, Error> {
        let name = message.name();
        match message {
            Message::Begin { commit, xid, .. } => self.begin(commit, xid),
            Message::Commit {
                commit,
                end,
                committed_at,
            } => {
                let open = self.open.take().ok_or(Error::OutsideTransaction(name))?;
                let xid = open.xid;
                self.commit(
                    &open,
                    Transaction {
                        xid,
                        commit,
                        end,
                        committed_at,
                    },
                )
            }
            Message::Relation(relation) => {
                let arrival = self.arrival();
                self.describe(relation.clone(), arrival);
                Ok(Step::Relation(relation))
            }
            Message::Insert { relation, new } => self.row(name, relation, Op::Insert { new }),
            Message::Update { relation, old, new } => self.row(name, relation, Op::Update { old, new }),
            Message::Delete { relation, old } => self.row(name, relation, Op::Delete { old }),
            Message::Truncate { relations, .. } => self.truncate(name, relations),
            Message::Logical {
                transactional,
                at,
                prefix,
                content,
            } => self.logical(transactional, at, prefix, content),
            Message::Origin { .. } | Message::Type { .. } => Ok(Step::Nothing),
            Message::StreamStart { .. }
            | Message::StreamStop
            | Message::StreamCommit { .. }
            | Message::StreamAbort { .. } => Err(Error::Streamed(name)),
        }
    }

    /// The next description's number. A streamed transaction's descriptions are numbered as they come and
    /// [described](Assembler::describe) once it has committed.
    pub fn arrival(&mut self) -> u64 {
        self.tables.arrival()
    }

    /// Has the next message, the description of a table, be taken for that of a partition of `root`, as if the root had
    /// been described just before it.
    pub fn expect_partition_of(&mut self, root: u32) {
        self.tables.expect_partition_of(root);
    }

    /// Before the parts of a streamed transaction: they know only the tables that are described among them.
    pub fn enter_stream(&mut self) {
        self.tables.enter_stream();
    }

    /// After them. The server does not describe a table again that it described in a streamed transaction, now that
    /// this has committed: the description that came last holds.
    pub fn leave_stream(&mut self) {
        self.tables.leave_stream();
    }

    /// Learns what the catalog says of a table that [`Step::Relation`] described; rows follow it from here on.
    ///
    /// Fails if it is not what the stream described, in which case rows would be read by the wrong columns: the table
    /// may have changed since, but the rows to come are those of the description.
    pub fn learn_relation(&mut self, relation: Arc<Relation>) -> Result<(), Error> {
        self.tables.learn_relation(relation)
    }

    /// The way in which the stream described a table last.
    pub fn described(&self, oid: u32) -> Option<&StreamRelation> {
        self.tables.described(oid)
    }

    /// The root of a partition that was described and learned of just now, if what was learned of the root before
    /// cannot be right any more: the caller asks the catalogs again, and [learns](Assembler::learn_relation) of it again.
    pub fn outdated_root(&self, partition: u32) -> Option<&StreamRelation> {
        self.tables.outdated_root(partition)
    }

    /// True if a transaction has begun and not yet committed. A keepalive's position says nothing meanwhile.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The low 32 bits of the open transaction's ID.
    pub fn open_xid(&self) -> Option<u32> {
        self.open.as_ref().map(|open| open.xid)
    }

    /// The start of the open transaction's commit record; 0/0 if none is open.
    pub fn open_commit(&self) -> Lsn {
        self.open.as_ref().map_or(Lsn::ZERO, |open| open.commit)
    }

    fn begin(&mut self, commit: Lsn, xid: u32) -> Result<Step<'static>, Error> {
        if let Some(open) = &self.open {
            return Err(Error::Nested {
                open: open.commit,
                new: commit,
            });
        }
        if commit < self.previous_end {
            return Err(Error::Backwards {
                commit,
                previous_end: self.previous_end,
            });
        }
        self.open = Some(Open {
            commit,
            xid,
            next_seq: 0,
            // A commit record that starts before the head ends at or before it. One that starts at the head is the
            // next one: only there are a commit LSN and an end LSN compared.
            skipped: commit < self.head,
        });
        Ok(Step::Nothing)
    }

    fn commit(&mut self, open: &Open, transaction: Transaction) -> Result<Step<'static>, Error> {
        let Transaction { commit, end, .. } = transaction;
        if commit != open.commit {
            return Err(Error::OtherCommit {
                begun: open.commit,
                committed: commit,
            });
        }
        if end <= commit {
            return Err(Error::EmptyCommit { commit, end });
        }
        if open.skipped && end > self.head {
            return Err(Error::HeadInsideCommit {
                head: self.head,
                commit,
                end,
            });
        }
        self.previous_end = end;
        Ok(if open.skipped {
            Step::Skipped(transaction)
        } else {
            Step::Commit {
                transaction,
                changes: open.next_seq,
            }
        })
    }

    /// Takes the description of a table. What was learned of it before is forgotten: it was learned of another version.
    ///
    /// The caller answers with [`Assembler::learn_relation`], as it does to [`Step::Relation`].
    pub fn describe(&mut self, relation: StreamRelation, arrival: u64) {
        self.tables.describe(relation, arrival);
    }

    fn row<'a>(&'a mut self, message: &'static str, oid: u32, op: Op<'a>) -> Result<Step<'a>, Error> {
        let open = self.open.as_mut().ok_or(Error::OutsideTransaction(message))?;
        if open.skipped {
            // It tells all the same that the table is no partition of the one that was described before it.
            self.tables.named(oid);
            return Ok(Step::Nothing);
        }
        let reading = self.tables.reading(message, oid)?;
        let relation = &reading.relation;
        let row = &mut self.row;
        let understood = |old, row| match old {
            OldTuple::Full(_) if self.tagged_by_row => old,
            old => reading.partitions.old(old, row),
        };
        let op = match op {
            Op::Insert { new } | Op::Update { old: None, new } => {
                check_columns(relation, new)?;
                op
            }
            Op::Update { old: Some(old), new } => {
                check_columns(relation, old.tuple())?;
                check_columns(relation, new)?;
                let old = Some(understood(old, row));
                Op::Update { old, new }
            }
            Op::Delete { old } => {
                check_columns(relation, old.tuple())?;
                let old = understood(old, row);
                Op::Delete { old }
            }
            Op::Truncate => op,
        };
        Ok(Step::Changes(Changes {
            next_seq: open.take_seqs(1)?,
            what: What::Row(Some((relation, op))),
        }))
    }

    fn logical(
        &mut self,
        transactional: bool,
        at: Lsn,
        prefix: &str,
        content: &[u8],
    ) -> Result<Step<'_>, Error> {
        let is_wanted = |relation: &&Arc<Relation>| relation.table.messages() == Some(prefix);
        let Some(relation) = self.messages.iter().find(is_wanted) else {
            return Ok(Step::Nothing);
        };
        let next_seq = match &mut self.open {
            Some(open) if transactional && open.skipped => return Ok(Step::Nothing),
            Some(open) if transactional => open.take_seqs(1)?,
            None if !transactional && at <= self.head => return Ok(Step::Nothing),
            None if !transactional => 0,
            Some(_) => return Err(Error::InsideTransaction("Message")),
            None => return Err(Error::OutsideTransaction("Message")),
        };
        self.row.clear();
        encode_values(std::iter::once(Value::Text(content)), &mut self.row);
        let (new, _) = Tuple::parse(&self.row).map_err(|_| Error::Content)?;
        let changes = Changes {
            next_seq,
            what: What::Row(Some((relation, Op::Insert { new }))),
        };
        Ok(if transactional {
            Step::Changes(changes)
        } else {
            Step::Alone { changes, at }
        })
    }

    fn truncate<'a>(
        &'a mut self,
        message: &'static str,
        oids: TruncatedRelations<'a>,
    ) -> Result<Step<'a>, Error> {
        let open = self.open.as_mut().ok_or(Error::OutsideTransaction(message))?;
        for oid in oids {
            self.tables.named(oid);
        }
        if open.skipped {
            return Ok(Step::Nothing);
        }
        for oid in oids {
            self.tables.learned(message, oid)?;
        }
        Ok(Step::Changes(Changes {
            next_seq: open.take_seqs(oids.len())?,
            what: What::Truncate(&self.tables, oids),
        }))
    }
}

impl Open {
    /// Numbers `count` changes; returns the first one's number.
    fn take_seqs(&mut self, count: usize) -> Result<u32, Error> {
        let first = self.next_seq;
        self.next_seq = u32::try_from(count)
            .ok()
            .and_then(|count| first.checked_add(count))
            .ok_or(Error::TooManyChanges { commit: self.commit })?;
        Ok(first)
    }
}

/// Consecutive changes of the open transaction, in order.
#[derive(Clone, Debug)]
#[must_use = "changes that are not taken are lost"]
pub struct Changes<'a> {
    next_seq: u32,
    what: What<'a>,
}

#[derive(Clone, Debug)]
enum What<'a> {
    Row(Option<(&'a Arc<Relation>, Op<'a>)>),
    Truncate(&'a Tables, TruncatedRelations<'a>),
}

impl<'a> Iterator for Changes<'a> {
    type Item = RowChange<'a>;

    fn next(&mut self) -> Option<RowChange<'a>> {
        let (relation, op) = match &mut self.what {
            What::Row(change) => change.take()?,
            What::Truncate(tables, oids) => {
                let relation = tables.learned("Truncate", oids.next()?);
                (relation.expect("push found them all"), Op::Truncate)
            }
        };
        let seq = self.next_seq;
        // Wraps only after the last change that there can be.
        self.next_seq = seq.wrapping_add(1);
        Some(RowChange {
            seq,
            relation,
            op,
            oversize: false,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.what {
            What::Row(change) => usize::from(change.is_some()),
            What::Truncate(_, oids) => oids.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Changes<'_> {}

#[cfg(test)]
mod tests;
