//! [`Kept`]: the memory that a predicate keeps, as a tree of what was written and as what it is bound to.

use super::ast::{Expr, Operand, Value};
use super::leaf::Leaf;
use super::matcher::{Matcher, Node};
use super::parse::Predicate;
use crate::types::Datum;

/// The memory that a matcher keeps, in bytes of the heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The part that each copy of it has for itself.
    pub copied: usize,
    /// The part that its copies have in common.
    pub shared: usize,
    /// The number of values that an index may file it by.
    pub values: usize,
}

impl std::ops::Add for Kept {
    type Output = Kept;

    fn add(self, other: Kept) -> Kept {
        Kept {
            copied: self.copied + other.copied,
            shared: self.shared + other.shared,
            values: self.values + other.values,
        }
    }
}

impl std::iter::Sum for Kept {
    fn sum<I: Iterator<Item = Kept>>(all: I) -> Kept {
        all.fold(Kept::default(), std::ops::Add::add)
    }
}

/// The counters of what is shared.
const COUNTERS: usize = 16;

impl Matcher {
    /// The memory that it keeps besides itself.
    pub fn kept(&self) -> Kept {
        let lists = size_of_val(self.columns()) + size_of_val(self.valued_columns());
        Kept {
            copied: lists,
            ..Kept::default()
        } + self.node().kept()
    }
}

impl Node {
    fn kept(&self) -> Kept {
        let copied = |bytes| Kept {
            copied: bytes,
            ..Kept::default()
        };
        match self {
            Node::Constant(_) | Node::IsNull { .. } | Node::Columns { .. } => Kept::default(),
            Node::Compare { right, .. } => Kept {
                copied: right.bytes(),
                shared: 0,
                values: 1,
            },
            Node::In { values, .. } => Kept {
                copied: 0,
                shared: COUNTERS + size_of_val(&**values) + values.iter().map(Datum::bytes).sum::<usize>(),
                values: values.len(),
            },
            Node::Leaf(leaf) => leaf.kept(),
            Node::Is { node, .. } | Node::Certain { node, .. } => copied(size_of::<Node>()) + node.kept(),
            Node::And(nodes) | Node::Or(nodes) => {
                copied(size_of_val(&**nodes)) + nodes.iter().map(Node::kept).sum()
            }
        }
    }
}

impl Leaf {
    fn kept(&self) -> Kept {
        Kept {
            copied: 0,
            shared: COUNTERS + self.bytes(),
            values: self.values(),
        }
    }
}

/// The bytes that a JSON value keeps besides itself.
pub fn json_bytes(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Null | serde_json::Value::Bool(_) => 0,
        // The digits as they were written, at most.
        serde_json::Value::Number(_) => 0,
        serde_json::Value::String(text) => text.capacity(),
        serde_json::Value::Array(items) => list(items, json_bytes),
        serde_json::Value::Object(members) => {
            // A node of the tree has room for eleven members, and is half full at least.
            let nodes = members.len() / 6 + 1;
            let node = 11 * (size_of::<String>() + size_of::<serde_json::Value>()) + 16;
            let own = members
                .iter()
                .map(|(key, value)| key.capacity() + json_bytes(value));
            nodes * node + own.sum::<usize>()
        }
    }
}

impl Predicate {
    /// The bytes that it keeps besides itself.
    pub fn bytes(&self) -> usize {
        self.root.bytes()
    }
}

/// The bytes of a list, and of what its items keep.
fn list<T>(items: &Vec<T>, of_item: impl Fn(&T) -> usize) -> usize {
    items.capacity() * size_of::<T>() + items.iter().map(of_item).sum::<usize>()
}

/// The bytes of an item in a box.
fn boxed<T>(item: &T, of_item: impl Fn(&T) -> usize) -> usize {
    size_of::<T>() + of_item(item)
}

impl Expr {
    fn bytes(&self) -> usize {
        match self {
            Expr::And(exprs) | Expr::Or(exprs) => list(exprs, Expr::bytes),
            Expr::Not(expr) | Expr::Is { expr, .. } => boxed(&**expr, Expr::bytes),
            Expr::IsNull { operand, .. } | Expr::Operand(operand) => operand.bytes(),
            Expr::Compare { left, right, .. }
            | Expr::Operator { left, right, .. }
            | Expr::Any {
                left, array: right, ..
            } => left.bytes() + right.bytes(),
            Expr::In {
                left, list: items, ..
            } => left.bytes() + list(items, Operand::bytes),
            Expr::Between {
                operand, low, high, ..
            } => operand.bytes() + low.bytes() + high.bytes(),
            Expr::Like {
                operand,
                pattern,
                escape,
                ..
            } => {
                let escape = escape.as_ref().map_or(0, Operand::bytes);
                operand.bytes() + pattern.bytes() + escape
            }
        }
    }
}

impl Operand {
    fn bytes(&self) -> usize {
        match &self.value {
            Value::Column { qualifiers, name, .. } => name.capacity() + list(qualifiers, String::capacity),
            Value::Text(text) | Value::Number(text) | Value::Claim(text) => text.capacity(),
            Value::Bool(_) | Value::Null | Value::Parameter(_) | Value::Clock(_) => 0,
            Value::Cast { operand, .. } | Value::Negative(operand) | Value::Collate(operand) => {
                boxed(&**operand, Operand::bytes)
            }
            Value::Part {
                of: left, key: right, ..
            }
            | Value::Arithmetic { left, right, .. } => {
                boxed(&**left, Operand::bytes) + boxed(&**right, Operand::bytes)
            }
            Value::Function {
                arguments: operands, ..
            }
            | Value::Array(operands) => list(operands, Operand::bytes),
            // Only policies have them, which are kept once for all callers.
            Value::Session(value) => size_of_val(value),
        }
    }
}
