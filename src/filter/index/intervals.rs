//! [`Intervals`]: closed intervals of places, and which of them a place lies in.
//!
//! A B+ tree in the order of the lower ends, each child with the highest upper end below it: a search leaves out what
//! ends before the place or begins after it, and so visits only nodes that hold a hit, and the border to what begins
//! later. Nodes that removals leave thin are not joined; empty ones go.

use super::item::Item;

/// The number of entries that a node has at most.
const FULL: usize = 64;

/// From `low` to `high`, both included. One whose ends are the wrong way round holds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interval {
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) item: Item,
}

/// A set of intervals.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    root: Node,
    len: usize,
}

#[derive(Debug)]
enum Node {
    /// Sorted.
    Leaf(Vec<Interval>),
    /// Sorted; never empty.
    Inner(Vec<Child>),
}

#[derive(Debug)]
struct Child {
    /// No interval below is less.
    first: Interval,
    /// The highest upper end below.
    high: u64,
    node: Node,
}

impl Intervals {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds an interval, unless it is there.
    pub(super) fn insert(&mut self, interval: Interval) {
        let (added, right) = self.root.insert(interval);
        self.len += usize::from(added);
        if let Some(right) = right {
            let left = std::mem::take(&mut self.root).into_child();
            self.root = Node::Inner(left.into_iter().chain([right]).collect());
        }
    }

    /// Removes an interval. Whether it was there.
    pub(super) fn remove(&mut self, interval: &Interval) -> bool {
        let removed = self.root.remove(interval);
        self.len -= usize::from(removed);
        while let Node::Inner(children) = &mut self.root
            && children.len() <= 1
        {
            self.root = children.pop().map(|child| child.node).unwrap_or_default();
        }
        removed
    }

    /// Hands each interval that the place lies in to `each`.
    pub(super) fn stab(&self, place: u64, each: &mut impl FnMut(Item)) {
        self.root.stab(place, each);
    }

    /// Hands each interval to `each`.
    pub(super) fn all(&self, each: &mut impl FnMut(Item)) {
        self.root.all(each);
    }
}

impl Default for Node {
    fn default() -> Node {
        Node::Leaf(Vec::new())
    }
}

impl Node {
    /// The node as a child; `None` if it is empty.
    fn into_child(self) -> Option<Child> {
        let first = match &self {
            Node::Leaf(intervals) => *intervals.first()?,
            Node::Inner(children) => children.first()?.first,
        };
        let high = self.high();
        let node = self;
        Some(Child { first, high, node })
    }

    fn high(&self) -> u64 {
        let high = match self {
            Node::Leaf(intervals) => intervals.iter().map(|interval| interval.high).max(),
            Node::Inner(children) => children.iter().map(|child| child.high).max(),
        };
        high.unwrap_or_default()
    }

    /// Adds an interval: whether it is new, and the right half of the node if it had to be split.
    fn insert(&mut self, interval: Interval) -> (bool, Option<Child>) {
        match self {
            Node::Leaf(intervals) => {
                let Err(at) = intervals.binary_search(&interval) else {
                    return (false, None);
                };
                if intervals.len() == intervals.capacity() {
                    let room = (FULL + 1).saturating_sub(intervals.len());
                    intervals.reserve_exact(intervals.len().max(4).min(room).max(1));
                }
                intervals.insert(at, interval);
                let right = (intervals.len() > FULL).then(|| Node::Leaf(halve(intervals, at)));
                (true, right.and_then(Node::into_child))
            }
            Node::Inner(children) => {
                let at = place_of(children, &interval);
                let Some(child) = children.get_mut(at) else {
                    return (false, None);
                };
                let (added, right) = child.node.insert(interval);
                child.first = child.first.min(interval);
                child.high = if right.is_some() {
                    child.node.high()
                } else {
                    child.high.max(interval.high)
                };
                if let Some(right) = right {
                    children.insert(at + 1, right);
                }
                let right = (children.len() > FULL).then(|| Node::Inner(halve(children, at + 1)));
                (added, right.and_then(Node::into_child))
            }
        }
    }

    fn remove(&mut self, interval: &Interval) -> bool {
        match self {
            Node::Leaf(intervals) => {
                let Ok(at) = intervals.binary_search(interval) else {
                    return false;
                };
                intervals.remove(at);
                true
            }
            Node::Inner(children) => {
                let at = place_of(children, interval);
                let Some(child) = children.get_mut(at) else {
                    return false;
                };
                if !child.node.remove(interval) {
                    return false;
                }
                if child.node.is_empty() {
                    children.remove(at);
                } else if child.high == interval.high {
                    child.high = child.node.high();
                }
                true
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(intervals) => intervals.is_empty(),
            Node::Inner(children) => children.is_empty(),
        }
    }

    fn stab(&self, place: u64, each: &mut impl FnMut(Item)) {
        match self {
            Node::Leaf(intervals) => {
                let begun = intervals.iter().take_while(|interval| interval.low <= place);
                begun
                    .filter(|interval| interval.high >= place)
                    .for_each(|interval| each(interval.item));
            }
            Node::Inner(children) => {
                let begun = children.iter().take_while(|child| child.first.low <= place);
                begun
                    .filter(|child| child.high >= place)
                    .for_each(|child| child.node.stab(place, each));
            }
        }
    }

    fn all(&self, each: &mut impl FnMut(Item)) {
        match self {
            Node::Leaf(intervals) => intervals.iter().for_each(|interval| each(interval.item)),
            Node::Inner(children) => children.iter().for_each(|child| child.node.all(each)),
        }
    }
}

/// The child that holds an interval, if any does.
fn place_of(children: &[Child], interval: &Interval) -> usize {
    let after = children.partition_point(|child| child.first <= *interval);
    after.saturating_sub(1)
}

/// Splits off the right half of what has become too long; only the last entry if that was just added, so that entries
/// that come in order leave full nodes.
fn halve<T>(entries: &mut Vec<T>, added: usize) -> Vec<T> {
    let at = if added + 1 >= entries.len() {
        entries.len() - 1
    } else {
        entries.len() / 2
    };
    let mut right = Vec::with_capacity(if size_of::<T>() > size_of::<Interval>() {
        entries.len() - at
    } else {
        (FULL + 1).min((entries.len() - at) * 2)
    });
    right.extend(entries.drain(at..));
    right
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Interval),
        Remove(usize),
        RemoveMost,
        Stab(u64),
    }

    fn interval() -> impl Strategy<Value = Interval> {
        let end = || prop_oneof![4 => 0..200_u64, 1 => Just(0), 1 => Just(u64::MAX)];
        (end(), end(), 0..1000_u32).prop_map(|(low, high, entry)| Interval {
            low,
            high,
            item: Item::new(entry, 0),
        })
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            600 => interval().prop_map(Step::Insert),
            // In order, as identifiers and times are.
            200 => (0..10_000_u64).prop_map(|low| Step::Insert(Interval { low, high: low + 3, item: Item::new(1, 0) })),
            200 => any::<usize>().prop_map(Step::Remove),
            1 => Just(Step::RemoveMost),
            100 => (0..210_u64).prop_map(Step::Stab),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn a_place_finds_the_intervals_that_it_lies_in(steps in prop::collection::vec(step(), 1..3000)) {
            let mut intervals = Intervals::default(); let mut plain = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Insert(interval) => {
                        intervals.insert(interval);
                        plain.insert(interval);
                    }
                    Step::Remove(which) if !plain.is_empty() => {
                        let interval = *plain.iter().nth(which % plain.len()).unwrap();
                        prop_assert!(intervals.remove(&interval));
                        prop_assert!(!intervals.remove(&interval));
                        plain.remove(&interval);
                    }
                    Step::RemoveMost => {
                        while plain.len() > 3 {
                            let interval = plain.pop_last().unwrap();
                            prop_assert!(intervals.remove(&interval));
                        }
                    }
                    Step::Remove(_) => {}
                    Step::Stab(place) => {
                        let mut found = Vec::new(); let mut expected = Vec::new();
                        intervals.stab(place, &mut |item| found.push(item));
                        expected.extend(plain.iter().filter(|i| i.low <= place && place <= i.high).map(|i| i.item));
                        found.sort_unstable();
                        expected.sort_unstable();
                        prop_assert_eq!(found, expected);
                    }
                }
                prop_assert_eq!(intervals.is_empty(), plain.is_empty());
            }
            let mut all = Vec::new();
            intervals.all(&mut |item| all.push(item));
            prop_assert_eq!(all, plain.iter().map(|interval| interval.item).collect::<Vec<_>>());
        }
    }
}
