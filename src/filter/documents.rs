//! Documents: the parts of `json` and `jsonb`, and what `jsonb` compares.

use std::sync::Arc;

use super::Error;
use super::ast::{Extraction, Operator};
use super::compare::{is_null, leaf};
use super::leaf::{DocumentOperator, DocumentSide, Test};
use super::matcher::{Comparison, Node};
use super::scalar::{Part, Step};
use super::term::{Place, Term, Typed};
use super::truth::Truth;
use crate::event::Collation;
use crate::types::{Datum, JsonForm, Kind, Path};

/// `of -> key` and its kin.
pub(super) fn part<'a>(of: Term<'a>, extraction: Extraction, key: Term<'_>) -> Result<Typed<'a>, Error> {
    let step = if extraction.by_path {
        path(key)
    } else {
        single(key)
    };
    let mut place = match of.typed {
        Typed::Place(place) => place,
        Typed::Document { value: None } => return step.map(|_| null_part(Kind::Jsonb, extraction)),
        Typed::Constant {
            kind: Kind::Json,
            value: None,
        } => return step.map(|_| null_part(Kind::Json, extraction)),
        _ => return Err(Error::unsupported("a part of what is no column", of.offset)),
    };
    let form = match place.kind {
        Kind::Json => JsonForm::Json,
        Kind::Jsonb => JsonForm::Jsonb,
        Kind::Hstore | Kind::Range(_) | Kind::Other => {
            let what = format!("a part of a value of type {}", place.type_name());
            return Err(Error::unsupported(what, of.offset));
        }
        _ => {
            let message = format!("a value of type {} has no parts", place.type_name());
            return Err(Error::ty(message, of.offset));
        }
    };
    if extraction.as_text {
        place.kind = Kind::Text;
        // What had no collation has the database's, whatever that is.
        place.collation = Collation::Deterministic;
    }
    let Some(step) = step? else {
        return Ok(null_part(place.kind, extraction));
    };
    if let Step::Path(path) = &step
        && !path.is_exact(form)
    {
        let what = "a path through json that counts from the end below the first level";
        return Err(Error::unsupported(what, of.offset));
    }
    let part = place.part.get_or_insert_with(|| {
        Arc::new(Part {
            column: place.index,
            form,
            steps: Vec::new(),
            as_text: false,
        })
    });
    let part = Arc::make_mut(part);
    part.steps.push(step);
    part.as_text = extraction.as_text;
    place.base = place.kind.clone();
    Ok(Typed::Place(place))
}

/// A part that is null, of a document of that type.
fn null_part<'a>(document: Kind, extraction: Extraction) -> Typed<'a> {
    match document {
        Kind::Jsonb if !extraction.as_text => Typed::Document { value: None },
        kind => Typed::Constant {
            kind: if extraction.as_text { Kind::Text } else { kind },
            value: None,
        },
    }
}

/// A key or an index; `None` is null.
fn single(mut key: Term<'_>) -> Result<Option<Step>, Error> {
    let offset = key.offset;
    key.close(&Kind::Text)?;
    match key.typed {
        Typed::Constant { value: None, .. } => Ok(None),
        Typed::Constant {
            kind: Kind::Text,
            value: Some(Datum::Text(key)),
        } => Ok(Some(Step::Field(String::from_utf8_lossy(&key).into()))),
        Typed::Constant {
            kind: Kind::Int2 | Kind::Int4,
            value: Some(Datum::Int(index)),
        } if let Ok(index) = i32::try_from(index) => Ok(Some(Step::Element(index))),
        Typed::Place(_) => Err(Error::unsupported("a key that is not a constant", offset)),
        _ => {
            let message = "a key is a text, and an index an integer";
            Err(Error::ty(message, offset))
        }
    }
}

/// A path; `None` is null, as is any path that holds a null.
fn path(mut path: Term<'_>) -> Result<Option<Step>, Error> {
    let offset = path.offset;
    let texts = Kind::Array(Box::new(Kind::Text));
    path.close(&texts)?;
    let array = match path.typed {
        Typed::Array { value: None, .. } => return Ok(None),
        Typed::Array {
            value: Some(array),
            kind,
            ..
        } if kind == texts => array,
        Typed::Place(_) => return Err(Error::unsupported("a path that is not a constant", offset)),
        _ => return Err(Error::ty("a path is an array of texts", offset)),
    };
    let mut keys = Vec::with_capacity(array.elements().len());
    for element in array.elements() {
        match element {
            Some(Datum::Text(key)) => keys.push(String::from_utf8_lossy(key)),
            _ => return Ok(None),
        }
    }
    match Path::new(keys.iter().map(|key| &**key)) {
        Some(path) => Ok(Some(Step::Path(path))),
        None => Err(Error::unsupported("a path of more than 100 steps", offset)),
    }
}

/// A comparison of two `jsonb`.
pub(super) fn compare_documents(
    left: Term<'_>,
    comparison: Comparison,
    right: Term<'_>,
) -> Result<Node, Error> {
    let offset = left.offset;
    let equal = |left, right| between(left, DocumentOperator::Equals, right);
    match comparison {
        Comparison::Equal => equal(left, right),
        Comparison::NotEqual => Ok(equal(left, right)?.negated()),
        Comparison::NotDistinct => {
            let nulls = Node::and(vec![is_null(&left, false), is_null(&right, false)]);
            Ok(Node::or(vec![
                Node::is(equal(left, right)?, Truth::True, false),
                nulls,
            ]))
        }
        Comparison::Distinct => Ok(compare_documents(left, Comparison::NotDistinct, right)?.negated()),
        _ => Err(Error::unsupported("ordering jsonb", offset)),
    }
}

/// `@>`, `<@` and `?` of a `jsonb`.
pub(super) fn operate(left: Term<'_>, operator: Operator, mut right: Term<'_>) -> Result<Node, Error> {
    let operator = match operator {
        Operator::Contains => DocumentOperator::Contains,
        Operator::IsContained => DocumentOperator::IsContained,
        Operator::Overlaps => return Err(Error::ty("jsonb has no operator &&", left.offset)),
        Operator::HasKey => {
            let place = place_of(left)?;
            let offset = right.offset;
            right.close(&Kind::Text)?;
            return match right.typed {
                Typed::Constant {
                    kind: Kind::Text,
                    value,
                } => Ok(match value {
                    Some(Datum::Text(key)) => {
                        let key = String::from_utf8_lossy(&key).into();
                        leaf(place.text(), Test::HasKey(key))
                    }
                    _ => Node::Constant(Truth::Null),
                }),
                Typed::Place(_) => Err(Error::unsupported("a key that is not a constant", offset)),
                _ => Err(Error::ty("the right side of ? is a text", offset)),
            };
        }
    };
    between(left, operator, right)
}

fn between(mut left: Term<'_>, operator: DocumentOperator, mut right: Term<'_>) -> Result<Node, Error> {
    left.close(&Kind::Jsonb)?;
    right.close(&Kind::Jsonb)?;
    if left.kind() != right.kind() {
        let message = format!(
            "values of type {} and {} cannot be compared: take a part of a document as text, data ->> 'key', and that as \
             a number, (data ->> 'key')::numeric",
            left.type_name(),
            right.type_name()
        );
        return Err(Error::ty(message, left.offset));
    }
    let (left, operator, right) = match (left.typed, right.typed) {
        (Typed::Place(place), right) => (place, operator, right),
        (left, Typed::Place(place)) => (place, operator.mirrored(), left),
        _ => {
            return Err(Error::unsupported(
                "an operator of jsonb without a column",
                left.offset,
            ));
        }
    };
    let right = match right {
        Typed::Place(place) => DocumentSide::Value(place.text()),
        Typed::Document { value: Some(value) } => DocumentSide::Constant(value),
        _ => return Ok(Node::Constant(Truth::Null)),
    };
    Ok(leaf(left.text(), Test::Document { operator, right }))
}

fn place_of(term: Term<'_>) -> Result<Place<'_>, Error> {
    let offset = term.offset;
    match term.typed {
        Typed::Place(place) if place.kind == Kind::Jsonb => Ok(place),
        _ => Err(Error::unsupported(
            "the operator ? on what is no jsonb of the table,",
            offset,
        )),
    }
}
