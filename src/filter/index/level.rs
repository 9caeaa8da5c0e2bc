//! [`Level`]: predicates by the conditions that they are filed under.
//!
//! Entries with the same value under an equality lie in one [`Posting`]; where many do, the posting becomes a
//! level of its own, by their other conditions.

use std::collections::BTreeSet;

use super::equal::Equalities;
use super::intervals::{Interval, Intervals};
use super::item::Item;
use super::plan::{Access, Conjunction, conjunctions};
use super::record::Records;
use super::source::{Known, Seen, SourceId, Sources};
use super::tally::WorkShares;
use crate::types::{Abbreviated, Work};

/// The number of sets of columns that a level tells apart at most, apart from single ones: each costs a look-up per
/// row.
const MAX_SETS: usize = 16;

/// Items by their conditions.
#[derive(Debug, Default)]
pub(super) struct Level {
    equal: Vec<Equalities>,
    ranges: Vec<(SourceId, Intervals)>,
    nulls: Vec<(SourceId, Posting)>,
    /// Those without such a condition.
    scan: BTreeSet<Item>,
}

/// Items that have a value in common.
#[derive(Debug)]
pub(super) enum Posting {
    Few(Vec<Item>),
    Many(Box<Level>),
}

/// The number of items that a posting holds in a list.
const FEW: usize = 32;

/// The context of filing.
#[derive(Debug)]
pub(super) struct Filing<'f> {
    pub(super) records: &'f Records,
    pub(super) sources: &'f mut Sources,
    /// The sources that the levels above are by.
    pub(super) used: Vec<SourceId>,
}

/// A search for what a row may concern.
#[derive(Debug)]
pub(super) struct Search<'s, 'r> {
    pub(super) seen: &'s mut Seen<'r>,
    /// Another version of the row that was searched for before.
    pub(super) before: Option<&'s mut Seen<'r>>,
    pub(super) wanted: Wanted,
    pub(super) found: &'s mut Vec<Found>,
    pub(super) work: &'r Work,
    /// The work of the search, by whom it is done for.
    pub(super) charges: &'s mut WorkShares,
}

/// The matches that are wanted of a version of a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Not only what certainly matches, as far as the index can tell.
    possible: bool,
    /// Also those that fail.
    failing: bool,
    /// It is the version by which the row is in a result or not, after an update the new one.
    is_last: bool,
}

impl Wanted {
    /// Of a row that is there now.
    pub(super) const NEW: Wanted = Wanted {
        possible: true,
        failing: true,
        is_last: true,
    };
    /// Of a row that is gone: one for which a predicate fails was in no result.
    pub(super) const GONE: Wanted = Wanted {
        possible: true,
        failing: false,
        is_last: true,
    };
    /// Of the version before an update, where the log leaves open what it was.
    pub(super) const POSSIBLE: Wanted = Wanted {
        possible: true,
        failing: false,
        is_last: false,
    };
    /// Of the version before an update.
    pub(super) const CERTAIN: Wanted = Wanted {
        possible: false,
        failing: false,
        is_last: false,
    };
}

/// The items that a value of a row leads to, of those that are filed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidates {
    Value(Abbreviated),
    Null,
    /// None of them is wanted.
    Nothing,
    /// Any of them may be.
    Everything,
}

/// A predicate that a row may concern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) entry: u32,
    /// The row certainly matches. (Not said of an old row beside a new one.)
    pub(super) matches: bool,
}

impl Search<'_, '_> {
    pub(super) fn find(&mut self, item: Item) {
        self.found.push(Found {
            entry: item.entry,
            matches: false,
        });
    }

    /// A certain match is one of the row.
    pub(super) fn is_last(&self) -> bool {
        self.wanted.is_last
    }

    /// A source's value, as far as it is known and takes no more work than there may be.
    fn known(&mut self, source: SourceId) -> Known {
        if !self.seen.is_read(source) {
            self.charges.allow(self.work);
        }
        self.seen.known(source)
    }

    /// The items that a source's value leads to, of those that are filed by it.
    pub(super) fn under(&mut self, source: SourceId) -> Candidates {
        match self.known(source) {
            Known::Value(value) => Candidates::Value(value),
            Known::Null => Candidates::Null,
            known => self.without_value(known),
        }
    }

    fn without_value(&self, known: Known) -> Candidates {
        let is_wanted = match known {
            Known::Fails => self.wanted.failing,
            // Each finds out for itself what becomes of it.
            Known::Unclear | Known::Exhausted => true,
            _ => self.wanted.possible,
        };
        if is_wanted {
            Candidates::Everything
        } else {
            Candidates::Nothing
        }
    }

    /// The same of items that are filed under null.
    fn under_null(&mut self, source: SourceId) -> Candidates {
        match self.known(source) {
            Known::Null => Candidates::Null,
            Known::Value(_) | Known::Unknown => Candidates::Nothing,
            known => self.without_value(known),
        }
    }

    /// True if the version before has exactly the same value.
    pub(super) fn is_same(&mut self, source: SourceId, value: Abbreviated) -> bool {
        match &mut self.before {
            Some(before) => value.exact && before.known(source) == Known::Value(value),
            None => false,
        }
    }

    /// Searches in a level below: unless the version before was there too, nothing in it was found yet.
    pub(super) fn below(&mut self, is_same: bool, search: impl FnOnce(&mut Self)) {
        let before = self.before.take();
        if is_same {
            self.before = before;
            search(self);
        } else {
            search(self);
            self.before = before;
        }
    }
}

impl Level {
    pub(super) fn is_empty(&self) -> bool {
        self.equal.is_empty() && self.ranges.is_empty() && self.nulls.is_empty() && self.scan.is_empty()
    }

    /// The tables that are too large for a processor's caches.
    pub(super) fn large(&self) -> impl Iterator<Item = &Equalities> {
        self.equal.iter().filter(|table| table.is_large())
    }

    /// Files an item without conditions.
    pub(super) fn file_unconditional(&mut self, item: Item) {
        self.scan.insert(item);
    }

    /// Removes an item that was filed so.
    pub(super) fn unfile_unconditional(&mut self, item: Item) {
        self.scan.remove(&item);
    }

    /// Files an item by a condition of its conjunction.
    pub(super) fn file(&mut self, item: Item, conjunction: &Conjunction, filing: &mut Filing<'_>) {
        let accesses = conjunction.accesses(&filing.used, filing.sources);
        let fits = |access: &&Access| match access {
            Access::Equal(equals) => {
                equals.len() == 1
                    || self.equal.len() < MAX_SETS
                    || self.equal.iter().any(|table| table.is_by(equals))
            }
            _ => true,
        };
        let Some(access) = accesses.iter().find(fits).or(accesses.first()) else {
            return;
        };
        let depth = filing.used.len();
        filing.used.extend(access.sources());
        self.file_under(item, access, conjunction, filing);
        filing.used.truncate(depth);
    }

    fn file_under(
        &mut self,
        item: Item,
        access: &Access,
        conjunction: &Conjunction,
        filing: &mut Filing<'_>,
    ) {
        match access {
            Access::Equal(equals) => {
                let table = self.table(equals.iter().map(|(source, _)| *source), filing);
                let keys = equals.iter().map(|(_, key)| *key);
                table.file(item, keys, conjunction, filing);
            }
            Access::List(source, keys) => {
                let table = self.table([*source].into_iter(), filing);
                for key in keys {
                    table.file(item, [*key].into_iter(), conjunction, filing);
                }
            }
            Access::Range(source, low, high) => {
                let interval = Interval {
                    low: *low,
                    high: *high,
                    item,
                };
                let held = self.ranges.iter_mut().find(|(known, _)| known == source);
                match held {
                    Some((_, intervals)) => intervals.insert(interval),
                    None => {
                        let mut intervals = Intervals::default();
                        intervals.insert(interval);
                        self.ranges.push((*source, intervals));
                    }
                }
            }
            Access::Null(source) => {
                let held = self.nulls.iter_mut().find(|(known, _)| known == source);
                match held {
                    Some((_, posting)) => posting.file(item, conjunction, filing),
                    None => self.nulls.push((*source, Posting::Few(vec![item]))),
                }
            }
            Access::Scan => self.file_unconditional(item),
        }
    }

    /// The table by the sources, made if need be.
    fn table(
        &mut self,
        sources: impl Iterator<Item = SourceId> + Clone,
        filing: &Filing<'_>,
    ) -> &mut Equalities {
        let known = self
            .equal
            .iter()
            .position(|table| table.sources().iter().copied().eq(sources.clone()));
        let at = known.unwrap_or_else(|| {
            self.equal
                .push(Equalities::new(sources.collect(), filing.sources.secret()));
            self.equal.len() - 1
        });
        #[allow(clippy::indexing_slicing, reason = "found or pushed just now")]
        &mut self.equal[at]
    }

    /// Removes an item from where its conjunction is filed. Whether it was there.
    pub(super) fn unfile(&mut self, item: Item, conjunction: &Conjunction, filing: &mut Filing<'_>) -> bool {
        let depth = filing.used.len();
        let accesses = conjunction.accesses(&filing.used, filing.sources);
        accesses.iter().any(|access| {
            filing.used.extend(access.sources());
            let removed = self.unfile_under(item, access, conjunction, filing);
            filing.used.truncate(depth);
            removed
        })
    }

    fn unfile_under(
        &mut self,
        item: Item,
        access: &Access,
        conjunction: &Conjunction,
        filing: &mut Filing<'_>,
    ) -> bool {
        match access {
            Access::Equal(equals) => {
                let by_these = self.equal.iter_mut().find(|table| table.is_by(equals));
                let keys = equals.iter().map(|(_, key)| *key);
                let removed = by_these.is_some_and(|table| table.unfile(item, keys, conjunction, filing));
                self.equal.retain(|table| !table.is_empty());
                removed
            }
            Access::List(source, keys) => {
                let by_this = |table: &&mut Equalities| table.sources() == [*source];
                let mut removed = false;
                if let Some(table) = self.equal.iter_mut().find(by_this) {
                    for key in keys {
                        removed |= table.unfile(item, [*key].into_iter(), conjunction, filing);
                    }
                }
                self.equal.retain(|table| !table.is_empty());
                removed
            }
            Access::Range(source, low, high) => {
                let interval = Interval {
                    low: *low,
                    high: *high,
                    item,
                };
                let held = self.ranges.iter_mut().find(|(known, _)| known == source);
                let removed = held.is_some_and(|(_, intervals)| intervals.remove(&interval));
                self.ranges.retain(|(_, intervals)| !intervals.is_empty());
                removed
            }
            Access::Null(source) => {
                let held = self.nulls.iter_mut().find(|(known, _)| known == source);
                let removed = held.is_some_and(|(_, posting)| posting.unfile(item, conjunction, filing));
                self.nulls.retain(|(_, posting)| !posting.is_empty());
                removed
            }
            Access::Scan => self.scan.remove(&item),
        }
    }

    /// Finds what is filed where the row belongs, and what is filed nowhere in particular if that is wanted.
    pub(super) fn search(&self, search: &mut Search<'_, '_>, with_scan: bool) {
        for table in &self.equal {
            table.search(search);
        }
        for (source, intervals) in &self.ranges {
            let begun = search.work.done();
            match search.under(*source) {
                Candidates::Value(value) if search.is_same(*source, value) => {}
                Candidates::Value(value) => intervals.stab(value.place, &mut |item| search.find(item)),
                Candidates::Everything => intervals.all(&mut |item| search.find(item)),
                Candidates::Null | Candidates::Nothing => {}
            }
            let units = search.work.done() - begun;
            search.charges.share(units, intervals.len(), |each| {
                intervals.all(&mut |item| each(item))
            });
        }
        for (source, posting) in &self.nulls {
            match search.under_null(*source) {
                Candidates::Null => {
                    let before = search.before.as_mut();
                    let is_same = before.is_some_and(|seen| seen.known(*source) == Known::Null);
                    search.below(is_same, |search| posting.search(search));
                }
                Candidates::Everything => posting.each(&mut |item| search.find(item)),
                Candidates::Value(_) | Candidates::Nothing => {}
            }
        }
        if with_scan {
            self.scan.iter().for_each(|item| search.find(*item));
        }
    }

    /// Hands each item to `each`.
    fn each(&self, each: &mut dyn FnMut(Item)) {
        self.equal.iter().for_each(|table| table.each(each));
        for (_, intervals) in &self.ranges {
            intervals.all(&mut |item| each(item));
        }
        self.nulls.iter().for_each(|(_, posting)| posting.each(each));
        self.scan.iter().for_each(|item| each(*item));
    }
}

impl Posting {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Posting::Few(items) => items.is_empty(),
            Posting::Many(level) => level.is_empty(),
        }
    }

    pub(super) fn file(&mut self, item: Item, conjunction: &Conjunction, filing: &mut Filing<'_>) {
        match self {
            Posting::Few(items) => {
                if items.contains(&item) {
                    return;
                }
                items.push(item);
                if items.len() > FEW {
                    let level = split(items, filing);
                    *self = Posting::Many(Box::new(level));
                }
            }
            Posting::Many(level) => level.file(item, conjunction, filing),
        }
    }

    pub(super) fn unfile(&mut self, item: Item, conjunction: &Conjunction, filing: &mut Filing<'_>) -> bool {
        match self {
            Posting::Few(items) => {
                let place = items.iter().position(|held| *held == item);
                if let Some(place) = place {
                    items.swap_remove(place);
                }
                place.is_some()
            }
            Posting::Many(level) => level.unfile(item, conjunction, filing),
        }
    }

    pub(super) fn search(&self, search: &mut Search<'_, '_>) {
        match self {
            Posting::Few(items) => items.iter().for_each(|item| search.find(*item)),
            Posting::Many(level) => level.search(search, true),
        }
    }

    /// Hands each item to `each`.
    pub(super) fn each(&self, each: &mut dyn FnMut(Item)) {
        match self {
            Posting::Few(items) => items.iter().for_each(|item| each(*item)),
            Posting::Many(level) => level.each(each),
        }
    }
}

/// A level of the items, each by the conjunction that brought it here.
fn split(items: &[Item], filing: &mut Filing<'_>) -> Level {
    let mut level = Level::default();
    for item in items {
        let parts = conjunctions(item.entry, filing.records, filing.sources);
        let part = parts.and_then(|parts| parts.into_iter().nth(item.part as usize));
        match part {
            Some(conjunction) => level.file(*item, &conjunction, filing),
            None => level.file_unconditional(*item),
        }
    }
    level
}
