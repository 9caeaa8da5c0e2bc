//! [`Shown`]: the columns that a subscription's rows showed, and that the client was not told when it subscribed.

use parking_lot::Mutex;

use crate::event::{Column, ColumnChange, Relation, View};

/// Columns that were added or renamed since the client was told of the table, as rows showed them last. The rows that a
/// client holds have their names, so another column that takes such a name would be mistaken for it.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Vec<Column>>);

impl Shown {
    /// Notes the columns of this version whose names are not in the version that the client was told.
    pub(super) fn note(&self, told: &Relation, view: View<'_>) {
        if !is_other(told, view.relation()) {
            return;
        }
        let mut columns = self.0.lock();
        for column in untold(told, view) {
            match columns.iter_mut().find(|known| known.name == column.name) {
                None => columns.push(column.clone()),
                Some(known) if known.attnum.number().is_none() => *known = column.clone(),
                Some(_) => {}
            }
        }
    }

    /// True if this version has such columns that are not noted yet.
    pub(super) fn lacks(&self, told: &Relation, view: View<'_>) -> bool {
        is_other(told, view.relation()) && {
            let columns = self.0.lock();
            let is_known = |column: &Column| columns.iter().any(|known| known.name == column.name);
            untold(told, view).any(|column| !is_known(column))
        }
    }

    /// The first column of this version that certainly differs from the one which was shown under its name. Replays
    /// meet former names, for which it may be unknown which column they belonged to.
    pub(super) fn changed_in<'r>(&self, relation: &'r Relation) -> Option<(&'r Column, ColumnChange)> {
        let columns = self.0.lock();
        columns.iter().find_map(|shown| {
            let (_, here) = relation.column(&shown.name)?;
            let change = ColumnChange::of(shown, here)?;
            let matters = matches!(change, ColumnChange::Column | ColumnChange::Parts(_));
            matters.then_some((here, change))
        })
    }
}

fn is_other(told: &Relation, relation: &Relation) -> bool {
    !std::ptr::eq(told, relation) && told.columns != relation.columns
}

fn untold<'r>(told: &Relation, view: View<'r>) -> impl Iterator<Item = &'r Column> {
    let columns = view.columns().map(|(_, column)| column);
    columns.filter(|column| told.column(&column.name).is_none())
}
