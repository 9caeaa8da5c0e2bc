//! Two hundred clients that follow a table, alone and beside two thousand that do all the harm that they can.
//! `WALCAST_ABUSE=Snapshots,Replays` has harm of these kinds alone done, by sixty clients each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use walcast::cluster::Cluster;
use walcast::postgres::{ConnInfo, Connection, Purpose};

use crate::latency::summary;
use crate::support::{self, Server, cpu, percentile, resident};

#[path = "../../tests/it/support/abuse/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use all of it")]
mod hostile;
#[path = "../../tests/it/support/issuer.rs"]
#[allow(dead_code, unreachable_pub, reason = "only keys and tokens are needed")]
mod issuer;

use hostile::{Attackers, Kind, Regulars, Target};
use issuer::{SigningKey, claims, set};

const REGULARS: usize = 200;
const ATTACKERS: usize = 2_000;
const RATE: u64 = 100;
/// Changes before any attack, between its beginning and the measurement, and during that.
const ALONE: u64 = 20 * RATE;
const BEGINNING: u64 = 20 * RATE;
const BEGINNING_ENDS: u64 = ALONE + BEGINNING;
const BESIDE: u64 = 40 * RATE;

const TABLES: &str = "
    CREATE TABLE t (id bigint PRIMARY KEY, note text);
    CREATE TABLE big (id bigint PRIMARY KEY, note text);
    ALTER TABLE t REPLICA IDENTITY FULL;
    ALTER TABLE big REPLICA IDENTITY FULL;
    INSERT INTO big SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 20000) g;
    CREATE PUBLICATION p FOR TABLE t, big";

pub(crate) fn run() {
    let cluster = support::cluster();
    cluster.psql(TABLES);
    let keys = tempfile::tempdir().unwrap();
    let key = Arc::new(SigningKey::new("one"));
    let config = keys.path().join("walcast.toml");
    std::fs::write(keys.path().join("keys.json"), set(&[&key]).to_string()).unwrap();
    std::fs::write(
        &config,
        "[auth]\nalgorithms = [\"EdDSA\"]\njwks_file = \"keys.json\"\n[[policy]]\ntables = [\"public.*\"]\n",
    )
    .unwrap();
    let flags = [
        "--config",
        config.to_str().unwrap(),
        "--max-connections-per-address",
        "256",
    ];
    let server = Server::start_with(&cluster, "s", "p", &flags);
    let of_each = ATTACKERS.div_ceil(Kind::ALL.len());
    // Made beforehand: to sign them takes longer than to verify them.
    let subjects = Kind::ALL
        .into_iter()
        .flat_map(|kind| (0..of_each).map(move |number| kind.subject(number)))
        .chain((0..REGULARS).map(|number| format!("regular-{number}")));
    let tokens: BTreeMap<String, String> = subjects
        .map(|subject| {
            let token = key.token(&claims(&subject, "customer"));
            (subject, token)
        })
        .collect();
    let tokens = Arc::new(tokens);
    let token = move |subject: &str| tokens[subject].clone();
    // It answers 503 until the stream has begun.
    thread::sleep(Duration::from_secs(2));
    println!("\n{REGULARS} clients at {RATE} changes/s, alone and beside {ATTACKERS} that do harm");
    let regulars = Regulars::follow(server.listen, REGULARS, token.clone(), BEGINNING_ENDS + BESIDE);
    while regulars.live() < REGULARS {
        assert!(!regulars.is_over(), "a client failed");
        thread::sleep(Duration::from_millis(10));
    }
    let mut writer = Writer::new(&cluster);
    let used = cpu(server.pid()).unwrap();
    writer.write(ALONE);
    let alone_cpu = cpu(server.pid()).unwrap() - used;
    let memory = resident(server.pid());
    let target = Target {
        server: server.listen,
        token: Box::new(token),
        patience: Duration::from_secs(60),
        rest: Duration::from_secs(2),
    };
    let kinds = std::env::var("WALCAST_ABUSE").unwrap_or_default();
    let is_wanted = |kind: Kind| {
        let name = format!("{kind:?}");
        kinds.is_empty() || kinds.split(',').any(|wanted| wanted == name)
    };
    let attackers = Attackers::start(target, |kind| if is_wanted(kind) { of_each } else { 0 });
    writer.write(BEGINNING);
    let (before, used, began) = (attackers.ends(), cpu(server.pid()).unwrap(), Instant::now());
    let attacked_cpu = || cpu(server.pid()).unwrap() - used;
    let mut resident_at = vec![resident(server.pid())];
    for _ in 0..4 {
        writer.write(BESIDE / 4);
        resident_at.push(resident(server.pid()));
    }
    let (took, beside_cpu) = (began.elapsed(), attacked_cpu());
    let ends = attackers.ends();
    let mut latencies = [Vec::new(), Vec::new()];
    let mut by_time = BTreeMap::<u64, Vec<f64>>::new();
    let committed = writer.committed;
    for receipts in regulars.receipts() {
        for (number, (received, committed)) in (0..).zip(receipts.iter().zip(&committed)) {
            let run = match number {
                0..ALONE => 0,
                ALONE..BEGINNING_ENDS => continue,
                _ => 1,
            };
            let took = received.saturating_duration_since(*committed).as_secs_f64() * 1e6;
            latencies[run].push(took);
            if run == 1 {
                let seconds = (number - BEGINNING_ENDS) / RATE;
                by_time.entry(seconds / 5 * 5).or_default().push(took);
            }
        }
    }
    attackers.stop();
    let [mut alone, mut beside] = latencies;
    println!("  alone:       {}", summary(&mut alone));
    println!("  beside them: {}", summary(&mut beside));
    for (seconds, latencies) in &mut by_time {
        println!("    from {seconds:>2} s:  {}", summary(latencies));
    }
    println!(
        "  p50 {:.1} times, p99 {:.1} times (the goal: 2)",
        percentile(&mut beside, 0.5) / percentile(&mut alone, 0.5),
        percentile(&mut beside, 0.99) / percentile(&mut alone, 0.99),
    );
    let seconds = took.as_secs_f64();
    println!(
        "  CPU of the server: {:.2} alone, {:.2} beside them",
        alone_cpu.as_secs_f64() / (ALONE / RATE) as f64,
        beside_cpu.as_secs_f64() / seconds,
    );
    let megabytes: Vec<u64> = resident_at.iter().map(|bytes| bytes / 1_000_000).collect();
    println!(
        "  memory: {} MB resident alone, {megabytes:?} MB at {} s intervals beside them, {} MB at most",
        memory / 1_000_000,
        BESIDE / 4 / RATE,
        support::peak_resident(server.pid()) / 1_000_000
    );
    let mut ended = 0;
    for ((kind, end), times) in &ends {
        let times = times - before.get(&(*kind, *end)).unwrap_or(&0);
        ended += times;
        let expected = if kind.ends().contains(end) {
            ""
        } else {
            "  <- not expected"
        };
        println!(
            "    {:<18} {:<14} {:>6.1}/s{expected}",
            format!("{kind:?}"),
            format!("{end:?}"),
            times as f64 / seconds
        );
    }
    println!(
        "  {:.0} connections of theirs ended in a second",
        ended as f64 / seconds
    );
}

/// Writes rows at a rate.
struct Writer {
    connection: Connection,
    committed: Vec<Instant>,
}

impl Writer {
    fn new(cluster: &Cluster) -> Writer {
        let info = ConnInfo::parse(&cluster.url("postgres")).unwrap();
        Writer {
            connection: Connection::connect(&info, Purpose::Application).unwrap(),
            committed: Vec::new(),
        }
    }

    fn write(&mut self, changes: u64) {
        let pause = Duration::from_secs(1) / RATE as u32;
        let mut next = Instant::now();
        for _ in 0..changes {
            let id = self.committed.len() + 1;
            let insert = format!("INSERT INTO t VALUES ({id}, repeat(md5('{id}'), 5))");
            self.connection.query(&insert).unwrap();
            self.committed.push(Instant::now());
            next += pause;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}
