//! [`Table`]: the queries on one table, each matched once.

use std::collections::HashMap;
use std::iter;
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use super::bound::Bound;
use super::encode::Hit;
use super::ends::{End, gone_column_message};
use super::key::QueryKey;
use super::meter::{LONG, Lane};
use super::query::Query;
use super::shapes::ShapeCache;
use super::strain::Strain;
use crate::event::{Op, Relation, RowChange};
use crate::filter::{Allowance, Index, Operation};
use crate::log::Changes;
use crate::lsn::Lsn;
use crate::protocol::{ErrorCode, ErrorMessage};

/// The number of changes that are looked up at once in a large index.
pub(super) const AHEAD: usize = 16;

/// The subscribed queries on one table.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The version that the queries are bound to: that of the table's last row. `None` before the first row.
    relation: Option<Arc<Relation>>,
    /// The end of the last transaction that had a row of the table.
    pub(super) touched: Lsn,
    /// True if a subscription may not fit the current version.
    pub(super) has_unfit: bool,
    /// The work that its changes took since it was last asked for.
    pub(super) work: u64,
    entries: Slab<Entry>,
    by_key: HashMap<Arc<QueryKey>, usize>,
    /// The predicates of the bound entries, by the entries' numbers.
    index: Index,
    shared: ShapeCache,
    /// The entries that cannot go on after the last change.
    failed: Vec<(usize, End)>,
}

#[derive(Debug)]
struct Entry {
    query: Arc<Query>,
    binding: Binding,
    groups: Vec<usize>,
    /// The number of changes that concerned it.
    matches: u64,
}

/// The binding of a query to the current version.
#[derive(Debug)]
enum Binding {
    /// No row has come yet.
    Unbound,
    Bound(Bound),
    /// It does not fit this version, and may have been made for a later one. Should another row of this version come,
    /// it ends.
    Unfit(Box<ErrorMessage>),
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry of a query, if it has one.
    pub(super) fn entry(&self, query: &Query) -> Option<usize> {
        self.by_key.get(query.key()).copied()
    }

    /// The entry of a query, which is added if it is new.
    pub(super) fn enter(&mut self, query: &Arc<Query>) -> usize {
        // Clients of equal queries may have been told different versions.
        let relation = self.relation.as_deref();
        self.has_unfit |= relation
            .is_some_and(|relation| query.changed_in(relation).is_some() || query.shows_more(relation));
        if let Some(&entry) = self.by_key.get(query.key()) {
            return entry;
        }
        let entry = self.entries.insert(Entry {
            query: Arc::clone(query),
            binding: Binding::Unbound,
            groups: Vec::new(),
            matches: 0,
        });
        self.by_key.insert(Arc::clone(query.key()), entry);
        self.bind(entry);
        entry
    }

    /// Binds an entry to the current version, if there is one.
    fn bind(&mut self, entry: usize) {
        let (Some(relation), Some(held)) = (&self.relation, self.entries.get_mut(entry)) else {
            return;
        };
        held.binding = match Bound::new(&held.query, relation, &mut self.shared) {
            Ok((bound, selection)) => {
                self.index.insert(entry as u32, selection.rows(), bound.watches);
                Binding::Bound(bound)
            }
            Err(error) => {
                self.has_unfit = true;
                let error = gone_column_message(&held.query, relation).unwrap_or_else(|| unfit(error));
                Binding::Unfit(Box::new(error))
            }
        };
    }

    /// The version of the table's last row.
    pub(super) fn relation(&self) -> Option<&Arc<Relation>> {
        self.relation.as_ref()
    }

    /// The OID of the table whose row came last.
    pub(super) fn oid(&self) -> Option<u32> {
        self.relation.as_ref().map(|relation| relation.oid)
    }

    /// The places of its entries, of which some may be empty.
    pub(super) fn places(&self) -> usize {
        self.entries.capacity()
    }

    /// The query at a place, its groups, and the number of changes that concerned it.
    pub(super) fn at(&self, place: usize) -> Option<(&Arc<Query>, &[usize], u64)> {
        let entry = self.entries.get(place)?;
        Some((&entry.query, &entry.groups, entry.matches))
    }

    /// Every group.
    pub(super) fn groups(&self) -> Vec<usize> {
        let entries = self.entries.iter();
        entries
            .flat_map(|(_, entry)| entry.groups.iter().copied())
            .collect()
    }

    /// The groups of queries that do not fit the current version, and the reasons.
    pub(super) fn unfit(&self) -> Vec<(Vec<usize>, ErrorMessage)> {
        let unfit = self.entries.iter().filter_map(|(_, entry)| match &entry.binding {
            Binding::Unfit(error) => Some((entry.groups.clone(), (**error).clone())),
            _ => None,
        });
        unfit.collect()
    }

    /// True if a query cannot go on after the last change.
    pub(super) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// The groups of the queries that cannot go on after the last change, and the reasons.
    pub(super) fn failed(&self) -> Vec<(usize, End)> {
        let groups = |(entry, end): &(usize, End)| {
            let end = *end;
            let entry = self.entries.get(*entry)?;
            Some(entry.groups.iter().map(move |group| (*group, end)))
        };
        self.failed.iter().filter_map(groups).flatten().collect()
    }

    /// Adds a group to an entry, and returns its place there.
    pub(super) fn add_group(&mut self, entry: usize, group: usize) -> usize {
        let Some(entry) = self.entries.get_mut(entry) else {
            return 0;
        };
        if entry.groups.is_empty() {
            // Most have but one.
            entry.groups.reserve_exact(1);
        }
        entry.groups.push(group);
        entry.groups.len() - 1
    }

    /// Removes the group at that place from an entry, and the entry with its last group. Returns the group that has the
    /// place now, if there is one.
    pub(super) fn remove_group(&mut self, entry: usize, place: usize) -> Option<usize> {
        let held = self.entries.get_mut(entry)?;
        if place < held.groups.len() {
            held.groups.swap_remove(place);
        }
        let moved = held.groups.get(place).copied();
        if held.groups.is_empty() {
            let held = self.entries.remove(entry);
            self.by_key.remove(held.query.key());
            self.index.remove(entry as u32);
        }
        moved
    }

    /// Binds the queries that fit another version of the relation to it. With `puts_apart`, those that take long to
    /// bind are left out, and their groups are returned, to be served where nobody else waits.
    pub(super) fn rebind(&mut self, relation: &Arc<Relation>, puts_apart: bool) -> Vec<usize> {
        if self.relation.as_deref() == Some(relation) {
            return Vec::new();
        }
        self.relation = Some(Arc::clone(relation));
        self.shared = ShapeCache::default();
        self.index = Index::default();
        self.has_unfit = true;
        let mut long = Vec::new();
        let mut short = Vec::with_capacity(self.entries.len());
        for (number, entry) in &mut self.entries {
            if puts_apart && entry.query.binds_long(relation) {
                entry.binding = Binding::Unbound;
                long.extend_from_slice(&entry.groups);
            } else {
                short.push(number);
            }
        }
        for entry in short {
            self.bind(entry);
        }
        long
    }

    /// Prefetches the index entries that a change and the following ones will look up, if the index is large enough for
    /// that to pay.
    pub(super) fn warm<'c>(&mut self, first: &RowChange<'c>, next: Changes<'c>) {
        if !self.index.is_large() {
            return;
        }
        let mut ops = [Op::Truncate; AHEAD];
        let next = next.map_while(Result::ok);
        let same = next.take_while(|next| Arc::ptr_eq(next.relation, first.relation));
        let all = iter::once(first.op).chain(same.map(|next| next.op));
        for (place, op) in ops.iter_mut().zip(all) {
            *place = op;
        }
        self.index.warm(&ops);
    }

    /// Counts the work that the current change took for each query, and returns those that cannot be served like this.
    pub(super) fn count(
        &mut self,
        lane: Lane,
        now: Instant,
        mut each: impl FnMut(Vec<usize>, Strain),
    ) -> u64 {
        let Table { entries, index, .. } = self;
        let tally = index.tally();
        for &(entry, units) in &tally.long {
            let Some(held) = entries.get(entry as usize) else {
                continue;
            };
            let meter = &held.query.meter;
            if !meter.take(units, now) {
                each(held.groups.clone(), Strain::TooMuch);
            } else if units >= LONG && !lane.puts_apart {
                meter.put_apart(now);
            }
        }
        for &(entry, failure) in &tally.failed {
            if let Some(held) = entries.get(entry as usize) {
                each(held.groups.clone(), Strain::of(failure, lane));
            }
        }
        self.work = self.work.saturating_add(tally.done);
        tally.done
    }

    /// Bounds the work for each change from now on.
    pub(super) fn allow(&mut self, allowance: Allowance) {
        self.index.allow(allowance);
    }

    /// Hands each query that `change` concerns to `each`.
    pub(super) fn matches(&mut self, change: &RowChange<'_>, mut each: impl FnMut(Hit<'_>)) {
        let Table {
            relation: Some(relation),
            entries,
            index,
            failed,
            shared,
            ..
        } = self
        else {
            return;
        };
        failed.clear();
        index.matches(relation, &change.op, |number, result| {
            let Some(entry) = entries.get_mut(number as usize) else {
                return;
            };
            if result.op == Operation::Failure {
                failed.push((number as usize, End::Fails));
                return;
            }
            let Binding::Bound(bound) = &mut entry.binding else {
                return;
            };
            if !bound.wants(result) {
                return;
            }
            if change.oversize && bound.keeps_rows_without_key() {
                failed.push((number as usize, End::Unnamed));
                return;
            }
            let Some(rows) = bound.encoder_of(change, result, shared) else {
                return;
            };
            entry.matches += 1;
            each(Hit {
                groups: &entry.groups,
                result,
                rows,
            });
        });
    }
}

/// The error for a query that fitted the version that its client was told, and does not fit the current one. Its code
/// stays if the reason is the replica identity.
fn unfit(error: ErrorMessage) -> ErrorMessage {
    let code = match error.code {
        ErrorCode::ReplicaIdentity => ErrorCode::ReplicaIdentity,
        _ => ErrorCode::SchemaChanged,
    };
    ErrorMessage { code, ..error }
}
