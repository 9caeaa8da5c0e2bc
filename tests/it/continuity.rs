//! Where the history breaks, clients hear it: never silence, and never a position of one history in another.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use walcast::cluster::Shutdown;

use crate::support::{At, Client, Database, End, Setup, Walcast, eventually, eventually_equal, refused};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t";

/// A place to resume from.
struct Place {
    position: Value,
    epoch: Value,
}

/// Inserts a row, and returns the position and the epoch with which a client would resume after it.
fn insert(database: &Database, walcast: &Walcast, id: u32) -> Place {
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql(&format!("INSERT INTO t VALUES ({id})"));
    let tx = client.expect("tx");
    assert_eq!(tx["changes"][0]["row"]["id"], id);
    // So that others that subscribe from now on start after it, too.
    client.comes_up_to(tx["position"].as_str().unwrap().parse().unwrap());
    Place {
        position: tx["position"].clone(),
        epoch: client.hello["epoch"].clone(),
    }
}

fn resume(client: &mut Client, place: &Place, expected: &str) {
    let subscribe = json!({"id": "r", "table": "t", "from": place.position, "epoch": place.epoch});
    match expected {
        "subscribed" => drop(client.subscribe(subscribe)),
        code => assert_eq!(client.subscribe_refused(subscribe)["code"], code),
    }
}

/// A new history is there, clients of the old one are told, and the new one works.
fn assert_new_history(database: &Database, walcast: &Walcast, old: &Place) {
    let mut client = walcast.connect();
    assert_ne!(client.hello["epoch"], old.epoch);
    resume(&mut client, old, "resume_invalid");
    eventually_equal("it is counted", 1.0, || walcast.metric("epoch_changes_total"));
    let new = insert(database, walcast, 1000);
    database.sql("INSERT INTO t VALUES (1001)");
    resume(&mut client, &new, "subscribed");
    assert_eq!(client.change()["row"]["id"], 1001);
}

#[test]
fn a_restart_continues_the_history() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    assert!(walcast.stop().success());
    database.sql("INSERT INTO t VALUES (2)");
    let walcast = setup.start();
    let mut client = walcast.connect();
    resume(&mut client, &place, "subscribed");
    assert_eq!(client.change()["row"]["id"], 2);
}

#[test]
fn rows_of_before_a_restart_fold_their_letters_as_those_of_after_it() {
    let database = Database::new(
        "CREATE EXTENSION citext; CREATE TABLE t (id int PRIMARY KEY, who citext, what text);
         ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t",
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    // The catalogs are asked how the table is now: each version of it is described before the next comes.
    let run = |sql: &str| {
        database.sql(sql);
        // Other tests write to the same server meanwhile.
        let written = database.written();
        eventually("the journal has it", || {
            (database.confirmed(&setup.slot) >= written).then_some(())
        });
    };
    run("INSERT INTO t VALUES (1, 'ÉVA', 'x'), (2, 'eva', 'x'), (3, NULL, 'ÇA va'), (4, 'x', 'Ca va')");
    run("ALTER TABLE t ALTER what TYPE text COLLATE \"C.utf8\"");
    run("INSERT INTO t VALUES (5, 'x', 'ça')");
    run("ALTER TABLE t ALTER what TYPE text COLLATE \"default\"");
    run("INSERT INTO t VALUES (6, 'ÉvA', NULL)");
    assert!(walcast.stop().success());
    let walcast = setup.start();
    let mut client = walcast.connect();
    let ids = |changes: &[Value]| -> Vec<u64> {
        let id = |change: &Value| change["row"]["id"].as_u64().unwrap();
        changes.iter().map(id).collect()
    };
    client.subscribe(json!({"id": "w", "table": "t", "where": "who = 'éva'", "from": "earliest"}));
    assert_eq!(ids(&client.changes()), [1]);
    assert_eq!(ids(&client.changes()), [6]);
    client.unsubscribe("w");
    client.subscribe(json!({"id": "i", "table": "t", "where": "what ILIKE 'Ça%'", "from": "earliest"}));
    assert_eq!(ids(&client.changes()), [3]);
    // The rows of "C.utf8" fold otherwise than the column that the client was told of.
    let end = client.error();
    assert_eq!(end["code"], "schema_changed");
    let message = end["message"].as_str().unwrap();
    assert!(
        message.starts_with("the collation of the column \"what\" of public.t is another one"),
        "{end}"
    );
    let snapshot =
        json!({"id": "n", "table": "t", "where": "what ILIKE 'ça%' OR who = 'éva'", "snapshot": true});
    client.subscribe(snapshot);
    let rows = client.expect("snapshot")["rows"].clone();
    let rows: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_u64().unwrap())
        .collect();
    assert_eq!(rows, [1, 3, 5, 6], "the server folds as we do");
    client.expect("live");
    database.sql("INSERT INTO t VALUES (7, 'x', 'ÇA ira')");
    assert_eq!(ids(&client.changes()), [7]);
}

#[test]
fn a_slot_that_was_dropped_while_walcast_was_down_begins_a_new_epoch() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database).switch("--recreate-slot");
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    assert!(walcast.stop().success());
    database.drop_slot(&setup.slot);
    // What is written now is in no slot.
    database.sql("INSERT INTO t VALUES (2)");
    assert_new_history(&database, &setup.start(), &place);
}

#[test]
fn a_slot_that_was_dropped_while_nothing_happened_begins_a_new_epoch_too() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database).switch("--recreate-slot");
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    assert!(walcast.stop().success());
    database.drop_slot(&setup.slot);
    assert_new_history(&database, &setup.start(), &place);
}

#[test]
fn a_slot_that_was_dropped_under_walcast_ends_every_subscription_in_words() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database).switch("--recreate-slot");
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    client.subscribe_live(json!({"id": "b", "table": "t", "where": "id > 5"}));
    let mut idle = walcast.connect();
    database.drop_slot(&setup.slot);
    for _ in 0..2 {
        assert_eq!(client.error()["code"], "resume_invalid");
    }
    let End::Closed(code, _) = client.end() else {
        panic!("lost")
    };
    assert!(code == 1001 || (4000..4500).contains(&code), "{code}");
    eventually("walcast is back", || walcast.ready().ok());
    assert_new_history(&database, &walcast, &place);
    // One that has nothing to lose still knows the old history alone.
    idle.send(&json!({"type": "subscribe", "id": "late", "table": "t"}));
    assert_eq!(idle.error()["code"], "resume_invalid");
    assert!(matches!(idle.end(), End::Closed(1001, _)));
}

#[test]
fn a_slot_that_somebody_else_advanced_is_a_gap() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    assert!(walcast.stop().success());
    database.sql("INSERT INTO t VALUES (2)");
    database.sql(&format!(
        "SELECT pg_replication_slot_advance('{}', pg_current_wal_lsn())",
        setup.slot
    ));
    assert_new_history(&database, &setup.start(), &place);
}

#[test]
fn an_old_copy_of_the_data_directory_is_a_gap() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    insert(&database, &walcast, 1);
    assert!(walcast.stop().success());
    let copy = setup.data().with_extension("copy");
    let copied = |from: &Path, to: &Path| {
        assert!(
            Command::new("cp")
                .arg("-r")
                .args([from, to])
                .status()
                .unwrap()
                .success()
        );
    };
    copied(&setup.data(), &copy);
    let walcast = setup.start();
    let place = insert(&database, &walcast, 2);
    assert!(walcast.stop().success());
    fs::remove_dir_all(setup.data()).unwrap();
    copied(&copy, &setup.data());
    // What the copy lacks was confirmed, and the server has forgotten it.
    assert_new_history(&database, &setup.start(), &place);
}

#[test]
fn a_damaged_file_is_told_to_all_who_read_it_and_nothing_of_it_is_served() {
    const CLIENTS: usize = 40;
    let schema = "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE PUBLICATION pub FOR TABLE t";
    let database = Database::new(schema);
    let setup = Setup::new(&database).flag("--segment-bytes", "1MiB");
    let walcast = setup.start();
    for transaction in 0..40 {
        let first = transaction * 10_000;
        database.sql(&format!(
            "INSERT INTO t SELECT {first} + g, repeat('x', 1000) FROM generate_series(1, 1000) g"
        ));
    }
    let written = database.written();
    eventually("all of it is journaled", || {
        (At::read(&walcast.connect().hello["position"]) >= At::after(written)).then_some(())
    });
    // What is older than what it has in memory, under its hands.
    let segments = fs::read_dir(setup.data().join("segments")).unwrap();
    let mut segments: Vec<_> = segments.map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    let mut bytes = fs::read(&segments[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segments[1], bytes).unwrap();
    // More than there are threads to read for them.
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| walcast.connect()).collect();
    let earliest = clients[0].hello["earliest"].clone();
    // Of the first and of the last transaction.
    let subscribe = |from: &Value| {
        let condition = "id <= 20 OR id > 390980";
        json!({"type": "subscribe", "id": "t", "table": "t", "where": condition, "from": from})
    };
    for client in &mut clients {
        client.send(&subscribe(&earliest));
    }
    // What comes before the damage comes, and nothing of what is damaged or behind it.
    let mut expired = Vec::new();
    for client in &mut clients {
        let mut at = At::read(&earliest);
        let error = loop {
            let message = client.next();
            match message["type"].as_str().unwrap() {
                "subscribed" => {}
                "tx" => at = At::read(&message["position"]),
                "error" => break message,
                _ => panic!("{message}"),
            }
        };
        assert_eq!(
            (&error["id"], &error["code"]),
            (&json!("t"), &json!("resume_expired"))
        );
        let again = At::read(&error["earliest"]);
        assert!(at < again, "{at} came, and what is left begins at {again}");
        expired.push(error["earliest"].clone());
    }
    assert!(
        expired.iter().all(|earliest| *earliest == expired[0]),
        "{expired:?}"
    );
    let count = |client: &mut Client| {
        client.send(&subscribe(&expired[0]));
        let mut rows = 0;
        loop {
            let message = client.next();
            match message["type"].as_str().unwrap() {
                "tx" => rows += message["changes"].as_array().unwrap().len(),
                "live" => return rows,
                _ => {}
            }
        }
    };
    for client in &mut clients {
        assert_eq!(count(client), 20);
    }
}

#[test]
fn a_server_restored_from_a_backup_begins_a_new_epoch() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    insert(&database, &walcast, 1);
    let (data, backup) = {
        let mut server = database.server();
        server.stop(Shutdown::Fast).unwrap();
        let data = server.data();
        let backup = data.with_file_name("backup");
        copy(&data, &backup);
        server.resume().unwrap();
        (data, backup)
    };
    eventually("walcast is back", || walcast.ready().ok());
    let place = insert(&database, &walcast, 2);
    database.sql("INSERT INTO t SELECT generate_series(10, 900)");
    let written = At::after(database.written());
    eventually("walcast has it all", || {
        (At::read(&walcast.connect().hello["position"]) >= written).then_some(())
    });
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    {
        let mut server = database.server();
        server.stop(Shutdown::Immediate).unwrap();
        fs::rename(&data, data.with_file_name("lost")).unwrap();
        copy(&backup, &data);
        server.resume().unwrap();
    }
    assert_eq!(client.error()["code"], "resume_invalid");
    client.end();
    eventually("walcast is back", || walcast.ready().ok());
    // Nothing of the old history's positions is said in the new one, not even by progress.
    let mut client = walcast.connect();
    let subscribed = client.subscribe_live(json!({"id": "a", "table": "t"}));
    assert!(
        At::read(&subscribed["position"]) < At::read(&place.position),
        "{subscribed}"
    );
    database.sql("INSERT INTO t VALUES (3)");
    let until = std::time::Instant::now() + crate::support::DEADLINE;
    loop {
        let crate::support::Incoming::Message(message) = client.next_by(until) else {
            panic!("nothing came")
        };
        assert!(
            At::read(&message["position"]) <= At::after(database.written()),
            "{message}"
        );
        if message["type"] == "tx" {
            break;
        }
    }
    assert_new_history(&database, &walcast, &place);
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_fresh_data_directory_on_an_existing_slot_goes_on_where_the_slot_is() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let place = insert(&database, &walcast, 1);
    assert!(walcast.stop().success());
    database.sql("INSERT INTO t VALUES (2)");
    let fresh = Setup::new(&database);
    let walcast = fresh.start();
    let mut client = walcast.connect();
    assert_ne!(client.hello["epoch"], place.epoch);
    client.subscribe(json!({"id": "t", "table": "t", "from": "earliest"}));
    assert_eq!(client.change()["row"]["id"], 2);
    resume(&mut client, &place, "resume_invalid");
}

#[test]
fn a_data_directory_serves_one_database_one_slot_and_one_walcast() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    insert(&database, &walcast, 1);
    let data = setup.data();
    let second = refused(setup.command());
    assert!(
        second.contains("another") || second.contains("lock") || second.contains("in use"),
        "{second}"
    );
    assert!(second.contains(&*data.to_string_lossy()), "{second}");
    assert!(walcast.stop().success());
    let other_slot = Setup::new(&database).on_slot(&format!("{}_other", database.name));
    let words = refused(other_slot.command_on(&data));
    assert!(
        words.contains(&setup.slot) && words.contains(&other_slot.slot),
        "{words}"
    );
    let elsewhere = Database::new(SCHEMA);
    let words = refused(Setup::new(&elsewhere).on_slot(&setup.slot).command_on(&data));
    assert!(
        words.contains(&database.name) || words.contains("another database"),
        "{words}"
    );
    // The journal is as it was.
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe(json!({"id": "t", "table": "t", "from": "earliest"}));
    assert_eq!(client.change()["row"]["id"], 1);
}
