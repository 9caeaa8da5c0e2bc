//! The same promises while walcast, Postgres and what lies between them fail.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use walcast::cluster::Shutdown;
use walcast::lsn::Lsn;

use crate::support::{
    Audience, Database, Direction, Follower, Pace, Proxy, SCHEMA, Setup, Workload, eventually,
    eventually_equal, queries, views, views_from,
};

const PACE: Pace = Pace {
    workers: 3,
    rest: Duration::from_millis(30),
    big: 7,
};

/// An audience of several connections, some of which are cut off besides.
fn audience(setup: &Setup, seed: u64) -> Audience {
    let mut audience = Audience::new(setup.address());
    for some in queries().chunks(4) {
        audience.join_with(views(some));
    }
    let cut = Follower::new(setup.address(), views_from(&queries(), &json!("earliest")));
    audience.join(cut.cut_once_in(60, 10, seed));
    audience.everybody_has_joined();
    audience
}

#[test]
fn nothing_is_lost_or_repeated_when_walcast_is_killed() {
    let database = Database::new(SCHEMA);
    // Small segments: some are sealed in between.
    let setup = Setup::new(&database).flag("--segment-bytes", "1MiB");
    let mut walcast = setup.start();
    let mut rng = Rng::new();
    let audience = audience(&setup, rng.u64(..));
    let workload = Workload::start(&database, PACE);
    for _ in 0..8 {
        workload.goes_on(rng.u64(5..40));
        walcast.kill();
        audience.assert_following();
        walcast = setup.start();
    }
    workload.finish();
    let followers = audience.judge(&database);
    assert!(followers.iter().all(|follower| follower.connects > 1));
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
    assert!(walcast.stop().success());
}

#[test]
fn nothing_is_lost_or_repeated_when_postgres_crashes_or_restarts() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let audience = audience(&setup, 1);
    let workload = Workload::start(&database, PACE);
    for round in 0..6 {
        workload.goes_on(30);
        if round % 3 == 2 {
            let asked = Instant::now();
            database.server().stop(Shutdown::Fast).unwrap();
            let took = asked.elapsed();
            assert!(took < Duration::from_secs(10), "a fast shutdown took {took:?}");
        } else {
            database.server().stop(Shutdown::Immediate).unwrap();
        }
        if round == 0 {
            let reason = eventually("walcast says that Postgres is away", || walcast.ready().err());
            assert!(reason.contains("replication"), "{reason}");
        }
        database.server().resume().unwrap();
        eventually("walcast is back", || walcast.ready().ok());
    }
    workload.finish();
    audience.judge(&database);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
    assert!(walcast.metric("replication_connects_total") >= 7.0);
}

#[test]
fn nothing_is_lost_or_repeated_when_a_process_of_the_server_is_killed() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let audience = audience(&setup, 3);
    let workload = Workload::start(&database, PACE);
    for _ in 0..3 {
        workload.goes_on(25);
        let connects = walcast.metric("replication_connects_total");
        // The server ends all the others, and recovers.
        let pid = database.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
        kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        walcast.reads_again(connects);
    }
    workload.finish();
    audience.judge(&database);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}

#[test]
fn nothing_is_lost_or_repeated_when_walcast_stands_still_for_longer_than_the_server_waits() {
    let database = Database::on_its_own_server(SCHEMA, &["wal_sender_timeout = 1s"]);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let audience = audience(&setup, 4);
    let workload = Workload::start(&database, PACE);
    let is_read = format!(
        "SELECT active FROM pg_replication_slots WHERE slot_name = '{}'",
        setup.slot
    );
    for _ in 0..3 {
        workload.goes_on(20);
        let connects = walcast.metric("replication_connects_total");
        walcast.pause(true);
        eventually_equal("the server gives it up", "f".to_owned(), || {
            database.value(&is_read)
        });
        workload.goes_on(20);
        walcast.pause(false);
        walcast.reads_again(connects);
    }
    workload.finish();
    audience.judge(&database);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}

#[test]
fn nothing_is_lost_or_repeated_when_the_way_to_postgres_is_cut_or_stalls() {
    let database = Database::new(SCHEMA);
    let proxy = Arc::new(Proxy::to_postgres(&database));
    let setup = Setup::new(&database).by(proxy.url(&database));
    let walcast = setup.start();
    let audience = audience(&setup, 2);
    let workload = Workload::start(&database, PACE);
    for round in 0..8 {
        workload.goes_on(25);
        let connects = walcast.metric("replication_connects_total");
        if round % 2 == 0 {
            proxy.stall(true);
            workload.goes_on(25);
            proxy.stall(false);
        }
        if round % 4 < 3 {
            proxy.cut();
            eventually("walcast has reconnected", || {
                (walcast.metric("replication_connects_total") > connects).then_some(())
            });
        }
    }
    workload.finish();
    audience.judge(&database);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}

/// Bytes of an insert: their meaning, how far before the text of its second column they lie, and the bits to flip. The
/// first column has three digits. The chapters "Message Formats", "Streaming Replication Protocol" and "Logical
/// Replication Message Formats" have the layout.
const GARBLED: [(&str, usize, u8); 11] = [
    ("the type of the message", 51, 0x01),
    ("its length, by a gigabyte", 50, 0x40),
    ("its length, by one", 47, 0x01),
    ("the type of what is copied", 46, 0x01),
    ("the type of the change", 21, 0x20),
    ("the relation", 20, 0x01),
    ("the mark of the new row", 16, 0x01),
    ("how many columns there are", 14, 0x02),
    ("the kind of the first value", 13, 0x01),
    ("the length of the second value, by much", 3, 0x40),
    ("the length of the second value, by one", 1, 0x01),
];

#[test]
fn a_stream_that_is_garbled_on_its_way_is_read_anew_and_nothing_of_it_is_seen() {
    let database =
        Database::new("CREATE TABLE t (id int PRIMARY KEY, note text); CREATE PUBLICATION pub FOR TABLE t");
    let garbled = Arc::new(AtomicUsize::new(0));
    let proxy = Proxy::listening_in(&database, {
        let garbled = Arc::clone(&garbled);
        Box::new(move |_, direction, bytes| {
            let number = garbled.load(Ordering::SeqCst);
            let Some((_, before, flipped)) = GARBLED.get(number).filter(|_| direction == Direction::Down)
            else {
                return;
            };
            // Once for each: what is sent again passes.
            let marker = format!("marker {number} ");
            let found = bytes
                .windows(marker.len())
                .position(|window| window == marker.as_bytes());
            if let Some(at) = found {
                bytes[at - before] ^= flipped;
                garbled.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let setup = Setup::new(&database).by(proxy.url(&database));
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "all", "table": "t"}));
    for (number, (what, _, _)) in GARBLED.iter().enumerate() {
        let connects = walcast.metric("replication_connects_total");
        let id = 100 + 2 * number;
        database.sql(&format!(
            "INSERT INTO t VALUES ({id}, 'whole'), ({}, 'marker {number} {what}')",
            id + 1
        ));
        let rows = client.changes().into_iter().map(|change| change["row"].clone());
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [
                json!({"id": id, "note": "whole"}),
                json!({"id": id + 1, "note": format!("marker {number} {what}")})
            ]
        );
        assert_eq!(
            garbled.load(Ordering::SeqCst),
            number + 1,
            "{what} was not garbled"
        );
        assert!(walcast.metric("replication_connects_total") > connects, "{what}");
    }
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
    assert!(walcast.stop().success());
}

/// Its name, how its frame begins, which message is in it, and the bytes of which a bit is flipped.
type Moved = (&'static str, &'static [u8], Option<u8>, &'static [usize]);

/// A frame of the stream by its length and first byte, and what is flipped there, counted from its start: bit 40 of a
/// position. (A commit's message begins at 30; its record's start is at 32, its end at 40; the frame's end is at 14.)
const MOVED: [Moved; 7] = [
    ("a keepalive's position", b"d\0\0\0\x16k", None, &[8]),
    ("a transaction's end", b"d\0\0\0\x37w", Some(b'C'), &[42]),
    (
        "the end of a transaction and of its frame",
        b"d\0\0\0\x37w",
        Some(b'C'),
        &[42, 16],
    ),
    (
        "the end of a transaction's frame",
        b"d\0\0\0\x37w",
        Some(b'C'),
        &[16],
    ),
    ("a commit's start", b"d\0\0\0\x37w", Some(b'C'), &[34]),
    (
        "a commit's start and end and its frame's",
        b"d\0\0\0\x37w",
        Some(b'C'),
        &[34, 42, 16],
    ),
    ("a begin's position", b"d\0\0\0\x32w", Some(b'B'), &[33]),
];

#[test]
fn a_position_that_is_garbled_on_its_way_is_neither_believed_nor_confirmed() {
    for settings in [
        &[][..],
        &["synchronous_standby_names = '*'", "synchronous_commit = local"],
    ] {
        let database = Database::on_its_own_server(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t",
            settings,
        );
        let moved = Arc::new(AtomicUsize::new(0));
        let armed = Arc::new(AtomicUsize::new(usize::MAX));
        let proxy = Proxy::listening_in(&database, {
            let moved = Arc::clone(&moved);
            let armed = Arc::clone(&armed);
            Box::new(move |_, direction, bytes| {
                let case = MOVED.get(armed.load(Ordering::SeqCst));
                let Some((_, frame, message, places)) = case.filter(|_| direction == Direction::Down) else {
                    return;
                };
                let size = 1 + usize::from(frame[4]);
                let found = bytes.windows(size).position(|found| {
                    found.starts_with(frame) && message.is_none_or(|m| found.get(30) == Some(&m))
                });
                if let Some(at) = found {
                    // Once: what is sent again passes.
                    armed.store(usize::MAX, Ordering::SeqCst);
                    places.iter().for_each(|place| bytes[at + place] ^= 1);
                    moved.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        let setup = Setup::new(&database).by(proxy.url(&database));
        let walcast = setup.start();
        let mut client = walcast.connect();
        client.subscribe_live(json!({"id": "t", "table": "t"}));
        for (number, (what, ..)) in MOVED.iter().enumerate() {
            let connects = walcast.metric("replication_connects_total");
            armed.store(number, Ordering::SeqCst);
            // After the row the server has nothing to send, and says how far it has come.
            database.sql(&format!("INSERT INTO t VALUES ({number})"));
            database.sql("SELECT pg_logical_emit_message(false, 'nobody', 'asks for this')");
            assert_eq!(client.change()["row"]["id"], number, "{what}");
            eventually(&format!("garbled is {what}"), || {
                (moved.load(Ordering::SeqCst) == number + 1).then_some(())
            });
            eventually(&format!("it is read anew after {what}"), || {
                (walcast.metric("replication_connects_total") > connects).then_some(())
            });
            eventually(&format!("all of it is confirmed after {what}"), || {
                let confirmed = database.confirmed(&setup.slot);
                let written = database.written();
                assert!(confirmed <= written, "{what}: {confirmed} of {written}");
                (confirmed == written && walcast.ready().is_ok()).then_some(())
            });
        }
        assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
        assert!(walcast.stop().success());
    }
}

#[test]
fn a_slot_that_was_confirmed_beyond_what_there_is_is_said_and_made_anew_on_request() {
    use walcast::postgres::{Purpose, SlotName, StartReplication, StatusUpdate};
    let database = Database::new("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t");
    let setup = Setup::new(&database);
    assert!(setup.start().stop().success());
    // A session that says how far it has written is believed.
    let info = walcast::postgres::ConnInfo::parse(database.url()).unwrap();
    let session = walcast::postgres::Connection::connect(&info, Purpose::Replication).unwrap();
    let publications = [walcast::postgres::Publication::new("pub").unwrap()];
    let slot = SlotName::new(&*setup.slot).unwrap();
    let stream = StartReplication::pgoutput(slot, Lsn::ZERO, &publications);
    let stream = session.start_replication(&stream).unwrap();
    let beyond = Lsn(1 << 40);
    let update = StatusUpdate {
        written: beyond,
        flushed: beyond,
        applied: beyond,
        reply_requested: false,
    };
    stream.sender.send(&update).unwrap();
    eventually("it is confirmed", || {
        (database.confirmed(&setup.slot) == beyond).then_some(())
    });
    drop(stream);
    let walcast = setup.start_unready();
    let reason = eventually("it is said", || {
        walcast
            .ready()
            .err()
            .filter(|reason| reason.contains("the server has written only up to"))
    });
    assert!(reason.contains("--recreate-slot"), "{reason}");
    drop(walcast);
    let setup = setup.switch("--recreate-slot");
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1)");
    assert_eq!(client.change()["row"]["id"], 1);
}

#[test]
fn a_walsender_that_is_terminated_is_replaced_and_the_stream_goes_on() {
    let database = Database::new("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t");
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    for round in 1..4 {
        database.sql(&format!("INSERT INTO t VALUES ({round})"));
        assert_eq!(client.change()["row"]["id"], round);
        let slot = &setup.slot;
        database.sql(&format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}'"
        ));
        eventually_equal("reconnected", f64::from(round + 1), || {
            walcast.metric("replication_connects_total")
        });
    }
    // While it was away, clients stayed.
    database.sql("INSERT INTO t VALUES (9)");
    assert_eq!(client.change()["row"]["id"], 9);
}

/// The libc's behaviour for the journal's syncs, except that they wait as long as there is a file.
const STALLED_SYNCS: &str = r#"
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <stdlib.h>
    #include <unistd.h>
    int fdatasync(int file) {
        while (access(getenv("STALLED"), F_OK) == 0) usleep(1000);
        return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(file);
    }
"#;

#[test]
fn a_fast_shutdown_does_not_wait_for_a_disk_that_does_not_sync() {
    let directory = tempfile::tempdir().unwrap();
    let [source, library, stalled] = ["sync.c", "sync.so", "stalled"].map(|name| directory.path().join(name));
    std::fs::write(&source, STALLED_SYNCS).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl");
    assert!(compiler.status().unwrap().success());
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database).after(&format!(
        "export LD_PRELOAD={} STALLED={}",
        library.display(),
        stalled.display()
    ));
    let walcast = setup.start();
    let audience = audience(&setup, 5);
    let workload = Workload::start(&database, PACE);
    workload.goes_on(25);
    std::fs::write(&stalled, "").unwrap();
    // A sync that has begun goes on, and what it had is confirmed.
    let stalled_at: Lsn = database
        .value("SELECT pg_current_wal_insert_lsn()")
        .parse()
        .unwrap();
    workload.goes_on(25);
    shuts_down(&database);
    database.server().resume().unwrap();
    // What is not on disk is not confirmed, whatever the server asks.
    let confirmed = database.confirmed(&setup.slot);
    assert!(confirmed <= stalled_at, "{confirmed} is beyond {stalled_at}");
    std::fs::remove_file(&stalled).unwrap();
    eventually("walcast is back", || walcast.ready().ok());
    workload.goes_on(25);
    workload.finish();
    audience.judge(&database);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
    assert!(walcast.stop().success());
}

/// Without walcast's consent it would wait for ever.
fn shuts_down(database: &Database) {
    let asked = Instant::now();
    database.server().stop(Shutdown::Fast).unwrap();
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(30), "it took {took:?}");
}

#[test]
fn a_fast_shutdown_does_not_wait_for_a_disk_that_is_full() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database).on_a_small_disk();
    let walcast = setup.start();
    let audience = audience(&setup, 5);
    let workload = Workload::start(&database, PACE);
    walcast.fills_its_disk();
    shuts_down(&database);
    database.server().resume().unwrap();
    walcast.make_space();
    eventually("walcast is back", || walcast.ready().ok());
    workload.goes_on(25);
    workload.finish();
    audience.judge(&database);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}

#[test]
fn a_fast_shutdown_does_not_wait_for_walcast_even_when_a_client_reads_nothing() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE PUBLICATION pub FOR TABLE t";
    let database = Database::on_its_own_server(schema, &[]);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql("INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 50000) g");
    let asked = Instant::now();
    database.server().stop(Shutdown::Fast).unwrap();
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    eventually("walcast says that Postgres is away", || walcast.ready().err());
    database.server().resume().unwrap();
    eventually("walcast is back", || walcast.ready().ok());
    // Whatever had come by then, nothing is missing and nothing came twice.
    let mut next = 1;
    while next <= 50_000 {
        for change in client.expect("tx")["changes"].as_array().unwrap() {
            assert_eq!(change["row"]["id"], next);
            next += 1;
        }
    }
    database.sql("DELETE FROM t WHERE id = 1");
    assert_eq!(client.change()["op"], "delete");
}
