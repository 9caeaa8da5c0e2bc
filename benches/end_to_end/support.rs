//! Support for the benchmarks: a cluster, the server under test, CPU and memory of a process, a bare client.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tungstenite::{Message, Utf8Bytes};
use walcast::cluster::{Cluster, Options};

/// A cluster as `initdb` makes it, with `wal_level = logical`.
pub(crate) fn cluster() -> Cluster {
    let settings = vec![
        "max_wal_size = 16GB".into(),
        "shared_buffers = 512MB".into(),
        "synchronous_commit = on".into(),
        "max_replication_slots = 20".into(),
    ];
    Cluster::start(&Options {
        settings,
        tcp: true,
        ..Options::default()
    })
    .unwrap()
}

/// The file descriptors that thousands of connections need, on both sides.
pub(crate) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// The runtime of a thread of clients.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A running `walcast serve`.
pub(crate) struct Server {
    child: Child,
    pub(crate) listen: SocketAddr,
    _data: tempfile::TempDir,
}

impl Server {
    /// Starts it on a slot that exists and waits until it listens.
    pub(crate) fn start(cluster: &Cluster, slot: &str, publication: &str) -> Server {
        Server::start_with(cluster, slot, publication, &[])
    }

    /// The same, with more flags.
    pub(crate) fn start_with(cluster: &Cluster, slot: &str, publication: &str, flags: &[&str]) -> Server {
        let data = tempfile::tempdir_in("/tmp").unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_walcast"))
            .args([
                "serve",
                "--log-format",
                "json",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args([
                "--database-url",
                &cluster.tcp_url("postgres"),
                "--slot",
                slot,
                "--publication",
                publication,
            ])
            .args(["--create-slot", "--data-dir"])
            .arg(data.path())
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listen = loop {
            let line = lines.next().expect("walcast ended early").unwrap();
            let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if line["fields"]["message"] == "listening" {
                break line["fields"]["listen"].as_str().unwrap().parse().unwrap();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Server {
            child,
            listen,
            _data: data,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has all of its threads yield to all others of the machine: `SCHED_IDLE`.
    pub(crate) fn yields(&self) {
        let status = Command::new("chrt")
            .args(["--idle", "--all-tasks", "--pid", "0", &self.pid().to_string()])
            .status();
        assert!(status.unwrap().success(), "chrt of util-linux failed");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }
}

/// User and system CPU time of a process so far, its ended threads included; `None` if it is gone.
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    memory(pid, "VmRSS")
}

/// The most memory that a process had resident, in bytes.
pub(crate) fn peak_resident(pid: u32) -> u64 {
    memory(pid, "VmHWM")
}

fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connected client that has had its hello. The server answers 503 until the stream has begun.
pub(crate) async fn connect(server: SocketAddr) -> Socket {
    loop {
        match tokio_tungstenite::connect_async(format!("ws://{server}/v1/stream")).await {
            Ok((mut socket, _)) => {
                socket.next().await.unwrap().unwrap();
                return socket;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Subscribes and waits for the answer.
pub(crate) async fn subscribe(socket: &mut Socket, subscribe: serde_json::Value) {
    socket.send(Message::text(subscribe.to_string())).await.unwrap();
    let answer = next(socket).await;
    assert_eq!(answer["type"], "subscribed", "{answer}");
}

/// The next message.
pub(crate) async fn next(socket: &mut Socket) -> serde_json::Value {
    serde_json::from_str(&next_text(socket).await).unwrap()
}

/// The next message as it came.
pub(crate) async fn next_text(socket: &mut Socket) -> Utf8Bytes {
    loop {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            return text;
        }
    }
}

/// The number of changes that there are in a message.
pub(crate) fn changes(text: &str) -> u64 {
    text.matches(r#","op":""#).count() as u64
}

/// A client that only counts frames: thousands of them must cost this process less than the server.
pub(crate) struct Counter {
    socket: TcpStream,
    /// Bytes of the current frame's payload still to come.
    left: usize,
    header: Vec<u8>,
}

impl Counter {
    pub(crate) async fn connect(server: SocketAddr, subscribe: &str) -> Counter {
        let mut socket = TcpStream::connect(server).await.unwrap();
        let request = format!(
            "GET /v1/stream HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut buffer = vec![0; 4096];
        let mut head = Vec::new();
        let end = loop {
            let read = socket.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the server closed a connection");
            head.extend_from_slice(&buffer[..read]);
            if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
        };
        assert!(
            head.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&head)
        );
        socket.write_all(&masked(subscribe)).await.unwrap();
        let mut counter = Counter::on(socket);
        // hello, subscribed, live
        let mut frames = counter.count(&head[end..]);
        while frames < 3 {
            frames += counter.read(&mut buffer).await;
        }
        counter
    }

    /// One on a socket that carries nothing but frames.
    pub(crate) fn on(socket: TcpStream) -> Counter {
        Counter {
            socket,
            left: 0,
            header: Vec::new(),
        }
    }

    /// Reads once, and says how many frames began to be complete.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> usize {
        let read = self.socket.read(buffer).await.unwrap();
        assert!(read > 0, "the server closed a connection");
        self.count(&buffer[..read])
    }

    fn count(&mut self, mut bytes: &[u8]) -> usize {
        let mut frames = 0;
        while !bytes.is_empty() {
            if self.left == 0 {
                self.header.push(bytes[0]);
                bytes = &bytes[1..];
                let Some(length) = payload_length(&self.header) else {
                    continue;
                };
                self.header.clear();
                self.left = length;
            }
            let here = self.left.min(bytes.len());
            self.left -= here;
            bytes = &bytes[here..];
            frames += usize::from(self.left == 0);
        }
        frames
    }
}

/// The length of a server's frame, once its header is whole (RFC 6455, section 5.2).
fn payload_length(header: &[u8]) -> Option<usize> {
    match *header.get(1)? {
        126 => Some(u16::from_be_bytes(header.get(2..4)?.try_into().unwrap()).into()),
        127 => Some(u64::from_be_bytes(header.get(2..10)?.try_into().unwrap()) as usize),
        length => Some(length.into()),
    }
}

/// A client's text frame, masked with zeros.
fn masked(text: &str) -> Vec<u8> {
    let length = text.len();
    assert!((126..65536).contains(&length) || length < 126);
    let mut frame = vec![0x81];
    if length < 126 {
        frame.push(0x80 | length as u8);
    } else {
        frame.push(0x80 | 126);
        frame.extend_from_slice(&(length as u16).to_be_bytes());
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// The value at a share of the sorted values, 0.5 for the median.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}
