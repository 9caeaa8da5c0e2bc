//! [`Queue`]: who is read for next. Pure.
//!
//! Places are few, and a query may take long, so nobody who asks for much may make others wait for all of it: owners have
//! their turns one after the other, and the last free place is for those who have none.

use std::collections::{HashMap, VecDeque};

/// Who asked: whose turns are counted together.
pub(super) type Owner = u64;

/// What waits for a place, and how many each owner has.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// How many are not taken.
    free: usize,
    /// The owners of which something waits, in the order of their turns.
    turns: VecDeque<Owner>,
    waiting: HashMap<Owner, VecDeque<T>>,
    /// How many places each has; none that has none.
    taken: HashMap<Owner, usize>,
    /// How many wait in all.
    len: usize,
    most: usize,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// How many times `most` may wait where each is the first of its owner's: those who asked for little are not sent away
/// because others asked for much.
const FIRSTS: usize = 10;

impl<T> Queue<T> {
    /// Nobody, with so many places, of whom about `most` may wait.
    pub(super) fn new(places: usize, most: usize) -> Queue<T> {
        Queue {
            free: places,
            turns: VecDeque::new(),
            waiting: HashMap::new(),
            taken: HashMap::new(),
            len: 0,
            most,
        }
    }

    /// Adds something that an owner asks for. What it asked for before and is not `wanted` any more goes.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) fn push(&mut self, owner: Owner, item: T, is_wanted: impl Fn(&T) -> bool) -> Result<(), Full> {
        let waiting = self.waiting.entry(owner).or_default();
        let before = waiting.len();
        waiting.retain(is_wanted);
        self.len -= before - waiting.len();
        let most = match waiting.is_empty() {
            true => self.most.saturating_mul(FIRSTS),
            false => self.most,
        };
        if self.len >= most {
            if waiting.is_empty() {
                self.waiting.remove(&owner);
            }
            return Err(Full);
        }
        waiting.push_back(item);
        self.len += 1;
        if !self.turns.contains(&owner) {
            self.turns.push_back(owner);
        }
        Ok(())
    }

    /// Drops all that is not wanted any more.
    pub(super) fn sweep(&mut self, is_wanted: impl Fn(&T) -> bool) {
        for waiting in self.waiting.values_mut() {
            waiting.retain(&is_wanted);
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        self.turns.retain(|owner| self.waiting.contains_key(owner));
        self.len = self.waiting.values().map(VecDeque::len).sum();
    }

    /// The next that gets a place, and its owner, who is to give the place back. What is not wanted any more is passed over.
    pub(super) fn next(&mut self, is_wanted: impl Fn(&T) -> bool) -> Option<(Owner, T)> {
        for _ in 0..self.turns.len() {
            let owner = self.turns.pop_front()?;
            let Some(waiting) = self.waiting.get_mut(&owner) else {
                continue;
            };
            let before = waiting.len();
            while waiting.front().is_some_and(|item| !is_wanted(item)) {
                waiting.pop_front();
            }
            self.len -= before - waiting.len();
            let needed = match self.taken.contains_key(&owner) {
                true => 2,
                false => 1,
            };
            let next = match self.free >= needed {
                true => waiting.pop_front(),
                false => None,
            };
            self.len -= usize::from(next.is_some());
            match waiting.is_empty() {
                true => drop(self.waiting.remove(&owner)),
                false => self.turns.push_back(owner),
            }
            if let Some(item) = next {
                self.free -= 1;
                *self.taken.entry(owner).or_default() += 1;
                return Some((owner, item));
            }
        }
        None
    }

    /// An owner gives a place back.
    pub(super) fn give_back(&mut self, owner: Owner) {
        self.free += 1;
        if let Some(taken) = self.taken.get_mut(&owner) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(&owner);
            }
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.next(|_| true).map(|(_, item)| item)).collect()
    }

    #[test]
    fn one_who_asks_for_much_leaves_a_place_and_a_turn_to_others() {
        let mut queue = Queue::new(3, 100);
        for item in ["a1", "a2", "a3", "a4", "a5"] {
            queue.push(1, item, |_| true).unwrap();
        }
        // The last place is for whoever has none.
        assert_eq!(all(&mut queue), ["a1", "a2"]);
        for (owner, item) in [(2, "b1"), (2, "b2"), (3, "c1")] {
            queue.push(owner, item, |_| true).unwrap();
        }
        assert_eq!(all(&mut queue), ["b1"]);
        // Whoever gives it back.
        queue.give_back(1);
        assert_eq!(all(&mut queue), ["c1"]);
        queue.give_back(3);
        assert_eq!(all(&mut queue), [""; 0]);
        // What is free beside it goes round.
        queue.give_back(2);
        assert_eq!(all(&mut queue), ["a3", "b2"]);
        queue.give_back(1);
        assert_eq!(all(&mut queue), [""; 0]);
        queue.give_back(1);
        assert_eq!(all(&mut queue), ["a4"]);
        queue.give_back(2);
        assert_eq!(all(&mut queue), ["a5"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn with_one_place_they_take_turns() {
        let mut queue = Queue::new(1, 100);
        for (owner, item) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (2, "b2")] {
            queue.push(owner, item, |_| true).unwrap();
        }
        let mut order = Vec::new();
        while let Some((owner, item)) = queue.next(|_| true) {
            order.push(item);
            queue.give_back(owner);
        }
        assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
    }

    #[test]
    fn what_nobody_wants_any_more_neither_waits_nor_counts() {
        let mut queue = Queue::new(1, 3);
        for item in ["a1", "a2", "a3"] {
            queue.push(1, item, |_| true).unwrap();
        }
        assert_eq!(queue.push(1, "a4", |_| true), Err(Full));
        // Whoever asks for the first time is let in all the same, up to a bound.
        assert_eq!(queue.push(2, "b1", |_| true), Ok(()));
        assert_eq!(queue.push(1, "a4", |item| *item == "a3"), Ok(()));
        assert_eq!(queue.len(), 3);
        assert_eq!(queue.next(|item| *item == "a4"), Some((1, "a4")));
        for owner in 10.. {
            if queue.push(owner, "x", |_| true).is_err() {
                assert_eq!(queue.len(), 30);
                break;
            }
        }
        assert!(!queue.waiting.contains_key(&1));
        queue.sweep(|item| *item != "x");
        assert_eq!((queue.len(), queue.turns.len()), (1, 1));
        assert_eq!(queue.push(99, "y", |_| true), Ok(()));
    }
}
