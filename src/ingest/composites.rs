//! [`Composites`]: the version of its table that a row with composites or labels was written under.
//!
//! Postgres describes a table again when its columns change, not when the attributes of a composite type do. So the
//! catalog is asked whether they did, once for all rows that came with one read: what it knows is then at least as new
//! as they are. A row that is older, which the number of attributes in it tells, gets an earlier version.
//!
//! Neither does it tell of a new label of an enumeration. There the row does: the catalog is asked once one comes by
//! that is not known.

use std::collections::HashMap;
use std::sync::Arc;

use super::Error;
use crate::event::{Op, Relation, RowChange, StreamRelation, Tuple, Value};
use crate::tables::Tables;
use crate::types::{Kind, json};

/// The versions of one connection's tables that have composites or enumerations.
pub(super) struct Composites {
    catalog: Arc<Tables>,
    tables: HashMap<u32, Versions>,
    /// The catalog's generation of types, if it was asked since bytes were received, and with what number of snapshots.
    generation: Option<(u64, u64)>,
    /// The last table with neither.
    plain: Option<Arc<Relation>>,
}

struct Versions {
    /// The relation as the assembler knows it: all versions are this one but for the attributes of composites
    /// and the labels.
    described: Arc<Relation>,
    /// Oldest first; never empty.
    versions: Vec<Arc<Relation>>,
    /// The generation of types that the newest version is of, at least; `None` if it was described who knows when.
    generation: Option<u64>,
}

/// How many versions of a table are remembered: those that rows on their way can be of.
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

    /// Notes that bytes were received: types may have changed before they were sent.
    pub(super) fn received(&mut self) {
        self.generation = None;
    }

    /// Whether the catalogs are to be asked before a row can be read: for each that may hold composites, and for one
    /// with a label that is not known.
    #[inline]
    pub(super) fn are_to_ask(&mut self, change: &RowChange<'_>) -> bool {
        let relation = change.relation;
        if self.is_plain(relation) {
            return false;
        }
        let any = |is: fn(&Kind) -> bool| relation.columns.iter().any(|c| is(&c.ty.kind));
        let has_composites = any(Kind::has_composites);
        if !has_composites && !any(|kind| matches!(kind, Kind::Enum { .. })) {
            self.plain = Some(Arc::clone(relation));
            return false;
        }
        let table = self
            .tables
            .entry(relation.oid)
            .or_insert_with(|| Versions::new(relation));
        if !Arc::ptr_eq(&table.described, relation) {
            table.describe(relation);
        }
        has_composites || !table.newest_fits(&change.op)
    }

    fn is_plain(&self, relation: &Arc<Relation>) -> bool {
        let plain = self.plain.as_ref();
        plain.is_some_and(|plain| Arc::ptr_eq(plain, relation))
    }

    /// The relation that a change is to be read by for which the catalogs are not to be asked.
    #[inline]
    pub(super) fn known<'a>(&'a self, change: &RowChange<'a>) -> &'a Arc<Relation> {
        if self.is_plain(change.relation) {
            return change.relation;
        }
        let table = self.tables.get(&change.relation.oid);
        let newest = table.and_then(|table| table.versions.last());
        newest.unwrap_or(change.relation)
    }

    /// The relation that the change is to be read by: its own, but with the composites and labels that fit it.
    /// `snapshots` is how often the catalogs have come to show more: with a newer one they are asked again.
    pub(super) fn ask<'a>(
        &'a mut self,
        change: &RowChange<'a>,
        snapshots: u64,
    ) -> Result<&'a Arc<Relation>, Error> {
        let relation = change.relation;
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
            table.learn(self.catalog.describe_again(&relation.as_ref().into())?);
            table.generation = Some(generation);
        }
        Ok(table.of(&change.op).unwrap_or(relation))
    }
}

impl Versions {
    fn new(described: &Arc<Relation>) -> Versions {
        Versions {
            described: Arc::clone(described),
            versions: vec![Arc::clone(described)],
            generation: None,
        }
    }

    /// The stream described the table again. It does so for many reasons: versions stay if it is as it was.
    fn describe(&mut self, relation: &Arc<Relation>) {
        let [before, now] = [&self.described, relation].map(|r| StreamRelation::from(r.as_ref()));
        if before == now {
            self.described = Arc::clone(relation);
            self.generation = None;
        } else {
            *self = Versions::new(relation);
        }
    }

    fn learn(&mut self, newest: Arc<Relation>) {
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

/// Whether the composites of a change's rows have as many attributes as the relation says, and it knows their labels.
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
