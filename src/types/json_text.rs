//! True if a text is JSON, without recursion: Postgres nests documents deeper than most parsers follow.

/// True if the text is one JSON number (RFC 8259, section 6).
pub(super) fn is_json_number(text: &[u8]) -> bool {
    number(text).is_some_and(<[u8]>::is_empty)
}

/// True if the text is one JSON value with nothing but blanks around it.
pub(super) fn is_json(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok() && document(text).is_some()
}

/// The kinds of bracket that are open, outermost first, one bit each.
#[derive(Default)]
struct Brackets {
    depth: usize,
    innermost: u64,
    /// The bits that do not fit into a word; empty for all but the deepest documents.
    outer: Vec<u64>,
}

impl Brackets {
    fn open(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.innermost);
        }
        self.innermost = self.innermost << 1 | u64::from(is_object);
        self.depth += 1;
    }

    /// Closes the innermost bracket; `None` if it is of the other kind or none is open.
    fn close(&mut self, is_object: bool) -> Option<()> {
        if self.depth == 0 || self.in_object() != is_object {
            return None;
        }
        self.depth -= 1;
        self.innermost >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.innermost = self.outer.pop().unwrap_or_default();
        }
        Some(())
    }

    fn in_object(&self) -> bool {
        self.depth > 0 && self.innermost & 1 == 1
    }
}

fn document(text: &[u8]) -> Option<()> {
    let mut brackets = Brackets::default();
    let mut rest = blanks(text);
    loop {
        // A value stands here, or the end of an empty array or object.
        let (first, after) = rest.split_first()?;
        match first {
            b'{' | b'[' => {
                let is_object = *first == b'{';
                brackets.open(is_object);
                rest = blanks(after);
                if rest.first() != Some(if is_object { &b'}' } else { &b']' }) {
                    rest = if is_object { key(rest)? } else { rest };
                    continue;
                }
            }
            b'"' => rest = string(after)?,
            b't' => rest = rest.strip_prefix(b"true")?,
            b'f' => rest = rest.strip_prefix(b"false")?,
            b'n' => rest = rest.strip_prefix(b"null")?,
            _ => rest = number(rest)?,
        }
        // Behind a value: brackets close until a comma brings the next one.
        loop {
            rest = blanks(rest);
            match rest.split_first() {
                None => return (brackets.depth == 0).then_some(()),
                Some((b'}', after)) => {
                    brackets.close(true)?;
                    rest = after;
                }
                Some((b']', after)) => {
                    brackets.close(false)?;
                    rest = after;
                }
                Some((b',', after)) if brackets.depth > 0 => {
                    rest = blanks(after);
                    if brackets.in_object() {
                        rest = key(rest)?;
                    }
                    break;
                }
                _ => return None,
            }
        }
    }
}

/// Skips `"key" :` and the blanks around it.
fn key(text: &[u8]) -> Option<&[u8]> {
    let rest = blanks(string(text.strip_prefix(b"\"")?)?);
    Some(blanks(rest.strip_prefix(b":")?))
}

/// Skips a string whose opening quote has been read.
fn string(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        let special = text.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20))?;
        let (special, rest) = text.get(special..)?.split_first()?;
        text = match (special, rest) {
            (b'"', rest) => return Some(rest),
            (b'\\', [b'u', a, b, c, d, rest @ ..]) => [a, b, c, d]
                .iter()
                .all(|b| b.is_ascii_hexdigit())
                .then_some(rest)?,
            (b'\\', [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..]) => rest,
            _ => return None,
        };
    }
}

/// Skips a number.
fn number(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let mut rest = match text.split_first()? {
        (b'0', rest) => rest,
        (b'1'..=b'9', rest) => digits(rest),
        _ => return None,
    };
    if let [b'.', fraction @ ..] = rest {
        rest = some_digits(fraction)?;
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        rest = some_digits(
            exponent
                .strip_prefix(b"+")
                .or(exponent.strip_prefix(b"-"))
                .unwrap_or(exponent),
        )?;
    }
    Some(rest)
}

fn some_digits(text: &[u8]) -> Option<&[u8]> {
    text.first()?.is_ascii_digit().then(|| digits(text))
}

fn digits(text: &[u8]) -> &[u8] {
    let end = text
        .iter()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

fn blanks(text: &[u8]) -> &[u8] {
    let end = text
        .iter()
        .position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
        .unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documents_nested_deeper_than_a_word_has_bits_are_followed() {
        for depth in [1, 63, 64, 65, 128, 129, 10_000] {
            let mixed = |even: &str, odd: &str, range: &mut dyn Iterator<Item = usize>| -> String {
                range.map(|i| if i % 3 == 0 { even } else { odd }).collect()
            };
            let open = mixed("{\"a\":", "[", &mut (0..depth));
            let close = mixed("}", "]", &mut (0..depth).rev());
            assert!(is_json(format!("{open}1{close}").as_bytes()), "depth {depth}");
            assert!(!is_json(format!("{open}1{close}]").as_bytes()));
            assert!(!is_json(format!("{open}1").as_bytes()));
            if depth > 1 {
                let swapped = mixed("]", "}", &mut (0..depth).rev());
                assert!(!is_json(format!("{open}1{swapped}").as_bytes()));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn agrees_with_another_parser(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"a\"", "\"\\n\"", "\"\\x\"", "\"\\u12aF\"", "\"\n\"", "\"", "1", "-0", "01",
                "1.5", "1.", "1e5", "1e", "-", "true", "null", "nul", " ", "\n",
            ]), 0..9),
        ) {
            let text = tokens.concat();
            let other = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(is_json(text.as_bytes()), other, "{:?}", text);
        }
    }
}
