//! [`Bindings`]: a query's predicate, bound once and used wherever the table is the same.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::event::Relation;
use crate::filter::{self, Matcher};

/// The last version of the table that a query's predicate was bound to, and what it was bound to be.
///
/// Binding can take a thousand times what a row does, and is done before a subscription is active, away from the
/// threads that serve others; it is found here later.
#[derive(Debug, Default)]
pub(super) struct Bindings(Mutex<Option<(Arc<Relation>, Arc<Matcher>)>>);

impl Bindings {
    /// The matcher for that version, if it is known without binding again: the columns that it reads are the same ones.
    pub(super) fn known(&self, relation: &Relation) -> Option<Arc<Matcher>> {
        let last = self.0.lock();
        let (of, matcher) = last.as_ref()?;
        reads_alike(matcher, of, relation).then(|| Arc::clone(matcher))
    }

    /// The matcher for that version, bound by `bind` unless it is known.
    pub(super) fn get(
        &self,
        relation: &Arc<Relation>,
        bind: impl FnOnce() -> Result<Matcher, filter::Error>,
    ) -> Result<Arc<Matcher>, filter::Error> {
        if let Some(known) = self.known(relation) {
            return Ok(known);
        }
        let matcher = Arc::new(bind()?);
        *self.0.lock() = Some((Arc::clone(relation), Arc::clone(&matcher)));
        Ok(matcher)
    }
}

/// True if a matcher for one version of a table is the one for another.
fn reads_alike(matcher: &Matcher, of: &Relation, other: &Relation) -> bool {
    std::ptr::eq(of, other)
        || of.table == other.table
            && matcher.columns().iter().all(|&index| {
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
