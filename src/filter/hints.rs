//! Words for mistakes that people make first.

use crate::event::{TableName, View, quote_identifier};
use crate::types::Kind;

/// The hint beside a name that no column has.
pub(super) fn of_column(view: View<'_>, qualifiers: &[String], name: &str, quoted: bool) -> String {
    let names = || view.columns().map(|(_, column)| column.name.as_str());
    if let [document] = qualifiers
        && let Some((_, column)) = view.column(document)
        && matches!(column.ty.kind, Kind::Json | Kind::Jsonb)
    {
        return format!(": a member of a document is written {document} ->> '{name}'");
    }
    if let [.., table] = qualifiers
        && *table != view.table().name
    {
        return format!(": the only table is {}", view.table());
    }
    if let Some(other) = names().find(|other| *other != name && other.eq_ignore_ascii_case(name)) {
        let other = quote_identifier(other);
        return format!(": did you mean {other}? A name with capitals needs double quotes");
    }
    if !quoted && qualifiers.is_empty() && is_clock(name) {
        return ": the time is now(), with parentheses, and the day current_date".to_owned();
    }
    match (nearest(name, names()), quoted) {
        (Some(near), _) if near.contains(|c: char| c.is_ascii_uppercase()) => {
            format!(": did you mean {}?", quote_identifier(near))
        }
        (Some(near), _) => format!(": did you mean {near}?"),
        (None, true) => format!(": a text is written in single quotes, '{name}'"),
        (None, false) => format!(": if it is a text, write it in single quotes, '{name}'"),
    }
}

/// The hint beside a function that is not known here.
pub(super) fn of_function(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "clock_timestamp" | "timeofday" => {
            " (it tells another time for each row: now() tells the one at which the subscription was made)"
        }
        "age" => " (compare the column with now() and an interval, as in at > now() - interval '1 day')",
        "date_part" => " (compare the column itself, as in at >= '2024-01-01')",
        "make_interval" => " (write the interval, as in interval '7 days')",
        name if is_clock(name) => " (the time is now(), the day current_date)",
        "lower" | "upper" | "coalesce" => "",
        name if name.contains('.') => "",
        _ => " (there are lower, upper, coalesce and now())",
    }
}

/// The hint for a literal that Postgres reads by the clock.
pub(super) fn of_relative(kind: &Kind, text: &str) -> Option<String> {
    if !matches!(kind, Kind::Date | Kind::Timestamp | Kind::TimestampTz) {
        return None;
    }
    let text = text.trim_ascii();
    let instead = match text.to_ascii_lowercase().as_str() {
        "now" => "now()",
        "today" => "current_date",
        "tomorrow" => "current_date + 1",
        "yesterday" => "current_date - 1",
        _ => return None,
    };
    Some(format!("the literal '{text}' (write {instead})"))
}

/// True if it is what the time is called elsewhere.
fn is_clock(name: &str) -> bool {
    let names = [
        "now",
        "getdate",
        "sysdate",
        "systimestamp",
        "curdate",
        "today",
        "curtime",
        "getutcdate",
        "utcnow",
        "sysdatetime",
        "current_datetime",
        "utc_timestamp",
        "unix_timestamp",
        "datetime",
    ];
    names.contains(&name)
}

/// The hint beside a word that no condition goes on with.
pub(super) fn of_word(word: &str) -> String {
    const OPERATORS: [&str; 8] = ["LIKE", "ILIKE", "BETWEEN", "AND", "OR", "IS", "IN", "NOT"];
    let word = word.to_ascii_uppercase();
    match word.as_str() {
        "ORDER" | "LIMIT" | "GROUP" | "OFFSET" | "FETCH" | "HAVING" | "RETURNING" => {
            "; a predicate is the condition behind WHERE alone".to_owned()
        }
        "ISNULL" => "; write IS NULL".to_owned(),
        word => match nearest(word, OPERATORS.into_iter()) {
            Some(near) => format!("; did you mean {near}?"),
            None => String::new(),
        },
    }
}

/// The labels that an enumeration has, for one that it has not.
pub(super) fn of_label(labels: &[String], label: &str) -> String {
    const SHOWN: usize = 20;
    if let Some(near) = nearest(label, labels.iter().map(String::as_str)) {
        return format!("; did you mean '{near}'?");
    }
    let shown: Vec<String> = labels
        .iter()
        .take(SHOWN)
        .map(|label| format!("'{label}'"))
        .collect();
    let more = if labels.len() > SHOWN { ", …" } else { "" };
    format!("; its labels are {}{more}", shown.join(", "))
}

/// The table that was probably meant by a name that no table has: the same in other letters or another schema, or else
/// the most like it.
pub fn nearest_table<'n>(wanted: &TableName, tables: &[&'n TableName]) -> Option<&'n TableName> {
    let folded = |table: &TableName| table.name.to_lowercase();
    let same = tables.iter().find(|table| folded(table) == folded(wanted));
    let near = || {
        let near = nearest(&wanted.name, tables.iter().map(|table| table.name.as_str()))?;
        tables.iter().find(|table| table.name == near)
    };
    same.or_else(near).copied()
}

/// The one of the names that is most like `name`, if one is like it.
pub fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let allowed = match name.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        6..=9 => 2,
        _ => 3,
    };
    let with_distance = names.map(|other| (distance(name, other), other));
    let nearest = with_distance.filter(|(distance, _)| (1..=allowed).contains(distance));
    nearest.min().map(|(_, other)| other)
}

/// The number of characters to put in, leave out, replace, or exchange with their neighbour, to make one of the other;
/// case does not count. Names are short: what is longer than 64 characters is like nothing.
fn distance(one: &str, other: &str) -> usize {
    let characters = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<char>>();
    let one = characters(one);
    let other = characters(other);
    if one == other {
        return 1;
    }
    if one.len() > 64 || other.len() > 64 {
        return usize::MAX;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX);
    for (i, c) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, d) in other.iter().enumerate() {
            let replaced = at(&last, j) + usize::from(c != d);
            let mut least = replaced.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let before =
                |text: &[char], index: usize| index.checked_sub(1).and_then(|index| text.get(index).copied());
            if before(&one, i) == Some(*d) && before(&other, j) == Some(*c) {
                least = least.min(at(&before_last, j.saturating_sub(1)).saturating_add(1));
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    at(&last, other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_mistyped_are_found_and_others_are_not() {
        let names = ["status", "customer_id", "total", "id", "createdAt"];
        let nearest = |name: &str| nearest(name, names.into_iter());
        assert_eq!(nearest("stauts"), Some("status"));
        assert_eq!(nearest("statu"), Some("status"));
        assert_eq!(nearest("custmer_id"), Some("customer_id"));
        assert_eq!(nearest("createdat"), Some("createdAt"));
        assert_eq!(nearest("x"), None);
        assert_eq!(nearest("paid"), None);
        assert_eq!(nearest(""), None);
    }
}
