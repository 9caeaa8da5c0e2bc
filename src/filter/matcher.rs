//! [`Matcher`]: a predicate bound to a relation, ready to look at rows.

use std::sync::Arc;

use super::eval::eval_condition;
use super::leaf::Leaf;
use super::look::Look;
use super::row::Row;
use super::truth::{Possible, Truth};
use crate::types::{Datum, Reading, Work};

/// The verdict on whether a row is in a query's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Matches,
    /// It is not: the predicate is false or null.
    DoesNot,
    /// It depends on values that are not in the log.
    Undecided,
    /// Postgres raises an error for it.
    Fails,
    /// A value of it cannot be read here, though some server may read it.
    Unclear,
}

impl Verdict {
    /// The same of a row that is not there any more: one for which the predicate failed was in no result.
    pub(super) fn of_old(self) -> Verdict {
        match self {
            Verdict::Fails => Verdict::DoesNot,
            verdict => verdict,
        }
    }

    pub(super) fn of(possible: Possible) -> Verdict {
        if possible == Possible::TRUE {
            Verdict::Matches
        } else if possible.includes(Possible::UNCLEAR) {
            Verdict::Unclear
        } else if possible.includes(Possible::TRUE) {
            Verdict::Undecided
        } else if possible == Possible::FAILS {
            Verdict::Fails
        } else {
            Verdict::DoesNot
        }
    }
}

/// A predicate bound to one version of a relation and to its parameters.
///
/// It is in a canonical form: among matchers of one version of a relation, equal ones (and many that were only written
/// differently) match the same rows, so equal subscriptions can share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Matcher {
    node: Node,
    columns: Box<[usize]>,
    valued: Box<[usize]>,
}

impl Matcher {
    /// The matcher of a subscription without a predicate: every row matches.
    pub fn all() -> Matcher {
        Matcher::new(Node::Constant(Truth::True))
    }

    /// The matcher of nothing: no row matches.
    pub fn none() -> Matcher {
        Matcher::new(Node::Constant(Truth::False))
    }

    pub(super) fn new(node: Node) -> Matcher {
        let mut nulls = Vec::new();
        let mut valued = Vec::new();
        node.columns(&mut nulls, &mut valued);
        let mut columns = [nulls, valued.clone()].concat();
        for list in [&mut columns, &mut valued] {
            list.sort_unstable();
            list.dedup();
        }
        Matcher {
            node,
            columns: columns.into(),
            valued: valued.into(),
        }
    }

    /// The matcher of what is certainly in this one's result: where that cannot be told, the row is not.
    pub fn certain(&self) -> Matcher {
        Matcher::new(self.node.clone().certain())
    }

    /// The matcher of what is in the results of all.
    pub fn all_of(matchers: impl IntoIterator<Item = Matcher>) -> Matcher {
        Matcher::new(Node::and(
            matchers.into_iter().map(|matcher| matcher.node).collect(),
        ))
    }

    /// The matcher of what is in the result of any.
    pub fn any_of(matchers: impl IntoIterator<Item = Matcher>) -> Matcher {
        Matcher::new(Node::or(
            matchers.into_iter().map(|matcher| matcher.node).collect(),
        ))
    }

    /// True if no row is in the result, whatever it holds.
    pub fn is_empty(&self) -> bool {
        matches!(self.node, Node::Constant(Truth::False | Truth::Null))
    }

    /// True if the row is in the result. Allocates nothing but for letters that change and numbers that are converted.
    pub fn eval(&self, row: &Row<'_>) -> Verdict {
        Verdict::of(eval_condition(&self.node, &Look::new(*row, &Work::unlimited())))
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// The columns it reads, ascending.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Those of them of which it asks for more than whether they are null, ascending.
    pub fn valued_columns(&self) -> &[usize] {
        &self.valued
    }
}

/// The way in which two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `IS DISTINCT FROM`
    Distinct,
    /// `IS NOT DISTINCT FROM`
    NotDistinct,
}

impl Comparison {
    /// The comparison that holds where this one does not (nulls aside).
    pub(super) fn negated(self) -> Comparison {
        match self {
            Comparison::Equal => Comparison::NotEqual,
            Comparison::NotEqual => Comparison::Equal,
            Comparison::Less => Comparison::GreaterOrEqual,
            Comparison::LessOrEqual => Comparison::Greater,
            Comparison::Greater => Comparison::LessOrEqual,
            Comparison::GreaterOrEqual => Comparison::Less,
            Comparison::Distinct => Comparison::NotDistinct,
            Comparison::NotDistinct => Comparison::Distinct,
        }
    }

    /// The same comparison with its sides exchanged.
    pub(super) fn mirrored(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            symmetric => symmetric,
        }
    }

    /// True if it needs an order, not only equality.
    pub(super) fn orders(self) -> bool {
        use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
        matches!(self, Less | LessOrEqual | Greater | GreaterOrEqual)
    }
}

/// A column, and how its text is read for the comparison at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Source {
    pub(super) column: usize,
    pub(super) reading: Reading,
}

/// A bound expression. Negation is pushed down to the leaves; lists are flat, sorted and without duplicates. The order
/// of the variants is roughly that of their cost, and with it that of evaluation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Node {
    Constant(Truth),
    /// True if an expression is certainly true, else false: also where the log does not tell, and where the expression
    /// fails. Policies are such, and are asked first.
    Certain {
        node: Box<Node>,
        negated: bool,
    },
    /// `IS [NOT] NULL`
    IsNull {
        column: usize,
        negated: bool,
    },
    /// A column against a value.
    Compare {
        left: Source,
        comparison: Comparison,
        right: Datum<'static>,
    },
    /// A column against a column.
    Columns {
        left: Source,
        comparison: Comparison,
        right: Source,
    },
    /// `[NOT] IN`, of two values or more.
    In {
        left: Source,
        /// Sorted.
        values: Arc<[Datum<'static>]>,
        /// True if null is among the values too.
        or_null: bool,
        negated: bool,
    },
    /// Any other test of a value.
    Leaf(Arc<Leaf>),
    /// True if an expression has this truth value.
    Is {
        node: Box<Node>,
        truth: Truth,
        negated: bool,
    },
    And(Box<[Node]>),
    Or(Box<[Node]>),
}

impl Node {
    /// The conjunction of the nodes.
    pub(super) fn and(nodes: Vec<Node>) -> Node {
        Node::list(nodes, Truth::True)
    }

    /// The disjunction of the nodes.
    pub(super) fn or(nodes: Vec<Node>) -> Node {
        Node::list(nodes, Truth::False)
    }

    /// A conjunction (whose neutral value is true) or a disjunction (false).
    fn list(nodes: Vec<Node>, neutral: Truth) -> Node {
        let mut flat = Vec::with_capacity(nodes.len());
        for node in nodes {
            match (node, neutral) {
                (Node::And(inner), Truth::True) | (Node::Or(inner), Truth::False) => flat.extend(inner),
                (Node::Constant(truth), _) if truth == neutral => {}
                (Node::Constant(truth), _) if truth == neutral.not() => return Node::Constant(truth),
                (node, _) => flat.push(node),
            }
        }
        flat.sort_unstable();
        flat.dedup();
        match flat.len() {
            0 => Node::Constant(neutral),
            1 => flat.remove(0),
            _ if neutral == Truth::True => Node::And(flat.into()),
            _ => Node::Or(flat.into()),
        }
    }

    /// True if the expression has this truth value.
    pub(super) fn is(node: Node, truth: Truth, negated: bool) -> Node {
        match node {
            Node::Constant(constant) => Node::Constant(Truth::from((constant == truth) != negated)),
            node => Node::Is {
                node: Box::new(node),
                truth,
                negated,
            },
        }
    }

    /// True where the expression certainly is, else false.
    pub(super) fn certain(self) -> Node {
        match self {
            Node::Constant(truth) => Node::Constant(Truth::from(truth == Truth::True)),
            // A conjunction is certainly true where all of its parts are, and each of them is found by itself.
            Node::And(nodes) => Node::and(nodes.into_iter().map(Node::certain).collect()),
            node @ Node::Certain { .. } => node,
            node => Node::Certain {
                node: Box::new(node),
                negated: false,
            },
        }
    }

    /// The expression that is true where this one is false, and null where it is null.
    pub(super) fn negated(self) -> Node {
        match self {
            Node::Constant(truth) => Node::Constant(truth.not()),
            Node::IsNull { column, negated } => Node::IsNull {
                column,
                negated: !negated,
            },
            // The canonical form of `b <> true` is `b = false`.
            Node::Compare {
                left,
                comparison: Comparison::Equal,
                right: Datum::Bool(value),
            } => Node::truth_of(left, !value),
            Node::Compare {
                left,
                comparison,
                right,
            } => Node::Compare {
                left,
                comparison: comparison.negated(),
                right,
            },
            Node::Columns {
                left,
                comparison,
                right,
            } => Node::Columns {
                left,
                comparison: comparison.negated(),
                right,
            },
            Node::In {
                left,
                values,
                or_null,
                negated,
            } => Node::In {
                left,
                values,
                or_null,
                negated: !negated,
            },
            Node::Leaf(mut leaf) => {
                let negated = !leaf.negated;
                Arc::make_mut(&mut leaf).negated = negated;
                Node::Leaf(leaf)
            }
            Node::Is { node, truth, negated } => Node::Is {
                node,
                truth,
                negated: !negated,
            },
            Node::Certain { node, negated } => Node::Certain {
                node,
                negated: !negated,
            },
            Node::And(nodes) => Node::or(nodes.into_iter().map(Node::negated).collect()),
            Node::Or(nodes) => Node::and(nodes.into_iter().map(Node::negated).collect()),
        }
    }

    /// A boolean column, as what it is compared to.
    pub(super) fn truth_of(left: Source, value: bool) -> Node {
        Node::Compare {
            left,
            comparison: Comparison::Equal,
            right: Datum::Bool(value),
        }
    }

    /// The columns that are only tested for null, and those whose values are read.
    pub(super) fn columns(&self, nulls: &mut Vec<usize>, values: &mut Vec<usize>) {
        match self {
            Node::Constant(_) => {}
            Node::IsNull { column, .. } => nulls.push(*column),
            Node::Compare { left, .. } | Node::In { left, .. } => values.push(left.column),
            Node::Columns { left, right, .. } => values.extend([left.column, right.column]),
            Node::Leaf(leaf) => leaf.columns(values),
            Node::Is { node, .. } | Node::Certain { node, .. } => node.columns(nulls, values),
            Node::And(nodes) | Node::Or(nodes) => {
                nodes.iter().for_each(|node| node.columns(nulls, values));
            }
        }
    }
}
