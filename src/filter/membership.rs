//! [`membership`]: what a change means for a query's result (docs/protocol.md, "A change" and "Unknown membership").

use super::matcher::{Matcher, Verdict};
use super::row::Row;
use crate::event::{OldTuple, Op, Relation, ReplicaIdentity, Tuple};

/// What happened to a query's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The row came into it.
    Insert,
    /// The row stays in it, with new values.
    Update,
    /// The row left it.
    Delete,
    /// It was emptied.
    Truncate,
}

impl Operation {
    /// Its name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
            Operation::Truncate => "truncate",
        }
    }
}

/// What a change means for a query's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// What happened to the result.
    pub op: Operation,
    /// Whether an UPDATE moved the row into the result or out of it.
    pub by_update: bool,
}

impl Membership {
    pub(super) fn of(op: Operation) -> Membership {
        Membership { op, by_update: false }
    }

    fn by_update(op: Operation) -> Membership {
        Membership { op, by_update: true }
    }

    /// What an update means for a result, by whether the row was in it before and is after.
    pub(super) fn of_update(before: Verdict, after: Verdict) -> Option<Membership> {
        match (after != Verdict::DoesNot, before) {
            (true, Verdict::DoesNot) => Some(Membership::by_update(Operation::Insert)),
            (true, _) => Some(Membership::of(Operation::Update)),
            (false, Verdict::Matches) => Some(Membership::by_update(Operation::Delete)),
            (false, _) => None,
        }
    }
}

/// What the change means for the matcher's result; `None` if it does not concern it.
///
/// Where the log does not tell, the answer is the one that misses nothing. A new row whose unlogged TOAST decides counts
/// as matching. An old row that may have matched makes a delete of a DELETE and an update of an UPDATE that matches now;
/// only an UPDATE that does not match now and may not have matched before is left out.
pub fn membership(matcher: &Matcher, relation: &Relation, op: &Op<'_>) -> Option<Membership> {
    match op {
        Op::Insert { new } => {
            let is_in = matcher.eval(&Row::new(*new)) != Verdict::DoesNot;
            is_in.then(|| Membership::of(Operation::Insert))
        }
        Op::Update { old, new } => {
            let (before, after) = versions(relation, *old, *new);
            Membership::of_update(matcher.eval(&before), matcher.eval(&after))
        }
        Op::Delete { old } => {
            let was_in = matcher.eval(&old_row(*old, relation)) != Verdict::DoesNot;
            was_in.then(|| Membership::of(Operation::Delete))
        }
        Op::Truncate => Some(Membership::of(Operation::Truncate)),
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

/// What the log tells of a row that was there before.
pub(super) fn old_row<'a>(old: OldTuple<'a>, relation: &'a Relation) -> Row<'a> {
    match old {
        OldTuple::Full(tuple) => Row::new(tuple),
        OldTuple::Key(tuple) => Row::identity(tuple, relation),
    }
}

/// Whether the log always tells if a row was in the result before a change: under `REPLICA IDENTITY FULL`, or if the
/// matcher reads only the identity's columns.
pub fn decides(matcher: &Matcher, relation: &Relation) -> bool {
    relation.replica_identity == ReplicaIdentity::Full || outside_identity(matcher, relation).next().is_none()
}

/// The names of the columns that the matcher reads and old rows may lack.
fn outside_identity<'a>(matcher: &'a Matcher, relation: &'a Relation) -> impl Iterator<Item = &'a str> {
    let columns = matcher
        .columns()
        .iter()
        .filter_map(|index| relation.columns.get(*index));
    columns
        .filter(|column| !column.identity)
        .map(|column| column.name.as_str())
}

/// The warning for a subscription whose membership the log cannot decide, with its cure; `None` if it can.
pub fn identity_warning(matcher: &Matcher, relation: &Relation) -> Option<String> {
    if decides(matcher, relation) {
        return None;
    }
    let columns: Vec<&str> = outside_identity(matcher, relation).collect();
    let (columns, table) = (columns.join(", "), &relation.table);
    Some(format!(
        "the replica identity of {table} does not hold {columns}: rows that leave the result by an update are not \
         reported, and every delete is; fix: ALTER TABLE {table} REPLICA IDENTITY FULL"
    ))
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
