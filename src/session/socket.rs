//! [`Socket`]: a client's connection, which keeps track of incomplete messages, and sends large frames without a copy.
//!
//! A message that the websocket library sends is copied into a buffer that it keeps for ever, at up to twice the size
//! of the largest frame. There are many clients and their frames are shared, so large frames bypass that buffer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::frames::Frames;
use super::send_rate::SendRate;
use super::transport::Transport;

/// A client's connection.
#[derive(Debug)]
pub struct Socket {
    stream: Transport,
    frames: Frames,
    /// A frame that goes out before anything else.
    outgoing: Option<Outgoing>,
    /// The rate at which bytes go out, if it is limited.
    rate: Option<Box<SendRate>>,
}

/// The most that is read from a client after our close frame, in bytes.
const MAX_DRAINED_BYTES: usize = 4 * 1024 * 1024;

impl Socket {
    /// The stream of a client whose handshake is done, and the bytes that arrived after it.
    pub fn new(stream: Transport, early: &[u8]) -> Socket {
        let mut frames = Frames::default();
        frames.came(early, Instant::now());
        Socket {
            stream,
            frames,
            outgoing: None,
            rate: None,
        }
    }

    /// Limits the bytes that are sent in a second.
    pub(super) fn limit_rate(&mut self, rate: Box<SendRate>) {
        self.rate = Some(rate);
    }

    /// Writes as much as the rate allows.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: [&[u8]; 2]) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let Some(rate) = &mut self.rate else {
            return match bytes {
                [bytes, []] => stream.poll_write(cx, bytes),
                bytes => stream.poll_write_vectored(cx, &bytes.map(IoSlice::new)),
            };
        };
        let room = ready!(rate.poll_room(cx));
        let next = bytes
            .into_iter()
            .find(|bytes| !bytes.is_empty())
            .unwrap_or_default();
        let next = next.get(..room).unwrap_or(next);
        let sent = ready!(stream.poll_write(cx, next))?;
        rate.sent(sent);
        Poll::Ready(Ok(sent))
    }

    /// Sends a frame with the next write or flush. Everything before it must have been flushed.
    pub(super) fn put(&mut self, frame: Outgoing) {
        debug_assert!(self.outgoing.is_none(), "the frame before was flushed");
        self.outgoing = Some(frame);
    }

    /// Sends the rest of the frame that was put.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(mut frame) = self.outgoing.take() {
            let sent = self.poll_send(cx, frame.rest());
            if let Poll::Ready(Ok(sent)) = sent {
                frame.sent += sent;
            }
            if !frame.is_sent() {
                self.outgoing = Some(frame);
            }
            if ready!(sent)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The incomplete message that has been read so far.
    pub(super) fn frames(&mut self) -> &mut Frames {
        &mut self.frames
    }

    /// Shuts down writing, and reads what the client still sends until it closes too. A socket that is dropped with
    /// unread bytes is reset, and the close frame may be lost. What is read is bounded.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        // On the heap: inside the future, every session would hold this space all the time.
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
        self.frames.resume();
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            self.frames.came(came, Instant::now());
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_outgoing(cx))?;
        self.poll_send(cx, [bytes, &[]])
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

/// A frame on its way to the client, whose payload is not copied.
#[derive(Debug)]
pub(super) struct Outgoing {
    header: [u8; MAX_HEADER_BYTES],
    header_len: usize,
    payload: Bytes,
    /// The bytes that were sent, header included.
    sent: usize,
}

/// The largest header of a frame that goes to a client (RFC 6455, section 5.2), in bytes: without a mask.
const MAX_HEADER_BYTES: usize = 10;

impl Outgoing {
    /// A frame with a part of a message, by `opcode` its first or a later one, and maybe its last.
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

    fn rest(&self) -> [&[u8]; 2] {
        let header = self.header.get(..self.header_len).unwrap_or_default();
        let of_payload = self.sent.saturating_sub(header.len());
        [
            header.get(self.sent..).unwrap_or_default(),
            self.payload.get(of_payload..).unwrap_or_default(),
        ]
    }

    fn is_sent(&self) -> bool {
        self.sent >= self.header_len + self.payload.len()
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
}
