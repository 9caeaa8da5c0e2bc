//! [`Pattern`]: LIKE and ILIKE (`like_match.c`), in time linear in pattern times text and without recursion.

use super::CaseMap;

/// Stands for `_` in a piece; no byte of a UTF-8 text.
const ANY: u8 = 0xff;

/// Whether letters match in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Case {
    /// LIKE: a character matches itself.
    Sensitive,
    /// ILIKE: what `lower` makes of both sides is compared.
    Insensitive(CaseMap),
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The escape character stands before nothing. (Postgres says so only when a row's text gets a match that far.)
    #[error("LIKE pattern must not end with escape character")]
    EndsInEscape,
    /// What follows ESCAPE is longer than a character.
    #[error("invalid escape string: it must be empty or one character")]
    EscapeTooLong,
}

/// A pattern of LIKE or ILIKE, made ready for matching.
///
/// The order of patterns means nothing; it is there for collections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    case: Case,
    /// What stands before the first `%`.
    head: Box<[u8]>,
    /// What follows it; `None` if there is no `%`.
    rest: Option<Rest>,
}

/// What follows the first `%`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Rest {
    /// What stands between two `%`; none is empty.
    middle: Box<[Box<[u8]>]>,
    /// What stands behind the last `%`.
    tail: Box<[u8]>,
}

impl Pattern {
    /// The escape character if there is no ESCAPE.
    pub const ESCAPE: Option<char> = Some('\\');

    /// The escape character that the text after ESCAPE means; an empty text turns escaping off.
    pub fn escape(text: &str) -> Result<Option<char>, PatternError> {
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (escape, None) => Ok(escape),
            _ => Err(PatternError::EscapeTooLong),
        }
    }

    /// Reads a pattern: `%` is any text, `_` any character, and what follows the escape character is itself.
    pub fn new(pattern: &str, escape: Option<char>, case: Case) -> Result<Pattern, PatternError> {
        let (mut pieces, mut piece) = (Vec::<Box<[u8]>>::new(), Vec::new());
        let mut chars = pattern.chars();
        while let Some(char) = chars.next() {
            let literal = match char {
                // The escape character may be a wildcard.
                _ if Some(char) == escape => chars.next().ok_or(PatternError::EndsInEscape)?,
                '%' => {
                    pieces.push(std::mem::take(&mut piece).into());
                    continue;
                }
                '_' => {
                    piece.push(ANY);
                    continue;
                }
                literal => literal,
            };
            let literal = match case {
                Case::Sensitive => literal,
                Case::Insensitive(map) => map.lower_char(literal),
            };
            piece.extend_from_slice(literal.encode_utf8(&mut [0; 4]).as_bytes());
        }
        let last: Box<[u8]> = piece.into();
        let mut pieces = pieces.into_iter();
        Ok(match pieces.next() {
            None => Pattern {
                case,
                head: last,
                rest: None,
            },
            Some(head) => Pattern {
                case,
                head,
                rest: Some(Rest {
                    middle: pieces.filter(|piece| !piece.is_empty()).collect(),
                    tail: last,
                }),
            },
        })
    }

    /// Whether a text matches. It is UTF-8 as the server prints it; a `character(n)` has its trailing blanks, which
    /// count here.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self.case {
            Case::Sensitive => self.find::<false>(text),
            Case::Insensitive(map) if map.is_ascii() => self.find::<true>(text),
            Case::Insensitive(map) => map.lower(text).and_then(|text| self.find::<false>(&text)),
        }
        .is_some()
    }

    /// Matches the ends first, then what is between them from left to right: where a piece is found first, it leaves
    /// the most to those behind it.
    fn find<const FOLDS: bool>(&self, text: &[u8]) -> Option<()> {
        let text = behind::<FOLDS>(&self.head, text)?;
        let Some(rest) = &self.rest else {
            return text.is_empty().then_some(());
        };
        let mut text = before::<FOLDS>(&rest.tail, text)?;
        for piece in &rest.middle {
            text = behind_first::<FOLDS>(piece, text)?;
        }
        Some(())
    }
}

fn is_same<const FOLDS: bool>(literal: u8, byte: u8) -> bool {
    literal == if FOLDS { byte.to_ascii_lowercase() } else { byte }
}

fn is_continuation(byte: &u8) -> bool {
    byte & 0xc0 == 0x80
}

/// What follows the first character.
fn after_char(text: &[u8]) -> Option<&[u8]> {
    let (_, mut text) = text.split_first()?;
    while let Some((byte, rest)) = text.split_first()
        && is_continuation(byte)
    {
        text = rest;
    }
    Some(text)
}

/// What stands before the last character.
fn before_char(text: &[u8]) -> Option<&[u8]> {
    text.get(..text.iter().rposition(|byte| !is_continuation(byte))?)
}

/// What follows the piece that the text starts with.
fn behind<'a, const FOLDS: bool>(piece: &[u8], mut text: &'a [u8]) -> Option<&'a [u8]> {
    for literal in piece {
        text = if *literal == ANY {
            after_char(text)?
        } else {
            let (byte, rest) = text.split_first()?;
            is_same::<FOLDS>(*literal, *byte).then_some(rest)?
        };
    }
    Some(text)
}

/// What stands before the piece that the text ends in.
fn before<'a, const FOLDS: bool>(piece: &[u8], mut text: &'a [u8]) -> Option<&'a [u8]> {
    for literal in piece.iter().rev() {
        text = if *literal == ANY {
            before_char(text)?
        } else {
            let (byte, rest) = text.split_last()?;
            is_same::<FOLDS>(*literal, *byte).then_some(rest)?
        };
    }
    Some(text)
}

/// What follows the piece where it stands first.
fn behind_first<'a, const FOLDS: bool>(piece: &[u8], mut text: &'a [u8]) -> Option<&'a [u8]> {
    loop {
        match piece.first() {
            None | Some(&ANY) => {}
            Some(first) => {
                let at = text.iter().position(|byte| is_same::<FOLDS>(*first, *byte))?;
                text = text.get(at..)?;
            }
        }
        if let Some(rest) = behind::<FOLDS>(piece, text) {
            return Some(rest);
        }
        text = after_char(text)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn like(text: &str, pattern: &str) -> bool {
        Pattern::new(pattern, Pattern::ESCAPE, Case::Sensitive)
            .unwrap()
            .matches(text.as_bytes())
    }

    #[test]
    fn wildcards_match_texts_and_characters() {
        for (text, pattern) in [
            ("", ""),
            ("", "%"),
            ("", "%%"),
            ("abc", "abc"),
            ("abc", "a%"),
            ("abc", "%c"),
            ("abc", "%b%"),
            ("abc", "a%c"),
            ("abc", "___"),
            ("abc", "%_"),
            ("日本語", "_本_"),
            ("日本語", "%_語"),
            ("é", "_"),
            ("a%b", "a\\%b"),
            ("a_b", "a\\_b"),
            ("a\\b", "a\\\\b"),
            ("é", "\\é"),
            ("abab", "%ab"),
            ("aXbXc", "a%X%c"),
        ] {
            assert!(like(text, pattern), "{text:?} LIKE {pattern:?}");
        }
        for (text, pattern) in [
            ("a", ""),
            ("", "_"),
            ("abc", "ab"),
            ("abc", "bc"),
            ("abc", "____"),
            ("aba", "ab%ba"),
            ("é", "__"),
            ("axb", "a\\%b"),
            ("ab ", "ab"),
            ("A", "a"),
            ("abc", "%b%b%"),
        ] {
            assert!(!like(text, pattern), "{text:?} NOT LIKE {pattern:?}");
        }
    }

    #[test]
    fn any_character_can_escape_or_none() {
        let with = |text: &str, pattern: &str, escape: &str| {
            let escape = Pattern::escape(escape).unwrap();
            Pattern::new(pattern, escape, Case::Sensitive)
                .unwrap()
                .matches(text.as_bytes())
        };
        assert!(with("a%", "ax%", "x") && !with("ab", "ax%", "x"));
        assert!(with("ax", "axx", "x"));
        assert!(with("a\\b", "a\\_", "") && !with("a_", "a\\_", ""));
        assert!(with("é%", "ééé%", "é"));
        assert!(with("%a", "%%a", "%") && !with("ba", "%%a", "%"));
        assert!(with("\\", "\\", "x"));
        assert_eq!(Pattern::escape("xy"), Err(PatternError::EscapeTooLong));
        assert_eq!(
            Pattern::new("a\\", Pattern::ESCAPE, Case::Sensitive),
            Err(PatternError::EndsInEscape)
        );
        assert_eq!(
            Pattern::new("a\\\\x", Some('x'), Case::Sensitive),
            Err(PatternError::EndsInEscape)
        );
    }

    #[test]
    fn ascii_letters_match_in_both_cases_if_case_does_not_count() {
        let ilike = |text: &str, pattern: &str| {
            Pattern::new(pattern, Pattern::ESCAPE, Case::Insensitive(CaseMap::ascii()))
                .unwrap()
                .matches(text.as_bytes())
        };
        assert!(ilike("ABC", "a%C") && ilike("abc", "%B%") && ilike("É", "É"));
        assert!(!ilike("É", "é") && !ilike("[", "{"));
        let escaped = Pattern::new("AX%", Some('X'), Case::Insensitive(CaseMap::ascii())).unwrap();
        assert!(escaped.matches(b"a%") && !escaped.matches(b"ax"));
        let other = Pattern::new("AX%", Some('x'), Case::Insensitive(CaseMap::ascii())).unwrap();
        assert!(other.matches(b"axb"), "the escape character is one case only");
    }

    /// What matching means, without a care for time.
    fn reference(text: &[char], pattern: &[char]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            (['%', rest @ ..], text) => (0..=text.len()).any(|at| reference(&text[at..], rest)),
            (['\\', literal, rest @ ..], [first, text @ ..]) => literal == first && reference(text, rest),
            (['_', rest @ ..], [_, text @ ..]) => reference(text, rest),
            ([literal, rest @ ..], [first, text @ ..]) => literal == first && reference(text, rest),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn matches_what_the_slow_way_matches(
            text in "[abé日%_]{0,10}",
            pattern in "([abé日]|%|_|\\\\[%_ab\\\\é]){0,7}",
        ) {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(like(&text, &pattern), reference(&chars(&text), &chars(&pattern)));
        }

        #[test]
        fn any_bytes_get_an_answer(text in prop::collection::vec(any::<u8>(), 0..20), pattern in "[a%_é]{0,6}") {
            let pattern = Pattern::new(&pattern, Pattern::ESCAPE, Case::Insensitive(CaseMap::ascii())).unwrap();
            pattern.matches(&text);
        }
    }
}
