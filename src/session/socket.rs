//! [`Socket`]: a client's TCP stream, with the bytes counted that make no whole message yet, and with large frames sent
//! from where they are.
//!
//! A message may come in as many fragments, and as slowly, as its sender likes. What has come of it is kept meanwhile,
//! and the websocket library tells nothing of it.
//!
//! A message that the websocket library sends is copied into a buffer that it keeps for ever, at up to twice the size
//! of the largest frame. Clients are many and their frames are shared, so large ones pass it by.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// A client's TCP stream.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    unfinished: Unfinished,
    /// The frame that is sent before anything else.
    outgoing: Option<Outgoing>,
}

/// The amount that is read of what a client sends to a connection that is over.
const MAX_DRAINED_BYTES: usize = 4 * 1024 * 1024;

impl Socket {
    /// The stream of a client whose handshake is done.
    pub fn new(stream: TcpStream) -> Socket {
        Socket {
            stream,
            unfinished: Unfinished::default(),
            outgoing: None,
        }
    }

    /// Sends a frame with what is written or flushed next. Everything before it is flushed, and of the websocket
    /// library nothing is on its way.
    pub(super) fn put(&mut self, frame: Outgoing) {
        debug_assert!(self.outgoing.is_none(), "the frame before was flushed");
        self.outgoing = Some(frame);
    }

    /// Sends what is left of the frame that was put.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(frame) = &mut self.outgoing {
            match ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &frame.rest()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => frame.sent += sent,
            }
            if frame.is_sent() {
                self.outgoing = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The part that has come of a message that is not whole.
    pub(super) fn unfinished(&mut self) -> &mut Unfinished {
        &mut self.unfinished
    }

    /// Sends nothing more, and reads what the client still sends until it has seen that and closes: a socket that is
    /// dropped with something unread in it takes the close frame with it. It does not read on and on.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        // Not in the future itself: every session would hold the space all along.
        let mut rest = vec![0; 4096];
        let mut bytes = 0;
        while bytes < MAX_DRAINED_BYTES {
            match self.stream.read(&mut rest).await? {
                0 => break,
                read => bytes += read,
            }
        }
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let bytes @ 1.. = buffer.filled().len() - before {
            self.unfinished.came(bytes, Instant::now());
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_outgoing(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_outgoing(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_outgoing(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A frame of a message's text on its way to the client, of which nothing is copied.
#[derive(Debug)]
pub(super) struct Outgoing {
    header: [u8; MAX_HEADER_BYTES],
    header_len: usize,
    payload: Bytes,
    /// The amount that was sent, header and all, in bytes.
    sent: usize,
}

/// The largest header of a frame that goes to a client (RFC 6455, section 5.2), in bytes: without a mask.
const MAX_HEADER_BYTES: usize = 10;

impl Outgoing {
    /// A frame with a part of a message: with its beginning, or with more of it, and maybe with its end.
    pub(super) fn new(opcode: Data, is_last: bool, payload: Bytes) -> Outgoing {
        let mut header = [0; MAX_HEADER_BYTES];
        let mut free = &mut header[..];
        let written = FrameHeader {
            is_final: is_last,
            opcode: OpCode::Data(opcode),
            ..FrameHeader::default()
        }
        .format(payload.len() as u64, &mut free);
        written.expect("the header fits");
        Outgoing {
            header_len: MAX_HEADER_BYTES - free.len(),
            header,
            payload,
            sent: 0,
        }
    }

    fn rest(&self) -> [IoSlice<'_>; 2] {
        let header = self.header.get(..self.header_len).unwrap_or_default();
        let of_payload = self.sent.saturating_sub(header.len());
        let rests = [
            header.get(self.sent..).unwrap_or_default(),
            self.payload.get(of_payload..).unwrap_or_default(),
        ];
        rests.map(IoSlice::new)
    }

    fn is_sent(&self) -> bool {
        self.sent >= self.header_len + self.payload.len()
    }
}

/// The amount that has come of a message that is not whole, and since when. Pure.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unfinished {
    bytes: usize,
    since: Option<Instant>,
}

/// The bytes of a client's control frame beside its payload: two bytes of header, four of mask.
const CONTROL_OVERHEAD: usize = 6;

impl Unfinished {
    fn came(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes;
        self.since.get_or_insert(now);
    }

    /// A message is whole. What came with its end, of the next one, is not counted: it is less than a read.
    pub(super) fn message(&mut self) {
        *self = Unfinished::default();
    }

    /// A control frame with so much payload is whole. It may come between the fragments of a message, which goes on.
    pub(super) fn control(&mut self, payload: usize) {
        self.bytes = self.bytes.saturating_sub(payload + CONTROL_OVERHEAD);
        if self.bytes == 0 {
            self.since = None;
        }
    }

    /// True if more than that has come.
    pub(super) fn is_beyond(&self, bytes: usize) -> bool {
        self.bytes > bytes
    }

    /// True if it takes longer than that.
    pub(super) fn is_older_than(&self, time: Duration, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now.saturating_duration_since(since) > time)
    }
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::Role;
    use tungstenite::{Message, WebSocket};

    use super::*;

    #[test]
    fn a_frame_that_is_taken_bit_by_bit_is_the_one_that_was_put() {
        for (size, step) in [(0, 1), (1, 1), (125, 3), (126, 1), (65_535, 1000), (65_536, 7000)] {
            let text = "x".repeat(size);
            let (first, rest) = text.split_at(size / 2);
            let mut wire = Vec::new();
            for (opcode, is_last, text) in [(Data::Text, false, first), (Data::Continue, true, rest)] {
                let mut frame = Outgoing::new(opcode, is_last, Bytes::copy_from_slice(text.as_bytes()));
                while !frame.is_sent() {
                    let rest = frame.rest();
                    let rest = rest.iter().flat_map(|part| part.iter()).copied();
                    let before = wire.len();
                    wire.extend(rest.take(step));
                    frame.sent += wire.len() - before;
                }
            }
            let mut client = WebSocket::from_raw_socket(io::Cursor::new(wire), Role::Client, None);
            assert_eq!(client.read().unwrap(), Message::text(text));
        }
    }

    #[test]
    fn control_frames_between_fragments_finish_nothing() {
        let mut unfinished = Unfinished::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let long = Duration::from_secs(30);
        unfinished.came(1000, start);
        for second in 1..100 {
            unfinished.came(6, at(second));
            unfinished.control(0);
        }
        assert!(unfinished.is_beyond(999) && !unfinished.is_beyond(1000));
        assert!(unfinished.is_older_than(long, at(31)) && !unfinished.is_older_than(long, at(30)));
        unfinished.message();
        assert!(!unfinished.is_beyond(0) && !unfinished.is_older_than(long, at(1000)));
        // A client that only answers pings has nothing unfinished.
        unfinished.came(6 + 4, at(100));
        unfinished.control(4);
        assert!(!unfinished.is_older_than(long, at(200)));
    }
}
