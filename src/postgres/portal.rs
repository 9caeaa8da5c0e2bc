//! Portals: the rows of one statement, taken a few at a time (documentation, "Extended Query").
//!
//! Values go beside the statement, as text without a declared type, and rows come as text: what `SELECT` prints is what
//! the stream would say of the same row.

use std::time::Instant;

use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use super::connection::{ASK_INTERVAL, BUFFER, Connection};
use super::error::Error;
use super::wire::{DataRow, Field, Message};
use crate::event::{Value, encode_values};

/// The portal's name: one without a name would not outlive the next statement.
const PORTAL: &str = "rows";

/// The state of a portal after some of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It may have more.
    More,
    /// There are no more.
    All,
}

impl Connection {
    /// The size that a row may have, in bytes.
    pub fn allow_rows_of(&mut self, bytes: usize) {
        self.inbox.buffer.resize(BUFFER, bytes);
    }

    /// Begins a statement whose rows [`Connection::fetch`] takes, and returns what their columns are. It needs a
    /// transaction, and lasts until the next one or the end of the transaction. `go_on` as in
    /// [`Connection::query_while`].
    pub fn open_portal(
        &mut self,
        sql: &str,
        values: &[Option<String>],
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Vec<Field>, Error> {
        let mut messages = BytesMut::new();
        let building = Error::io("building a statement");
        frontend::parse("", sql, [], &mut messages).map_err(&building)?;
        let write = |value: &Option<String>, out: &mut BytesMut| {
            Ok(match value {
                Some(text) => {
                    out.put_slice(text.as_bytes());
                    IsNull::No
                }
                None => IsNull::Yes,
            })
        };
        // The one before, of the same name, ends; that there may be none is no error.
        frontend::close(b'P', PORTAL, &mut messages).map_err(&building)?;
        frontend::bind(PORTAL, "", [], values, write, [], &mut messages).map_err(|_| {
            let kind = std::io::ErrorKind::InvalidInput;
            building(std::io::Error::new(kind, "a value is too large"))
        })?;
        frontend::describe(b'P', PORTAL, &mut messages).map_err(&building)?;
        frontend::sync(&mut messages);
        self.send(&messages)?;
        let mut fields = Vec::new();
        self.answers(Some(&mut go_on), |message| {
            if let Message::RowDescription(description) = message {
                fields = description.fields()?;
            }
            Ok(())
        })?;
        Ok(fields)
    }

    /// Takes up to `rows` rows from the portal, each as the bytes of a [`Tuple`](crate::event::Tuple).
    pub fn fetch(
        &mut self,
        rows: u32,
        mut go_on: impl FnMut() -> bool,
        mut take: impl FnMut(&[u8]),
    ) -> Result<Fetched, Error> {
        let mut messages = BytesMut::new();
        let rows = i32::try_from(rows).unwrap_or(i32::MAX);
        frontend::execute(PORTAL, rows, &mut messages).map_err(Error::io("asking for rows"))?;
        frontend::sync(&mut messages);
        self.send(&messages)?;
        let mut fetched = Fetched::All;
        let mut tuple = Vec::new();
        self.answers(Some(&mut go_on), |message| {
            match message {
                Message::DataRow(row) => {
                    tuple.clear();
                    encode(&row, &mut tuple)?;
                    take(&tuple);
                }
                Message::PortalSuspended => fetched = Fetched::More,
                _ => {}
            }
            Ok(())
        })?;
        Ok(fetched)
    }

    /// Reads until the server is ready for the next statement. While it is silent, `go_on` is asked, if there is one;
    /// once it says no, the statement is cancelled.
    pub(super) fn answers(
        &mut self,
        mut go_on: Option<&mut dyn FnMut() -> bool>,
        mut take: impl FnMut(Message<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut failure = None;
        let mut cancelled = false;
        loop {
            while let Some(go_on) = go_on.as_mut().filter(|_| !cancelled)
                && !self.is_message_near(Instant::now() + ASK_INTERVAL)?
            {
                if !go_on() {
                    self.cancel()?;
                    cancelled = true;
                }
            }
            let message = self.receive()?;
            match message.parse()? {
                Message::ReadyForQuery => return failure.map_or(Ok(()), |e| Err(Error::Server(e))),
                Message::Error(error) if error.severity == "ERROR" => failure = Some(error),
                Message::Error(error) => return Err(Error::Server(error)),
                Message::CommandComplete | Message::Irrelevant => {}
                known @ (Message::RowDescription(_) | Message::DataRow(_) | Message::PortalSuspended) => {
                    take(known)?;
                }
                _ => return Err(message.unexpected("a statement").into()),
            }
        }
    }
}

/// A row as a tuple.
fn encode(row: &DataRow<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let values = row.bytes()?;
    let values = values.iter().map(|value| match value {
        Some(text) => Value::Text(text),
        None => Value::Null,
    });
    encode_values(values, out);
    Ok(())
}
