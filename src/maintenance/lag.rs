//! The amount of WAL that the server keeps for the slot: measured against its bounds, with who is to blame.

use super::{Maintenance, Problem};
use crate::lsn::Lsn;
use crate::postgres::{Connection, Error, SlotState};

/// From this share of the least bound on, somebody should know.
const WARNED_FROM: f64 = 0.5;
/// The number of transactions that are named.
const NAMED: usize = 3;

/// The WAL that the server keeps for a slot, and may keep.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Budget {
    /// The amount that it keeps, in bytes.
    retained: u64,
    /// The amount that it may keep, in bytes.
    bound: u64,
    /// The setting that says so.
    by: &'static str,
}

impl Budget {
    fn used(self) -> f64 {
        self.retained as f64 / self.bound.max(1) as f64
    }
}

/// The budget that is used up most: ours, or the server's. `safe`: how much more the server lets be written.
fn tightest(retained: u64, ours: Option<u64>, safe: Option<i64>) -> Option<Budget> {
    let ours = ours.map(|bound| (bound, "--max-slot-lag"));
    // What is beyond the bound comes as a negative rest.
    let bound_of = |safe| retained.saturating_add_signed(safe);
    let theirs = safe.map(|safe| (bound_of(safe), "max_slot_wal_keep_size"));
    let budgets = ours.into_iter().chain(theirs);
    budgets
        .map(|(bound, by)| Budget { retained, bound, by })
        .max_by(|a, b| a.used().total_cmp(&b.used()))
}

impl Maintenance {
    /// Measures what the server keeps for the slot, and has the slot given up if that is too much.
    pub(super) fn look_at_lag(
        &self,
        connection: &mut Connection,
        slot: &SlotState,
        written: Lsn,
    ) -> Result<Option<Problem>, Error> {
        let name = &self.source.slot;
        let retained = slot.retained(written).unwrap_or(0);
        let unconfirmed = slot.confirmed_flush_lsn.map_or(0, |lsn| written.bytes_since(lsn));
        let budget = tightest(retained, self.source.max_slot_lag, slot.safe_wal_size);
        self.measure(slot, (retained, unconfirmed), budget);
        let oldest = connection.oldest_transaction()?.as_secs();
        self.metrics.oldest_transaction_seconds.set(oldest.cast_signed());
        if let Some(reason) = slot.loss() {
            return Ok(Some(Problem::new(format!("the slot {name} is lost ({reason})"))));
        }
        if self.source.max_slot_lag.is_some_and(|bound| retained > bound) && slot.active_pid.is_some() {
            self.slot_check.give();
        }
        let endangered = slot.wal_status.as_deref() == Some("unreserved");
        let Some(budget) = budget.filter(|budget| endangered || budget.used() >= WARNED_FROM) else {
            return Ok(None);
        };
        let Budget { bound, by, .. } = budget;
        let danger = if endangered {
            "the slot is lost at the next checkpoint unless it moves on"
        } else {
            "beyond that the slot is given up"
        };
        let blame = blame(connection, retained, unconfirmed)?;
        Ok(Some(Problem {
            // Its numbers grow; the danger is said when it comes, and who is to blame when that changes.
            kind: format!("lag {by} {danger} {}", blame.kind),
            words: format!(
                "the server keeps {retained} of {bound} bytes ({by}) of WAL for the slot {name}, and {danger}: {}",
                blame.words
            ),
        }))
    }

    fn measure(&self, slot: &SlotState, (retained, unconfirmed): (u64, u64), budget: Option<Budget>) {
        let metrics = &self.metrics;
        metrics.slot_lag_bytes.set(unconfirmed);
        metrics.slot_retained_bytes.set(retained);
        metrics.slot_safe_bytes.set(slot.safe_wal_size.unwrap_or(-1));
        metrics.slot_budget_used.set(budget.map_or(0.0, Budget::used));
    }
}

/// The reason why the slot does not move.
fn blame(connection: &mut Connection, retained: u64, unconfirmed: u64) -> Result<Problem, Error> {
    if unconfirmed > retained / 2 {
        return Ok(Problem {
            kind: "unconfirmed".into(),
            words: format!(
                "walcast has not confirmed {unconfirmed} bytes of it: it is behind, or cannot write its journal \
                 (/health/ready says so)"
            ),
        });
    }
    let blockers = connection.slot_creation_blockers()?;
    let named = || blockers.iter().take(NAMED);
    let list: Vec<String> = named()
        .map(|blocker| format!("{} (to end it: {})", blocker.description, blocker.cure))
        .collect();
    let words = if list.is_empty() {
        "nearly all of it is confirmed; the server waits for a transaction that this role does not see, or for \
                 its next note of what runs (15 s at most, or a checkpoint)"
            .to_owned()
    } else {
        format!(
            "nearly all of it is confirmed, but transactions that are still open hold it back: {}",
            list.join("; ")
        )
    };
    let kind: Vec<&str> = named().map(|blocker| blocker.cure.as_str()).collect();
    Ok(Problem {
        kind: kind.join(" "),
        words,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_that_is_nearer_counts() {
        assert_eq!(tightest(100, None, None), None);
        let ours = tightest(100, Some(150), Some(100)).unwrap();
        assert_eq!((ours.bound, ours.by), (150, "--max-slot-lag"));
        let theirs = tightest(100, Some(1000), Some(20)).unwrap();
        assert_eq!((theirs.bound, theirs.by), (120, "max_slot_wal_keep_size"));
        let beyond = tightest(100, None, Some(-50)).unwrap();
        assert!(beyond.used() >= 2.0, "{beyond:?}");
    }
}
