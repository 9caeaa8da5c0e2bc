//! Positions: where a subscription can start, and what comes from there on.

use serde_json::json;

use crate::protocol::{FULL, live, serve};
use crate::support::{At, eventually};

#[test]
fn from_earliest_or_a_position_the_past_comes_first_under_the_subscriptions_id() {
    let (database, walcast) = serve(FULL);
    let start = walcast.connect().hello["position"].clone();
    for id in 1..4 {
        database.sql(&format!("INSERT INTO t VALUES ({id}, {id}, NULL)"));
    }
    let until = database.written();
    eventually("walcast has them", || {
        (At::read(&walcast.connect().hello["position"]) >= At::after(until)).then_some(())
    });
    let mut client = walcast.connect();
    let mut positions = Vec::new();
    for from in [json!("earliest"), start.clone()] {
        let subscribed = client.subscribe(json!({"id": "s", "table": "t", "from": from}));
        assert!(At::read(&subscribed["position"]) <= At::read(&start));
        positions.clear();
        for id in 1..4 {
            let tx = client.expect("tx");
            assert_eq!(tx["id"], "s");
            assert_eq!(tx["changes"][0]["row"]["id"], id);
            positions.push(tx["position"].clone());
        }
        let live = client.expect("live");
        assert!(At::read(&live["position"]) >= At::read(&positions[2]));
        client.unsubscribe("s");
    }
    // After the first of them, then live.
    client.subscribe(json!({"id": "s", "table": "t", "from": positions[0], "epoch": client.hello["epoch"]}));
    assert_eq!(client.change()["row"]["id"], 2);
    assert_eq!(client.change()["row"]["id"], 3);
    client.expect("live");
    database.sql("DELETE FROM t WHERE id = 1");
    let tx = client.expect("tx");
    assert_eq!(tx.get("id"), None);
    assert_eq!(tx["changes"][0]["op"], "delete");
}

#[test]
fn a_position_that_an_application_read_after_its_own_write_covers_that_write() {
    let (database, walcast) = serve(FULL);
    let mut client = walcast.connect();
    for id in 1..20 {
        database.sql(&format!("INSERT INTO t VALUES ({id}, 1, NULL)"));
        let written = database.written();
        // The stream may not have come so far: then it waits.
        let name = format!("s{id}");
        let subscribed = client.subscribe(json!({"id": name, "table": "t", "from": written.to_string()}));
        assert_eq!(At::read(&subscribed["position"]), At::after(written));
        client.unsubscribe(&name);
    }
    let written = database.written();
    client.subscribe(json!({"id": "s", "table": "t", "from": written.to_string()}));
    database.sql("INSERT INTO t VALUES (100, 1, NULL)");
    loop {
        let message = client.next();
        if message["type"] == "tx" {
            assert_eq!(message["changes"][0]["row"]["id"], 100, "{message}");
            break;
        }
        assert_eq!(message["type"], "live", "{message}");
    }
}

#[test]
fn a_start_that_postgres_has_reached_but_the_stream_has_not_waits() {
    let (database, walcast) = serve(FULL);
    let mut client = walcast.connect();
    // A transaction that is still open holds nothing back; what is written beyond it lies ahead of the stream.
    database.sql("CREATE TABLE unpublished (x text)");
    database.sql("INSERT INTO unpublished SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
    let written = database.written();
    let subscribed = client.subscribe(json!({"id": "s", "table": "t", "from": written.to_string()}));
    assert_eq!(At::read(&subscribed["position"]), At::after(written));
    let live = client.expect("live");
    assert!(
        At::read(&live["position"]) >= At::after(written),
        "live too early: {live}"
    );
    database.sql("INSERT INTO t VALUES (1, 1, NULL)");
    assert_eq!(client.change()["row"]["id"], 1);
}

#[test]
fn a_large_transaction_comes_in_frames_and_can_be_resumed_inside() {
    let (database, walcast) = serve(FULL);
    let mut client = live(&walcast, json!({"id": "s", "table": "t", "where": "owner = 1"}));
    database.sql("INSERT INTO t SELECT g, 1, repeat('x', 80) FROM generate_series(1, 8000) g");
    let mut places = Vec::new();
    let mut ids = Vec::new();
    loop {
        let tx = client.expect("tx");
        for change in tx["changes"].as_array().unwrap() {
            ids.push(change["row"]["id"].as_u64().unwrap());
        }
        if tx.get("more").is_none() {
            break;
        }
        places.push((tx["position"].clone(), ids.len()));
    }
    assert!(places.len() > 5);
    assert!(ids.iter().copied().eq(1..=8000));
    for (place, before) in places.iter().step_by(places.len() / 3) {
        let mut client = walcast.connect();
        let epoch = client.hello["epoch"].clone();
        client
            .subscribe(json!({"id": "s", "table": "t", "where": "owner = 1", "from": place, "epoch": epoch}));
        let mut rest = Vec::new();
        while rest.len() < 8000 - before {
            let tx = client.expect("tx");
            let changes = tx["changes"].as_array().unwrap().clone();
            rest.extend(changes.iter().map(|change| change["row"]["id"].as_u64().unwrap()));
        }
        assert_eq!(rest, ids[*before..], "from {place}");
    }
    // Nothing of the rest matches: the transaction still ends.
    let (place, _) = &places[0];
    let mut client = walcast.connect();
    client.subscribe(json!({"id": "s", "table": "t", "where": "id = 1", "from": place}));
    let end = client.expect("tx");
    assert_eq!(end["changes"], json!([]));
    assert_eq!(end.get("more"), None);
    assert_eq!(
        end["position"].as_str(),
        place.as_str().unwrap().split(':').next()
    );
}

#[test]
fn a_subscription_from_now_on_starts_after_what_its_client_has_got() {
    let (database, walcast) = serve(FULL);
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t"}));
    // The router's own place is published a moment later, so one round would hardly show it.
    for id in 1..=200 {
        database.sql(&format!("INSERT INTO t VALUES ({id}, {id}, NULL)"));
        let told = client.tx()["position"].clone();
        let subscribed = client.subscribe_live(json!({"id": "again", "table": "t"}));
        assert!(
            At::read(&subscribed["position"]) >= At::read(&told),
            "{subscribed} after {told}"
        );
        client.unsubscribe("again");
    }
}
