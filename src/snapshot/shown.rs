//! [`Shown`]: what a query's client sees of the rows that are read for it.

use std::collections::HashMap;

use super::Error;
use crate::event::{Op, Projection, Relation, Tuple};
use crate::filter::{Operation, Row, Verdict};
use crate::matching::{Query, Selection};
use crate::policy::Mask;
use crate::types::json::Numbers;

/// The columns of each row that its client sees.
///
/// Where there are policies, each row is judged here too, whatever the server made of them: it is where the stream's
/// rows are judged, by the same code.
pub(super) struct Shown {
    /// As the rows come.
    relation: Relation,
    /// Those that are sent of rows of which everything is visible.
    sent: Vec<usize>,
    numbers: Numbers,
    /// `None` where there are no policies.
    judge: Option<Selection>,
    /// By the policies that admit a row; `None` if nothing is shown of it.
    projections: HashMap<Mask, Option<Projection>>,
}

impl Shown {
    /// The columns that a query's client sees of rows of `relation`, which has the columns that are read. `sent` are
    /// the indexes of those that are sent of rows of which everything is visible.
    ///
    /// # Errors
    /// The query does not fit it.
    pub(super) fn new(query: &Query, relation: Relation, sent: Vec<usize>) -> Result<Shown, Error> {
        let key = query.key();
        let judge = match key.admission {
            Some(_) => Some(query.select(&relation).map_err(Error::Predicate)?),
            None => None,
        };
        Ok(Shown {
            relation,
            sent,
            numbers: key.numbers,
            judge,
            projections: HashMap::new(),
        })
    }

    /// The projection to what the client sees of a row; `None` if that is nothing.
    pub(super) fn projection(&mut self, tuple: Tuple<'_>) -> Option<&Projection> {
        let mask = match &self.judge {
            None => 0,
            Some(judge) if judge.rows().eval(&Row::new(tuple)) != Verdict::Matches => return None,
            Some(judge) => {
                let masks = judge
                    .admission()?
                    .masks(&self.relation, &Op::Insert { new: tuple });
                masks.after
            }
        };
        let Shown {
            relation,
            sent,
            numbers,
            judge,
            projections,
        } = self;
        let made = projections.entry(mask).or_insert_with(|| {
            let mut columns = sent.clone();
            if let Some(judge) = judge {
                let visible = judge.visible(relation, mask, Operation::Insert)?;
                columns.retain(|index| {
                    let column = relation.columns.get(*index);
                    column.is_some_and(|column| visible.has(&column.name))
                });
            }
            Some(Projection::new(relation, &columns, *numbers))
        });
        made.as_ref()
    }
}
