//! Values that hold values: arrays, vectors, composites and hstore, from the text of their output functions.
//!
//! Nesting is quoting: the text of an array that is a composite's attribute is quoted once more for each level. A text
//! without anything to unquote is read in place, a string's pieces are written one by one, and only a nested value is
//! put together first, in a buffer that the thread keeps: no value costs an allocation.

use std::borrow::Cow;
use std::cell::RefCell;

use super::json::{Numbers, escape, write_kind, write_string};
use super::json_text::is_json;
use super::{Attribute, Kind};

/// The most dimensions that an array has (`MAXDIM`).
pub(super) const MAX_DIMENSIONS: usize = 6;

/// Appends an array; `None` if the text is none (documentation, "Array Input and Output Syntax"), after having
/// appended part of it.
pub(super) fn write_array(element: &Kind, text: &[u8], numbers: Numbers, out: &mut Vec<u8>) -> Option<()> {
    let delimiter = element.delimiter();
    let mut rest = match text.first()? {
        // Bounds other than the usual stand before the braces: [2:3]={…}
        b'[' => text.get(text.iter().position(|b| *b == b'=')? + 1..)?,
        _ => text,
    };
    let mut depth = 0;
    let mut expects_item = true;
    while let Some((byte, after)) = rest.split_first() {
        match byte {
            b'{' if expects_item && depth < MAX_DIMENSIONS => {
                depth += 1;
                out.push(b'[');
                rest = after;
                if rest.first() == Some(&b'}') {
                    expects_item = false;
                }
            }
            b'}' if !expects_item && depth > 0 => {
                depth -= 1;
                out.push(b']');
                rest = after;
                if depth == 0 {
                    return rest.is_empty().then_some(());
                }
            }
            byte if *byte == delimiter && !expects_item => {
                out.push(b',');
                rest = after;
                expects_item = true;
            }
            b'"' if expects_item && depth > 0 => {
                let (quoted, after) = Quoted::split(rest)?;
                quoted.write(element, numbers, out)?;
                rest = after;
                expects_item = false;
            }
            _ if expects_item && depth > 0 => {
                let is_end = |b: &u8| *b == delimiter || matches!(b, b'}' | b'{' | b'"' | b'\\');
                let (item, after) = rest.split_at_checked(rest.iter().position(is_end)?)?;
                match item {
                    b"" => return None,
                    b"NULL" => out.extend_from_slice(b"null"),
                    item => write_kind(element, item, numbers, out)?,
                }
                rest = after;
                expects_item = false;
            }
            _ => return None,
        }
    }
    None
}

/// Appends an `int2vector` or `oidvector` as an array; `None` as for [`write_array`].
pub(super) fn write_vector(element: &Kind, text: &[u8], numbers: Numbers, out: &mut Vec<u8>) -> Option<()> {
    let mut separator = b'[';
    if !text.is_empty() {
        for item in text.split(|b| *b == b' ') {
            out.push(separator);
            separator = b',';
            write_kind(element, item, numbers, out)?;
        }
    }
    if separator == b'[' {
        out.push(b'[');
    }
    out.push(b']');
    Some(())
}

/// Appends a composite as an object; `None` as for [`write_array`], also if the text has more attributes, or fewer and
/// some may have been dropped (documentation, "Composite Type Input and Output Syntax").
pub(super) fn write_composite(
    attributes: &[Attribute],
    only_grew: bool,
    text: &[u8],
    numbers: Numbers,
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut rest = text.strip_prefix(b"(")?;
    let mut separator = b'{';
    for Attribute { name, kind, .. } in attributes {
        if separator == b',' {
            match rest.strip_prefix(b",") {
                Some(after) => rest = after,
                None if only_grew => break,
                None => return None,
            }
        }
        out.push(separator);
        separator = b',';
        write_string(name.as_bytes(), out);
        out.push(b':');
        rest = match rest.first()? {
            b',' | b')' => {
                out.extend_from_slice(b"null");
                rest
            }
            b'"' => {
                let (quoted, after) = Quoted::split(rest)?;
                quoted.write(kind, numbers, out)?;
                after
            }
            _ => {
                let is_end = |b: &u8| matches!(b, b',' | b')' | b'(' | b'"' | b'\\');
                let (item, after) = rest.split_at_checked(rest.iter().position(is_end)?)?;
                write_kind(kind, item, numbers, out)?;
                after
            }
        };
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
    (rest == b")").then_some(())
}

/// Appends an hstore as `hstore_to_json` prints it, an object of strings; `None` as for [`write_array`].
pub(super) fn write_hstore(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    out.push(b'{');
    while !rest.is_empty() {
        if rest.len() < text.len() {
            rest = rest.strip_prefix(b", ")?;
            out.extend_from_slice(b", ");
        }
        let (key, after) = Quoted::split(rest)?;
        key.write_string(out);
        out.extend_from_slice(b": ");
        rest = after.strip_prefix(b"=>")?;
        if let Some(after) = rest.strip_prefix(b"NULL") {
            out.extend_from_slice(b"null");
            rest = after;
        } else {
            let (value, after) = Quoted::split(rest)?;
            value.write_string(out);
            rest = after;
        }
    }
    out.push(b'}');
    Some(())
}

/// The text between two quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quoted<'a> {
    text: &'a [u8],
    /// True if some of it is escaped: by a backslash, or, in composites, by doubling a quote.
    is_escaped: bool,
}

impl<'a> Quoted<'a> {
    /// The quoted text that `text` starts with, and what follows the closing quote.
    pub(super) fn split(text: &'a [u8]) -> Option<(Quoted<'a>, &'a [u8])> {
        let text = text.strip_prefix(b"\"")?;
        let mut end = 0;
        let mut is_escaped = false;
        loop {
            end += text.get(end..)?.iter().position(|b| matches!(b, b'"' | b'\\'))?;
            match text.get(end..)? {
                // Nothing but a separator follows a closing quote: this is a doubled one.
                [b'\\', ..] | [b'"', b'"', ..] => is_escaped = true,
                _ => break,
            }
            end += 2;
        }
        let (quoted, rest) = text.split_at_checked(end)?;
        let quoted = Quoted {
            text: quoted,
            is_escaped,
        };
        Some((quoted, rest.get(1..)?))
    }

    /// The text itself, in place if nothing is escaped.
    pub(super) fn text(self) -> Cow<'a, [u8]> {
        if self.is_escaped {
            let mut text = Vec::with_capacity(self.text.len());
            self.unescape(&mut text);
            Cow::Owned(text)
        } else {
            Cow::Borrowed(self.text)
        }
    }

    /// Appends what the text is as a value of that kind; `None` as for [`write_array`].
    fn write(self, kind: &Kind, numbers: Numbers, out: &mut Vec<u8>) -> Option<()> {
        match kind {
            _ if !self.is_escaped => return write_kind(kind, self.text, numbers, out),
            Kind::Array(_) | Kind::Vector(_) | Kind::Composite { .. } | Kind::Hstore => {
                return with_buffer(|text| {
                    self.unescape(text);
                    write_kind(kind, text, numbers, out)
                });
            }
            Kind::Json | Kind::Jsonb => {
                let mark = out.len();
                self.unescape(out);
                if out.get(mark..).is_some_and(is_json) {
                    return Some(());
                }
                out.truncate(mark);
            }
            // The text of everything else that needs escapes is a string.
            _ => {}
        }
        self.write_string(out);
        Some(())
    }

    /// Appends the text as a JSON string.
    fn write_string(self, out: &mut Vec<u8>) {
        // What escapes is ASCII: pieces of valid UTF-8 between them are valid.
        if std::str::from_utf8(self.text).is_ok() {
            out.push(b'"');
            self.pieces().for_each(|piece| escape(piece, out));
            out.push(b'"');
        } else {
            with_buffer(|text| {
                self.unescape(text);
                write_string(text, out);
            });
        }
    }

    /// Appends the text itself.
    fn unescape(self, out: &mut Vec<u8>) {
        self.pieces().for_each(|piece| out.extend_from_slice(piece));
    }

    /// The pieces that are left when what escapes is taken away.
    fn pieces(self) -> impl Iterator<Item = &'a [u8]> {
        let mut text = self.text;
        std::iter::from_fn(move || {
            // What is escaped is taken as it is, be it a backslash or a quote.
            let piece = match text.split_first()? {
                (b'\\' | b'"', escaped) => escaped,
                _ => text,
            };
            let next = piece
                .iter()
                .skip(1)
                .position(|b| matches!(b, b'\\' | b'"'))
                .map_or(piece.len(), |at| at + 1);
            let (piece, rest) = piece.split_at_checked(next)?;
            text = rest;
            Some(piece)
        })
    }
}

/// The longest buffer that is kept, in bytes: a rare giant is not to stay in memory.
const MAX_KEPT: usize = 1 << 20;

thread_local! {
    /// Empty buffers, as many as values were nested.
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `act` with an empty buffer, one of its own within another's.
pub(super) fn with_buffer<T>(act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
    let result = act(&mut buffer);
    if buffer.capacity() <= MAX_KEPT {
        buffer.clear();
        BUFFERS.with_borrow_mut(|kept| kept.push(buffer));
    }
    result
}
