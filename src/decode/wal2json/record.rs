//! [`Record`]: one message of wal2json's, format version 2, read in place.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::Error;
use crate::event::Timestamp;
use crate::lsn::Lsn;
use crate::types::{Datum, Reading};

/// An operation on rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// A message as wal2json writes it. Fields that are of no use here, and those of versions to come, are passed over.
#[derive(Debug, Deserialize)]
pub struct Record<'a> {
    /// `B`, `C`, `I`, `U`, `D`, `T` or `M`.
    #[serde(borrow)]
    pub(super) action: Text<'a>,
    pub(super) xid: Option<u32>,
    #[serde(borrow)]
    timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    lsn: Option<Text<'a>>,
    #[serde(borrow)]
    nextlsn: Option<Text<'a>>,
    #[serde(borrow)]
    schema: Option<Text<'a>>,
    #[serde(borrow)]
    table: Option<Text<'a>>,
    /// The new row, without values that are TOASTed and unchanged.
    #[serde(borrow, default)]
    pub(super) columns: Vec<Field<'a>>,
    /// The replica identity's columns of the old row; if the log does not hold them, of the new one.
    #[serde(borrow, default)]
    pub(super) identity: Vec<Field<'a>>,
}

/// A string, borrowed if it has no escapes. (Within an option serde borrows only by such a type.)
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A column of a row.
#[derive(Debug, Deserialize)]
pub(super) struct Field<'a> {
    #[serde(borrow)]
    pub(super) name: Text<'a>,
    /// Written as a signed number.
    typeoid: i64,
    #[serde(borrow)]
    value: &'a RawValue,
}

const BOOL: u32 = 16;
const BYTEA: u32 = 17;

impl<'a> Record<'a> {
    /// Reads one message: the whole of an XLogData's payload.
    pub fn parse(message: &'a [u8]) -> Result<Record<'a>, Error> {
        serde_json::from_slice(message).map_err(|error| Error::Json(error.to_string()))
    }

    /// `B`, `C`, `I`, `U`, `D`, `T` or `M`.
    pub(in crate::decode) fn action(&self) -> &str {
        &self.action.0
    }

    /// The low 32 bits of the transaction's ID.
    pub(in crate::decode) fn xid(&self) -> Result<u32, Error> {
        self.xid.ok_or(Error::Missing("xid"))
    }

    /// The start of the commit record, and where it ends.
    pub(in crate::decode) fn commit(&self) -> Result<(Lsn, Lsn), Error> {
        Ok((
            lsn(self.lsn.as_ref(), "lsn")?,
            lsn(self.nextlsn.as_ref(), "nextlsn")?,
        ))
    }

    /// The time of the transaction's commit.
    pub(in crate::decode) fn committed_at(&self) -> Result<Timestamp, Error> {
        let text = given(self.timestamp.as_ref(), "timestamp")?;
        match Reading::TimestampTz.read(text.as_bytes()) {
            Some(Datum::Timestamp(micros)) => Ok(Timestamp(micros)),
            _ => Err(Error::Field {
                field: "timestamp",
                value: text.to_owned(),
            }),
        }
    }

    /// The table's schema and name.
    pub(super) fn table(&self) -> Result<(&str, &str), Error> {
        Ok((
            given(self.schema.as_ref(), "schema")?,
            given(self.table.as_ref(), "table")?,
        ))
    }
}

fn given<'r>(text: Option<&'r Text<'_>>, field: &'static str) -> Result<&'r str, Error> {
    text.map(|text| &*text.0).ok_or(Error::Missing(field))
}

fn lsn(text: Option<&Text<'_>>, field: &'static str) -> Result<Lsn, Error> {
    let text = given(text, field)?;
    text.parse().map_err(|_| Error::Field {
        field,
        value: text.to_owned(),
    })
}

impl Field<'_> {
    /// The OID of the column's type; wal2json prints it by `%d`.
    pub(super) fn type_oid(&self) -> u32 {
        self.typeoid as u32
    }

    /// True if the two have the same value.
    pub(super) fn same_value(&self, other: &Field<'_>) -> bool {
        self.value.get() == other.value.get()
    }

    /// Appends the value as TupleData has it: with the text that pgoutput sends.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let json = self.value.get();
        let unescaped;
        let (prefix, text) = match json.as_bytes().first() {
            Some(b'n') => {
                out.push(b'n');
                return Ok(());
            }
            Some(b't') if self.type_oid() == BOOL => ("", "t"),
            Some(b'f') if self.type_oid() == BOOL => ("", "f"),
            // Numbers stand as the server prints them.
            Some(b'-' | b'0'..=b'9') => ("", json),
            Some(b'"') => {
                // wal2json cuts off the `\x` of a bytea, though not of a domain's or an array's.
                let prefix = if self.type_oid() == BYTEA { "\\x" } else { "" };
                let inside = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                match inside.filter(|inside| !inside.contains('\\')) {
                    Some(inside) => (prefix, inside),
                    None => {
                        unescaped = serde_json::from_str::<String>(json)
                            .map_err(|error| Error::Json(error.to_string()))?;
                        (prefix, &*unescaped)
                    }
                }
            }
            _ => {
                return Err(Error::Value {
                    column: self.name.0.clone().into_owned(),
                });
            }
        };
        let len = u32::try_from(prefix.len() + text.len()).map_err(|_| Error::Value {
            column: self.name.0.clone().into_owned(),
        })?;
        out.push(b't');
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
