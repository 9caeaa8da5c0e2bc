//! [`Tuple`]: a row's values, read in place from the bytes that the server sent.
//!
//! The encoding is pgoutput's TupleData (documentation, "Logical Replication Message Formats"): a 16-bit count of
//! columns, then for each a tag: `n` null, `u` unchanged TOAST, `t` text with a 32-bit length. The journal keeps it as
//! it is, so a row's bytes are copied once between the socket and the file, and read where they lie.

/// The value of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL's null.
    Null,
    /// A TOASTed value that the update did not change and that Postgres therefore did not log: neither null nor known.
    Unchanged,
    /// The value's text, in UTF-8 as the server printed it.
    Text(&'a [u8]),
}

/// The bytes end before the tuple does, or hold a tag that is not one of TupleData's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Truncated {
    /// The bytes end inside the tuple.
    #[error("the tuple is cut short")]
    Short,
    /// A column's tag is none of `n`, `u` and `t` (`b`, the binary format, is never asked for).
    #[error("unknown column tag {0:#04x} in a tuple")]
    Tag(u8),
}

/// A row's values in the relation's column order, checked once when it was made. Copying it copies a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple<'a> {
    columns: u16,
    /// The columns, without the count before them; all of them and nothing else.
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// Reads a tuple from the front of `bytes`, checking it to its end, and returns it with what follows it.
    pub fn parse(bytes: &'a [u8]) -> Result<(Tuple<'a>, &'a [u8]), Truncated> {
        let (count, body) = bytes.split_first_chunk::<2>().ok_or(Truncated::Short)?;
        let columns = u16::from_be_bytes(*count);
        let mut rest = body;
        for _ in 0..columns {
            rest = read_value(rest)?.1;
        }
        let bytes = body.get(..body.len() - rest.len()).ok_or(Truncated::Short)?;
        Ok((Tuple { columns, bytes }, rest))
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// True if there are no columns (Postgres allows such tables).
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// The value of column `index`, or `None` if there are not so many.
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        self.values().nth(index)
    }

    /// The values in column order.
    pub fn values(&self) -> Values<'a> {
        Values { rest: self.bytes }
    }

    /// The number of bytes that the encoding has.
    pub fn encoded_len(&self) -> usize {
        2 + self.bytes.len()
    }

    /// Appends the encoding, as [`Tuple::parse`] reads it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.columns.to_be_bytes());
        out.extend_from_slice(self.bytes);
    }
}

/// The values of a [`Tuple`], in column order.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (value, rest) = read_value(self.rest).ok()?;
        self.rest = rest;
        Some(value)
    }
}

#[inline]
fn read_value(bytes: &[u8]) -> Result<(Value<'_>, &[u8]), Truncated> {
    let (&tag, rest) = bytes.split_first().ok_or(Truncated::Short)?;
    match tag {
        b't' => {
            let (len, rest) = rest.split_first_chunk::<4>().ok_or(Truncated::Short)?;
            let (text, rest) = rest
                .split_at_checked(u32::from_be_bytes(*len) as usize)
                .ok_or(Truncated::Short)?;
            Ok((Value::Text(text), rest))
        }
        b'n' => Ok((Value::Null, rest)),
        b'u' => Ok((Value::Unchanged, rest)),
        tag => Err(Truncated::Tag(tag)),
    }
}

/// Builds a tuple's encoding value by value: for tests, and for sources whose own encoding is another.
pub fn encode_values<'a>(values: impl ExactSizeIterator<Item = Value<'a>>, out: &mut Vec<u8>) {
    out.extend_from_slice(&(values.len() as u16).to_be_bytes());
    for value in values {
        match value {
            Value::Null => out.push(b'n'),
            Value::Unchanged => out.push(b'u'),
            Value::Text(text) => {
                out.push(b't');
                out.extend_from_slice(&(text.len() as u32).to_be_bytes());
                out.extend_from_slice(text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(values: &[Value<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_values(values.iter().copied(), &mut out);
        out
    }

    #[test]
    fn a_tuple_reads_back_what_was_written_and_leaves_the_rest() {
        let values = [Value::Text(b"1"), Value::Null, Value::Unchanged, Value::Text(b"")];
        let mut bytes = encoded(&values);
        bytes.extend_from_slice(b"rest");
        let (tuple, rest) = Tuple::parse(&bytes).unwrap();
        assert_eq!(tuple.values().collect::<Vec<_>>(), values);
        assert_eq!(
            (tuple.len(), tuple.get(3), tuple.get(4)),
            (4, Some(Value::Text(b"")), None)
        );
        assert_eq!(rest, b"rest");
        let mut again = Vec::new();
        tuple.encode(&mut again);
        assert_eq!(again, encoded(&values));
    }

    #[test]
    fn a_tuple_cut_anywhere_is_refused() {
        let bytes = encoded(&[Value::Text(b"abc"), Value::Null, Value::Text(b"de")]);
        for cut in 0..bytes.len() {
            assert_eq!(Tuple::parse(&bytes[..cut]), Err(Truncated::Short), "cut at {cut}");
        }
        assert_eq!(Tuple::parse(&[0, 1, b'b', 0, 0, 0, 0]), Err(Truncated::Tag(b'b')));
    }
}
