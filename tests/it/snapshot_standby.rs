//! Snapshots and standbys: rows that are read on one, and transactions that wait for one.

use std::thread;

use serde_json::json;

use walcast::cluster::Cluster;

use crate::snapshot::{PACE, distinct, rows};
use crate::support::{
    At, Audience, Database, SCHEMA, Setup, Workload, eventually, eventually_equal, snapshot_views,
};

#[test]
fn a_standby_gives_snapshots_once_it_has_replayed_far_enough() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let settings = [
        "max_standby_streaming_delay = -1".to_owned(),
        "hot_standby = on".into(),
    ];
    let standby = Cluster::standby_of(&database.server(), &settings).unwrap();
    let setup = Setup::new(&database).flag("--snapshot-url", &standby.url(&database.name));
    let walcast = setup.start();
    // Held back: a snapshot that is asked for now waits for what is written by now.
    standby.psql("SELECT pg_wal_replay_pause()");
    let mut live = walcast.connect();
    live.subscribe_live(json!({"id": "s", "table": "part"}));
    database.sql("INSERT INTO part VALUES (9, 'b9', 7)");
    live.change();
    let mut client = walcast.connect();
    client.send(&json!({"type": "subscribe", "id": "s", "table": "part", "snapshot": true}));
    eventually_equal("it waits", 1.0, || walcast.metric("snapshots_reading"));
    standby.psql("SELECT pg_wal_replay_resume()");
    client.expect("subscribed");
    assert_eq!(rows(&mut client).0, [json!({"a": 9, "b": "b9", "v": 7})]);
    database.sql("DELETE FROM part");
    let mut audience = Audience::new(setup.address());
    let workload = Workload::start(&database, PACE);
    for round in 0..6 {
        workload.goes_on(20);
        audience.join_with(snapshot_views(&distinct(round)));
    }
    workload.finish();
    audience.everybody_has_joined();
    audience.judge(&database);
    // Another server is not of this history.
    let stranger = Database::on_its_own_server(SCHEMA, &[]);
    let setup = Setup::new(&database).flag("--snapshot-url", stranger.url());
    walcast.kill();
    let walcast = setup.start();
    let refusal = walcast
        .connect()
        .subscribe_refused(json!({"id": "s", "table": "part", "snapshot": true}));
    assert_eq!(refusal["code"], "internal", "{refusal}");
    // The client is told a number, and the operator the rest.
    let words = refusal["message"].as_str().unwrap();
    assert!(
        words.contains("logged under") && !words.contains("identifier"),
        "{words}"
    );
    walcast.logs("system identifier");
}

#[test]
fn what_waited_for_a_standby_before_the_history_began_is_in_every_snapshot() {
    let database = Database::on_its_own_server(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t",
        &[
            "synchronous_standby_names = 'nobody'",
            "synchronous_commit = local",
        ],
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut live = walcast.connect();
    live.subscribe_live(json!({"id": "s", "table": "t"}));
    // The first row of a table waits until its transaction can be seen.
    database.sql("INSERT INTO t VALUES (0)");
    live.change();
    thread::scope(|scope| {
        scope.spawn(|| database.sql("SET synchronous_commit = on; INSERT INTO t VALUES (1)"));
        let position = At::read(&live.tx()["position"]);
        eventually("the slot is beyond it", || {
            (At::after(database.confirmed(&setup.slot)) >= position).then_some(())
        });
        walcast.kill();
        // Another one goes on with the slot, in whose history it will never be.
        std::fs::remove_dir_all(setup.data()).unwrap();
        let walcast = setup.start();
        let ask = json!({"id": "s", "table": "t", "snapshot": true});
        let refusal = walcast.connect().subscribe_refused(ask.clone());
        assert_eq!(refusal["code"], "internal", "{refusal}");
        database.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
        let rows = eventually("it can be told", || {
            let mut client = walcast.connect();
            client.send(&json!({"type": "subscribe", "id": "s", "table": "t", "snapshot": true}));
            let begins = client.next()["type"] == "subscribed";
            begins.then(|| rows(&mut client).0)
        });
        assert_eq!(rows, [json!({"id": 0}), json!({"id": 1})]);
    });
}
