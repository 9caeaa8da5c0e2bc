//! [`Connection`]: one session with the server, for statements by the simple query protocol.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use postgres_types::Type as PgType;
use socket2::SockAddr;

use super::buffer::{Buffer, Taken};
use super::dial;
use super::error::Error;
use super::link::{Deadline, Encrypted, Link};
use super::settings::Settings;
use super::statement::Statement;
use super::wire::{Message, RawMessage, WireError};

/// The time that the server may take for each message of an answer, unless [`Connection::set_read_timeout`] says
/// otherwise.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The time that the kernel may take for what we send.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval at which [`Connection::query_while`] asks.
pub(super) const ASK_INTERVAL: Duration = Duration::from_millis(200);
pub(super) const BUFFER: usize = 16 * 1024;
/// The largest message in answer to a statement: a row of it, in the first place.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// The settings that are kept of those that the server reports by itself. Whatever else it sends takes no memory.
const REPORTED: [&str; 4] = [
    "server_version",
    "server_encoding",
    "in_hot_standby",
    "default_transaction_read_only",
];
/// The largest answer to a statement.
pub(super) const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// A session with the server.
///
/// After an error that [`Error::is_fatal`] calls so it is of no further use.
#[derive(Debug)]
pub struct Connection {
    pub(super) link: Arc<Link>,
    pub(super) inbox: Inbox,
    parameters: BTreeMap<String, String>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) settings: Settings,
    /// The statements that the server keeps for the session, by their SQL.
    pub(super) prepared: HashMap<String, Statement>,
    /// True if a transaction is open.
    in_transaction: bool,
    cancelled: bool,
    /// The address of the server, and what it takes to cancel this session's statement there.
    pub(super) address: SockAddr,
    pub(super) key: (u32, u32),
}

impl Connection {
    pub(super) fn new(link: Link, address: SockAddr) -> Connection {
        Connection {
            link: Arc::new(link),
            inbox: Inbox::new(),
            parameters: BTreeMap::new(),
            read_timeout: Some(READ_TIMEOUT),
            settings: Settings::default(),
            prepared: HashMap::new(),
            in_transaction: false,
            cancelled: false,
            address,
            key: (0, 0),
        }
    }

    /// The time that the server may take for each message of an answer (60 s at first); `None` for as long as it likes.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    /// The server process behind the session; through a pooler the one that answered first.
    pub fn backend_pid(&self) -> u32 {
        self.settings.backend_pid
    }

    /// A setting that the server reports by itself (documentation: "Asynchronous Operations"), if it is one of
    /// `server_version`, `server_encoding`, `in_hot_standby` and `default_transaction_read_only`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The server's version as `server_version_num` has it: 150018 is 15.18. 0 if the server does not tell.
    pub fn server_version_num(&self) -> u32 {
        self.parameter("server_version").map_or(0, version_num)
    }

    /// True if TLS protects the session.
    pub fn is_encrypted(&self) -> bool {
        self.link.is_tls()
    }

    /// Runs SQL (or, in a session for replication, a replication command) and returns the rows of its last result.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>, Error> {
        self.send_query(sql)?;
        self.read_answer()
    }

    /// Runs SQL that may take long: `go_on` is asked five times a second, and once it says no the statement is
    /// cancelled, which ends in SQLSTATE 57014 unless the statement was faster.
    pub fn query_while(&mut self, sql: &str, mut go_on: impl FnMut() -> bool) -> Result<Vec<Row>, Error> {
        self.send_query(sql)?;
        while !self.link.wait_readable(Some(Instant::now() + ASK_INTERVAL))? {
            if !go_on() {
                self.cancel()?;
                break;
            }
        }
        self.read_answer()
    }

    fn read_answer(&mut self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        let mut size = 0;
        let mut failure = None;
        loop {
            let message = self.receive()?;
            match message.parse()? {
                Message::ReadyForQuery => return failure.map_or(Ok(rows), |e| Err(Error::Server(e))),
                Message::Error(error) if error.severity == "ERROR" => failure = Some(error),
                Message::Error(error) => return Err(Error::Server(error)),
                Message::RowDescription(_) => rows.clear(),
                Message::DataRow(row) => {
                    size += message.body.len();
                    rows.push(Row(row
                        .values()?
                        .into_iter()
                        .map(|v| v.map(str::to_owned))
                        .collect()));
                }
                Message::CommandComplete | Message::Irrelevant => {}
                _ => return Err(message.unexpected("a query").into()),
            }
            if size > MAX_ANSWER {
                return Err(WireError::TooLong {
                    bytes: size,
                    limit: MAX_ANSWER,
                }
                .into());
            }
        }
    }

    /// Runs SQL that answers with exactly one row.
    pub(crate) fn query_one(&mut self, question: &'static str, sql: &str) -> Result<Row, Error> {
        let mut rows = self.query(sql)?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(Error::Answer {
                question,
                problem: "expected one row".into(),
            }),
        }
    }

    /// True if the database's encoding has all characters of a text.
    pub fn can_hold(&mut self, text: &str) -> Result<bool, Error> {
        match self.select("SELECT $1", &[(&text, PgType::TEXT)]) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.sqlstate(), Some("22P05" | "22021")) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True if a statement was to be cancelled: that may still hit a later one.
    pub fn was_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Has the server cancel the statement at hand.
    pub(super) fn cancel(&mut self) -> Result<(), Error> {
        self.cancelled = true;
        dial::cancel(&self.address, self.key)
    }

    /// Ends the session in good order, and waits a second at most until the server has given up what belonged to it.
    pub fn close(mut self) {
        // If it cannot be said the session is over just the same.
        drop(
            self.inbox
                .say_goodbye(&self.link, Instant::now() + Duration::from_secs(1)),
        );
    }

    /// True if the server has nothing to say, not even goodbye.
    pub fn is_idle(&self) -> bool {
        self.inbox.buffer.is_empty() && matches!(self.link.wait_readable(Some(Instant::now())), Ok(false))
    }

    pub(super) fn send_query(&mut self, sql: &str) -> Result<(), Error> {
        let mut message = BytesMut::new();
        let building = Error::io("building a query");
        match &self.settings.each_time {
            Some(set) if self.needs_settings() => {
                frontend::query(&format!("{set}{sql}"), &mut message).map_err(building)?;
            }
            _ => frontend::query(sql, &mut message).map_err(building)?,
        }
        self.send(&message)
    }

    /// True if the settings have to go before the next statement.
    pub(super) fn needs_settings(&self) -> bool {
        self.settings.each_time.is_some() && !self.in_transaction
    }

    pub(super) fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        self.link.write(bytes, Some(Instant::now() + WRITE_TIMEOUT))
    }

    /// The next message that is not about the session as a whole.
    pub(super) fn receive(&mut self) -> Result<RawMessage<'_>, Error> {
        let deadline = self.read_timeout.map(|timeout| Instant::now() + timeout);
        self.receive_until(deadline)
    }

    /// True if something of the next message is there by then.
    pub(super) fn is_message_near(&mut self, deadline: Instant) -> Result<bool, Error> {
        // What the TLS session has decrypted already, the socket knows nothing of.
        let here = !self.inbox.buffer.is_empty() || self.inbox.read(&self.link)?.is_some();
        Ok(here || self.link.wait_readable(Some(deadline))?)
    }

    /// As [`Connection::receive`], by a deadline of its own.
    pub(super) fn receive_until(&mut self, deadline: Deadline) -> Result<RawMessage<'_>, Error> {
        let taken = loop {
            let taken = self.inbox.wait(&self.link, deadline)?;
            if taken.tag == b'Z' {
                // `I` where none is open.
                self.in_transaction = self.inbox.message(taken).body.first() != Some(&b'I');
            }
            if !matches!(taken.tag, b'S' | b'N') {
                break taken;
            }
            match self.inbox.message(taken).parse()? {
                Message::ParameterStatus { name, value } if REPORTED.contains(&name) => {
                    self.parameters.insert(name.to_owned(), value.to_owned());
                }
                Message::Notice(notice) => tracing::debug!(%notice, "the server says"),
                _ => {}
            }
            // A server that goes on with what nobody asked for is not waited for any longer than a silent one.
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Error::Timeout("waiting for the server's answer"));
            }
        };
        Ok(self.inbox.message(taken))
    }
}

/// Messages on their way in.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) buffer: Buffer,
    encrypted: Encrypted,
}

impl Inbox {
    fn new() -> Inbox {
        Inbox {
            buffer: Buffer::new(BUFFER, MAX_MESSAGE),
            encrypted: Encrypted::default(),
        }
    }

    /// Reads once, without waiting: how much came, or `None` if there is nothing yet.
    pub(super) fn read(&mut self, link: &Link) -> Result<Option<usize>, Error> {
        let read = link.read(self.buffer.spare(), &mut self.encrypted)?;
        self.buffer.advance(read.unwrap_or(0));
        Ok(read)
    }

    /// Waits for the next message and takes it.
    pub(super) fn wait(&mut self, link: &Link, deadline: Deadline) -> Result<Taken, Error> {
        loop {
            if let Some(taken) = self.buffer.take()? {
                return Ok(taken);
            }
            if self.read(link)?.is_none() && !link.wait_readable(deadline)? {
                return Err(Error::Timeout("waiting for the server's answer"));
            }
        }
    }

    /// Terminates the session and waits until the server has closed it, as the last thing that it does.
    pub(super) fn say_goodbye(&mut self, link: &Link, deadline: Instant) -> Result<(), Error> {
        let mut message = BytesMut::new();
        frontend::terminate(&mut message);
        link.write(&message, Some(deadline))?;
        loop {
            match self.wait(link, Some(deadline)) {
                Ok(_) if Instant::now() < deadline => {}
                Ok(_) => return Err(Error::Timeout("waiting for the server to close the connection")),
                Err(Error::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn message(&self, taken: Taken) -> RawMessage<'_> {
        self.buffer.message(taken)
    }
}

/// A row of an answer, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Vec<Option<String>>);

impl Row {
    /// The value of column `index`; `None` if it is null, or if there are not so many columns.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.0.get(index)?.as_deref()
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are no columns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of column `index` as text that must not be null.
    pub(crate) fn text(&self, index: usize, field: &'static str) -> Result<&str, Error> {
        self.get(index).ok_or_else(|| Error::Answer {
            question: field,
            problem: "it is null or missing".into(),
        })
    }

    /// The value of column `index` read as a `T`, or `None` if it is null.
    pub(super) fn optional<T: FromStr>(&self, index: usize, field: &'static str) -> Result<Option<T>, Error> {
        let parse = |text: &str| {
            text.parse().map_err(|_| Error::Answer {
                question: field,
                problem: format!("cannot read {text:?}"),
            })
        };
        self.get(index).map(parse).transpose()
    }

    /// The value of column `index` read as a `T`.
    pub(crate) fn parse<T: FromStr>(&self, index: usize, field: &'static str) -> Result<T, Error> {
        self.optional(index, field)?.ok_or_else(|| Error::Answer {
            question: field,
            problem: "it is null or missing".into(),
        })
    }

    /// True if the boolean in column `index` is true.
    pub(super) fn is_true(&self, index: usize) -> bool {
        self.get(index) == Some("t")
    }
}

/// `15.18 (Debian …)` is 150018, `19beta1` is 190000; 0 if it is nothing of the kind.
fn version_num(version: &str) -> u32 {
    let leading = |text: &str| {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..digits)?.parse::<u32>().ok().filter(|&n| n < 10_000)
    };
    let minor = version.split_once('.').and_then(|(_, minor)| leading(minor));
    leading(version).map_or(0, |major| major * 10_000 + minor.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_server_version_num() {
        let cases = [
            ("15.18 (Debian 15.18-0+deb12u1)", 150_018),
            ("14.0", 140_000),
            ("19devel", 190_000),
            ("18beta1", 180_000),
            ("99999999999.1", 0),
            ("", 0),
        ];
        for (text, number) in cases {
            assert_eq!(version_num(text), number, "{text}");
        }
    }
}
