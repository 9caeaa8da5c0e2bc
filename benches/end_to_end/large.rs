//! A transaction of five million rows with small commits around it, with `--streaming on` and `off`: how long the small
//! ones take to their subscriber before, while and after the large one, when that comes, and what it takes of memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use walcast::postgres::{ConnInfo, Connection, Purpose};

use crate::support::{self, Server, changes, percentile};

const ROWS: u64 = 5_000_000;
/// Between two small commits.
const PACE: Duration = Duration::from_millis(5);
/// Before the large transaction, and after its last row has come.
const QUIET: Duration = Duration::from_secs(3);

pub(crate) fn run() {
    println!("\na transaction of {ROWS} rows, with a commit of one row every {PACE:?} around it");
    for streaming in ["on", "off"] {
        measure(streaming);
    }
}

/// When the subscriber of the large table had its first and last rows.
struct Received {
    first: Instant,
    last: Instant,
}

fn measure(streaming: &str) {
    let cluster = support::cluster();
    cluster.psql(
        "CREATE TABLE small (id bigint PRIMARY KEY); CREATE TABLE large (id bigint, bucket int, name text); \
         CREATE PUBLICATION p FOR TABLE small, large",
    );
    let server = Server::start_with(&cluster, "s", "p", &["--streaming", streaming]);
    let (subscribed, is_subscribed) = mpsc::channel();
    let (arrivals, small_came) = mpsc::channel();
    let (listen, ready) = (server.listen, subscribed.clone());
    let small = thread::spawn(move || follow_small(listen, &ready, &arrivals));
    let large = thread::spawn(move || follow_large(listen, &subscribed));
    is_subscribed.recv().unwrap();
    is_subscribed.recv().unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let (url, until) = (cluster.url("postgres"), Arc::clone(&stop));
    let writer = thread::spawn(move || write(&url, &until));
    thread::sleep(QUIET);
    let began = Instant::now();
    cluster.psql(&format!(
        "INSERT INTO large SELECT i, i % 100, 'name ' || i FROM generate_series(1, {ROWS}) i"
    ));
    let committed = Instant::now();
    let received = large.join().unwrap();
    thread::sleep(QUIET);
    stop.store(true, Ordering::Relaxed);
    let commits = writer.join().unwrap();
    small.join().unwrap();
    let peak = support::peak_resident(server.pid());

    println!("\n  --streaming {streaming}");
    println!(
        "    the large one: {:.1} s to its commit; its rows came from {:.1} to {:.1} s after that; peak {} MB resident",
        (committed - began).as_secs_f64(),
        received.first.saturating_duration_since(committed).as_secs_f64(),
        received.last.saturating_duration_since(committed).as_secs_f64(),
        peak / 1_000_000
    );
    let delays: Vec<(Instant, f64)> = small_came
        .iter()
        .map(|(id, at)| {
            (
                commits[id as usize],
                at.saturating_duration_since(commits[id as usize]).as_secs_f64(),
            )
        })
        .collect();
    assert_eq!(delays.len(), commits.len());
    let phases = [
        ("before it", commits[0], began),
        ("while it ran", began, committed),
        ("until it had come", committed, received.last),
        ("after it", received.last, received.last + QUIET),
    ];
    for (name, from, to) in phases {
        let within = delays.iter().filter(|(at, _)| *at >= from && *at < to);
        let mut millis: Vec<f64> = within.map(|(_, delay)| delay * 1e3).collect();
        if millis.is_empty() {
            continue;
        }
        println!(
            "    small commits {name:<18} {:>6}: p50 {:>8.1} ms  p99 {:>8.1} ms  max {:>8.1} ms",
            millis.len(),
            percentile(&mut millis, 0.5),
            percentile(&mut millis, 0.99),
            percentile(&mut millis, 1.0)
        );
    }
}

/// Commits a row at a time until it is told to stop; the last one has the number after the last. Returns when each
/// commit returned.
fn write(url: &str, stop: &AtomicBool) -> Vec<Instant> {
    let mut connection = Connection::connect(&ConnInfo::parse(url).unwrap(), Purpose::Application).unwrap();
    let mut commits = Vec::new();
    let mut due = Instant::now();
    loop {
        let last = stop.load(Ordering::Relaxed);
        connection
            .query(&format!("INSERT INTO small VALUES ({})", commits.len()))
            .unwrap();
        commits.push(Instant::now());
        if last {
            connection.query("INSERT INTO small VALUES (-1)").unwrap();
            return commits;
        }
        due += PACE;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Tells when each small row came.
fn follow_small(
    listen: std::net::SocketAddr,
    subscribed: &mpsc::Sender<()>,
    arrivals: &mpsc::Sender<(u64, Instant)>,
) {
    runtime().block_on(async {
        let mut client = support::connect(listen).await;
        support::subscribe(
            &mut client,
            json!({"type": "subscribe", "id": "s", "table": "small"}),
        )
        .await;
        subscribed.send(()).unwrap();
        loop {
            let message = support::next(&mut client).await;
            let at = Instant::now();
            for change in message["changes"].as_array().into_iter().flatten() {
                let Some(id) = change["row"]["id"].as_u64() else {
                    return;
                };
                arrivals.send((id, at)).unwrap();
            }
        }
    });
}

/// Takes all of the large transaction.
fn follow_large(listen: std::net::SocketAddr, subscribed: &mpsc::Sender<()>) -> Received {
    runtime().block_on(async {
        let mut client = support::connect(listen).await;
        support::subscribe(
            &mut client,
            json!({"type": "subscribe", "id": "l", "table": "large"}),
        )
        .await;
        subscribed.send(()).unwrap();
        let (mut first, mut count) = (None, 0);
        while count < ROWS {
            let text = support::next_text(&mut client).await;
            let here = changes(&text);
            if here > 0 {
                first.get_or_insert_with(Instant::now);
            }
            count += here;
        }
        assert_eq!(count, ROWS);
        let last = Instant::now();
        Received {
            first: first.unwrap_or(last),
            last,
        }
    })
}
