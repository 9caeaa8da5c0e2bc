//! [`SnapshotBoundary`]: where the rows of a snapshot end and the stream begins. Pure.
//!
//! A transaction is decoded as soon as its commit record is on disk, and becomes visible a moment later; while it waits
//! for a synchronous standby, much later. So a position does not tell what a snapshot saw: its own list of transactions
//! does.

use super::PgSnapshot;
use crate::event::Transaction;
use crate::lsn::{Epoch, Lsn, Position};

/// The part of the history that a snapshot saw, transaction by transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotBoundary {
    /// The history that the places are of.
    pub epoch: Epoch,
    /// It saw everything up to here.
    pub after: Lsn,
    /// It saw nothing that ends after this.
    pub until: Lsn,
    /// The snapshot, which decides in between.
    pub view: PgSnapshot,
}

impl SnapshotBoundary {
    /// True if the snapshot's rows hold what the transaction did.
    pub fn saw(&self, transaction: &Transaction) -> bool {
        transaction.end <= self.after || transaction.end <= self.until && self.view.sees(transaction.xid)
    }

    /// True if there may still be transactions behind `position` that the snapshot's rows hold already.
    pub fn is_ahead_of(&self, position: Position) -> bool {
        position < Position::after(self.until)
    }
}

#[cfg(test)]
impl SnapshotBoundary {
    /// A boundary between two places, in between of which nothing was seen.
    pub(crate) fn between(after: Lsn, until: Lsn) -> SnapshotBoundary {
        SnapshotBoundary {
            epoch: Epoch("e".into()),
            after,
            until,
            view: PgSnapshot::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    fn transaction(xid: u32, end: u64) -> Transaction {
        Transaction {
            xid,
            commit: Lsn(end - 1),
            end: Lsn(end),
            committed_at: Timestamp(0),
        }
    }

    #[test]
    fn between_its_ends_the_snapshot_itself_decides() {
        let view = "10:20:12".parse().unwrap();
        let boundary = SnapshotBoundary {
            epoch: Epoch("e".into()),
            after: Lsn(100),
            until: Lsn(200),
            view,
        };
        for (xid, end, saw) in [
            // What waited for a standby when the snapshot was taken, and what had not begun.
            (12, 150, false),
            (20, 150, false),
            (11, 150, true),
            (12, 100, true),
            // An ID that was used before, an epoch ago.
            (11, 201, false),
        ] {
            assert_eq!(boundary.saw(&transaction(xid, end)), saw, "{xid} {end}");
        }
    }
}
