//! [`Frame`]: a transaction, or a piece of one, as a client receives it.
//!
//! A change's row, which is the costly part, is encoded once however many subscriptions it concerns; a frame puts such
//! encoded parts behind each subscription's own name. Clients with the same subscriptions share the whole frame.

use std::io::Write as _;

use tungstenite::Utf8Bytes;

use crate::event::{Timestamp, Transaction};
use crate::lsn::Position;

/// A `tx` message, ready to be sent to any number of clients: copying it copies a pointer.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The place where the client stands once it has applied this frame.
    pub position: Position,
    /// The time of the commit, by the server's clock.
    pub committed_at: Timestamp,
    /// The message.
    pub text: Utf8Bytes,
}

/// A change as one subscription sees it.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The change's index in its transaction.
    pub seq: u32,
    /// The subscription's name, as a JSON string.
    pub id: &'a str,
    /// The rest of the change's JSON object, from `,"seq":…` to its closing brace: shared by all its subscriptions.
    pub rest: &'a [u8],
}

/// The way in which a piece of a transaction becomes messages.
#[derive(Clone, Copy, Debug)]
pub struct Framing<'a> {
    /// The transaction.
    pub transaction: &'a Transaction,
    /// The one subscription that the frames concern while it catches up alone, as a JSON string.
    pub only: Option<&'a str>,
    /// True if the transaction ends with this piece.
    pub last: bool,
    /// The size at which a frame ends and the next one begins, about, in bytes. A single change is never divided.
    pub max_bytes: usize,
}

/// Bytes of a frame around its changes, at most; they count against [`Framing::max_bytes`].
const AROUND: usize = 192;

impl Framing<'_> {
    /// Makes the frames of `parts`, which are in the order of their seqs, and hands each to `out`. Parts with the same
    /// seq stay in one frame: a position names a seq. Without parts it makes no frame, but for the one that closes a
    /// transaction of which earlier frames said that more would follow: see [`Framing::closing`].
    pub fn frames(&self, parts: &[Part<'_>], mut out: impl FnMut(Frame)) {
        let mut rest = parts;
        while !rest.is_empty() {
            let (now, later) = self.split(rest);
            let more = !later.is_empty() || !self.last;
            out(self.frame(now, more));
            rest = later;
        }
    }

    /// The frame without changes that ends a transaction after frames with `more`.
    pub fn closing(&self) -> Frame {
        self.frame(&[], false)
    }

    fn split<'p>(&self, parts: &'p [Part<'p>]) -> (&'p [Part<'p>], &'p [Part<'p>]) {
        let mut bytes = AROUND;
        let mut previous = None;
        for (index, part) in parts.iter().enumerate() {
            bytes += part.id.len() + part.rest.len() + 8;
            if bytes > self.max_bytes && previous.is_some_and(|seq| seq != part.seq) {
                return parts.split_at(index);
            }
            previous = Some(part.seq);
        }
        (parts, &[])
    }

    fn frame(&self, parts: &[Part<'_>], more: bool) -> Frame {
        let end = self.transaction.end;
        let position = match parts.last() {
            Some(part) if more => Position::after_change(end, part.seq),
            _ => Position::after(end),
        };
        let size: usize = parts.iter().map(|part| part.id.len() + part.rest.len() + 8).sum();
        let mut text = Vec::with_capacity(size + AROUND + self.only.map_or(0, str::len));
        let time = humantime::format_rfc3339_micros(self.transaction.committed_at.to_system_time());
        let xid = self.transaction.xid;
        let head = write!(
            text,
            r#"{{"type":"tx","position":"{position}","xid":{xid},"ts":"{time}""#
        );
        head.expect("writing to memory does not fail");
        if let Some(id) = self.only {
            text.extend_from_slice(b",\"id\":");
            text.extend_from_slice(id.as_bytes());
        }
        text.extend_from_slice(b",\"changes\":[");
        for (index, part) in parts.iter().enumerate() {
            text.extend_from_slice(if index == 0 { b"{\"id\":" } else { b",{\"id\":" });
            text.extend_from_slice(part.id.as_bytes());
            text.extend_from_slice(part.rest);
        }
        text.extend_from_slice(if more { b"],\"more\":true}" } else { b"]}" });
        let text = String::from_utf8(text)
            .unwrap_or_else(|error| replaced(&error.into_bytes()))
            .into();
        Frame {
            position,
            committed_at: self.transaction.committed_at,
            text,
        }
    }
}

/// A text that is not UTF-8, which only a database of encoding SQL_ASCII can send, with what is invalid replaced.
fn replaced(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    const TRANSACTION: Transaction = Transaction {
        xid: 7,
        commit: Lsn(16),
        end: Lsn(32),
        committed_at: Timestamp(1_500_000),
    };

    fn texts(parts: &[Part<'_>], last: bool, max_bytes: usize) -> Vec<String> {
        let mut frames = Vec::new();
        let framing = Framing {
            transaction: &TRANSACTION,
            only: None,
            last,
            max_bytes,
        };
        framing.frames(parts, |frame| frames.push(frame.text.to_string()));
        frames
    }

    fn part(seq: u32, id: &'static str) -> Part<'static> {
        Part {
            seq,
            id,
            rest: br#","op":"truncate"}"#,
        }
    }

    #[test]
    fn a_small_transaction_is_one_frame_at_its_end() {
        let expected = concat!(
            r#"{"type":"tx","position":"0/20","xid":7,"ts":"2000-01-01T00:00:01.500000Z","changes":"#,
            r#"[{"id":"a","op":"truncate"},{"id":"b","op":"truncate"}]}"#
        );
        assert_eq!(
            texts(&[part(0, r#""a""#), part(0, r#""b""#)], true, 65_536),
            [expected]
        );
    }

    #[test]
    fn a_frame_is_cut_between_changes_but_never_inside_a_seq() {
        let parts = [part(3, r#""a""#), part(3, r#""b""#), part(4, r#""a""#)];
        let frames = texts(&parts, true, 1);
        assert_eq!(frames.len(), 2);
        assert!(frames[0].contains(r#""position":"0/20:3""#) && frames[0].ends_with(r#"],"more":true}"#));
        assert!(frames[1].contains(r#""position":"0/20","#) && frames[1].ends_with("]}"));
    }

    #[test]
    fn a_piece_that_is_not_the_last_says_more_and_one_without_parts_says_nothing() {
        assert!(texts(&[part(9, r#""a""#)], false, 65_536)[0].ends_with(r#"],"more":true}"#));
        assert!(texts(&[], true, 65_536).is_empty());
        let framing = Framing {
            transaction: &TRANSACTION,
            only: Some(r#""s""#),
            last: true,
            max_bytes: 1,
        };
        assert!(framing.closing().text.ends_with(r#","id":"s","changes":[]}"#));
    }
}
