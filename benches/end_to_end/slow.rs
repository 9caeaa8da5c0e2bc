//! A thousand clients that take less than there is: what they cost one that takes all.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::latency::{self, summary};
use crate::support::{self, Counter, Server, percentile};

const CLIENTS: usize = 1_000;
const RATE: u64 = 1_000;
const SECONDS: u64 = 15;
/// The bytes that a slow client takes in each [`PAUSE`]: a quarter of what is sent to it.
const TAKEN: usize = 4_096;
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn run() {
    let cluster = support::cluster();
    cluster.psql("CREATE TABLE t (id bigint PRIMARY KEY, name text); CREATE PUBLICATION p FOR TABLE t");
    // These clients answer no pings.
    let flags = [
        "--pong-timeout",
        "1h",
        "--stall-timeout",
        "1h",
        "--send-buffer-bytes",
        "8KiB",
    ];
    let server = Server::start_with(&cluster, "s", "p", &flags);
    println!("\n{CLIENTS} clients that take a quarter of what they subscribed to");
    let mut alone = latency::measure(&cluster, server.listen, 0, RATE, SECONDS);
    println!("  another at {RATE} commits/s, alone:   {}", summary(&mut alone));
    let listen = server.listen;
    let (ready, are_ready) = mpsc::channel();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let readers = thread::spawn(move || read_slowly(listen, &ready, &stopped));
    are_ready.recv().unwrap();
    // Until what the kernel takes for them is full.
    latency::measure(&cluster, listen, 1_000_000, RATE, SECONDS);
    let mut beside = latency::measure(&cluster, listen, 2_000_000, RATE, SECONDS);
    println!("  the same beside them:              {}", summary(&mut beside));
    println!(
        "  p50 {:.1} times, p99 {:.1} times; peak {} MB resident",
        percentile(&mut beside, 0.5) / percentile(&mut alone, 0.5),
        percentile(&mut beside, 0.99) / percentile(&mut alone, 0.99),
        support::peak_resident(server.pid()) / 1_000_000
    );
    stop.cancel();
    readers.join().unwrap();
}

/// Says when all are there, and reads with them until `stop`.
fn read_slowly(listen: SocketAddr, ready: &mpsc::Sender<()>, stop: &CancellationToken) {
    let runtime = support::runtime();
    runtime.block_on(async {
        let query = r#"{"type":"subscribe","id":"s","table":"t"}"#;
        let clients =
            futures_util::future::join_all((0..CLIENTS).map(|_| Counter::connect(listen, query))).await;
        ready.send(()).unwrap();
        let slow = clients.into_iter().map(|mut client| async move {
            let mut buffer = [0; TAKEN];
            loop {
                tokio::time::sleep(PAUSE).await;
                client.read(&mut buffer).await;
            }
        });
        // None of them ends by itself.
        stop.run_until_cancelled(futures_util::future::join_all(slow))
            .await;
    });
}
