//! [`Selection`], the rows of a query in one version of its table, and [`Bindings`], which keeps the last one.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::event::{Relation, Visible};
use crate::filter::{self, Matcher, Operation};
use crate::policy::{BoundAdmission, Mask};

/// The rows of a query, bound to one version of its table.
#[derive(Debug)]
pub struct Selection {
    /// The rows that the client asked for.
    predicate: Matcher,
    /// The rows that policies admit, and those among them that the client asked for; `None` without policies.
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

    /// The rows that the client may see, where there are policies.
    pub fn admission(&self) -> Option<&BoundAdmission> {
        self.admitted.as_ref().map(|(admission, _)| admission)
    }

    /// The rows of the result, which the client asked for and may see.
    pub fn rows(&self) -> &Matcher {
        self.admitted.as_ref().map_or(&self.predicate, |(_, rows)| rows)
    }

    /// The columns that the client sees of a row of this version if the policies of the mask admit the row, and an
    /// operation tells of it. `None` if it may not hear of the row, or may not see a column that its predicate reads.
    pub fn visible(&self, relation: &Relation, mask: Mask, op: Operation) -> Option<Visible> {
        let visible = self.admission()?.visible(mask, op)?;
        let is_shown = |index: &usize| {
            let column = relation.columns.get(*index);
            column.is_some_and(|column| visible.has(&column.name))
        };
        self.predicate.columns().iter().all(is_shown).then_some(visible)
    }

    /// True if the selection means the same in two versions of a table.
    fn reads_alike(&self, of: &Relation, other: &Relation) -> bool {
        if std::ptr::eq(of, other) {
            return true;
        }
        // A column that policies need may be missing in one of them.
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
/// Binding can take a thousand times as long as a row. It is done before a subscription is active, away from the
/// threads that serve others, and its result is found here later.
#[derive(Debug, Default)]
pub(super) struct Bindings(Mutex<Option<(Arc<Relation>, Arc<Selection>)>>);

impl Bindings {
    /// The selection in that version, if no binding is needed because the columns that it reads are the same.
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
