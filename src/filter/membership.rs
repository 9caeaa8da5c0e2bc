//! [`membership()`]: the meaning of a change for a query's result (docs/protocol.md, "A change" and "Unknown
//! membership").

use super::matcher::{Matcher, Verdict};
use super::row::Row;
use crate::event::{OldTuple, Op, Ops, Relation, Tuple, Value};

/// The effect on a query's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The row came into it.
    Insert,
    /// The row stays in it, with new values.
    Update,
    /// The row left it.
    Delete,
    /// It was emptied.
    Truncate,
    /// The predicate fails for a row, as the SELECT would: there is no result any more.
    Failure,
}

impl Operation {
    /// True if it is among operations that somebody hears of. Of a failure everybody does.
    pub fn is_in(self, ops: Ops) -> bool {
        match self {
            Operation::Insert => ops.insert,
            Operation::Update => ops.update,
            Operation::Delete => ops.delete,
            Operation::Truncate => ops.truncate,
            Operation::Failure => true,
        }
    }

    /// Its name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
            Operation::Failure => "failure",
        }
    }
}

/// The extent to which the log decides what a change means for a query's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Altogether. (That the row may have been in the result before does not count where it is now: a client that holds
    /// rows by their keys does the same in both cases.)
    Decided,
    /// The row is not in the result now, and may have been before.
    MayHaveBeen,
    /// The row may be in the result now.
    MayBe {
        /// It is if it was before: nothing that the predicate reads has changed.
        as_before: bool,
    },
}

/// The meaning of a change for a query's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultChange {
    /// The effect on the result.
    pub op: Operation,
    /// True if an UPDATE moved the row into the result or out of it.
    pub by_update: bool,
    /// The extent to which the log decides that.
    pub decision: Decision,
}

impl ResultChange {
    /// The meaning of a table's truncation for every result.
    pub(super) const TRUNCATE: ResultChange = ResultChange {
        op: Operation::Truncate,
        by_update: false,
        decision: Decision::Decided,
    };

    /// The meaning for a result of a predicate that fails for a row.
    pub(super) const FAILURE: ResultChange = ResultChange {
        op: Operation::Failure,
        by_update: false,
        decision: Decision::Decided,
    };

    /// The meaning of an operation other than an update for a result, by whether its row is in it.
    pub(super) fn of_one(op: Operation, verdict: Verdict) -> Option<ResultChange> {
        let decision = match (verdict, op) {
            (Verdict::DoesNot, _) | (Verdict::Fails, Operation::Delete) => return None,
            (Verdict::Fails | Verdict::Unclear, _) => return Some(ResultChange::FAILURE),
            (Verdict::Matches, _) => Decision::Decided,
            (Verdict::Undecided, Operation::Delete) => Decision::MayHaveBeen,
            (Verdict::Undecided, _) => Decision::MayBe { as_before: false },
        };
        Some(ResultChange {
            op,
            by_update: false,
            decision,
        })
    }

    /// The meaning of an update for a result, by whether the row was in it before and is after. `is_same` tells whether
    /// nothing that decides has changed.
    pub(super) fn of_update(
        before: Verdict,
        after: Verdict,
        is_same: impl FnOnce() -> bool,
    ) -> Option<ResultChange> {
        use Verdict::{DoesNot, Fails, Matches, Unclear, Undecided};
        let (op, decision) = match (before.of_old(), after) {
            (Unclear | Fails, _) | (_, Unclear | Fails) => return Some(ResultChange::FAILURE),
            (DoesNot, DoesNot) => return None,
            (DoesNot, Matches) => (Operation::Insert, Decision::Decided),
            (_, Matches) => (Operation::Update, Decision::Decided),
            (Matches, DoesNot) => (Operation::Delete, Decision::Decided),
            (Undecided, DoesNot) => (Operation::Delete, Decision::MayHaveBeen),
            (DoesNot, Undecided) => (Operation::Insert, Decision::MayBe { as_before: false }),
            (Matches, Undecided) => (Operation::Update, Decision::MayBe { as_before: false }),
            (Undecided, Undecided) => {
                let as_before = is_same();
                (Operation::Update, Decision::MayBe { as_before })
            }
        };
        Some(ResultChange {
            op,
            by_update: op != Operation::Update,
            decision,
        })
    }

    /// True if clients are told the same of it.
    pub fn is_told_as(&self, other: &ResultChange) -> bool {
        let told = |membership: &ResultChange| {
            let decision = Some(membership.decision).filter(|decision| *decision != Decision::MayHaveBeen);
            (
                membership.op,
                membership.by_update,
                decision.unwrap_or(Decision::Decided),
            )
        };
        told(self) == told(other)
    }

    /// True if an update may have taken the row out of the result.
    pub fn may_have_left(&self) -> bool {
        self.by_update && self.decision == Decision::MayHaveBeen
    }
}

/// The meaning of the change for the matcher's result; `None` if it certainly does not concern it.
///
/// The answer misses nothing where the log does not tell, and says so: a row that may be in the result comes into it
/// or stays in it, and one that is not in it now and may have been before leaves it.
///
/// A new row for which the predicate fails ends the result. An old one was not in it: a result that it could have been
/// in would have ended.
pub fn membership(matcher: &Matcher, relation: &Relation, op: &Op<'_>) -> Option<ResultChange> {
    match verdicts(matcher, relation, op) {
        (None, None) => Some(ResultChange::TRUNCATE),
        (None, Some(after)) => ResultChange::of_one(Operation::Insert, after),
        (Some(before), None) => ResultChange::of_one(Operation::Delete, before),
        (Some(before), Some(after)) => ResultChange::of_update(before, after, || {
            let mut columns = matcher.columns().iter();
            match *op {
                Op::Update { old, new } => columns.all(|&column| is_same(relation, old, new, column)),
                _ => false,
            }
        }),
    }
}

/// The verdicts on a row before a change and after it; `None` where there is no such row.
pub fn verdicts(matcher: &Matcher, relation: &Relation, op: &Op<'_>) -> (Option<Verdict>, Option<Verdict>) {
    match *op {
        Op::Insert { new } => (None, Some(matcher.eval(&Row::new(new)))),
        Op::Update { old, new } => {
            let (before, after) = versions(relation, old, new);
            (Some(matcher.eval(&before)), Some(matcher.eval(&after)))
        }
        Op::Delete { old } => (Some(matcher.eval(&old_row(old, relation))), None),
        Op::Truncate => (None, None),
    }
}

/// An updated row before and after.
pub(super) fn versions<'a>(
    relation: &'a Relation,
    old: Option<OldTuple<'a>>,
    new: Tuple<'a>,
) -> (Row<'a>, Row<'a>) {
    match old {
        Some(old) => (old_row(old, relation), Row::updated(new, old.tuple())),
        None => (Row::before_update(new, relation), Row::new(new)),
    }
}

/// The part that the log tells of a row that was there before.
pub(super) fn old_row<'a>(old: OldTuple<'a>, relation: &'a Relation) -> Row<'a> {
    match old {
        OldTuple::Full(tuple) => Row::old(tuple),
        OldTuple::Key(tuple) => Row::identity(tuple, relation),
    }
}

/// True if an update certainly left a column as it was: its value was not logged again, or is the same as the old one.
/// (Of a row that was [too large](crate::event::RowChange::oversize) to be kept this is not known.)
pub(super) fn is_same(relation: &Relation, old: Option<OldTuple<'_>>, new: Tuple<'_>, column: usize) -> bool {
    let after = new.get(column);
    if after == Some(Value::Unchanged) {
        return true;
    }
    let is_identity = relation.columns.get(column).is_some_and(|column| column.identity);
    match old {
        Some(OldTuple::Full(old)) => old.get(column) == after,
        Some(OldTuple::Key(old)) => is_identity && old.get(column) == after,
        // Without an old tuple the identity is the same, but under `FULL` there is always one.
        None => is_identity && !relation.is_full(),
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
