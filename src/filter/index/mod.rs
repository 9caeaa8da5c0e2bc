//! [`Index`]: all predicates on one table, so that a change costs what it matches, and not what it does not.
//!
//! A predicate is a bounded disjunction of conjunctions ([`plan`]); each is filed under one of its conditions: in a hash
//! table over the values of some columns, as an interval in a tree, under null, or else in a list that every change is
//! held against ([`level`]). A change looks up its row, or both versions of it; what that finds is decided by the
//! predicate itself ([`record`]). After Fabret et al., "Filtering Algorithms and Implementation for Very Fast
//! Publish/Subscribe Systems" (SIGMOD 2001), but with conditions below conditions where many predicates share one.
//!
//! Where the row is not known, the index finds whatever may match: [`membership()`](super::membership()) says the same of
//! each predicate alone.

mod equal;
mod intervals;
mod level;
mod plan;
mod record;
mod source;

use self::level::{Filing, Found, Level, Search};
use self::plan::conjunctions;
use self::record::{Records, Version};
use self::source::{Key, Known, Seen, Sources};
use super::matcher::{Matcher, Verdict};
use super::membership::{Membership, Operation, old_row, versions};
use super::row::Row;
use crate::event::{Op, Relation};
use crate::types::Work;

/// What is filed: a conjunction of a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    entry: u32,
    /// Which of its conjunctions.
    part: u32,
}

impl Item {
    fn new(entry: u32, part: u32) -> Item {
        Item { entry, part }
    }
}

/// Predicates on one version of one relation, by numbers that the caller chose; numbers that are used again keep it small.
#[derive(Debug, Default)]
pub struct Index {
    records: Records,
    sources: Sources,
    root: Level,
    /// Counts the changes.
    change: u64,
    found: Vec<Found>,
    old: Vec<Known>,
    new: Vec<Known>,
    /// What [`Index::warm`] looks up, and what it finds.
    keys: Vec<Key>,
    peeked: Vec<u32>,
}

impl Index {
    /// The number of predicates.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether its look-ups mostly wait for memory.
    pub fn is_large(&self) -> bool {
        self.root.large().next().is_some()
    }

    /// Adds a predicate under the number `entry`, in place of what had it.
    pub fn insert(&mut self, entry: u32, matcher: &Matcher) {
        self.remove(entry);
        self.records.insert(entry, matcher.node(), &mut self.sources);
        self.each_part(entry, |level, item, conjunction, filing| match conjunction {
            Some(conjunction) => level.file(item, conjunction, filing),
            None => level.file_unconditional(item),
        });
    }

    /// Removes the predicate of that number, if there is one.
    pub fn remove(&mut self, entry: u32) {
        if !self.records.contains(entry) {
            return;
        }
        self.each_part(entry, |level, item, conjunction, filing| match conjunction {
            Some(conjunction) => drop(level.unfile(item, conjunction, filing)),
            None => level.unfile_unconditional(item),
        });
        self.records.remove(entry);
    }

    /// Does something with each conjunction of a predicate, or with none if it has no conditions.
    fn each_part(
        &mut self,
        entry: u32,
        mut each: impl FnMut(&mut Level, Item, Option<&plan::Conjunction>, &mut Filing<'_>),
    ) {
        let parts = conjunctions(entry, &self.records, &mut self.sources);
        let mut filing = Filing {
            records: &self.records,
            sources: &mut self.sources,
            used: Vec::new(),
        };
        match parts {
            None => each(&mut self.root, Item::new(entry, 0), None, &mut filing),
            Some(parts) => {
                for (part, conjunction) in parts.iter().enumerate() {
                    let item = Item::new(entry, part as u32);
                    each(&mut self.root, item, Some(conjunction), &mut filing);
                }
            }
        }
    }

    /// Hands the numbers of the predicates whose results the change concerns to `each`, once each and in no order, and
    /// what it means for them: the same as [`membership()`](super::membership()) says.
    pub fn matches(&mut self, relation: &Relation, op: &Op<'_>, mut each: impl FnMut(u32, Membership)) {
        self.change += 1;
        self.found.clear();
        let work = &Work::unlimited();
        match *op {
            Op::Insert { new } => {
                self.of_one(Row::new(new), work, Version::New, Operation::Insert, &mut each)
            }
            Op::Delete { old } => {
                let row = old_row(old, relation);
                self.of_one(row, work, Version::Old, Operation::Delete, &mut each);
            }
            Op::Update { old, new } => {
                let (before, after) = versions(relation, old, new);
                self.of_two(before, after, work, &mut each);
            }
            Op::Truncate => {
                let truncate = Membership::of(Operation::Truncate);
                self.records.entries().for_each(|entry| each(entry, truncate));
            }
        }
    }

    /// Brings from memory what some changes to come will look up. That takes about as long for a few as for one, since
    /// a processor waits for many places at a time if none depends on another; where [few](Index::is_large) predicates
    /// are, it is in vain. No answer depends on it.
    pub fn warm(&mut self, ops: &[Op<'_>]) {
        let mut read = 0;
        for table in self.root.large() {
            let rows = ops.iter().filter_map(|op| match *op {
                Op::Insert { new } | Op::Update { new, .. } => Some(Row::new(new)),
                Op::Delete { old } => Some(Row::new(old.tuple())),
                Op::Truncate => None,
            });
            self.keys.clear();
            self.keys
                .extend(rows.filter_map(|row| table.key_of(&row, &self.sources)));
            self.peeked.clear();
            self.peeked
                .extend(self.keys.iter().filter_map(|key| table.peek(*key)));
            for entry in &self.peeked {
                read ^= self.records.size(*entry);
            }
        }
        std::hint::black_box(read);
    }

    fn of_one(
        &mut self,
        row: Row<'_>,
        work: &Work,
        version: Version,
        operation: Operation,
        each: &mut impl FnMut(u32, Membership),
    ) {
        let mut seen = Seen::new(row, work, &self.sources, std::mem::take(&mut self.new));
        self.search(&mut seen, None, true);
        let Index {
            records,
            sources,
            found,
            change,
            ..
        } = self;
        for found in found {
            let is_in = found.matches
                || records.verdict(found.entry, version, &mut seen, sources, *change) != Verdict::DoesNot;
            if is_in {
                each(found.entry, Membership::of(operation));
            }
        }
        self.new = seen.into_space();
    }

    fn of_two(
        &mut self,
        before: Row<'_>,
        after: Row<'_>,
        work: &Work,
        each: &mut impl FnMut(u32, Membership),
    ) {
        let mut old = Seen::new(before, work, &self.sources, std::mem::take(&mut self.old));
        let mut new = Seen::new(after, work, &self.sources, std::mem::take(&mut self.new));
        self.search(&mut new, None, true);
        // Of what may have matched, only what certainly did is told when it does not match any more.
        self.search(&mut old, Some(&mut new), false);
        let Index {
            records,
            sources,
            found,
            change,
            ..
        } = self;
        for found in found {
            let after = if found.matches {
                Verdict::Matches
            } else {
                records.verdict(found.entry, Version::New, &mut new, sources, *change)
            };
            let before = records.verdict(found.entry, Version::Old, &mut old, sources, *change);
            if let Some(membership) = Membership::of_update(before, after) {
                each(found.entry, membership);
            }
        }
        (self.old, self.new) = (old.into_space(), new.into_space());
    }

    /// Finds what a version of a row may concern, besides what one before it did; each once.
    fn search<'r>(&mut self, seen: &mut Seen<'r>, before: Option<&mut Seen<'r>>, possible: bool) {
        let is_first = before.is_none();
        let mut search = Search {
            sources: &self.sources,
            seen,
            before,
            possible,
            found: &mut self.found,
        };
        self.root.search(&mut search, is_first);
        if self.found.len() > 1 {
            self.found.sort_unstable_by_key(|found| found.entry);
            self.found.dedup_by_key(|found| found.entry);
        }
    }
}

#[cfg(test)]
mod tests;
