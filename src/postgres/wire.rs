//! The messages of the frontend/backend protocol that a client of ours meets, read in place. Pure.
//!
//! `postgres-protocol` builds what we send; what the server sends is read here, because that crate knows neither
//! CopyBothResponse nor a body that stays in the buffer it arrived in. The chapter is "Message Formats" of the
//! PostgreSQL documentation.

use super::server_error::ServerError;

/// Bytes from the server that are not the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message ends inside a field.
    #[error("the server's message ends inside its {0}")]
    Truncated(&'static str),
    /// A length field that no message can have.
    #[error("the server sent a message of impossible length {0}: is this a Postgres server?")]
    Length(i32),
    /// A message larger than we are ready to hold.
    #[error("the server sent a message of {bytes} bytes; the limit is {limit}")]
    TooLong {
        /// The message's size, its header included.
        bytes: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// A message that does not belong here.
    #[error("the server sent an unexpected message {:?} in answer to {answering}", char::from(*tag))]
    Unexpected {
        /// The message's first byte.
        tag: u8,
        /// The request.
        answering: &'static str,
    },
    /// A text that is not UTF-8, although `client_encoding` is.
    #[error("the server's {0} is not UTF-8")]
    NotUtf8(&'static str),
    /// CopyData inside a replication stream that is neither data nor a keepalive.
    #[error("the server sent replication data of unknown kind {0:#04x}")]
    Replication(u8),
}

/// The length of a message's tag and length field.
pub(super) const HEADER: usize = 5;

/// A message's tag and its size on the wire (header included), or `None` while the header is incomplete.
pub(super) fn header(bytes: &[u8]) -> Result<Option<(u8, usize)>, WireError> {
    let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes([a, b, c, d]);
    let size = usize::try_from(length).ok().filter(|&n| n >= 4).map(|n| n + 1);
    size.map(|size| Some((tag, size)))
        .ok_or(WireError::Length(length))
}

/// A message from the server, its body still in the receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawMessage<'a> {
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
}

/// A message from the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Authentication(Authentication<'a>),
    ParameterStatus {
        name: &'a str,
        value: &'a str,
    },
    BackendKey {
        pid: u32,
        secret: u32,
    },
    ReadyForQuery,
    RowDescription(RowDescription<'a>),
    DataRow(DataRow<'a>),
    CommandComplete,
    /// A portal has given as many rows as were asked for, and may have more.
    PortalSuspended,
    Error(Box<ServerError>),
    Notice(Box<ServerError>),
    CopyBoth,
    CopyData(&'a [u8]),
    CopyDone,
    /// A message that says nothing we need: an empty query's answer, a notification, that a statement was parsed.
    Irrelevant,
    /// A message whose tag we do not know, or that only answers what we never ask.
    Unknown,
}

impl<'a> RawMessage<'a> {
    /// The error that this message is as an answer to something else.
    pub(super) fn unexpected(self, answering: &'static str) -> WireError {
        let tag = self.tag;
        WireError::Unexpected { tag, answering }
    }

    /// Reads the body.
    pub(super) fn parse(self) -> Result<Message<'a>, WireError> {
        let mut reader = Reader(self.body);
        Ok(match self.tag {
            b'R' => Message::Authentication(Authentication::parse(&mut reader)?),
            b'S' => Message::ParameterStatus {
                name: utf8(reader.c_string("parameter's name")?, "parameter's name")?,
                value: utf8(reader.c_string("parameter's value")?, "parameter's value")?,
            },
            b'K' => Message::BackendKey {
                pid: reader.u32("process ID")?,
                secret: reader.u32("secret key")?,
            },
            b'Z' => Message::ReadyForQuery,
            b'T' => Message::RowDescription(RowDescription(self.body)),
            b'D' => Message::DataRow(DataRow {
                columns: reader.u16("number of columns")?,
                values: reader.0,
            }),
            b'C' => Message::CommandComplete,
            b's' => Message::PortalSuspended,
            b'E' => Message::Error(Box::new(server_error(&mut reader)?)),
            b'N' => Message::Notice(Box::new(server_error(&mut reader)?)),
            b'W' => Message::CopyBoth,
            b'd' => Message::CopyData(self.body),
            b'c' => Message::CopyDone,
            b'I' | b'A' | b'v' | b'1' | b'2' | b'3' | b'n' => Message::Irrelevant,
            _ => Message::Unknown,
        })
    }
}

/// The proof that the server wants of who we are ("AuthenticationOk" and its siblings).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Authentication<'a> {
    Ok,
    CleartextPassword,
    Md5Password {
        salt: [u8; 4],
    },
    Sasl {
        mechanisms: Vec<&'a str>,
    },
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    /// A method that we do not speak, by name.
    Unsupported(&'static str),
}

impl<'a> Authentication<'a> {
    fn parse(reader: &mut Reader<'a>) -> Result<Authentication<'a>, WireError> {
        Ok(match reader.u32("authentication method")? {
            0 => Authentication::Ok,
            2 => Authentication::Unsupported("Kerberos 5"),
            3 => Authentication::CleartextPassword,
            5 => Authentication::Md5Password {
                salt: reader.u32("salt")?.to_be_bytes(),
            },
            7 | 8 => Authentication::Unsupported("GSSAPI"),
            9 => Authentication::Unsupported("SSPI"),
            10 => {
                let mut mechanisms = Vec::new();
                loop {
                    let mechanism = utf8(reader.c_string("SASL mechanism")?, "SASL mechanism")?;
                    if mechanism.is_empty() {
                        break Authentication::Sasl { mechanisms };
                    }
                    mechanisms.push(mechanism);
                }
            }
            11 => Authentication::SaslContinue(reader.0),
            12 => Authentication::SaslFinal(reader.0),
            _ => Authentication::Unsupported("a method unknown to walcast"),
        })
    }
}

/// A result row: the values are read one after the other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DataRow<'a> {
    columns: u16,
    values: &'a [u8],
}

impl<'a> DataRow<'a> {
    /// The row's values as text, `None` for null.
    pub(super) fn values(&self) -> Result<Vec<Option<&'a str>>, WireError> {
        let mut reader = Reader(self.values);
        (0..self.columns)
            .map(|_| match reader.u32("value's length")? {
                u32::MAX => Ok(None),
                length => utf8(reader.take(length as usize, "value")?, "value").map(Some),
            })
            .collect()
    }
}

impl<'a> DataRow<'a> {
    /// The row's values as they came, `None` for null.
    pub(super) fn bytes(&self) -> Result<Vec<Option<&'a [u8]>>, WireError> {
        let mut reader = Reader(self.values);
        (0..self.columns)
            .map(|_| match reader.u32("value's length")? {
                u32::MAX => Ok(None),
                length => reader.take(length as usize, "value").map(Some),
            })
            .collect()
    }
}

/// The description of an answer's rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowDescription<'a>(&'a [u8]);

/// A column of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The table that it is a column of, 0 if of none.
    pub table_oid: u32,
    /// The type's OID.
    pub type_oid: u32,
    /// The type modifier (`atttypmod`), -1 for none.
    pub typmod: i32,
}

impl RowDescription<'_> {
    /// The columns of the rows.
    pub(super) fn fields(&self) -> Result<Vec<Field>, WireError> {
        let mut reader = Reader(self.0);
        let count = reader.u16("number of columns")?;
        (0..count)
            .map(|_| {
                reader.c_string("column's name")?;
                let table_oid = reader.u32("column's table")?;
                reader.take(2, "column's number")?;
                let type_oid = reader.u32("column's type")?;
                reader.take(2, "column's size")?;
                let typmod = reader.u32("column's modifier")?.cast_signed();
                reader.take(2, "column's format")?;
                Ok(Field {
                    table_oid,
                    type_oid,
                    typmod,
                })
            })
            .collect()
    }
}

/// Reads the fields of ErrorResponse and NoticeResponse ("Error and Notice Message Fields").
fn server_error(reader: &mut Reader<'_>) -> Result<ServerError, WireError> {
    let mut error = ServerError::default();
    loop {
        let field = reader.u8("error fields")?;
        if field == 0 {
            return Ok(error);
        }
        // Before the session's encoding is settled, messages come in the database's own.
        let text = String::from_utf8_lossy(reader.c_string("error field")?).into_owned();
        match field {
            b'S' if error.severity.is_empty() => error.severity = text,
            b'V' => error.severity = text,
            b'C' => error.code = text,
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'H' => error.hint = Some(text),
            b'W' => error.context = Some(text),
            b'R' => error.routine = Some(text),
            _ => {}
        }
    }
}

fn utf8<'a>(bytes: &'a [u8], field: &'static str) -> Result<&'a str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::NotUtf8(field))
}

/// Checked reads from the front of a message's body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(WireError::Truncated(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(WireError::Truncated(field))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// The bytes up to the next zero byte, which is skipped.
    fn c_string(&mut self, field: &'static str) -> Result<&'a [u8], WireError> {
        let end = self.0.iter().position(|&byte| byte == 0);
        let text = self.take(end.ok_or(WireError::Truncated(field))?, field)?;
        self.u8(field)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(tag: u8, body: &[u8]) -> Result<Message<'_>, WireError> {
        RawMessage { tag, body }.parse()
    }

    #[test]
    fn a_header_gives_the_whole_size_once_it_is_there() {
        assert_eq!(header(b"Z\0\0\0"), Ok(None));
        assert_eq!(header(b"Z\0\0\0\x05I"), Ok(Some((b'Z', 6))));
        assert_eq!(header(b"HTTP/1.1"), Ok(Some((b'H', 0x5454_502f + 1))));
        assert_eq!(header(b"Z\0\0\0\x03"), Err(WireError::Length(3)));
        assert_eq!(header(b"Z\xff\xff\xff\xff"), Err(WireError::Length(-1)));
    }

    #[test]
    fn rows_tell_null_from_empty_text() {
        let Ok(Message::DataRow(row)) = parse(b'D', b"\0\x03\0\0\0\x02hi\xff\xff\xff\xff\0\0\0\0") else {
            panic!("not a row");
        };
        assert_eq!(row.values(), Ok(vec![Some("hi"), None, Some("")]));
        let Ok(Message::DataRow(short)) = parse(b'D', b"\0\x01\0\0\0\x05hi") else {
            panic!("not a row");
        };
        assert_eq!(short.values(), Err(WireError::Truncated("value")));
    }

    #[test]
    fn an_error_keeps_its_code_and_prefers_the_untranslated_severity() {
        let body = b"SFEHLER\0VERROR\0C42704\0Mgone\0Hlook\0q?\0\0";
        let expected = ServerError {
            severity: "ERROR".into(),
            code: "42704".into(),
            message: "gone".into(),
            hint: Some("look".into()),
            ..ServerError::default()
        };
        assert_eq!(parse(b'E', body), Ok(Message::Error(Box::new(expected))));
    }

    #[test]
    fn sasl_mechanisms_are_listed_until_the_empty_one() {
        let body = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let mechanisms = vec!["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
        assert_eq!(
            parse(b'R', body),
            Ok(Message::Authentication(Authentication::Sasl { mechanisms }))
        );
        let cut = parse(b'R', &body[..body.len() - 1]);
        assert_eq!(cut, Err(WireError::Truncated("SASL mechanism")));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(tag: u8, body: Vec<u8>) {
            if let Ok(Message::DataRow(row)) = parse(tag, &body) {
                drop(row.values());
            }
            drop(header(&body));
        }
    }
}
