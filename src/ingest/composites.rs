//! [`Composites`]: the version of its table that a row with composites or labels was written under.
//!
//! Postgres describes a table again when its columns change, not when the attributes of a composite type do. So the
//! catalog is asked whether they did, once for all rows that came with one read: what it knows is then at least as new
//! as they are. A row that is older, which the number of attributes in it tells, gets an earlier version.
//!
//! Neither does it tell of labels of an enumeration. There the row does if one is new: the catalog is asked once one
//! comes by that is not known. That labels were renamed shows when all tables are looked at, as they are every few
//! seconds.
//!
//! Of rows that were written before a name came to stand for something else, and read after it, it cannot be told for
//! what it stood: their columns are uncertain, which ends the subscriptions that need them.

use std::collections::HashMap;
use std::sync::Arc;

use super::Error;
use crate::event::{Op, Relation, RowChange, StreamRelation, Tuple, Value};
use crate::lsn::Lsn;
use crate::schema::{Learnt, Tables};
use crate::types::{Attnum, Kind, json};

/// The versions of one connection's tables that have composites or enumerations.
pub(super) struct Composites {
    catalog: Arc<Tables>,
    tables: HashMap<u32, Versions>,
    /// The catalog's generation of types, if it was asked since bytes were received, and the number of snapshots at
    /// that time.
    generation: Option<(u64, u64)>,
    /// The last table that has neither.
    plain: Option<Arc<Relation>>,
}

struct Versions {
    /// The relation as the assembler knows it: all versions are this one but for the attributes of composites
    /// and the labels.
    described: Arc<Relation>,
    /// Oldest first; never empty.
    versions: Vec<Arc<Relation>>,
    /// The least generation of types that the newest version can have; `None` if it is not known when it was described.
    generation: Option<u64>,
    /// The number of changes of labels that had been found when the table was last asked for.
    types_changed: u64,
    /// The version by which rows of transactions that commit before this position are read, since they may be older
    /// than the newest version.
    uncertain: Option<(Lsn, Arc<Relation>)>,
}

/// The most versions of a table that are remembered, for rows that are still on their way.
const MAX_VERSIONS: usize = 8;

impl Composites {
    pub(super) fn new(catalog: Arc<Tables>) -> Composites {
        Composites {
            catalog,
            tables: HashMap::new(),
            generation: None,
            plain: None,
        }
    }

    /// Notes that bytes were received, since types may have changed before these were sent.
    pub(super) fn received(&mut self) {
        self.generation = None;
    }

    /// True if the catalogs have to be asked before a row can be read: if it may hold composites, or has an unknown
    /// label.
    #[inline]
    pub(super) fn are_to_ask(&mut self, change: &RowChange<'_>) -> bool {
        let relation = change.relation;
        if self.is_plain(relation) {
            return false;
        }
        let any = |is: fn(&Kind) -> bool| relation.columns.iter().any(|c| is(&c.ty.kind));
        let has_composites = any(Kind::has_composites);
        if !has_composites && !any(Kind::has_labels) {
            self.plain = Some(Arc::clone(relation));
            return false;
        }
        let table = self
            .tables
            .entry(relation.oid)
            .or_insert_with(|| Versions::new(relation, self.catalog.types_changed()));
        if !Arc::ptr_eq(&table.described, relation) {
            table.describe(relation, self.catalog.types_changed());
        }
        has_composites
            || table.types_changed != self.catalog.types_changed()
            || !table.newest_fits(&change.op)
    }

    fn is_plain(&self, relation: &Arc<Relation>) -> bool {
        let plain = self.plain.as_ref();
        plain.is_some_and(|plain| Arc::ptr_eq(plain, relation))
    }

    /// The relation by which a change is read that needs no question to the catalogs. Its transaction commits at
    /// `commit`.
    #[inline]
    pub(super) fn known<'a>(&'a self, change: &RowChange<'a>, commit: Lsn) -> &'a Arc<Relation> {
        if self.is_plain(change.relation) {
            return change.relation;
        }
        let table = self.tables.get(&change.relation.oid);
        let newest = table.and_then(|table| table.uncertain(commit).or(table.versions.last()));
        newest.unwrap_or(change.relation)
    }

    /// The relation by which a change is read: its own, but with the composites and labels that fit it. `snapshots` is
    /// the number of catalog snapshots so far: after a newer one they are asked again. The transaction commits at
    /// `commit`. New versions are noted in the log by `note`.
    pub(super) fn ask<'a>(
        &'a mut self,
        change: &RowChange<'a>,
        snapshots: u64,
        commit: Lsn,
        note: impl FnOnce(Learnt) -> Result<Arc<Relation>, Error>,
    ) -> Result<&'a Arc<Relation>, Error> {
        let relation = change.relation;
        let types_changed = self.catalog.types_changed();
        let generation = match self.generation {
            Some((generation, with)) if with == snapshots => generation,
            _ => {
                let generation = self.catalog.generation()?;
                self.generation = Some((generation, snapshots));
                generation
            }
        };
        let Some(table) = self.tables.get_mut(&relation.oid) else {
            return Ok(relation);
        };
        if table.generation != Some(generation) {
            let learnt = self
                .catalog
                .describe_again(&relation.as_ref().into(), (commit, snapshots))?;
            let newest = note(learnt)?;
            if let Some(altered) = table.altered(&newest) {
                table.uncertain = Some((self.catalog.types_since(&newest)?, Arc::new(altered)));
            }
            table.learn_version(newest);
            table.generation = Some(generation);
        }
        table.types_changed = types_changed;
        let relation_of = table.uncertain(commit).or_else(|| table.of(&change.op));
        Ok(relation_of.unwrap_or(relation))
    }
}

impl Versions {
    fn new(described: &Arc<Relation>, types_changed: u64) -> Versions {
        Versions {
            described: Arc::clone(described),
            versions: vec![Arc::clone(described)],
            generation: None,
            types_changed,
            uncertain: None,
        }
    }

    /// The relation with those columns marked as uncertain whose labels or attributes mean something else in the newest
    /// version; `None` if there are none.
    fn altered(&self, newest: &Relation) -> Option<Relation> {
        let before = self.versions.last()?;
        let mut altered = newest.clone();
        let columns = altered.columns.iter_mut().zip(&before.columns);
        let mut any = false;
        for (column, before) in columns {
            if before.ty.kind.altered_in(&column.ty.kind).is_some() {
                column.attnum = Attnum::UNCERTAIN;
                any = true;
            }
        }
        any.then_some(altered)
    }

    /// The version by which rows of a transaction that commits at `commit` are read if it is not certain under which
    /// version they were written.
    fn uncertain(&self, commit: Lsn) -> Option<&Arc<Relation>> {
        let uncertain = self.uncertain.as_ref().filter(|(until, _)| commit < *until);
        uncertain.map(|(_, relation)| relation)
    }

    /// Handles another description of the table in the stream. There are many reasons for one, so the versions stay if
    /// it is the same.
    fn describe(&mut self, relation: &Arc<Relation>, types_changed: u64) {
        let [before, now] = [&self.described, relation].map(|r| StreamRelation::from(r.as_ref()));
        let numbers = |relation: &Relation| -> Vec<Attnum> {
            relation.columns.iter().map(|column| column.attnum).collect()
        };
        if before == now && numbers(&self.described) == numbers(relation) {
            self.described = Arc::clone(relation);
            self.generation = None;
        } else {
            *self = Versions::new(relation, types_changed);
        }
    }

    fn learn_version(&mut self, newest: Arc<Relation>) {
        let newest = as_described(&newest, &self.described);
        tracing::debug!(table = %newest.table, "the table's composites and labels were described");
        self.versions.retain(|known| *known != newest);
        if self.versions.len() == MAX_VERSIONS {
            self.versions.remove(0);
        }
        self.versions.push(newest);
    }

    fn newest_fits(&self, op: &Op<'_>) -> bool {
        self.versions.last().is_some_and(|newest| fits(newest, op))
    }

    /// The newest version that fits; the newest of all if none does.
    fn of(&self, op: &Op<'_>) -> Option<&Arc<Relation>> {
        let mut newest_first = self.versions.iter().rev();
        newest_first
            .find(|version| fits(version, op))
            .or(self.versions.last())
    }
}

/// The relation with these types, and with the log settings of the rows' own description, which may be of another time.
fn as_described(types: &Relation, described: &Relation) -> Arc<Relation> {
    let mut relation = types.clone();
    relation.replica_identity = described.replica_identity;
    relation.key.clone_from(&described.key);
    relation.logging.clone_from(&described.logging);
    for (column, described) in relation.columns.iter_mut().zip(&described.columns) {
        column.identity = described.identity;
    }
    Arc::new(relation)
}

/// True if the composites of a change's rows have as many attributes as the relation says, and it knows their labels.
fn fits(relation: &Relation, op: &Op<'_>) -> bool {
    let row = |tuple: &Tuple<'_>| {
        tuple
            .values()
            .zip(&relation.columns)
            .all(|(value, column)| match value {
                Value::Text(text) if column.ty.kind.has_composites() => json::fits(&column.ty.kind, text),
                Value::Text(text) => !column.ty.kind.lacks_label(text),
                _ => true,
            })
    };
    match op {
        Op::Insert { new } => row(new),
        Op::Update { old, new } => old.iter().all(|old| row(&old.tuple())) && row(new),
        Op::Delete { old } => row(&old.tuple()),
        Op::Truncate => true,
    }
}
