//! [`Records`]: the predicates, as compactly as they are needed to verify what the index finds.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use slab::Slab;

use super::held::held;
use super::source::{Known, Seen, SourceId, Sources};
use crate::filter::eval::{eval_condition, holds};
use crate::filter::leaf;
use crate::filter::matcher::{Comparison, Node, Verdict};
use crate::filter::truth::{Possible, Truth};
use crate::types::{Abbreviated, Datum};

/// A condition of a conjunction, in 12 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    /// Against a value that its place tells.
    Compare {
        comparison: Comparison,
        /// Only what is certainly true counts: [`Node::Certain`].
        is_certain: bool,
        source: SourceId,
        place: Place,
    },
    /// Against the value of this number.
    Value {
        comparison: Comparison,
        is_certain: bool,
        source: SourceId,
        value: u32,
    },
    /// The expression of this number.
    Shared(u32),
}

impl Test {
    /// True if only what is certainly true counts. (An expression says so itself.)
    fn is_certain(&self) -> bool {
        match self {
            Test::Compare { is_certain, .. } | Test::Value { is_certain, .. } => *is_certain,
            Test::Shared(_) => false,
        }
    }
}

/// The place of an exact value, in two halves, so that a test needs no padding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place([u32; 2]);

impl Place {
    fn new(place: u64) -> Place {
        Place([(place >> 32) as u32, place as u32])
    }

    pub(super) fn get(self) -> u64 {
        let Place([high, low]) = self;
        u64::from(high) << 32 | u64::from(low)
    }
}

/// The number of tests that a record holds itself.
const FEW: usize = 3;

/// A predicate: the conjunction of its tests.
#[derive(Clone, Copy, Debug)]
enum Record {
    /// The number of no predicate.
    Free,
    Few(u8, [Test; FEW]),
    /// The tests of this number.
    Many(u32),
}

/// An expression that predicates have in common. It is evaluated once per row.
#[derive(Debug)]
struct Shared {
    node: Node,
    uses: u32,
    /// The values that it computes and could be filed by are held among the sources.
    is_held: bool,
    /// Its last values for an old row and a new one, and the changes that these were of.
    found: [(u64, Possible); 2],
}

/// The predicates by their numbers, and what they are made of.
#[derive(Debug, Default)]
pub(super) struct Records {
    records: Vec<Record>,
    long: Slab<Box<[Test]>>,
    values: Slab<Datum<'static>>,
    shared: Slab<Shared>,
    by_node: HashTable<u32>,
    hasher: RandomState,
    len: usize,
}

/// A version of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Old,
    New,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The numbers of the predicates.
    pub(super) fn entries(&self) -> impl Iterator<Item = u32> {
        let entries = self.records.iter().enumerate();
        entries
            .filter(|(_, record)| !matches!(record, Record::Free))
            .map(|(entry, _)| entry as u32)
    }

    /// Keeps a predicate under a number that none has.
    pub(super) fn insert(&mut self, entry: u32, node: &Node, sources: &mut Sources) {
        let nodes = match node {
            Node::Constant(Truth::True) => &[],
            Node::And(nodes) => &**nodes,
            node => std::slice::from_ref(node),
        };
        let tests: Vec<Test> = nodes.iter().map(|node| self.test(node, sources)).collect();
        let mut few = [Test::Shared(u32::MAX); FEW];
        let record = if tests.len() <= FEW {
            for (to, from) in few.iter_mut().zip(&tests) {
                *to = *from;
            }
            Record::Few(tests.len() as u8, few)
        } else {
            Record::Many(self.long.insert(tests.into()) as u32)
        };
        let index = entry as usize;
        if self.records.len() <= index {
            self.records.resize(index + 1, Record::Free);
        }
        if let Some(place) = self.records.get_mut(index) {
            *place = record;
            self.len += 1;
        }
    }

    fn test(&mut self, node: &Node, sources: &mut Sources) -> Test {
        let (inner, is_certain) = match node {
            Node::Certain { node, negated: false } => (&**node, true),
            node => (node, false),
        };
        let comparison = match inner {
            Node::Compare {
                left,
                comparison,
                right,
            } => Some((*comparison, sources.id(*left), right)),
            Node::Leaf(leaf) => match &leaf.test {
                leaf::Test::Compare { comparison, right } => {
                    let comparison = if leaf.negated {
                        comparison.negated()
                    } else {
                        *comparison
                    };
                    let source = sources.hold(&leaf.left, matches!(right, Datum::Bool(_)));
                    source.map(|source| (comparison, source, right))
                }
                _ => None,
            },
            _ => None,
        };
        if let Some((comparison, source, right)) = comparison {
            let Abbreviated { place, exact } = right.abbreviated();
            return if exact {
                let place = Place::new(place);
                Test::Compare {
                    comparison,
                    is_certain,
                    source,
                    place,
                }
            } else {
                let value = self.values.insert(right.clone()) as u32;
                Test::Value {
                    comparison,
                    is_certain,
                    source,
                    value,
                }
            };
        }
        let hash = self.hasher.hash_one(node);
        let is_same = |index: &u32| {
            self.shared
                .get(*index as usize)
                .is_some_and(|held| held.node == *node)
        };
        if let Some(&shared) = self.by_node.find(hash, is_same) {
            if let Some(held) = self.shared.get_mut(shared as usize) {
                held.uses += 1;
            }
            return Test::Shared(shared);
        }
        sources.parts.add_node(node);
        let shared = self.shared.insert(Shared {
            node: node.clone(),
            uses: 1,
            is_held: hold(node, sources),
            found: [(0, Possible::ANY); 2],
        }) as u32;
        let Records {
            shared: held,
            by_node,
            hasher,
            ..
        } = self;
        let hash_of = |index: &u32| {
            held.get(*index as usize)
                .map_or(0, |held| hasher.hash_one(&held.node))
        };
        by_node.insert_unique(hash, shared, hash_of);
        Test::Shared(shared)
    }

    /// Forgets a predicate.
    pub(super) fn remove(&mut self, entry: u32, sources: &mut Sources) {
        let Some(place) = self.records.get_mut(entry as usize) else {
            return;
        };
        let record = std::mem::replace(place, Record::Free);
        self.len -= usize::from(!matches!(record, Record::Free));
        match record {
            Record::Free => {}
            Record::Few(len, tests) => {
                let tests = tests.iter().take(len.into());
                tests.for_each(|test| self.forget(*test, sources));
            }
            Record::Many(long) => {
                let tests = self.long.try_remove(long as usize).unwrap_or_default();
                tests.iter().for_each(|test| self.forget(*test, sources));
            }
        }
    }

    fn forget(&mut self, test: Test, sources: &mut Sources) {
        match test {
            Test::Compare { source, .. } => sources.release(source),
            Test::Value { source, value, .. } => {
                sources.release(source);
                self.values.try_remove(value as usize);
            }
            Test::Shared(shared) => {
                let Some(held) = self.shared.get_mut(shared as usize) else {
                    return;
                };
                held.uses -= 1;
                if held.uses > 0 {
                    return;
                }
                let hash = self.hasher.hash_one(&held.node);
                if let Ok(found) = self.by_node.find_entry(hash, |index| *index == shared) {
                    found.remove();
                }
                if let Some(gone) = self.shared.try_remove(shared as usize) {
                    sources.parts.remove_node(&gone.node);
                    if gone.is_held {
                        release(&gone.node, sources);
                    }
                }
            }
        }
    }

    /// The number of tests that a predicate has: enough of it to have it brought from memory.
    pub(super) fn size(&self, entry: u32) -> u32 {
        match self.records.get(entry as usize) {
            Some(Record::Few(len, _)) => (*len).into(),
            Some(Record::Many(long)) => *long,
            Some(Record::Free) | None => 0,
        }
    }

    pub(super) fn contains(&self, entry: u32) -> bool {
        let record = self.records.get(entry as usize);
        record.is_some_and(|record| !matches!(record, Record::Free))
    }

    /// True if every trace of what was removed is gone.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.len == 0
            && self.long.is_empty()
            && self.values.is_empty()
            && self.shared.is_empty()
            && self.by_node.is_empty()
    }

    /// The tests of a predicate.
    pub(super) fn tests(&self, entry: u32) -> &[Test] {
        match self.records.get(entry as usize) {
            Some(Record::Few(len, tests)) => tests.get(..usize::from(*len)).unwrap_or_default(),
            Some(Record::Many(long)) => self.long.get(*long as usize).map_or(&[], |tests| tests),
            Some(Record::Free) | None => &[],
        }
    }

    /// The columns that a predicate reads; some may come twice.
    pub(super) fn columns(&self, entry: u32, sources: &Sources, out: &mut Vec<usize>) {
        let mut nulls = Vec::new();
        for test in self.tests(entry) {
            match *test {
                Test::Compare { source, .. } | Test::Value { source, .. } => sources.columns(source, out),
                Test::Shared(shared) => {
                    if let Some(node) = self.shared(shared) {
                        node.columns(&mut nulls, out);
                    }
                }
            }
        }
        out.append(&mut nulls);
    }

    pub(super) fn value(&self, value: u32) -> Option<&Datum<'static>> {
        self.values.get(value as usize)
    }

    pub(super) fn shared(&self, shared: u32) -> Option<&Node> {
        Some(&self.shared.get(shared as usize)?.node)
    }

    /// Tells whether the values that a shared expression computes and could be filed by are held among the sources.
    pub(super) fn is_held(&self, shared: u32) -> bool {
        self.shared
            .get(shared as usize)
            .is_some_and(|shared| shared.is_held)
    }

    /// True if a row is in the predicate's result, as [`Matcher::eval`](crate::filter::Matcher::eval) says it. `change`
    /// numbers the change that the row is of.
    pub(super) fn verdict(
        &mut self,
        entry: u32,
        version: Version,
        seen: &mut Seen<'_>,
        change: u64,
    ) -> Verdict {
        let mut result = Possible::TRUE;
        let Records {
            records,
            long,
            values,
            shared,
            ..
        } = self;
        let tests = match records.get(entry as usize) {
            Some(Record::Few(len, tests)) => tests.get(..usize::from(*len)).unwrap_or_default(),
            Some(Record::Many(tests)) => long.get(*tests as usize).map_or(&[][..], |tests| tests),
            Some(Record::Free) | None => return Verdict::DoesNot,
        };
        for test in tests {
            let possible = match *test {
                Test::Compare {
                    comparison,
                    source,
                    place,
                    ..
                } => compare(comparison, seen.known(source), |known| {
                    known.place.cmp(&place.get())
                }),
                Test::Value {
                    comparison,
                    source,
                    value,
                    ..
                } => value_test(comparison, source, values.get(value as usize), seen),
                Test::Shared(index) => match shared.get_mut(index as usize) {
                    Some(shared) => shared.find(version, seen, change),
                    None => Possible::ANY,
                },
            };
            let possible = if test.is_certain() {
                possible.certain()
            } else {
                possible.null_is_false()
            };
            result = result.and(possible);
            if result == Possible::FALSE {
                return Verdict::DoesNot;
            }
        }
        Verdict::of(result)
    }
}

/// Holds what an expression computes and could be filed by among the sources; whether there was room for all of it.
fn hold(node: &Node, sources: &mut Sources) -> bool {
    let mut ids = Vec::new();
    let mut has_room = true;
    held(node, &mut |scalar, is_bool| match sources.hold(scalar, is_bool) {
        Some(id) => ids.push(id),
        None => has_room = false,
    });
    if !has_room {
        ids.into_iter().for_each(|id| sources.release(id));
    }
    has_room
}

/// Releases it.
fn release(node: &Node, sources: &mut Sources) {
    held(node, &mut |scalar, _| {
        if let Some(id) = sources.find(scalar) {
            sources.release(id);
        }
    });
}

impl Shared {
    fn find(&mut self, version: Version, seen: &Seen<'_>, change: u64) -> Possible {
        let [old, new] = &mut self.found;
        let found = if version == Version::Old { old } else { new };
        if found.0 != change {
            let possible = eval_condition(&self.node, &seen.row);
            // What was not looked at to the end is not known to others that have it.
            if seen.row.work().is_exhausted() {
                return match self.node {
                    Node::Certain { .. } => Possible::FALSE,
                    _ => Possible::ANY,
                };
            }
            *found = (change, possible);
        }
        found.1
    }
}

fn value_test(
    comparison: Comparison,
    source: SourceId,
    value: Option<&Datum<'static>>,
    seen: &mut Seen<'_>,
) -> Possible {
    let known = seen.known(source);
    let Some(value) = value else {
        return Possible::ANY;
    };
    let place = value.abbreviated().place;
    compare(comparison, known, |known| {
        known.place.cmp(&place).then_with(|| seen.order(source, value))
    })
}

/// The outcome of comparing a source's value with one that is not null.
#[inline]
fn compare(
    comparison: Comparison,
    known: Known,
    order: impl FnOnce(Abbreviated) -> std::cmp::Ordering,
) -> Possible {
    match (known, comparison) {
        (Known::Value(value), _) => Truth::from(holds(comparison, order(value))).into(),
        (Known::Fails, _) => Possible::FAILS,
        (Known::Unclear, _) => Possible::UNCLEAR,
        (Known::Null, Comparison::Distinct) => Possible::TRUE,
        (Known::Null, Comparison::NotDistinct) => Possible::FALSE,
        (Known::Null, _) => Possible::NULL,
        (Known::Absent, Comparison::Distinct | Comparison::NotDistinct) => Possible::KNOWN,
        (Known::Absent | Known::Unread | Known::Exhausted, _) => Possible::ANY,
        (Known::Unknown, _) => Possible::KNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_up_to_three_tests_takes_forty_bytes() {
        assert_eq!((size_of::<Test>(), size_of::<Record>()), (12, 40));
    }
}
