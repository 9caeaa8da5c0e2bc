//! Drains the same backlog with one subscription and with 20,000, each of a tenant of its own, on 200 connections,
//! several times in turn. Both get one row in fifty.

use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};
use walcast::cluster::Cluster;

use crate::support::{self, Server, Socket, changes, cpu, percentile};

const CONNECTIONS: u64 = 200;
const SUBSCRIPTIONS: u64 = 20_000;
/// One row in so many has a subscription.
const EVERY: u64 = 50;
const ROWS: u64 = SUBSCRIPTIONS * EVERY;
const RUNS: usize = 4;
/// The amount that slower many subscriptions may be.
const GOAL: f64 = 0.9;

/// The cost of one drain.
#[derive(Clone, Copy, Debug)]
struct Cost {
    rows_per_second: f64,
    server: f64,
}

pub(crate) fn run() {
    let cluster = support::cluster();
    cluster.psql(
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id int, bucket int, name text, \
         amount numeric, at timestamptz DEFAULT now()); CREATE PUBLICATION p FOR TABLE t",
    );
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        one.push(drain(
            &cluster,
            &format!("one_{run}"),
            &[vec![query("bucket = 0".into())]],
        ));
        let connections: Vec<Vec<Json>> = (0..CONNECTIONS)
            .map(|connection| {
                let mine = (0..SUBSCRIPTIONS).filter(|number| number % CONNECTIONS == connection);
                mine.map(|number| query(format!("tenant_id = {}", number * EVERY)))
                    .collect()
            })
            .collect();
        many.push(drain(&cluster, &format!("many_{run}"), &connections));
    }
    println!(
        "\n{ROWS} rows in bulk, {SUBSCRIPTIONS} of them to subscribers, medians of {RUNS} interleaved runs"
    );
    println!("  {:<44} {:>12} {:>10}", "", "rows/s", "server s");
    print("one subscription", &one);
    print(
        &format!("{SUBSCRIPTIONS} subscriptions on {CONNECTIONS} connections"),
        &many,
    );
    let ratios = many.iter().zip(&one);
    let mut ratios: Vec<f64> = ratios
        .map(|(many, one)| many.rows_per_second / one.rows_per_second)
        .collect();
    let all: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    let median = percentile(&mut ratios, 0.5);
    println!("  ratio {median:.2} (runs: {}; goal {GOAL})", all.join(" "));
}

fn print(name: &str, costs: &[Cost]) {
    let median = |of: fn(&Cost) -> f64| percentile(&mut costs.iter().map(of).collect::<Vec<_>>(), 0.5);
    println!(
        "  {name:<44} {:>12.0} {:>10.2}",
        median(|c| c.rows_per_second),
        median(|c| c.server)
    );
}

fn query(predicate: String) -> Json {
    json!({"type": "subscribe", "id": predicate, "table": "t", "where": predicate, "undecided": "withhold"})
}

/// Subscribes, lets a backlog gather while the server stands still, and takes the time from when it goes on until the
/// last row has arrived.
fn drain(cluster: &Cluster, slot: &str, connections: &[Vec<Json>]) -> Cost {
    let server = Server::start(cluster, slot, "p");
    let runtime = support::runtime();
    let mut sockets = Vec::new();
    runtime.block_on(async {
        for queries in connections {
            let mut socket = support::connect(server.listen).await;
            for query in queries {
                support::subscribe(&mut socket, query.clone()).await;
                while support::next(&mut socket).await["type"] != "live" {}
            }
            sockets.push(socket);
        }
    });
    let pid = Pid::from_raw(server.pid() as i32).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    for first in (0..ROWS).step_by(100_000) {
        let last = ROWS.min(first + 100_000) - 1;
        cluster.psql(&format!(
            "INSERT INTO t (tenant_id, bucket, name, amount) SELECT i, i % {EVERY}, 'name ' || i, i * 1.25 \
             FROM generate_series({first}, {last}) i"
        ));
    }
    cluster.psql("CHECKPOINT");
    let used = cpu(server.pid()).unwrap();
    let began = Instant::now();
    kill_process(pid, Signal::CONT).unwrap();
    runtime.block_on(receive(sockets));
    let took = began.elapsed();
    let used = cpu(server.pid()).unwrap() - used;
    Cost {
        rows_per_second: ROWS as f64 / took.as_secs_f64(),
        server: used.as_secs_f64(),
    }
}

/// Takes what comes until all the rows have.
async fn receive(sockets: Vec<Socket>) {
    let expected = SUBSCRIPTIONS / sockets.len() as u64;
    let readers = sockets.into_iter().map(|mut socket| async move {
        let mut received = 0;
        while received < expected {
            received += changes(&support::next_text(&mut socket).await);
        }
        assert_eq!(received, expected);
    });
    futures_util::future::join_all(readers).await;
}
