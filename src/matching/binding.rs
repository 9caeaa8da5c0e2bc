//! [`Selection`], the rows of a query in one version of its table, and [`Bindings`], which keeps the last one.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::event::{Relation, Visible};
use crate::filter::{self, Matcher, Operation};
use crate::policy::{BoundAdmission, Mask};

/// The rows of a query, bound to one version of its table.
#[derive(Debug)]
pub struct Selection {
    /// Those that the client asked for.
    predicate: Matcher,
    /// Those that it may see, where there are policies, and of these the ones that it asked for.
    admitted: Option<(BoundAdmission, Matcher)>,
}

impl Selection {
    /// The rows of a predicate, as far as policies admit them.
    pub(super) fn new(
        relation: &Relation,
        predicate: Matcher,
        admission: Option<BoundAdmission>,
    ) -> Selection {
        let admitted = admission.map(|admission| {
            let rows = admission.rows_with(relation, predicate.columns());
            (admission, Matcher::all_of([rows, predicate.clone()]))
        });
        Selection { predicate, admitted }
    }

    /// The rows that the client asked for.
    pub fn predicate(&self) -> &Matcher {
        &self.predicate
    }

    /// Those that it may see, where there are policies.
    pub fn admission(&self) -> Option<&BoundAdmission> {
        self.admitted.as_ref().map(|(admission, _)| admission)
    }

    /// Those of the result: what the client asked for and may see.
    pub fn rows(&self) -> &Matcher {
        self.admitted.as_ref().map_or(&self.predicate, |(_, rows)| rows)
    }

    /// The columns that the client sees of a row of this version that policies of the mask admit, when it hears of the
    /// row by an operation; `None` if it does not, or not of a column by which it asks for rows.
    pub fn visible(&self, relation: &Relation, mask: Mask, op: Operation) -> Option<Visible> {
        let visible = self.admission()?.visible(mask, op)?;
        let is_shown = |index: &usize| {
            let column = relation.columns.get(*index);
            column.is_some_and(|column| visible.has(&column.name))
        };
        self.predicate.columns().iter().all(is_shown).then_some(visible)
    }

    /// True if the selection in one version of a table is the one in another.
    fn reads_alike(&self, of: &Relation, other: &Relation) -> bool {
        if std::ptr::eq(of, other) {
            return true;
        }
        // What policies need may be missing in the one and not in the other.
        if self.admitted.is_some() && of.columns != other.columns {
            return false;
        }
        of.table == other.table
            && self.rows().columns().iter().all(|&index| {
                let columns = of.columns.get(index).zip(other.columns.get(index));
                columns.is_some_and(|(column, here)| {
                    column.name == here.name
                        && column.ty == here.ty
                        && column.typmod == here.typmod
                        && column.collation == here.collation
                        && column.ctype == here.ctype
                })
            })
    }
}

/// The last version of the table that a query was bound to, and its rows there.
///
/// Binding can take a thousand times what a row does, and is done before a subscription is active, away from the
/// threads that serve others; it is found here later.
#[derive(Debug, Default)]
pub(super) struct Bindings(Mutex<Option<(Arc<Relation>, Arc<Selection>)>>);

impl Bindings {
    /// The selection in that version, if it is known without binding again: the columns that it reads are the same
    /// ones.
    pub(super) fn known(&self, relation: &Relation) -> Option<Arc<Selection>> {
        let last = self.0.lock();
        let (of, selection) = last.as_ref()?;
        selection.reads_alike(of, relation).then(|| Arc::clone(selection))
    }

    /// The selection in that version, bound by `bind` unless it is known.
    pub(super) fn get(
        &self,
        relation: &Arc<Relation>,
        bind: impl FnOnce() -> Result<Selection, filter::Error>,
    ) -> Result<Arc<Selection>, filter::Error> {
        if let Some(known) = self.known(relation) {
            return Ok(known);
        }
        let selection = Arc::new(bind()?);
        *self.0.lock() = Some((Arc::clone(relation), Arc::clone(&selection)));
        Ok(selection)
    }
}
