//! From the return of the INSERT to the websocket client's receipt, one writer, one client, one clock.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use walcast::postgres::{ConnInfo, Connection, Purpose};

use crate::support::{self, Server, percentile};

const SECONDS: u64 = 15;

pub(crate) fn run() {
    let cluster = support::cluster();
    cluster.psql("CREATE TABLE t (id bigint PRIMARY KEY, name text); CREATE PUBLICATION p FOR TABLE t");
    let server = Server::start(&cluster, "s", "p");
    println!("\nlatency from the commit's return to the client, one client, {SECONDS} s each");
    for (run, rate) in [200, 2000].into_iter().enumerate() {
        let (sender, receipts) = mpsc::channel();
        let listen = server.listen;
        let count = rate * SECONDS;
        let (ready, is_ready) = mpsc::channel();
        let client = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
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
                    sender
                        .send((
                            message["changes"][0]["row"]["id"].as_u64().unwrap(),
                            Instant::now(),
                        ))
                        .unwrap();
                }
            });
        });
        is_ready.recv().unwrap();
        let base = run as u64 * 1_000_000;
        let commits = write(&cluster.url("postgres"), base, rate, count);
        client.join().unwrap();
        let mut micros: Vec<f64> = receipts
            .iter()
            .map(|(id, at)| {
                at.saturating_duration_since(commits[(id - base) as usize])
                    .as_secs_f64()
                    * 1e6
            })
            .collect();
        println!(
            "  {rate:>5} commits/s: p50 {:>6.0} us  p99 {:>6.0} us  max {:>7.0} us",
            percentile(&mut micros, 0.5),
            percentile(&mut micros, 0.99),
            percentile(&mut micros, 1.0)
        );
    }
}

/// Commits `count` rows at a rate, and says when each commit returned.
fn write(url: &str, base: u64, rate: u64, count: u64) -> Vec<Instant> {
    let mut connection = Connection::connect(&ConnInfo::parse(url).unwrap(), Purpose::Query).unwrap();
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
