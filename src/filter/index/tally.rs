//! [`Tally`]: what a change took of work, by predicate; [`Allowance`]: how much there may be.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::item::Item;
use crate::types::Work;

/// The work that may be done to find what a change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// For one predicate.
    pub each: u64,
    /// For all together. Beyond it each has only [a little](Allowance::little), and after a thousand times that nothing.
    pub all: u64,
    /// The little: [`Allowance::LITTLE`] at most, and less where too much was done for long.
    pub little: u64,
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance {
            each: u64::MAX,
            all: u64::MAX,
            little: Allowance::LITTLE,
        }
    }
}

impl Allowance {
    /// The work that a predicate may take even if others took what there was: more than most take of ordinary rows.
    pub const LITTLE: u64 = 2_500;

    /// The amount that the next predicate may take after so much was done.
    fn after(self, done: u64) -> u64 {
        if done < self.all {
            self.each
        } else if done
            < self
                .all
                .saturating_mul(2)
                .saturating_add(self.little.saturating_mul(1_000))
        {
            self.each.min(self.little)
        } else {
            0
        }
    }
}

/// The reason why it is not known whether a change concerns a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// To find out takes more work than there may be.
    Exhausted,
    /// Matching panicked: a defect.
    Panicked,
}

/// The work that a change took.
#[derive(Debug, Default)]
pub struct Tally {
    /// All of the work.
    pub done: u64,
    /// The predicates that took much, and how much each did.
    pub long: Vec<(u32, u64)>,
    /// Those of which it is not known whether the change concerns them.
    pub failed: Vec<(u32, Failure)>,
}

/// Less than so much is not counted by predicate.
const LONG: u64 = 1_000;

/// The work of finding predicates, which those share whose values are read for it.
#[derive(Debug, Default)]
pub(super) struct WorkShares {
    pub(super) allowance: Allowance,
    long: Vec<(u32, u64)>,
}

impl WorkShares {
    /// Allows as much for the next value as a predicate may take.
    pub(super) fn allow(&self, work: &Work) {
        work.allow(self.allowance.after(work.done()));
    }

    /// WorkShares work to so many items, unless each has but little of it.
    pub(super) fn share(&mut self, units: u64, items: usize, each: impl FnOnce(&mut dyn FnMut(Item))) {
        let share = units / (items as u64).max(1);
        if share >= LONG {
            each(&mut |item| self.long.push((item.entry, share)));
        }
    }
}

impl Tally {
    /// Takes what predicates were charged for.
    pub(super) fn take(&mut self, charges: &mut WorkShares) {
        self.long.append(&mut charges.long);
    }

    pub(super) fn clear(&mut self) {
        self.done = 0;
        self.long.clear();
        self.failed.clear();
    }

    /// The answer of `judge` about a predicate; `None` if it does not come to an end within the allowance.
    pub(super) fn count<T>(
        &mut self,
        entry: u32,
        allowance: Allowance,
        work: &Work,
        judge: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let before = work.done();
        work.allow(allowance.after(before));
        // What it may leave half done is begun again with the next change.
        let judged = catch_unwind(AssertUnwindSafe(judge));
        let units = work.done() - before;
        if units >= LONG {
            self.long.push((entry, units));
        }
        let failure = match judged {
            Ok(judged) if !work.is_exhausted() => return judged,
            Ok(_) => Failure::Exhausted,
            Err(_) => Failure::Panicked,
        };
        self.failed.push((entry, failure));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_and_too_much_work_are_told_of_the_predicate_that_they_are_of() {
        let mut tally = Tally::default();
        let work = Work::unlimited();
        let allowance = Allowance {
            each: 5_000,
            all: 20_000,
            ..Allowance::default()
        };
        let spend = |units: usize| {
            let work = &work;
            move || work.spend(units).ok()
        };
        assert_eq!(tally.count(1, allowance, &work, spend(10)), Some(()));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let panicked = tally.count(2, allowance, &work, || -> Option<()> { panic!("a defect") });
        std::panic::set_hook(hook);
        assert_eq!(panicked, None);
        assert_eq!(tally.count(3, allowance, &work, spend(5_001)), None);
        assert_eq!(tally.count(4, allowance, &work, spend(5_000)), Some(()));
        assert_eq!(tally.failed, [(2, Failure::Panicked), (3, Failure::Exhausted)]);
        assert_eq!(tally.long, [(4, 5_000)]);
        // What is allowed in all is gone: a little for each, and then nothing.
        for _ in 0..3 {
            assert!(
                tally
                    .count(
                        5,
                        Allowance {
                            each: 1 << 40,
                            ..allowance
                        },
                        &work,
                        spend(6_000)
                    )
                    .is_some()
            );
        }
        tally.clear();
        let rich = Allowance {
            each: 1 << 40,
            ..allowance
        };
        assert!(work.done() > allowance.all);
        assert_eq!(
            tally.count(6, rich, &work, spend(Allowance::LITTLE as usize + 1)),
            None
        );
        let mut few = 0;
        while tally
            .count(7, rich, &work, spend(Allowance::LITTLE as usize))
            .is_some()
        {
            few += 1;
        }
        assert!((900..=1_010).contains(&few), "{few}");
        assert_eq!(tally.count(8, rich, &work, spend(1)), None);
        let work = Work::unlimited();
        let poor = Allowance {
            all: 0,
            little: 300,
            ..rich
        };
        assert_eq!(tally.count(9, poor, &work, || work.spend(300).ok()), Some(()));
        assert_eq!(tally.count(10, poor, &work, || work.spend(301).ok()), None);
    }
}
