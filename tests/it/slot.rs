//! The slot: watched, given up before it fills the server's disk, and never made anew in silence.

use serde_json::{Value, json};
use walcast::postgres::Connection;

use crate::support::{
    Client, Database, End, Setup, Walcast, eventually, eventually_equal, left_out, refused,
};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE TABLE noise (note text);
                      CREATE PUBLICATION pub FOR TABLE t";
/// About four megabytes of WAL.
const NOISE: &str = "INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 3500)";

/// A client that follows `t`.
fn follow(walcast: &Walcast) -> Client {
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    client
}

/// A place to resume from.
struct Place {
    position: Value,
    epoch: Value,
}

/// Inserts a row, and returns the place after it with its epoch.
fn insert(database: &Database, walcast: &Walcast, id: u32) -> Place {
    let mut client = follow(walcast);
    database.sql(&format!("INSERT INTO t VALUES ({id})"));
    let tx = client.expect("tx");
    Place {
        position: tx["position"].clone(),
        epoch: client.hello["epoch"].clone(),
    }
}

/// A client of the old history hears that it is over, and the new one works.
fn assert_new_epoch(database: &Database, walcast: &Walcast, old: &Place) {
    let mut client = walcast.connect();
    assert_ne!(client.hello["epoch"], old.epoch);
    let resume = json!({"id": "old", "table": "t", "from": old.position, "epoch": old.epoch});
    assert_eq!(client.subscribe_refused(resume)["code"], "resume_invalid");
    eventually_equal("it is counted", 1.0, || walcast.metric("epoch_changes_total"));
    insert(database, walcast, 1000);
}

fn has_slot(database: &Database, setup: &Setup) -> bool {
    let slot = &setup.slot;
    database.value(&format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    )) == "1"
}

/// A transaction that has written and stays open, with the process that it is in.
fn idle_transaction(database: &Database) -> (Connection, String) {
    let mut connection = database.connect();
    connection
        .query("BEGIN; INSERT INTO noise VALUES ('open')")
        .unwrap();
    let pid = connection.query("SELECT pg_backend_pid()").unwrap()[0]
        .get(0)
        .unwrap()
        .to_owned();
    (connection, pid)
}

#[test]
fn a_slot_that_is_gone_ends_serve_in_words_unless_it_may_be_made_anew() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    let mut client = follow(&walcast);
    database.drop_slot(&setup.slot);
    assert!(matches!(client.end(), End::Closed(1001, _)));
    assert_eq!(walcast.ended().code(), Some(1));
    // Again at the start: --create-slot makes a first one, not another.
    let words = refused(setup.command());
    for word in [&*setup.slot, "is gone", "--recreate-slot", "new epoch"] {
        assert!(words.contains(word), "{word}: {words}");
    }
    assert!(!has_slot(&database, &setup));
    let setup = setup.switch("--recreate-slot");
    assert_new_epoch(&database, &setup.start(), &place);
}

#[test]
fn a_slot_that_was_made_anew_by_hand_begins_a_new_epoch() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    assert!(walcast.stop().success());
    let slot = &setup.slot;
    database.drop_slot(slot);
    database.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    assert_new_epoch(&database, &setup.start(), &place);
}

#[test]
fn a_slot_that_the_server_gave_up_is_told_from_a_lost_connection() {
    let database = Database::on_its_own_server(
        SCHEMA,
        &[
            "max_slot_wal_keep_size = 1MB",
            "max_wal_size = 32MB",
            "min_wal_size = 32MB",
        ],
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    // Somebody else's transaction keeps the slot from moving: walcast confirms all that it gets, and loses it.
    let (mut open, pid) = idle_transaction(&database);
    eventually("the slot is lost", || {
        database.sql(NOISE);
        database.sql("SELECT pg_switch_wal()");
        database.sql("CHECKPOINT");
        let lost = "SELECT count(*) FROM pg_replication_slots WHERE wal_status = 'lost'";
        (database.value(lost) == "1").then_some(())
    });
    let log = walcast.ended_with_log();
    assert!(
        log.contains("is lost") && log.contains("--recreate-slot"),
        "{log}"
    );
    let words = refused(setup.command());
    for word in [
        "has given up the slot",
        "--recreate-slot",
        "pg_drop_replication_slot",
    ] {
        assert!(words.contains(word), "{word}: {words}");
    }
    // It can be made anew once the transaction has ended; until then it is said what it waits for.
    let setup = setup.switch("--recreate-slot");
    let walcast = setup.start_unready();
    let reason = eventually("it says what it waits for", || {
        walcast
            .ready()
            .err()
            .filter(|reason| reason.contains("cannot be created yet"))
    });
    for word in [&*pid, "idle in transaction", "pg_terminate_backend"] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    open.query("ROLLBACK").unwrap();
    eventually("it is ready", || walcast.ready().ok());
    assert_new_epoch(&database, &walcast, &place);
}

#[test]
fn a_first_slot_that_waits_for_a_prepared_transaction_says_so() {
    let database = Database::on_its_own_server(SCHEMA, &["max_prepared_transactions = 5"]);
    database.sql("BEGIN; INSERT INTO noise VALUES ('x'); PREPARE TRANSACTION 'forgotten'");
    let setup = Setup::new(&database);
    let walcast = setup.start_unready();
    let reason = eventually("it says what it waits for", || {
        walcast
            .ready()
            .err()
            .filter(|reason| reason.contains("cannot be created yet"))
    });
    assert!(reason.contains("ROLLBACK PREPARED 'forgotten'"), "{reason}");
    database.sql("ROLLBACK PREPARED 'forgotten'");
    eventually("it is ready", || walcast.ready().ok());
    insert(&database, &walcast, 1);
}

#[test]
fn an_endangered_slot_is_warned_of_by_name_and_given_up_beyond_the_bound() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database).flag("--max-slot-lag", "64MiB");
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    let (mut open, pid) = idle_transaction(&database);
    let until = |share: f64| {
        eventually("the server keeps so much", || {
            if walcast.metric("slot_budget_used_ratio") > share {
                return Some(());
            }
            let kept =
                "SELECT pg_current_wal_lsn() - min(restart_lsn) > 34 * 1024 * 1024 FROM pg_replication_slots";
            if share > 0.6 || database.value(kept) == "f" {
                database.sql(NOISE);
            }
            None
        });
    };
    until(0.5);
    let warning = eventually("it is said", || {
        let log = walcast.log();
        log.lines()
            .find(|line| line.contains("--max-slot-lag"))
            .map(str::to_owned)
    });
    for word in [&*pid, "idle in transaction", "hold it back", &*setup.slot] {
        assert!(warning.contains(word), "{word}: {warning}");
    }
    assert!(walcast.metric("slot_retained_wal_bytes") > 32.0 * 1024.0 * 1024.0);
    assert!(walcast.metric("slot_lag_bytes") < walcast.metric("slot_retained_wal_bytes"));
    assert_eq!(walcast.metric("slot_safe_wal_bytes"), -1.0);
    assert!(walcast.ready().is_ok());
    while has_slot(&database, &setup) {
        database.sql(NOISE);
    }
    let log = walcast.ended_with_log();
    assert!(
        log.contains("more than --max-slot-lag") && log.contains("--recreate-slot"),
        "{log}"
    );
    open.query("ROLLBACK").unwrap();
    let setup = setup.switch("--recreate-slot");
    assert_new_epoch(&database, &setup.start(), &place);
}

#[test]
fn with_recreate_slot_a_slot_beyond_the_bound_is_made_anew_and_clients_hear_it() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database)
        .flag("--max-slot-lag", "16MiB")
        .switch("--recreate-slot");
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    let mut client = follow(&walcast);
    let (mut open, _) = idle_transaction(&database);
    eventually_equal("the slot is given up", 1.0, || {
        if has_slot(&database, &setup) {
            database.sql(NOISE);
        }
        walcast.metric("slots_given_up_total")
    });
    open.query("ROLLBACK").unwrap();
    assert_eq!(client.error()["code"], "resume_invalid");
    eventually("it is ready", || walcast.ready().ok());
    assert_new_epoch(&database, &walcast, &place);
}

#[test]
fn while_only_another_database_is_written_the_server_can_remove_its_wal() {
    // Without a timeout the server speaks only when it has looked at all there is.
    let database = Database::on_its_own_server(SCHEMA, &["wal_sender_timeout = 0"]);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let other = database.another();
    other.sql("CREATE TABLE noise (note text)");
    let place = |column: &str| {
        let slot = &setup.slot;
        let sql = format!("SELECT {column} - '0/0' FROM pg_replication_slots WHERE slot_name = '{slot}'");
        database.value(&sql).parse::<u64>().unwrap()
    };
    for _ in 0..3 {
        other.sql(NOISE);
        let written = database.written().0;
        // What runs is noted by the server itself every 15 s; a checkpoint does it at once.
        other.sql("CHECKPOINT");
        eventually("all of it is confirmed", || {
            (place("confirmed_flush_lsn") >= written).then_some(())
        });
        eventually("none of it is kept", || {
            (place("restart_lsn") >= written).then_some(())
        });
    }
    assert_eq!(walcast.metric("transactions_total"), 0.0);
}

#[test]
fn a_row_that_the_server_cannot_decode_is_said_with_the_way_out() {
    // The byte has no meaning in this encoding: stored it can be, but not sent as UTF-8.
    let database = Database::encoded("WIN1252", SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    let mut client = follow(&walcast);
    database.sql("INSERT INTO t VALUES (2, chr(129))");
    let reason = eventually("it says so", || {
        walcast
            .ready()
            .err()
            .filter(|reason| reason.contains("same change"))
    });
    for word in [
        "WIN1252",
        "associated LSN",
        "pg_replication_slot_advance",
        &*setup.slot,
    ] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    eventually_equal("replication_stuck", 1.0, || walcast.metric("replication_stuck"));
    walcast.assert_running();
    database.advance(&setup.slot);
    assert_eq!(client.error()["code"], "resume_invalid");
    eventually("it goes on", || walcast.ready().ok());
    assert_new_epoch(&database, &walcast, &place);
    eventually_equal("replication_stuck", 0.0, || walcast.metric("replication_stuck"));
}

#[test]
fn a_publication_that_is_gone_is_counted_and_harmless_while_nothing_is_written() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = follow(&walcast);
    database.sql("DROP PUBLICATION pub");
    eventually_equal("it is noticed", 1.0, || walcast.metric("publications_missing"));
    eventually("it is said", || {
        walcast
            .log()
            .contains("the publication pub is gone")
            .then_some(())
    });
    database.sql("CREATE PUBLICATION pub FOR TABLE t");
    eventually_equal("it is back", 0.0, || walcast.metric("publications_missing"));
    // Its tables were gone for a moment, which ends what is subscribed to them.
    assert_eq!(client.error()["code"], "schema_changed");
    insert(&database, &walcast, 1);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}

#[test]
fn slots_are_made_to_fail_over_where_the_server_can() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    insert(&database, &walcast, 1);
    if database.connect().server_version_num() < 170_000 {
        return left_out("slots that fail over", "they came with version 17");
    }
    let slot = &setup.slot;
    let failover = format!("SELECT failover FROM pg_replication_slots WHERE slot_name = '{slot}'");
    assert_eq!(database.value(&failover), "t");
}

/// Drops the database under walcast, with its slot.
fn drop_database(database: &Database) {
    let server = database
        .url()
        .replace(&format!("/{}", database.name), "/postgres");
    let mut connection = crate::support::connect(&server).unwrap();
    let name = &database.name;
    eventually("the database can be dropped", || {
        connection
            .query(&format!(
                "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
                 WHERE database = '{name}' AND active_pid IS NOT NULL"
            ))
            .unwrap();
        connection
            .query(&format!("DROP DATABASE {name} WITH (FORCE)"))
            .ok()
    });
}

fn make_database(database: &Database, options: &str) {
    let server = database
        .url()
        .replace(&format!("/{}", database.name), "/postgres");
    let mut connection = crate::support::connect(&server).unwrap();
    connection
        .query(&format!("CREATE DATABASE {} {options}", database.name))
        .unwrap();
}

#[test]
fn a_database_that_was_made_anew_ends_serve_in_words_unless_the_slot_may_be() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    let mut client = follow(&walcast);
    drop_database(&database);
    make_database(&database, "");
    assert!(matches!(client.end(), End::Closed(1001, _)));
    let log = walcast.ended_with_log();
    for word in ["was dropped and created again", "--recreate-slot", "new epoch"] {
        assert!(log.contains(word), "{word}: {log}");
    }
    database.sql(SCHEMA);
    let words = refused(setup.command());
    for word in ["was dropped and created again", "--recreate-slot"] {
        assert!(words.contains(word), "{word}: {words}");
    }
    // Also where somebody has made the slot in it, whatever its position is.
    database.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
        setup.slot
    ));
    let setup = setup.switch("--recreate-slot");
    let walcast = setup.start();
    assert_new_epoch(&database, &walcast, &place);
    // And that history goes on as any.
    let place = insert(&database, &walcast, 2);
    assert!(walcast.stop().success());
    let walcast = setup.start();
    database.sql("INSERT INTO t VALUES (3)");
    let mut client = walcast.connect();
    client.subscribe(json!({"id": "t", "table": "t", "from": place.position, "epoch": place.epoch}));
    assert_eq!(client.change()["row"]["id"], 3);
}

#[test]
fn with_recreate_slot_a_database_that_is_made_anew_is_gone_on_with_in_a_new_epoch() {
    let schema = "CREATE EXTENSION citext; CREATE TABLE t (id int PRIMARY KEY, note citext);
                  ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t";
    let database = Database::new(schema);
    let setup = Setup::new(&database).switch("--recreate-slot");
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t", "where": "note = 'É'"}));
    database.sql("INSERT INTO t VALUES (1, 'é')");
    let tx = client.expect("tx");
    let epoch = client.hello["epoch"].clone();
    drop_database(&database);
    let reason = eventually("it says so", || {
        walcast
            .ready()
            .err()
            .filter(|reason| reason.contains("is not there"))
    });
    assert!(!reason.contains("pg_replication_slot_advance"), "{reason}");
    // Another one, which folds letters in another way.
    make_database(&database, "TEMPLATE template0 LOCALE 'C'");
    eventually("it waits for what it is to read", || {
        walcast
            .ready()
            .err()
            .filter(|reason| reason.contains("no publication pub yet"))
    });
    database.sql(schema);
    database.sql("INSERT INTO t VALUES (7, 'é')");
    eventually("it goes on", || walcast.ready().ok());
    // Those who were there hear of it, and so do those who come back.
    let end = client.error();
    assert!(
        ["resume_invalid", "schema_changed"].contains(&end["code"].as_str().unwrap()),
        "{end}"
    );
    let mut client = walcast.connect();
    assert_ne!(client.hello["epoch"], epoch);
    let back = json!({"id": "t", "table": "t", "from": tx["position"], "epoch": epoch});
    assert_eq!(client.subscribe_refused(back)["code"], "resume_invalid");
    client.subscribe(json!({"id": "s", "table": "t", "where": "note = 'É' OR note = 'E'", "snapshot": true}));
    client.expect("live");
    database.sql("INSERT INTO t VALUES (8, 'é'), (9, 'e')");
    assert_eq!(client.change()["row"], json!({"id": 9, "note": "e"}));
    eventually_equal("it is counted", 1.0, || walcast.metric("epoch_changes_total"));
    assert!(walcast.stop().success());
    let walcast = setup.start();
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}
