//! [`Shown`]: the part of the rows that a query's client sees.

use std::collections::HashMap;

use super::Error;
use crate::event::{Op, Projection, Relation, Tuple};
use crate::filter::{Operation, Row, Verdict};
use crate::matching::{Query, Selection};
use crate::policy::Mask;
use crate::types::json::Numbers;

/// The columns of each row that its client sees.
///
/// With policies, each row is judged here too, whatever the server made of them, by the same code as the rows of the
/// stream.
pub(super) struct Shown {
    /// The relation of the rows that are read.
    relation: Relation,
    /// The indexes of the columns that are sent if all are visible.
    sent: Vec<usize>,
    numbers: Numbers,
    /// `None` without policies.
    judge: Option<Selection>,
    /// The projections, by the policies that admit a row; `None` if nothing of it is shown.
    projections: HashMap<Mask, Option<Projection>>,
}

impl Shown {
    /// The part that a query's client sees of rows of `relation`, which has the columns that are read. `sent` are the
    /// indexes of the columns that are sent if all are visible.
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

    /// The projection to the part of a row that the client sees; `None` if that is nothing.
    ///
    /// # Errors
    /// The client's predicate fails for a row that policies admit.
    pub(super) fn projection(&mut self, tuple: Tuple<'_>) -> Result<Option<&Projection>, Error> {
        let mask = match &self.judge {
            None => 0,
            Some(judge) => match judge.rows().eval(&Row::new(tuple)) {
                Verdict::Fails => return Err(Error::Fails),
                Verdict::Matches => {
                    let Some(admission) = judge.admission() else {
                        return Ok(None);
                    };
                    admission.masks(&self.relation, &Op::Insert { new: tuple }).after
                }
                _ => return Ok(None),
            },
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
        Ok(made.as_ref())
    }
}
