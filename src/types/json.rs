//! A value's Postgres text as the JSON that `row_to_json` makes of it, without anything in between.
//!
//! The text is what the server prints under walcast's session settings: `DateStyle` ISO, `IntervalStyle` postgres,
//! `TimeZone` UTC, `bytea_output` hex, `extra_float_digits` 3. The server's own rules are `json_categorize_type` and what
//! uses it (`src/backend/utils/adt/json.c`). Whatever the bytes, what is written is valid JSON: a
//! text that is not of its kind, which no server sends, becomes a string.

use super::Kind;
use super::json_nested;
use super::json_text::{is_json, is_json_number};

/// The way in which numbers are written that JavaScript's own cannot hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Numbers {
    /// As JSON numbers, all of them.
    #[default]
    Native,
    /// `bigint` and `numeric` as strings.
    Strings,
}

/// Appends a value's JSON. `text` is the value as the server prints it.
pub fn write_value(kind: &Kind, text: &[u8], numbers: Numbers, out: &mut Vec<u8>) {
    let mark = out.len();
    if write_kind(kind, text, numbers, out).is_none() {
        out.truncate(mark);
        write_string(text, out);
    }
}

/// True if the text is one of the kind's: its arrays are arrays, and its composites have the attributes. (What is
/// neither may be any text.)
pub fn fits(kind: &Kind, text: &[u8]) -> bool {
    json_nested::with_buffer(|out| write_kind(kind, text, Numbers::Native, out).is_some())
}

/// Appends a value's JSON; `None` if the text is not of its kind, after having appended part of it.
pub(super) fn write_kind(kind: &Kind, text: &[u8], numbers: Numbers, out: &mut Vec<u8>) -> Option<()> {
    match kind {
        Kind::Bool if text == b"t" => out.extend_from_slice(b"true"),
        Kind::Bool if text == b"f" => out.extend_from_slice(b"false"),
        Kind::Int8 | Kind::Numeric if numbers == Numbers::Strings => write_string(text, out),
        Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Float4 | Kind::Float8 | Kind::Numeric
            if is_json_number(text) =>
        {
            out.extend_from_slice(text);
        }
        Kind::Json | Kind::Jsonb if is_json(text) => out.extend_from_slice(text),
        Kind::Timestamp | Kind::TimestampTz => write_timestamp(kind, text, out),
        Kind::Array(element) => json_nested::write_array(element, text, numbers, out)?,
        Kind::Vector(element) => json_nested::write_vector(element, text, numbers, out)?,
        Kind::Composite {
            attributes,
            only_grew,
        } => json_nested::write_composite(attributes, *only_grew, text, numbers, out)?,
        Kind::Hstore => json_nested::write_hstore(text, out)?,
        _ => write_string(text, out),
    }
    Some(())
}

/// Appends a JSON string, escaped as Postgres escapes it. Bytes that are not UTF-8 become U+FFFD.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    match std::str::from_utf8(text) {
        Ok(_) => escape(text, out),
        Err(_) => escape(String::from_utf8_lossy(text).as_bytes(), out),
    }
    out.push(b'"');
}

/// The byte behind the backslash in a byte's escape: 0 for none, `u` for `\u00XX`.
fn escape_of(byte: u8) -> u8 {
    match byte {
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        0..0x20 => b'u',
        b'"' | b'\\' => byte,
        _ => 0,
    }
}

/// The place of the first byte that is to be escaped. Looks at 16 bytes at a time, which compilers turn into vector
/// instructions: most texts have no such byte.
fn first_escaped(text: &[u8]) -> Option<usize> {
    let find = |bytes: &[u8]| bytes.iter().position(|byte| escape_of(*byte) != 0);
    if text.len() < 16 {
        return find(text);
    }
    let (blocks, rest) = text.as_chunks::<16>();
    for (number, block) in blocks.iter().enumerate() {
        let flags =
            block.map(|byte| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\'));
        // The first byte is the lowest eight bits.
        let flags = u128::from_le_bytes(flags);
        if flags != 0 {
            return Some(number * 16 + flags.trailing_zeros() as usize / 8);
        }
    }
    Some(text.len() - rest.len() + find(rest)?)
}

/// Appends text that is to stand inside a JSON string.
pub(super) fn escape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = first_escaped(text) {
        let (plain, rest) = text.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, rest)) = rest.split_first() else {
            return;
        };
        match escape_of(*special) {
            b'u' => {
                let hex = |digit: u8| char::from_digit(digit.into(), 16).map_or(b'0', |c| c as u8);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(special >> 4), hex(special & 15)]);
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
        text = rest;
    }
    out.extend_from_slice(text);
}

/// `2024-01-31 10:00:00+00` to `2024-01-31T10:00:00+00:00`; infinities stay as they are.
fn write_timestamp(kind: &Kind, text: &[u8], out: &mut Vec<u8>) {
    let space = text.iter().position(|b| *b == b' ');
    let (Some(space), Some(b'0'..=b'9'), true) = (space, text.first(), text.is_ascii()) else {
        return write_string(text, out);
    };
    let (date, rest) = text.split_at(space);
    let rest = rest.get(1..).unwrap_or_default();
    let time = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
    let (time, era) = rest.split_at(time);
    out.push(b'"');
    escape(date, out);
    out.push(b'T');
    escape(time, out);
    let offset = time.iter().rposition(|b| matches!(b, b'+' | b'-'));
    if *kind == Kind::TimestampTz && offset.is_some_and(|at| time.len() - at == 3) {
        out.extend_from_slice(b":00");
    }
    escape(era, out);
    out.push(b'"');
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
