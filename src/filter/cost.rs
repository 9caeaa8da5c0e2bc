//! [`Cost`]: what a predicate takes of the server, by its look: memory, and work for each row that it is held against.
//!
//! The work is estimated for a row whose values have a thousand bytes each, in the units in which it is counted when
//! it is done ([`Work`](crate::types::Work)). Rows that are larger take more: that is counted when they come.

use super::Error;
use super::leaf::{ArraySide, DocumentOperator, DocumentSide, Item, Leaf, Test};
use super::matcher::{Matcher, Node, Source};
use super::scalar::{Part, Scalar, Step};
use crate::types::{Array, ArraySize, Datum, Jsonb};

/// The most bytes that a bound predicate may take: [`Cost::bytes`].
pub const MAX_BYTES: usize = 1024 * 1024;

/// The most work that a predicate may take for a row of ordinary values: [`Cost::work`].
pub const MAX_COST: u64 = 2_000_000;

/// The bytes of a value that the work is estimated for.
const VALUE: usize = 1_000;

/// An array of so many bytes.
const ARRAY: ArraySize = ArraySize {
    bytes: VALUE,
    elements: VALUE / 8,
};

/// The cost of a predicate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Work for a row that it is held against, in about nanoseconds.
    pub work: u64,
    /// Memory, in about bytes.
    pub bytes: usize,
}

impl std::ops::Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost {
            work: self.work.saturating_add(other.work),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), std::ops::Add::add)
    }
}

impl Matcher {
    /// The cost of holding a row against it, and of having it.
    pub fn cost(&self) -> Cost {
        self.node().cost()
    }

    /// The matcher, unless it takes too much.
    pub(super) fn within_limits(self) -> Result<Matcher, Error> {
        let Cost { work, bytes } = self.cost();
        if bytes > MAX_BYTES {
            return Err(Error::too_many_bytes(0));
        }
        if work > MAX_COST {
            let message = format!(
                "the predicate would take about {work} units of work for each row, and {MAX_COST} are allowed: use fewer \
                 conditions on long texts, documents and arrays"
            );
            return Err(Error::Limit {
                limit: "predicate_cost",
                message,
                offset: 0,
            });
        }
        Ok(self)
    }
}

impl Node {
    fn cost(&self) -> Cost {
        let own = Cost {
            work: NODE,
            bytes: size_of::<Node>(),
        };
        own + match self {
            Node::Constant(_) | Node::IsNull { .. } => Cost::default(),
            Node::Compare { left, right, .. } => left.cost() + bytes(right.bytes()),
            Node::Columns { left, right, .. } => left.cost() + right.cost(),
            Node::In { left, values, .. } => left.cost() + values_cost(values),
            Node::Leaf(leaf) => leaf.cost(),
            Node::Is { node, .. } | Node::Certain { node, .. } => node.cost(),
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().map(Node::cost).sum(),
        }
    }
}

/// The bytes of a part of a document besides its steps, and of its place among what an index reads of a row.
const PART: usize = size_of::<Part>() + 80;

/// The work of coming to a condition.
const NODE: u64 = 4;

fn work(units: usize) -> Cost {
    Cost {
        work: units as u64,
        bytes: 0,
    }
}

fn bytes(bytes: usize) -> Cost {
    Cost { work: 0, bytes }
}

impl Source {
    fn cost(self) -> Cost {
        match self.reading.bytes_at_once() {
            // What is no text is short.
            1 => work(VALUE / 32),
            at_once => work(VALUE / at_once),
        }
    }
}

impl Scalar {
    pub(super) fn cost(&self) -> Cost {
        match self {
            Scalar::Column(source) => source.cost(),
            Scalar::Part(part) => {
                let back = part.steps.iter().map(Step::counts_back).sum::<usize>();
                let steps = part.steps.iter().map(Step::bytes).sum::<usize>();
                work(VALUE * (1 + back)) + bytes(PART + steps)
            }
            Scalar::Computed(computed) => computed.cost(VALUE),
        }
    }
}

impl Leaf {
    /// The bytes that it takes, itself included.
    pub(super) fn bytes(&self) -> usize {
        self.cost().bytes
    }

    /// The number of values that an index may file it by.
    pub(super) fn values(&self) -> usize {
        match &self.test {
            Test::Compare { .. } => 1,
            Test::In { values, .. } => values.len(),
            Test::Label { among, .. } => among.len(),
            _ => 0,
        }
    }

    fn cost(&self) -> Cost {
        let test = match &self.test {
            Test::IsNull => Cost::default(),
            Test::Compare { right, .. } => bytes(right.bytes()),
            Test::With { right, .. } => right.cost(),
            Test::In { values, .. } => values_cost(values),
            Test::Like(pattern) => work(pattern.work(VALUE) as usize) + bytes(pattern.bytes()),
            Test::Label { among, known } => work(16) + labels_bytes(among) + labels_bytes(known),
            Test::Labels { right, labels, .. } => right.cost() + work(labels.len()) + labels_bytes(labels),
            Test::Any { item, .. } => {
                work(ARRAY.reading() as usize)
                    + match item {
                        Item::Null => Cost::default(),
                        Item::Constant(item) => bytes(item.bytes()),
                        Item::Value(item) => item.cost(),
                    }
            }
            Test::Array { right, .. } => match right {
                ArraySide::Constant(right) => work(ARRAY.reading() as usize) + bytes(array_bytes(right)),
                ArraySide::Set(right) => work(right.work(ARRAY) as usize) + bytes(right.bytes()),
                ArraySide::Column(_) => work(ARRAY.comparing(ARRAY) as usize),
            },
            Test::Document { operator, right } => match right {
                DocumentSide::Constant(right) => document_cost(*operator, right),
                // How often one nests in the other is up to the rows.
                DocumentSide::Value(right) => right.cost() + work(VALUE * 8),
            },
            Test::HasKey(key) => work(VALUE) + bytes(key.len()),
        };
        self.left.cost() + test + bytes(size_of::<Leaf>())
    }
}

fn document_cost(operator: DocumentOperator, right: &Jsonb) -> Cost {
    let nested = right.containers_in_arrays();
    let units = match operator {
        DocumentOperator::Equals => VALUE,
        // Each container in an array is looked for in each of the row's.
        DocumentOperator::Contains => VALUE.saturating_mul(3 + nested).saturating_add(right.len()),
        DocumentOperator::IsContained if nested == 0 => VALUE + 3 * right.len(),
        DocumentOperator::IsContained => (VALUE + right.len()).saturating_mul(3 + nested),
    };
    work(units) + bytes(right.len())
}

fn values_cost(values: &[Datum<'static>]) -> Cost {
    let depth = values.len().checked_ilog2().unwrap_or(0) as usize;
    let own: usize = values.iter().map(Datum::bytes).sum();
    work(8 * depth) + bytes(own + size_of_val(values))
}

fn labels_bytes(labels: &[Box<[u8]>]) -> Cost {
    let own: usize = labels.iter().map(|label| label.len()).sum();
    bytes(own + size_of_val(labels))
}

fn array_bytes(array: &Array) -> usize {
    let elements = array.elements();
    elements.iter().flatten().map(Datum::bytes).sum::<usize>() + size_of_val(elements)
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;
