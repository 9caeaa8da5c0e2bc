//! [`Line`]: a client's connection, with or without TLS.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::DEADLINE;

pub enum Line {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    pub fn plain(address: SocketAddr) -> io::Result<Line> {
        let stream = TcpStream::connect(address)?;
        prepare(&stream)?;
        Ok(Line::Plain(stream))
    }

    /// From another of this machine's addresses: all of 127.0.0.0/8 are.
    pub fn from(client: Ipv4Addr, address: SocketAddr) -> io::Result<Line> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(IpAddr::V4(client), 0).into())?;
        socket.connect(&address.into())?;
        let stream = TcpStream::from(socket);
        prepare(&stream)?;
        Ok(Line::Plain(stream))
    }

    /// To `localhost`. The handshake is done.
    pub fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Line> {
        let mut stream = TcpStream::connect(address)?;
        prepare(&stream)?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Line::Tls(Box::new(StreamOwned::new(session, stream))))
    }

    pub fn socket(&self) -> &TcpStream {
        match self {
            Line::Plain(stream) => stream,
            Line::Tls(stream) => stream.get_ref(),
        }
    }

    /// The session, if there is TLS.
    pub fn session(&self) -> &ClientConnection {
        match self {
            Line::Plain(_) => panic!("no TLS"),
            Line::Tls(stream) => &stream.conn,
        }
    }

    /// Sends a request, and returns the whole answer.
    pub fn ask(mut self, request: &str) -> String {
        self.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // Whoever is refused early may be cut off behind the answer.
        drop(self.read_to_end(&mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Plain(stream) => stream.read(buffer),
            Line::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Line::Plain(stream) => stream.write(bytes),
            Line::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Line::Plain(stream) => stream.flush(),
            Line::Tls(stream) => stream.flush(),
        }
    }
}
