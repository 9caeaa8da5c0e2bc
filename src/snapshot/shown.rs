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
    /// What a query's client sees of rows of `relation`, which has the columns that are read.
    ///
    /// # Errors
    /// The query does not fit it.
    pub(super) fn new(query: &Query, relation: &Relation) -> Result<Shown, Error> {
        let key = query.key();
        let judge = match key.admission {
            Some(_) => Some(query.select(relation).map_err(Error::Predicate)?),
            None => None,
        };
        let visible: Vec<usize> = key.view(relation).columns().map(|(index, _)| index).collect();
        let is_sent = |index: &usize| {
            let column = relation.columns.get(*index);
            let is_listed = |name: &str| {
                key.columns
                    .as_ref()
                    .is_none_or(|list| list.iter().any(|listed| listed == name))
            };
            let is_key = |name: &String| key.row_key.as_ref().is_some_and(|row_key| row_key.contains(name));
            column.is_some_and(|column| is_listed(&column.name) || is_key(&column.name))
        };
        Ok(Shown {
            sent: visible.into_iter().filter(is_sent).collect(),
            numbers: key.numbers,
            relation: relation.clone(),
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
                judge
                    .admission()?
                    .masks(&self.relation, &Op::Insert { new: tuple })
                    .after
            }
        };
        if !self.projections.contains_key(&mask) {
            let made = self.make(mask);
            self.projections.insert(mask, made);
        }
        self.projections.get(&mask)?.as_ref()
    }

    fn make(&self, mask: Mask) -> Option<Projection> {
        let mut columns = self.sent.clone();
        if let Some(judge) = &self.judge {
            let admission = judge.admission()?;
            let telling = admission.that_tell(mask, Operation::Insert);
            let visible = admission.visible(telling);
            let shows = |index: &usize| {
                let column = self.relation.columns.get(*index);
                column.is_some_and(|column| visible.has(&column.name))
            };
            if telling == 0 || !judge.predicate().columns().iter().all(shows) {
                return None;
            }
            columns.retain(shows);
        }
        Some(Projection::new(&self.relation, &columns, self.numbers))
    }
}
