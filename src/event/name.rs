//! Reading a [`TableName`] from text, the inverse of printing it.

use std::str::FromStr;

use super::TableName;

/// The reason why a text is no table's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A name is missing: the text is empty, or ends after a dot, or has `""`.
    #[error("a name is missing")]
    Missing,
    /// A quote without its counterpart.
    #[error("a quoted name does not end")]
    Unclosed,
    /// A character that needs quotes.
    #[error("{0:?} needs double quotes around its name, as in SQL")]
    Character(char),
    /// More than two names.
    #[error("more than a schema and a table: a dot within a name needs double quotes around it")]
    TooMany,
}

impl FromStr for TableName {
    type Err = NameError;

    /// Reads `orders` (of the schema `public`), `shop.orders` or `"We""ird S"."T"`. As in SQL, what is not quoted is
    /// folded to lower case, ASCII letters only.
    fn from_str(text: &str) -> Result<TableName, NameError> {
        let (first, rest) = identifier(text)?;
        let Some(rest) = separated(rest)? else {
            return Ok(TableName::new("public", first));
        };
        let (second, rest) = identifier(rest)?;
        match separated(rest)? {
            None => Ok(TableName::new(first, second)),
            Some(_) => Err(NameError::TooMany),
        }
    }
}

/// The text behind the dot after a name; `None` if the text ends there.
fn separated(rest: &str) -> Result<Option<&str>, NameError> {
    match rest.chars().next() {
        None => Ok(None),
        Some('.') => Ok(rest.strip_prefix('.')),
        Some(other) => Err(NameError::Character(other)),
    }
}

/// The name at the front of the text and what follows it (documentation, "Identifiers and Key Words").
fn identifier(text: &str) -> Result<(String, &str), NameError> {
    if let Some(quoted) = text.strip_prefix('"') {
        return quoted_identifier(quoted);
    }
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let goes_on = |c: char| starts(c) || c.is_ascii_digit() || c == '$';
    match text.chars().next() {
        None | Some('.') => return Err(NameError::Missing),
        Some(first) if !starts(first) => return Err(NameError::Character(first)),
        Some(_) => {}
    }
    let end = text.find(|c| !goes_on(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    Ok((name.to_ascii_lowercase(), rest))
}

/// The same after an opening quote; a doubled quote stands for one.
fn quoted_identifier(mut text: &str) -> Result<(String, &str), NameError> {
    let mut name = String::new();
    loop {
        let (part, rest) = text.split_once('"').ok_or(NameError::Unclosed)?;
        name.push_str(part);
        match rest.strip_prefix('"') {
            Some(rest) => {
                name.push('"');
                text = rest;
            }
            None if name.is_empty() => return Err(NameError::Missing),
            None => return Ok((name, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_in_sql() {
        for (text, schema, name) in [
            ("orders", "public", "orders"),
            ("Shop.Orders", "shop", "orders"),
            ("_a$1.naïveÄ", "_a$1", "naïveÄ"),
            (r#""We""ird S"."T""#, "We\"ird S", "T"),
            (r#""a.b".c"#, "a.b", "c"),
            (r#"a."b.c""#, "a", "b.c"),
            (r#""""""#, "public", "\""),
        ] {
            assert_eq!(text.parse(), Ok(TableName::new(schema, name)), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (text, error) in [
            ("", NameError::Missing),
            (".a", NameError::Missing),
            ("a.", NameError::Missing),
            (r#""".a"#, NameError::Missing),
            (r#""a"#, NameError::Unclosed),
            (r#""a"""#, NameError::Unclosed),
            ("a b", NameError::Character(' ')),
            ("1a", NameError::Character('1')),
            (r#""a"b"#, NameError::Character('b')),
            ("a. b", NameError::Character(' ')),
            ("a;drop", NameError::Character(';')),
            ("db.a.b", NameError::TooMany),
        ] {
            assert_eq!(text.parse::<TableName>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_name_reads_back(schema in ".+", name in ".+") {
            let table = TableName::new(schema, name);
            prop_assert_eq!(table.to_string().parse(), Ok(table));
        }

        #[test]
        fn any_text_is_a_name_that_prints_back_or_an_error(text in ".*") {
            if let Ok(table) = text.parse::<TableName>() {
                prop_assert_eq!(table.to_string().parse(), Ok(table));
            }
        }
    }
}
