//! Hints for operands whose types do not go together.

use super::term::Term;
use crate::types::Kind;

/// The hint for two operands that do not compare, each with the kind that it is compared as: before or behind ANY an
/// array is compared as its elements.
pub(super) fn of_types(
    left: &Term<'_>,
    left_kind: &Kind,
    right: &Term<'_>,
    right_kind: &Kind,
) -> &'static str {
    const TEXT_AS_NUMBER: &str = ": to compare a text as a number cast it, (…)::numeric";
    let is_number = |kind: &Kind| {
        matches!(
            kind,
            Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Numeric | Kind::Float4 | Kind::Float8
        )
    };
    let is_time = |kind: &Kind| matches!(kind, Kind::Date | Kind::Timestamp | Kind::TimestampTz);
    // The elements of an array cannot be cast where they are compared.
    let is_castable = |term: &Term<'_>| !matches!(term.kind(), Some(Kind::Array(_)));
    match (left_kind, right_kind) {
        (time, number) | (number, time) if is_time(time) && is_number(number) => {
            ": a date is written in single quotes, '2024-01-31'"
        }
        (Kind::Text, number) if is_number(number) && is_castable(left) => TEXT_AS_NUMBER,
        (number, Kind::Text) if is_number(number) && is_castable(right) => TEXT_AS_NUMBER,
        (Kind::Array(_), Kind::Text) | (Kind::Text, Kind::Array(_)) => {
            ": whether an array has an element is asked by 'x' = ANY (array)"
        }
        _ => "",
    }
}

/// The hint for `ANY (ARRAY['a', 'b'])` of what is no text.
pub(super) fn of_texts(left: &Term<'_>) -> String {
    format!(
        "values of type {} and text cannot be compared: ARRAY['a', 'b'] is a text[]; '{{a,b}}' takes the type of what it \
         is compared with",
        left.type_name()
    )
}
