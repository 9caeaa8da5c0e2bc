//! Thousands of clients that come back at once, each from its own place in the journal's past: what that costs a client
//! that is live.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use walcast::postgres::{ConnInfo, Connection, Purpose};

use crate::latency::{self, summary};
use crate::support::{self, Counter, Server, percentile};

const CLIENTS: u64 = 5_000;
/// Each client's query matches one transaction in so many.
const BUCKETS: u64 = 100;
const TRANSACTIONS: u64 = 2_000;
const ROWS_EACH: u64 = 100;
const RATE: u64 = 200;
const SECONDS: u64 = 10;

pub(crate) fn run() {
    let cluster = support::cluster();
    cluster.psql(
        "CREATE TABLE t (id bigint PRIMARY KEY, name text); CREATE TABLE past (id bigint, bucket int, name text); \
         CREATE PUBLICATION p FOR TABLE t, past",
    );
    // These clients answer no pings.
    let server = Server::start_with(&cluster, "s", "p", &["--pong-timeout", "1h"]);
    let listen = server.listen;
    println!(
        "\n{CLIENTS} clients that resume at once, {TRANSACTIONS} transactions of {ROWS_EACH} rows behind"
    );
    let mut quiet = latency::measure(&cluster, listen, 0, RATE, SECONDS);
    println!(
        "  a live client at {RATE} commits/s, alone:      {}",
        summary(&mut quiet)
    );
    let mut connection = Connection::connect(
        &ConnInfo::parse(&cluster.url("postgres")).unwrap(),
        Purpose::Application,
    )
    .unwrap();
    for transaction in 0..TRANSACTIONS {
        let bucket = transaction % BUCKETS;
        let rows = format!("SELECT g, {bucket}, 'some name' FROM generate_series(1, {ROWS_EACH}) g");
        connection.query(&format!("INSERT INTO past {rows}")).unwrap();
    }
    // Until all of that is journaled, whatever comes later waits for it.
    latency::measure(&cluster, listen, 500_000, 10, 1);
    let frames = Arc::new(AtomicU64::new(0));
    let herd = {
        let frames = Arc::clone(&frames);
        thread::spawn(move || come_back(listen, &frames))
    };
    let mut busy = latency::measure(&cluster, listen, 1_000_000, RATE, SECONDS);
    let took = herd.join().unwrap();
    println!(
        "  the same while they come back:             {}",
        summary(&mut busy)
    );
    println!(
        "  p50 {:.1} times, p99 {:.1} times; all were back after {:.1} s; peak {} MB resident",
        percentile(&mut busy, 0.5) / percentile(&mut quiet, 0.5),
        percentile(&mut busy, 0.99) / percentile(&mut quiet, 0.99),
        took.as_secs_f64(),
        support::peak_resident(server.pid()) / 1_000_000
    );
}

/// Has all of them come back, and says how long it took until each had what it had missed.
fn come_back(listen: std::net::SocketAddr, frames: &Arc<AtomicU64>) -> Duration {
    let runtime = support::runtime();
    runtime.block_on(async {
        let began = Instant::now();
        for client in 0..CLIENTS {
            let frames = Arc::clone(frames);
            tokio::spawn(async move {
                let bucket = client % BUCKETS;
                let query = format!(
                    r#"{{"type":"subscribe","id":"s","table":"past","where":"bucket = {bucket}","from":"earliest"}}"#
                );
                let mut counter = Counter::connect(listen, &query).await;
                let mut buffer = vec![0; 16 * 1024];
                loop {
                    let here = counter.read(&mut buffer).await;
                    frames.fetch_add(here as u64, Ordering::Relaxed);
                }
            });
        }
        // Beside hello and subscribed, and whatever else came with these: its transactions, and live.
        let expected = CLIENTS * (TRANSACTIONS / BUCKETS);
        while frames.load(Ordering::Relaxed) < expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
    })
}
