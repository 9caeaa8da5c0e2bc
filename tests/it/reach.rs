//! Pings with `reach`: the pong comes once everything that the connection has asked for is complete up to a position.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{At, Client, DEADLINE, Database, End, Incoming, Setup, Walcast, eventually};

const TABLE: &str = "
    CREATE TABLE t (id int PRIMARY KEY, owner int, note text);
    ALTER TABLE t REPLICA IDENTITY FULL;
    CREATE TABLE unpublished (id int);
    CREATE PUBLICATION pub FOR TABLE t;
";

/// A server whose clients hear of nothing by time.
fn serve() -> (Database, Walcast) {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).flag("--progress-interval", "1h").start();
    (database, walcast)
}

/// Writes, and returns the position that an application asks for after its own commit.
fn write(connection: &mut walcast::postgres::Connection, sql: &str) -> String {
    connection.query(sql).unwrap();
    let position = connection.query("SELECT pg_current_wal_insert_lsn()").unwrap();
    position[0].get(0).unwrap().to_owned()
}

fn ping(client: &mut Client, reference: &Value, reach: &str) {
    client.send(&json!({"type": "ping", "ref": reference, "reach": reach}));
}

/// The messages up to the pong of this ping, which covers the position.
fn until_pong(client: &mut Client, reference: &Value, reach: &str) -> Vec<Value> {
    let mut before = Vec::new();
    loop {
        let message = client.next();
        if message["type"] == "pong" {
            assert_eq!(message["ref"], *reference, "{message}");
            assert!(
                At::read(&message["position"]) >= At::read(&json!(reach)),
                "{message}"
            );
            return before;
        }
        before.push(message);
    }
}

#[test]
fn a_pong_comes_behind_the_own_write_whether_or_not_that_matches() {
    let (database, walcast) = serve();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "odd", "table": "t", "where": "id % 2 = 1"}));
    client.subscribe_live(json!({"id": "none", "table": "t", "where": "owner = 7"}));
    let mut connection = database.connect();
    for off in ["off", "on"] {
        connection
            .query(&format!("SET synchronous_commit = {off}"))
            .unwrap();
        for id in 1..=40 {
            let reference = json!([off, id]);
            let id = if off == "on" { id } else { -id };
            let reach = write(&mut connection, &format!("INSERT INTO t VALUES ({id}, 1)"));
            ping(&mut client, &reference, &reach);
            let got = until_pong(&mut client, &reference, &reach);
            let ids: Vec<_> = got
                .iter()
                .map(|tx| tx["changes"][0]["row"]["id"].as_i64())
                .collect();
            // `%` takes the sign of what it divides.
            let expected = if id > 0 && id % 2 == 1 {
                vec![Some(id)]
            } else {
                vec![]
            };
            assert_eq!(ids, expected, "{got:?}");
        }
    }
    // A write that changed nothing, one that nobody may read, and none at all.
    for sql in [
        "UPDATE t SET note = 'x' WHERE false",
        "INSERT INTO unpublished VALUES (1)",
        "SELECT 1",
    ] {
        let reach = write(&mut connection, sql);
        ping(&mut client, &json!(sql), &reach);
        assert_eq!(until_pong(&mut client, &json!(sql), &reach), Vec::<Value>::new());
    }
    // One that is there already is answered at once.
    ping(&mut client, &json!(null), "0/1:3");
    until_pong(&mut client, &json!(null), "0/1:3");
}

#[test]
fn without_subscriptions_it_says_that_the_position_can_be_resumed_from() {
    let (database, walcast) = serve();
    let mut client = walcast.connect();
    let mut connection = database.connect();
    connection.query("SET synchronous_commit = off").unwrap();
    for id in 1..=5 {
        let reach = write(&mut connection, &format!("INSERT INTO t VALUES ({id}, 1)"));
        ping(&mut client, &json!(id), &reach);
        until_pong(&mut client, &json!(id), &reach);
        let other = walcast.connect();
        assert!(At::read(&other.hello["position"]) >= At::read(&json!(reach)));
    }
}

#[test]
fn many_wait_and_each_is_answered_once_by_its_own_position() {
    let (database, walcast) = serve();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "all", "table": "t"}));
    let mut connection = database.connect();
    let reaches: Vec<String> = (1..=50)
        .map(|id| write(&mut connection, &format!("INSERT INTO t VALUES ({id}, 1)")))
        .collect();
    // The last first.
    for (number, reach) in reaches.iter().enumerate().rev() {
        ping(&mut client, &json!(number), reach);
    }
    let mut held = 0;
    let mut answered = [false; 50];
    while answered.contains(&false) || held < 50 {
        let message = client.next();
        if message["type"] == "tx" {
            held += 1;
            continue;
        }
        assert_eq!(message["type"], "pong", "{message}");
        let number = message["ref"].as_u64().unwrap() as usize;
        assert!(held > number, "{message} with {held} changes");
        assert!(!std::mem::replace(&mut answered[number], true), "{message}");
    }
}

#[test]
fn it_waits_for_catch_ups_and_snapshots_that_were_asked_for_before_it() {
    let (database, walcast) = serve();
    let start = walcast.connect().hello["position"].clone();
    database.sql("INSERT INTO t SELECT g, g % 10, repeat('x', 200) FROM generate_series(1, 20000) g");
    walcast.comes_up_to(&database);
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "live", "table": "t", "where": "id > 50000"}));
    let subscribe = |client: &mut Client, id: &str, fields: Value| {
        let mut message = json!({"type": "subscribe", "id": id, "table": "t"});
        for (name, value) in fields.as_object().unwrap() {
            message[name] = value.clone();
        }
        client.send(&message);
    };
    let mut connection = database.connect();
    subscribe(&mut client, "rows", json!({"snapshot": true}));
    subscribe(&mut client, "past", json!({"from": start}));
    subscribe(&mut client, "gone", json!({"snapshot": true}));
    subscribe(&mut client, "wrong", json!({"where": "nothing = 1"}));
    client.send(&json!({"type": "unsubscribe", "id": "gone"}));
    let reach = write(&mut connection, "INSERT INTO t VALUES (100000, 1)");
    ping(&mut client, &json!("p"), &reach);
    let before = until_pong(&mut client, &json!("p"), &reach);
    let of = |kind: &str, id: &str| {
        let is_it = |message: &&Value| message["type"] == kind && message["id"] == id;
        before.iter().filter(is_it).count()
    };
    assert_eq!(
        (of("live", "rows"), of("live", "past"), of("error", "wrong")),
        (1, 1, 1)
    );
    let rows = |id: &str| -> usize {
        let mut count = 0;
        for message in &before {
            if message["id"] == id {
                count += message["rows"].as_array().map_or(0, Vec::len);
            }
            let changes = message["changes"].as_array();
            count += changes.map_or(0, |changes| changes.iter().filter(|c| c["id"] == id).count());
        }
        count
    };
    assert_eq!((rows("rows"), rows("past"), rows("live")), (20_001, 20_001, 1));
}

#[test]
fn a_client_that_fell_behind_gets_the_pong_behind_everything() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).flag("--send-buffer-bytes", "32KiB").start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "all", "table": "t"}));
    let mut connection = database.connect();
    let rows = "SELECT g, 1, repeat('x', 100) FROM generate_series(1, 40000) g";
    connection.query(&format!("INSERT INTO t {rows}")).unwrap();
    let reach = write(&mut connection, "INSERT INTO t VALUES (0, 1)");
    eventually("it fell behind", || {
        (walcast.metric("fell_behind_total") >= 1.0).then_some(())
    });
    ping(&mut client, &json!("p"), &reach);
    let before = until_pong(&mut client, &json!("p"), &reach);
    let changes = before.iter().filter_map(|message| message["changes"].as_array());
    assert_eq!(changes.map(Vec::len).sum::<usize>(), 40_001);
}

#[test]
fn what_the_database_has_not_written_is_refused_and_a_hundred_wait_at_most() {
    let (database, walcast) = serve();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "all", "table": "t"}));
    for number in 0..=100 {
        ping(&mut client, &json!(number), &format!("FFFFFFFF/{number:X}"));
    }
    let error = client.error();
    assert_eq!(
        (&error["code"], &error["limit"]),
        (&json!("limit_exceeded"), &json!("reaches"))
    );
    assert_eq!((&error["ref"], error.get("id")), (&json!(100), None), "{error}");
    for number in 0..100 {
        let error = client.error();
        assert_eq!(error["code"], "resume_invalid", "{error}");
        assert_eq!(
            (&error["ref"], error.get("id")),
            (&json!(number), None),
            "{error}"
        );
    }
    for reach in [json!("now"), json!(12)] {
        client.send(&json!({"type": "ping", "ref": "wrong", "reach": reach}));
        let error = client.error();
        assert_eq!(
            (&error["code"], &error["ref"]),
            (&json!("bad_request"), &json!("wrong"))
        );
    }
    // The connection goes on, and so does what it subscribed to.
    let mut connection = database.connect();
    let reach = write(&mut connection, "INSERT INTO t VALUES (1, 1)");
    ping(&mut client, &json!("good"), &reach);
    assert_eq!(until_pong(&mut client, &json!("good"), &reach).len(), 1);
}

#[test]
fn a_new_epoch_ends_the_wait_by_closing_the_connection() {
    let database = Database::new(TABLE);
    let setup = Setup::new(&database)
        .switch("--recreate-slot")
        .flag("--progress-interval", "1h");
    let walcast = setup.start();
    let mut client = walcast.connect();
    // What is written now is in no stream.
    walcast.pause(true);
    database.drop_slot(&setup.slot);
    let mut connection = database.connect();
    let reach = write(&mut connection, "INSERT INTO t VALUES (1, 1)");
    ping(&mut client, &json!(1), &reach);
    walcast.pause(false);
    match client.next_by(Instant::now() + DEADLINE) {
        Incoming::End(end) => assert!(matches!(end, End::Closed(1001, _)), "{end:?}"),
        other => panic!("{other:?}"),
    }
}
