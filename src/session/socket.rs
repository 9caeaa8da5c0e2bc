//! [`Socket`]: a client's TCP stream, with the bytes counted that make no whole message yet.
//!
//! A message may come in as many fragments, and as slowly, as its sender likes. What has come of it is kept meanwhile,
//! and the websocket library tells nothing of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// A client's TCP stream.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    unfinished: Unfinished,
}

/// The amount that is read of what a client sends to a connection that is over.
const MAX_DRAINED_BYTES: usize = 4 * 1024 * 1024;

impl Socket {
    /// The stream of a client whose handshake is done.
    pub fn new(stream: TcpStream) -> Socket {
        Socket {
            stream,
            unfinished: Unfinished::default(),
        }
    }

    /// The part that has come of a message that is not whole.
    pub(super) fn unfinished(&mut self) -> &mut Unfinished {
        &mut self.unfinished
    }

    /// Sends nothing more, and reads what the client still sends until it has seen that and closes: a socket that is
    /// dropped with something unread in it takes the close frame with it. It does not read on and on.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let mut rest = [0; 4096];
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
    use super::*;

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
