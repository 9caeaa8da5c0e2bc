//! The seam between the journal and those who use it, where another kind of log can take its place.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Batch, Error, Identity};
use crate::event::{Op, Relation, Transaction};
use crate::lsn::{Epoch, Lsn, Position, Start};

/// The end of a history that ingest appends to. See [`Writer`](super::Writer) for what each promises.
pub trait Append: Send {
    /// Has something done each time before what was gathered is written.
    fn before_writing(&mut self, act: Box<dyn FnMut() -> std::io::Result<()> + Send>);
    /// Adds a change to the open transaction, opening one if there is none.
    fn change(&mut self, relation: &Arc<Relation>, op: &Op<'_>) -> Result<(), Error>;
    /// Adds a change of which only a part is kept: its row is larger than is journaled.
    fn oversize_change(&mut self, relation: &Arc<Relation>, op: &Op<'_>) -> Result<(), Error>;
    /// Ends the open transaction.
    fn commit(&mut self, transaction: &Transaction) -> Result<(), Error>;
    /// Notes that the stream got to `lsn` without a transaction.
    fn position(&mut self, lsn: Lsn) -> Result<(), Error>;
    /// Forgets the open transaction.
    fn rollback(&mut self) -> Result<(), Error>;
    /// Makes every ended transaction visible to readers.
    fn flush(&mut self) -> Result<(), Error>;
    /// The newest position that was noted, flushed or not.
    fn head(&self) -> Lsn;
    /// True if a transaction is open.
    fn in_transaction(&self) -> bool;
    /// Begins a new history, of a new epoch, that starts at `start`.
    fn new_epoch(&mut self, identity: &Identity, start: Lsn) -> Result<(), Error>;
    /// Begins to hold, from `start` on, a history that another journal has held up to there.
    fn adopt_epoch(&mut self, identity: &Identity, epoch: &Epoch, start: Lsn) -> Result<(), Error>;
    /// Notes that the history goes on, unbroken, on another timeline.
    fn set_timeline(&mut self, timeline: u32) -> Result<(), Error>;
}

/// A history that can be read from any position it still holds.
pub trait History: Clone + Send + Sync + 'static {
    /// The reader of it.
    type Reader: Read;
    /// A hold on a part of it.
    type Pin: RetentionHold;
    /// Whose history it is, with the timeline it was last continued on.
    fn identity(&self) -> Identity;
    /// The history's name; positions compare only within it.
    fn epoch(&self) -> Epoch;
    /// The newest visible position.
    fn head(&self) -> Lsn;
    /// The newest position that survives a crash.
    fn durable(&self) -> Lsn;
    /// Waits, at most that long, until everything that is visible now survives a crash; up to where that is.
    fn sync_now(&self, timeout: Duration) -> Result<Lsn, Error>;
    /// The oldest position that can be read from.
    fn earliest(&self) -> Lsn;
    /// The head whenever it moves.
    fn head_changes(&self) -> watch::Receiver<Lsn>;
    /// Keeps everything after `lsn` from being removed, until the pin is dropped.
    fn pin(&self, lsn: Lsn) -> Self::Pin;
    /// A reader that starts there.
    fn reader(&self, start: Start) -> Result<Self::Reader, Error>;
}

/// Keeps everything after a position from being removed, as long as it lives.
pub trait RetentionHold: Send {
    /// What is before `lsn` is no longer needed.
    fn advance(&self, lsn: Lsn);
}

/// Goes forward through a history.
pub trait Read: Send {
    /// The next part, in about `max_bytes`; `None` at the head.
    fn next(&mut self, max_bytes: usize) -> Result<Option<Batch>, Error>;
    /// The place after everything that was returned.
    fn position(&self) -> Position;
}
