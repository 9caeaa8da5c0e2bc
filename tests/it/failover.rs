//! Another server in the place of the one that the journal was read from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use walcast::cluster::{Cluster, Options, Shutdown};

use crate::support::{Client, Database, Setup, Walcast, eventually, eventually_equal};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t";

fn follow(walcast: &Walcast) -> Client {
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    client
}

fn insert(database: &Database, client: &mut Client, id: u32) -> Value {
    database.sql(&format!("INSERT INTO t VALUES ({id})"));
    let tx = client.tx();
    assert_eq!(tx["changes"][0]["row"]["id"], id);
    tx["position"].clone()
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

/// Stops the server in good order and copies its data: what a standby has that is up to date. The server goes on.
fn standby_of(database: &Database) -> PathBuf {
    let mut server = database.server();
    server.stop(Shutdown::Fast).unwrap();
    let standby = server.data().with_file_name("standby");
    copy(&server.data(), &standby);
    server.resume().unwrap();
    standby
}

/// Puts other data in the place of the server's, which it loses.
fn replace(server: &mut Cluster, with: &Path) {
    let data = server.data();
    fs::rename(&data, data.with_file_name("lost")).unwrap();
    copy(with, &data);
}

/// Starts the server as a standby.
fn start_standby(server: &mut Cluster) {
    let signal = server.data().join("standby.signal");
    let made = server.command("touch").arg(signal).status().unwrap();
    assert!(made.success());
    server.resume().unwrap();
}

fn promote(database: &Database) {
    database.sql("SELECT pg_promote()");
    assert_eq!(database.value("SELECT pg_is_in_recovery()"), "f");
}

/// The primary is lost, with what it wrote after the standby had last heard of it, and clients have seen that. Returns
/// a client of before, and the place where it is.
fn lose_the_tail(database: &Database, walcast: &Walcast, prepare: impl FnOnce(&Path)) -> (Client, Value) {
    let standby = standby_of(database);
    prepare(&standby);
    eventually("walcast is back", || walcast.ready().ok());
    let mut client = follow(walcast);
    let place = insert(database, &mut client, 1);
    database.sql("INSERT INTO t SELECT generate_series(10, 500)");
    walcast.comes_up_to(database);
    let mut server = database.server();
    server.stop(Shutdown::Immediate).unwrap();
    replace(&mut server, &standby);
    start_standby(&mut server);
    (client, place)
}

fn assert_new_epoch(database: &Database, walcast: &Walcast, mut client: Client, place: &Value) {
    let epoch = client.hello["epoch"].clone();
    let error = loop {
        let message = client.next();
        if message["type"] != "tx" {
            break message;
        }
    };
    assert_eq!(error["code"], "resume_invalid", "{error}");
    eventually("walcast is back", || walcast.ready().ok());
    let mut client = follow(walcast);
    assert_ne!(client.hello["epoch"], epoch);
    let old = json!({"id": "old", "table": "t", "from": place, "epoch": epoch});
    assert_eq!(client.subscribe_refused(old)["code"], "resume_invalid");
    insert(database, &mut client, 2000);
    eventually_equal("it is counted", 1.0, || walcast.metric("epoch_changes_total"));
}

#[test]
fn a_standby_that_lacks_what_clients_saw_begins_a_new_epoch_once_it_is_promoted() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let (client, place) = lose_the_tail(&database, &walcast, |_| {});
    // As long as it is a standby it may only be behind.
    let reason = eventually("it is said", || {
        walcast.ready().err().filter(|reason| reason.contains("standby"))
    });
    assert!(reason.contains("promoted"), "{reason}");
    promote(&database);
    assert_new_epoch(&database, &walcast, client, &place);
    walcast.logs("the server's history has only come to");
}

#[test]
fn a_promoted_standby_without_the_slot_is_not_gone_on_with_in_silence() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database).switch("--recreate-slot");
    let walcast = setup.start();
    let slot = setup.slot.clone();
    let (client, place) = lose_the_tail(&database, &walcast, |standby| {
        fs::remove_dir_all(standby.join("pg_replslot").join(slot)).unwrap();
    });
    eventually("it is said", || {
        walcast
            .ready()
            .err()
            .filter(|reason| reason.contains("promotion"))
    });
    promote(&database);
    assert_new_epoch(&database, &walcast, client, &place);
}

#[test]
fn a_promoted_standby_that_lacks_nothing_continues_the_history() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = follow(&walcast);
    let place = insert(&database, &mut client, 1);
    {
        let mut server = database.server();
        server.stop(Shutdown::Fast).unwrap();
        start_standby(&mut server);
    }
    promote(&database);
    eventually("walcast is back", || walcast.ready().ok());
    insert(&database, &mut client, 2);
    let mut other = walcast.connect();
    let epoch = client.hello["epoch"].clone();
    assert_eq!(other.hello["epoch"], epoch);
    other.subscribe(json!({"id": "r", "table": "t", "from": place, "epoch": epoch}));
    assert_eq!(other.change()["row"]["id"], 2);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}

#[test]
fn another_cluster_in_the_servers_place_is_never_read() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database).switch("--recreate-slot");
    let walcast = setup.start();
    let mut client = follow(&walcast);
    insert(&database, &mut client, 1);
    let (data, stranger) = {
        let mut other = Cluster::start(&Options::default()).unwrap();
        other.psql(&format!("CREATE DATABASE {}", database.name));
        other.try_psql(&database.name, SCHEMA).unwrap();
        other.stop(Shutdown::Fast).unwrap();
        let mut server = database.server();
        server.stop(Shutdown::Fast).unwrap();
        let data = server.data();
        let ours = server.data().with_file_name("ours");
        fs::rename(&data, &ours).unwrap();
        copy(&other.data(), &data);
        copy(&ours.join("postgresql.conf"), &data.join("postgresql.conf"));
        server.resume().unwrap();
        (data, ours)
    };
    let reason = eventually("it is said", || {
        walcast
            .ready()
            .err()
            .filter(|reason| reason.contains("the journal is of"))
    });
    assert!(reason.contains("--data-dir"), "{reason}");
    database.sql("INSERT INTO t VALUES (666)");
    {
        let mut server = database.server();
        server.stop(Shutdown::Fast).unwrap();
        fs::remove_dir_all(&data).unwrap();
        fs::rename(&stranger, &data).unwrap();
        server.resume().unwrap();
    }
    eventually("walcast is back", || walcast.ready().ok());
    insert(&database, &mut client, 2);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}
