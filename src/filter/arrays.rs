//! Arrays: `= ANY (array)`, and the operators between arrays.

use super::Error;
use super::ast::Operator;
use super::collations::check_collation;
use super::compare::{check_domain, compare, domain, gather, is_null, leaf};
use super::leaf::{ArrayOperator, ArraySide, ElementsAs, Item, Test};
use super::matcher::{Comparison, Node};
use super::scalar::{Scalar, text_of};
use super::term::{NAMES, Term, Typed, VARCHARS};
use super::truth::Truth;
use super::type_hints;
use super::typing::Domain;
use crate::types::Kind;

/// `left comparison ANY (array)`
pub(super) fn any(mut left: Term<'_>, comparison: Comparison, array: Term<'_>) -> Result<Node, Error> {
    let element = match (array.kind(), left.kind()) {
        (Some(Kind::Array(element)), _) => element.as_ref().clone(),
        (Some(_), _) => {
            let message = format!("ANY needs an array, not {}", array.type_name());
            return Err(Error::ty(message, array.offset));
        }
        (None, Some(left)) => left.clone(),
        (None, None) => Kind::Text,
    };
    if !array.is_place() {
        return any_of_constant(&left, comparison, array, &element);
    }
    array.check_name(&left)?;
    left.close(&element)?;
    let left_kind = left.kind().cloned().unwrap_or_else(|| element.clone());
    check_domain(&array, &element)?;
    let domain = domain(&left, &left_kind, &array, &element)?;
    check_order(domain, comparison, left.offset)?;
    check_collation(&left, comparison, &array, domain)?;
    left.cast_constant(domain)?;
    let item = match left.typed {
        Typed::Place(place) => Item::Value(place.scalar(domain)),
        Typed::Constant {
            value: Some(value), ..
        } => Item::Constant(value),
        _ => Item::Null,
    };
    let Typed::Place(place) = array.typed else {
        return Ok(Node::Constant(Truth::Null));
    };
    let elements = ElementsAs {
        reading: domain.reading(&element),
        delimiter: element.delimiter(),
    };
    let left = Scalar::Column(text_of(place.index));
    Ok(leaf(
        left,
        Test::Any {
            item,
            comparison,
            elements,
        },
    ))
}

/// A list in other words.
fn any_of_constant(
    left: &Term<'_>,
    comparison: Comparison,
    mut array: Term<'_>,
    element: &Kind,
) -> Result<Node, Error> {
    let offset = array.offset;
    left.check_names_of_array(&array)?;
    array.close(&Kind::Array(Box::new(element.clone())))?;
    let Typed::Array {
        value: Some(array),
        declared,
        ..
    } = array.typed
    else {
        return Ok(computed_for_nothing(left, Truth::Null));
    };
    // The types are checked even where there is nothing to compare.
    let checked = compare(left.clone(), comparison, Term::constant(element, None, offset));
    checked.map_err(|error| match error {
        Error::Type { .. } if declared && *element == Kind::Text => {
            Error::ty(type_hints::of_texts(left), left.offset)
        }
        error => error,
    })?;
    if array.elements().is_empty() {
        return Ok(computed_for_nothing(left, Truth::False));
    }
    if array.elements().iter().all(Option::is_none) {
        return Ok(computed_for_nothing(left, Truth::Null));
    }
    let mut values = array.elements().to_vec();
    values.sort_unstable();
    values.dedup();
    let nodes = values.iter().map(|value| {
        let value = Term::constant(element, value.clone(), offset);
        compare(left.clone(), comparison, value)
    });
    let nodes: Vec<Node> = nodes.collect::<Result<_, _>>()?;
    let has_null = values.first() == Some(&None);
    let is_ordered = !matches!(element, Kind::Enum { .. });
    Ok(gather(match comparison {
        // What is less than one of them is less than the greatest.
        Comparison::Less | Comparison::LessOrEqual if is_ordered => ends(nodes, has_null, true),
        Comparison::Greater | Comparison::GreaterOrEqual if is_ordered => ends(nodes, has_null, false),
        Comparison::NotEqual => two_others(nodes),
        _ => nodes,
    }))
}

/// The truth, unless the term fails: Postgres computes it before it looks at the array.
fn computed_for_nothing(term: &Term<'_>, truth: Truth) -> Node {
    match &term.typed {
        Typed::Place(place) if place.computed.is_some() => {
            let never = Node::Is {
                node: Box::new(is_null(term, false)),
                truth: Truth::Null,
                negated: false,
            };
            Node::or(vec![never, Node::Constant(truth)])
        }
        _ => Node::Constant(truth),
    }
}

/// Of comparisons with values in their order, null being the first if it is there: those with null, and with the least
/// or the greatest.
fn ends(nodes: Vec<Node>, has_null: bool, greatest: bool) -> Vec<Node> {
    let values = nodes.len() - usize::from(has_null);
    let kept = if greatest {
        nodes.len().saturating_sub(1)
    } else {
        usize::from(has_null)
    };
    let nodes = nodes.into_iter().enumerate();
    let nodes = nodes.filter(|(at, _)| *at == kept && values > 0 || *at == 0 && has_null);
    nodes.map(|(_, node)| node).collect()
}

/// Of comparisons of one value with others: everything is unequal to one of two different values.
fn two_others(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.sort_unstable();
    nodes.dedup();
    let mut unequal = 0;
    nodes.retain(|node| {
        let is_constant = matches!(node, Node::Constant(_));
        unequal += usize::from(!is_constant);
        is_constant || unequal <= 2
    });
    nodes
}

/// A comparison of two arrays.
pub(super) fn compare_arrays(left: Term<'_>, comparison: Comparison, right: Term<'_>) -> Result<Node, Error> {
    let equal = |left, right| between(left, ArrayOperator::Compare(Comparison::Equal), right);
    let is_true = |node| Node::is(node, Truth::True, false);
    match comparison {
        Comparison::NotDistinct => {
            let nulls = Node::and(vec![is_null(&left, false), is_null(&right, false)]);
            Ok(Node::or(vec![is_true(equal(left, right)?), nulls]))
        }
        Comparison::Distinct => Ok(compare_arrays(left, Comparison::NotDistinct, right)?.negated()),
        comparison => between(left, ArrayOperator::Compare(comparison), right),
    }
}

/// `@>`, `<@` and `&&`.
pub(super) fn operate(left: Term<'_>, operator: Operator, right: Term<'_>) -> Result<Node, Error> {
    let kind = left.kind().or(right.kind());
    if !matches!(kind, Some(Kind::Array(_))) {
        let known = if left.kind().is_some() { &left } else { &right };
        let what = format!("the operator {} on {}", operator.as_str(), known.type_name());
        return Err(Error::unsupported(what, known.offset));
    }
    let operator = match operator {
        Operator::Contains => ArrayOperator::Contains,
        Operator::IsContained => ArrayOperator::IsContained,
        Operator::Overlaps => ArrayOperator::Overlaps,
        Operator::HasKey => return Err(Error::ty("arrays have no operator ?", left.offset)),
    };
    between(left, operator, right)
}

fn between(mut left: Term<'_>, operator: ArrayOperator, mut right: Term<'_>) -> Result<Node, Error> {
    let kind = left.kind().or(right.kind()).cloned();
    let Some(Kind::Array(element)) = &kind else {
        let message = format!(
            "values of type {} and {} cannot be compared: one of several values is asked for by IN ('a', 'b')",
            left.type_name(),
            right.array_name()
        );
        return Err(Error::ty(message, left.offset));
    };
    left.check_names_of_array(&right)?;
    right.check_names_of_array(&left)?;
    let array = Kind::Array(element.clone());
    left.close(&array)?;
    right.close(&array)?;
    let names = || format!("{} and {}", left.array_name(), right.array_name());
    if left.kind() != right.kind() || is_other_text(&left, &right) || is_other_text(&right, &left) {
        let message = format!(
            "arrays of types {} cannot be compared; an array that is written '{{…}}' has the type of the other",
            names()
        );
        return Err(Error::ty(message, left.offset));
    }
    if let (Typed::Place(left_place), Typed::Place(right_place)) = (&left.typed, &right.typed)
        && left_place.column.ty.oid != right_place.column.ty.oid
    {
        return Err(Error::unsupported(format!("comparing {}", names()), left.offset));
    }
    let domain = domain(&left, element, &right, element)?;
    let comparison = match operator {
        ArrayOperator::Compare(comparison) => comparison,
        _ => Comparison::Equal,
    };
    check_order(domain, comparison, left.offset)?;
    check_collation(&left, comparison, &right, domain)?;
    let (place, operator, right) = match (left.typed, right.typed) {
        (Typed::Place(place), right) => (place, operator, right),
        (left, Typed::Place(place)) => (place, operator.mirrored(), left),
        _ => {
            return Err(Error::unsupported(
                "an operator of arrays without a column",
                left.offset,
            ));
        }
    };
    let right = match right {
        Typed::Place(other) => ArraySide::Column(other.index),
        Typed::Array {
            value: Some(array), ..
        } => match operator {
            ArrayOperator::Compare(_) => ArraySide::Constant(array),
            _ => ArraySide::Set(array.into()),
        },
        _ => return Ok(Node::Constant(Truth::Null)),
    };
    let elements = ElementsAs {
        reading: domain.reading(element),
        delimiter: element.delimiter(),
    };
    let left = Scalar::Column(text_of(place.index));
    Ok(leaf(
        left,
        Test::Array {
            operator,
            right,
            elements,
        },
    ))
}

/// True if one is a column of `varchar[]` or `name[]`, and the other a `text[]` by its own word: their elements
/// compare, but not they.
fn is_other_text(one: &Term<'_>, other: &Term<'_>) -> bool {
    match (&one.typed, &other.typed) {
        (Typed::Place(place), Typed::Array { declared: true, .. }) => {
            matches!(place.column.ty.oid, VARCHARS | NAMES)
        }
        _ => false,
    }
}

/// The order of labels is not in their text.
fn check_order(domain: Domain, comparison: Comparison, offset: usize) -> Result<(), Error> {
    if domain == Domain::Enum && comparison.orders() {
        return Err(Error::unsupported("ordering labels in arrays", offset));
    }
    Ok(())
}
