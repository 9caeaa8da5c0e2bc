//! [`Fields`]: checked reads from the front of a message.

use super::error::Error;
use crate::event::{Timestamp, Tuple};
use crate::lsn::Lsn;

/// The rest of a message. Each read names its field, so that an error says where the message broke.
#[derive(Clone, Copy, Debug)]
pub(in crate::decode) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(in crate::decode) fn new(message: &'a [u8]) -> Fields<'a> {
        Fields(message)
    }

    /// The next `n` bytes.
    pub(in crate::decode) fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Error::Truncated { field })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Error> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Error::Truncated { field })?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(in crate::decode) fn u8(&mut self, field: &'static str) -> Result<u8, Error> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(in crate::decode) fn u16(&mut self, field: &'static str) -> Result<u16, Error> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(in crate::decode) fn u32(&mut self, field: &'static str) -> Result<u32, Error> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(in crate::decode) fn i32(&mut self, field: &'static str) -> Result<i32, Error> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(in crate::decode) fn lsn(&mut self, field: &'static str) -> Result<Lsn, Error> {
        self.array(field).map(u64::from_be_bytes).map(Lsn)
    }

    pub(in crate::decode) fn timestamp(&mut self, field: &'static str) -> Result<Timestamp, Error> {
        self.array(field).map(i64::from_be_bytes).map(Timestamp)
    }

    /// A string that ends with a zero byte, in UTF-8.
    pub(in crate::decode) fn string(&mut self, field: &'static str) -> Result<&'a str, Error> {
        let end = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(Error::Truncated { field })?;
        let text = self.take(end, field)?;
        self.u8(field)?;
        std::str::from_utf8(text).map_err(|_| Error::NotUtf8 { field })
    }

    /// A row: TupleData.
    pub(in crate::decode) fn tuple(&mut self, row: &'static str) -> Result<Tuple<'a>, Error> {
        let (tuple, rest) = Tuple::parse(self.0).map_err(|cause| Error::Tuple { row, cause })?;
        self.0 = rest;
        Ok(tuple)
    }

    /// All that is left.
    pub(in crate::decode) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Ends the message: bytes left over mean that it was not what we took it for.
    pub(in crate::decode) fn finish(self, message: &'static str) -> Result<(), Error> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(Error::Leftover { message, bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_from_the_front_and_name_what_is_missing() {
        let mut fields = Fields::new(b"\x07\x00\x01name\0\xff");
        assert_eq!(fields.u8("a"), Ok(7));
        assert_eq!(fields.u16("b"), Ok(1));
        assert_eq!(fields.string("c"), Ok("name"));
        assert_eq!(fields.u32("d"), Err(Error::Truncated { field: "d" }));
        assert_eq!(fields.string("e"), Err(Error::Truncated { field: "e" }));
        let left = Error::Leftover {
            message: "Test",
            bytes: 1,
        };
        assert_eq!(fields.finish("Test"), Err(left));
    }

    #[test]
    fn a_string_that_is_not_utf8_is_refused() {
        let mut fields = Fields::new(b"\xff\xfe\0");
        assert_eq!(fields.string("name"), Err(Error::NotUtf8 { field: "name" }));
    }
}
