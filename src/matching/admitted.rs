//! [`Shapes`]: the encoders of rows whose visible columns depend on which policies admit them.

use std::collections::HashMap;
use std::sync::Arc;

use super::key::QueryKey;
use super::shapes::ShapeCache;
use crate::event::{Relation, RowChange, Visible};
use crate::filter::{Operation, ResultChange};
use crate::policy::{BoundAdmission, Mask, Masks};
use crate::protocol::v1::RowEncoder;

/// The encoders of a query, by the policies that admit the row before a change and after it.
#[derive(Debug)]
pub(super) struct Shapes {
    key: Arc<QueryKey>,
    admission: BoundAdmission,
    /// The names of the columns that the client's predicate reads: it is told only of rows of which it sees them.
    predicate: Vec<String>,
    /// `None` if such a change is not told.
    encoders: HashMap<(Operation, Masks), Option<Arc<RowEncoder>>>,
}

impl Shapes {
    pub(super) fn new(key: &Arc<QueryKey>, admission: &BoundAdmission, predicate: Vec<String>) -> Shapes {
        Shapes {
            key: Arc::clone(key),
            admission: admission.clone(),
            predicate,
            encoders: HashMap::new(),
        }
    }

    /// The encoder of a change of the result; `None` if the client is not told of it: no policy that admits its row lets
    /// it hear of such operations.
    pub(super) fn encoder(
        &mut self,
        change: &RowChange<'_>,
        result: ResultChange,
        cache: &mut ShapeCache,
    ) -> Option<Arc<RowEncoder>> {
        let masks = self.admission.masks(change.relation, &change.op);
        let place = (result.op, masks);
        if let Some(known) = self.encoders.get(&place) {
            return known.clone();
        }
        let made = self.make(change.relation, result.op, masks, cache);
        self.encoders.insert(place, made.clone());
        made
    }

    fn make(
        &self,
        relation: &Relation,
        op: Operation,
        masks: Masks,
        cache: &mut ShapeCache,
    ) -> Option<Arc<RowEncoder>> {
        let telling = |mask: Mask| self.admission.that_tell(mask, op);
        let shows = |mask: Mask| {
            let visible = self.admission.visible(mask);
            let mut read = self.predicate.iter();
            (mask != 0 && read.all(|name| visible.has(name))).then_some(visible)
        };
        let (row, old) = match op {
            Operation::Insert => (shows(telling(masks.after))?, Visible::only([])),
            Operation::Update => (
                shows(telling(masks.after))?,
                shows(telling(masks.before)).unwrap_or(Visible::only([])),
            ),
            Operation::Delete => {
                let old = shows(telling(masks.before))?;
                (old.clone(), old)
            }
            Operation::Truncate | Operation::Failure => (Visible::All, Visible::only([])),
        };
        cache.of_rows(&self.key, row, old, relation)
    }
}
