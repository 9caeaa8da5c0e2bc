//! [`Shapes`]: the encoders of rows whose visible columns depend on which policies admit them.

use std::collections::HashMap;
use std::sync::Arc;

use super::binding::Selection;
use super::key::QueryKey;
use super::shapes::ShapeCache;
use crate::event::{Relation, RowChange, Visible};
use crate::filter::{Operation, ResultChange};
use crate::policy::Masks;
use crate::protocol::v1::RowEncoder;

/// The encoders of a query, by the policies that admit the row before a change and after it.
#[derive(Debug)]
pub(super) struct Shapes {
    key: Arc<QueryKey>,
    selection: Arc<Selection>,
    /// `None` if the client is not told of such a change.
    encoders: HashMap<(Operation, Masks), Option<Arc<RowEncoder>>>,
}

impl Shapes {
    pub(super) fn new(key: &Arc<QueryKey>, selection: &Arc<Selection>) -> Shapes {
        Shapes {
            key: Arc::clone(key),
            selection: Arc::clone(selection),
            encoders: HashMap::new(),
        }
    }

    /// The encoder of a change of the result; `None` if the client is not told of it, since no policy that admits its
    /// row allows such operations.
    pub(super) fn encoder(
        &mut self,
        change: &RowChange<'_>,
        result: ResultChange,
        cache: &mut ShapeCache,
    ) -> Option<&Arc<RowEncoder>> {
        let relation = change.relation;
        let masks = self.selection.admission()?.masks(relation, &change.op);
        let Shapes {
            key,
            selection,
            encoders,
        } = self;
        let made = encoders.entry((result.op, masks)).or_insert_with(|| {
            let (row, old) = shown(selection, relation, result.op, masks)?;
            cache.of_rows(key, row, old, relation)
        });
        made.as_ref()
    }
}

/// The columns that are shown of a row and of its old version.
fn shown(
    selection: &Selection,
    relation: &Relation,
    op: Operation,
    masks: Masks,
) -> Option<(Visible, Visible)> {
    let nothing = || Visible::only([]);
    let of = |mask| selection.visible(relation, mask, op);
    match op {
        Operation::Insert => Some((of(masks.after)?, nothing())),
        Operation::Update => Some((of(masks.after)?, of(masks.before).unwrap_or_else(nothing))),
        Operation::Delete => of(masks.before).map(|old| (old.clone(), old)),
        Operation::Truncate | Operation::Failure => Some((Visible::All, nothing())),
    }
}
