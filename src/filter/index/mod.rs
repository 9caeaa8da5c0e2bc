//! [`Index`]: all predicates on one table, so that a change costs what it matches, and not what it does not.
//!
//! A predicate is a bounded disjunction of conjunctions ([`plan`]); each is filed under one of its conditions: in a
//! hash table over some values, columns' or computed ones, as an interval in a tree, under null, or else in a list
//! that every change is held against ([`level`]). A change looks up its row, or both versions of it; what that finds
//! is decided by the predicate itself ([`record`]). After Fabret et al., "Filtering Algorithms and Implementation for
//! Very Fast Publish/Subscribe Systems" (SIGMOD 2001), but with conditions below conditions where many predicates
//! share one.
//!
//! The index finds whatever may match where the row is not known: [`membership()`](super::membership()) says the same
//! of each predicate alone. The exception is a row that may have left a result by an update, which under the default
//! replica identity may be any row and any result: only predicates whose owners want to know of that are looked at for
//! it, by a second filing of their own.

mod equal;
mod filed;
mod held;
mod intervals;
mod item;
mod level;
mod plan;
mod record;
mod source;
mod tally;

use std::collections::HashSet;
use std::iter;

pub use self::filed::{Filed, FiledKind, filed};
use self::item::Item;
use self::level::{Filing, Found, Level, Search, Wanted};
use self::plan::conjunctions;
use self::record::{Records, Version};
use self::source::{Key, Known, Seen, Sources};
use self::tally::WorkShares;
pub use self::tally::{Allowance, Failure, Tally};
use super::matcher::{Matcher, Verdict};
use super::membership::{Operation, ResultChange, is_same, old_row, versions};
use super::row::Row;
use crate::event::{OldTuple, Op, Relation, Tuple};
use crate::types::Work;

/// Predicates on one version of one relation, by numbers that the caller chose; numbers that are used again keep it
/// small.
#[derive(Debug, Default)]
pub struct Index {
    records: Records,
    sources: Sources,
    root: Level,
    /// Those whose owners want to know of rows that may have left.
    watched: Level,
    /// Their numbers.
    watching: HashSet<u32>,
    /// Counts the changes.
    change: u64,
    found: Vec<Found>,
    old: Vec<Known>,
    new: Vec<Known>,
    /// Space for what [`Index::warm`] looks up, and for what it finds.
    keys: Vec<Key>,
    peeked: Vec<u32>,
    /// The columns of a predicate.
    columns: Vec<usize>,
    /// The work that may be done for a change.
    allowance: Allowance,
    charges: WorkShares,
    /// The work that the last change took.
    tally: Tally,
}

impl Index {
    /// The number of predicates.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if its look-ups mostly wait for memory.
    pub fn is_large(&self) -> bool {
        self.root.large().next().is_some()
    }

    /// Adds a predicate under the number `entry`, in place of what had it. `watches` says whether its owner wants to
    /// know of rows that may have left the result by an update, where the relation's identity does not tell.
    pub fn insert(&mut self, entry: u32, matcher: &Matcher, watches: bool) {
        self.remove(entry);
        self.records.insert(entry, matcher.node(), &mut self.sources);
        if watches {
            self.watching.insert(entry);
        }
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
        self.records.remove(entry, &mut self.sources);
        self.watching.remove(&entry);
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
        let watched = self.watching.contains(&entry).then_some(&mut self.watched);
        for level in iter::once(&mut self.root).chain(watched) {
            match &parts {
                None => each(level, Item::new(entry, 0), None, &mut filing),
                Some(parts) => {
                    for (part, conjunction) in parts.iter().enumerate() {
                        let item = Item::new(entry, part as u32);
                        each(level, item, Some(conjunction), &mut filing);
                    }
                }
            }
        }
    }

    /// Hands the numbers of the predicates whose results the change concerns to `each`, once each and in no order, and
    /// what it means for them: the same as [`membership()`](super::membership()) says. Of rows that [may have
    /// left](ResultChange::may_have_left) results it tells the entries that want to know, and may tell others.
    pub fn matches(&mut self, relation: &Relation, op: &Op<'_>, mut each: impl FnMut(u32, ResultChange)) {
        self.change += 1;
        self.found.clear();
        self.tally.clear();
        self.charges.allowance = self.allowance;
        let work = &Work::unlimited();
        match *op {
            Op::Insert { new } => self.of_one(Row::new(new), work, Version::New, &mut each),
            Op::Delete { old } => {
                let row = old_row(old, relation);
                self.of_one(row, work, Version::Old, &mut each);
            }
            Op::Update { old, new } => {
                self.of_two(relation, old, new, work, &mut each);
            }
            Op::Truncate => {
                self.records
                    .entries()
                    .for_each(|entry| each(entry, ResultChange::TRUNCATE));
            }
        }
        self.tally.done = work.done();
    }

    /// Bounds the work for each change from now on.
    pub fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// The work that the last change took.
    pub fn tally(&self) -> &Tally {
        &self.tally
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
        each: &mut impl FnMut(u32, ResultChange),
    ) {
        let Index {
            records,
            sources,
            root,
            found,
            new: space,
            change,
            allowance,
            charges,
            tally,
            ..
        } = self;
        let mut seen = Seen::new(row, work, sources, std::mem::take(space));
        let (wanted, operation) = match version {
            Version::New => (Wanted::NEW, Operation::Insert),
            Version::Old => (Wanted::GONE, Operation::Delete),
        };
        let mut finder = Finder { found, work, charges };
        finder.search(root, &mut seen, None, wanted);
        tally.take(charges);
        for found in found {
            let verdict = if found.matches {
                Some(Verdict::Matches)
            } else {
                tally.count(found.entry, *allowance, work, || {
                    Some(records.verdict(found.entry, version, &mut seen, *change))
                })
            };
            let membership = verdict.and_then(|verdict| ResultChange::of_one(operation, verdict));
            if let Some(membership) = membership {
                each(found.entry, membership);
            }
        }
        *space = seen.into_space();
    }

    fn of_two(
        &mut self,
        relation: &Relation,
        old_tuple: Option<OldTuple<'_>>,
        new_tuple: Tuple<'_>,
        work: &Work,
        each: &mut impl FnMut(u32, ResultChange),
    ) {
        let Index {
            records,
            sources,
            root,
            watched,
            found,
            old: old_space,
            new: new_space,
            change,
            columns,
            allowance,
            charges,
            tally,
            ..
        } = self;
        let (before, after) = versions(relation, old_tuple, new_tuple);
        let mut old = Seen::new(before, work, sources, std::mem::take(old_space));
        let mut new = Seen::new(after, work, sources, std::mem::take(new_space));
        let mut finder = Finder { found, work, charges };
        finder.search(root, &mut new, None, Wanted::NEW);
        finder.search(root, &mut old, Some(&mut new), Wanted::CERTAIN);
        if old.lacks_identity(relation) {
            // What the identity should tell was not logged: a row too large, or of a partition with another identity.
            finder.search(root, &mut old, None, Wanted::POSSIBLE);
        } else if !watched.is_empty() {
            finder.search(watched, &mut old, None, Wanted::POSSIBLE);
        }
        tally.take(charges);
        for found in found {
            let membership = tally.count(found.entry, *allowance, work, || {
                let after = if found.matches {
                    Verdict::Matches
                } else {
                    records.verdict(found.entry, Version::New, &mut new, *change)
                };
                let before = records.verdict(found.entry, Version::Old, &mut old, *change);
                let is_same = || {
                    columns.clear();
                    records.columns(found.entry, sources, columns);
                    let mut columns = columns.iter();
                    columns.all(|&column| is_same(relation, old_tuple, new_tuple, column))
                };
                ResultChange::of_update(before, after, is_same)
            });
            if let Some(membership) = membership {
                each(found.entry, membership);
            }
        }
        *old_space = old.into_space();
        *new_space = new.into_space();
    }
}

/// Finds what a change may concern.
struct Finder<'f, 'r> {
    found: &'f mut Vec<Found>,
    work: &'r Work,
    charges: &'f mut WorkShares,
}

impl<'r> Finder<'_, 'r> {
    /// Finds what a version of a row may concern, besides what one before it did; each once.
    fn search(&mut self, level: &Level, seen: &mut Seen<'r>, before: Option<&mut Seen<'r>>, wanted: Wanted) {
        let is_first = before.is_none();
        let mut search = Search {
            seen,
            before,
            wanted,
            found: self.found,
            work: self.work,
            charges: self.charges,
        };
        level.search(&mut search, is_first);
        if self.found.len() > 1 {
            self.found.sort_unstable_by_key(|found| found.entry);
            self.found.dedup_by_key(|found| found.entry);
        }
    }
}

#[cfg(test)]
mod tests;
