//! Two hundred clients that follow a table: alone, beside two thousand that do all the harm that they can to another server,
//! which yields to everybody, and beside two thousand that do it to the same server. The first comparison tells how much
//! of the time is the machine's, the second how much is ours.
//! `WALCAST_ABUSE=Snapshots,Replays` has harm of these kinds alone done, by sixty clients each;
//! `WALCAST_ABUSE_SECONDS=300` has it done to the same server for so long.

use std::collections::BTreeMap;
use std::ops::Range;
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
/// Changes before any attack, between the beginning of one and its measurement, and during that on another server.
const ALONE: u64 = 20 * RATE;
const BEGINNING: u64 = 20 * RATE;
const ELSEWHERE: u64 = 40 * RATE;
/// The length of the attack on the same server, in seconds, unless another is asked for.
const BESIDE_SECONDS: u64 = 40;
/// The parts of it that are reported by themselves.
const PARTS: u64 = 8;

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
    let seconds =
        std::env::var("WALCAST_ABUSE_SECONDS").map_or(BESIDE_SECONDS, |given| given.parse().unwrap());
    let part = seconds * RATE / PARTS;
    let changes = ALONE + BEGINNING + ELSEWHERE + BEGINNING + PARTS * part;
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
    let regulars = Regulars::follow(server.listen, REGULARS, token.clone(), changes);
    while regulars.live() < REGULARS {
        assert!(!regulars.is_over(), "a client failed");
        thread::sleep(Duration::from_millis(10));
    }
    let mut writer = Writer::new(&cluster);
    let used = cpu(server.pid()).unwrap();
    let mut phases = vec![("alone", writer.write(ALONE))];
    let alone_cpu = cpu(server.pid()).unwrap() - used;
    let memory = resident(server.pid());
    let kinds = std::env::var("WALCAST_ABUSE").unwrap_or_default();
    let is_wanted = |kind: Kind| {
        let name = format!("{kind:?}");
        kinds.is_empty() || kinds.split(',').any(|wanted| wanted == name)
    };
    let attack = |attacked: &Server| {
        let target = Target {
            server: attacked.listen,
            token: Box::new(token.clone()),
            patience: Duration::from_secs(60),
            rest: Duration::from_secs(2),
        };
        Attackers::start(target, |kind| if is_wanted(kind) { of_each } else { 0 })
    };
    let other = Server::start_with(&cluster, "other", "p", &flags);
    other.yields();
    thread::sleep(Duration::from_secs(2));
    let attackers = attack(&other);
    writer.write(BEGINNING);
    phases.push(("beside an attack on another server", writer.write(ELSEWHERE)));
    attackers.stop();
    drop(other);
    let attackers = attack(&server);
    writer.write(BEGINNING);
    let (before, used, began) = (attackers.ends(), cpu(server.pid()).unwrap(), Instant::now());
    let attacked_cpu = || cpu(server.pid()).unwrap() - used;
    let mut resident_at = vec![resident(server.pid())];
    let first = writer.committed.len();
    for _ in 0..PARTS {
        writer.write(part);
        resident_at.push(resident(server.pid()));
    }
    let beside = first..writer.committed.len();
    let (took, beside_cpu) = (began.elapsed(), attacked_cpu());
    phases.push(("beside an attack on their own", beside.clone()));
    let ends = attackers.ends();
    let receipts = regulars.receipts();
    attackers.stop();
    let latencies = |changes: Range<usize>| {
        let committed = &writer.committed[changes.clone()];
        let of_client = |receipts: &Vec<Instant>| {
            let took = |(received, committed): (&Instant, &Instant)| {
                received.saturating_duration_since(*committed).as_secs_f64() * 1e6
            };
            receipts[changes.clone()]
                .iter()
                .zip(committed)
                .map(took)
                .collect::<Vec<f64>>()
        };
        receipts.iter().flat_map(of_client).collect::<Vec<f64>>()
    };
    let mut summaries = Vec::new();
    for (name, changes) in phases {
        let mut latencies = latencies(changes);
        println!("  {name}: {}", summary(&mut latencies));
        summaries.push((percentile(&mut latencies, 0.5), percentile(&mut latencies, 0.99)));
    }
    for (number, first) in beside.clone().step_by(part as usize).enumerate() {
        let mut latencies = latencies(first..first + part as usize);
        let seconds = number as u64 * part / RATE;
        println!("    from {seconds:>3} s: {}", summary(&mut latencies));
    }
    let [alone, elsewhere, beside] = summaries[..] else {
        unreachable!("there are three phases");
    };
    println!(
        "  p50 {:.1} times, p99 {:.1} times that alone (the goal: 2); {:.1} and {:.1} times that beside an attack on another",
        beside.0 / alone.0,
        beside.1 / alone.1,
        beside.0 / elsewhere.0,
        beside.1 / elsewhere.1,
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
        part / RATE,
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

    /// Writes so many, and returns their numbers.
    fn write(&mut self, changes: u64) -> Range<usize> {
        let first = self.committed.len();
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
        first..self.committed.len()
    }
}
