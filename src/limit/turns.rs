//! [`Turns`]: fair turns of many owners that want more than there is.

use std::collections::HashMap;

/// The work that was done for each owner. The owner with the least is next, so that each gets an equal share, however
/// often it asks. A new owner, or one that was away, begins with as much as the one being served had ("start-time fair
/// queueing"): it has no claim to work that it did not ask for.
///
/// Owners that have no more than that are not kept.
#[derive(Debug, Default)]
pub struct Turns {
    /// The work of the owners that had more than the one being served.
    had: HashMap<u64, u64>,
    /// The work that the owner served last had when its turn came.
    served: u64,
}

/// The number of owners from which on those that need not be kept are removed.
const MANY: usize = 64;
/// The most owners that are kept. Beyond it all start over.
const MOST: usize = 16 * 1024;

impl Turns {
    /// The work that an owner had. The less it is, the earlier is the owner's turn.
    pub fn had(&self, owner: u64) -> u64 {
        let had = self.had.get(&owner).copied().unwrap_or(self.served);
        had.max(self.served)
    }

    /// The least work that any owner had, as it is counted here.
    pub fn least(&self) -> u64 {
        self.served
    }

    /// Notes that it is the turn of an owner, which had the least of those that ask.
    pub fn serve(&mut self, owner: u64) {
        self.served = self.had(owner);
    }

    /// Adds work that was done for an owner.
    pub fn took(&mut self, owner: u64, work: u64) {
        let had = self.had(owner).saturating_add(work);
        if self.had.len() >= MANY && self.had.len() == self.had.capacity() {
            let served = self.served;
            self.had.retain(|_, had| *had > served);
            if self.had.len() >= MOST {
                self.had.clear();
            }
        }
        self.had.insert(owner, had);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves the next of several owners that always ask.
    fn next(turns: &mut Turns, asking: &[u64], work: impl Fn(u64) -> u64) -> u64 {
        let owner = *asking.iter().min_by_key(|owner| turns.had(**owner)).unwrap();
        turns.serve(owner);
        turns.took(owner, work(owner));
        owner
    }

    #[test]
    fn each_owner_gets_an_equal_share_of_the_work() {
        let mut turns = Turns::default();
        // The second takes ten times as much at each turn.
        let work = |owner| if owner == 2 { 10 } else { 1 };
        let served: Vec<u64> = (0..1200).map(|_| next(&mut turns, &[1, 2, 3], work)).collect();
        let times = |owner| served.iter().filter(|served| **served == owner).count();
        assert!(times(1).abs_diff(times(3)) <= 1, "{} and {}", times(1), times(3));
        assert!(
            times(1).abs_diff(10 * times(2)) <= 10,
            "{} and {}",
            times(1),
            times(2)
        );
    }

    #[test]
    fn one_that_comes_late_is_next_and_has_no_claim_to_what_it_missed() {
        let mut turns = Turns::default();
        for _ in 0..1000 {
            next(&mut turns, &[1, 2], |_| 1);
        }
        let served: Vec<u64> = (0..10).map(|_| next(&mut turns, &[1, 2, 3], |_| 1)).collect();
        let times = served.iter().filter(|served| **served == 3).count();
        assert!((3..=4).contains(&times), "{served:?}");
    }

    #[test]
    fn owners_that_come_and_go_leave_no_more_than_so_much_behind() {
        let mut turns = Turns::default();
        for owner in 0..100_000 {
            next(&mut turns, &[owner], |_| 5);
        }
        assert!(turns.had.len() <= 2 * MOST, "{}", turns.had.len());
    }
}
