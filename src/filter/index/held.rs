//! The computed values that predicates could be filed by.

use crate::filter::leaf::{self, Leaf};
use crate::filter::matcher::Node;
use crate::filter::scalar::Scalar;
use crate::filter::truth::Truth;
use crate::types::Datum;

/// Hands each computed value of an expression that it could be filed by to `each`, with whether it is true or false.
pub(super) fn held(node: &Node, each: &mut impl FnMut(&Scalar, bool)) {
    match node {
        Node::Leaf(leaf) => {
            if let Some((scalar, is_bool)) = held_by(leaf) {
                each(scalar, is_bool);
            }
        }
        Node::Is {
            node,
            truth: Truth::True,
            negated: false,
        }
        | Node::Certain { node, negated: false } => held(node, each),
        Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| held(node, each)),
        _ => {}
    }
}

/// The computed value that a test could be filed by, and whether it is true or false.
pub(super) fn held_by(leaf: &Leaf) -> Option<(&Scalar, bool)> {
    if let Scalar::Column(_) = leaf.left {
        return None;
    }
    match &leaf.test {
        leaf::Test::Compare { right, .. } => Some((&leaf.left, matches!(right, Datum::Bool(_)))),
        leaf::Test::In { .. } | leaf::Test::IsNull if !leaf.negated => Some((&leaf.left, false)),
        _ => None,
    }
}
