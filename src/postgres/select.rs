//! Typed queries: one statement with bound parameters and typed answers, in Postgres' binary formats (documentation,
//! "Extended Query"), which `postgres-types` writes and reads.
//!
//! The one thing to know: sessions for replication have none. The server takes only simple queries there
//! (`forbidden_in_wal_sender` in its source), for which there is [`Connection::query`].

use std::io;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
pub(crate) use postgres_types::Type as PgType;
use postgres_types::{FromSql, ToSql, WrongType};

use super::connection::{Connection, MAX_ANSWER};
use super::error::Error;
use super::statement::{Columns, Statement};
use super::wire::{Message, WireError};
use crate::lsn::Lsn;

/// A parameter, `$1` and so on, and its type.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), PgType);

impl Connection {
    /// Runs one statement with its parameters, and returns its rows. The server keeps it for the next time.
    ///
    /// # Errors
    /// The server refuses, the connection breaks, or a parameter is too large.
    pub(crate) fn select(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<TypedRow>, Error> {
        if !self.needs_settings() {
            return self.select_as_set(sql, parameters);
        }
        // The settings go before it, which one statement cannot.
        self.query("BEGIN")?;
        let selected = self.select_as_set(sql, parameters);
        if selected.as_ref().is_err_and(Error::is_fatal) {
            return selected;
        }
        // After an error it rolls back.
        self.query("COMMIT")?;
        selected
    }

    /// Runs one statement that answers with exactly one row.
    ///
    /// # Errors
    /// As [`Connection::select`], and that there are none or more.
    pub(crate) fn select_one(
        &mut self,
        question: &'static str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<TypedRow, Error> {
        let mut rows = self.select(sql, parameters)?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(Error::Answer {
                question,
                problem: "expected one row".into(),
            }),
        }
    }

    fn select_as_set(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<TypedRow>, Error> {
        let is_of_types = |known: &&Statement| known.types.iter().eq(parameters.iter().map(|(_, ty)| ty));
        let known = self.prepared.get(sql).filter(is_of_types).cloned();
        let is_new = known.is_none();
        let statement = known.unwrap_or_else(|| Statement {
            // The process that answers next, behind a pooler, would not know it.
            name: match self.prepared.len() {
                count if count < MAX_PREPARED && !self.is_pooled() => format!("s{count}"),
                _ => String::new(),
            },
            types: parameters.iter().map(|(_, ty)| ty.clone()).collect(),
            columns: Arc::default(),
        });
        self.send(&messages(&statement.name, is_new.then_some(sql), parameters)?)?;
        let mut columns = Arc::clone(&statement.columns);
        let mut rows = Vec::new();
        let mut size = 0;
        self.answers(None, |message| {
            match message {
                Message::RowDescription(description) => {
                    let fields = description.fields()?;
                    columns = fields
                        .iter()
                        .map(|field| PgType::from_oid(field.type_oid))
                        .collect();
                }
                Message::DataRow(row) => {
                    let row = TypedRow::new(&columns, &row.bytes()?);
                    size += row.bytes.len();
                    rows.push(row);
                }
                _ => {}
            }
            if size > MAX_ANSWER {
                return Err(WireError::TooLong {
                    bytes: size,
                    limit: MAX_ANSWER,
                }
                .into());
            }
            Ok(())
        })?;
        if is_new && !statement.name.is_empty() {
            self.prepared
                .insert(sql.to_owned(), Statement { columns, ..statement });
        }
        Ok(rows)
    }
}

/// The statements that a session keeps prepared, at most.
const MAX_PREPARED: usize = 32;

/// The messages that run the statement of that name, and parse it first if it is new.
fn messages(name: &str, new: Option<&str>, parameters: &[Parameter<'_>]) -> Result<BytesMut, Error> {
    /// All values are binary.
    const BINARY: [i16; 1] = [1];
    let mut messages = BytesMut::new();
    let building = Error::io("building a statement");
    if let Some(sql) = new {
        if !name.is_empty() {
            // One of that name is there if it failed before; that there may be none is no error.
            frontend::close(b'S', name, &mut messages).map_err(&building)?;
        }
        let types = parameters.iter().map(|(_, ty)| ty.oid());
        frontend::parse(name, sql, types, &mut messages).map_err(&building)?;
    }
    let write = |(value, ty): &Parameter<'_>, out: &mut BytesMut| {
        Ok(match value.to_sql_checked(ty, out)? {
            postgres_types::IsNull::Yes => IsNull::Yes,
            postgres_types::IsNull::No => IsNull::No,
        })
    };
    frontend::bind("", name, BINARY, parameters, write, BINARY, &mut messages).map_err(|error| {
        let error = match error {
            frontend::BindError::Conversion(error) => error,
            frontend::BindError::Serialization(error) => error.into(),
        };
        building(io::Error::new(io::ErrorKind::InvalidInput, error))
    })?;
    if new.is_some() {
        frontend::describe(b'P', "", &mut messages).map_err(&building)?;
    }
    frontend::execute("", 0, &mut messages).map_err(&building)?;
    frontend::sync(&mut messages);
    Ok(messages)
}

/// A row of a typed answer.
#[derive(Debug)]
pub(crate) struct TypedRow {
    columns: Columns,
    bytes: Vec<u8>,
    /// The place of each value in `bytes`; `None` for null.
    values: Vec<Option<Range<usize>>>,
}

impl TypedRow {
    fn new(columns: &Columns, values: &[Option<&[u8]>]) -> TypedRow {
        let mut bytes = Vec::with_capacity(values.iter().flatten().map(|value| value.len()).sum());
        let place = |value: &Option<&[u8]>| {
            let start = bytes.len();
            bytes.extend_from_slice((*value)?);
            Some(start..bytes.len())
        };
        let values = values.iter().map(place).collect();
        TypedRow {
            columns: Arc::clone(columns),
            bytes,
            values,
        }
    }

    /// The value of column `index`; `Option` where it may be null.
    ///
    /// # Errors
    /// The column is not there, its type is another one, or it is null and must not be.
    pub(crate) fn get<'a, T: FromSql<'a>>(&'a self, index: usize, field: &'static str) -> Result<T, Error> {
        let unexpected = |problem: String| Error::Answer {
            question: field,
            problem,
        };
        let column = self.columns.get(index).zip(self.values.get(index));
        let (ty, place) = column.ok_or_else(|| unexpected(format!("there is no column {index}")))?;
        let ty = ty
            .as_ref()
            .ok_or_else(|| unexpected("its type is not built in".into()))?;
        if !T::accepts(ty) {
            return Err(unexpected(WrongType::new::<T>(ty.clone()).to_string()));
        }
        let value = place.clone().and_then(|place| self.bytes.get(place));
        T::from_sql_nullable(ty, value).map_err(|error| unexpected(error.to_string()))
    }
}

impl TypedRow {
    /// The text of column `index`, read as a `T`.
    ///
    /// # Errors
    /// As [`TypedRow::get`], or the text is no `T`.
    pub(crate) fn parse<T: FromStr>(&self, index: usize, field: &'static str) -> Result<T, Error> {
        let text: &str = self.get(index, field)?;
        text.parse().map_err(|_| Error::Answer {
            question: field,
            problem: format!("cannot read {text:?}"),
        })
    }
}

impl<'a> FromSql<'a> for Lsn {
    fn from_sql(_: &PgType, raw: &'a [u8]) -> Result<Lsn, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Lsn(u64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(ty: &PgType) -> bool {
        *ty == PgType::PG_LSN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_what_it_is_or_not_at_all() {
        let columns = [Some(PgType::INT4), Some(PgType::TEXT), Some(PgType::PG_LSN), None].into();
        let lsn = Lsn(0x16_0000_0001);
        let values: [Option<&[u8]>; 4] = [Some(&[0, 0, 0, 7]), None, Some(&lsn.0.to_be_bytes()), Some(b"?")];
        let row = TypedRow::new(&columns, &values);
        assert_eq!(row.get::<i32>(0, "number").unwrap(), 7);
        assert_eq!(row.get::<Option<&str>>(1, "text").unwrap(), None);
        assert_eq!(row.get::<Lsn>(2, "position").unwrap(), lsn);
        for error in [
            row.get::<i64>(0, "field").unwrap_err(),
            row.get::<&str>(1, "field").unwrap_err(),
            row.get::<&str>(3, "field").unwrap_err(),
            row.get::<&str>(4, "field").unwrap_err(),
        ] {
            assert!(
                error.to_string().starts_with("unexpected answer to field: "),
                "{error}"
            );
            assert!(!error.is_fatal());
        }
    }
}
