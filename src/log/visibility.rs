//! [`PendingVisibility`]: which transactions of the log may not be visible to queries yet. Pure.
//!
//! Ingest notes each transaction before readers of the log can meet it; whoever takes a snapshot asks from which
//! position on the log has what that did not see.

use std::collections::BTreeSet;

use parking_lot::{Mutex, MutexGuard};

use super::pg_snapshot::{Horizon, PgSnapshot};
use crate::lsn::Lsn;

/// The transactions that are in the journal and of which it is not known yet that they can be seen.
#[derive(Debug, Default)]
pub struct PendingVisibility(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// By their ends, as they came.
    transactions: Vec<(Lsn, u32)>,
    /// The number of those that were left when those that can be seen were last dropped.
    swept: usize,
    /// Those that can be seen, but not by every snapshot that is being taken; and the number of the first one that
    /// surely sees them.
    leaving: Vec<(u64, Vec<(Lsn, u32)>)>,
    /// The snapshots that are being taken.
    taking: BTreeSet<u64>,
    /// The next one's number.
    next: u64,
    /// The transactions that may not have been seen where the history begins: none of it will ever be in the stream.
    before: Option<Horizon>,
    /// The number of the first snapshot that surely sees all of that.
    past: Option<u64>,
}

/// So many are not worth asking for: 16 bytes each.
const MANY: usize = 64 * 1024;

impl PendingVisibility {
    /// Adds one, before readers of the journal can meet it. Returns whether it is time to ask which can be seen by now
    /// ([`PendingVisibility::forget`]), for they have become many.
    pub fn note(&self, end: Lsn, xid: u32) -> bool {
        let mut entries = self.lock();
        entries.transactions.push((end, xid));
        entries.transactions.len() >= MANY.saturating_add(entries.swept)
    }

    /// Drops those that a snapshot of the primary sees: all that are taken from now on see them too. For those that
    /// are being taken they are kept meanwhile.
    pub fn forget(&self, snapshot: &PgSnapshot) {
        let mut entries = self.lock();
        let is_seen = |&mut (_, xid): &mut (Lsn, u32)| snapshot.sees(xid);
        let seen: Vec<_> = entries.transactions.extract_if(.., is_seen).collect();
        entries.transactions.shrink_to(MANY);
        entries.swept = entries.transactions.len();
        if !seen.is_empty() {
            let next = entries.next;
            entries.leaving.push((next, seen));
            entries.let_leave();
        }
    }

    /// Drops all: another history begins. What was written `before` it has to be seen by every snapshot.
    pub fn begin(&self, before: Option<Horizon>) {
        let mut entries = self.lock();
        *entries = Entries {
            before,
            taking: std::mem::take(&mut entries.taking),
            next: entries.next,
            ..Entries::default()
        };
    }

    /// Announces that a snapshot will be taken: transactions that it may not see yet are kept for it.
    pub fn taking(&self) -> PendingSnapshot<'_> {
        let mut entries = self.lock();
        let number = entries.next;
        entries.next += 1;
        entries.taking.insert(number);
        PendingSnapshot {
            pending_visibility: self,
            number,
        }
    }

    /// Has no snapshot be used that does not see all of these: their place in the journal is not known.
    pub fn require(&self, before: Option<Horizon>) {
        let mut entries = self.lock();
        entries.before = before;
        entries.past = None;
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock()
    }
}

impl Entries {
    /// Drops those that every snapshot that is being taken sees.
    fn let_leave(&mut self) {
        let first = self.taking.first().copied().unwrap_or(self.next);
        self.leaving.retain(|&(since, _)| first < since);
        if self.past.is_some_and(|since| since <= first) {
            self.before = None;
            self.past = None;
        }
    }
}

/// A snapshot that is being taken.
#[derive(Debug)]
pub struct PendingSnapshot<'u> {
    pending_visibility: &'u PendingVisibility,
    number: u64,
}

impl PendingSnapshot<'_> {
    /// A place up to `head`, which was the journal's before the snapshot was taken, up to which the snapshot saw
    /// everything; `None` if there may be none.
    pub fn start(self, head: Lsn, snapshot: &PgSnapshot) -> Option<Lsn> {
        let mut entries = self.pending_visibility.lock();
        if let Some(before) = &entries.before {
            if !before.is_past(snapshot) {
                return None;
            }
            let next = entries.next;
            entries.past.get_or_insert(next);
        }
        let leaving = entries.leaving.iter().flat_map(|(_, seen)| seen);
        let hidden = entries
            .transactions
            .iter()
            .chain(leaving)
            .filter(|(end, xid)| *end <= head && !snapshot.sees(*xid));
        let first = hidden.map(|(end, _)| *end).min();
        Some(first.map_or(head, |first| Lsn(first.0.saturating_sub(1))))
    }
}

impl Drop for PendingSnapshot<'_> {
    fn drop(&mut self) {
        let mut entries = self.pending_visibility.lock();
        entries.taking.remove(&self.number);
        entries.let_leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_lies_before_whatever_was_written_and_not_seen() {
        let pending_visibility = PendingVisibility::default();
        for (end, xid) in [(100, 10), (110, 12), (120, 11), (130, 13)] {
            assert!(!pending_visibility.note(Lsn(end), xid));
        }
        let view: PgSnapshot = "11:14:11".parse().unwrap();
        assert_eq!(pending_visibility.taking().start(Lsn(130), &view), Some(Lsn(119)));
        assert_eq!(pending_visibility.taking().start(Lsn(119), &view), Some(Lsn(119)));
        pending_visibility.forget(&view);
        assert_eq!(pending_visibility.lock().transactions, [(Lsn(120), 11)]);
        let later: PgSnapshot = "14:14:".parse().unwrap();
        assert_eq!(
            pending_visibility.taking().start(Lsn(130), &later),
            Some(Lsn(130))
        );
    }

    #[test]
    fn what_a_later_snapshot_saw_is_kept_for_those_that_were_being_taken() {
        let pending_visibility = PendingVisibility::default();
        pending_visibility.note(Lsn(100), 10);
        let (before, after): (PgSnapshot, PgSnapshot) =
            ("10:11:10".parse().unwrap(), "11:11:".parse().unwrap());
        let first = pending_visibility.taking();
        let second = pending_visibility.taking();
        // The one that was taken later is the first to ask.
        let later = pending_visibility.taking();
        assert_eq!(later.start(Lsn(100), &after), Some(Lsn(100)));
        pending_visibility.forget(&after);
        let later = pending_visibility.taking();
        assert_eq!(first.start(Lsn(100), &before), Some(Lsn(99)));
        assert_eq!(second.start(Lsn(100), &before), Some(Lsn(99)));
        // Nobody needs it any more but the one that sees it.
        assert!(pending_visibility.lock().leaving.is_empty());
        assert_eq!(later.start(Lsn(100), &after), Some(Lsn(100)));
        assert!(pending_visibility.lock().taking.is_empty());
    }

    #[test]
    fn what_was_before_the_history_is_seen_by_each_snapshot_that_is_used() {
        let pending_visibility = PendingVisibility::default();
        let (before, after): (PgSnapshot, PgSnapshot) =
            ("10:11:10".parse().unwrap(), "11:11:".parse().unwrap());
        pending_visibility.require(Some(Horizon {
            view: before.clone(),
            next: 11,
        }));
        let first = pending_visibility.taking();
        assert_eq!(
            pending_visibility.taking().start(Lsn(100), &after),
            Some(Lsn(100))
        );
        assert_eq!(first.start(Lsn(100), &before), None);
        assert_eq!(pending_visibility.lock().before, None);
    }

    #[test]
    fn it_is_time_to_ask_when_there_are_many_that_may_be_seen() {
        let pending_visibility = PendingVisibility::default();
        let asked: Vec<u32> = (1..=MANY as u32)
            .filter(|&xid| pending_visibility.note(Lsn(1), xid))
            .collect();
        assert_eq!(asked, [MANY as u32]);
        // None of them can be seen: that is not asked again at once.
        pending_visibility.forget(&"1:1:".parse().unwrap());
        assert!(!pending_visibility.note(Lsn(2), 0));
    }
}
