//! [`Wire`]: a connection that sends what it likes, and tells how it ended.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// The way in which a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It was answered in HTTP, with this status.
    Answered(u16),
    /// It was closed, with this code.
    Closed(u16),
    /// It was cut off, or could not be made.
    Cut,
    /// It left by itself.
    Left,
}

/// The largest message that is looked at.
const MAX_READ: usize = 64 * 1024;

pub(super) struct Wire {
    pub(super) socket: TcpStream,
    unread: Vec<u8>,
    is_deaf: bool,
}

impl Wire {
    /// Connects from an address. One that reads nothing has little room for what it does not read.
    pub(super) async fn connect(from: IpAddr, to: SocketAddr, is_deaf: bool) -> io::Result<Wire> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        if is_deaf {
            socket.set_recv_buffer_size(4096)?;
        }
        socket.bind(&SocketAddr::new(from, 0).into())?;
        let socket = TcpSocket::from_std_stream(socket.into()).connect(to).await?;
        socket.set_nodelay(true)?;
        Ok(Wire {
            socket,
            unread: Vec::new(),
            is_deaf,
        })
    }

    /// Makes a websocket of it.
    pub(super) async fn upgrade(&mut self, token: Option<&str>) -> Result<(), End> {
        let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
        let request = format!(
            "GET /v1/stream HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n{token}\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.send(request.as_bytes()).await?;
        match self.status().await {
            End::Answered(101) => Ok(()),
            end => Err(end),
        }
    }

    /// Reads the head of an answer.
    pub(super) async fn status(&mut self) -> End {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|end| end == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.fill().await {
                return End::Cut;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let status = head.get(9..12).and_then(|status| str::from_utf8(status).ok());
        status
            .and_then(|status| status.parse().ok())
            .map_or(End::Cut, End::Answered)
    }

    /// Sends bytes, if the server still takes them.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.socket.write_all(bytes).await.map_err(|_| End::Cut)
    }

    pub(super) async fn text(&mut self, text: &str) -> Result<(), End> {
        self.send(&frame(0x81, text.as_bytes())).await
    }

    /// Sends the same again and again, reading nothing, until the server takes no more; then reads how it ended.
    pub(super) async fn flood(&mut self, bytes: &[u8]) -> End {
        while self.send(bytes).await.is_ok() {}
        self.end().await
    }

    /// The same, and reads what comes meanwhile.
    pub(super) async fn flood_and_read(&mut self, bytes: &[u8]) -> End {
        let (mut reader, mut writer) = self.socket.split();
        let flooding = async { while writer.write_all(bytes).await.is_ok() {} };
        let reading = async {
            let mut unread = std::mem::take(&mut self.unread);
            loop {
                if let Some(end) = looked_at(&mut unread).0 {
                    return end;
                }
                if !matches!(reader.read_buf(&mut unread).await, Ok(1..)) {
                    return looked_at(&mut unread).0.unwrap_or(End::Cut);
                }
            }
        };
        let mut reading = pin!(reading);
        tokio::select! {
            end = reading.as_mut() => end,
            () = flooding => reading.await,
        }
    }

    /// Reads until the connection ends, and answers pings, unless it is one that reads nothing.
    pub(super) async fn end(&mut self) -> End {
        loop {
            let (end, is_pinged) = looked_at(&mut self.unread);
            if let Some(end) = end {
                return end;
            }
            if is_pinged && !self.is_deaf {
                // If it is gone, that is read.
                let _gone = self.send(&frame(0x8a, b"")).await;
            }
            if !self.fill().await {
                return looked_at(&mut self.unread).0.unwrap_or(End::Cut);
            }
        }
    }

    /// Reads nothing for a time, and then until the connection ends.
    pub(super) async fn deaf(&mut self, time: Duration) -> End {
        tokio::time::sleep(time).await;
        self.end().await
    }

    /// Ends it without a word, as a machine does that fails.
    pub(super) fn vanish(self) -> End {
        let _gone = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        End::Left
    }

    async fn fill(&mut self) -> bool {
        self.unread.reserve(4096);
        matches!(self.socket.read_buf(&mut self.unread).await, Ok(1..))
    }
}

/// Takes the whole frames that were read, and says whether one of them closes the connection, and whether one is a ping.
fn looked_at(unread: &mut Vec<u8>) -> (Option<End>, bool) {
    let mut at = 0;
    let (mut end, mut is_pinged) = (None, false);
    while let Some((opcode, head, length)) = unread.get(at..).and_then(head) {
        let Some(payload) = unread.get(at + head..at + head + length) else {
            assert!(length <= 16 * MAX_READ, "a frame of {length} bytes");
            break;
        };
        if opcode == 8 {
            let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            end = Some(End::Closed(code.unwrap_or(1005)));
        }
        is_pinged |= opcode == 9;
        at += head + length;
    }
    unread.drain(..at);
    (end, is_pinged)
}

/// A server's frame: its opcode, and the lengths of its head and its payload.
fn head(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (head, length) = match second {
        126 => (4, u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?).into()),
        127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
        length => (2, length.into()),
    };
    Some((first & 0x0f, head, length))
}

/// A masked frame: the first byte as it is (FIN, reserved bits, opcode), and the payload. The mask is zero.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}
