//! Gaps that the log leaves in queries' results: their warnings, and [`Undecided`], which counts undecided changes that
//! were sent.

use super::key::QueryKey;
use crate::event::{Relation, TableName};
use crate::filter::{self, Decision, Matcher, ResultChange};
use crate::protocol;

impl QueryKey {
    /// The gaps that the log leaves in the result, as far as the requested operations depend on them. Where no updates
    /// are published, only one thing is undecided: a deleted row may not have been in the result.
    pub fn leaves_open<'r>(
        &self,
        matcher: &Matcher,
        relation: &'r Relation,
    ) -> Option<filter::Undecided<'r>> {
        let depends = self.ops.insert || self.ops.update || self.ops.delete;
        filter::Undecided::of(matcher, relation).filter(|_| depends && !relation.logging.leaves_out("update"))
    }

    /// The warnings of a subscription that was not refused: which undecided changes and which values it does not get,
    /// or gets nevertheless, with the cure.
    pub fn warnings(&self, matcher: &Matcher, relation: &Relation) -> Vec<String> {
        // Messages are only ever inserted, whole.
        if self.table.messages().is_some() {
            return Vec::new();
        }
        let mut warnings = self.left_open(matcher, relation);
        warnings.extend(self.left_out(matcher, relation));
        warnings
    }

    /// The warning that a row which enters the result by an update may lack values, which the client cannot know from
    /// before.
    fn left_out(&self, matcher: &Matcher, relation: &Relation) -> Option<String> {
        let comes_by_update = (self.ops.insert || self.ops.update)
            && !matcher.columns().is_empty()
            && !relation.is_full()
            && !relation.logging.leaves_out("update");
        let sent = self.columns_of(relation).ok().filter(|_| comes_by_update)?;
        let columns = sent.iter().filter_map(|&index| relation.columns.get(index));
        let left_out = columns.filter(|column| !column.identity && column.may_be_left_out());
        let names: Vec<&str> = left_out.map(|column| column.name.as_str()).collect();
        // A client that is not told that a row left keeps its values, and takes them for current if the row comes back.
        let withheld =
            self.undecided == protocol::Undecided::Withhold && self.leaves_open(matcher, relation).is_some();
        let outdated = if withheld || !self.ops.delete {
            ", and what a client holds of them from before may be outdated"
        } else {
            ""
        };
        (!names.is_empty()).then(|| {
            format!(
                "a row that comes into the result by an update lacks long values that the update left as they were, of \
                 {}: it names them in \"unchanged\"{outdated}; fix: {}",
                names.join(", "),
                relation.cure(&names)
            )
        })
    }

    fn left_open(&self, matcher: &Matcher, relation: &Relation) -> Vec<String> {
        let Some(undecided) = self.leaves_open(matcher, relation) else {
            return Vec::new();
        };
        let mut warnings = vec![match self.undecided {
            protocol::Undecided::Withhold => undecided.withheld(),
            protocol::Undecided::Send | protocol::Undecided::Refuse => undecided.sent(),
        }];
        if self.ops.insert && !self.ops.update {
            warnings.push(
                "rows that come into the result by an update come as \"update\", which \"ops\" leaves out"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// Counts of changes for which the log does not decide whether they concern a query's result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undecided {
    /// Deletes of rows that may have left the result by an update.
    pub deletes: u64,
    /// Changes of rows that may be in the result now.
    pub changes: u64,
}

impl Undecided {
    /// Counts a change if it is undecided.
    pub(super) fn add(&mut self, result: ResultChange) {
        self.deletes += u64::from(result.may_have_left());
        self.changes += u64::from(matches!(result.decision, Decision::MayBe { .. }));
    }
}

/// Counts by table.
#[derive(Debug, Default)]
pub(super) struct UndecidedCounts(Vec<(TableName, Undecided)>);

impl UndecidedCounts {
    /// Adds `each` for so many members.
    pub(super) fn count(&mut self, table: &TableName, each: Undecided, members: u64) {
        let known = self.0.iter().position(|(known, _)| known == table);
        let place = known.unwrap_or(self.0.len());
        if known.is_none() {
            self.0.push((table.clone(), Undecided::default()));
        }
        if let Some((_, sum)) = self.0.get_mut(place) {
            sum.deletes += each.deletes * members;
            sum.changes += each.changes * members;
        }
    }

    /// Takes the counts since the last call.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (TableName, Undecided)> {
        std::mem::take(&mut self.0).into_iter()
    }
}
