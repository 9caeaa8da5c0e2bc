//! [`ReplicationStream`]: frames in, status updates out, from two threads at once.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::connection::{Connection, Inbox, WRITE_TIMEOUT};
use super::error::Error;
use super::link::Link;
use super::pacing::Pacing;
use super::replication::{StatusUpdate, StreamMessage};
use super::server_error::ServerError;
use super::session::NAMES_IN_VALUES;
use super::slot::{Publication, SlotName};
use super::wire::{self, Message};
use crate::event::Timestamp;
use crate::event::quote_identifier;
use crate::lsn::Lsn;

/// The receive buffer: what a fast server sends within a millisecond or two.
const BUFFER: usize = 1024 * 1024;
/// The largest message that Postgres can build (`MaxAllocSize`), with its headers.
const MAX_FRAME_BYTES: usize = (1 << 30) + 64;

/// wal2json's option for exact numbers.
const EXACT_NUMBERS: &str = "numeric-data-types-as-string";

/// True if a server refused a stream because its wal2json does not know the option for exact numbers.
pub fn is_refused_option(error: &Error) -> bool {
    matches!(error, Error::Server(error) if error.code == "22023" && error.message.contains(EXACT_NUMBERS))
}

/// The stream to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartReplication {
    /// The slot.
    pub slot: SlotName,
    /// The place to start. Below the slot's `confirmed_flush_lsn` the server silently starts there instead, beyond
    /// what it has written it loses what comes in between: the caller compares first.
    pub from: Lsn,
    /// The output plugin's options, by name.
    pub options: Vec<(String, String)>,
    /// The largest frame that is accepted, in bytes; what Postgres can build at most unless set lower.
    pub max_frame_bytes: usize,
}

impl StartReplication {
    /// A stream of the publications' changes by `pgoutput` in its first protocol version: whole transactions, in the
    /// order of their commits.
    pub fn pgoutput(slot: SlotName, from: Lsn, publications: &[Publication]) -> StartReplication {
        let names: Vec<String> = publications
            .iter()
            .map(|name| quote_identifier(name.as_str()))
            .collect();
        StartReplication {
            slot,
            from,
            options: vec![
                ("proto_version".into(), "1".into()),
                ("publication_names".into(), names.join(",")),
            ],
            max_frame_bytes: MAX_FRAME_BYTES,
        }
    }

    /// Asks for transactions that outgrow the server's `logical_decoding_work_mem` while they still run, in blocks
    /// between the others: pgoutput's second protocol version.
    pub fn streaming(mut self) -> StartReplication {
        for (name, value) in &mut self.options {
            if name == "proto_version" {
                *value = "2".into();
            }
        }
        self.option("streaming", "on")
    }

    /// A stream of all changes by `wal2json`, format version 2.
    ///
    /// `exact_numbers` asks for numbers as strings, without which `NaN` and the infinities come as null; plugins before
    /// version 2.6 refuse that (SQLSTATE 22023, see [`is_refused_option`]).
    pub fn wal2json(slot: SlotName, from: Lsn, exact_numbers: bool) -> StartReplication {
        let options = [
            ("format-version", "2"),
            ("include-xids", "1"),
            ("include-timestamp", "1"),
            ("include-lsn", "1"),
            // Names of types are not always valid JSON; their OIDs say all that is needed.
            ("include-types", "0"),
            ("include-type-oids", "1"),
            // No logical messages, whose bytes are not always valid JSON.
            ("actions", "insert,update,delete,truncate"),
        ];
        let start = StartReplication {
            slot,
            from,
            options: options.map(|(name, value)| (name.into(), value.into())).to_vec(),
            max_frame_bytes: MAX_FRAME_BYTES,
        };
        if exact_numbers {
            start.option(EXACT_NUMBERS, "1")
        } else {
            start
        }
    }

    /// Adds an option: `messages` with `true` for pgoutput's logical messages, for example.
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> StartReplication {
        self.options.push((name.into(), value.into()));
        self
    }

    /// The command. In the replication grammar a doubled quote is all there is to escape.
    fn command(&self) -> String {
        let options: Vec<String> = self
            .options
            .iter()
            .map(|(name, value)| format!("{} '{}'", quote_identifier(name), value.replace('\'', "''")))
            .collect();
        let slot = quote_identifier(self.slot.as_str());
        format!(
            "START_REPLICATION SLOT {slot} LOGICAL {} ({})",
            self.from,
            options.join(", ")
        )
    }
}

impl Connection {
    /// Turns a session for replication into a stream. SQLSTATE 42704: there is no such slot; 55006: somebody else
    /// reads it; 55000: it is lost, or of another database.
    pub fn start_replication(mut self, start: &StartReplication) -> Result<ReplicationStream, Error> {
        if self.is_pooled() {
            self.check_settings()?;
        }
        self.query(&format!("SET search_path = {NAMES_IN_VALUES}"))?;
        self.send_query(&start.command())?;
        let message = self.receive()?;
        match message.parse()? {
            Message::CopyBoth => {}
            Message::Error(error) => return Err(Error::Server(error)),
            _ => return Err(message.unexpected("START_REPLICATION").into()),
        }
        let Connection { link, mut inbox, .. } = self;
        inbox.buffer.resize(BUFFER, start.max_frame_bytes);
        let pacing = if link.is_unix() {
            Pacing::unix()
        } else {
            Pacing::tcp()
        };
        let sender = StatusSender { link: link.clone() };
        let receiver = Receiver {
            link,
            inbox,
            pacing,
            taken: 0,
            ended: false,
        };
        Ok(ReplicationStream { receiver, sender })
    }
}

/// An open stream: its reading half and its writing half, each for a thread of its own.
#[derive(Debug)]
pub struct ReplicationStream {
    /// Reads.
    pub receiver: Receiver,
    /// Writes; can be cloned.
    pub sender: StatusSender,
}

/// The writing half of a stream. It works while the reader waits, naps or is busy elsewhere.
#[derive(Clone, Debug)]
pub struct StatusSender {
    link: Arc<Link>,
}

impl StatusSender {
    /// Tells the server how far we are. Waits only if the kernel's send buffer is full, for at most 30 s.
    pub fn send(&self, update: &StatusUpdate) -> Result<(), Error> {
        let deadline = Instant::now() + WRITE_TIMEOUT;
        self.link.write(&update.encode(Timestamp::now()), Some(deadline))
    }
}

/// A message of the server, in the receive buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message of the output plugin.
    Data {
        /// The start of the message's WAL; 0/0 for some. Neither unique nor monotonic: no position of ours.
        wal_start: Lsn,
        /// With pgoutput the same once more.
        wal_end: Lsn,
        /// The time at which it was sent, by the server's clock.
        sent_at: Timestamp,
        /// The message.
        body: &'a [u8],
        /// The bytes that have been received behind it.
        ahead: Ahead<'a>,
    },
    /// The server has nothing to send up to here, or wants to know how far we are.
    Keepalive {
        /// Up to where the server has looked: confirm it once everything before it is on disk.
        wal_end: Lsn,
        /// The time at which it was sent, by the server's clock.
        sent_at: Timestamp,
        /// True if the server waits for a status update.
        reply_requested: bool,
    },
    /// A warning, in the server's own words.
    Notice(Box<ServerError>),
    /// The server ended the stream in good order: it shuts down. Nothing follows.
    End,
}

/// The bytes that have been received behind a frame and not been taken yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ahead<'a>(&'a [u8]);

impl<'a> Ahead<'a> {
    /// The messages of the output plugin among it, in order, as far as they have come whole.
    pub fn messages(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        let frames = std::iter::from_fn(move || {
            // Whatever is wrong with it shows when it is taken.
            let (tag, size) = wire::header(rest).ok().flatten()?;
            let (frame, behind) = rest.split_at_checked(size)?;
            rest = behind;
            Some((tag, frame.get(wire::HEADER..)?))
        });
        frames
            .filter(|(tag, _)| *tag == b'd')
            .filter_map(|(_, body)| match StreamMessage::parse(body) {
                Ok(StreamMessage::Data { body, .. }) => Some(body),
                _ => None,
            })
    }
}

impl std::fmt::Debug for Ahead<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ahead({} bytes)", self.0.len())
    }
}

/// The outcome of a call of [`Receiver::fill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes.
    Bytes(usize),
    /// Nothing in the time allowed.
    Nothing,
}

/// The reading half of a stream: [`fill`](Receiver::fill) it, take all frames by [`next`](Receiver::next), fill it
/// again.
#[derive(Debug)]
pub struct Receiver {
    link: Arc<Link>,
    inbox: Inbox,
    pacing: Pacing,
    /// Messages taken since the last read.
    taken: u32,
    ended: bool,
}

impl Receiver {
    /// Reads at another pace.
    pub fn set_pacing(&mut self, pacing: Pacing) {
        self.pacing = pacing;
    }

    /// Reads once. If there is nothing: after a nap if the stream is behind, else as soon as there is something, but
    /// waits for at most `timeout`.
    pub fn fill(&mut self, timeout: Duration) -> Result<Filled, Error> {
        if let Some(bytes) = self.inbox.read(&self.link)? {
            return Ok(Filled::Bytes(bytes));
        }
        let now = Instant::now();
        if let Some(nap) = self.pacing.on_empty(now, std::mem::take(&mut self.taken)) {
            thread::sleep(nap.min(timeout));
        }
        if !self.link.wait_readable(Some(now + timeout))? {
            return Ok(Filled::Nothing);
        }
        Ok(self
            .inbox
            .read(&self.link)?
            .map_or(Filled::Nothing, Filled::Bytes))
    }

    /// Takes the next frame out of the buffer; `None` if it holds no complete one.
    // Not an iterator: a frame borrows the buffer that the next one is taken from.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Error> {
        let taken = loop {
            let Some(taken) = self.inbox.buffer.take()? else {
                return Ok(None);
            };
            self.taken = self.taken.saturating_add(1);
            match taken.tag {
                // CopyDone and CommandComplete both tell the end: it is told once.
                b'c' | b'C' if self.ended => {}
                // ParameterStatus and ReadyForQuery say nothing to a stream.
                b'S' | b'Z' => {}
                _ => break taken,
            }
        };
        let message = self.inbox.message(taken);
        Ok(Some(match message.parse()? {
            Message::CopyData(body) => frame(StreamMessage::parse(body)?, Ahead(self.inbox.buffer.rest())),
            Message::Notice(notice) => Frame::Notice(notice),
            Message::CopyDone | Message::CommandComplete => {
                self.ended = true;
                Frame::End
            }
            Message::Error(error) => return Err(Error::Server(error)),
            _ => return Err(message.unexpected("START_REPLICATION").into()),
        }))
    }

    /// Ends the stream from our side: asks the server to stop, discards what is still on its way, and says goodbye.
    /// The slot is free when this returns.
    pub fn finish(mut self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let mut message = BytesMut::new();
        frontend::copy_done(&mut message);
        self.link.write(&message, Some(deadline))?;
        loop {
            let taken = self.inbox.wait(&self.link, Some(deadline))?;
            match self.inbox.message(taken).parse()? {
                Message::ReadyForQuery => return self.inbox.say_goodbye(&self.link, deadline),
                Message::Error(error) => return Err(Error::Server(error)),
                _ if Instant::now() > deadline => return Err(Error::Timeout("waiting for the stream's end")),
                _ => {}
            }
        }
    }
}

fn frame<'a>(message: StreamMessage<'a>, ahead: Ahead<'a>) -> Frame<'a> {
    match message {
        StreamMessage::Data {
            wal_start,
            wal_end,
            sent_at,
            body,
        } => Frame::Data {
            wal_start,
            wal_end,
            sent_at,
            body,
            ahead,
        },
        StreamMessage::Keepalive {
            wal_end,
            sent_at,
            reply_requested,
        } => Frame::Keepalive {
            wal_end,
            sent_at,
            reply_requested,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ahead_is_read_as_far_as_it_has_come() {
        let frame = |body: &[u8]| [b"d", &(body.len() as u32 + 4).to_be_bytes()[..], body].concat();
        let data = |text: &str| frame(&[b"w", &[0; 24][..], text.as_bytes()].concat());
        let keepalive = frame(&[b"k", &[0; 17][..]].concat());
        let notice = b"N\0\0\0\x04".to_vec();
        let bytes = [data("a"), keepalive, data("b"), notice, data("c")].concat();
        let read = |length: usize| -> Vec<&[u8]> { Ahead(&bytes[..length]).messages().collect() };
        assert_eq!(read(bytes.len()), [b"a", b"b", b"c"]);
        assert_eq!(read(bytes.len() - 1), [b"a", b"b"]);
        assert_eq!(read(3), [b""; 0]);
        assert_eq!(Ahead(b"d\xff\xff\xff\xffwxyz").messages().count(), 0);
    }

    #[test]
    fn the_command_quotes_whatever_a_publication_is_called() {
        let slot = SlotName::new("walcast").unwrap();
        let publications = [r#"a"b"#, "it's"].map(|name| Publication::new(name).unwrap());
        let start =
            StartReplication::pgoutput(slot, Lsn(0x16_0000_00ff), &publications).option("messages", "true");
        assert_eq!(
            start.command(),
            r#"START_REPLICATION SLOT "walcast" LOGICAL 16/FF ("proto_version" '1', "publication_names" '"a""b","it''s"', "messages" 'true')"#
        );
    }
}
