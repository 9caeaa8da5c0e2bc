//! Comparisons: what two operands are compared as, and how that is written for the matcher.

use std::sync::Arc;

use super::Error;
use super::arrays::compare_arrays;
use super::collations::check_collation;
use super::documents::compare_documents;
use super::eval::holds;
use super::leaf::{Leaf, Test};
use super::matcher::{Comparison, Node};
use super::scalar::Scalar;
use super::term::{Term, Typed};
use super::truth::Truth;
use super::type_hints;
use super::typing::Domain;
use crate::types::{Datum, Kind, LiteralError};

pub(super) fn is_null(term: &Term<'_>, negated: bool) -> Node {
    match &term.typed {
        Typed::Place(place) => {
            let is_null = is_null_scalar(place.text());
            if negated { is_null.negated() } else { is_null }
        }
        Typed::Open(text) => Node::Constant(Truth::from(text.is_none() != negated)),
        Typed::OpenList(_) => Node::Constant(Truth::from(negated)),
        Typed::Constant { value, .. } => Node::Constant(Truth::from(value.is_none() != negated)),
        Typed::Array { value, .. } => Node::Constant(Truth::from(value.is_none() != negated)),
        Typed::Document { value } => Node::Constant(Truth::from(value.is_none() != negated)),
    }
}

/// A comparison of two operands.
pub(super) fn compare(
    mut left: Term<'_>,
    comparison: Comparison,
    mut right: Term<'_>,
) -> Result<Node, Error> {
    // `IS DISTINCT FROM NULL` needs no operator of the type.
    if let Comparison::Distinct | Comparison::NotDistinct = comparison
        && (left.is_open_null() || right.is_open_null())
    {
        let other = if left.is_open_null() { &right } else { &left };
        return Ok(is_null(other, comparison == Comparison::Distinct));
    }
    if let (Some(Kind::Array(_)), _) | (_, Some(Kind::Array(_))) = (left.kind(), right.kind()) {
        return compare_arrays(left, comparison, right);
    }
    if let (Some(Kind::Jsonb), _) | (_, Some(Kind::Jsonb)) = (left.kind(), right.kind()) {
        return compare_documents(left, comparison, right);
    }
    let left_kind = left.kind().or(right.kind()).cloned().unwrap_or(Kind::Text);
    let right_kind = right.kind().cloned().unwrap_or_else(|| left_kind.clone());
    check_domain(&left, &left_kind)?;
    check_domain(&right, &right_kind)?;
    if let Kind::Array(_) = left_kind {
        left.check_names_of_array(&right)?;
        right.check_names_of_array(&left)?;
    } else {
        left.check_name(&right)?;
        right.check_name(&left)?;
    }
    left.close(&left_kind)?;
    right.close(&right_kind)?;
    let domain = domain(&left, &left_kind, &right, &right_kind)?;
    check_collation(&left, comparison, &right, domain)?;
    left.cast_constant(domain)?;
    right.cast_constant(domain)?;
    let labels = match &left_kind {
        Kind::Enum { labels, .. } if comparison.orders() => Some(labels),
        _ => None,
    };
    Ok(match (left.typed, right.typed) {
        (Typed::Place(place), Typed::Place(other)) => match labels {
            Some(labels) => in_order_of(labels, place.scalar(domain), comparison, other.scalar(domain)),
            None => columns(place.scalar(domain), comparison, other.scalar(domain)),
        },
        (Typed::Place(place), Typed::Constant { value, .. }) => match labels {
            Some(labels) => label(labels, place.scalar(domain), comparison, value),
            None => column_and_value(place.scalar(domain), comparison, value),
        },
        (Typed::Constant { value, .. }, Typed::Place(place)) => match labels {
            Some(labels) => label(labels, place.scalar(domain), comparison.mirrored(), value),
            None => column_and_value(place.scalar(domain), comparison.mirrored(), value),
        },
        (Typed::Constant { value, .. }, Typed::Constant { value: other, .. }) => {
            Node::Constant(constants(value.as_ref(), comparison, other.as_ref()))
        }
        _ => Node::Constant(Truth::Null),
    })
}

/// Refuses a domain over an enumeration, which has no operators (SQLSTATE 42883).
pub(super) fn check_domain(term: &Term<'_>, kind: &Kind) -> Result<(), Error> {
    if !matches!(kind, Kind::Enum { is_domain: true, .. }) {
        return Ok(());
    }
    let message = format!(
        "values of type {} cannot be compared: a domain over an enumeration has no operators; compare its text, \
         (…)::text = 'label'",
        term.type_name()
    );
    Err(Error::ty(message, term.offset))
}

/// The domain in which the two are compared.
pub(super) fn domain(
    left: &Term<'_>,
    left_kind: &Kind,
    right: &Term<'_>,
    right_kind: &Kind,
) -> Result<Domain, Error> {
    Domain::of(left_kind, right_kind).ok_or_else(|| {
        let offset = left.offset.min(right.offset);
        let refused = [
            Kind::Text,
            Kind::Bpchar,
            Kind::Time,
            Kind::TimeTz,
            Kind::Interval,
            Kind::MacAddr,
            Kind::MacAddr8,
        ];
        let is_refused = |kind| {
            refused.contains(kind)
                || matches!(
                    kind,
                    Kind::Citext(_) | Kind::Range(_) | Kind::Other | Kind::Separated(_)
                )
        };
        if let (Kind::Citext(ctype), Kind::Citext(_)) = (left_kind, right_kind) {
            let source = LiteralError::Citext(ctype.clone());
            return Error::Literal { source, offset };
        }
        // Postgres may know how to compare them.
        if left_kind == right_kind || (is_refused(left_kind) && is_refused(right_kind)) {
            let what = format!("comparing {} with {}", left.type_name(), right.type_name());
            return Error::unsupported(what, offset);
        }
        let message = format!(
            "values of type {} and {} cannot be compared{}",
            left.type_name(),
            right.type_name(),
            type_hints::of_types(left, left_kind, right, right_kind)
        );
        Error::ty(message, offset)
    })
}

/// A label of an enumeration against one of its labels, by their declared order.
fn label(labels: &[String], left: Scalar, comparison: Comparison, right: Option<Datum<'static>>) -> Node {
    let Some(Datum::Text(right)) = right else {
        return Node::Constant(Truth::Null);
    };
    let rank = labels.iter().position(|label| label.as_bytes() == &*right);
    let mut among = Vec::new();
    let mut known = Vec::new();
    for (at, label) in labels.iter().enumerate() {
        let list = if holds(comparison, Some(at).cmp(&rank)) {
            &mut among
        } else {
            &mut known
        };
        list.push(Box::from(label.as_bytes()));
    }
    among.sort_unstable();
    known.sort_unstable();
    leaf(
        left,
        Test::Label {
            among: among.into(),
            known: known.into(),
        },
    )
}

/// Two labels of an enumeration, by their declared order.
fn in_order_of(labels: &[String], left: Scalar, comparison: Comparison, right: Scalar) -> Node {
    let labels = labels.iter().map(|label| Box::from(label.as_bytes())).collect();
    leaf(
        left,
        Test::Labels {
            comparison,
            right,
            labels,
        },
    )
}

pub(super) fn leaf(left: Scalar, test: Test) -> Node {
    Node::Leaf(Arc::new(Leaf {
        left,
        test,
        negated: false,
    }))
}

fn columns(left: Scalar, comparison: Comparison, right: Scalar) -> Node {
    // One canonical direction.
    if right < left {
        return columns(right, comparison.mirrored(), left);
    }
    match (left, right) {
        (Scalar::Column(left), Scalar::Column(right)) => Node::Columns {
            left,
            comparison,
            right,
        },
        (left, right) => leaf(left, Test::With { comparison, right }),
    }
}

fn is_null_scalar(scalar: Scalar) -> Node {
    match scalar {
        Scalar::Column(source) => Node::IsNull {
            column: source.column,
            negated: false,
        },
        part => leaf(part, Test::IsNull),
    }
}

fn column_and_value(left: Scalar, comparison: Comparison, value: Option<Datum<'static>>) -> Node {
    match (value, comparison, left) {
        (None, Comparison::Distinct, left) => is_null_scalar(left).negated(),
        (None, Comparison::NotDistinct, left) => is_null_scalar(left),
        (None, ..) => Node::Constant(Truth::Null),
        (Some(Datum::Bool(value)), Comparison::NotEqual, Scalar::Column(left)) => {
            Node::truth_of(left, !value)
        }
        (Some(right), _, Scalar::Column(left)) => Node::Compare {
            left,
            comparison,
            right,
        },
        (Some(right), _, left) => leaf(left, Test::Compare { comparison, right }),
    }
}

fn constants(left: Option<&Datum<'_>>, comparison: Comparison, right: Option<&Datum<'_>>) -> Truth {
    match (left, right, comparison) {
        (Some(left), Some(right), _) => Truth::from(holds(comparison, left.cmp(right))),
        (None, None, Comparison::NotDistinct) | (Some(_), None, Comparison::Distinct) => Truth::True,
        (None, Some(_), Comparison::Distinct) => Truth::True,
        (_, _, Comparison::Distinct | Comparison::NotDistinct) => Truth::False,
        _ => Truth::Null,
    }
}

/// A disjunction of equalities, those of the same value against constants as one list.
pub(super) fn gather(nodes: Vec<Node>) -> Node {
    let mut or_null = false;
    let mut list: Option<(Scalar, Vec<Datum<'static>>)> = None;
    let mut rest = Vec::new();
    for node in nodes {
        match equality(node) {
            Ok((left, right)) if list.as_ref().is_none_or(|(source, _)| *source == left) => {
                list.get_or_insert((left, Vec::new())).1.push(right);
            }
            Ok((left, right)) => rest.push(column_and_value(left, Comparison::Equal, Some(right))),
            Err(Node::Constant(Truth::Null)) => or_null = true,
            Err(other) => rest.push(other),
        }
    }
    if let Some((left, mut values)) = list {
        values.sort_unstable();
        values.dedup();
        if values.len() == 1 && !or_null {
            let value = values.pop();
            rest.push(column_and_value(left, Comparison::Equal, value));
        } else {
            rest.push(is_among(left, values.into(), or_null));
            or_null = false;
        }
    }
    if or_null {
        rest.push(Node::Constant(Truth::Null));
    }
    Node::or(rest)
}

/// The two sides of an equality, or the node if it is something else.
fn equality(node: Node) -> Result<(Scalar, Datum<'static>), Node> {
    match node {
        Node::Compare {
            left,
            comparison: Comparison::Equal,
            right,
        } => Ok((Scalar::Column(left), right)),
        Node::Leaf(leaf) => match Arc::unwrap_or_clone(leaf) {
            Leaf {
                left,
                test:
                    Test::Compare {
                        comparison: Comparison::Equal,
                        right,
                    },
                negated: false,
            } => Ok((left, right)),
            other => Err(Node::Leaf(Arc::new(other))),
        },
        other => Err(other),
    }
}

fn is_among(left: Scalar, values: Arc<[Datum<'static>]>, or_null: bool) -> Node {
    match left {
        Scalar::Column(left) => Node::In {
            left,
            values,
            or_null,
            negated: false,
        },
        part => leaf(part, Test::In { values, or_null }),
    }
}
