//! The [log](crate::log) on local files: the durable history of one walcast.
//!
//! One [`Writer`] appends whole transactions to segment files; many [`Reader`]s follow, each at its own pace, from any
//! position that is still held. A transaction can be read once it is written and handed over by a flush; it is
//! [durable](crate::log::Log::durable) once its file is synced, which happens in groups on a thread of its own.
//! Everything here blocks on files, and never on each other's pace; a reader that comes to a file on a thread that runs
//! tasks has others take these over first.
//!
//! The one thing to know: the history moves at boundaries between transactions. Half a transaction is never visible,
//! and a crash leaves at most a tail that opening cuts off at the last boundary. A segment is synced before the next
//! one begins, so only the newest can have such a tail; damage anywhere else is damage. Then the segment and everything
//! before it is set aside, never served: [`earliest`](crate::log::Log::earliest) moves behind it. What is cut or set
//! aside at the end shows as a head behind what the slot has confirmed: the caller compares, and begins a [new
//! epoch](crate::log::LogWriter::new_epoch).
//!
//! ```text
//! LOCK                                  held by whoever has the directory open
//! journal.json                          whose history it is: server, database, slot; epoch
//! segments/0000000000000001.seg         see log/record.rs for what is inside; it opens with what is known of tables
//! segments/0000000000000000.seg.aside   damaged, or older than a damaged one; kept until retention removes it
//! spool/                                transactions that still run, in files without names
//! ```

mod block;
mod directory;
mod error;
mod files;
mod handle;
mod header;
mod in_progress;
mod legacy;
mod manifest;
mod read_ahead;
mod reader;
mod recover;
mod relations;
mod retention;
mod segment;
mod shared;
mod sync;
#[cfg(test)]
mod tests;
mod window;
mod writer;

use std::sync::Arc;
use std::time::Duration;

pub use directory::Recovery;
pub use error::Error;
pub use handle::Journal;
pub use in_progress::{InProgressTransactions, Spooled};
pub use reader::Reader;
pub use retention::{Hold, Retention};
pub use sync::Observer;
pub use writer::Writer;

/// The options of a journal. The defaults suit a busy database.
#[derive(Clone)]
pub struct Options {
    /// A segment that has reached this size is followed by a new one. Retention removes whole segments.
    pub segment_bytes: u64,
    /// A transaction larger than this is written in parts of about this size, as it comes.
    pub record_bytes: usize,
    /// The writer flushes by itself when it has gathered this much.
    pub block_bytes: usize,
    /// The amount of what was written last that is kept in memory for readers.
    pub window_bytes: usize,
    /// The time from the start of one sync to the next, unless `sync_bytes` are waiting.
    pub sync_interval: Duration,
    /// So many unsynced bytes are synced without waiting.
    pub sync_bytes: u64,
    /// True if the journal of a database is opened for another one that took its place, to begin a new epoch.
    pub accepts_recreated_database: bool,
    /// Hears of every sync.
    pub observer: Arc<dyn Observer>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            record_bytes: 256 << 10,
            block_bytes: 256 << 10,
            window_bytes: 8 << 20,
            sync_interval: Duration::from_millis(2),
            sync_bytes: 8 << 20,
            accepts_recreated_database: false,
            observer: Arc::new(()),
        }
    }
}
