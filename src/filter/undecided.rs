//! [`Undecided`]: what the log may leave open of a query's result, and the words for it.

use super::matcher::Matcher;
use crate::event::Relation;

/// The columns because of which the log does not always tell whether a row is in a query's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided<'r> {
    relation: &'r Relation,
    /// Old rows do not have them.
    old: Vec<&'r str>,
    /// New rows may lack them too.
    new: Vec<&'r str>,
}

/// True if the log always tells if a row was in the result before a change, and if it is after: see [`Undecided::of`].
pub fn decides(matcher: &Matcher, relation: &Relation) -> bool {
    Undecided::of(matcher, relation).is_none()
}

impl<'r> Undecided<'r> {
    /// The part of the result that the log leaves open; `None` if it always tells: under `REPLICA IDENTITY FULL`, if
    /// the matcher reads only the identity's columns, or if there are none. In the last case Postgres lets no row be
    /// updated or deleted, or does not publish it, so that rows only ever come.
    pub fn of(matcher: &Matcher, relation: &'r Relation) -> Option<Undecided<'r>> {
        let columns = &relation.columns;
        if relation.tells_all() {
            return None;
        }
        let outside = |read: &[usize]| {
            let read = read.iter().filter_map(|&index| columns.get(index));
            let outside = read.filter(|column| !column.identity);
            outside.collect::<Vec<_>>()
        };
        let old = outside(matcher.columns());
        let new = outside(matcher.valued_columns());
        let names = |columns: Vec<&'r crate::event::Column>| {
            let names = columns.into_iter().map(|column| column.name.as_str());
            names.collect::<Vec<_>>()
        };
        let new: Vec<_> = new
            .into_iter()
            .filter(|column| column.may_be_left_out())
            .collect();
        (!old.is_empty()).then(|| Undecided {
            relation,
            old: names(old),
            new: names(new),
        })
    }

    /// The refusal of a subscription that must know, with the cure at its end.
    pub fn refusal(&self) -> String {
        format!(
            "the replica identity of {} does not hold {}: which rows leave the result by an update cannot be told \
             (\"undecided\" may be \"send\" or \"withhold\" instead); {}",
            self.relation.table,
            self.old.join(", "),
            self.fix()
        )
    }

    /// The warning for one that gets what is undecided, with the cure at its end.
    pub fn sent(&self) -> String {
        self.warning("an update whose new row does not match comes as a delete, also of rows that were not in the result")
    }

    /// The warning for one that does not, with the cure at its end.
    pub fn withheld(&self) -> String {
        self.warning("rows that leave the result by an update are not reported, and every delete is")
    }

    fn warning(&self, what: &str) -> String {
        let old = self.old.join(", ");
        let new = match self.new.as_slice() {
            [] => String::new(),
            new => format!(
                "; an update that leaves a long value of {} as it was comes with \"undecided\": true",
                new.join(", ")
            ),
        };
        format!(
            "the replica identity of {} does not hold {old}: {what}{new}; {}",
            self.relation.table,
            self.fix()
        )
    }

    fn fix(&self) -> String {
        format!("fix: {}", self.relation.cure(&self.old))
    }
}
