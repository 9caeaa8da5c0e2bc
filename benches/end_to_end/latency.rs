//! From the return of the INSERT to the websocket client's receipt, one writer, one client, one clock.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use walcast::cluster::Cluster;
use walcast::postgres::{ConnInfo, Connection, Purpose};

use crate::support::{self, Server, percentile};

const SECONDS: u64 = 15;

pub(crate) fn run() {
    let cluster = support::cluster();
    cluster.psql("CREATE TABLE t (id bigint PRIMARY KEY, name text); CREATE PUBLICATION p FOR TABLE t");
    let server = Server::start(&cluster, "s", "p");
    println!("\nlatency from the commit's return to the client, one client, {SECONDS} s each");
    for (run, rate) in [200, 2000].into_iter().enumerate() {
        let base = run as u64 * 1_000_000;
        let mut micros = measure(&cluster, server.listen, base, rate, SECONDS);
        println!("  {rate:>5} commits/s: {}", summary(&mut micros));
    }
}

/// The middle, the worst of a hundred and the worst.
pub(crate) fn summary(micros: &mut [f64]) -> String {
    format!(
        "p50 {:>6.0} us  p99 {:>6.0} us  max {:>7.0} us",
        percentile(micros, 0.5),
        percentile(micros, 0.99),
        percentile(micros, 1.0)
    )
}

/// Commits rows of `t`, from the id `base` on, at a rate for so many seconds, and says how long each took to a client,
/// in microseconds.
pub(crate) fn measure(cluster: &Cluster, listen: SocketAddr, base: u64, rate: u64, seconds: u64) -> Vec<f64> {
    let (sender, receipts) = mpsc::channel();
    let count = rate * seconds;
    let (ready, is_ready) = mpsc::channel();
    let client = thread::spawn(move || {
        let runtime = support::runtime();
        runtime.block_on(async {
            let mut client = support::connect(listen).await;
            let query = serde_json::json!({"type": "subscribe", "id": "s", "table": "t"});
            support::subscribe(&mut client, query).await;
            ready.send(()).unwrap();
            for _ in 0..count {
                let message = loop {
                    let message = support::next(&mut client).await;
                    if message["type"] == "tx" {
                        break message;
                    }
                };
                let id = message["changes"][0]["row"]["id"].as_u64().unwrap();
                sender.send((id, Instant::now())).unwrap();
            }
        });
    });
    is_ready.recv().unwrap();
    let commits = write(&cluster.url("postgres"), base, rate, count);
    client.join().unwrap();
    let took = |(id, at): (u64, Instant)| {
        let committed = commits[(id - base) as usize];
        at.saturating_duration_since(committed).as_secs_f64() * 1e6
    };
    receipts.iter().map(took).collect()
}

/// Commits `count` rows at a rate, and says when each commit returned.
fn write(url: &str, base: u64, rate: u64, count: u64) -> Vec<Instant> {
    let mut connection = Connection::connect(&ConnInfo::parse(url).unwrap(), Purpose::Application).unwrap();
    let began = Instant::now();
    let mut commits = Vec::with_capacity(count as usize);
    for i in 0..count {
        let due = began + Duration::from_secs_f64(i as f64 / rate as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        connection
            .query(&format!("INSERT INTO t VALUES ({}, 'some name')", base + i))
            .unwrap();
        commits.push(Instant::now());
    }
    commits
}
