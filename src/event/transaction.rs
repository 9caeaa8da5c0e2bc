//! [`Transaction`] and [`RowChange`]: what commits, and what it changed.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Relation, Tuple};
use crate::lsn::Lsn;

/// Microseconds since 2000-01-01 00:00:00 UTC, as Postgres counts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Seconds from the Unix epoch to Postgres' epoch, 2000-01-01 00:00:00 UTC.
    pub const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

    /// 9999-12-31 23:59:59.999999 UTC, the last moment that RFC 3339 can write.
    pub const LAST_WRITTEN: Timestamp = Timestamp(252_455_615_999_999_999);

    /// The moments that [`Timestamp::to_system_time`] keeps: from 1970 on.
    pub const CAN_BE_WRITTEN: std::ops::RangeInclusive<Timestamp> =
        Timestamp(-946_684_800_000_000)..=Timestamp::LAST_WRITTEN;

    /// The same moment by the system's clock type; times before 1970 become 1970, times after 9999 its end.
    pub fn to_system_time(self) -> SystemTime {
        let postgres_epoch = UNIX_EPOCH + Timestamp::POSTGRES_EPOCH;
        let this = self.min(Timestamp::LAST_WRITTEN);
        let distance = Duration::from_micros(this.0.unsigned_abs());
        let time = if this.0 < 0 {
            postgres_epoch.checked_sub(distance)
        } else {
            postgres_epoch.checked_add(distance)
        };
        time.unwrap_or(UNIX_EPOCH).max(UNIX_EPOCH)
    }

    /// The seconds from `earlier` to this moment; 0 if it is not earlier (two clocks may differ).
    pub fn seconds_since(self, earlier: Timestamp) -> f64 {
        self.0.saturating_sub(earlier.0).max(0) as f64 / 1e6
    }

    /// This moment by the system's clock.
    pub fn now() -> Timestamp {
        let since_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(since_unix.as_micros() as i64 - Timestamp::POSTGRES_EPOCH.as_micros() as i64)
    }
}

/// A committed transaction, without its changes. It stands at `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The transaction's ID: the low 32 bits, as the stream gives it.
    pub xid: u32,
    /// The start of the commit record. Never compared with an `end`: see [`crate::lsn`].
    pub commit: Lsn,
    /// The end of the commit record: the transaction's place in the history.
    pub end: Lsn,
    /// The time of its commit, by the server's clock.
    pub committed_at: Timestamp,
}

/// The part of a row that the replica identity tells, from before its update or delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldTuple<'a> {
    /// The identity's columns; the others are absent, though the tuple says null.
    Key(Tuple<'a>),
    /// The whole row (`REPLICA IDENTITY FULL`), TOASTed values included.
    Full(Tuple<'a>),
}

impl<'a> OldTuple<'a> {
    /// The tuple, whatever it holds.
    pub fn tuple(&self) -> Tuple<'a> {
        match self {
            OldTuple::Key(tuple) | OldTuple::Full(tuple) => *tuple,
        }
    }
}

/// The change of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// A new row.
    Insert {
        /// The row.
        new: Tuple<'a>,
    },
    /// A row's new version.
    Update {
        /// Everything that is known of the version before it; `None` under the default identity when the key did not
        /// change.
        old: Option<OldTuple<'a>>,
        /// The new version; a TOASTed value that did not change may be missing from it.
        new: Tuple<'a>,
    },
    /// A row's end.
    Delete {
        /// Everything that is known of the row.
        old: OldTuple<'a>,
    },
    /// The end of all of the table's rows.
    Truncate,
}

/// The change of a row, with its place in the transaction.
#[derive(Clone, Copy, Debug)]
pub struct RowChange<'a> {
    /// Its index among all the row changes of the transaction, from 0, before any filtering.
    pub seq: u32,
    /// The table, in the version that the row was written under.
    pub relation: &'a Arc<Relation>,
    /// The operation.
    pub op: Op<'a>,
    /// True if the row was too large to be kept: its large values are given as [`super::Value::Unchanged`], those of
    /// the key apart.
    pub oversize: bool,
}
