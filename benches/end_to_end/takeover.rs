//! A walcast that is killed beside a standby: how long its clients go without changes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tungstenite::Message;
use walcast::postgres::{ConnInfo, Connection, Purpose};

use crate::support::{self, Server, percentile};

const ROUNDS: usize = 10;
const BETWEEN_COMMITS: Duration = Duration::from_millis(10);
/// The standby has what clients were sent before this.
const WINDOW: Duration = Duration::from_secs(1);

pub(crate) fn run() {
    let cluster = support::cluster();
    cluster.psql("CREATE TABLE t (id bigint PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t");
    let flags = ["--standby-window", "1s"];
    let mut first = Server::start_with(&cluster, "s", "p", &flags);
    println!(
        "\na walcast is killed, {ROUNDS} times, under {} commits/s",
        1000 / BETWEEN_COMMITS.as_millis()
    );
    let info = ConnInfo::parse(&cluster.url("postgres")).unwrap();
    let over = AtomicBool::new(false);
    let mut millis = thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = Connection::connect(&info, Purpose::Application).unwrap();
            let mut id = 0;
            while !over.load(Ordering::Relaxed) {
                id += 1;
                connection.query(&format!("INSERT INTO t VALUES ({id})")).unwrap();
                thread::sleep(BETWEEN_COMMITS);
            }
        });
        let mut millis = Vec::new();
        for _ in 0..ROUNDS {
            let second = Server::start_with(&cluster, "s", "p", &flags);
            millis.push(kill(&first, second.listen, &info));
            first = second;
        }
        over.store(true, Ordering::Relaxed);
        millis
    });
    println!(
        "  from the kill to the next change at the client: median {:.0} ms, most {:.0} ms",
        percentile(&mut millis, 0.5),
        percentile(&mut millis, 1.0)
    );
}

/// Kills the first, and says after how long a client of it has its next change from the second, in milliseconds.
fn kill(first: &Server, second: SocketAddr, info: &ConnInfo) -> f64 {
    let runtime = support::runtime();
    runtime.block_on(async {
        let mut client = support::connect(first.listen).await;
        support::subscribe(&mut client, json!({"type": "subscribe", "id": "s", "table": "t"})).await;
        let mut connection = Connection::connect(info, Purpose::Application).unwrap();
        let mut last = Value::Null;
        let began = Instant::now();
        let (mut seen, mut killed) = (None, None);
        while let Some(Ok(message)) = client.next().await {
            if let Message::Text(text) = message {
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == "tx" {
                    last = message;
                }
            }
            if killed.is_some() || began.elapsed() < WINDOW {
                continue;
            }
            // Once the standby has seen the first one, the slot must come so far for it to know what it goes on with.
            let seen = seen.get_or_insert_with(|| ask(&mut connection, "pg_current_wal_lsn()"));
            let slots = "(SELECT confirmed_flush_lsn FROM pg_replication_slots)";
            if ask(&mut connection, &format!("{slots} >= '{seen}'")) == "t" {
                kill_process(Pid::from_raw(first.pid().cast_signed()).unwrap(), Signal::KILL).unwrap();
                killed = Some(Instant::now());
            }
        }
        let mut client = support::connect(second).await;
        let query = json!({"type": "subscribe", "id": "s", "table": "t", "from": last["position"]});
        support::subscribe(&mut client, query).await;
        let next = loop {
            let message = support::next(&mut client).await;
            if message["type"] == "tx" {
                break message;
            }
        };
        let millis = killed.unwrap().elapsed().as_secs_f64() * 1e3;
        let id = |tx: &Value| tx["changes"][0]["row"]["id"].as_u64().unwrap();
        assert_eq!(id(&next), id(&last) + 1);
        millis
    })
}

fn ask(connection: &mut Connection, what: &str) -> String {
    let rows = connection.query(&format!("SELECT {what}")).unwrap();
    rows[0].get(0).unwrap().to_owned()
}
