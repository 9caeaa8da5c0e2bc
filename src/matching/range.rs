//! Ranges of ordered rows, as predicates. Pure.
//!
//! The first rows of an order, live, are the rows up to the last of them: a predicate like any other once the values of
//! that last row, the bound, are known. So they are indexed, shared and kept exact as any other predicate is.

use std::fmt::Write as _;

use serde_json::Value;

use crate::protocol::{OrderBy, Subscribe, Wanted};

/// The predicate of a subscription, with the range that it asks for: its text and its parameters.
pub(super) fn predicate(subscribe: &Subscribe) -> (Option<String>, Vec<Value>) {
    let mut params = subscribe.params.clone();
    let Some(ordered) = &subscribe.order else {
        return (subscribe.predicate.clone(), params);
    };
    let range = match &ordered.wanted {
        Wanted::First(_) => comparable(&ordered.by),
        Wanted::Within(bound) => within(&ordered.by, bound, &mut params),
        Wanted::All => return (subscribe.predicate.clone(), params),
    };
    let text = match &subscribe.predicate {
        // On a line of its own, should the text end in a comment.
        Some(text) => format!("({text}\n) AND ({range})"),
        None => range,
    };
    (Some(text), params)
}

/// The place in the client's own text that a place in the whole one is, if it is in it.
pub fn place_in_own(subscribe: &Subscribe, offset: usize) -> Option<usize> {
    let is_wrapped = match &subscribe.order {
        None => false,
        Some(ordered) => ordered.wanted != Wanted::All,
    };
    if !is_wrapped {
        return Some(offset);
    }
    let text = subscribe.predicate.as_deref()?;
    offset.checked_sub(1).filter(|offset| *offset <= text.len())
}

/// Holds for every row, and only where the columns can be ordered exactly.
fn comparable(order: &[OrderBy]) -> String {
    let columns = order.iter().map(|by| {
        let column = quoted(&by.column);
        format!("({column} <= {column} OR {column} IS NULL)")
    });
    columns.collect::<Vec<_>>().join(" AND ")
}

/// Holds for the rows up to the bound, those that tie with it included.
fn within(order: &[OrderBy], bound: &[Value], params: &mut Vec<Value>) -> String {
    let mut terms = Vec::new();
    let mut equal = String::new();
    for (index, (by, value)) in order.iter().zip(bound).enumerate() {
        let column = quoted(&by.column);
        let is_last = index + 1 == order.len();
        let sign = if by.descending { '>' } else { '<' };
        let (before, same) = if value.is_null() {
            let before = match (by.nulls_first, is_last) {
                (false, true) => Some(format!("({column} IS NULL OR {column} IS NOT NULL)")),
                (true, true) => Some(format!("{column} IS NULL")),
                (false, false) => Some(format!("{column} IS NOT NULL")),
                // Nothing is before it.
                (true, false) => None,
            };
            (before, format!("{column} IS NULL"))
        } else {
            params.push(value.clone());
            let number = params.len();
            let or_equal = if is_last { "=" } else { "" };
            let before = format!("{column} {sign}{or_equal} ${number}");
            let before = if by.nulls_first {
                format!("({column} IS NULL OR {before})")
            } else {
                before
            };
            (Some(before), format!("{column} = ${number}"))
        };
        terms.extend(before.map(|before| format!("{equal}{before}")));
        // Writing to memory does not fail.
        let _ = write!(equal, "{same} AND ");
    }
    terms.join(" OR ")
}

fn quoted(column: &str) -> String {
    format!("\"{}\"", column.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn by(column: &str, descending: bool, nulls_first: bool) -> OrderBy {
        OrderBy {
            column: column.to_owned(),
            descending,
            nulls_first,
        }
    }

    #[test]
    fn a_range_is_everything_before_its_bound_and_what_ties_with_it() {
        let range = |order: &[OrderBy], bound: &[Value]| {
            let mut params = vec![json!("own")];
            let text = within(order, bound, &mut params);
            (text, params.len())
        };
        let asc = by("a", false, false);
        let desc = by("b\"", true, true);
        assert_eq!(
            range(std::slice::from_ref(&asc), &[json!(5)]),
            ("\"a\" <= $2".to_owned(), 2)
        );
        assert_eq!(
            range(&[asc.clone(), desc.clone()], &[json!(5), json!("x")]),
            (
                r#""a" < $2 OR "a" = $2 AND ("b""" IS NULL OR "b""" >= $3)"#.to_owned(),
                3
            )
        );
        assert_eq!(
            range(&[asc, desc], &[json!(null), json!(null)]),
            (
                r#""a" IS NOT NULL OR "a" IS NULL AND "b""" IS NULL"#.to_owned(),
                1
            )
        );
    }
}
