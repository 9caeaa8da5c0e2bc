//! Equality and containment of two `jsonb` values, from their text in the one way of printing it.

use super::json_error::JsonError;
use super::json_read::{Child, Children, Shape, number, split_string, split_value, without_blanks};
use super::{Decimal, Malformed, Work};

/// True if two values are the same: token by token, so that nothing is read twice.
pub(super) fn is_equal(mut left: &[u8], mut right: &[u8]) -> Result<bool, Malformed> {
    loop {
        left = without_blanks(left);
        right = without_blanks(right);
        let (Some(first), Some(other)) = (left.first(), right.first()) else {
            return Ok(left.is_empty() && right.is_empty());
        };
        let is_same = match (first, other) {
            (b'"', b'"') => {
                let (string, rest) = split_string(left).ok_or(Malformed)?;
                let (other, other_rest) = split_string(right).ok_or(Malformed)?;
                left = rest;
                right = other_rest;
                string == other
            }
            (b'{' | b'}' | b'[' | b']' | b',' | b':', other) => {
                left = left.get(1..).unwrap_or_default();
                right = right.get(1..).unwrap_or_default();
                first == other
            }
            _ => {
                let (Some(_), Some(shape)) = (Shape::of(left), Shape::of(right)) else {
                    return Ok(false);
                };
                if shape.is_container() || shape == Shape::String {
                    return Ok(false);
                }
                let (scalar, rest) = split_value(left).ok_or(Malformed)?;
                let (other, other_rest) = split_value(right).ok_or(Malformed)?;
                left = rest;
                right = other_rest;
                is_equal_scalar(scalar, other)?
            }
        };
        if !is_same {
            return Ok(false);
        }
    }
}

/// True if two scalars are the same.
pub(super) fn is_equal_scalar(left: &[u8], right: &[u8]) -> Result<bool, Malformed> {
    Ok(left == right || Scalar::of(left)? == Scalar::of(right)?)
}

/// A scalar; the order of scalars means nothing, but equal ones are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scalar<'a> {
    /// All others are as they are written.
    Written(&'a [u8]),
    Number(Decimal<'a>),
}

impl<'a> Scalar<'a> {
    fn of(text: &'a [u8]) -> Result<Scalar<'a>, Malformed> {
        match Shape::of(text).ok_or(Malformed)? {
            Shape::Number => Ok(Scalar::Number(number(text).ok_or(Malformed)?)),
            _ => Ok(Scalar::Written(text)),
        }
    }
}

/// True if the scalar is an element of the array.
pub(super) fn has_scalar(array: &[u8], scalar: &[u8], shape: Shape) -> Result<bool, JsonError> {
    any(Children::of(array), |child| {
        Ok(Shape::of(child.value) == Some(shape) && is_equal_scalar(child.value, scalar)?)
    })
}

/// True if a container contains another (`JsonbDeepContains`).
pub(super) fn contains(value: &[u8], other: &[u8], depth: usize, work: &Work) -> Result<bool, JsonError> {
    let depth = depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
    match (Shape::of(value), Shape::of(other)) {
        (Some(Shape::Object), Some(Shape::Object)) => contains_members(value, other, depth, work),
        (Some(Shape::Array), Some(Shape::Array)) => contains_elements(value, other, depth, work),
        _ => Ok(false),
    }
}

fn contains_members(value: &[u8], other: &[u8], depth: usize, work: &Work) -> Result<bool, JsonError> {
    let mut children = Children::of(value);
    for wanted in Children::of(other) {
        let wanted = wanted?;
        let wanted_shape = Shape::of(wanted.value).ok_or(Malformed)?;
        let before = children.left();
        // Both have their keys in the same order.
        let member = loop {
            match children.next().transpose()? {
                Some(child) if child.key == wanted.key => break child.value,
                Some(_) => {}
                None => {
                    work.spend(before)?;
                    return Ok(false);
                }
            }
        };
        work.spend(wanted.value.len() + before - children.left())?;
        let is_found = if wanted_shape.is_container() {
            contains(member, wanted.value, depth, work)?
        } else {
            is_equal_scalar(member, wanted.value)?
        };
        if !is_found {
            return Ok(false);
        }
    }
    Ok(true)
}

/// So few scalars are looked for one after the other.
const FEW: usize = 4;

fn contains_elements(value: &[u8], other: &[u8], depth: usize, work: &Work) -> Result<bool, JsonError> {
    let mut scalars = Vec::new();
    let mut containers = Vec::new();
    for wanted in Children::of(other) {
        let wanted = wanted?.value;
        match Shape::of(wanted).ok_or(Malformed)? {
            Shape::Object | Shape::Array => containers.push(wanted),
            _ => scalars.push(Scalar::of(wanted)?),
        }
    }
    work.spend(other.len())?;
    if !has_scalars(value, scalars, work)? {
        return Ok(false);
    }
    if containers.is_empty() {
        return Ok(true);
    }
    let mut held = Vec::new();
    for child in Children::of(value) {
        let child = child?.value;
        if Shape::of(child).is_some_and(Shape::is_container) {
            held.push(child);
        }
    }
    work.spend(value.len())?;
    for wanted in containers {
        let mut is_found = false;
        for child in held.iter().filter(|child| child.first() == wanted.first()) {
            work.spend(1)?;
            if contains(child, wanted, depth, work)? {
                is_found = true;
                break;
            }
        }
        if !is_found {
            return Ok(false);
        }
    }
    Ok(true)
}

/// True if all of the scalars are elements of the array.
fn has_scalars(array: &[u8], mut wanted: Vec<Scalar<'_>>, work: &Work) -> Result<bool, JsonError> {
    if wanted.len() <= FEW {
        for scalar in wanted {
            work.spend(array.len())?;
            let is_it = |text: &[u8]| Ok(!is_container(text) && Scalar::of(text)? == scalar);
            if !any(Children::of(array), |child| is_it(child.value))? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    wanted.sort_unstable();
    wanted.dedup();
    work.spend(array.len().saturating_mul(2))?;
    let mut is_found = vec![false; wanted.len()];
    let mut missing = wanted.len();
    for child in Children::of(array) {
        let child = child?.value;
        if is_container(child) {
            continue;
        }
        if let Ok(at) = wanted.binary_search(&Scalar::of(child)?)
            && let Some(is_found) = is_found.get_mut(at).filter(|is_found| !**is_found)
        {
            *is_found = true;
            missing -= 1;
            if missing == 0 {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_container(text: &[u8]) -> bool {
    Shape::of(text).is_some_and(Shape::is_container)
}

/// True if it holds for one of the values.
pub(super) fn any<'a>(
    children: Children<'a>,
    mut holds: impl FnMut(Child<'a>) -> Result<bool, JsonError>,
) -> Result<bool, JsonError> {
    for child in children {
        if holds(child?)? {
            return Ok(true);
        }
    }
    Ok(false)
}
