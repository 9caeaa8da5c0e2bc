//! [`Raw`]: a websocket client that sends frames as no library would, and reads only when it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::{DEADLINE, End};

/// A websocket whose handshake is done.
pub struct Raw {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Raw {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        let request = "GET /v1/stream HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write_all(request.as_bytes()).unwrap();
        let mut raw = Raw {
            socket,
            unread: Vec::new(),
        };
        while !raw.unread.windows(4).any(|end| end == b"\r\n\r\n") {
            assert!(raw.fill(), "no answer to the handshake");
        }
        let end = raw.unread.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(raw.unread.drain(..end + 4).collect()).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        raw
    }

    /// A masked frame: the first byte as it is (FIN, reserved bits, opcode), and the payload. The mask is zero.
    pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        frame
    }

    /// Sends bytes; whether the server still takes them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// Sends nothing more.
    pub fn shut_down(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads until the connection ends: by which close frame, and whether in good order.
    pub fn end(&mut self) -> (End, bool) {
        let mut end = End::Lost;
        loop {
            while let Some((opcode, payload)) = self.take() {
                if opcode == 8 {
                    let code = payload
                        .first_chunk()
                        .map_or(1005, |code| u16::from_be_bytes(*code));
                    let reason = String::from_utf8(payload.get(2..).unwrap_or_default().to_vec()).unwrap();
                    end = End::Closed(code, reason);
                    // As a client does that was told so.
                    drop(self.socket.shutdown(Shutdown::Write));
                }
            }
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(0) => return (end, true),
                Ok(n) => self.unread.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return (end, false),
                Err(error) => panic!("the connection did not end: {error}"),
            }
        }
    }

    /// The next whole frame that was read: its opcode and payload.
    fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = *self.unread.first()?;
        let second = *self.unread.get(1)?;
        let (head, length) = match second & 0x7f {
            126 => (
                4,
                u16::from_be_bytes(*self.unread.get(2..)?.first_chunk()?).into(),
            ),
            127 => (
                10,
                u64::from_be_bytes(*self.unread.get(2..)?.first_chunk()?) as usize,
            ),
            short => (2, short.into()),
        };
        let payload = self.unread.get(head..head + length)?.to_vec();
        self.unread.drain(..head + length);
        Some((first & 0x0f, payload))
    }

    fn fill(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let read = self.socket.read(&mut bytes).unwrap();
        self.unread.extend_from_slice(&bytes[..read]);
        read > 0
    }
}
