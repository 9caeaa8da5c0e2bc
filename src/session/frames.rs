//! [`Frames`]: tracks the incomplete message of a client by the headers of its frames. Pure.
//!
//! A message may arrive in as many fragments, and as slowly, as its sender likes. The websocket library keeps all of it
//! meanwhile, and does not say how much that is.

use std::time::{Duration, Instant};

/// The most frames of one message. Most programs send a message as one frame; some send large ones in pieces of a few
/// kilobytes.
const MAX_FRAGMENTS: u32 = 256;
/// The longest header of a frame (RFC 6455, section 5.2), in bytes: with a mask.
const MAX_HEAD_BYTES: usize = 14;
/// The bit of the first byte that marks a message's last frame.
const FIN: u8 = 0x80;
/// The bits of the first byte that hold the opcode: 0 for the continuation of a message.
const OPCODE: u8 = 0x0f;
/// The bit of the opcode that marks control frames.
const CONTROL: u8 = 0x08;
/// The bit of the second byte that announces a mask.
const MASK: u8 = 0x80;

/// The frames of a client's incomplete message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    head: [u8; MAX_HEAD_BYTES],
    head_len: usize,
    /// The bytes of the current frame's payload that have not arrived yet.
    payload_left: u64,
    /// The bytes of the incomplete message, headers included.
    bytes: usize,
    fragments: u32,
    is_fragmented: bool,
    /// The time at which the first byte of the incomplete message or frame arrived.
    since: Option<Instant>,
    /// The time since which reading pauses.
    paused: Option<Instant>,
}

impl Frames {
    /// Takes bytes that were read.
    pub(super) fn came(&mut self, mut bytes: &[u8], now: Instant) {
        while let Some((&first, rest)) = bytes.split_first() {
            self.since.get_or_insert(now);
            if self.payload_left > 0 {
                let taken =
                    usize::try_from(self.payload_left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload_left -= taken as u64;
                self.count(taken);
                bytes = bytes.get(taken..).unwrap_or_default();
            } else {
                if let Some(place) = self.head.get_mut(self.head_len) {
                    *place = first;
                }
                self.head_len += 1;
                bytes = rest;
                match payload_len(self.head.get(..self.head_len).unwrap_or_default()) {
                    None => continue,
                    Some(length) => self.payload_left = length,
                }
                // A continuation without a beginning is refused by the library.
                let is_more = self.head[0] & OPCODE == 0;
                if !self.is_control() && (self.fragments > 0 || !is_more) {
                    self.fragments += 1;
                }
                self.count(self.head_len);
            }
            if self.payload_left == 0 {
                self.frame();
            }
        }
    }

    fn is_control(&self) -> bool {
        self.head[0] & CONTROL != 0
    }

    fn count(&mut self, bytes: usize) {
        if !self.is_control() {
            self.bytes += bytes;
        }
    }

    /// Ends a frame. A control frame may stand between the fragments of a message, which continues after it.
    fn frame(&mut self) {
        self.head_len = 0;
        if self.fragments > MAX_FRAGMENTS {
            self.is_fragmented = true;
        }
        if self.is_control() {
            if self.fragments == 0 {
                self.since = None;
            }
        } else if self.head[0] & FIN != 0 {
            self.bytes = 0;
            self.fragments = 0;
            self.since = None;
        }
    }

    /// True if more bytes than this have arrived of an incomplete message.
    pub(super) fn is_beyond(&self, bytes: usize) -> bool {
        self.bytes > bytes
    }

    /// True if a message has more frames than it may.
    pub(super) fn is_fragmented(&self) -> bool {
        self.is_fragmented || self.fragments > MAX_FRAGMENTS
    }

    /// Reading pauses: the time from now on does not count.
    pub(super) fn pause(&mut self) {
        if self.since.is_some() && self.paused.is_none() {
            self.paused = Some(Instant::now());
        }
    }

    /// Reading resumes.
    pub(super) fn resume(&mut self) {
        if let Some(paused) = self.paused.take() {
            self.resume_at(paused, Instant::now());
        }
    }

    fn resume_at(&mut self, paused: Instant, now: Instant) {
        let unread = now.saturating_duration_since(paused);
        self.since = self.since.map(|since| since + unread);
    }

    /// True if a message or a frame has been incomplete for longer than this.
    pub(super) fn is_older_than(&self, time: Duration, now: Instant) -> bool {
        let now = self.paused.unwrap_or(now);
        self.since
            .is_some_and(|since| now.saturating_duration_since(since) > time)
    }
}

/// The length of the payload after a header; `None` until the header is complete.
fn payload_len(head: &[u8]) -> Option<u64> {
    let (_, rest) = head.split_first()?;
    let (&second, rest) = rest.split_first()?;
    let mask = if second & MASK == 0 { 0 } else { 4 };
    let (length, rest) = match second & !MASK {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u16::from_be_bytes(*length).into(), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*length), rest)
        }
        length => (length.into(), rest),
    };
    (rest.len() >= mask).then_some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(10);

    /// A client's frame.
    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match payload {
            0..126 => frame.push(MASK | payload as u8),
            126..0x1_0000 => {
                frame.push(MASK | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(MASK | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend([0xff; 4]);
        frame.extend(vec![0xff; payload]);
        frame
    }

    #[test]
    fn what_is_begun_takes_time_until_it_is_whole_whatever_comes_in_between() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut frames = Frames::default();
        // Behind a whole message, in the same read.
        frames.came(&[frame(0x81, 70_000), frame(0x01, 1000)].concat(), start);
        for second in 1..=11 {
            frames.came(&frame(0x8a, 4), at(second));
        }
        assert!(frames.is_older_than(LONG, at(11)) && !frames.is_older_than(LONG, at(10)));
        assert!(frames.is_beyond(1007) && !frames.is_beyond(1008));
        frames.came(&frame(0x80, 0), at(12));
        assert!(!frames.is_older_than(LONG, at(1000)) && !frames.is_beyond(0));
        // A client that only answers pings has nothing unfinished, one that begins an answer has.
        frames.came(&frame(0x8a, 4), at(100));
        assert!(!frames.is_older_than(LONG, at(1000)));
        frames.came(&[0x8a], at(100));
        assert!(frames.is_older_than(LONG, at(111)));
    }

    #[test]
    fn time_in_which_nothing_is_read_does_not_count() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut frames = Frames::default();
        frames.came(&[0x81], start);
        frames.paused = Some(at(5));
        assert!(!frames.is_older_than(LONG, at(1000)));
        frames.paused = None;
        frames.resume_at(at(5), at(1000));
        assert!(!frames.is_older_than(LONG, at(1005)) && frames.is_older_than(LONG, at(1006)));
        // What is not begun has no time that could stand still.
        let mut frames = Frames::default();
        frames.pause();
        assert!(frames.paused.is_none());
    }

    #[test]
    fn a_message_has_so_many_fragments_and_no_more() {
        let now = Instant::now();
        let message = |fragments: usize| {
            [
                frame(0x01, 0),
                frame(0x00, 0).repeat(fragments - 2),
                frame(0x80, 0),
            ]
            .concat()
        };
        let mut frames = Frames::default();
        for _ in 0..3 {
            frames.came(&message(256), now);
        }
        assert!(!frames.is_fragmented());
        frames.came(&message(257), now);
        assert!(frames.is_fragmented());
    }

    proptest! {
        #[test]
        fn it_is_the_same_in_whatever_pieces_it_comes(
            sent in prop::collection::vec((prop::sample::select(vec![0x81, 0x01, 0x00, 0x80, 0x89, 0x8a]), 0_usize..300), 0..20),
            cut in 1_usize..400,
            step in 1_usize..50,
        ) {
            let now = Instant::now();
            let mut wire: Vec<u8> = sent.iter().flat_map(|&(first, payload)| frame(first, payload)).collect();
            wire.truncate(wire.len().saturating_sub(cut % 17));
            let (mut whole, mut pieces) = (Frames::default(), Frames::default());
            whole.came(&wire, now);
            wire.chunks(step).for_each(|piece| pieces.came(piece, now));
            prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        }

        #[test]
        fn no_bytes_panic_it(bytes: Vec<u8>) {
            Frames::default().came(&bytes, Instant::now());
        }
    }
}
