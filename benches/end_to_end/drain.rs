//! Drains a backlog with pg_recvlogical to /dev/null, and through walcast with a journal and one subscriber, once of 1%
//! of the rows and once of all of them, several times in turn.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use walcast::cluster::Cluster;

use crate::support::{self, Server, changes, cpu, percentile};

/// One way to fill the backlog.
struct Workload {
    name: &'static str,
    rows: u64,
    /// The ratio that is to be reached with a subscriber of 1%, if that was ever said.
    goal: Option<f64>,
    /// Before the slots are made.
    schema: fn(&Cluster, u64),
    /// After it.
    fill: fn(&Cluster, u64),
}

const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "narrow inserts in bulk",
        rows: 2_000_000,
        goal: Some(1.8),
        schema: narrow,
        fill: fill_in_bulk,
    },
    Workload {
        name: "single-row transactions",
        rows: 300_000,
        goal: Some(2.2),
        schema: narrow,
        fill: fill_one_by_one,
    },
    Workload {
        name: "updates with REPLICA IDENTITY FULL",
        rows: 1_000_000,
        goal: None,
        schema: full_identity,
        fill: update_in_bulk,
    },
    Workload {
        name: "wide rows, 30 columns",
        rows: 300_000,
        goal: None,
        schema: wide,
        fill: fill_wide,
    },
];

const RUNS: usize = 3;

/// The cost of one drain.
#[derive(Clone, Copy, Debug)]
struct Cost {
    rows_per_second: f64,
    walsender: f64,
    consumer: f64,
}

pub(crate) fn run() {
    for workload in &WORKLOADS {
        let cluster = support::cluster();
        (workload.schema)(&cluster, workload.rows);
        cluster.psql("CREATE PUBLICATION p FOR TABLE t");
        let slots = |run: usize| ["theirs", "some", "all"].map(|of| format!("{of}_{run}"));
        for slot in (0..RUNS).flat_map(slots) {
            cluster.psql(&format!(
                "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
            ));
        }
        (workload.fill)(&cluster, workload.rows);
        // The last row is one that the subscribers get.
        cluster.psql("INSERT INTO t (bucket, a, name, amount) VALUES (7, 0, 'last', 0)");
        let end = cluster.psql("CHECKPOINT; SELECT pg_current_wal_lsn()");
        let (mut theirs, mut some, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for [their, ours, ours_of_all] in (0..RUNS).map(slots) {
            theirs.push(pg_recvlogical(&cluster, &their, &end, workload.rows));
            some.push(walcast(&cluster, &ours, workload.rows, Some("bucket = 7")));
            all.push(walcast(&cluster, &ours_of_all, workload.rows, None));
        }
        println!(
            "\n{}: {} rows, medians of {RUNS} interleaved runs",
            workload.name, workload.rows
        );
        println!(
            "  {:<16} {:>12} {:>14} {:>14}",
            "", "rows/s", "walsender s", "consumer s"
        );
        print("pg_recvlogical", &theirs);
        print("walcast, of 1%", &some);
        print("walcast, of all", &all);
        let goal = workload
            .goal
            .map_or(String::new(), |goal| format!("; goal {goal}"));
        println!("  ratio of 1%: {}{goal}", ratio(&some, &theirs));
        println!("  ratio of all: {}", ratio(&all, &theirs));
    }
}

/// The median of how many times as fast ours were as theirs, and each.
fn ratio(ours: &[Cost], theirs: &[Cost]) -> String {
    let mut ratios: Vec<f64> = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours.rows_per_second / theirs.rows_per_second)
        .collect();
    let all: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    format!(
        "{:.2} (runs: {}",
        percentile(&mut ratios, 0.5),
        all.join(" ") + ")"
    )
}

fn print(name: &str, costs: &[Cost]) {
    let median = |of: fn(&Cost) -> f64| percentile(&mut costs.iter().map(of).collect::<Vec<_>>(), 0.5);
    println!(
        "  {name:<16} {:>12.0} {:>14.2} {:>14.2}",
        median(|c| c.rows_per_second),
        median(|c| c.walsender),
        median(|c| c.consumer)
    );
}

const NARROW: &str = "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, bucket int, a int, \
                      name text, amount numeric, at timestamptz DEFAULT now())";
const STEP: u64 = 100_000;

fn narrow(cluster: &Cluster, _: u64) {
    cluster.psql(NARROW);
}

fn full_identity(cluster: &Cluster, rows: u64) {
    cluster.psql(NARROW);
    cluster.psql("ALTER TABLE t REPLICA IDENTITY FULL");
    fill_in_bulk(cluster, rows);
}

fn wide(cluster: &Cluster, _: u64) {
    let columns: String = (0..5)
        .map(|n| format!(", i{n} int, t{n} text, n{n} numeric, b{n} boolean, d{n} timestamptz"))
        .collect();
    cluster.psql(&format!(
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, bucket int, a int, name text, \
         amount numeric{columns})"
    ));
}

fn fill_in_bulk(cluster: &Cluster, rows: u64) {
    for _ in 0..rows / STEP {
        cluster.psql(&format!(
            "INSERT INTO t (bucket, a, name, amount) SELECT i % 100, i, 'name ' || i, i * 1.25 \
             FROM generate_series(1, {STEP}) i"
        ));
    }
}

fn update_in_bulk(cluster: &Cluster, rows: u64) {
    for first in (1..rows).step_by(STEP as usize) {
        let last = first + STEP - 1;
        cluster.psql(&format!(
            "UPDATE t SET a = a + 1 WHERE id BETWEEN {first} AND {last}"
        ));
    }
}

fn fill_wide(cluster: &Cluster, rows: u64) {
    let values: String = (0..5)
        .map(|n| format!(", i * {n}, 'a text of some length ' || i, i * 0.{n}1, i % 2 = 0, now()"))
        .collect();
    for _ in 0..rows / STEP {
        // Columns are named by their place.
        cluster.psql(&format!(
            "INSERT INTO t OVERRIDING SYSTEM VALUE SELECT nextval('t_id_seq'), i % 100, i, 'name ' || i, i * 1.25{values} \
             FROM generate_series(1, {STEP}) i"
        ));
    }
}

fn fill_one_by_one(cluster: &Cluster, rows: u64) {
    cluster.psql(&format!(
        "SET synchronous_commit = off; DO $$ BEGIN FOR i IN 1..{rows} LOOP \
         INSERT INTO t (bucket, a, name, amount) VALUES (i % 100, i, 'name ' || i, i * 1.25); COMMIT; \
         END LOOP; END $$"
    ));
}

/// Follows the CPU time of a slot's walsender, which ends with the connection.
struct Walsender {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Duration>>,
    thread: thread::JoinHandle<()>,
}

impl Walsender {
    fn watch(cluster: &Cluster, slot: &str) -> Walsender {
        let (stop, seen) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(Mutex::new(Duration::ZERO)),
        );
        let sql = format!("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}'");
        let pid = loop {
            if let Ok(pid) = cluster.psql(&sql).parse::<u32>() {
                break pid;
            }
        };
        let thread = thread::spawn({
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(cpu) = cpu(pid) else { return };
                    *seen.lock().unwrap() = cpu;
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        Walsender { stop, seen, thread }
    }

    fn cpu(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.seen.lock().unwrap().as_secs_f64()
    }
}

fn pg_recvlogical(cluster: &Cluster, slot: &str, end: &str, rows: u64) -> Cost {
    let began = Instant::now();
    // bash prints what its children used.
    let script = format!(
        "pg_recvlogical -d '{}' --slot {slot} --start --endpos {end} --no-loop \
         -o proto_version=1 -o publication_names=p -f /dev/null 2>/dev/null; times",
        cluster.tcp_url("postgres")
    );
    let child = cluster
        .command("bash")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let walsender = Walsender::watch(cluster, slot);
    let output = child.wait_with_output().unwrap();
    let took = began.elapsed();
    let printed = String::from_utf8(output.stdout).unwrap();
    let children = printed
        .lines()
        .nth(1)
        .expect("bash prints its own and its children's times");
    Cost {
        rows_per_second: rows as f64 / took.as_secs_f64(),
        walsender: walsender.cpu(),
        consumer: children.split_whitespace().map(minutes_and_seconds).sum(),
    }
}

/// `0m1.234s` in seconds.
fn minutes_and_seconds(text: &str) -> f64 {
    let (minutes, seconds) = text.trim_end_matches('s').split_once('m').unwrap();
    minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
}

fn walcast(cluster: &Cluster, slot: &str, rows: u64, predicate: Option<&str>) -> Cost {
    let runtime = support::runtime();
    let server = Server::start(cluster, slot, "p");
    // It listens, and is about to start the stream; what came before happens once in a process's life.
    let began = Instant::now();
    let walsender = Walsender::watch(cluster, slot);
    let received = runtime.block_on(async {
        let mut client = support::connect(server.listen).await;
        let mut query = serde_json::json!({"type": "subscribe", "id": "s", "table": "t", "from": "earliest"});
        if let Some(predicate) = predicate {
            query["where"] = predicate.into();
            query["undecided"] = "withhold".into();
        }
        support::subscribe(&mut client, query).await;
        let mut received = 0;
        loop {
            // Millions of rows are counted in their text: to read them would cost more than to send them.
            let text = support::next_text(&mut client).await;
            received += changes(&text);
            if text.contains(r#""name":"last""#) {
                return received;
            }
        }
    });
    let took = began.elapsed();
    let consumer = cpu(server.pid()).unwrap().as_secs_f64();
    assert_eq!(received, if predicate.is_some() { rows / 100 } else { rows } + 1);
    Cost {
        rows_per_second: rows as f64 / took.as_secs_f64(),
        walsender: walsender.cpu(),
        consumer,
    }
}
