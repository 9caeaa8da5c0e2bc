//! The history between ingest and delivery, as those see it who write and read it.
//!
//! One [`LogWriter`] appends whole transactions; many [`LogReader`]s follow, each at its own pace, from any position
//! that the log still holds. Half a transaction is never visible. What is written here is pure: records, batches, the
//! boundary of a snapshot, and the traits. The [`journal`](crate::journal) implements them on local files; nobody else
//! needs to know where the log is kept.
//!
//! Positions compare only within one [epoch](Log::epoch). A log that cannot continue its history unbroken begins a new
//! one, and its readers learn that by [`Error::EpochChanged`].

mod batch;
mod boundary;
mod error;
mod identity;
#[cfg(test)]
pub(crate) mod memory;
mod pg_snapshot;
pub(crate) mod record;
mod relations;
mod tables;
mod time;
mod visibility;
mod wait;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use batch::{Batch, Changes, Entries, Entry, Piece};
pub use boundary::SnapshotBoundary;
pub use error::{Cause, Error};
pub use identity::Identity;
pub use pg_snapshot::{Horizon, NoSnapshot, PgSnapshot};
pub use record::Malformed;
pub use relations::Interner;
pub(crate) use relations::Relations;
pub use tables::{Holder, MAX_VERSIONS, News, TableHistory, TableRecord, TableVersion};
pub use time::{oldest_commit, place_of_time};
pub use visibility::{PendingSnapshot, PendingVisibility};

use crate::event::{Op, Relation, Transaction};
use crate::lsn::{Epoch, Lsn, Position, Start};

/// A history that can be read from any position it still holds. Cloning it copies a pointer. In what its readers
/// return, versions of a relation that are equal are the same [`Arc`]: see [`Interner`].
pub trait Log: Clone + Send + Sync + 'static {
    /// The reader of it.
    type Reader: LogReader;
    /// A hold on a part of it.
    type Hold: RetentionHold;

    /// The database and the slot whose history it is, with the timeline it was last continued on.
    fn identity(&self) -> Identity;

    /// The name of the current history; positions compare only within it.
    fn epoch(&self) -> Epoch;

    /// The newest position that can be read: the end of the newest whole transaction, or a position noted after it.
    fn head(&self) -> Lsn;

    /// The head whenever it moves, for those who wait for it.
    fn head_changes(&self) -> watch::Receiver<Lsn>;

    /// The oldest position that can be read from.
    fn earliest(&self) -> Lsn;

    /// Everything that the log says of its tables' names and columns, whenever it says more. It may be ahead of the
    /// head: what the writer notes of tables is seen at once, before the rows that it is needed for.
    fn tables(&self) -> watch::Receiver<TableHistory>;

    /// Up to where the history would survive a crash.
    fn durable(&self) -> Lsn;

    /// Waits, at most that long, until everything that was visible when this was called is durable. Returns up to
    /// where that is.
    ///
    /// # Errors
    /// [`Error::TimedOut`], or [`Error::Failed`].
    fn sync_now(&self, timeout: Duration) -> Result<Lsn, Error>;

    /// Keeps everything after `lsn` from being removed by retention, as long as the hold lives. (A new epoch, and
    /// damage, respect none.)
    fn hold(&self, lsn: Lsn) -> Self::Hold;

    /// A place between two others, about in the middle, at which a reader can begin without reading much before it; `None`
    /// if there is none, and what is between them is little, or is in one piece.
    fn between(&self, after: Lsn, before: Lsn) -> Option<Lsn>;

    /// A reader that begins there. After a position inside a transaction it begins with the whole of that transaction.
    /// Beyond the head it has nothing to return until the head has passed it.
    ///
    /// # Errors
    /// [`Error::Expired`] if the position is no longer held.
    fn reader(&self, start: Start) -> Result<Self::Reader, Error>;
}

/// Goes forward through a log.
pub trait LogReader: Send {
    /// The next part: whole records of about `max_bytes`, or one larger; `None` at the head.
    ///
    /// # Errors
    /// [`Error::Expired`] if what comes next is no longer held, [`Error::EpochChanged`] if the history was replaced,
    /// [`Error::Unavailable`] or [`Error::Failed`] if it cannot be read. Nothing is skipped: asked again, it answers
    /// the same.
    fn next(&mut self, max_bytes: usize) -> impl Future<Output = Result<Option<Batch>, Error>> + Send;

    /// Waits for the next part on this thread, which must not be one that runs tasks.
    ///
    /// # Errors
    /// Those of [`LogReader::next`].
    fn next_blocking(&mut self, max_bytes: usize) -> Result<Option<Batch>, Error> {
        wait::wait(self.next(max_bytes))
    }

    /// The position after everything that was returned.
    fn position(&self) -> Position;
}

/// Keeps everything after a position from being removed, as long as it lives.
pub trait RetentionHold: Send {
    /// Lets go of what is before `lsn`.
    fn advance(&self, lsn: Lsn);
}

/// Appends to a log: there is one.
///
/// Changes gather until they are [flushed](LogWriter::flush), which a writer also does by itself past a bound. So any
/// call may answer [`Error::Full`]; what it was given has then been taken all the same: wait, call `flush` until it
/// succeeds, and go on. After [`Error::Failed`] every call answers that.
pub trait LogWriter: Send {
    /// Adds a row's change to the open transaction, opening one if there is none. Its seq is the number of changes
    /// before it in the transaction.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a change beyond 2 GiB, or the 2³²nd; it was not taken.
    fn change(&mut self, relation: &Arc<Relation>, op: &Op<'_>) -> Result<(), Error>;

    /// Adds a change whose row was [too large](crate::event::RowChange::oversize): what is given is what is left of it.
    ///
    /// # Errors
    /// Those of [`LogWriter::change`].
    fn oversize_change(&mut self, relation: &Arc<Relation>, op: &Op<'_>) -> Result<(), Error>;

    /// Ends the open transaction, or notes one without changes.
    ///
    /// # Errors
    /// [`Error::NotAfter`] if it does not end after the head: it stays open, to be [rolled back](LogWriter::rollback).
    fn commit(&mut self, transaction: &Transaction) -> Result<(), Error>;

    /// Notes that the stream got to `lsn` and that there was no transaction in between, so that `lsn` can be confirmed
    /// to Postgres once it is durable. At or before the head there is nothing to note.
    ///
    /// # Errors
    /// [`Error::InTransaction`]
    fn position(&mut self, lsn: Lsn) -> Result<(), Error>;

    /// Forgets the open transaction, also what of it was written already: its connection was lost.
    ///
    /// # Errors
    /// [`Error::Failed`]
    fn rollback(&mut self) -> Result<(), Error>;

    /// Writes what was gathered and makes every ended transaction visible to readers. Changes of an open transaction
    /// stay unseen.
    ///
    /// # Errors
    /// [`Error::Full`]: nothing was lost, call it again when there may be space. [`Error::Failed`]
    fn flush(&mut self) -> Result<(), Error>;

    /// Notes something of a table, whether a transaction is open or not: before the rows that it is needed for. It is
    /// seen at once, survives a crash if those rows do, and is not rolled back.
    ///
    /// # Errors
    /// [`Error::Failed`]
    fn note_table(&mut self, record: &TableRecord) -> Result<(), Error>;

    /// Forgets the columns of tables that are not among those, once there is much to forget.
    fn retain_tables(&mut self, published: &HashSet<u32>);

    /// The newest position that was noted, flushed or not: what comes next must end after it.
    fn head(&self) -> Lsn;

    /// True if a transaction is open.
    fn in_transaction(&self) -> bool;

    /// Begins a new history, of a new epoch, that starts at `start`: the old one cannot be resumed any more and is
    /// removed. Whatever was not flushed is forgotten. Of the tables it says what [`TableHistory::next_epoch`] does.
    ///
    /// # Errors
    /// [`Error::Full`]: nothing has changed, try again. [`Error::Failed`] if the identity is not this log's, nor that
    /// of the database that took its database's place.
    fn new_epoch(&mut self, identity: &Identity, start: Lsn) -> Result<(), Error>;

    /// Begins to hold, from `start` on, a history that another log has held up to there: it keeps its name. What this
    /// log had before is removed. `tables` is what is known of that history's tables.
    ///
    /// # Errors
    /// Those of [`LogWriter::new_epoch`].
    fn adopt_epoch(
        &mut self,
        identity: &Identity,
        epoch: &Epoch,
        start: Lsn,
        tables: TableHistory,
    ) -> Result<(), Error>;

    /// Notes that the history goes on, unbroken, on another timeline.
    ///
    /// # Errors
    /// [`Error::Full`]: nothing has changed, try again.
    fn set_timeline(&mut self, timeline: u32) -> Result<(), Error>;
}
