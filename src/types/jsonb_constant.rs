//! [`Jsonb`], a constant.

use std::sync::Arc;

use super::json::{escape, write_string};
use super::json_error::MAX_DEPTH;
use super::json_read::{Children, Shape, split_string, split_value, unescape, without_blanks};
use super::json_text::is_json;
use super::parse::literal;
use super::{Datum, Document, JsonForm, Kind, LiteralError};

/// A constant of type `jsonb`. Equal ones are equal in Postgres; their order here is for collections and means nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jsonb(Arc<[u8]>);

impl Jsonb {
    /// The value of a quoted literal.
    pub fn literal(text: &str) -> Result<Jsonb, LiteralError> {
        let invalid = || LiteralError::Invalid {
            ty: Kind::Jsonb.name(),
            text: text.to_owned(),
        };
        if !is_json(text.as_bytes()) {
            return Err(invalid());
        }
        let (value, _) = split_value(without_blanks(text.as_bytes())).ok_or_else(invalid)?;
        let mut out = Vec::with_capacity(text.len());
        canonical(value, MAX_DEPTH, &mut out)?.ok_or_else(invalid)?;
        Ok(Jsonb(out.into()))
    }

    /// The number of bytes that it takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if it takes none, which no value does.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of objects and arrays that stand in arrays.
    pub fn containers_in_arrays(&self) -> usize {
        let mut rest = &*self.0;
        let mut open = Vec::new();
        let mut count = 0;
        while let Some((byte, after)) = rest.split_first() {
            rest = match byte {
                b'"' => split_string(rest).map_or(after, |(_, after)| after),
                b'{' | b'[' => {
                    count += usize::from(open.last() == Some(&b'['));
                    open.push(*byte);
                    after
                }
                b'}' | b']' => {
                    open.pop();
                    after
                }
                _ => after,
            };
        }
        count
    }

    /// The value, for comparing with others. (Its numbers are not spelled as the server spells them.)
    pub fn document(&self) -> Document<'_> {
        Document::new(&self.0, JsonForm::Jsonb)
    }
}

/// Appends a value in the one way of writing it; `None` if it is malformed.
fn canonical(value: &[u8], depth: usize, out: &mut Vec<u8>) -> Result<Option<()>, LiteralError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(LiteralError::TooDeep {
            ty: Kind::Jsonb.name(),
            limit: MAX_DEPTH,
        });
    };
    let Some(shape) = Shape::of(value) else {
        return Ok(None);
    };
    match shape {
        Shape::Null | Shape::Bool => out.extend_from_slice(value),
        Shape::String => {
            let Some(text) = unescape(value) else {
                return Ok(None);
            };
            write_string(&text, out);
        }
        Shape::Number => {
            let text = String::from_utf8_lossy(value);
            if let Datum::Numeric(number) = literal(&Kind::Numeric, &text)? {
                // Without an exponent, a few digits of the literal could become a hundred thousand.
                out.extend_from_slice(number.to_scientific().as_bytes());
            }
        }
        Shape::Array => {
            let mut separator = b'[';
            for child in Children::of(value) {
                let Ok(child) = child else {
                    return Ok(None);
                };
                out.push(separator);
                separator = b',';
                if canonical(child.value, depth, out)?.is_none() {
                    return Ok(None);
                }
            }
            if separator == b'[' {
                out.push(b'[');
            }
            out.push(b']');
        }
        Shape::Object => {
            let mut members = Vec::new();
            for child in Children::of(value) {
                let Some((child, key)) = child.ok().and_then(|child| Some((child, unescape(child.key)?)))
                else {
                    return Ok(None);
                };
                members.push((key, child.value));
            }
            // In a stable order of length, then bytes; of those with the same key the last is kept.
            members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
            out.push(b'{');
            let mut separator: &[u8] = b"\"";
            let mut members = members.into_iter().peekable();
            while let Some((key, value)) = members.next() {
                let mark = out.len();
                let is_kept = members.peek().is_none_or(|(next, _)| *next != key);
                out.extend_from_slice(separator);
                escape(&key, out);
                out.extend_from_slice(b"\":");
                if canonical(value, depth, out)?.is_none() {
                    return Ok(None);
                }
                if is_kept {
                    separator = b",\"";
                } else {
                    out.truncate(mark);
                }
            }
            out.push(b'}');
        }
    }
    Ok(Some(()))
}
