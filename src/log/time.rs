//! [`place_of_time`]: the place in a log where a time is.
//!
//! Commit times are those of the database's clock, taken a moment before the commit is written. So they are out of order
//! by moments, and by as much as the clock is set back. The log is searched as if they were in order but for
//! [`SLACK`], and from the place found so, that much earlier, it is read.

use std::time::Duration;

use super::{Entry, Error, Log, LogReader};
use crate::event::Timestamp;
use crate::lsn::{Lsn, Position, Start};

/// The time by which commit times may be out of order without another place being found than the first one.
const SLACK: Duration = Duration::from_secs(10);
/// The amount of the log that is read at a time, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// The place after which the first transaction comes that was committed at `time` or later. `None` if the log may lack
/// it: the first that it holds is not earlier. Blocks while it reads.
///
/// If the clock was set back across `time` by more than ten seconds, times pass it more than once: the place is one at which
/// they do.
///
/// # Errors
/// The log cannot be read.
pub fn place_of_time(log: &impl Log, time: Timestamp) -> Result<Option<Lsn>, Error> {
    let sure = Timestamp(time.0.saturating_sub(SLACK.as_micros() as i64));
    let (mut low, mut high) = (log.earliest(), log.head());
    while let Some(middle) = log.between(low, high) {
        match first_after(log, middle)? {
            Some(committed_at) if committed_at < sure => low = middle,
            _ => high = middle,
        }
    }
    let mut before = None;
    let mut reader = log.reader(Start::After(Position::after(low)))?;
    while let Some(batch) = reader.next_blocking(READ_BYTES)? {
        for entry in batch.entries() {
            match entry? {
                Entry::Piece(piece) if piece.transaction.committed_at >= time => return Ok(before),
                Entry::Piece(piece) => before = Some(piece.transaction.end),
                Entry::Position(lsn) => before = before.map(|_| lsn),
            }
        }
    }
    Ok(before)
}

/// The commit time of the first transaction that the log holds; `None` if it holds none. Blocks while it reads.
///
/// # Errors
/// The log cannot be read.
pub fn oldest_commit(log: &impl Log) -> Result<Option<Timestamp>, Error> {
    first_after(log, log.earliest())
}

/// The commit time of the first transaction after a place.
fn first_after(log: &impl Log, place: Lsn) -> Result<Option<Timestamp>, Error> {
    let mut reader = log.reader(Start::After(Position::after(place)))?;
    while let Some(batch) = reader.next_blocking(READ_BYTES)? {
        for entry in batch.entries() {
            if let Entry::Piece(piece) = entry? {
                return Ok(Some(piece.transaction.committed_at));
            }
        }
    }
    Ok(None)
}
