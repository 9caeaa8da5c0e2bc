//! [`Buffer`]: one large receive buffer that messages are read out of in place. Pure.

use super::wire::{self, RawMessage, WireError};

/// The place of a message that was taken out of a [`Buffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) tag: u8,
    body: usize,
    end: usize,
}

/// Received bytes, of which the front is taken away message by message.
///
/// It keeps its memory: only a message larger than the buffer makes it grow, doubling while the bytes really come so
/// that a length field alone costs nothing, and once that message is taken it shrinks back.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The size of the message at the front, once its header is known.
    wanted: usize,
    capacity: usize,
    limit: usize,
}

impl Buffer {
    /// A buffer of `capacity` bytes, growing for messages of up to `limit` bytes.
    pub(super) fn new(capacity: usize, limit: usize) -> Buffer {
        Buffer {
            bytes: vec![0; capacity],
            start: 0,
            end: 0,
            wanted: 0,
            capacity,
            limit,
        }
    }

    /// Changes size and limit, keeping what is buffered.
    pub(super) fn resize(&mut self, capacity: usize, limit: usize) {
        self.capacity = capacity;
        self.limit = limit;
        if self.bytes.len() < capacity {
            self.bytes.resize(capacity, 0);
        }
    }

    /// The place where the next bytes go; never empty. Follow it by [`Buffer::advance`].
    pub(super) fn spare(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.bytes.len() > self.capacity && self.wanted <= self.capacity {
                self.bytes.truncate(self.capacity);
                self.bytes.shrink_to_fit();
            }
        }
        let unread = self.end - self.start;
        // What is left of the front is moved down when the free end has become the smaller part of the buffer: it is
        // less than one message, and moved once per buffer.
        if self.start > 0 && self.bytes.len() - self.end < self.bytes.len() / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.start = 0;
            self.end = unread;
        }
        if self.end == self.bytes.len() {
            let grown = (self.bytes.len() * 2).min(self.wanted.max(self.bytes.len() + 1024));
            self.bytes.resize(grown, 0);
        }
        self.bytes
            .get_mut(self.end..)
            .expect("the end lies within the buffer")
    }

    /// `n` bytes were written to the front of what [`Buffer::spare`] returned.
    pub(super) fn advance(&mut self, n: usize) {
        self.end = (self.end + n).min(self.bytes.len());
    }

    /// True if nothing is buffered, not even the beginning of a message.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes the next message, or returns `None` until it is complete. It can be read by [`Buffer::message`] until the
    /// next call of [`Buffer::spare`].
    pub(super) fn take(&mut self) -> Result<Option<Taken>, WireError> {
        let unread = self.rest();
        let Some((tag, size)) = wire::header(unread)? else {
            self.wanted = 0;
            return Ok(None);
        };
        if size > self.limit {
            return Err(WireError::TooLong {
                bytes: size,
                limit: self.limit,
            });
        }
        if unread.len() < size {
            self.wanted = size;
            return Ok(None);
        }
        let body = self.start + wire::HEADER;
        self.start += size;
        self.wanted = 0;
        let end = self.start;
        Ok(Some(Taken { tag, body, end }))
    }

    /// The bytes that were received and not taken yet.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The message at that place.
    pub(super) fn message(&self, taken: Taken) -> RawMessage<'_> {
        RawMessage {
            tag: taken.tag,
            body: self.bytes.get(taken.body..taken.end).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    fn feed(buffer: &mut Buffer, mut bytes: &[u8], step: usize) -> Vec<(u8, Vec<u8>)> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let spare = buffer.spare();
            let n = step.min(spare.len()).min(bytes.len());
            spare[..n].copy_from_slice(&bytes[..n]);
            buffer.advance(n);
            bytes = &bytes[n..];
            while let Some(taken) = buffer.take().unwrap() {
                messages.push((taken.tag, buffer.message(taken).body.to_vec()));
            }
        }
        messages
    }

    #[test]
    fn it_grows_for_a_large_message_and_shrinks_back() {
        let mut buffer = Buffer::new(64, 10_000);
        let large = vec![7; 5000];
        let bytes = [message(b'a', &large), message(b'b', b"x")].concat();
        assert_eq!(
            feed(&mut buffer, &bytes, usize::MAX),
            [(b'a', large), (b'b', b"x".to_vec())]
        );
        assert!(buffer.bytes.len() >= 5000);
        assert_eq!(buffer.spare().len(), 64);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated() {
        let mut buffer = Buffer::new(64, 1000);
        let spare = buffer.spare();
        spare[..5].copy_from_slice(&[b'a', 0, 0, 4, 0]);
        buffer.advance(5);
        let error = WireError::TooLong {
            bytes: 1025,
            limit: 1000,
        };
        assert_eq!(buffer.take(), Err(error));
        assert_eq!(buffer.bytes.len(), 64);
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_however_they_are_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            step in 1usize..200,
        ) {
            let bytes: Vec<u8> = bodies.iter().flat_map(|body| message(b'm', body)).collect();
            let expected: Vec<_> = bodies.into_iter().map(|body| (b'm', body)).collect();
            prop_assert_eq!(feed(&mut Buffer::new(128, 1000), &bytes, step), expected);
        }
    }
}
