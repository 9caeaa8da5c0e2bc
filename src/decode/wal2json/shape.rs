//! Which version of its table a row was written under.

use super::Action;
use super::record::{Field, Record};
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

/// Whether the relation, as it was described last, is the one that the row was written under.
pub(super) fn fits(
    relation: &StreamRelation,
    published: &Published,
    record: &Record<'_>,
    action: Action,
) -> bool {
    if action == Action::Truncate {
        return true;
    }
    columns_fit(&relation.columns, published, record, action)
        && (record.identity.is_empty() || {
            let identity = identity_of(relation, &relation.columns, record);
            identity == relation.replica_identity && flags_fit(relation, record)
        })
}

/// The relation that the row was written under, as far as the row and the catalogs tell.
pub(super) fn of(
    published: &Published,
    last: Option<&StreamRelation>,
    record: &Record<'_>,
    action: Action,
) -> StreamRelation {
    let now = &published.relation;
    if fits(now, published, record, action) {
        return now.clone();
    }
    let fitting = [last, Some(now)]
        .into_iter()
        .flatten()
        .find(|relation| columns_fit(&relation.columns, published, record, action));
    let mut columns = match fitting {
        Some(relation) => relation.columns.clone(),
        None => columns_of(published, record),
    };
    let mut replica_identity = now.replica_identity;
    if record.identity.is_empty() {
        for column in &mut columns {
            let is_it = |now: &&StreamColumn| now.name == column.name;
            column.identity = now.columns.iter().find(is_it).is_some_and(|now| now.identity);
        }
    } else {
        replica_identity = identity_of(now, &columns, record);
        let mut identity = Finder::new(&record.identity);
        for column in &mut columns {
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

/// Whether the row's key is the same before and after.
pub(super) fn same_key(columns: &[Field<'_>], identity: &[Field<'_>]) -> bool {
    let mut find = Finder::new(columns);
    identity.iter().all(|old| {
        let new = find.by_name(&old.name.0);
        new.is_some_and(|new| new.same_value(old))
    })
}

/// Whether the row has these columns and no others that are published. In an update, TOASTed values may be missing; a
/// column that the table does not have any more is taken to be gone rather than unchanged.
fn columns_fit(columns: &[StreamColumn], published: &Published, record: &Record<'_>, action: Action) -> bool {
    let may_be_missing = |column: &StreamColumn| {
        let now = &published.relation.columns;
        action == Action::Update
            && now
                .iter()
                .any(|now| same_column(now, &column.name, column.type_oid))
    };
    let row = match action {
        Action::Delete => true,
        _ => all_fit(&record.columns, columns, published, may_be_missing),
    };
    // Of the identity any may be missing: which ones is what the replica identity is told by.
    row && all_fit(&record.identity, columns, published, |_| true)
}

/// Whether each field is one of the columns, or not published, and each column one of the fields, unless it may be
/// missing.
fn all_fit(
    fields: &[Field<'_>],
    columns: &[StreamColumn],
    published: &Published,
    may_be_missing: impl Fn(&StreamColumn) -> bool,
) -> bool {
    let mut find = Finder::new(fields);
    let mut found = 0;
    for column in columns {
        match find.by_name(&column.name) {
            Some(field) if field.type_oid() == column.type_oid => found += 1,
            None if may_be_missing(column) => {}
            _ => return false,
        }
    }
    let left_out = || {
        fields
            .iter()
            .filter(|field| is_left_out(published, field))
            .count()
    };
    found == fields.len() || found + left_out() == fields.len()
}

fn same_column(column: &StreamColumn, name: &str, type_oid: u32) -> bool {
    column.name == name && column.type_oid == type_oid
}

fn is_left_out(published: &Published, field: &Field<'_>) -> bool {
    published.left_out.iter().any(|name| *name == field.name.0)
}

/// The columns that the row itself shows.
fn columns_of(published: &Published, record: &Record<'_>) -> Vec<StreamColumn> {
    let fields = if record.columns.is_empty() {
        &record.identity
    } else {
        &record.columns
    };
    let column = |field: &Field<'_>| {
        let same = |now: &&StreamColumn| same_column(now, &field.name.0, field.type_oid());
        let now = published.relation.columns.iter().find(same);
        StreamColumn {
            name: field.name.0.clone().into_owned(),
            type_oid: field.type_oid(),
            typmod: now.map_or(-1, |now| now.typmod),
            identity: false,
        }
    };
    let shown = fields.iter().filter(|field| !is_left_out(published, field));
    shown.map(column).collect()
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

/// Whether the key of the relation is that of the row.
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
