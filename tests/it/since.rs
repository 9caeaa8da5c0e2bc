//! Subscriptions from a time on.

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, Walcast};

const TABLE: &str = "
    CREATE TABLE t (id int PRIMARY KEY);
    CREATE TABLE later (id int PRIMARY KEY);
    CREATE PUBLICATION pub FOR TABLE t, later;
";

/// The commit times of ten transactions that the journal holds.
fn written(database: &Database, walcast: &Walcast) -> Vec<String> {
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    let mut times = Vec::new();
    for id in 1..=10 {
        database.sql(&format!("INSERT INTO t VALUES ({id})"));
        times.push(client.expect("tx")["ts"].as_str().unwrap().to_owned());
    }
    assert!(times.is_sorted(), "{times:?}");
    times
}

fn ids_from(client: &mut Client, time: &str) -> Vec<u64> {
    client.subscribe(json!({"id": "s", "table": "t", "from": {"time": time}}));
    let mut ids = Vec::new();
    loop {
        let message = client.next();
        match message["type"].as_str() {
            Some("tx") => ids.push(message["changes"][0]["row"]["id"].as_u64().unwrap()),
            Some("live") => break,
            _ => panic!("{message}"),
        }
    }
    client.unsubscribe("s");
    ids
}

/// A time as much later, by Postgres' reckoning.
fn later(database: &Database, time: &str, by: &str) -> String {
    database.value(&format!(
        "SELECT to_json(timestamptz '{time}' + interval '{by}') #>> '{{}}'"
    ))
}

#[test]
fn a_subscription_from_a_time_begins_with_the_first_transaction_that_is_not_earlier() {
    let database = Database::new(TABLE);
    let setup = Setup::new(&database);
    let mut walcast = setup.start();
    let times = written(&database, &walcast);
    for _ in 0..2 {
        let mut client = walcast.connect();
        for (index, time) in times.iter().enumerate().skip(1) {
            let first = index as u64 + 1;
            assert!(ids_from(&mut client, time).into_iter().eq(first..=10), "{time}");
            let after = later(&database, time, "1 microsecond");
            assert!(
                ids_from(&mut client, &after).into_iter().eq(first + 1..=10),
                "{after}"
            );
        }
        // In another zone.
        let time = times[4].replace('Z', "+00");
        assert_eq!(ids_from(&mut client, &time).len(), 6);
        // The newest is earlier: what comes from now on.
        let now = database.value("SELECT to_json(now()) #>> '{}'");
        assert_eq!(ids_from(&mut client, &now), [0; 0]);
        // Also where the journal was opened again.
        assert!(walcast.stop().success());
        walcast = setup.start();
    }
}

#[test]
fn a_time_that_the_journal_may_not_reach_back_to_or_that_is_to_come_is_refused() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).start();
    let times = written(&database, &walcast);
    let mut client = walcast.connect();
    let mut refused = |fields: Value| {
        let mut subscribe = json!({"id": "s", "table": "t"});
        for (name, value) in fields.as_object().unwrap() {
            subscribe[name] = value.clone();
        }
        client.subscribe_refused(subscribe)
    };
    // Nothing says what came before the first.
    for time in [&times[0], &later(&database, &times[0], "-1 hour")] {
        let error = refused(json!({"from": {"time": time}}));
        assert_eq!(error["code"], "resume_expired", "{error}");
        assert!(error["earliest"].is_string(), "{error}");
    }
    let to_come = later(&database, &times[0], "2 hours");
    assert_eq!(
        refused(json!({"from": {"time": to_come}}))["code"],
        "resume_invalid"
    );
    let of_another = json!({"from": {"time": times[5]}, "epoch": "another"});
    assert_eq!(refused(of_another)["code"], "resume_invalid");
    for wrong in [
        json!({"from": {"time": "soon"}}),
        json!({"from": {"time": 12}}),
        json!({"from": {}}),
        json!({"from": {"time": times[5], "place": 1}}),
        json!({"from": {"time": times[5]}, "snapshot": true}),
    ] {
        let error = refused(wrong);
        assert_eq!(error["code"], "bad_request", "{error}");
    }
}

#[test]
fn it_resumes_from_there_like_any_other_with_the_predicate_and_the_messages_of_that_time() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).flag("--messages", "news").start();
    let times = written(&database, &walcast);
    database.sql("SELECT pg_logical_emit_message(true, 'news', 'first')");
    database.sql("INSERT INTO later VALUES (1)");
    walcast.comes_up_to(&database);
    let mut client = walcast.connect();
    let from = json!({"time": times[7]});
    // Without "now": there is no result of an earlier time to go on with.
    let odd = "id % 2 = 1 AND now() > '2000-01-01'";
    let subscribed = client.subscribe(json!({"id": "s", "table": "t", "where": odd, "from": from}));
    let tx = client.expect("tx");
    assert_eq!(tx["changes"][0]["row"]["id"], 9, "{tx}");
    client.expect("live");
    // Its position is one to resume from.
    let again =
        json!({"id": "again", "table": "t", "from": subscribed["position"], "epoch": client.hello["epoch"]});
    client.subscribe(again);
    assert_eq!(client.expect("tx")["changes"][0]["row"]["id"], 8);
    client.expect("tx");
    client.expect("tx");
    client.expect("live");
    client.subscribe(json!({"id": "n", "messages": "news", "from": from}));
    assert_eq!(client.expect("tx")["changes"][0]["content"], "first");
    client.expect("live");
    client.subscribe(json!({"id": "l", "table": "later", "from": from}));
    assert_eq!(client.expect("tx")["changes"][0]["row"]["id"], 1);
}
