//! [`Proxy`]: a network between two programs that can be cut, stalled and listened in on.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From who connected.
    Up,
    /// To who connected.
    Down,
}

/// Hears all that passes, and may change it: of which connection, which way, what.
pub type Listener = Box<dyn Fn(usize, Direction, &mut [u8]) + Send + Sync>;

/// The address that the proxy leads to.
#[derive(Clone)]
enum Target {
    Unix(PathBuf),
    Tcp(Arc<Mutex<SocketAddr>>),
}

/// A way through which connections pass.
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
}

struct Network {
    target: Target,
    listener: Listener,
    /// Those that have not ended, by their numbers.
    connections: Mutex<HashMap<usize, Ends>>,
    accepted: AtomicU64,
    /// Up and down.
    stalled: Mutex<[bool; 2]>,
    flows: Condvar,
    /// Bytes a second towards who connected; 0 for all that comes.
    limit: AtomicU64,
    closed: AtomicBool,
}

/// Both ends of a connection.
type Ends = (TcpStream, Box<dyn Far>);

/// The far side of a connection.
trait Far: Read + Write + Send {
    fn again(&self) -> io::Result<Box<dyn Far>>;
    fn end(&self);
}

impl Far for UnixStream {
    fn again(&self) -> io::Result<Box<dyn Far>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn end(&self) {
        // It may have ended by itself.
        drop(self.shutdown(Shutdown::Both));
    }
}

impl Far for TcpStream {
    fn again(&self) -> io::Result<Box<dyn Far>> {
        Ok(Box::new(self.try_clone()?))
    }

    fn end(&self) {
        drop(self.shutdown(Shutdown::Both));
    }
}

impl Proxy {
    /// A way to a Postgres server, by its unix socket.
    pub fn to_postgres(database: &super::Database) -> Proxy {
        Proxy::listening_in(database, Box::new(|_, _, _| {}))
    }

    /// The same, with somebody who listens in.
    pub fn listening_in(database: &super::Database, listener: Listener) -> Proxy {
        Proxy::start(Target::Unix(database.socket().to_owned()), listener)
    }

    /// A way to walcast, wherever it listens now.
    pub fn to_walcast(address: Arc<Mutex<SocketAddr>>) -> Proxy {
        Proxy::start(Target::Tcp(address), Box::new(|_, _, _| {}))
    }

    fn start(target: Target, listener: Listener) -> Proxy {
        let socket = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let network = Arc::new(Network {
            target,
            listener,
            connections: Mutex::default(),
            accepted: AtomicU64::new(0),
            stalled: Mutex::default(),
            flows: Condvar::new(),
            limit: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&network);
        thread::spawn(move || {
            for near in socket.incoming().map_while(Result::ok) {
                if accepting.closed.load(Ordering::Relaxed) {
                    return;
                }
                // If the far side is not there, the near side finds its connection closed.
                drop(accepting.join(near));
            }
        });
        Proxy { address, network }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a database by this way.
    pub fn url(&self, database: &super::Database) -> String {
        format!("postgresql://postgres@{}/{}", self.address, database.name)
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        for (_, (near, far)) in self.network.connections.lock().unwrap().drain() {
            drop(near.shutdown(Shutdown::Both));
            far.end();
        }
    }

    /// Holds all bytes back, or lets them go on.
    pub fn stall(&self, stalled: bool) {
        self.stall_ways([stalled; 2]);
    }

    /// Holds all bytes of one way back, or lets them go on; those of the other pass.
    pub fn stall_one(&self, direction: Direction, stalled: bool) {
        let mut ways = *self.network.stalled.lock().unwrap();
        ways[direction as usize] = stalled;
        self.stall_ways(ways);
    }

    fn stall_ways(&self, ways: [bool; 2]) {
        *self.network.stalled.lock().unwrap() = ways;
        self.network.flows.notify_all();
    }

    /// Lets so many bytes a second pass to who connected; 0 for all.
    pub fn throttle(&self, bytes_a_second: u64) {
        self.network.limit.store(bytes_a_second, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.network.closed.store(true, Ordering::Relaxed);
        self.stall(false);
        self.cut();
        // Wakes the accepting thread, which finds that it is over.
        drop(TcpStream::connect(self.address));
    }
}

impl Network {
    fn join(self: &Arc<Self>, near: TcpStream) -> io::Result<()> {
        near.set_nodelay(true)?;
        let far: Box<dyn Far> = match &self.target {
            Target::Unix(path) => Box::new(UnixStream::connect(path)?),
            Target::Tcp(address) => {
                let far = TcpStream::connect(*address.lock().unwrap())?;
                // What is held back here shall be felt there.
                socket2::SockRef::from(&far).set_recv_buffer_size(32 * 1024)?;
                Box::new(far)
            }
        };
        let number = self.accepted.fetch_add(1, Ordering::Relaxed) as usize;
        let near_in = near.try_clone()?;
        let near_out = near.try_clone()?;
        let far_in = far.again()?;
        let far_out = far.again()?;
        self.connections.lock().unwrap().insert(number, (near, far));
        for (direction, from, to) in [
            (Direction::Up, Box::new(near_in) as Box<dyn Far>, far_out),
            (Direction::Down, far_in, Box::new(near_out)),
        ] {
            let network = Arc::clone(self);
            thread::spawn(move || network.pump(number, direction, from, to));
        }
        Ok(())
    }

    /// Ends both sides when either ends, or neither can be written to.
    fn pump(&self, number: usize, direction: Direction, mut from: Box<dyn Far>, mut to: Box<dyn Far>) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let limit = match direction {
                Direction::Down => self.limit.load(Ordering::Relaxed),
                Direction::Up => 0,
            };
            let most = if limit == 0 {
                buffer.len()
            } else {
                (limit / 20).max(1) as usize
            };
            let most = most.min(buffer.len());
            let Ok(bytes @ 1..) = from.read(&mut buffer[..most]) else {
                break;
            };
            let mut stalled = self.stalled.lock().unwrap();
            while stalled[direction as usize] {
                stalled = self.flows.wait(stalled).unwrap();
            }
            drop(stalled);
            (self.listener)(number, direction, &mut buffer[..bytes]);
            if to.write_all(&buffer[..bytes]).is_err() {
                break;
            }
            if limit > 0 {
                thread::sleep(Duration::from_secs_f64(bytes as f64 / limit as f64));
            }
        }
        from.end();
        to.end();
        self.connections.lock().unwrap().remove(&number);
    }
}
