//! [`LastWords`]: the answer to a connection that is cut off in its handshake.
//!
//! Whoever cuts it off has no hold of its socket, which is the HTTP library's. So the socket itself says it, when it is
//! dropped: in one write that does not wait, which there is always room for, since nothing was sent before.

use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::answer::Answer;
use crate::session::Transport;

/// Answers on a socket that nothing was sent to yet, and ends it.
pub(super) fn say(socket: &TcpStream, answer: &Answer) {
    let socket = SockRef::from(socket);
    // Whoever is gone does not hear it.
    let _gone = socket
        .send(answer.to_text().as_bytes())
        .and_then(|_| socket.shutdown(Shutdown::Write));
}

/// The last words to a connection, if there are some to be said.
#[derive(Clone, Debug, Default)]
pub(super) struct LastWords(Arc<OnceLock<&'static Answer>>);

impl LastWords {
    /// Has the connection say this when it is dropped, which is to be done now.
    pub(super) fn are(&self, answer: &'static Answer) {
        // The first ones stay.
        let _said = self.0.set(answer);
    }
}

/// A connection that is served in HTTP. If it is dropped before anything was sent, it says its last words.
#[derive(Debug)]
pub(super) struct Line {
    /// Until it is taken.
    transport: Option<Transport>,
    has_sent: bool,
    last_words: LastWords,
}

impl Line {
    pub(super) fn new(transport: Transport, last_words: LastWords) -> Line {
        Line {
            transport: Some(transport),
            has_sent: false,
            last_words,
        }
    }

    /// The connection, to be served otherwise.
    pub(super) fn into_transport(mut self) -> Option<Transport> {
        self.transport.take()
    }

    fn transport(&mut self) -> io::Result<Pin<&mut Transport>> {
        let transport = self.transport.as_mut().map(Pin::new);
        transport.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Some(answer) = self.last_words.0.get().filter(|_| !self.has_sent) else {
            return;
        };
        match &mut self.transport {
            Some(Transport::Plain(socket)) => say(socket, answer),
            Some(Transport::Tls(stream)) => {
                let (socket, session) = stream.get_mut();
                let mut said = session.writer().write_all(answer.to_text().as_bytes());
                session.send_close_notify();
                let socket = SockRef::from(&*socket);
                while said.is_ok() && session.wants_write() {
                    said = session.write_tls(&mut &*socket).map(drop);
                }
            }
            None => {}
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.transport()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.has_sent = true;
        self.transport()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.has_sent = true;
        self.transport()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.as_ref().is_some_and(Transport::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport()?.poll_shutdown(cx)
    }
}
