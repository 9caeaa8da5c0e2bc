//! [`Upcoming`]: the messages after the current one, and the tables that they describe.

use std::collections::HashSet;

use crate::decode::Boundary;
use crate::event::{Op, Value};
use crate::journal::Spooled;
use crate::log::{Changes, Entries, Entry};
use crate::postgres::Ahead;

/// The messages after the current one, by the place where they are.
#[derive(Clone, Copy)]
pub(super) enum Upcoming<'a> {
    /// Not known.
    Nothing,
    /// In the connection's buffer.
    Frames(Ahead<'a>),
    /// In the file of a transaction that was put aside.
    Spooled(&'a Spooled),
    /// In the received log: the rest of the transaction's part, and what follows it.
    Kept(&'a Changes<'a>, &'a Entries<'a>),
}

impl Upcoming<'_> {
    /// The OIDs of the tables that are described next, each once, at most `most`, without those that are `known`.
    pub(super) fn described(self, most: usize, known: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut found = Found {
            oids: Vec::new(),
            seen: HashSet::new(),
            most,
            known,
        };
        match self {
            Upcoming::Nothing => {}
            Upcoming::Frames(ahead) => found.take_stream(ahead.messages()),
            Upcoming::Spooled(spooled) => found.take(spooled.ahead().map(of_spooled)),
            Upcoming::Kept(changes, entries) => {
                found.take_kept(changes.clone());
                for entry in entries.clone().flatten() {
                    if let Entry::Piece(piece) = entry {
                        found.take_kept(piece.changes);
                    }
                    if found.is_full() {
                        break;
                    }
                }
            }
        }
        found.oids
    }
}

struct Found<K> {
    oids: Vec<u32>,
    seen: HashSet<u32>,
    most: usize,
    known: K,
}

impl<K: Fn(u32) -> bool> Found<K> {
    fn is_full(&self) -> bool {
        self.oids.len() >= self.most
    }

    fn take(&mut self, described: impl Iterator<Item = Option<u32>>) {
        for oid in described.flatten() {
            if self.is_full() {
                return;
            }
            if self.seen.insert(oid) && !(self.known)(oid) {
                self.oids.push(oid);
            }
        }
    }

    /// Inside a block of a streamed transaction, messages begin with its ID, and are put aside.
    fn take_stream<'m>(&mut self, messages: impl Iterator<Item = &'m [u8]>) {
        let mut in_block = false;
        self.take(messages.map(|message| {
            match message.first() {
                Some(b'S') => in_block = true,
                Some(b'E') => in_block = false,
                _ => {}
            }
            Boundary::described(message).filter(|_| !in_block)
        }));
    }

    fn take_kept(&mut self, changes: Changes<'_>) {
        self.take(changes.map(|change| match change.ok()?.op {
            Op::Insert { new } => match new.values().next()? {
                Value::Text(message) => Boundary::described(message),
                _ => None,
            },
            _ => None,
        }));
    }
}

/// The OID of the table that a message which was put aside describes: the number of its arrival follows its type.
fn of_spooled(message: &[u8]) -> Option<u32> {
    let (_arrival, rest) = message.strip_prefix(b"R")?.split_first_chunk::<8>()?;
    rest.first_chunk().map(|oid| u32::from_be_bytes(*oid))
}
