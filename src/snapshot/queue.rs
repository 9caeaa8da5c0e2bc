//! [`Queue`]: the order in which requests for snapshots are served. Pure.
//!
//! Places are few, and a query may take long, so an owner with many requests must not make others wait for all of them:
//! the next turn is that of the owner whose requests have held places for the least time, so that one with long queries
//! gets fewer of them, and the last free place goes to an owner that has none. Nor may many owners with one long query
//! each: where all places have been held for [`LONG`], the one that was taken last is asked back, so that one place
//! always circulates. And owners whose requests held places for more than a hundredth of the time lately have half of the
//! places together, since what they ask for takes the database's processors from all others.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::limit::{Bucket, Rate, Turns};

/// The owner of a request: its turns are counted together.
pub(super) type Owner = u64;

/// A place that was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) owner: Owner,
    number: u64,
    since: Instant,
    /// It is one of those that busy owners have together.
    is_of_busy: bool,
}

impl Place {
    /// The work that it is counted as: the milliseconds for which it has been held.
    fn work(&self, now: Instant) -> u64 {
        let held = now.saturating_duration_since(self.since).as_millis();
        held.try_into().unwrap_or(u64::MAX)
    }

    /// True if it has been held for long.
    pub(super) fn is_long(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= LONG
    }
}

/// The time for which a place may be kept in any case.
pub(super) const LONG: Duration = Duration::from_secs(5);

/// The milliseconds for which the requests of an owner may hold places. An owner that has less than half of it left is
/// busy: one whose requests hold places for more than a hundredth of the time. A page may ask for much when it opens.
const QUIET: Rate = Rate {
    per_second: 10,
    burst: 600,
};
/// The number of owners from which on those that held no place lately are forgotten.
const MANY: usize = 256;

/// The items that wait for a place, and the number of places that each owner has.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// The number of free places.
    free: usize,
    /// The owners with waiting requests. Of those who had as much, the first is next.
    owners: VecDeque<Owner>,
    /// The work of the places that were given back.
    turns: Turns,
    /// The same, as far as it was lately.
    lately: HashMap<Owner, Bucket>,
    waiting: HashMap<Owner, VecDeque<T>>,
    /// The number of places that each owner holds; without the owners that hold none.
    taken: HashMap<Owner, usize>,
    /// The places that are held, in the order in which they were given.
    places: Vec<Place>,
    /// The number of places given so far.
    given: u64,
    /// The number of waiting requests.
    len: usize,
    most: usize,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The multiple of `most` up to which first requests of owners are let in: an owner that asked for little is not
/// refused because others asked for much.
const FIRSTS: usize = 10;

impl<T> Queue<T> {
    /// An empty queue for so many places, in which about `most` requests may wait.
    pub(super) fn new(places: usize, most: usize) -> Queue<T> {
        Queue {
            free: places,
            owners: VecDeque::new(),
            turns: Turns::default(),
            lately: HashMap::new(),
            waiting: HashMap::new(),
            taken: HashMap::new(),
            places: Vec::new(),
            given: 0,
            len: 0,
            most,
        }
    }

    /// Adds a request of an owner, and drops earlier ones of it that are not `wanted` any more.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) fn push(&mut self, owner: Owner, item: T, is_wanted: impl Fn(&T) -> bool) -> Result<(), Full> {
        let waiting = self.waiting.entry(owner).or_default();
        let before = waiting.len();
        waiting.retain(is_wanted);
        self.len -= before - waiting.len();
        let most = if waiting.is_empty() {
            self.most.saturating_mul(FIRSTS)
        } else {
            self.most
        };
        if self.len >= most {
            if waiting.is_empty() {
                self.waiting.remove(&owner);
            }
            return Err(Full);
        }
        waiting.push_back(item);
        self.len += 1;
        if !self.owners.contains(&owner) {
            self.owners.push_back(owner);
        }
        Ok(())
    }

    /// Drops all requests that are not wanted any more.
    pub(super) fn sweep(&mut self, is_wanted: impl Fn(&T) -> bool) {
        for waiting in self.waiting.values_mut() {
            waiting.retain(&is_wanted);
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        self.owners.retain(|owner| self.waiting.contains_key(owner));
        self.len = self.waiting.values().map(VecDeque::len).sum();
    }

    /// The next request that gets a place `now`, and the place, which has to be given back. Requests that are not
    /// wanted any more are dropped.
    pub(super) fn next(&mut self, now: Instant, is_wanted: impl Fn(&T) -> bool) -> Option<(Place, T)> {
        while let Some(owner) = self.next_owner(now) {
            let waiting = self.waiting.entry(owner).or_default();
            let before = waiting.len();
            while waiting.front().is_some_and(|item| !is_wanted(item)) {
                waiting.pop_front();
            }
            self.len -= before - waiting.len();
            let next = waiting.pop_front();
            self.len -= usize::from(next.is_some());
            let has_more = !waiting.is_empty();
            self.owners.retain(|other| *other != owner);
            if has_more {
                self.owners.push_back(owner);
            } else {
                self.waiting.remove(&owner);
            }
            if let Some(item) = next {
                self.free -= 1;
                *self.taken.entry(owner).or_default() += 1;
                self.given += 1;
                let place = Place {
                    owner,
                    number: self.given,
                    since: now,
                    is_of_busy: self.is_busy(owner, now),
                };
                self.places.push(place);
                return Some((place, item));
            }
        }
        None
    }

    /// The owner whose turn it is, of those that may have a place.
    fn next_owner(&mut self, now: Instant) -> Option<Owner> {
        let of_busy = self.places.iter().filter(|place| place.is_of_busy);
        let has_busy_place = of_busy.count() < self.busy_places();
        let may_have = |owner: &&Owner| {
            let needed = if self.taken.contains_key(owner) { 2 } else { 1 };
            self.free >= needed && (has_busy_place || !self.is_busy(**owner, now))
        };
        let had = |owner: &&Owner| {
            let held = self.places.iter().filter(|place| place.owner == **owner);
            held.fold(self.turns.had(**owner), |had, place| {
                had.saturating_add(place.work(now))
            })
        };
        let next = *self.owners.iter().filter(may_have).min_by_key(had)?;
        self.turns.serve(next);
        Some(next)
    }

    /// Takes a place back.
    pub(super) fn give_back(&mut self, place: Place, now: Instant) {
        // However short it was.
        let work = place.work(now).saturating_add(1);
        self.turns.took(place.owner, work);
        if self.lately.len() >= MANY && self.lately.len() == self.lately.capacity() {
            self.lately.retain(|_, lately| !lately.is_full(now));
        }
        let lately = self.lately.entry(place.owner).or_insert(Bucket::full(now));
        lately.drain(work.try_into().unwrap_or(u32::MAX), QUIET, now);
        let before = self.places.len();
        self.places.retain(|known| *known != place);
        self.free += before - self.places.len();
        if let Some(taken) = self.taken.get_mut(&place.owner) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(&place.owner);
            }
        }
    }

    /// True if a place has to be given back early: all places have been held for long, it was taken last, and an owner
    /// without a place waits. The same holds of the places of busy owners, for busy owners that wait. A single place is
    /// never asked back, or no read would come to its end.
    pub(super) fn is_asked_for(&self, place: Place, now: Instant, is_wanted: impl Fn(&T) -> bool) -> bool {
        let is_waited_for = |by_busy: bool| {
            let mut waiting = self.waiting.iter();
            waiting.any(|(owner, waiting)| {
                !self.taken.contains_key(owner)
                    && (!by_busy || self.is_busy(*owner, now))
                    && waiting.iter().any(&is_wanted)
            })
        };
        let is_last_of = |places: &[&Place]| {
            places.len() > 1 && places.last() == Some(&&place) && places.iter().all(|held| held.is_long(now))
        };
        let all: Vec<&Place> = self.places.iter().collect();
        let of_busy: Vec<&Place> = all.iter().filter(|place| place.is_of_busy).copied().collect();
        (self.free == 0 && is_last_of(&all) && is_waited_for(false))
            || (of_busy.len() >= self.busy_places() && is_last_of(&of_busy) && is_waited_for(true))
    }

    /// True if the owner's requests held places for long lately.
    fn is_busy(&self, owner: Owner, now: Instant) -> bool {
        let lately = self.lately.get(&owner);
        lately.is_some_and(|lately| !lately.has(QUIET.burst / 2, QUIET, now))
    }

    /// The number of places that busy owners may have together.
    fn busy_places(&self) -> usize {
        ((self.free + self.places.len()) / 2).max(1)
    }

    /// The number of waiting requests.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives back any place of an owner.
    fn give_back(queue: &mut Queue<&'static str>, owner: Owner) {
        let place = *queue.places.iter().find(|place| place.owner == owner).unwrap();
        queue.give_back(place, place.since);
    }

    fn all(queue: &mut Queue<&'static str>, now: Instant) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.next(now, |_| true).map(|(_, item)| item)).collect()
    }

    #[test]
    fn one_who_asks_for_much_leaves_a_place_and_a_turn_to_others() {
        let mut queue = Queue::new(3, 100);
        let now = Instant::now();
        for item in ["a1", "a2", "a3", "a4", "a5"] {
            queue.push(1, item, |_| true).unwrap();
        }
        // The last place is for an owner that has none.
        assert_eq!(all(&mut queue, now), ["a1", "a2"]);
        for (owner, item) in [(2, "b1"), (2, "b2"), (3, "c1")] {
            queue.push(owner, item, |_| true).unwrap();
        }
        assert_eq!(all(&mut queue, now), ["b1"]);
        // It does not matter whose place is given back.
        give_back(&mut queue, 1);
        assert_eq!(all(&mut queue, now), ["c1"]);
        give_back(&mut queue, 3);
        assert_eq!(all(&mut queue, now), [""; 0]);
        // The other free places go round.
        give_back(&mut queue, 2);
        assert_eq!(all(&mut queue, now), ["a3", "b2"]);
        give_back(&mut queue, 1);
        assert_eq!(all(&mut queue, now), [""; 0]);
        give_back(&mut queue, 1);
        assert_eq!(all(&mut queue, now), ["a4"]);
        give_back(&mut queue, 2);
        assert_eq!(all(&mut queue, now), ["a5"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn with_one_place_they_take_turns() {
        let mut queue = Queue::new(1, 100);
        for (owner, item) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (2, "b2")] {
            queue.push(owner, item, |_| true).unwrap();
        }
        let mut order = Vec::new();
        let now = Instant::now();
        while let Some((place, item)) = queue.next(now, |_| true) {
            order.push(item);
            queue.give_back(place, now);
        }
        assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
    }

    #[test]
    fn an_owner_with_long_queries_gets_as_much_time_as_others_and_no_more() {
        let mut queue = Queue::new(1, 1_000);
        let mut now = Instant::now();
        for _ in 0..30 {
            queue.push(1, 1_000, |_| true).unwrap();
        }
        for _ in 0..300 {
            queue.push(2, 99, |_| true).unwrap();
        }
        let mut time = [0; 3];
        for _ in 0..220 {
            let (place, millis) = queue.next(now, |_| true).unwrap();
            now += Duration::from_millis(millis);
            time[place.owner as usize] += millis;
            queue.give_back(place, now);
        }
        assert!(time[1].abs_diff(time[2]) <= 2_000, "{time:?}");
        // One that comes anew is next, and has no claim to what was before.
        queue.push(3, 1_000, |_| true).unwrap();
        queue.push(3, 1_000, |_| true).unwrap();
        let (place, _) = queue.next(now, |_| true).unwrap();
        assert_eq!(place.owner, 3);
        queue.give_back(place, now + Duration::from_secs(1));
        assert_ne!(queue.next(now, |_| true).unwrap().0.owner, 3);
    }

    #[test]
    fn what_nobody_wants_any_more_neither_waits_nor_counts() {
        let mut queue = Queue::new(1, 3);
        for item in ["a1", "a2", "a3"] {
            queue.push(1, item, |_| true).unwrap();
        }
        assert_eq!(queue.push(1, "a4", |_| true), Err(Full));
        // A client's first request is let in all the same, up to a bound.
        assert_eq!(queue.push(2, "b1", |_| true), Ok(()));
        assert_eq!(queue.push(1, "a4", |item| *item == "a3"), Ok(()));
        assert_eq!(queue.len(), 3);
        let next = queue.next(Instant::now(), |item| *item == "a4");
        assert_eq!(next.map(|(place, item)| (place.owner, item)), Some((1, "a4")));
        for owner in 10.. {
            if queue.push(owner, "x", |_| true).is_err() {
                assert_eq!(queue.len(), 30);
                break;
            }
        }
        assert!(!queue.waiting.contains_key(&1));
        queue.sweep(|item| *item != "x");
        assert_eq!((queue.len(), queue.owners.len()), (1, 1));
        assert_eq!(queue.push(99, "y", |_| true), Ok(()));
    }

    #[test]
    fn owners_that_took_much_lately_have_half_of_the_places_together() {
        let mut queue = Queue::new(4, 100);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for owner in 1..=3 {
            queue.push(owner, "first", |_| true).unwrap();
        }
        while let Some((place, _)) = queue.next(at(0), |_| true) {
            // The third took no more than a page does.
            queue.give_back(place, at(if place.owner == 3 { 299 } else { 301 }));
        }
        for (owner, item) in [(1, "a"), (1, "b"), (2, "a"), (2, "b"), (3, "a")] {
            queue.push(owner, item, |_| true).unwrap();
        }
        let mut given = Vec::new();
        while let Some((place, _)) = queue.next(at(400), |_| true) {
            given.push(place);
        }
        let owners = |given: &[Place]| given.iter().map(|place| place.owner).collect::<Vec<_>>();
        assert_eq!(owners(&given), [3, 1, 2]);
        // The other free place is not for them: a new owner gets it.
        queue.push(4, "a", |_| true).unwrap();
        let (new, _) = queue.next(at(400), |_| true).unwrap();
        assert_eq!(new.owner, 4);
        queue.give_back(new, at(401));
        // Of theirs, the last one is asked back once both are long and a busy owner waits that has none.
        let asked = |queue: &Queue<&'static str>, now| {
            [1, 2].map(|n: usize| queue.is_asked_for(given[n], at(now), |_| true))
        };
        assert_eq!(asked(&queue, 5_400), [false, false], "those who wait have places");
        queue.push(5, "first", |_| true).unwrap();
        let (first, _) = queue.next(at(5_400), |_| true).unwrap();
        queue.give_back(first, at(9_000));
        queue.push(5, "a", |_| true).unwrap();
        assert_eq!(asked(&queue, 9_000), [false, true]);
        // It is busy no more after a while.
        assert_eq!(asked(&queue, 60_000), [false, false]);
    }

    #[test]
    fn of_places_that_are_all_held_for_long_the_last_one_is_asked_for_while_somebody_waits() {
        let mut queue = Queue::new(2, 100);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (owner, item) in [(1, "a1"), (2, "b1")] {
            queue.push(owner, item, |_| true).unwrap();
        }
        let (a, _) = queue.next(at(0), |_| true).unwrap();
        let (b, _) = queue.next(at(3), |_| true).unwrap();
        let asked = |queue: &Queue<&'static str>, now| {
            [a, b].map(|place| queue.is_asked_for(place, at(now), |_| true))
        };
        assert_eq!(asked(&queue, 60), [false, false], "nobody waits");
        queue.push(1, "a2", |_| true).unwrap();
        assert_eq!(asked(&queue, 60), [false, false], "it would not be for this one");
        queue.push(3, "c1", |_| true).unwrap();
        assert_eq!(asked(&queue, 7), [false, false], "one has come just now");
        assert_eq!(asked(&queue, 8), [false, true]);
        assert!(!queue.is_asked_for(b, at(60), |item| *item != "c1"));
        queue.give_back(b, at(60));
        assert_eq!(asked(&queue, 60), [false, false]);
        let (c, item) = queue.next(at(60), |_| true).unwrap();
        assert_eq!((c.owner, item), (3, "c1"));
        // So they take turns, and the first one finishes.
        queue.push(2, "b1", |_| true).unwrap();
        assert!(!queue.is_asked_for(c, at(64), |_| true));
        assert!(queue.is_asked_for(c, at(65), |_| true));
        queue.give_back(a, at(65));
        assert!(!queue.is_asked_for(c, at(65), |_| true));
        // A single place is left to its owner.
        let mut queue = Queue::new(1, 100);
        queue.push(1, "a1", |_| true).unwrap();
        let (a, _) = queue.next(at(0), |_| true).unwrap();
        queue.push(2, "b1", |_| true).unwrap();
        assert!(!queue.is_asked_for(a, at(999), |_| true));
    }
}
