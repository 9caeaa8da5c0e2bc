//! Evaluates a bound expression over a row to the truth values that it may have.

use std::cmp::Ordering;

use super::look::Look;
use super::matcher::{Comparison, Node, Source};
use super::row::Cell;
use super::truth::{Possible, Truth};
use crate::types::{Datum, Exhausted, Failure};

/// The truth values that the expression may have for the row. What is not looked at any more, because there was too
/// much to do, may have any.
pub(super) fn eval(node: &Node, row: &Look<'_>) -> Possible {
    if row.spend(NODE).is_err() {
        return Possible::ANY;
    }
    match node {
        Node::Constant(truth) => (*truth).into(),
        Node::IsNull { column, negated } => {
            let is_null = match row.get(*column) {
                Cell::Null => Possible::TRUE,
                Cell::Text(_) | Cell::Unchanged => Possible::FALSE,
                Cell::Absent => Possible::KNOWN,
            };
            if *negated { is_null.not() } else { is_null }
        }
        Node::Compare {
            left,
            comparison,
            right,
        } => compare(&operand(*left, row), *comparison, &Operand::Is(right)),
        Node::Columns {
            left,
            comparison,
            right,
        } => compare(&operand(*left, row), *comparison, &operand(*right, row)),
        Node::In {
            left,
            values,
            or_null,
            negated,
        } => {
            let is_in = is_in(&operand(*left, row), values, *or_null);
            if *negated { is_in.not() } else { is_in }
        }
        Node::Leaf(leaf) => leaf.eval(row),
        Node::Is { node, truth, negated } => {
            let is = eval(node, row).is((*truth).into());
            if *negated { is.not() } else { is }
        }
        Node::Certain { node, negated } => {
            let is_certain = eval_condition(node, row).certain();
            if *negated { is_certain.not() } else { is_certain }
        }
        Node::And(nodes) => all(nodes, row),
        Node::Or(nodes) => any(nodes, row),
    }
}

/// The work of coming to an expression.
const NODE: usize = 4;

/// The truth values that it may have as a condition, where null is as good as false: neither selects the row. So what
/// is null decides a conjunction as what is false does, and nothing else of it is asked; Postgres does so too.
pub(super) fn eval_condition(node: &Node, row: &Look<'_>) -> Possible {
    match node {
        Node::And(nodes) => {
            let mut result = Possible::TRUE;
            for node in nodes {
                result = result.and(eval_condition(node, row));
                if result == Possible::FALSE {
                    break;
                }
            }
            result
        }
        Node::Or(nodes) => {
            let mut result = Possible::FALSE;
            for node in nodes {
                result = result.or(eval_condition(node, row));
                if result == Possible::TRUE {
                    break;
                }
            }
            result
        }
        node => eval(node, row).null_is_false(),
    }
}

fn all(nodes: &[Node], row: &Look<'_>) -> Possible {
    let mut result = Possible::TRUE;
    for node in nodes {
        result = result.and(eval(node, row));
        if result == Possible::FALSE {
            break;
        }
    }
    result
}

fn any(nodes: &[Node], row: &Look<'_>) -> Possible {
    let mut result = Possible::FALSE;
    for node in nodes {
        result = result.or(eval(node, row));
        if result == Possible::TRUE {
            break;
        }
    }
    result
}

/// Everything that is known of one side of a comparison.
pub(super) enum Operand<'a> {
    Null,
    Value(Datum<'a>),
    Is(&'a Datum<'static>),
    /// Some value, not null.
    Unknown,
    /// Not even whether it is null.
    Absent,
    /// None: Postgres fails to make it, or perhaps does.
    None(Failure),
}

impl Operand<'_> {
    pub(super) fn datum(&self) -> Option<&Datum<'_>> {
        match self {
            Operand::Value(datum) => Some(datum),
            Operand::Is(datum) => Some(datum),
            _ => None,
        }
    }
}

impl Operand<'_> {
    /// Its text, if it is one.
    pub(super) fn text(&self) -> Option<&[u8]> {
        match self.datum() {
            Some(Datum::Text(text)) => Some(text),
            _ => None,
        }
    }
}

impl From<Failure> for Possible {
    fn from(failure: Failure) -> Possible {
        match failure {
            Failure::Fails => Possible::FAILS,
            Failure::Unclear => Possible::UNCLEAR,
        }
    }
}

pub(super) fn operand<'a>(source: Source, row: &Look<'a>) -> Operand<'a> {
    match row.get(source.column) {
        Cell::Null => Operand::Null,
        Cell::Unchanged => Operand::Unknown,
        Cell::Absent => Operand::Absent,
        // A text that is not of its type is some value, but we cannot say which.
        Cell::Text(text) => match row.spend(text.len() / source.reading.bytes_at_once()) {
            Ok(()) => source.reading.read(text).map_or(Operand::Unknown, Operand::Value),
            Err(Exhausted) => Operand::Absent,
        },
    }
}

pub(super) fn compare(left: &Operand<'_>, comparison: Comparison, right: &Operand<'_>) -> Possible {
    if matches!(comparison, Comparison::Distinct | Comparison::NotDistinct) {
        let distinct = is_distinct(left, right);
        return if comparison == Comparison::Distinct {
            distinct
        } else {
            distinct.not()
        };
    }
    match (left, right) {
        (Operand::None(failure), _) | (_, Operand::None(failure)) => (*failure).into(),
        (Operand::Null, _) | (_, Operand::Null) => Possible::NULL,
        (Operand::Absent, _) | (_, Operand::Absent) => Possible::ANY,
        _ => match (left.datum(), right.datum()) {
            (Some(left), Some(right)) => Truth::from(holds(comparison, left.cmp(right))).into(),
            _ => Possible::KNOWN,
        },
    }
}

fn is_distinct(left: &Operand<'_>, right: &Operand<'_>) -> Possible {
    match (left, right) {
        (Operand::None(failure), _) | (_, Operand::None(failure)) => (*failure).into(),
        (Operand::Null, Operand::Null) => Possible::FALSE,
        (Operand::Absent, _) | (_, Operand::Absent) => Possible::KNOWN,
        (Operand::Null, _) | (_, Operand::Null) => Possible::TRUE,
        _ => match (left.datum(), right.datum()) {
            (Some(left), Some(right)) => Truth::from(left != right).into(),
            _ => Possible::KNOWN,
        },
    }
}

/// True if two values that are so ordered satisfy the comparison.
pub(super) fn holds(comparison: Comparison, ordering: Ordering) -> bool {
    match comparison {
        Comparison::Equal | Comparison::NotDistinct => ordering.is_eq(),
        Comparison::NotEqual | Comparison::Distinct => ordering.is_ne(),
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
    }
}

pub(super) fn is_in(left: &Operand<'_>, values: &[Datum<'static>], or_null: bool) -> Possible {
    let otherwise = if or_null { Possible::NULL } else { Possible::FALSE };
    match left {
        Operand::Null => Possible::NULL,
        Operand::None(failure) => (*failure).into(),
        Operand::Absent => Possible::TRUE.or_else(otherwise).or_else(Possible::NULL),
        left => match left.datum() {
            Some(left) if values.binary_search_by(|value| value.cmp(left)).is_ok() => Possible::TRUE,
            Some(_) => otherwise,
            None => Possible::TRUE.or_else(otherwise),
        },
    }
}
