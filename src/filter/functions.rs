//! Functions, arithmetic and `ARRAY[…]`: the types that Postgres gives them, and what they are of constants.

use super::Error;
use super::ast::Function;
use super::collations::check_deterministic;
use super::computed::{Argument, Arithmetic, Computed};
use super::temporal::is_temporal;
use super::term::{Place, Term, Typed};
use super::typing::{Domain, common_type};
use crate::event::{Collation, Relation};
use crate::types::{Array, CaseMap, Ctype, Datum, Failure, Kind, Simple};

/// A function of its arguments.
pub(super) fn call<'a>(
    relation: &Relation,
    function: Function,
    mut arguments: Vec<Term<'a>>,
    offset: usize,
) -> Result<Typed<'a>, Error> {
    match function {
        Function::Coalesce => coalesce(arguments, offset),
        // Of constants it was worked out before.
        Function::DateTrunc => Err(Error::unsupported("date_trunc of anything but constants", offset)),
        Function::Lower | Function::Upper => match (arguments.pop(), arguments.pop()) {
            (Some(of), None) => fold(relation, function, of),
            _ => {
                let message = format!("{} takes one argument", function.as_str());
                Err(Error::ty(message, offset))
            }
        },
    }
}

/// `lower` and `upper`
fn fold<'a>(relation: &Relation, function: Function, mut of: Term<'a>) -> Result<Typed<'a>, Error> {
    let offset = of.offset;
    of.close(&Kind::Text)?;
    let name = function.as_str();
    match of.typed {
        Typed::Place(mut place) => {
            if !matches!(place.kind, Kind::Text | Kind::Bpchar | Kind::Citext(_)) {
                let message = format!(
                    "the function {name} needs a text, not {}: cast it to text",
                    place.type_name()
                );
                return Err(Error::ty(message, offset));
            }
            check_deterministic(&place, name, offset)?;
            let Some(map) = CaseMap::of(&place.ctype) else {
                let what = format!(
                    "the function {name} of {:?}, whose collation folds letters in a way that is known to the server \
                     alone,",
                    place.column.name
                );
                return Err(Error::letters(&what, Some(&place.ctype), offset));
            };
            let of = place.characters();
            let computed = match function {
                Function::Upper => Computed::Upper(of, map),
                _ => Computed::Lower(of, map),
            };
            place.compute(computed, &Kind::Text);
            Ok(Typed::Place(place))
        }
        Typed::Constant {
            kind: Kind::Text,
            value,
        } => {
            let fold = |datum| match datum {
                Datum::Text(text) => {
                    let map = CaseMap::of(ctype_of_constants(relation)?)?;
                    let folded = match function {
                        Function::Upper => map.upper(&text),
                        _ => map.lower(&text),
                    };
                    Some(Datum::Text(folded?.into_owned().into()))
                }
                _ => None,
            };
            let value = match value {
                None => None,
                Some(datum) => Some(fold(datum).ok_or_else(|| {
                    let what = format!(
                        "the function {name} of a constant, where the database's letters are not known: write the value,"
                    );
                    Error::letters(&what, ctype_of_constants(relation), offset)
                })?),
            };
            Ok(Typed::Constant {
                kind: Kind::Text,
                value,
            })
        }
        _ => {
            let message = format!("the function {name} needs a text");
            Err(Error::ty(message, offset))
        }
    }
}

/// The way in which texts fold that no column gives a collation: as the database's do. The columns without a collation
/// of their own have its name; `None` if there is none.
fn ctype_of_constants(relation: &Relation) -> Option<&Ctype> {
    let mut columns = relation.columns.iter();
    let of_database = columns.find_map(|column| match (&column.ty.kind, column.collation) {
        (Kind::Citext(ctype), _) => Some(ctype),
        (_, Collation::None) => Some(&column.ctype),
        _ => None,
    });
    of_database.filter(|ctype| !ctype.is_unknown())
}

/// `coalesce`: its arguments get one type, as the members of a list do.
fn coalesce<'a>(mut arguments: Vec<Term<'a>>, offset: usize) -> Result<Typed<'a>, Error> {
    let Some(kind) = common_type(arguments.iter().filter_map(Term::kind)) else {
        let names: Vec<&str> = arguments.iter().map(Term::type_name).collect();
        let message = format!("COALESCE types {} cannot be matched", names.join(" and "));
        return Err(Error::ty(message, offset));
    };
    // Beside a literal or a null, a domain gives way to its base type.
    let has_open = arguments.iter().any(|term| term.kind().is_none());
    let kind = if has_open { kind.into_base() } else { kind };
    let is_compared = !matches!(kind, Kind::Citext(_) | Kind::Bpchar);
    let Some(domain) = Domain::of(&kind, &kind).filter(|_| is_compared) else {
        let what = format!("coalesce of values of type {}", kind.name());
        return Err(Error::unsupported(what, offset));
    };
    let mut first: Option<Place<'a>> = None;
    let mut kept: Vec<Argument> = Vec::new();
    for term in &mut arguments {
        term.cast(&kind)?;
        match &term.typed {
            Typed::Place(place) => {
                if let Some(first) = &first
                    && domain.is_text()
                    && (first.collation, &first.ctype) != (place.collation, &place.ctype)
                {
                    let what = "coalesce of texts of different collations";
                    return Err(Error::unsupported(what, term.offset));
                }
                kept.push(Argument::Value(place.scalar(domain)));
                first.get_or_insert_with(|| place.clone());
            }
            Typed::Constant { value: None, .. } => {}
            // Nothing behind it counts.
            Typed::Constant {
                value: Some(datum), ..
            } => {
                kept.push(Argument::Constant(datum.clone()));
                break;
            }
            _ => {
                let what = format!("coalesce of values of type {}", term.type_name());
                return Err(Error::unsupported(what, term.offset));
            }
        }
    }
    let Some(mut place) = first.filter(|_| !matches!(kept.as_slice(), [Argument::Constant(_), ..])) else {
        let value = kept.into_iter().find_map(|argument| match argument {
            Argument::Constant(datum) => Some(datum),
            Argument::Value(_) => None,
        });
        return Ok(Typed::Constant { kind, value });
    };
    place.compute(Computed::Coalesce(kept.into()), &kind);
    Ok(Typed::Place(place))
}

/// `left operator right`, of integers.
pub(super) fn arithmetic<'a>(
    mut left: Term<'a>,
    operator: Arithmetic,
    mut right: Term<'a>,
) -> Result<Typed<'a>, Error> {
    let offset = left.offset;
    // A literal has the type of the other side.
    if let (None, Some(kind)) | (Some(kind), None) = (left.kind().cloned(), right.kind().cloned()) {
        left.close(&kind)?;
        right.close(&kind)?;
    }
    let sides = [&left, &right].map(|term| term.kind().cloned());
    let [Some(left_kind), Some(right_kind)] = sides else {
        let message = format!("operator is not unique: unknown {} unknown", operator.as_str());
        return Err(Error::ty(message, offset));
    };
    let is_integer = |kind: &Kind| matches!(kind, Kind::Int2 | Kind::Int4 | Kind::Int8);
    let kind = common_type([&left_kind, &right_kind].into_iter());
    let (Some(kind), Some(of)) = (&kind, kind.as_ref().and_then(Simple::of)) else {
        return Err(not_of_integers(&left, operator, &right));
    };
    if !is_integer(&left_kind) || !is_integer(&right_kind) {
        return Err(not_of_integers(&left, operator, &right));
    }
    match (argument(&left)?, argument(&right)?) {
        (Some(Argument::Constant(Datum::Int(left))), Some(Argument::Constant(Datum::Int(right)))) => {
            let value = operator.apply(left, right, of).map_err(|failure| {
                let message = match (failure, right) {
                    (Failure::Fails, 0) if matches!(operator, Arithmetic::Divide | Arithmetic::Modulo) => {
                        "division by zero".to_owned()
                    }
                    _ => format!("{} out of range", kind.name()),
                };
                Error::ty(message, offset)
            })?;
            let kind = kind.clone();
            let value = Some(value);
            Ok(Typed::Constant { kind, value })
        }
        (Some(left_argument), Some(right_argument)) => {
            let place = [left, right].into_iter().find_map(|term| match term.typed {
                Typed::Place(place) => Some(place),
                _ => None,
            });
            let Some(mut place) = place else {
                return Err(Error::unsupported("arithmetic", offset));
            };
            let computed = Computed::Arithmetic {
                left: left_argument,
                operator,
                right: right_argument,
                of,
            };
            place.compute(computed, kind);
            Ok(Typed::Place(place))
        }
        _ => {
            // The server never asks a strict operator about a null, so nothing fails.
            let kind = kind.clone();
            let value = None;
            Ok(Typed::Constant { kind, value })
        }
    }
}

/// `-x`, which overflows where 0 - x does.
pub(super) fn negative(of: Term<'_>) -> Result<Typed<'_>, Error> {
    let offset = of.offset;
    match of.kind() {
        None => Err(Error::ty("operator is not unique: - unknown", offset)),
        Some(kind @ (Kind::Int2 | Kind::Int4 | Kind::Int8)) => {
            let zero = Term::constant(kind, Some(Datum::Int(0)), offset);
            arithmetic(zero, Arithmetic::Subtract, of)
        }
        Some(_) => {
            let what = format!(
                "the sign of a value of type {} (integers alone have it here)",
                of.type_name()
            );
            Err(Error::unsupported(what, offset))
        }
    }
}

/// An operand of arithmetic; `None` is null.
fn argument(term: &Term<'_>) -> Result<Option<Argument>, Error> {
    match &term.typed {
        Typed::Place(place) => Ok(Some(Argument::Value(place.scalar(Domain::Int)))),
        Typed::Constant { value, .. } => Ok(value.clone().map(Argument::Constant)),
        _ => Err(Error::unsupported("arithmetic", term.offset)),
    }
}

fn not_of_integers(left: &Term<'_>, operator: Arithmetic, right: &Term<'_>) -> Error {
    let is_of_times = [left, right]
        .iter()
        .any(|term| term.kind().is_some_and(is_temporal));
    let why = if is_of_times {
        "of dates and times constants alone have it here: keep the column by itself, as in at > now() - interval '1 day'"
    } else {
        "integers alone have it here"
    };
    let what = format!(
        "the operator {} on {} and {} ({why})",
        operator.as_str(),
        left.type_name(),
        right.type_name()
    );
    Error::unsupported(what, left.offset)
}

/// `ARRAY[…]` of constants: the elements have one type, that of a text if none has any.
pub(super) fn array<'a>(elements: Vec<Term<'a>>, offset: usize) -> Result<Typed<'a>, Error> {
    if elements.is_empty() {
        let message = "cannot determine the type of an empty array: write '{}'";
        return Err(Error::ty(message, offset));
    }
    let Some(element) = common_type(elements.iter().filter_map(Term::kind)) else {
        let names: Vec<&str> = elements.iter().map(Term::type_name).collect();
        let message = format!("ARRAY types {} cannot be matched", names.join(" and "));
        return Err(Error::ty(message, offset));
    };
    array_of(elements, &element, offset)
}

/// The same with elements of that type, as a cast asks for them.
pub(super) fn array_of<'a>(
    elements: Vec<Term<'a>>,
    element: &Kind,
    offset: usize,
) -> Result<Typed<'a>, Error> {
    let mut values = Vec::with_capacity(elements.len());
    for mut term in elements {
        term.cast(element)?;
        match term.typed {
            Typed::Constant { value, .. } => values.push(value),
            _ => {
                let what = "ARRAY[…] of anything but constants";
                return Err(Error::unsupported(what, term.offset));
            }
        }
    }
    let term = Term {
        offset,
        typed: Typed::Array {
            kind: Kind::Array(Box::new(element.clone())),
            declared: true,
            value: Some(Array::new(values)),
        },
    };
    term.check_array_size()?;
    Ok(term.typed)
}
