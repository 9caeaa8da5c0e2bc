//! Taking a snapshot, and the [`SnapshotBoundary`] between its rows and the stream.
//!
//! On a primary, the snapshot's own list of transactions decides, compared with the transactions in the journal that
//! may not be visible yet. A standby has no such list, but there transactions become visible in the order of the log:
//! the snapshot is taken again until no transaction lies in the uncertain range.

use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, statement};
use crate::event::{Relation, Transaction};
use crate::log::{Entry, Identity, Log, LogReader, PendingVisibility, PgSnapshot, SnapshotBoundary};
use crate::lsn::{Lsn, Position, Start};
use crate::postgres::{self, Connection, PgType, TypedRow};

/// The time that a standby, or the journal, may take to reach the position that a snapshot needs.
const CATCH_UP: Duration = Duration::from_secs(60);
/// The pause between two checks.
const PAUSE: Duration = Duration::from_millis(5);
/// The most attempts to take a snapshot that can be used.
const TRIES: usize = 100;
/// The amount of the journal that is read at a time, in bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// A snapshot, and the server that it was taken on.
struct Taken {
    view: PgSnapshot,
    on_standby: bool,
    /// Everything that the snapshot sees lies at or before this position.
    position: Lsn,
    system_id: u64,
    timeline: u32,
}

impl Taken {
    fn read(row: &TypedRow) -> Result<Taken, Error> {
        Ok(Taken {
            view: row.parse(0, "snapshot")?,
            on_standby: row.get(1, "role")?,
            position: row.get(2, "position")?,
            system_id: row.get::<i64>(3, "system identifier")?.cast_unsigned(),
            timeline: row.get::<i32>(4, "timeline")?.cast_unsigned(),
        })
    }

    /// Checks that the server is of the history that the stream comes from.
    fn check(&self, stream: &Identity) -> Result<(), Error> {
        if self.system_id != stream.system_id {
            return Err(Error::OtherHistory(format!(
                "its system identifier is {}, the stream's {}",
                self.system_id, stream.system_id
            )));
        }
        // A standby reports its timeline as of its last restartpoint.
        let differs = if self.on_standby {
            self.timeline > stream.timeline
        } else {
            self.timeline != stream.timeline
        };
        if differs {
            return Err(Error::OtherHistory(format!(
                "its timeline is {}, the stream's {}",
                self.timeline, stream.timeline
            )));
        }
        Ok(())
    }
}

/// Begins a transaction on `connection` that reads the table of `relation`, takes its snapshot, and holds the table as
/// it is.
pub(super) fn take<H: Log>(
    connection: &mut Connection,
    relation: &Relation,
    history: &H,
    pending_visibility: &PendingVisibility,
    mut is_wanted: impl FnMut() -> bool,
) -> Result<SnapshotBoundary, Error> {
    for _ in 0..TRIES {
        if !is_wanted() {
            return Err(Error::Abandoned);
        }
        let replayed = wait_for_standby(connection, history, &mut is_wanted)?;
        let epoch = history.epoch();
        connection.query(statement::BEGIN)?;
        // Taken before the snapshot, so that each of these transactions is either seen by it or known not to be.
        let taking = pending_visibility.taking();
        let head = history.head();
        let taken = Taken::read(&connection.select_one("the snapshot", statement::TAKE, &[])?)?;
        taken.check(&history.identity())?;
        let boundary = match (taken.on_standby, replayed) {
            (false, None) => {
                let after = taking.start(head, &taken.view);
                pending_visibility.forget(&taken.view);
                after.map(|after| SnapshotBoundary {
                    epoch: epoch.clone(),
                    after,
                    until: taken.position,
                    view: taken.view,
                })
            }
            (true, Some(replayed)) => {
                let until = decide(connection, history, replayed, &taken.view, &mut is_wanted)?;
                until.map(|until| SnapshotBoundary {
                    epoch: epoch.clone(),
                    after: replayed,
                    until,
                    view: taken.view,
                })
            }
            // It was promoted just now.
            _ => None,
        };
        let is_held =
            |boundary: &SnapshotBoundary| boundary.after >= history.earliest() && history.epoch() == epoch;
        if let Some(boundary) = boundary
            && hold(connection, relation, &mut is_wanted)?
            && is_held(&boundary)
        {
            return Ok(boundary);
        }
        connection.query("ROLLBACK")?;
        thread::sleep(PAUSE);
    }
    Err(Error::Unsettled)
}

/// Locks the table as it is. True if it is still as the snapshot sees it.
fn hold(
    connection: &mut Connection,
    relation: &Relation,
    is_wanted: impl FnMut() -> bool,
) -> Result<bool, Error> {
    connection
        .query_while(&statement::hold(&relation.table), is_wanted)
        .map_err(of_table)?;
    let unchanged = connection.select_one(
        "the table's files",
        statement::IS_UNCHANGED,
        &[(&relation.oid, PgType::OID)],
    )?;
    let unchanged: Option<bool> = unchanged.get(0, "the table's files")?;
    // Another table has the name by now. In a database that was created again the table has another OID.
    unchanged.ok_or(Error::TableChanged)
}

/// Waits until a standby has replayed what the journal holds, and returns its position; `None` for a primary.
fn wait_for_standby<H: Log>(
    connection: &mut Connection,
    history: &H,
    mut is_wanted: impl FnMut() -> bool,
) -> Result<Option<Lsn>, Error> {
    let began = Instant::now();
    let wanted = history.head();
    loop {
        let row = connection.select_one("how far the standby has come", statement::PROGRESS, &[])?;
        if !row.get(0, "role")? {
            return Ok(None);
        }
        let replayed: Lsn = row.get(1, "position")?;
        if replayed >= wanted {
            return Ok(Some(replayed));
        }
        let waited = began.elapsed();
        if waited >= CATCH_UP {
            return Err(Error::Behind {
                replayed,
                wanted,
                waited,
            });
        }
        if !is_wanted() {
            return Err(Error::Abandoned);
        }
        thread::sleep(PAUSE);
    }
}

/// Decides what a snapshot on a standby saw of the transactions that end after `replayed`, the position before it was
/// taken. Returns the end of the last one that it may have seen; `None` if its own ends do not tell.
///
/// A standby makes a transaction visible, and a moment later, after it has removed the files of the tables that the
/// transaction truncated or dropped, counts its record as replayed. So the snapshot may see one transaction more than
/// the position that is asked after it tells: the next one in the log.
fn decide<H: Log>(
    connection: &mut Connection,
    history: &H,
    replayed: Lsn,
    view: &PgSnapshot,
    mut is_wanted: impl FnMut() -> bool,
) -> Result<Option<Lsn>, Error> {
    let mut progress = Progress::ask(connection)?;
    let began = Instant::now();
    while !progress.is_covered_by(history.head()) {
        if !is_wanted() {
            return Err(Error::Abandoned);
        }
        if began.elapsed() >= CATCH_UP {
            return Ok(None);
        }
        thread::sleep(PAUSE);
        // A standby that has only just started to receive reports less than it has replayed.
        if !progress.is_streaming() {
            progress.received = Progress::ask(connection)?.received;
        }
    }
    let mut reader = history.reader(Start::After(Position::after(replayed)))?;
    while let Some(batch) = reader.next_blocking(BATCH_BYTES)? {
        for entry in batch.entries() {
            let Entry::Piece(piece) = entry.map_err(crate::log::Error::from)? else {
                continue;
            };
            if let ControlFlow::Break(until) = judge(view, progress.replayed, &piece.transaction) {
                return Ok(until);
            }
        }
    }
    Ok(Some(progress.replayed))
}

/// Judges the next transaction in the log: goes on if the snapshot saw it, and breaks with the end of the last one that
/// it saw, or with `None` if that is uncertain. `replayed` is the position after the snapshot was taken.
fn judge(view: &PgSnapshot, replayed: Lsn, transaction: &Transaction) -> ControlFlow<Option<Lsn>> {
    if view.may_hide(transaction.xid) {
        ControlFlow::Break(None)
    } else if transaction.end <= replayed {
        ControlFlow::Continue(())
    } else if view.sees(transaction.xid) {
        ControlFlow::Break(Some(transaction.end))
    } else {
        ControlFlow::Break(Some(replayed))
    }
}

/// The positions that a standby has reached.
struct Progress {
    /// The end of the last record that it has replayed.
    replayed: Lsn,
    /// The end of what it has received by streaming replication; less than `replayed`, or nothing, if it takes its log
    /// from an archive.
    received: Option<Lsn>,
}

impl Progress {
    fn ask(connection: &mut Connection) -> Result<Progress, Error> {
        let row = connection.select_one("how far the standby has come", statement::PROGRESS, &[])?;
        Ok(Progress {
            replayed: row.get(1, "position")?,
            received: row.get(2, "position")?,
        })
    }

    /// True if it has received all that it replays by streaming replication.
    fn is_streaming(&self) -> bool {
        self.received >= Some(self.replayed)
    }

    /// True if a history up to `head`, which is the end of a record, has the record that the standby is replaying, if
    /// there is one.
    fn is_covered_by(&self, head: Lsn) -> bool {
        match self.received {
            Some(received) if self.is_streaming() => head >= received,
            _ => head > self.replayed,
        }
    }
}

/// A table that is not there any more has changed.
fn of_table(error: postgres::Error) -> Error {
    const UNDEFINED_TABLE: &str = "42P01";
    match error.sqlstate() {
        Some(UNDEFINED_TABLE) => Error::TableChanged,
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    #[test]
    fn a_snapshot_on_a_standby_may_see_the_transaction_that_is_being_replayed() {
        // Of the IDs from 10 to 19 a standby does not tell which are in progress.
        let view: PgSnapshot = "10:20:".parse().unwrap();
        let replayed = Lsn(200);
        for (xid, end, judgement) in [
            (9, 200, ControlFlow::Continue(())),
            (9, 201, ControlFlow::Break(Some(Lsn(201)))),
            (20, 201, ControlFlow::Break(Some(replayed))),
            (15, 201, ControlFlow::Break(None)),
            (15, 200, ControlFlow::Break(None)),
        ] {
            let transaction = Transaction {
                xid,
                commit: Lsn(end - 1),
                end: Lsn(end),
                committed_at: Timestamp(0),
            };
            assert_eq!(judge(&view, replayed, &transaction), judgement, "{xid} {end}");
        }
    }

    #[test]
    fn a_history_covers_a_standby_that_has_what_it_received_or_goes_on_behind_what_it_replayed() {
        let progress = |received: Option<u64>| Progress {
            replayed: Lsn(200),
            received: received.map(Lsn),
        };
        for (received, head, covered) in [
            (Some(200), 200, true),
            (Some(300), 299, false),
            (Some(300), 300, true),
            // It reads its log from an archive, or has only just begun to receive.
            (None, 200, false),
            (None, 201, true),
            (Some(100), 200, false),
            (Some(100), 201, true),
        ] {
            assert_eq!(
                progress(received).is_covered_by(Lsn(head)),
                covered,
                "{received:?} {head}"
            );
        }
    }
}
