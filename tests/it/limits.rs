//! Limits: a client that reaches one hears of it in words, and everybody else hears nothing of it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::guarded::{Guarded, auth, client};
use crate::support::{Client, DEADLINE, Database, End, Incoming, Setup, Walcast, eventually};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, owner int, note text);
    ALTER TABLE t REPLICA IDENTITY FULL;
    CREATE PUBLICATION pub FOR TABLE t;
";

fn serve(flags: &[(&str, &str)]) -> (Database, Walcast) {
    let database = Database::new(SCHEMA);
    let setup = flags.iter().fold(Setup::new(&database), |setup, (name, value)| {
        setup.flag(name, value)
    });
    let walcast = setup.start();
    (database, walcast)
}

/// The number of times that a limit was reached, as the metrics say.
fn reached(walcast: &Walcast, limit: &str) -> f64 {
    walcast.metric(&format!("limits_reached_total{{limit=\"{limit}\"}}"))
}

/// A client that has a live subscription goes on.
fn goes_on(client: &mut Client, database: &Database, id: u32) {
    database.sql(&format!("INSERT INTO t VALUES ({id}, 1, 'x')"));
    let change = client.change();
    assert_eq!(change["row"]["id"], id, "{change}");
}

#[test]
fn a_client_that_sends_too_much_is_told_when_to_come_again_and_then_closed() {
    let (database, walcast) = serve(&[("--max-message-rate", "10"), ("--max-subscriptions", "10")]);
    let mut quiet = walcast.connect();
    quiet.subscribe_live(json!({"id": "a", "table": "t"}));
    let mut noisy = walcast.connect();
    for number in 0..1000 {
        // It is closed at some point, and what it sends then is lost.
        if !noisy.try_send(&json!({"type": "ping", "ref": number})) {
            break;
        }
    }
    let mut refused = 0;
    let end = loop {
        match noisy.next_by(Instant::now() + DEADLINE) {
            Incoming::Message(answer) if answer["type"] == "error" => {
                assert_eq!(answer["code"], "rate_limited", "{answer}");
                assert_eq!(answer["limit"], "messages", "{answer}");
                assert!(answer["retry_after_ms"].as_u64() > Some(0), "{answer}");
                refused += 1;
            }
            Incoming::Message(answer) => assert!(answer["type"] != "error", "{answer}"),
            Incoming::Nothing => panic!("it is not closed"),
            Incoming::End(end) => break end,
        }
    };
    assert!(matches!(end, End::Closed(4004, _)), "{end:?}");
    assert!(refused > 100, "{refused}");
    assert_eq!(reached(&walcast, "messages"), f64::from(refused));
    goes_on(&mut quiet, &database, 1);
}

#[test]
fn a_client_that_comes_back_gets_all_the_subscriptions_that_it_may_have_at_once() {
    let (database, walcast) = serve(&[]);
    let mut client = walcast.connect();
    let most = client.hello["limits"]["subscriptions"].as_u64().unwrap();
    assert_eq!(most, 1000);
    for number in 0..most {
        // Long enough to count as two messages each.
        let predicate = format!("id = {}{}", 10_000 + number, " ".repeat(5000));
        let id = number.to_string();
        client.send(&json!({
            "type": "subscribe", "id": id, "table": "t", "where": predicate,
            "from": client.hello["position"], "epoch": client.hello["epoch"],
        }));
        if number % 10 == 9 {
            (0..20).for_each(|_| assert_ne!(client.next()["type"], "error"));
        }
    }
    goes_on(&mut client, &database, 10_000);
    let error = client.subscribe_refused(json!({"id": "more", "table": "t"}));
    assert_eq!(error["limit"], "subscriptions", "{error}");
    assert_eq!(reached(&walcast, "messages"), 0.0);
}

#[test]
fn a_subscription_beyond_the_rate_is_refused_by_its_id_and_made_a_while_later() {
    let (_database, walcast) = serve(&[("--max-subscribe-rate", "1"), ("--max-subscriptions", "5")]);
    let mut client = walcast.connect();
    let mut refused = None;
    for number in 0..100 {
        let id = number.to_string();
        client.send(&json!({"type": "subscribe", "id": id, "table": "t"}));
        let answer = client.next_of_any_type();
        if answer["type"] == "error" {
            assert_eq!(
                (&answer["id"], &answer["limit"]),
                (&json!(id), &json!("subscribes")),
                "{answer}"
            );
            refused = answer["retry_after_ms"].as_u64().map(|ms| (id, ms));
            break;
        }
        client.expect("live");
        client.unsubscribe(&id);
    }
    let (id, ms) = refused.expect("all are let in");
    std::thread::sleep(Duration::from_millis(ms));
    client.subscribe_live(json!({"id": id, "table": "t"}));
    assert_eq!(reached(&walcast, "subscribes"), 1.0);
    // Somebody else never heard of it.
    walcast.connect().subscribe_live(json!({"id": "a", "table": "t"}));
}

#[test]
fn refused_subscriptions_count_for_more_than_others() {
    let (_database, walcast) = serve(&[
        ("--max-message-rate", "10"),
        ("--max-subscriptions", "10"),
        ("--max-subscribe-rate", "1000"),
    ]);
    let mut client = walcast.connect();
    let refused = (0..200).find(|number| {
        let wrong = json!({"id": number.to_string(), "table": "t", "where": "nothing = 1"});
        let error = client.subscribe_refused(wrong);
        error["code"] == "rate_limited" || {
            assert_eq!(error["code"], "unknown_column", "{error}");
            false
        }
    });
    let refused = refused.expect("refusals are never too many");
    // Of a hundred at once, each takes five; some come back meanwhile.
    assert!((20..100).contains(&refused), "{refused}");
}

#[test]
fn where_all_clients_send_too_much_only_those_who_sent_the_most_are_refused() {
    let (database, walcast) = serve(&[("--max-total-message-rate", "10")]);
    let mut quiet = walcast.connect();
    quiet.subscribe_live(json!({"id": "a", "table": "t"}));
    let mut noisy = walcast.connect();
    let refused = (0..2000).find_map(|number| {
        noisy.send(&json!({"type": "ping", "ref": number}));
        Some(noisy.next_of_any_type()).filter(|answer| answer["type"] == "error")
    });
    let refused = refused.expect("nobody is refused");
    assert_eq!(
        (&refused["code"], &refused["limit"]),
        (&json!("rate_limited"), &json!("total_messages"))
    );
    for number in 0..20 {
        quiet.send(&json!({"type": "ping", "ref": number}));
        assert_eq!(quiet.expect("pong")["ref"], number);
    }
    goes_on(&mut quiet, &database, 1);
}

#[test]
fn where_all_clients_subscribe_too_much_they_wait_and_come_in() {
    let (_database, walcast) = serve(&[("--max-total-subscribe-rate", "5")]);
    let mut clients: Vec<Client> = (0..2).map(|_| walcast.connect()).collect();
    // Fifty come in at once.
    for client in &mut clients {
        for number in 0..30 {
            client.send(&json!({"type": "subscribe", "id": number.to_string(), "table": "t"}));
        }
    }
    for client in &mut clients {
        let mut live = 0;
        while live < 30 {
            let message = client.next();
            assert_ne!(message["type"], "error", "{message}");
            live += i32::from(message["type"] == "live");
        }
    }
    assert!(reached(&walcast, "total_subscribes") > 0.0);
}

#[test]
fn a_predicate_that_is_too_large_counts_as_a_limit() {
    let (_database, walcast) = serve(&[]);
    let mut client = walcast.connect();
    let text = vec!["owner = 1"; 300].join(" OR ");
    let error = client.subscribe_refused(json!({"id": "a", "table": "t", "where": text}));
    assert_eq!(
        (&error["code"], &error["limit"]),
        (&json!("bad_predicate"), &json!("predicate_size")),
        "{error}"
    );
    assert!(error["offset"].is_u64(), "{error}");
    assert_eq!(reached(&walcast, "predicate_size"), 1.0);
}

/// Everybody sees everything, but has to say who it is.
const EVERYTHING: &str = "[[policy]]\ntables = [\"public.*\"]";

fn bearer(token: &str) -> [(&'static str, String); 1] {
    [("authorization", format!("Bearer {token}"))]
}

#[test]
fn a_subject_has_so_many_connections_and_another_one_as_many() {
    let guarded = Guarded::new(SCHEMA);
    let setup = guarded.setup("anonymous_role = \"anon\"", EVERYTHING);
    let walcast = setup.flag("--max-connections-per-subject", "2").start();
    let ann = guarded.token("ann", "customer");
    let first = client(&walcast, &ann);
    let mut second = client(&walcast, &ann);
    second.subscribe_live(json!({"id": "a", "table": "t"}));
    let [(name, value)] = bearer(&ann);
    let refused = walcast
        .try_connect("/v1/stream", &[(name, &value)])
        .err()
        .unwrap();
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.body.contains("subject"), "{refused:?}");
    // By a message it is known later.
    let mut late = walcast.connect();
    late.send(&auth(&ann));
    assert!(matches!(late.end(), End::Closed(4502, _)));
    assert_eq!(reached(&walcast, "subject_connections"), 2.0);
    // Others, and those who are connected, hear nothing of it.
    drop(client(&walcast, &guarded.token("ben", "customer")));
    goes_on(&mut second, &guarded.database, 1);
    drop(first);
    eventually("a place that is free again", || {
        walcast.try_connect("/v1/stream", &[(name, &value)]).ok()
    });
}

#[test]
fn the_connections_of_a_subject_have_so_many_subscriptions_together() {
    let guarded = Guarded::new(SCHEMA);
    let setup = guarded.setup("", EVERYTHING);
    let walcast = setup.flag("--max-subscriptions-per-subject", "3").start();
    let subscribe = |id: &str| json!({"id": id, "table": "t"});
    let mut first = guarded.client(&walcast, "ann", &json!({}));
    let mut second = guarded.client(&walcast, "ann", &json!({}));
    first.subscribe_live(subscribe("a"));
    first.subscribe_live(subscribe("b"));
    second.subscribe_live(subscribe("a"));
    let error = second.subscribe_refused(subscribe("b"));
    assert_eq!(
        (&error["code"], &error["limit"]),
        (&json!("limit_exceeded"), &json!("subject_subscriptions")),
        "{error}"
    );
    assert_eq!(reached(&walcast, "subject_subscriptions"), 1.0);
    let mut other = guarded.client(&walcast, "ben", &json!({}));
    for id in ["a", "b", "c"] {
        other.subscribe_live(subscribe(id));
    }
    // What is refused does not count, and what is over does not any more.
    first.unsubscribe("b");
    first.subscribe_refused(json!({"id": "b", "table": "t", "where": "nothing = 1"}));
    second.subscribe_live(subscribe("b"));
    second.subscribe_refused(subscribe("c"));
    // The place is free on every connection once the client was told of the end.
    for _ in 0..50 {
        second.unsubscribe("b");
        first.subscribe_live(subscribe("b"));
        first.unsubscribe("b");
        second.subscribe_live(subscribe("b"));
    }
    drop(first);
    let mut third = guarded.client(&walcast, "ann", &json!({}));
    eventually("what a closed connection had", || {
        third.send(&json!({"type": "subscribe", "id": "a", "table": "t"}));
        Some(()).filter(|()| third.next()["type"] == "subscribed")
    });
}

#[test]
fn snapshots_of_a_subject_are_limited_and_another_ones_come() {
    let guarded = Guarded::new(SCHEMA);
    let setup = guarded.setup("", EVERYTHING);
    let walcast = setup.flag("--max-snapshots-per-subject", "2").start();
    guarded
        .database
        .sql("INSERT INTO t SELECT generate_series(1, 9), 1, 'x'");
    let mut lock = guarded.database.connect();
    lock.query("BEGIN").unwrap();
    lock.query("LOCK TABLE t IN ACCESS EXCLUSIVE MODE").unwrap();
    let ask = |client: &mut Client, id: u32| {
        let predicate = format!("id <> {id}");
        client.send(&json!({"type": "subscribe", "id": id.to_string(), "table": "t", "where": predicate, "snapshot": true}));
    };
    let mut first = guarded.client(&walcast, "ann", &json!({}));
    let mut second = guarded.client(&walcast, "ann", &json!({}));
    let mut other = guarded.client(&walcast, "ben", &json!({}));
    ask(&mut first, 1);
    ask(&mut first, 2);
    eventually("both are asked for", || {
        Some(()).filter(|()| walcast.metric("snapshots_total") == 2.0)
    });
    ask(&mut second, 3);
    let error = second.error();
    assert_eq!(
        (&error["code"], &error["limit"]),
        (&json!("limit_exceeded"), &json!("subject_snapshots")),
        "{error}"
    );
    ask(&mut other, 4);
    lock.query("COMMIT").unwrap();
    for (client, snapshots) in [(&mut other, 1), (&mut first, 2)] {
        for _ in 0..snapshots {
            while client.next()["type"] != "live" {}
        }
    }
    // They are over: there is room for others.
    ask(&mut second, 5);
    while second.next()["type"] != "live" {}
    assert_eq!(reached(&walcast, "subject_snapshots"), 1.0);
}

#[test]
fn a_subject_whose_clients_catch_up_one_by_one_comes_to_the_head_with_all_of_them() {
    let guarded = Guarded::new(SCHEMA);
    let setup = guarded.setup("", EVERYTHING);
    let walcast = setup.flag("--max-replays-per-subject", "1").start();
    for first in (0..2_000).step_by(100) {
        let insert =
            format!("INSERT INTO t SELECT generate_series({first}, {first} + 99), 1, repeat('x', 1000)");
        guarded.database.sql(&insert);
    }
    eventually("all is journaled", || {
        Some(()).filter(|()| walcast.metric("transactions_total") >= 20.0)
    });
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..12 {
        let subject = if number == 7 { "ben" } else { "ann" };
        let mut client = guarded.client(&walcast, subject, &json!({}));
        let predicate = format!("id <> {number}");
        client.send(
            &json!({"type": "subscribe", "id": "a", "table": "t", "where": predicate, "from": "earliest"}),
        );
        clients.push(client);
    }
    // Ben's first, though many of ann's asked before.
    clients.swap(0, 7);
    for client in &mut clients {
        let mut rows = 0;
        loop {
            let message = client.next();
            match message["type"].as_str() {
                Some("live") => break,
                Some("tx") => rows += message["changes"].as_array().unwrap().len(),
                Some("subscribed") => {}
                _ => panic!("{message}"),
            }
        }
        assert_eq!(rows, 1_999);
    }
}

#[test]
fn an_error_repeats_little_of_what_it_is_about() {
    let (_database, walcast) = serve(&[]);
    let mut client = walcast.connect();
    let long = "x".repeat(15_000);
    for (id, wrong) in [
        json!({"where": format!("owner = '{long}'")}),
        json!({"where": "owner = $1", "params": [long]}),
        json!({"where": format!("{long} = 1")}),
        json!({"where": format!("owner = {long}(1)")}),
        json!({"where": format!("note = E'{long}")}),
        json!({"where": format!("note = 'a'::{long}")}),
        json!({"where": format!("note LIKE 'a' ESCAPE '{long}'")}),
        json!({"where": format!("owner = 1 {long}")}),
        json!({"columns": [long]}),
        json!({"table": long}),
        json!({"from": long}),
        json!({"ops": [long]}),
        json!({long.clone(): 1}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut subscribe = json!({"type": "subscribe", "id": id.to_string(), "table": "t"});
        for (name, value) in wrong.as_object().unwrap() {
            subscribe[name] = value.clone();
        }
        client.send(&subscribe);
        let error = client.error();
        let message = error["message"].as_str().unwrap();
        let most = if wrong["where"].is_string() { 700 } else { 4_100 };
        assert!(message.len() < most, "{} bytes: {message:.300}", message.len());
    }
}

#[test]
fn the_predicates_of_a_subject_take_so_much_memory_and_another_ones_as_much() {
    let guarded = Guarded::new(SCHEMA);
    let setup = guarded.setup("", EVERYTHING);
    let walcast = setup.flag("--max-predicate-bytes-per-subject", "256KiB").start();
    let subscribe = |id: &str| {
        let long = "x".repeat(40_000);
        json!({"id": id, "table": "t", "where": "note = $1", "params": [long]})
    };
    let mut first = guarded.client(&walcast, "ann", &json!({}));
    let mut second = guarded.client(&walcast, "ann", &json!({}));
    first.subscribe_live(subscribe("a"));
    let error = second.subscribe_refused(subscribe("a"));
    assert_eq!(
        (&error["code"], &error["limit"]),
        (&json!("limit_exceeded"), &json!("subject_predicate_bytes")),
        "{error}"
    );
    let mut other = guarded.client(&walcast, "ben", &json!({}));
    other.subscribe_live(subscribe("a"));
    // As soon as one is over there is room for another.
    first.unsubscribe("a");
    second.subscribe_live(subscribe("a"));
    assert_eq!(reached(&walcast, "subject_predicate_bytes"), 1.0);
}

#[test]
fn who_takes_most_of_the_memory_of_all_predicates_gives_way_to_those_who_take_little() {
    let (database, walcast) = serve(&[("--max-total-predicate-bytes", "1MiB")]);
    let subscribe = |id: usize| {
        let long = "x".repeat(40_000);
        json!({"id": id.to_string(), "table": "t", "where": "note <> $1", "params": [format!("{id}{long}")]})
    };
    let mut greedy = walcast.connect();
    let mut taken = 0;
    while walcast.metric("limits_reached_total{limit=\"total_predicate_bytes\"}") == 0.0 {
        let mut wanted = subscribe(taken);
        wanted["type"] = json!("subscribe");
        greedy.send(&wanted);
        let answer = greedy.next();
        if answer["type"] == "error" {
            assert_eq!(answer["limit"], "total_predicate_bytes", "{answer}");
        } else {
            greedy.expect("live");
            taken += 1;
        }
    }
    assert!(taken > 3, "{taken}");
    let mut modest = walcast.connect();
    modest.subscribe_live(subscribe(100));
    let end = greedy.end();
    assert!(matches!(end, End::Closed(4502, _)), "{end:?}");
    assert_eq!(reached(&walcast, "total_predicate_bytes"), 2.0);
    goes_on(&mut modest, &database, 1);
}

#[test]
fn a_row_for_which_a_predicate_fails_is_not_in_the_log() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, j json);
         ALTER TABLE t REPLICA IDENTITY FULL;
         INSERT INTO t VALUES (1, '{\"p\": \"ROWSECRET\", \"a\": \"\\u0000\"}');
         CREATE PUBLICATION pub FOR TABLE t;",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    for id in 0..3 {
        let wrong = json!({"id": id.to_string(), "table": "t", "where": "j->>'a' = 'ok'", "snapshot": true});
        let error = client.subscribe_refused(wrong);
        assert!(!error.to_string().contains("ROWSECRET"), "{error}");
    }
    assert!(!walcast.log().contains("ROWSECRET"), "{}", walcast.log());
}
