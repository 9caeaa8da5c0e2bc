//! [`Link`]: a connected socket, with or without TLS, that one thread reads while others write.
//!
//! The socket does not block. Waiting, and reading from the kernel, happen outside the locks, so that a status update
//! never waits for a read.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ClientConnection;
use socket2::Socket;

use super::error::Error;

/// The time at which to give up; `None` for never.
pub(super) type Deadline = Option<Instant>;

/// A connected socket, with or without TLS.
#[derive(Debug)]
pub(super) struct Link {
    socket: Socket,
    layer: Layer,
}

#[derive(Debug)]
enum Layer {
    /// The bytes that the kernel did not take yet.
    Plain(Mutex<Unsent>),
    Tls(Box<Mutex<ClientConnection>>),
}

/// Bytes that are to be sent, of which the kernel has taken some from the front.
#[derive(Debug, Default)]
struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
}

impl Unsent {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// The kernel has taken so many more. Nothing is moved, and what one large statement needed is not kept.
    fn took(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= self.bytes.len() {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.sent = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_UNSENT);
    }
}

/// The room that is kept for what is to be sent.
const KEPT_UNSENT: usize = 16 * 1024;

/// Encrypted bytes between the kernel and the TLS session; the reader's own. Without TLS it stays empty.
#[derive(Debug, Default)]
pub(super) struct Encrypted {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// The amount that is read at once under TLS: four records of the largest size.
const ENCRYPTED_READ: usize = 64 * 1024;

impl Link {
    /// A link without TLS. The socket must not block.
    pub(super) fn plain(socket: Socket) -> Link {
        let layer = Layer::Plain(Mutex::default());
        Link { socket, layer }
    }

    /// Shakes hands, and gives a link with TLS. The socket must not block.
    pub(super) fn tls(
        socket: Socket,
        mut session: ClientConnection,
        deadline: Deadline,
    ) -> Result<Link, Error> {
        session.set_buffer_limit(None);
        let shaken = shake_hands(&socket, &mut session, deadline);
        shaken.map_err(|e| match e.kind() {
            io::ErrorKind::TimedOut => Error::Timeout("in the TLS handshake"),
            _ => Error::Tls(e.to_string()),
        })?;
        let layer = Layer::Tls(Box::new(Mutex::new(session)));
        Ok(Link { socket, layer })
    }

    /// The server's certificate, if there is TLS.
    pub(super) fn with_certificate<T>(&self, f: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let Layer::Tls(session) = &self.layer else {
            return None;
        };
        let session = session.lock();
        f(session.peer_certificates()?.first()?.as_ref())
    }

    /// True if it is a unix socket.
    pub(super) fn is_unix(&self) -> bool {
        self.socket.local_addr().is_ok_and(|address| address.is_unix())
    }

    /// True if there is TLS.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.layer, Layer::Tls(_))
    }

    /// Reads what is there into `spare` without waiting: how much, or `None` if there is nothing yet.
    pub(super) fn read(&self, spare: &mut [u8], encrypted: &mut Encrypted) -> Result<Option<usize>, Error> {
        let read = match &self.layer {
            Layer::Plain(_) => retry(|| (&self.socket).read(spare)),
            Layer::Tls(session) => self.read_tls(session, spare, encrypted),
        };
        match read {
            Ok(0) => Err(Error::Closed),
            Ok(n) => Ok(Some(n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(failed("reading from the server")(e)),
        }
    }

    fn read_tls(
        &self,
        session: &Mutex<ClientConnection>,
        spare: &mut [u8],
        encrypted: &mut Encrypted,
    ) -> io::Result<usize> {
        loop {
            let decrypted = decrypt(&mut session.lock(), spare, encrypted);
            // What the session has to say in turn (key updates, alerts) goes out with the next write at the latest.
            self.flush()?;
            match decrypted? {
                Some(n) => return Ok(n),
                None => encrypted.fill(&self.socket)?,
            }
            if encrypted.is_empty() {
                return Ok(0);
            }
        }
    }

    /// Sends all of `bytes`, waiting for the kernel to take them until `deadline`.
    pub(super) fn write(&self, bytes: &[u8], deadline: Deadline) -> Result<(), Error> {
        let doing = failed("writing to the server");
        match &self.layer {
            Layer::Plain(unsent) => unsent.lock().add(bytes),
            Layer::Tls(session) => session.lock().writer().write_all(bytes).map_err(&doing)?,
        }
        while !self.flush().map_err(&doing)? {
            if !self.wait(PollFlags::OUT, deadline).map_err(&doing)? {
                return Err(Error::Timeout("writing to the server"));
            }
        }
        Ok(())
    }

    /// Hands the kernel what it takes. True if that was everything.
    fn flush(&self) -> io::Result<bool> {
        let done = match &self.layer {
            Layer::Plain(unsent) => {
                let mut unsent = unsent.lock();
                let sent = send(&self.socket, &mut unsent);
                // A connection that broke never sends it.
                if sent
                    .as_ref()
                    .is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
                {
                    unsent.clear();
                }
                sent
            }
            Layer::Tls(session) => send_tls(&self.socket, &mut session.lock()),
        };
        match done {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Waits until there is something to read, or the end. True if there is.
    pub(super) fn wait_readable(&self, deadline: Deadline) -> Result<bool, Error> {
        self.wait(PollFlags::IN, deadline)
            .map_err(Error::io("waiting for the server"))
    }

    fn wait(&self, what: PollFlags, deadline: Deadline) -> io::Result<bool> {
        wait(&self.socket, what, deadline)
    }
}

impl Encrypted {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads from the kernel; stays empty at the end of the stream.
    fn fill(&mut self, mut socket: &Socket) -> io::Result<()> {
        self.bytes.resize(ENCRYPTED_READ, 0);
        let n = retry(|| socket.read(&mut self.bytes))?;
        self.start = 0;
        self.end = n;
        Ok(())
    }

    /// Gives the session as much as it takes at once.
    fn feed(&mut self, session: &mut ClientConnection) -> io::Result<()> {
        let mut rest = self.bytes.get(self.start..self.end).unwrap_or_default();
        self.start += session.read_tls(&mut rest)?;
        session.process_new_packets().map_err(io::Error::other)?;
        Ok(())
    }
}

/// Decrypts into `spare` as much as is there and fits: `Some(0)` at the end, `None` if more has to be read first.
fn decrypt(
    session: &mut ClientConnection,
    spare: &mut [u8],
    encrypted: &mut Encrypted,
) -> io::Result<Option<usize>> {
    let mut filled = 0;
    while let Some(free) = spare.get_mut(filled..).filter(|free| !free.is_empty()) {
        match session.reader().read(free) {
            Ok(0) => return Ok(Some(filled)),
            Ok(n) => filled += n,
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            Err(_) if encrypted.is_empty() => break,
            Err(_) => encrypted.feed(session)?,
        }
    }
    Ok((filled > 0).then_some(filled))
}

fn shake_hands(mut socket: &Socket, session: &mut ClientConnection, deadline: Deadline) -> io::Result<()> {
    loop {
        let (step, wanted) = if session.wants_write() {
            (session.write_tls(&mut socket), PollFlags::OUT)
        } else if session.is_handshaking() {
            (session.read_tls(&mut socket), PollFlags::IN)
        } else {
            return Ok(());
        };
        match step {
            Ok(0) if wanted == PollFlags::IN => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if !wait(socket, wanted, deadline)? {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(e) => return Err(e),
        }
        if let Err(e) = session.process_new_packets() {
            // The alert that tells the server why; it may be gone already.
            drop(session.write_tls(&mut socket));
            return Err(io::Error::other(e));
        }
    }
}

fn send(mut socket: &Socket, unsent: &mut Unsent) -> io::Result<()> {
    while !unsent.rest().is_empty() {
        let n = retry(|| socket.write(unsent.rest()))?;
        unsent.took(n);
    }
    Ok(())
}

fn send_tls(mut socket: &Socket, session: &mut ClientConnection) -> io::Result<()> {
    while session.wants_write() {
        retry(|| session.write_tls(&mut socket))?;
    }
    Ok(())
}

/// Waits until the socket can be read or written; `false` if it could not by the deadline.
pub(super) fn wait(socket: &Socket, what: PollFlags, deadline: Deadline) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), what)];
        match poll(&mut fds, left.map(timespec).as_ref()) {
            Ok(0) if left.is_some() => return Ok(false),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // A year is as good as for ever, and fits every kernel's type.
    let duration = duration.min(Duration::from_secs(365 * 86_400));
    Timespec {
        tv_sec: duration.as_secs().cast_signed(),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// A connection that is gone is closed, whoever noticed first.
fn failed(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| match source.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Error::Closed,
        _ => Error::Io { doing, source },
    }
}

fn retry<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match f() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_in_pieces_is_sent_once_and_not_kept() {
        let mut unsent = Unsent::default();
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
        unsent.add(&bytes);
        let mut sent = Vec::new();
        for size in [1, 0, 100_000, 7, 899_991].into_iter().chain([1]) {
            let piece = &unsent.rest()[..size];
            sent.extend_from_slice(piece);
            unsent.took(size);
        }
        assert!(sent == bytes && unsent.rest().is_empty());
        assert!(unsent.bytes.capacity() <= KEPT_UNSENT);
        unsent.add(b"x");
        assert_eq!(unsent.rest(), b"x");
    }
}
