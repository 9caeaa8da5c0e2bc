//! [`PgSnapshot`]: which transactions a query could see (Postgres' type `pg_snapshot`). Pure.
//!
//! A transaction is decoded as soon as its commit record is written, and becomes visible a moment later; under
//! synchronous replication much later. Until then the catalogs do not show what it did to them.

use std::str::FromStr;

/// The transactions that are visible to whatever is asked after it was taken (documentation, "Transaction ID and
/// Snapshot Information Functions").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PgSnapshot {
    /// All transactions before this one have ended.
    xmin: u64,
    /// None from this one on had ended.
    xmax: u64,
    /// Those between that had not ended.
    in_progress: Vec<u64>,
}

impl PgSnapshot {
    /// True if it sees a transaction that has committed, by the low 32 bits of its ID, which the stream names.
    pub fn sees(&self, xid: u32) -> bool {
        let full = self.widen(xid);
        full < self.xmin || (full < self.xmax && !self.in_progress.contains(&full))
    }

    /// True if it may not see a transaction that has committed, as far as its ends tell: a standby gives no list of
    /// those that were in progress in between.
    pub fn may_hide(&self, xid: u32) -> bool {
        (self.xmin..self.xmax).contains(&self.widen(xid))
    }

    /// Of all IDs with these bits, the one next to ours: no two that matter are further apart.
    fn widen(&self, xid: u32) -> u64 {
        let ahead = xid.wrapping_sub(self.xmax as u32).cast_signed();
        self.xmax.saturating_add_signed(ahead.into())
    }
}

/// The transactions that may have been written, and not yet been visible, at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// The snapshot of what could be seen.
    pub view: PgSnapshot,
    /// The first ID that had not been given to any transaction.
    pub next: u64,
}

impl Horizon {
    /// True if a later snapshot sees what became of all of them.
    pub fn is_past(&self, later: &PgSnapshot) -> bool {
        let open = self.view.in_progress.iter().copied();
        let unknown = self.view.xmax..self.next;
        let has_ended = |id: u64| id < later.xmax && !later.in_progress.contains(&id);
        open.chain(unknown).all(has_ended)
    }
}

/// The text is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot")]
pub struct NoSnapshot;

impl FromStr for PgSnapshot {
    type Err = NoSnapshot;

    /// Reads `xmin:xmax:xip,xip`.
    fn from_str(text: &str) -> Result<PgSnapshot, NoSnapshot> {
        let id = |id: &str| id.parse().map_err(|_| NoSnapshot);
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(list), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoSnapshot);
        };
        let ids = list.split(',').filter(|_| !list.is_empty());
        Ok(PgSnapshot {
            xmin: id(xmin)?,
            xmax: id(xmax)?,
            in_progress: ids.map(id).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_in_progress_or_had_not_begun_is_not_seen() {
        let snapshot = "10:20:10,14".parse::<PgSnapshot>().unwrap();
        let seen: Vec<u32> = (5..25).filter(|&xid| snapshot.sees(xid)).collect();
        assert_eq!(seen, [5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
        assert!("10:10:".parse::<PgSnapshot>().unwrap().sees(9));
        assert!(!"10:10:".parse::<PgSnapshot>().unwrap().sees(10));
    }

    #[test]
    fn ids_have_epochs() {
        let before = 0xffff_fff0_u32;
        let after = 0x10_u32;
        // Two epochs on, just before a third begins.
        let snapshot = "12884901880:12884901880:".parse::<PgSnapshot>().unwrap();
        assert!(snapshot.sees(before));
        assert!(!snapshot.sees(after));
        let snapshot = "12884901920:12884901925:12884901921"
            .parse::<PgSnapshot>()
            .unwrap();
        assert!(snapshot.sees(before));
        assert!(snapshot.sees(after));
        assert!(!snapshot.sees(33));
        assert!(snapshot.sees(34));
    }

    #[test]
    fn a_horizon_is_past_once_all_that_was_open_has_ended() {
        let horizon = Horizon {
            view: "10:12:10".parse().unwrap(),
            // 12 waits for a standby: the newest that has ended is 11.
            next: 13,
        };
        for (later, past) in [
            ("10:12:10", false),
            ("12:12:", false),
            ("12:14:12", false),
            ("10:14:10", false),
            ("13:13:", true),
            ("14:20:14", true),
        ] {
            assert_eq!(horizon.is_past(&later.parse().unwrap()), past, "{later}");
        }
    }

    #[test]
    fn other_text_is_no_snapshot() {
        for text in ["", "1", "1:2", "a:2:", "1:2:x", "1:2:3,,x"] {
            assert_eq!(text.parse::<PgSnapshot>(), Err(NoSnapshot), "{text}");
        }
    }
}
