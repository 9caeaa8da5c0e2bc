//! A row of wal2json's beside the versions of its table: those that it fits, and the columns that it shows itself.

use super::record::{Action, Field, Record};
use crate::event::{Published, ReplicaIdentity, StreamColumn, StreamRelation};

/// Finds fields by name; in one step while they are asked for in their order, which they mostly are.
pub(super) struct Finder<'r, 'a> {
    fields: &'r [Field<'a>],
    next: usize,
}

impl<'r, 'a> Finder<'r, 'a> {
    pub(super) fn new(fields: &'r [Field<'a>]) -> Finder<'r, 'a> {
        Finder { fields, next: 0 }
    }

    pub(super) fn by_name(&mut self, name: &str) -> Option<&'r Field<'a>> {
        let is_it = |field: &&Field<'_>| field.name.0 == name;
        if let Some(field) = self.fields.get(self.next).filter(is_it) {
            self.next += 1;
            return Some(field);
        }
        let at = self.fields.iter().position(|field| is_it(&field))?;
        self.next = at + 1;
        self.fields.get(at)
    }
}

/// True if the row was written under the relation, which is how a version of the table was described last.
pub(super) fn fits(
    relation: &StreamRelation,
    version: &Published,
    record: &Record<'_>,
    action: Action,
) -> bool {
    fits_columns(version, record, action)
        && (record.identity.is_empty() || {
            let identity = identity_of(relation, &relation.columns, record);
            identity == relation.replica_identity && flags_fit(relation, record)
        })
}

/// True if the row has the columns of this version of the table, in its order, and no others that are published. In an
/// update, TOASTed values may be missing.
///
/// The order is what tells columns apart that have changed places under their names: wal2json writes them in the order
/// of their numbers.
pub(super) fn fits_columns(version: &Published, record: &Record<'_>, action: Action) -> bool {
    let row = match action {
        Action::Delete | Action::Truncate => true,
        Action::Insert => all_fit(&record.columns, version, false),
        Action::Update => all_fit(&record.columns, version, true),
    };
    // Of the identity any may be missing: which ones is what the replica identity is told by.
    row && all_fit(&record.identity, version, true)
}

/// True if each field is one of the version's columns, or not published, and each column one of the fields, unless some
/// may be missing.
fn all_fit(fields: &[Field<'_>], version: &Published, some_may_be_missing: bool) -> bool {
    let mut find = Finder::new(fields);
    let mut found = 0;
    for column in &version.relation.columns {
        match find.by_name(&column.name) {
            Some(field) if field.type_oid() == column.type_oid => found += 1,
            None if some_may_be_missing => {}
            _ => return false,
        }
    }
    let left_out = || fields.iter().filter(|field| is_left_out(version, field)).count();
    let no_others = found == fields.len() || found + left_out() == fields.len();
    no_others && in_order(fields, &version.order)
}

fn in_order(fields: &[Field<'_>], order: &[String]) -> bool {
    let mut rest = order.iter();
    fields.iter().all(|field| rest.any(|name| *name == field.name.0))
}

/// True if a row that fits the version shows nothing under a name that another column had before, or all columns, by
/// whose order they are told apart.
pub(super) fn tells_renamed(version: &Published, record: &Record<'_>) -> bool {
    let has_all = |fields: &[Field<'_>]| {
        let mut find = Finder::new(fields);
        let mut columns = version.relation.columns.iter();
        columns.all(|column| find.by_name(&column.name).is_some())
    };
    let mut fields = record.columns.iter().chain(&record.identity);
    fields.all(|field| version.renamed.iter().all(|name| *name != field.name.0))
        || has_all(&record.columns)
        || has_all(&record.identity)
}

/// True if two versions that a row fits have the same columns under the names that it shows.
pub(super) fn agree(a: &Published, b: &Published, record: &Record<'_>) -> bool {
    let number = |version: &Published, field: &Field<'_>| {
        let named = |column: &StreamColumn| column.name == field.name.0;
        let at = version.relation.columns.iter().position(named);
        at.and_then(|at| version.numbers.get(at).copied())
    };
    record
        .columns
        .iter()
        .chain(&record.identity)
        .all(|field| number(a, field) == number(b, field))
}

/// Those of a version's columns that the row shows.
pub(super) fn shown(version: &Published, record: &Record<'_>) -> Vec<StreamColumn> {
    let mut row = Finder::new(&record.columns);
    let mut identity = Finder::new(&record.identity);
    let is_shown = |column: &&StreamColumn| {
        let in_row = row.by_name(&column.name).is_some();
        identity.by_name(&column.name).is_some() || in_row
    };
    let columns = version.relation.columns.iter();
    columns.filter(is_shown).cloned().collect()
}

/// The relation of these columns, with the replica identity that the row shows.
pub(super) fn with_identity(
    mut columns: Vec<StreamColumn>,
    published: &Published,
    record: &Record<'_>,
) -> StreamRelation {
    let now = &published.relation;
    let mut replica_identity = now.replica_identity;
    if record.identity.is_empty() {
        for column in &mut columns {
            let is_it = |now: &&StreamColumn| now.name == column.name;
            column.identity = now.columns.iter().find(is_it).is_some_and(|now| now.identity);
        }
    } else {
        replica_identity = identity_of(now, &columns, record);
        let mut identity = Finder::new(&record.identity);
        // A key of all columns shows as many as `FULL` does.
        let is_known =
            replica_identity == now.replica_identity && columns == now.columns && flags_fit(now, record);
        for column in columns.iter_mut().filter(|_| !is_known) {
            let full = replica_identity == ReplicaIdentity::Full;
            column.identity = full || identity.by_name(&column.name).is_some();
        }
    }
    StreamRelation {
        oid: now.oid,
        table: now.table.clone(),
        replica_identity,
        columns,
    }
}

/// True if the row's key is the same before and after.
pub(super) fn same_key(columns: &[Field<'_>], identity: &[Field<'_>]) -> bool {
    let mut find = Finder::new(columns);
    identity.iter().all(|old| {
        let new = find.by_name(&old.name.0);
        new.is_some_and(|new| new.same_value(old))
    })
}

fn is_left_out(published: &Published, field: &Field<'_>) -> bool {
    published.left_out.iter().any(|name| *name == field.name.0)
}

/// The columns of a row that is of no version that is known, by the row itself and by what is known of now.
pub(super) fn of_row(published: &Published, record: &Record<'_>) -> Vec<StreamColumn> {
    let fields = if record.columns.is_empty() {
        &record.identity
    } else {
        &record.columns
    };
    if published.via_root {
        as_root(published, fields)
    } else {
        let shown = fields.iter().filter(|field| !is_left_out(published, field));
        shown.map(|field| column(published, field)).collect()
    }
}

/// The columns in the order of the root that the partition's changes are published as.
fn as_root(published: &Published, fields: &[Field<'_>]) -> Vec<StreamColumn> {
    let columns = &published.relation.columns;
    let place = |name: &str| published.order.iter().position(|own| own == name);
    if fields.len() == published.order.len() {
        // By their places: those of one place have one name in the partition and in the root.
        let in_place = |now: &StreamColumn| {
            let field = place(&now.name).and_then(|at| fields.get(at));
            field.filter(|field| field.type_oid() == now.type_oid)
        };
        let found: Option<Vec<&Field<'_>>> = columns.iter().map(in_place).collect();
        if let Some(found) = found {
            return found.into_iter().map(|field| column(published, field)).collect();
        }
    }
    // What stands in another order than it does now is another column, or beside one.
    let places: Vec<Option<usize>> = fields.iter().map(|field| place(&field.name.0)).collect();
    let is_in_order = |at: usize, own: usize| {
        let known = |places: &[Option<usize>]| places.iter().flatten().copied().collect::<Vec<usize>>();
        let (before, after) = places.split_at(at);
        known(before).iter().all(|other| *other < own) && known(after).iter().all(|other| *other >= own)
    };
    let is_the_same = |now: &&StreamColumn| {
        let at = fields.iter().position(|field| field.name.0 == now.name);
        at.and_then(|at| Some((at, (*places.get(at)?)?)))
            .is_some_and(|(at, own)| is_in_order(at, own))
    };
    let fields = |now: &StreamColumn| fields.iter().find(|field| field.name.0 == now.name);
    let same = columns.iter().filter(is_the_same).filter_map(fields);
    same.map(|field| column(published, field)).collect()
}

fn column(published: &Published, field: &Field<'_>) -> StreamColumn {
    let same = |now: &&StreamColumn| now.name == field.name.0 && now.type_oid == field.type_oid();
    let now = published.relation.columns.iter().find(same);
    StreamColumn {
        name: field.name.0.clone().into_owned(),
        type_oid: field.type_oid(),
        typmod: now.map_or(-1, |now| now.typmod),
        identity: false,
    }
}

/// The replica identity that the row was written under, if `reference` may be it: `FULL` shows all columns, the others
/// those of a key.
fn identity_of(reference: &StreamRelation, columns: &[StreamColumn], record: &Record<'_>) -> ReplicaIdentity {
    use ReplicaIdentity::{Default, Full, Index, Nothing};
    let mut find = Finder::new(&record.identity);
    let all = columns.iter().all(|column| find.by_name(&column.name).is_some());
    match reference.replica_identity {
        // A key of all columns shows as many as `FULL` does.
        known @ (Default | Index) if flags_fit(reference, record) => known,
        _ if all => Full,
        Full | Nothing => Default,
        other => other,
    }
}

/// True if the key of the relation is that of the row.
fn flags_fit(relation: &StreamRelation, record: &Record<'_>) -> bool {
    if relation.replica_identity == ReplicaIdentity::Full {
        return true;
    }
    let mut find = Finder::new(&record.identity);
    relation
        .columns
        .iter()
        .all(|column| column.identity == find.by_name(&column.name).is_some())
}
