//! [`Seam`]: where the rows of a snapshot end and the stream begins. Pure.
//!
//! A transaction is decoded as soon as its commit record is on disk, and becomes visible a moment later; while it waits
//! for a synchronous standby, much later. So a position does not tell what a snapshot saw: its own list of transactions
//! does.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::Transaction;
use crate::lsn::{Epoch, Lsn};
use crate::postgres::{Horizon, Snapshot};

/// What a snapshot saw of the history, transaction by transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seam {
    /// The history that the places are of.
    pub epoch: Epoch,
    /// It saw everything up to here.
    pub after: Lsn,
    /// It saw nothing that ends after this.
    pub until: Lsn,
    /// What it saw in between.
    pub(super) view: Snapshot,
}

impl Seam {
    /// Whether the snapshot's rows hold what the transaction did.
    pub fn saw(&self, transaction: &Transaction) -> bool {
        transaction.end <= self.after || transaction.end <= self.until && self.view.sees(transaction.xid)
    }
}

/// The transactions that are in the journal and of which it is not known yet that they can be seen.
#[derive(Debug, Default)]
pub struct Unseen(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// By their ends, as they came.
    transactions: Vec<(Lsn, u32)>,
    /// How many were left when those that can be seen were last dropped.
    swept: usize,
    /// What may not have been seen where the history begins: none of it will ever be in the stream.
    before: Option<Horizon>,
}

/// So many are not worth asking for: 16 bytes each.
const MANY: usize = 64 * 1024;

impl Unseen {
    /// Adds one, before readers of the journal can meet it. Returns whether it is time to ask which can be seen by now
    /// ([`Unseen::forget`]), for they have become many.
    pub fn note(&self, end: Lsn, xid: u32) -> bool {
        let mut entries = self.lock();
        entries.transactions.push((end, xid));
        entries.transactions.len() >= MANY.saturating_add(entries.swept)
    }

    /// Drops those that a snapshot of the primary sees: all later ones see them too.
    pub fn forget(&self, snapshot: &Snapshot) {
        let mut entries = self.lock();
        entries.transactions.retain(|&(_, xid)| !snapshot.sees(xid));
        entries.transactions.shrink_to(MANY);
        entries.swept = entries.transactions.len();
    }

    /// Drops all: another history begins. What was written `before` it has to be seen by every snapshot.
    pub fn begin(&self, before: Option<Horizon>) {
        *self.lock() = Entries {
            before,
            ..Entries::default()
        };
    }

    /// Has every snapshot see all of these first: where they are in the journal is not known.
    pub fn require(&self, before: Option<Horizon>) {
        self.lock().before = before;
    }

    /// A place up to `head`, which was the journal's before the snapshot was taken, up to which the snapshot saw
    /// everything; `None` if there may be none.
    pub fn start(&self, head: Lsn, snapshot: &Snapshot) -> Option<Lsn> {
        let mut entries = self.lock();
        if entries
            .before
            .as_ref()
            .is_some_and(|before| !before.is_past(snapshot))
        {
            return None;
        }
        entries.before = None;
        let hidden = entries
            .transactions
            .iter()
            .filter(|(end, xid)| *end <= head && !snapshot.sees(*xid));
        let first = hidden.map(|(end, _)| *end).min();
        Some(first.map_or(head, |first| Lsn(first.0.saturating_sub(1))))
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let seam = Seam {
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
            assert_eq!(seam.saw(&transaction(xid, end)), saw, "{xid} {end}");
        }
    }

    #[test]
    fn the_start_lies_before_whatever_was_written_and_not_seen() {
        let unseen = Unseen::default();
        for (end, xid) in [(100, 10), (110, 12), (120, 11), (130, 13)] {
            assert!(!unseen.note(Lsn(end), xid));
        }
        let view: Snapshot = "11:14:11".parse().unwrap();
        assert_eq!(unseen.start(Lsn(130), &view), Some(Lsn(119)));
        assert_eq!(unseen.start(Lsn(119), &view), Some(Lsn(119)));
        unseen.forget(&view);
        assert_eq!(unseen.lock().transactions, [(Lsn(120), 11)]);
        let later: Snapshot = "14:14:".parse().unwrap();
        assert_eq!(unseen.start(Lsn(130), &later), Some(Lsn(130)));
    }

    #[test]
    fn it_is_time_to_ask_when_there_are_many_that_may_be_seen() {
        let unseen = Unseen::default();
        let asked: Vec<u32> = (1..=MANY as u32)
            .filter(|&xid| unseen.note(Lsn(1), xid))
            .collect();
        assert_eq!(asked, [MANY as u32]);
        // None of them can be seen: that is not asked again at once.
        unseen.forget(&"1:1:".parse().unwrap());
        assert!(!unseen.note(Lsn(2), 0));
    }
}
