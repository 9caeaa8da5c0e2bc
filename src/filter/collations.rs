//! The limits that collations of texts set: comparing them by their bytes, and ordering them so.

use super::Error;
use super::matcher::Comparison;
use super::term::{Place, Term, Typed};
use super::typing::Domain;
use crate::event::{Collation, quote_identifier};

/// Refuses comparisons of text whose outcome the bytes do not tell.
pub(super) fn check_collation(
    left: &Term<'_>,
    comparison: Comparison,
    right: &Term<'_>,
    domain: Domain,
) -> Result<(), Error> {
    if !domain.is_text() {
        return Ok(());
    }
    let places = [left, right].into_iter().filter_map(|term| match &term.typed {
        Typed::Place(place) => Some((term.offset, place)),
        _ => None,
    });
    let places: Vec<(usize, &Place<'_>)> = places.collect();
    let any = !places.is_empty();
    let is_collated = places.iter().any(|(_, place)| place.is_collated);
    for (offset, place) in places.into_iter().filter(|_| !is_collated) {
        check_deterministic(place, "comparing", offset)?;
        if comparison.orders() && !place.collation.is_bytewise() {
            return Err(unordered(place, offset));
        }
    }
    if comparison.orders() && !any {
        return Err(Error::unsupported(
            "ordering text without a column of collation \"C\"",
            left.offset,
        ));
    }
    Ok(())
}

/// Refuses what is done to text of which the bytes do not tell what it equals.
pub(super) fn check_deterministic(place: &Place<'_>, doing: &str, offset: usize) -> Result<(), Error> {
    if place.collation == Collation::Nondeterministic {
        let name = &place.column.name;
        let message = format!(
            "{doing} {name:?}, whose collation is nondeterministic, is not supported in a predicate: with {} COLLATE \"C\" \
             its bytes count",
            written(place)
        );
        let question = None;
        return Err(Error::Collation {
            message,
            question,
            offset,
        });
    }
    Ok(())
}

/// The reason why texts are not ordered under a collation, and how they can be.
fn unordered(place: &Place<'_>, offset: usize) -> Error {
    let message = format!(
        "ordering {:?} is not supported in a predicate: the order of its collation is known to the server alone, unlike that \
         of \"C\", \"POSIX\", ucs_basic, pg_c_utf8, pg_unicode_fast and of C.UTF-8 on most systems; to order by code points \
         write {} COLLATE \"C\"",
        place.column.name,
        written(place)
    );
    let question = place.collation.collation_question();
    Error::Collation {
        message,
        question,
        offset,
    }
}

/// The operand that a `COLLATE` is written behind.
fn written(place: &Place<'_>) -> String {
    if place.is_whole() {
        quote_identifier(&place.column.name)
    } else {
        "(…)".to_owned()
    }
}
