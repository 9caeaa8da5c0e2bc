//! The operator's view: health, metrics, a stop in good order, a full disk, a database that is not ready.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use walcast::cluster::Shutdown;
use walcast::lsn::Lsn;

use crate::support::{
    At, Audience, Database, End, PROGRAM, Pace, SCHEMA, Setup, Workload, eventually, eventually_equal,
    left_out, queries, refused, views,
};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE PUBLICATION pub FOR TABLE t";

#[test]
fn a_stop_closes_clients_in_good_order_and_confirms_everything() {
    let database = Database::new(TABLE);
    let setup = Setup::new(&database).flag("--reconnect-spread", "7s");
    let walcast = setup.start();
    let mut idle = walcast.connect();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 1000) g");
    let position = loop {
        let tx = client.expect("tx");
        if tx.get("more").is_none() {
            break At::read(&tx["position"]);
        }
    };
    walcast.terminate();
    for client in [&mut client, &mut idle] {
        let End::Closed(code, reason) = client.end() else {
            panic!("lost")
        };
        assert_eq!((code, &*reason), (1001, "spread=7"));
    }
    let began = Instant::now();
    assert_eq!(walcast.ended().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(At::after(database.confirmed(&setup.slot)) >= position);
    // Nothing is sent twice after that, and nobody is missing anything.
    let walcast = setup.start();
    assert_eq!(walcast.metric("transactions_deduplicated_total"), 0.0);
    assert!(At::read(&walcast.connect().hello["position"]) >= position);
}

#[test]
fn a_server_that_is_told_to_read_its_settings_again_goes_on() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    walcast.hang_up();
    walcast.logs("SIGHUP: there is no configuration file");
    database.sql("INSERT INTO t VALUES (1)");
    client.expect("tx");
    walcast.assert_running();
}

#[test]
fn a_client_that_takes_no_close_frame_does_not_hold_up_a_stop() {
    let database = Database::new(TABLE);
    let setup = Setup::new(&database).flag("--drain-timeout", "1s");
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql("INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g");
    eventually("it fell behind", || {
        (walcast.metric("fell_behind_total") > 0.0).then_some(())
    });
    let began = Instant::now();
    assert_eq!(walcast.stop().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn readiness_says_why_not_while_postgres_is_away() {
    let database = Database::on_its_own_server(TABLE, &[]);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    assert_eq!(walcast.get("/health/ready"), (200, "ready\n".into()));
    database.server().stop(Shutdown::Fast).unwrap();
    let reason = eventually("it says so", || walcast.ready().err());
    assert!(
        reason.starts_with("not ready: replication interrupted"),
        "{reason}"
    );
    assert_eq!(walcast.get("/health/live").0, 200);
    eventually_equal("replication_up", 0.0, || walcast.metric("replication_up"));
    // What there is is still served.
    walcast.connect().subscribe_live(json!({"id": "t", "table": "t"}));
    database.server().resume().unwrap();
    eventually("it is ready again", || walcast.ready().ok());
    eventually_equal("replication_up", 1.0, || walcast.metric("replication_up"));
}

#[test]
fn a_change_that_the_server_cannot_pass_is_said_once_with_its_cure() {
    let database = Database::new(TABLE);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let epoch = walcast.connect().hello["epoch"].clone();
    database.sql("DROP PUBLICATION pub");
    database.sql("INSERT INTO t VALUES (1)");
    let connects = walcast.metric("replication_connects_total");
    let reason = eventually("it says so", || walcast.ready().err());
    for word in ["publication", "does not exist", "pg_replication_slot_advance"] {
        assert!(reason.contains(word), "{reason}");
    }
    // Mending the publication is not enough: the change was made without it.
    database.sql("CREATE PUBLICATION pub FOR TABLE t");
    eventually("it tries again", || {
        let ready = walcast.ready();
        assert!(ready.is_err(), "it is not ready only because a stream begins");
        (walcast.metric("replication_connects_total") >= connects + 4.0).then_some(())
    });
    eventually_equal("replication_up", 0.0, || walcast.metric("replication_up"));
    let log = walcast.log();
    let said = log
        .lines()
        .filter(|line| line.contains("replication interrupted"));
    let said: Vec<_> = said.filter(|line| line.contains("does not exist")).collect();
    assert_eq!(said.len(), 1, "{said:#?}");
    eventually_equal("replication_stuck", 1.0, || walcast.metric("replication_stuck"));
    // The words are right about the way out.
    database.advance(&setup.slot);
    eventually("it is ready again", || walcast.ready().ok());
    let mut client = walcast.connect();
    assert_ne!(client.hello["epoch"], epoch);
    eventually_equal("replication_stuck", 0.0, || walcast.metric("replication_stuck"));
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql("INSERT INTO t VALUES (2)");
    assert_eq!(client.change()["row"]["id"], 2);
}

#[test]
fn metrics_count_what_happened() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE TABLE u (id int PRIMARY KEY);
         CREATE PUBLICATION pub FOR TABLE t, u",
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    client.subscribe_live(json!({"id": "one", "table": "t", "where": "id = 1"}));
    database.sql("INSERT INTO t SELECT g, 'x' FROM generate_series(1, 12) g");
    database.sql("BEGIN; UPDATE t SET note = 'y' WHERE id < 5; DELETE FROM t WHERE id = 5; INSERT INTO u VALUES (1); COMMIT");
    database.sql("TRUNCATE u");
    let written = database.written();
    client.expect("tx");
    client.expect("tx");
    client.subscribe_refused(json!({"id": "x", "table": "nothing"}));
    eventually("all of it is confirmed", || {
        (walcast.metric("confirmed_lsn") >= written.0 as f64).then_some(())
    });
    let changes = |table: &str, op: &str| {
        walcast.metric(&format!(
            r#"changes_total{{op="{op}",schema="public",table="{table}"}}"#
        ))
    };
    assert_eq!(
        [
            changes("t", "insert"),
            changes("t", "update"),
            changes("t", "delete")
        ],
        [12.0, 4.0, 1.0]
    );
    assert_eq!([changes("u", "insert"), changes("u", "truncate")], [1.0, 1.0]);
    for (name, value) in [
        ("transactions_total", 3.0),
        ("connections", 1.0),
        ("subscriptions", 2.0),
        ("queries", 2.0),
        ("catching_up", 0.0),
        ("fell_behind_total", 0.0),
        ("replication_up", 1.0),
        ("replication_connects_total", 1.0),
        ("epoch_changes_total", 0.0),
        (r#"errors_total{code="unknown_table"}"#, 1.0),
        ("commit_to_send_duration_seconds_count", 2.0),
    ] {
        // A client may have a frame before it is counted.
        eventually_equal(name, value, || walcast.metric(name));
    }
    let lsns =
        ["received_lsn", "journaled_lsn", "confirmed_lsn"].map(|name| Lsn(walcast.metric(name) as u64));
    assert!(lsns.iter().all(|&lsn| lsn >= written), "{lsns:?}");
    for name in [
        "journal_size_bytes",
        "journal_fsync_duration_seconds_count",
        "sent_bytes_total",
        "sent_messages_total",
        "replication_received_bytes_total",
    ] {
        assert!(walcast.metric(name) > 0.0, "{name}");
    }
    let (_, text) = walcast.get("/metrics");
    for name in ["slot_lag_bytes", "slot_retained_wal_bytes"] {
        assert!(text.contains(&format!("\nwalcast_{name} ")), "{name}");
    }
    drop(client);
    eventually_equal("they are gone", [0.0; 3], || {
        ["connections", "subscriptions", "queries"].map(|name| walcast.metric(name))
    });
}

#[test]
fn positions_beyond_half_of_all_are_shown_compared_and_confirmed_as_any() {
    let database = Database::on_its_own_server(TABLE, &[]);
    {
        let mut server = database.server();
        server.stop(Shutdown::Fast).unwrap();
        let data = server.data();
        let reset = server
            .command("pg_resetwal")
            .args(["-l", "00000001F00000000000000A", "-D"])
            .arg(&data)
            .output();
        server.resume().unwrap();
        if reset.is_err() {
            return left_out("large positions", "this server is without pg_resetwal");
        }
    }
    let setup = Setup::new(&database);
    let mut walcast = setup.start();
    for id in 1..=2 {
        let mut client = walcast.connect();
        client.subscribe_live(json!({"id": "t", "table": "t"}));
        database.sql(&format!("INSERT INTO t VALUES ({id})"));
        let position = At::read(&client.expect("tx")["position"]);
        assert!(position.end >= 0xF000_0000_0000_0000, "{position}");
        eventually("it is confirmed", || {
            (At::after(database.confirmed(&setup.slot)) >= position).then_some(())
        });
        for name in ["received_lsn", "journaled_lsn", "confirmed_lsn"] {
            eventually(name, || (walcast.metric(name) >= 1.7e19).then_some(()));
        }
        assert!(walcast.metric("slot_lag_bytes") < 1e9);
        assert!(walcast.metric("slot_retained_wal_bytes") < 1e9);
        assert!(walcast.stop().success());
        walcast = setup.start();
    }
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}

#[test]
fn check_beside_a_serve_that_works_finds_nothing_that_would_keep_it_from_working() {
    let database = Database::new(TABLE);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let output = Command::new(PROGRAM)
        .args(["check", "--database-url", database.url(), "--slot", &setup.slot])
        .args(["--publication", "pub"])
        .output()
        .unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{found}");
    for words in [
        "is read by another walcast",
        "waits as a standby",
        "ok: walcast serve would work",
    ] {
        assert!(found.contains(words), "{words}: {found}");
    }
    assert!(walcast.ready().is_ok());
}

#[test]
fn on_a_full_disk_it_waits_and_nothing_is_lost() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database).on_a_small_disk();
    let walcast = setup.start();
    let mut audience = Audience::new(setup.address());
    for some in queries().chunks(6) {
        audience.join_with(views(some));
    }
    audience.everybody_has_joined();
    let pace = Pace {
        workers: 2,
        rest: Duration::from_millis(20),
        big: 15,
    };
    let workload = Workload::start(&database, pace);
    walcast.fills_its_disk();
    let confirmed = database.confirmed(&setup.slot);
    workload.goes_on(50);
    // It is alive, tells Postgres nothing it does not have, and still serves what it has.
    walcast.assert_running();
    assert!(database.written().0 > confirmed.0);
    assert!(walcast.connect().hello["position"].is_string());
    walcast.make_space();
    eventually("there is space again", || walcast.ready().ok());
    workload.goes_on(50);
    workload.finish();
    audience.judge(&database);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
    assert_eq!(walcast.metric("replication_connects_total"), 1.0);
}

#[test]
fn check_names_what_serve_would_fail_by_in_the_same_words() {
    let database = Database::on_its_own_server("CREATE TABLE t (id int)", &["wal_level = replica"]);
    let setup = Setup::new(&database);
    let mut check = Command::new(PROGRAM);
    check
        .args(["check", "--database-url", database.url(), "--slot", "s"])
        .args(["--publication", "pub"]);
    let found = refused(check);
    for word in ["wal_level", "publication", "pub"] {
        assert!(found.contains(word), "{found}");
    }
    let serve = refused(setup.command());
    let first = found.lines().next().unwrap().strip_prefix("error: ").unwrap();
    assert!(serve.contains(first), "{serve}\n\n{found}");
    assert!(!setup.data().exists(), "nothing is begun that cannot go on");
}

#[test]
fn check_is_content_with_what_serve_works_on() {
    let database = Database::new(TABLE);
    let setup = Setup::new(&database);
    let mut check = Command::new(PROGRAM);
    check
        .args(["check", "--database-url", database.url(), "--slot", &setup.slot])
        .args(["--publication", "pub", "--create-slot"]);
    let output = check.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    setup.start();
}

#[test]
fn what_cannot_work_is_refused_in_words() {
    let database = Database::new(TABLE);
    let setup = || Setup::new(&database);
    for (setup, words) in [
        (setup().flag("--pong-timeout", "1s"), "--ping-interval"),
        (
            setup().by("postgresql://x@/x?sslmode=maybe".into()),
            "one of disable, allow, prefer",
        ),
        (setup().flag("--snapshot-url", "mysql://x"), "--snapshot-url"),
        (setup().flag("--log", "walcast=loud"), "--log"),
        (
            setup().flag("--messages", "m").flag("--plugin", "wal2json"),
            "--messages needs",
        ),
    ] {
        let output = setup.command().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
    for flag in [
        "--max-connections",
        "--max-subscriptions",
        "--handshake-timeout",
        "--stall-timeout",
        "--progress-interval",
        "--segment-bytes",
        "--send-buffer-bytes",
        "--max-frame-bytes",
        "--max-row-bytes",
    ] {
        let output = Setup::new(&database).flag(flag, "0").command().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(flag) && said.contains("write a "), "{said}");
    }
}

#[test]
fn check_says_what_to_do_about_a_database_that_cannot_be_reached() {
    let database = Database::new(TABLE);
    let elsewhere = database.url().replace(&format!("/{}", database.name), "/nowhere");
    let nobody = database.url().replace("postgres@", "nobody@");
    for (url, code, words) in [
        ("postgresql://postgres@127.0.0.1:1/x", 3, "nothing listens there"),
        (
            "postgresql://postgres@no.such.host.invalid/x",
            3,
            "the host's name",
        ),
        (&elsewhere, 3, "name another database than nowhere"),
        (&nobody, 3, "make the role nobody by sql/setup.sql"),
        (
            "postgresql://x@/x?sslmode=maybe",
            2,
            "one of disable, allow, prefer",
        ),
    ] {
        let mut check = Command::new(PROGRAM);
        check.args([
            "check",
            "--slot",
            "s",
            "--publication",
            "pub",
            "--database-url",
            url,
        ]);
        let output = check.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
    }
}
