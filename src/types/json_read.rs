//! Reads JSON in place, one level at a time: what nests is skipped without recursion, so depth costs nothing.
//!
//! The text is what the server prints of `json` and `jsonb`, so it is JSON; of what is not, something is read or
//! nothing, but it ends.

use std::borrow::Cow;

use super::{Decimal, Malformed};

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

impl Shape {
    pub(super) fn of(value: &[u8]) -> Option<Shape> {
        Some(match value.first()? {
            b'{' => Shape::Object,
            b'[' => Shape::Array,
            b'"' => Shape::String,
            b'-' | b'0'..=b'9' => Shape::Number,
            b't' | b'f' => Shape::Bool,
            b'n' => Shape::Null,
            _ => return None,
        })
    }

    pub(super) fn is_container(self) -> bool {
        matches!(self, Shape::Object | Shape::Array)
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The text without blanks before it.
pub(super) fn without_blanks(mut text: &[u8]) -> &[u8] {
    while let Some((byte, rest)) = text.split_first()
        && is_blank(byte)
    {
        text = rest;
    }
    text
}

/// Splits behind a string, which the text starts with.
pub(super) fn split_string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut end = 1;
    loop {
        end += text.get(end..)?.iter().position(|b| matches!(b, b'"' | b'\\'))?;
        match text.get(end)? {
            b'"' => return text.split_at_checked(end + 1),
            _ => end += 2,
        }
    }
}

/// Splits behind the value that the text starts with.
pub(super) fn split_value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    match Shape::of(text)? {
        Shape::String => split_string(text),
        Shape::Object | Shape::Array => {
            let mut depth = 0usize;
            let mut rest = text;
            loop {
                let at = rest
                    .iter()
                    .position(|b| matches!(b, b'"' | b'{' | b'[' | b'}' | b']'))?;
                rest = rest.get(at..)?;
                match rest.split_first()? {
                    (b'"', _) => rest = split_string(rest)?.1,
                    (b'{' | b'[', after) => {
                        depth += 1;
                        rest = after;
                    }
                    (_, after) => {
                        depth -= 1;
                        rest = after;
                        if depth == 0 {
                            return text.split_at_checked(text.len() - rest.len());
                        }
                    }
                }
            }
        }
        Shape::Number | Shape::Bool | Shape::Null => {
            let is_end = |b: &u8| is_blank(b) || matches!(b, b',' | b']' | b'}' | b':' | b'"');
            text.split_at_checked(text.iter().position(is_end).unwrap_or(text.len()))
        }
    }
}

/// The values of an array, or the members of an object.
#[derive(Clone, Debug)]
pub(super) struct Children<'a> {
    rest: &'a [u8],
    close: u8,
    is_first: bool,
    is_done: bool,
}

impl<'a> Children<'a> {
    /// Those of a container; of other values none.
    pub(super) fn of(value: &'a [u8]) -> Children<'a> {
        let (rest, close) = match value.split_first() {
            Some((b'[', rest)) => (rest, b']'),
            Some((b'{', rest)) => (rest, b'}'),
            _ => (value, 0),
        };
        Children {
            rest,
            close,
            is_first: true,
            is_done: close == 0,
        }
    }

    /// The next one: the key as it is written (an array's elements have none), and the value.
    fn read(&mut self) -> Option<Option<Child<'a>>> {
        let Some(Start { key, text }) = self.read_start()? else {
            return Some(None);
        };
        let (value, rest) = split_value(text)?;
        self.rest = rest;
        Some(Some(Child { key, value }))
    }

    /// The next one without having read its value. Until it is [skipped](Children::skip_value), or [gone on behind
    /// it](Children::go_on), nothing more is there.
    pub(super) fn next_start(&mut self) -> Result<Option<Start<'a>>, Malformed> {
        if self.is_done {
            return Ok(None);
        }
        self.read_start().ok_or(Malformed)
    }

    /// Skips the value that was started.
    pub(super) fn skip_value(&mut self) -> Result<(), Malformed> {
        self.rest = split_value(self.rest).ok_or(Malformed)?.1;
        Ok(())
    }

    /// Goes on behind the value that was started.
    pub(super) fn go_on(&mut self, rest: &'a [u8]) {
        self.rest = rest;
    }

    /// The number of bytes that were not read yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The text behind the container, once all of it was read.
    pub(super) fn behind(&self) -> Result<&'a [u8], Malformed> {
        without_blanks(self.rest).get(1..).ok_or(Malformed)
    }

    fn read_start(&mut self) -> Option<Option<Start<'a>>> {
        let rest = without_blanks(self.rest);
        if rest.first()? == &self.close {
            self.is_done = true;
            return Some(None);
        }
        let rest = match rest.split_first()? {
            (b',', rest) if !self.is_first => without_blanks(rest),
            _ if self.is_first => rest,
            _ => return None,
        };
        self.is_first = false;
        let (key, rest) = if self.close == b'}' {
            rest.strip_prefix(b"\"")?;
            let (key, rest) = split_string(rest)?;
            (key, without_blanks(without_blanks(rest).strip_prefix(b":")?))
        } else {
            (&b""[..], rest)
        };
        self.rest = rest;
        Some(Some(Start { key, text: rest }))
    }
}

/// The beginning of something that a container holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    /// The key as it is written, in quotes; empty in an array.
    pub(super) key: &'a [u8],
    /// The text that starts with the value.
    pub(super) text: &'a [u8],
}

/// The contents of a container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child<'a> {
    /// The key as it is written, in quotes; empty in an array.
    pub(super) key: &'a [u8],
    /// The value as it is written, without blanks around it.
    pub(super) value: &'a [u8],
}

impl<'a> Iterator for Children<'a> {
    type Item = Result<Child<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        match self.read() {
            Some(child) => child.map(Ok),
            None => {
                self.is_done = true;
                Some(Err(Malformed))
            }
        }
    }
}

/// The text that a string, in its quotes, stands for; in place if nothing is escaped. `None` if an escape has no
/// character in a text of Postgres': `\u0000`, half a surrogate pair.
pub(super) fn unescape(string: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = string.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    for piece in Pieces(inner) {
        piece?.append_to(&mut out);
    }
    Some(Cow::Owned(out))
}

/// True if a string, in its quotes, stands for that text.
pub(super) fn is_text(string: &[u8], mut text: &[u8]) -> Result<bool, Malformed> {
    let inner = string
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .ok_or(Malformed)?;
    if !inner.contains(&b'\\') {
        return Ok(inner == text);
    }
    for piece in Pieces(inner) {
        let after = match piece.ok_or(Malformed)? {
            Piece::Plain(plain) => text.strip_prefix(plain),
            Piece::Char(char) => text.strip_prefix(char.encode_utf8(&mut [0; 4]).as_bytes()),
        };
        match after {
            Some(after) => text = after,
            None => return Ok(false),
        }
    }
    Ok(text.is_empty())
}

/// A piece of a string.
enum Piece<'a> {
    Plain(&'a [u8]),
    Char(char),
}

impl Piece<'_> {
    fn append_to(&self, out: &mut Vec<u8>) {
        match self {
            Piece::Plain(plain) => out.extend_from_slice(plain),
            Piece::Char(char) => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// The pieces of what stands between a string's quotes; `None` is an escape without a character.
struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    fn escaped(&mut self) -> Option<char> {
        let (letter, rest) = self.0.get(1..)?.split_first()?;
        self.0 = rest;
        Some(match letter {
            b'"' | b'\\' | b'/' => char::from(*letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = self.unit()?;
                match unit {
                    0 => return None,
                    0xd800..0xdc00 => {
                        self.0 = self.0.strip_prefix(b"\\u")?;
                        let low = self.unit().filter(|low| (0xdc00..0xe000).contains(low))?;
                        char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00))?
                    }
                    unit => char::from_u32(unit)?,
                }
            }
            _ => return None,
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(4)?;
        self.0 = rest;
        let mut digits = digits.iter();
        digits.try_fold(0, |unit, digit| {
            Some(unit << 4 | char::from(*digit).to_digit(16)?)
        })
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Option<Piece<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = match self.0 {
            [] => return None,
            [b'\\', ..] => {
                let char = self.escaped();
                if char.is_none() {
                    self.0 = b"";
                }
                return Some(char.map(Piece::Char));
            }
            text => text.iter().position(|b| *b == b'\\').unwrap_or(text.len()),
        };
        let (plain, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(Some(Piece::Plain(plain)))
    }
}

/// A number's value; `None` if it is none, or none that Postgres can hold.
pub(super) fn number(text: &[u8]) -> Option<Decimal<'_>> {
    let Some(at) = text.iter().position(|b| matches!(b, b'e' | b'E')) else {
        return Decimal::parse(text).filter(Decimal::is_finite);
    };
    let (mantissa, exponent) = text.split_at_checked(at)?;
    let exponent: i32 = std::str::from_utf8(exponent.get(1..)?).ok()?.parse().ok()?;
    Decimal::parse(mantissa)
        .filter(Decimal::is_finite)?
        .scaled(exponent)
}
