//! Names and texts as SQL has them (documentation, "Lexical Structure").

/// `text` as an SQL string constant, whatever is in it and however the server reads backslashes.
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// `name` as an SQL identifier, always quoted.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_leaves_nothing_to_escape_from() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r"\'; DROP"), r" E'\\''; DROP'");
        assert_eq!(quote_identifier(r#"We"ird"#), r#""We""ird""#);
    }
}
