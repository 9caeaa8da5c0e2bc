//! [`Attackers`]: connections that do harm, each of one [`Kind`], again and again, at a rate of their own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::wire::{End, Wire, frame};

/// The ways to do harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Connects and says nothing.
    Silent,
    /// Sends a request byte by byte.
    SlowHead,
    /// Sends the beginning of a TLS handshake, and no more.
    HalfTls,
    /// Sends what is no protocol at all.
    Garbage,
    /// Sends a header of 20 KB.
    LongHead,
    /// Sends 200 headers.
    ManyHeaders,
    /// Asks for what there is not.
    WrongPath,
    /// Sends a bad token in the header.
    BadToken,
    /// Sends no token.
    NoToken,
    /// Takes more connections than an address may have.
    Crowd,
    /// Sends empty fragments without end.
    Fragments,
    /// Sends most of a message, and no more.
    Unfinished,
    /// Sends a frame byte by byte.
    SlowFrame,
    /// Sends pings and reads nothing.
    Pings,
    /// Sends pongs.
    Pongs,
    /// Declares a frame of a terabyte.
    HugeFrame,
    /// Sends a message of 70 KB.
    LargeMessage,
    /// Sends a frame without a mask.
    Unmasked,
    /// Sends a frame with a reserved bit.
    Reserved,
    /// Sends what is not UTF-8.
    NotText,
    /// Sends what is not JSON.
    NotJson,
    /// Sends messages as fast as they are taken.
    Messages,
    /// Sends tokens as fast as they are taken.
    Tokens,
    /// Subscribes to wrong predicates as fast as they are taken.
    BadPredicates,
    /// Subscribes and unsubscribes as fast as that is taken.
    Churn,
    /// Subscribes to all rows and all changes, and reads nothing.
    Deaf,
    /// Opens a websocket, and is gone without a word to anybody.
    HalfOpen,
    /// Sends the end of its side at once.
    HalfClosed,
    /// Subscribes, and resets the connection.
    Resets,
    /// Subscribes to the most costly predicates that there may be, as often as it may.
    CostlyPredicates,
    /// Subscribes to predicates with as much in them as there may be.
    LargePredicates,
    /// Asks for snapshots of whole tables by costly predicates.
    Snapshots,
    /// Reads the whole history, with a hundred subscriptions.
    Replays,
}

impl Kind {
    pub const ALL: [Kind; 33] = [
        Kind::Silent,
        Kind::SlowHead,
        Kind::HalfTls,
        Kind::Garbage,
        Kind::LongHead,
        Kind::ManyHeaders,
        Kind::WrongPath,
        Kind::BadToken,
        Kind::NoToken,
        Kind::Crowd,
        Kind::Fragments,
        Kind::Unfinished,
        Kind::SlowFrame,
        Kind::Pings,
        Kind::Pongs,
        Kind::HugeFrame,
        Kind::LargeMessage,
        Kind::Unmasked,
        Kind::Reserved,
        Kind::NotText,
        Kind::NotJson,
        Kind::Messages,
        Kind::Tokens,
        Kind::BadPredicates,
        Kind::Churn,
        Kind::Deaf,
        Kind::HalfOpen,
        Kind::HalfClosed,
        Kind::Resets,
        Kind::CostlyPredicates,
        Kind::LargePredicates,
        Kind::Snapshots,
        Kind::Replays,
    ];

    /// The ends that a connection of this kind may come to by itself. It is kept in the server's bounds where it comes to
    /// none.
    pub fn ends(self) -> &'static [End] {
        match self {
            // They may have to give way to others before their time is over.
            Kind::Silent | Kind::SlowHead => &[End::Answered(408), End::Answered(503)],
            Kind::HalfTls | Kind::Garbage => &[End::Answered(400), End::Answered(408), End::Answered(503)],
            Kind::LongHead | Kind::ManyHeaders => &[End::Answered(431), End::Answered(503), End::Cut],
            Kind::WrongPath => &[End::Answered(404), End::Answered(503)],
            Kind::BadToken => &[End::Answered(401), End::Answered(503)],
            Kind::NoToken => &[End::Closed(4500), End::Answered(503)],
            Kind::Crowd => &[
                End::Answered(429),
                End::Answered(503),
                End::Closed(4002),
                End::Left,
            ],
            Kind::Fragments | Kind::HugeFrame | Kind::LargeMessage => &[End::Closed(1009)],
            // What it sent and nobody read may take the close frame with it.
            Kind::Pings => &[End::Closed(4004), End::Closed(4001), End::Cut],
            Kind::Unfinished | Kind::SlowFrame => &[End::Closed(4001)],
            Kind::Unmasked | Kind::Reserved => &[End::Closed(1002)],
            Kind::NotText => &[End::Closed(1007)],
            Kind::NotJson => &[End::Closed(4501), End::Closed(4004), End::Cut],
            Kind::Pongs | Kind::Messages | Kind::BadPredicates | Kind::Churn => {
                &[End::Closed(4004), End::Cut]
            }
            Kind::Tokens => &[End::Closed(4004), End::Closed(4500), End::Cut],
            // There may be no room for the close frame; and if its rows have to wait, it is its pongs that are missed.
            Kind::Deaf => &[End::Closed(4001), End::Closed(4002), End::Cut],
            Kind::HalfOpen => &[End::Closed(4002), End::Closed(4001), End::Cut],
            Kind::HalfClosed => &[End::Cut],
            Kind::Resets => &[End::Left],
            Kind::CostlyPredicates | Kind::LargePredicates | Kind::Snapshots | Kind::Replays => &[],
        }
    }

    /// The subject of one of its attackers.
    pub fn subject(self, number: usize) -> String {
        format!("{self:?}-{number}")
    }

    /// The address that all of its connections come from.
    fn address(self) -> IpAddr {
        Ipv4Addr::new(127, 1, self as u8, 1).into()
    }
}

/// The server that is attacked: it has the tables `t (id bigint, note text)` and `big`, with the same columns.
pub struct Target {
    pub server: SocketAddr,
    /// A good token of a subject.
    pub token: Box<dyn Fn(&str) -> String + Send + Sync>,
    /// The time in which the server is to end those who are silent.
    pub patience: Duration,
    /// The time that an attacker rests between two connections.
    pub rest: Duration,
}

/// The connections that one of a crowd takes.
const CROWD: usize = 10;

/// The number of times that each kind came to each end.
pub type Ends = BTreeMap<(Kind, End), u64>;

/// Attackers at work, in a thread of their own that has to wait for all others.
pub struct Attackers {
    stop: CancellationToken,
    ends: Arc<Mutex<Ends>>,
    thread: Option<JoinHandle<()>>,
}

impl Attackers {
    /// Starts so many of each kind.
    pub fn start(target: Target, of_kind: impl Fn(Kind) -> usize) -> Attackers {
        let stop = CancellationToken::new();
        let ends = Arc::new(Mutex::new(Ends::new()));
        let (stopped, counted) = (stop.clone(), Arc::clone(&ends));
        let numbers = Kind::ALL.map(|kind| (kind, of_kind(kind)));
        let thread = std::thread::spawn(move || {
            // It stands for machines of their own, so it takes no processor from the server: SCHED_IDLE.
            let number = rustix::thread::gettid().to_string();
            let policy = Command::new("chrt")
                .args(["--idle", "--pid", "0", &number])
                .status();
            assert!(
                policy.unwrap().success(),
                "chrt of util-linux is missing, or may not set SCHED_IDLE"
            );
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let target = Arc::new(target);
            runtime.unwrap().block_on(async {
                let tasks = tokio_util::task::TaskTracker::new();
                for (kind, of_kind) in numbers {
                    for number in 0..of_kind {
                        let attacker = Attacker {
                            kind,
                            number,
                            target: Arc::clone(&target),
                            ends: Arc::clone(&counted),
                        };
                        let stopped = stopped.clone();
                        tasks.spawn(async move { stopped.run_until_cancelled(attacker.run()).await });
                    }
                }
                tasks.close();
                tasks.wait().await;
            });
        });
        Attackers {
            stop,
            ends,
            thread: Some(thread),
        }
    }

    /// The ends so far.
    pub fn ends(&self) -> Ends {
        self.ends.lock().unwrap().clone()
    }

    /// Stops them where they are.
    pub fn stop(mut self) -> Ends {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
        self.ends()
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Attacker {
    kind: Kind,
    number: usize,
    target: Arc<Target>,
    ends: Arc<Mutex<Ends>>,
}

impl Attacker {
    async fn run(self) {
        // Not all at the same moment.
        let rest = self.target.rest;
        tokio::time::sleep(rest.mul_f64(fastrand::f64())).await;
        loop {
            let end = match self.attack().await {
                Ok(end) | Err(end) => end,
            };
            *self.ends.lock().unwrap().entry((self.kind, end)).or_default() += 1;
            tokio::time::sleep(rest.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    async fn attack(&self) -> Result<End, End> {
        let target = &self.target;
        let is_deaf = matches!(self.kind, Kind::Pings | Kind::Deaf | Kind::HalfOpen);
        let wire = Wire::connect(self.kind.address(), target.server, is_deaf).await;
        let mut wire = wire.map_err(|_| End::Cut)?;
        match self.kind {
            Kind::Silent => return Ok(wire.status().await),
            Kind::SlowHead => {
                return Ok(slowly(
                    &mut wire,
                    &b"GET /v1/stream HTTP/1.1\r\nhost: x\r\nx-a: ".repeat(9),
                )
                .await);
            }
            Kind::HalfTls => wire.send(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]).await?,
            Kind::Garbage => wire.send(&[0xfe; 100]).await?,
            Kind::LongHead => {
                let long = format!(
                    "GET /v1/stream HTTP/1.1\r\nhost: x\r\nx-a: {}\r\n\r\n",
                    "a".repeat(20_000)
                );
                // It need not take all of it.
                let _cut = wire.send(long.as_bytes()).await;
            }
            Kind::ManyHeaders => {
                let many = format!(
                    "GET /v1/stream HTTP/1.1\r\nhost: x\r\n{}\r\n",
                    "x-a: b\r\n".repeat(200)
                );
                let _cut = wire.send(many.as_bytes()).await;
            }
            Kind::WrongPath => wire.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await?,
            Kind::BadToken => {
                wire.upgrade(Some(&format!("{}x", self.token()))).await?;
            }
            Kind::NoToken => {
                wire.upgrade(None).await?;
                return Ok(wire.end().await);
            }
            _ => {
                wire.upgrade(Some(&self.token())).await?;
                return self.abuse(wire).await;
            }
        }
        Ok(wire.status().await)
    }

    fn token(&self) -> String {
        (self.target.token)(&self.kind.subject(self.number))
    }

    /// Does harm on a websocket.
    async fn abuse(&self, mut wire: Wire) -> Result<End, End> {
        let patience = self.target.patience;
        let end = match self.kind {
            Kind::Fragments => {
                wire.send(&frame(0x01, b"{")).await?;
                wire.flood_and_read(&frame(0x00, b"").repeat(100)).await
            }
            Kind::Unfinished => {
                wire.send(&frame(0x01, &[b' '; 60_000])).await?;
                wire.end().await
            }
            Kind::SlowFrame => slowly_to_the_end(&mut wire, &frame(0x81, &[b' '; 120])).await,
            Kind::Pings => wire.flood(&frame(0x89, &[b'x'; 125]).repeat(10)).await,
            Kind::Pongs => wire.flood_and_read(&frame(0x8a, b"").repeat(10)).await,
            Kind::HugeFrame => {
                wire.send(&[&[0x81, 0xff][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat())
                    .await?;
                wire.end().await
            }
            Kind::LargeMessage => {
                let _cut = wire.send(&frame(0x81, &[b' '; 70_000])).await;
                wire.end().await
            }
            Kind::Unmasked => {
                wire.send(&[0x81, 0x02, b'{', b'}']).await?;
                wire.end().await
            }
            Kind::Reserved => {
                wire.send(&frame(0xc1, b"{}")).await?;
                wire.end().await
            }
            Kind::NotText => {
                wire.send(&frame(0x81, b"\"\xff\"")).await?;
                wire.end().await
            }
            Kind::NotJson => wire.flood_and_read(&frame(0x81, b"nonsense")).await,
            Kind::Messages => {
                wire.flood_and_read(&frame(0x81, br#"{"type":"ping","ref":1}"#))
                    .await
            }
            Kind::Tokens => {
                let auth = json!({"type": "auth", "token": self.token()}).to_string();
                wire.flood_and_read(&frame(0x81, auth.as_bytes())).await
            }
            Kind::BadPredicates => {
                let predicate = format!("note LIKE '{}' AND nothing = 1", "%a".repeat(1_000));
                let wrong = json!({"type": "subscribe", "id": "a", "table": "t", "where": predicate});
                wire.flood_and_read(&frame(0x81, wrong.to_string().as_bytes()))
                    .await
            }
            Kind::Churn => {
                let subscribe = frame(0x81, br#"{"type":"subscribe","id":"a","table":"t"}"#);
                let unsubscribe = frame(0x81, br#"{"type":"unsubscribe","id":"a"}"#);
                wire.flood_and_read(&[subscribe, unsubscribe].concat()).await
            }
            Kind::Deaf => {
                wire.text(r#"{"type":"subscribe","id":"a","table":"big","snapshot":true}"#)
                    .await?;
                wire.text(r#"{"type":"subscribe","id":"b","table":"t"}"#).await?;
                wire.deaf(patience).await
            }
            Kind::HalfOpen => wire.deaf(patience).await,
            Kind::HalfClosed => {
                tokio::io::AsyncWriteExt::shutdown(&mut wire.socket)
                    .await
                    .map_err(|_| End::Cut)?;
                wire.end().await
            }
            Kind::Resets => {
                wire.text(r#"{"type":"subscribe","id":"a","table":"t","snapshot":true}"#)
                    .await?;
                wire.vanish()
            }
            Kind::Crowd => {
                let mut others = Vec::new();
                // Their pings are not answered.
                for _ in 1..CROWD {
                    let mut other = Wire::connect(self.kind.address(), self.target.server, false)
                        .await
                        .map_err(|_| End::Cut)?;
                    other.upgrade(Some(&self.token())).await?;
                    others.push(other);
                }
                tokio::time::timeout(patience, wire.end())
                    .await
                    .unwrap_or(End::Left)
            }
            kind => {
                // A few more than a connection may have.
                for number in 0..105 {
                    wire.text(&subscribe(kind, self.number, number)).await?;
                }
                wire.end().await
            }
        };
        Ok(end)
    }
}

/// The subscription of a kind, no two of which are alike.
fn subscribe(kind: Kind, attacker: usize, number: usize) -> String {
    let unique = format!("{attacker}-{number}");
    let mut message = json!({"type": "subscribe", "id": unique, "table": "t", "columns": ["id"]});
    match kind {
        Kind::CostlyPredicates => {
            let patterns = (0..20).map(|n| format!("note LIKE '%{}{unique}-{n}%'", "a_%".repeat(20)));
            message["where"] = json!(patterns.collect::<Vec<_>>().join(" OR "));
        }
        Kind::LargePredicates => {
            let list: Vec<String> = (0..900)
                .map(|n| format!("{unique}-{n}-{}", "x".repeat(30)))
                .collect();
            message["where"] = json!("note = ANY ($1)");
            message["params"] = json!([list]);
        }
        Kind::Snapshots => {
            message["table"] = json!("big");
            message["where"] = json!(format!("note LIKE '%{}{unique}%'", "a%".repeat(20)));
            message["snapshot"] = json!(true);
        }
        _ => {
            message["where"] = json!(format!("note <> '{unique}'"));
            message["from"] = json!("earliest");
        }
    }
    message.to_string()
}

/// Sends a byte now and then, and says how it was answered.
async fn slowly(wire: &mut Wire, bytes: &[u8]) -> End {
    for byte in bytes.chunks(1) {
        if wire.send(byte).await.is_err() {
            break;
        }
        let readable = tokio::time::timeout(Duration::from_millis(200), wire.socket.readable()).await;
        if readable.is_ok() {
            break;
        }
    }
    wire.status().await
}

/// The same on a websocket, whose messages are read on.
async fn slowly_to_the_end(wire: &mut Wire, bytes: &[u8]) -> End {
    for byte in bytes.chunks(1) {
        if wire.send(byte).await.is_err() {
            break;
        }
        if let Ok(end) = tokio::time::timeout(Duration::from_millis(200), wire.end()).await {
            return end;
        }
    }
    wire.end().await
}
