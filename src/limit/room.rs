//! [`Room`]: the memory that all connections share for their predicates. Where it is full, the one who takes the most
//! gives way to those who take little.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use super::Limit;

/// An owner gives way to one that would take this fraction of what it takes itself.
const TIMES: usize = 2;

/// The memory that all connections share.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// By the numbers of the places. Only those that take something.
    places: HashMap<u64, Held>,
    total: usize,
    /// The number of places so far.
    came: u64,
}

#[derive(Debug)]
struct Held {
    owner: u64,
    bytes: usize,
    gives_way: Arc<GivesWay>,
}

/// A connection's place in the room.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    number: u64,
    owner: u64,
    gives_way: Arc<GivesWay>,
}

/// Tells a connection that it has to end, since what it takes is needed for others.
#[derive(Debug, Default)]
struct GivesWay {
    is_due: AtomicBool,
    waker: AtomicWaker,
}

impl Room {
    pub(super) fn new(most: usize) -> Arc<Room> {
        Arc::new(Room {
            most,
            taken: Mutex::default(),
        })
    }

    /// A place that takes nothing yet. An owner may have many.
    pub(super) fn place(self: &Arc<Room>, owner: u64) -> Place {
        let mut taken = self.taken.lock();
        taken.came += 1;
        Place {
            room: Arc::clone(self),
            number: taken.came,
            owner,
            gives_way: Arc::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn total(&self) -> usize {
        self.taken.lock().total
    }
}

impl Place {
    /// Takes so many bytes in place of what it took before. If there is no room for more, the largest places of owners
    /// that take much more than this one's are told to give way.
    ///
    /// # Errors
    /// There is no room, and nobody who would have to give way.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Limit> {
        let mut taken = self.room.taken.lock();
        let before = taken.places.get(&self.number).map_or(0, |held| held.bytes);
        if bytes > before {
            taken.make_room(self.owner, bytes - before, self.room.most)?;
        }
        taken.total = taken.total - before + bytes;
        if bytes == 0 {
            taken.places.remove(&self.number);
        } else {
            let held = taken.places.entry(self.number).or_insert_with(|| Held {
                owner: self.owner,
                bytes,
                gives_way: Arc::clone(&self.gives_way),
            });
            held.bytes = bytes;
        }
        Ok(())
    }

    /// Waits until it has to give way.
    pub(super) fn poll_gives_way(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.gives_way.waker.register(cx.waker());
        if self.gives_way.is_due.load(Ordering::Acquire) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nothing is never refused.
        let _nothing = self.take(0);
    }
}

impl Taken {
    /// Has the largest places give way until there is room for `more` of an owner's.
    fn make_room(&mut self, owner: u64, more: usize, most: usize) -> Result<(), Limit> {
        let is_due = |held: &Held| held.gives_way.is_due.load(Ordering::Acquire);
        if self.total.saturating_add(more) <= most {
            return Ok(());
        }
        // What gives way is as good as gone.
        let mut stays: usize = self
            .places
            .values()
            .filter(|held| !is_due(held))
            .map(|held| held.bytes)
            .sum();
        let mut chosen = Vec::new();
        let mut of_owners: HashMap<u64, usize> = HashMap::new();
        for held in self.places.values().filter(|held| !is_due(held)) {
            *of_owners.entry(held.owner).or_default() += held.bytes;
        }
        let own = of_owners.remove(&owner).unwrap_or_default().saturating_add(more);
        while stays.saturating_add(more) > most {
            let largest = of_owners.iter().max_by_key(|(_, bytes)| **bytes);
            let (&largest, _) = largest
                .filter(|(_, bytes)| **bytes / TIMES >= own)
                .ok_or(Limit::TotalPredicateBytes)?;
            let of_largest = self
                .places
                .iter()
                .filter(|(number, held)| held.owner == largest && !is_due(held) && !chosen.contains(*number));
            let Some((&number, held)) = of_largest.max_by_key(|(_, held)| held.bytes) else {
                return Err(Limit::TotalPredicateBytes);
            };
            stays -= held.bytes;
            if let Some(bytes) = of_owners.get_mut(&largest) {
                *bytes -= held.bytes;
            }
            chosen.push(number);
        }
        for held in chosen.iter().filter_map(|number| self.places.get(number)) {
            held.gives_way.is_due.store(true, Ordering::Release);
            held.gives_way.waker.wake();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn gives_way(place: &Place) -> bool {
        place
            .poll_gives_way(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn the_largest_place_of_who_takes_the_most_gives_way_to_those_who_take_little() {
        let room = Room::new(1_000);
        let greedy = [room.place(1), room.place(1), room.place(1)];
        for (place, bytes) in greedy.iter().zip([200, 400, 300]) {
            place.take(bytes).unwrap();
        }
        let modest = room.place(2);
        assert_eq!(modest.take(100), Ok(()));
        assert_eq!(greedy[0].take(201), Err(Limit::TotalPredicateBytes));
        assert_eq!(modest.take(350), Ok(()));
        assert_eq!(greedy.each_ref().map(gives_way), [false, true, false]);
        // Until it has, it counts as gone, and its room is given away once.
        assert_eq!(room.total(), 1_250);
        assert_eq!(modest.take(400), Ok(()));
        let [first, second, third] = greedy;
        drop(second);
        assert_eq!(room.total(), 900);
        // Nobody takes twice as much as it would.
        let other = room.place(3);
        assert_eq!(other.take(300), Err(Limit::TotalPredicateBytes));
        assert_eq!(other.take(200), Ok(()));
        assert!(gives_way(&third) && !gives_way(&first) && !gives_way(&modest));
        drop((first, third, modest, other));
        assert_eq!(room.total(), 0);
        assert!(room.taken.lock().places.is_empty());
    }
}
