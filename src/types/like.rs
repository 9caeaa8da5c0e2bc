//! [`Pattern`]: LIKE and ILIKE (`like_match.c`), in time linear in the text and without recursion.
//!
//! The part between two `%` is searched for from left to right. A piece of literal bytes is found by a search that
//! takes time linear in the text whatever both are (Two-Way). One with `_`, or whose letters fold, is held against the
//! text place by place, which is fastest where few places look alike; where many do, all places are followed at once,
//! a bit for each byte of the piece (Baeza-Yates and Gonnet, "A New Approach to Text Searching"), 64 of them in a
//! word.

use memchr::{memchr, memchr2, memmem};

use super::CaseMap;

/// Stands for `_` in a piece; no byte of a UTF-8 text.
const ANY: u8 = 0xff;

/// The letters that match: in both cases, or in their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Case {
    /// LIKE: a character matches itself.
    Sensitive,
    /// ILIKE: what `lower` makes of both sides is compared.
    Insensitive(CaseMap),
}

/// The reason why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The escape character stands before nothing. (Postgres says so only when a row's text gets a match that far.)
    #[error("LIKE pattern must not end with escape character")]
    EndsInEscape,
    /// The text behind ESCAPE is longer than a character.
    #[error("invalid escape string: it must be empty or one character")]
    EscapeTooLong,
}

/// A pattern of LIKE or ILIKE, made ready for matching.
///
/// The order of patterns means nothing; it is there for collections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    case: Case,
    /// The text before the first `%`.
    head: Box<[u8]>,
    /// The text behind it; `None` if there is no `%`.
    rest: Option<Rest>,
}

/// The text behind the first `%`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Rest {
    /// The text between two `%`; none is empty.
    middle: Box<[Box<[u8]>]>,
    /// The text behind the last `%`.
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
        let mut pieces = Vec::<Box<[u8]>>::new();
        let mut piece = Vec::new();
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

    /// True if a text matches. It is UTF-8 as the server prints it; a `character(n)` has its trailing blanks, which
    /// count here.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self.case {
            Case::Sensitive => self.find::<false>(text),
            Case::Insensitive(map) if map.is_ascii() => self.find::<true>(text),
            Case::Insensitive(map) => map.lower(text).and_then(|text| self.find::<false>(&text)),
        }
        .is_some()
    }

    /// About how many bytes are looked at, one at a time, to match a text of that length, at worst.
    pub fn work(&self, text: usize) -> u64 {
        let lowered = match self.case {
            Case::Insensitive(map) if !map.is_ascii() => text.saturating_mul(4),
            _ => 0,
        };
        let Some(rest) = &self.rest else {
            return (lowered + self.head.len().min(text)) as u64;
        };
        let ends = (self.head.len() + rest.tail.len()).min(text);
        let folds = matches!(self.case, Case::Insensitive(map) if map.is_ascii());
        let searched = rest.middle.iter().map(|piece| {
            if folds || !is_literal(piece) {
                text.saturating_mul(3 + piece.len() / 64)
            } else {
                text / 8
            }
        });
        let searched = searched.max().unwrap_or(0).saturating_add(rest.middle.len());
        (lowered.saturating_add(ends).saturating_add(searched)) as u64
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let rest = self.rest.iter();
        let rest = rest.map(|rest| {
            let middle: usize = rest.middle.iter().map(|piece| piece.len()).sum();
            middle + size_of_val(&*rest.middle) + rest.tail.len()
        });
        self.head.len() + rest.sum::<usize>()
    }

    /// Matches the ends first, then what is between them from left to right: where a piece is found first, it leaves
    /// the most to those behind it.
    fn find<const FOLDS: bool>(&self, text: &[u8]) -> Option<()> {
        let text = behind::<FOLDS>(&self.head, text).ok()?;
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

/// The text behind the first character.
fn after_char(text: &[u8]) -> Option<&[u8]> {
    let (_, mut text) = text.split_first()?;
    while let Some((byte, rest)) = text.split_first()
        && is_continuation(byte)
    {
        text = rest;
    }
    Some(text)
}

/// The text before the last character.
fn before_char(text: &[u8]) -> Option<&[u8]> {
    text.get(..text.iter().rposition(|byte| !is_continuation(byte))?)
}

/// The text behind the piece that the text starts with, or how many bytes of the piece were looked at.
fn behind<'a, const FOLDS: bool>(piece: &[u8], mut text: &'a [u8]) -> Result<&'a [u8], usize> {
    for (at, literal) in piece.iter().enumerate() {
        let rest = if *literal == ANY {
            after_char(text)
        } else {
            let first = text.split_first();
            first.and_then(|(byte, rest)| is_same::<FOLDS>(*literal, *byte).then_some(rest))
        };
        text = rest.ok_or(at + 1)?;
    }
    Ok(text)
}

/// The text before the piece that the text ends in.
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

/// The text behind the piece where it stands first.
fn behind_first<'a, const FOLDS: bool>(piece: &[u8], mut text: &'a [u8]) -> Option<&'a [u8]> {
    if !FOLDS && is_literal(piece) {
        let at = memmem::find(text, piece)?;
        return text.get(at + piece.len()..);
    }
    let start = text.len();
    let mut in_vain = 0;
    loop {
        match piece.first() {
            None | Some(&ANY) => {}
            Some(first) => {
                let at = if FOLDS {
                    memchr2(*first, first.to_ascii_uppercase(), text)?
                } else {
                    memchr(*first, text)?
                };
                text = text.get(at..)?;
            }
        }
        match behind::<FOLDS>(piece, text) {
            Ok(rest) => return Some(rest),
            // A few bytes in vain for each byte of the text are what is to be expected.
            Err(looked_at) => {
                in_vain += looked_at;
                if in_vain > PATIENCE + 4 * (start - text.len()) {
                    return behind_first_at_once::<FOLDS>(piece, text);
                }
            }
        }
        text = after_char(text)?;
    }
}

/// The number of further bytes of a piece that are looked at in vain before all places are followed at once.
const PATIENCE: usize = 256;

fn is_literal(piece: &[u8]) -> bool {
    memchr(ANY, piece).is_none()
}

/// The same for a piece that many places look like: bit `n` of the state says that the bytes read last match the piece
/// up to its byte `n`.
fn behind_first_at_once<'a, const FOLDS: bool>(piece: &[u8], text: &'a [u8]) -> Option<&'a [u8]> {
    let words = piece.len().div_ceil(64);
    // Which bytes of the piece are wildcards, and for each byte of a text which bytes of the piece it matches.
    let mut wildcards = vec![0u64; words];
    let mut matching = vec![0u64; 256 * words];
    for (at, literal) in piece.iter().enumerate() {
        let bit = 1u64 << (at % 64);
        if *literal == ANY {
            *wildcards.get_mut(at / 64)? |= bit;
            continue;
        }
        let upper = if FOLDS {
            literal.to_ascii_uppercase()
        } else {
            *literal
        };
        for byte in [*literal, upper] {
            *matching.get_mut(usize::from(byte) * words + at / 64)? |= bit;
        }
    }
    for (byte, matching) in (0..=u8::MAX).zip(matching.chunks_exact_mut(words)) {
        if !is_continuation(&byte) {
            matching
                .iter_mut()
                .zip(&wildcards)
                .for_each(|(to, from)| *to |= from);
        }
    }
    let last = 1u64 << ((piece.len() - 1) % 64);
    let ends_in_wildcard = piece.last() == Some(&ANY);
    let mut state = vec![0u64; words];
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let matching = matching.chunks_exact(words).nth(usize::from(*byte))?;
        // A wildcard matches the rest of its character too.
        let stays = if is_continuation(byte) { u64::MAX } else { 0 };
        let mut carry = 1;
        for ((state, matching), wildcards) in state.iter_mut().zip(matching).zip(&wildcards) {
            let next = (*state << 1 | carry) & matching | *state & wildcards & stays;
            carry = *state >> 63;
            *state = next;
        }
        let rest = bytes.as_slice();
        let is_within_char = ends_in_wildcard && rest.first().is_some_and(is_continuation);
        if state.last().is_some_and(|word| word & last != 0) && !is_within_char {
            return Some(rest);
        }
    }
    None
}

#[cfg(test)]
#[path = "like_tests.rs"]
mod tests;
