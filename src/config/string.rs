//! The way from a string's value back to how it is written (TOML 1.1, "String").

/// The byte of `written`, a string of a valid file with its quotes, at which the value's byte `offset` is written. For
/// the value's end, and beyond it, that is the closing quote.
pub(super) fn written_offset(written: &str, offset: usize) -> usize {
    let (quotes, is_literal) = match written {
        written if written.starts_with("\"\"\"") => (3, false),
        written if written.starts_with("'''") => (3, true),
        written if written.starts_with('\'') => (1, true),
        _ => (1, false),
    };
    let end = written.len().saturating_sub(quotes);
    let mut at = quotes;
    if quotes == 3 {
        // The line break right behind the opening quotes is not part of the value.
        at += line_break(written.get(at..end).unwrap_or_default());
    }
    let mut decoded = 0;
    while let Some(rest) = written.get(at..end).filter(|rest| !rest.is_empty()) {
        let step = match rest.strip_prefix('\\').filter(|_| !is_literal) {
            Some(escape) => escaped(escape),
            None => {
                let length = rest.chars().next().map_or(0, char::len_utf8);
                Step {
                    written: length,
                    value: length,
                }
            }
        };
        if decoded + step.value > offset {
            return at;
        }
        decoded += step.value;
        at += step.written;
    }
    end
}

/// The bytes that something takes in the file, and in the value.
struct Step {
    written: usize,
    value: usize,
}

/// The escape that begins with a backslash before `escape`.
fn escaped(escape: &str) -> Step {
    let digits = match escape.chars().next() {
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        Some(c) if c.is_whitespace() => {
            let rest = escape.trim_start_matches([' ', '\t', '\r', '\n']);
            return Step {
                written: 1 + escape.len() - rest.len(),
                value: 0,
            };
        }
        other => {
            return Step {
                written: 1 + other.map_or(0, char::len_utf8),
                value: 1,
            };
        }
    };
    let code = escape
        .get(1..=digits)
        .and_then(|code| u32::from_str_radix(code, 16).ok());
    Step {
        written: 2 + digits,
        value: code.and_then(char::from_u32).map_or(1, char::len_utf8),
    }
}

fn line_break(text: &str) -> usize {
    match text {
        text if text.starts_with("\r\n") => 2,
        text if text.starts_with('\n') => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(written: &str) -> Option<String> {
        let text = format!("a = {written}");
        let (table, errors) = toml::de::DeTable::parse_recoverable(&text);
        let value = table
            .get_ref()
            .get("a")
            .and_then(|value| value.get_ref().as_str());
        value.filter(|_| errors.is_empty()).map(str::to_owned)
    }

    #[test]
    fn the_place_of_each_byte_of_a_value_is_found_behind_escapes_and_line_breaks() {
        for (written, value_at, written_at) in [
            ("'ab'", 1, 2),
            ("'ab'", 2, 3),
            ("'ab'", 99, 3),
            (r"'a\tb'", 2, 3),
            (r#""a\tb""#, 1, 2),
            (r#""a\tb""#, 2, 4),
            (r#""\u00e4b""#, 2, 7),
            (r#""\xe4b""#, 2, 5),
            (r#""\U0001F600b""#, 4, 11),
            ("\"\"\"\na\nb\"\"\"", 2, 6),
            ("\"\"\"\r\na\"\"\"", 0, 5),
            ("\"\"\"a \\\n   b\"\"\"", 2, 10),
            ("'''\nä\\'b'''", 3, 7),
            ("\"\"\"a\"\"\"\"\"", 1, 4),
            ("\"\"", 0, 1),
        ] {
            assert!(value(written).is_some(), "{written}");
            assert_eq!(
                written_offset(written, value_at),
                written_at,
                "{written} {value_at}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_stands_at_the_place_of_a_character_is_that_character(
            parts in proptest::collection::vec(
                prop_oneof!["[a-zA-Zä€😀 ]", Just("\\t".to_owned()), Just("\\\"".to_owned()), Just("\\u20AC".to_owned()),
                    Just("\\xe9".to_owned()), Just("\\\n  ".to_owned()), Just("\n".to_owned()), Just("'".to_owned())],
                0..20,
            ),
        ) {
            let written = format!("\"\"\"{}\"\"\"", parts.concat());
            let Some(value) = value(&written) else { return Ok(()) };
            for (offset, c) in value.char_indices() {
                let at = written_offset(&written, offset);
                let found = written[at..].chars().next();
                prop_assert!(found == Some(c) || found == Some('\\'), "{:?} {} {:?}", written, offset, found);
            }
        }
    }
}
