//! The cost of heavy queries and large rows of one table to the subscriber of another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value as Json, json};
use walcast::cluster::Cluster;
use walcast::postgres::{ConnInfo, Connection, Purpose};

use crate::latency::{self, summary};
use crate::support::{self, Server, percentile};

const RATE: u64 = 200;
const SECONDS: u64 = 15;

/// A name, queries with a parameter each, the rows that are written, and how many a second.
type Case = (&'static str, Vec<(&'static str, Json)>, &'static str, u64);

pub(crate) fn run() {
    let cluster = support::cluster();
    cluster.psql(
        "CREATE TABLE t (id bigint PRIMARY KEY, name text);
         CREATE TABLE pages (id bigserial PRIMARY KEY, body text, ids int[]);
         ALTER TABLE pages ALTER body SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
         CREATE PUBLICATION p FOR TABLE t, pages",
    );
    let server = Server::start(&cluster, "s", "p");
    println!(
        "\na client of one table at {RATE} commits/s, while another table has heavy queries and large rows"
    );
    let mut alone = latency::measure(&cluster, server.listen, 0, RATE, SECONDS);
    println!("  {:<58} {}", "alone", summary(&mut alone));
    let pattern = |number: usize| format!("%{}b{number}%", "a_".repeat(240));
    let list = |number: usize| {
        (0..1_000)
            .map(|id| 10_000 + number * 1_000 + id)
            .collect::<Vec<_>>()
    };
    let large = "INSERT INTO pages (body) VALUES (repeat('a', 2000000))";
    let ids = "INSERT INTO pages (ids) SELECT array_agg(n) FROM generate_series(1, 1000) n";
    let none = Vec::new();
    let patterns = (0..4)
        .map(|number| ("body LIKE $1", json!(pattern(number))))
        .collect();
    let lists = (0..100)
        .map(|number| ("ids && $1", json!(list(number))))
        .collect();
    let cases: [Case; 4] = [
        ("no query, rows of 2 MB, 5/s", none.clone(), large, 5),
        ("4 LIKE of 240 wildcards, rows of 2 MB, 5/s", patterns, large, 5),
        ("no query, rows of 1,000 ids, 50/s", none, ids, 50),
        ("100 && of 1,000 ids, rows of 1,000 ids, 50/s", lists, ids, 50),
    ];
    for (number, (what, queries, insert, rate)) in cases.into_iter().enumerate() {
        let heavy = Heavy::start(&cluster, server.listen, queries, insert, rate);
        let base = (number as u64 + 1) * 1_000_000;
        let mut beside = latency::measure(&cluster, server.listen, base, RATE, SECONDS);
        heavy.stop();
        println!(
            "  {what:<58} {}  p50 {:.1} times, p99 {:.1} times",
            summary(&mut beside),
            percentile(&mut beside, 0.5) / percentile(&mut alone, 0.5),
            percentile(&mut beside, 0.99) / percentile(&mut alone, 0.99),
        );
    }
}

/// A client with heavy queries, and a writer of rows that they are held against.
struct Heavy {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Heavy {
    fn start(
        cluster: &Cluster,
        listen: SocketAddr,
        queries: Vec<(&str, Json)>,
        insert: &str,
        rate: u64,
    ) -> Heavy {
        let stop = Arc::new(AtomicBool::new(false));
        let subscribes: Vec<Json> = queries
            .into_iter()
            .enumerate()
            .map(|(number, (predicate, param))| {
                json!({
                    "type": "subscribe", "id": format!("q{number}"), "table": "pages", "where": predicate,
                    "params": [param], "columns": ["id"],
                })
            })
            .collect();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let stopped = Arc::clone(&stop);
        let client = thread::spawn(move || {
            support::runtime().block_on(async {
                let mut client = support::connect(listen).await;
                for subscribe in subscribes {
                    support::subscribe(&mut client, subscribe).await;
                    while support::next(&mut client).await["type"] != "live" {}
                }
                ready.send(()).unwrap();
                while !stopped.load(Ordering::Relaxed) {
                    drop(tokio::time::timeout(Duration::from_millis(100), support::next(&mut client)).await);
                }
            });
        });
        is_ready.recv().unwrap();
        let (url, insert, stopped) = (cluster.url("postgres"), insert.to_owned(), Arc::clone(&stop));
        let writer = thread::spawn(move || {
            let info = ConnInfo::parse(&url).unwrap();
            let mut connection = Connection::connect(&info, Purpose::Application).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                connection.query(&insert).unwrap();
                thread::sleep(Duration::from_secs(1) / rate as u32);
            }
        });
        Heavy {
            stop,
            threads: vec![client, writer],
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}
