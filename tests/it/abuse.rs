//! Hundreds of clients that do all the harm that they can, beside some that do none and must not notice.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::support::abuse::{Attackers, End, Kind, Regulars, Target};
use crate::support::guarded::Guarded;
use crate::support::{Database, eventually};

const SCHEMA: &str = "
    CREATE TABLE t (id bigint PRIMARY KEY, note text);
    CREATE TABLE big (id bigint PRIMARY KEY, note text);
    ALTER TABLE t REPLICA IDENTITY FULL;
    ALTER TABLE big REPLICA IDENTITY FULL;
    INSERT INTO big SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 2000) g;
    CREATE PUBLICATION pub FOR TABLE t, big;
";
/// Everybody sees everything, but has to say who it is.
const EVERYTHING: &str = "[[policy]]\ntables = [\"public.*\"]";
const REGULARS: usize = 50;
const MOST_OF_A_KIND: usize = 8;
const CHANGES: u64 = 400;
const PAUSE: Duration = Duration::from_millis(10);

/// `--max-total-predicate-bytes`, of which docs/operations.md, *Memory*, says what it is at most in fact.
const PREDICATE_BYTES: u64 = 8 << 20;
const IN_FACT: u64 = 2;
/// The memory of a connection, whatever it does: the same section.
const BYTES_OF_A_CONNECTION: u64 = 128 << 10;
/// Room for a process that starts, allocates and warms up.
const MUCH: u64 = 64 << 20;

/// The limits that this many attackers meet, whoever of them is first to have what all may have together.
const MET: [&str; 13] = [
    "address_connections",
    "auth_timeout",
    "bad_requests",
    "control_frames",
    "handshake_timeout",
    "message_bytes",
    "message_fragments",
    "message_timeout",
    "messages",
    "pong_timeout",
    "subscribes",
    "total_predicate_bytes",
    "unauthenticated_connections",
];

/// The number of attackers of a kind. A few of those with costly queries are enough: an unoptimised program takes ten times
/// as long for them.
fn of_kind(kind: Kind) -> usize {
    match kind {
        Kind::CostlyPredicates | Kind::LargePredicates | Kind::Snapshots | Kind::Replays => 2,
        _ => MOST_OF_A_KIND,
    }
}

fn write(database: &Database) {
    let mut connection = database.connect();
    for id in 1..=CHANGES {
        let insert = format!("INSERT INTO t VALUES ({id}, repeat(md5('{id}'), 5))");
        connection.query(&insert).unwrap();
        thread::sleep(PAUSE);
    }
}

#[test]
fn clients_that_do_harm_of_every_kind_end_or_stay_in_bounds_and_the_others_miss_nothing() {
    let guarded = Guarded::new(SCHEMA);
    let walcast = guarded
        .setup("", EVERYTHING)
        .flag("--log", "walcast=info")
        .flag("--max-connections-per-address", "55")
        .flag("--max-unauthenticated-connections", "5")
        .flag("--max-total-predicate-bytes", "8MiB")
        .flag("--max-subscriptions", "100")
        .flag("--max-snapshots-per-subject", "1")
        .flag("--handshake-timeout", "5s")
        .flag("--auth-timeout", "2s")
        .flag("--message-timeout", "2s")
        .flag("--stall-timeout", "4s")
        .flag("--ping-interval", "2s")
        .flag("--pong-timeout", "6s")
        .start();
    let subjects = Kind::ALL
        .into_iter()
        .flat_map(|kind| (0..MOST_OF_A_KIND).map(move |number| kind.subject(number)))
        .chain((0..REGULARS).map(|number| format!("regular-{number}")));
    let tokens: HashMap<String, String> = subjects
        .map(|subject| (subject.clone(), guarded.token(&subject, "customer")))
        .collect();
    let tokens = Arc::new(tokens);
    let token = {
        let tokens = Arc::clone(&tokens);
        move |subject: &str| tokens[subject].clone()
    };
    let regulars = Regulars::follow(walcast.listen(), REGULARS, token.clone(), CHANGES);
    eventually("all are live", || {
        (regulars.live() == REGULARS || regulars.is_over()).then_some(())
    });
    let before = walcast.peak_resident_bytes();
    let target = Target {
        server: walcast.listen(),
        token: Box::new(token),
        patience: Duration::from_secs(5),
        rest: Duration::from_secs(1),
    };
    let attackers = Attackers::start(target, of_kind);
    write(&guarded.database);
    // A client to which anything comes twice or out of order fails.
    let receipts = regulars.receipts();
    assert_eq!(receipts.len(), REGULARS);
    assert!(receipts.iter().all(|receipts| receipts.len() as u64 == CHANGES));
    let ends = |kind: &Kind| !kind.ends().is_empty();
    let mut missing: BTreeSet<Kind> = Kind::ALL.into_iter().filter(ends).collect();
    eventually("each kind comes to an end", || {
        for (kind, _) in attackers.ends().into_keys() {
            missing.remove(&kind);
        }
        missing.is_empty().then_some(())
    });
    for limit in MET {
        let reached = || walcast.metric(&format!("limits_reached_total{{limit=\"{limit}\"}}"));
        eventually(limit, || (reached() > 0.0).then_some(()));
    }
    let ended = attackers.stop();
    for ((kind, end), times) in &ended {
        // One that gets no processor for long does not come to the end of its handshake or of a message, or answers no ping.
        let is_starved = matches!(end, End::Answered(408) | End::Closed(4001 | 4002));
        // Whoever has the most memory gives way to those with little.
        let gives_way = *end == End::Closed(4502) && kind.ends().is_empty();
        assert!(
            kind.ends().contains(end) || is_starved || gives_way,
            "{kind:?} {end:?}, {times} times: {ended:?}"
        );
    }
    // Each of a crowd takes ten.
    let most = (REGULARS + (Kind::ALL.len() + 9) * MOST_OF_A_KIND) as u64;
    let bound = before + MUCH + IN_FACT * PREDICATE_BYTES + most * BYTES_OF_A_CONNECTION;
    let peak = walcast.peak_resident_bytes();
    assert!(peak < bound, "{peak} bytes, more than {bound}; {before} before");
    assert_eq!(walcast.ready(), Ok(()));
    walcast.assert_running();
    let log = walcast.log();
    assert!(!log.contains("panicked"), "{log}");
}
