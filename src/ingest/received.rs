//! [`Received`]: the server's messages, kept as they came until they can be decoded.
//!
//! To read a change, the catalogs have to be asked about its table, and they answer only once they show what the
//! change's transaction did. While that transaction waits for a synchronous standby nobody sees it. If walcast itself
//! is the standby, because `synchronous_standby_names` names it or is `*`, then the transaction waits until walcast
//! has confirmed it, and walcast must not wait for the transaction before it does.
//!
//! So there is a second way to take the stream. Normally, messages are read as they come, and confirmed once the
//! journal holds what they mean. On this one they are first appended, unread, to a log of their own, synced, and
//! confirmed: that asks nothing of the database, takes as long as one sync, and is all that "flushed" promises, since
//! what is kept can be read at any time later, also after a crash. Another thread reads the log into the journal, and
//! asks and waits as it needs to. Clients get transactions from the journal as ever: only confirmation does not wait
//! for the reading.
//!
//! Why not instead
//! - ask without waiting for the transaction: what it created or altered is not in the answer, and nothing tells whether
//!   it did. Keys under `REPLICA IDENTITY FULL`, attributes, labels and collations would be guessed.
//! - confirm, and ask afterwards: what is confirmed is never sent again, and a crash in between would lose it.
//! - report no position as flushed, so that the server does not count us: then with `*` and nobody else commits wait for
//!   ever.
//!
//! It is used while the server's setting names us, when a transaction has stayed invisible for longer than
//! [`MAX_INVISIBLE`](super::visible::MAX_INVISIBLE) (whatever it waits for), and until the log has been read.
//! Transactions are not streamed meanwhile: the log holds them whole, in the order of their commits, each with the
//! descriptions by which its rows are read, so that it can be read from any of them on.
//!
//! The log is a journal like the other one, in a directory of its own, with the server's messages in the place of rows:
//! what that says of syncs, torn ends and damage holds here too.

mod apply;
mod receive;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub(super) use receive::Receiving;

use super::{Error, Ingest};
use crate::event::{Relation, TableName};
use crate::journal::{Journal, Options, Retention, Writer};
use crate::log::{self, Identity, Log, LogWriter, TableHistory};
use crate::lsn::{Epoch, Lsn};

/// The messages of the server, kept as they came.
pub(super) struct Received {
    dir: PathBuf,
    log: Option<ReceivedLog>,
    /// True if the log cannot be read, so that its contents are lost.
    is_unreadable: bool,
    /// The time until which it is used although `synchronous_standby_names` does not include us.
    until: Option<Instant>,
}

/// The open log.
pub(super) struct ReceivedLog {
    writer: Writer,
    journal: Journal,
}

/// The size at which a new file begins. What has been read is removed file by file.
const FILE_BYTES: u64 = 16 << 20;
/// The amount that is kept in memory for the reader.
const WINDOW_BYTES: usize = 2 << 20;
/// The time for which it is used after a transaction that was not visible in time.
const AFTER_INVISIBLE: Duration = Duration::from_secs(10 * 60);
/// Removes everything that can be removed.
const NOTHING_KEPT: Retention = Retention {
    max_bytes: Some(0),
    max_age: None,
};

impl Received {
    /// The log in a directory, which is created when it is needed.
    pub(super) fn new(dir: PathBuf) -> Received {
        Received {
            dir,
            log: None,
            is_unreadable: false,
            until: None,
        }
    }

    /// Opens the log if there is one, to find its end.
    pub(super) fn find(&mut self, identity: &Identity) -> Result<(), log::Error> {
        if self.log.is_none() && self.dir.is_dir() {
            self.log = Some(open(&self.dir, identity)?);
        }
        Ok(())
    }

    /// The end of the history that this walcast holds: the journal's `head`, or the log's if it goes on from there.
    pub(super) fn head(&self, epoch: &Epoch, head: Lsn) -> Lsn {
        let Some(ReceivedLog { journal: log, .. }) = &self.log else {
            return head;
        };
        if !self.is_unreadable && log.epoch() == *epoch && log.earliest() <= head {
            head.max(log.head())
        } else {
            head
        }
    }

    /// Gives up the log, whose contents cannot be read: the history is held only up to the journal's end, which is
    /// compared with the slot at the next connection. What was confirmed beyond is lost, and clients are told so.
    fn give_up(&mut self) {
        self.is_unreadable = true;
    }

    /// Has the stream received first for a while, since a transaction was not visible in time.
    pub(super) fn use_for_a_while(&mut self) {
        self.until = Some(Instant::now() + AFTER_INVISIBLE);
    }

    /// True during that time.
    pub(super) fn is_used_for_a_while(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// Makes the log continue at the end of the history that this walcast holds: it is created, or begun again, if
    /// necessary.
    fn begin(&mut self, identity: &Identity, epoch: &Epoch, head: Lsn) -> Result<(), log::Error> {
        let goes_on = self.head(epoch, head);
        let log = match &mut self.log {
            Some(log) => log,
            none => none.insert(open(&self.dir, identity)?),
        };
        if self.is_unreadable || log.journal.epoch() != *epoch || log.journal.head() != goes_on {
            // It holds messages, and nothing about tables.
            log.writer
                .adopt_epoch(identity, epoch, goes_on, TableHistory::default())?;
            self.is_unreadable = false;
        }
        Ok(())
    }

    /// Takes the log for the time of a connection.
    pub(super) fn take(&mut self) -> Option<ReceivedLog> {
        self.log.take()
    }

    /// Takes it back at the connection's end.
    fn put_back(&mut self, log: ReceivedLog) {
        self.log = Some(log);
    }
}

fn open(dir: &Path, identity: &Identity) -> Result<ReceivedLog, log::Error> {
    let options = Options {
        segment_bytes: FILE_BYTES,
        window_bytes: WINDOW_BYTES,
        sync_interval: Duration::ZERO,
        // Its contents belong to another epoch then, and are not read.
        accepts_recreated_database: true,
        ..Options::default()
    };
    let (writer, journal) = Journal::open(dir, options, identity)?;
    Ok(ReceivedLog { writer, journal })
}

/// Removes what has been read.
fn tidy(log: &Journal) {
    if let Err(error) = log.retain(&NOTHING_KEPT, SystemTime::now()) {
        tracing::warn!(
            event = "received_log_removal_failed", %error,
            "messages that were read cannot be removed from the received log"
        );
    }
}

/// The way in which the log holds a message, by the name under which it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// As it came.
    AsItCame,
    /// The description of a table that came before, in another transaction.
    DescribedBefore,
    /// The same of a partition whose rows come as its root's, followed by the root's OID.
    PartitionBefore,
}

impl Kept {
    const ALL: [Kept; 3] = [Kept::AsItCame, Kept::DescribedBefore, Kept::PartitionBefore];

    fn name(self) -> &'static str {
        match self {
            Kept::AsItCame => "received",
            Kept::DescribedBefore => "described",
            Kept::PartitionBefore => "partition",
        }
    }

    /// The relation of such messages.
    fn relation(self) -> Arc<Relation> {
        Arc::new(Relation::of_messages(self.name(), false))
    }

    /// The way in which the messages of a table are held.
    fn of(table: &TableName) -> Option<Kept> {
        let name = table.messages()?;
        Kept::ALL.into_iter().find(|kept| kept.name() == name)
    }
}

impl<W: LogWriter, H: Log> Ingest<W, H> {
    /// The end of the history that this walcast holds.
    pub(super) fn held(&self) -> Lsn {
        self.received.head(&self.journal.epoch(), self.journal.head())
    }

    /// True if messages are to be received before they are decoded. The log is open then.
    pub(super) fn is_to_receive_first(&mut self) -> Result<bool, Error> {
        let head = self.journal.head();
        let is_behind = self.held() > head;
        if !is_behind && !self.is_synchronous && !self.received.is_used_for_a_while() {
            return Ok(false);
        }
        let identity = self.journal.identity();
        let epoch = self.journal.epoch();
        self.received.begin(&identity, &epoch, head)?;
        Ok(true)
    }
}
