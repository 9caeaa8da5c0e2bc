//! Refusals: their codes, and their cost.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{At, Database, End, Proxy, Setup, Walcast, eventually, eventually_equal};

pub(super) const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, owner int, note text);
    ALTER TABLE t REPLICA IDENTITY FULL;
    CREATE TABLE hidden (id int PRIMARY KEY);
    CREATE PUBLICATION pub FOR TABLE t;
";

pub(super) fn serve() -> (Database, Walcast) {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    (database, walcast)
}

#[test]
fn each_bad_subscription_is_refused_by_its_code_and_the_connection_stays() {
    let (_database, walcast) = serve();
    let mut client = walcast.connect();
    for (wrong, code) in [
        (json!({"table": "hidden"}), "unknown_table"),
        (json!({"table": "nowhere"}), "unknown_table"),
        (json!({"table": "nowhere.t"}), "unknown_table"),
        (json!({"table": "T"}), "ok"),
        (json!({"table": "\"T\""}), "unknown_table"),
        (json!({"table": "t", "columns": ["nothing"]}), "unknown_column"),
        (json!({"table": "t", "where": "nothing = 1"}), "unknown_column"),
        (json!({"table": "t", "where": "owner ="}), "bad_predicate"),
        (json!({"table": "t", "where": "owner = 'x'"}), "bad_predicate"),
        (json!({"table": "t", "where": "owner = $1"}), "bad_predicate"),
        (
            json!({"table": "t", "where": "pg_sleep(1) IS NULL"}),
            "bad_predicate",
        ),
        (
            json!({"table": "t", "where": "owner = (SELECT 1)"}),
            "bad_predicate",
        ),
        (
            json!({"table": "t", "where": "owner = $1", "params": [[1]]}),
            "bad_predicate",
        ),
        (json!({"table": "t", "columns": ["ownr"]}), "unknown_column"),
        (json!({"table": "t", "from": "here"}), "resume_invalid"),
        (json!({"table": "t", "from": "0/0:x"}), "resume_invalid"),
        (json!({"table": "t", "from": "FFFF/0"}), "resume_invalid"),
        (
            json!({"table": "t", "from": "earliest", "epoch": "another"}),
            "resume_invalid",
        ),
        (json!({"table": "t", "from": "0/1"}), "resume_expired"),
        (
            json!({"table": "t", "snapshot": true, "from": "earliest"}),
            "bad_request",
        ),
        (json!({"table": "t", "form": "earliest"}), "bad_request"),
        (json!({"table": "t", "ops": ["upsert"]}), "bad_request"),
        (json!({"table": "t", "old": "yes"}), "bad_request"),
        (json!({}), "bad_request"),
    ] {
        let mut subscribe = wrong.clone();
        subscribe["id"] = json!("a");
        if code == "ok" {
            client.subscribe(subscribe);
            client.unsubscribe("a");
            continue;
        }
        let error = client.subscribe_refused(subscribe);
        assert_eq!(error["code"], code, "{wrong}: {error}");
        if wrong["columns"] == json!(["ownr"]) {
            let message = error["message"].as_str().unwrap();
            assert!(
                message.ends_with("no column \"ownr\": did you mean owner?"),
                "{message}"
            );
        }
        if code == "resume_expired" {
            assert_eq!(error["earliest"], client.hello["earliest"]);
        }
    }
    let error =
        client.subscribe_refused(json!({"id": "a", "table": "t", "where": "id = 1 AND owner LIKE 1 2"}));
    let offset = error["offset"].as_u64().unwrap();
    assert!((11..=25).contains(&offset), "{error}");
    client.subscribe(json!({"id": "a", "table": "t"}));
}

#[test]
fn what_is_no_message_is_refused_and_twenty_in_a_row_close() {
    let (_database, walcast) = serve();
    let mut client = walcast.connect();
    for text in [
        "",
        "nonsense",
        "[]",
        "{}",
        r#"{"type":"nothing"}"#,
        r#"{"type":"ping","type":"ping"}"#,
        r#"{"type":"ping","reference":1}"#,
        r#"{"type":"auth","token":"x"}"#,
        r#"{"type":"subscribe","table":"t"}"#,
        r#"{"type":"unsubscribe"}"#,
    ] {
        client.send_text(text);
        assert_eq!(client.error()["code"], "bad_request", "{text}");
    }
    client.send_binary(br#"{"type":"ping"}"#);
    assert_eq!(client.error()["code"], "bad_request");
    // A good one forgives those before it.
    client.send(&json!({"type": "ping", "ref": 1}));
    client.expect("pong");
    for _ in 0..19 {
        client.send_text("nonsense");
        assert_eq!(client.error()["code"], "bad_request");
    }
    client.send_text("nonsense");
    let End::Closed(code, _) = client.end() else {
        panic!("lost")
    };
    assert_eq!(code, 4501);
    eventually_equal("it is counted", 11.0 + 20.0, || {
        walcast.metric(r#"errors_total{code="bad_request"}"#)
    });
}

#[test]
fn an_id_can_be_had_once_and_the_first_one_goes_on() {
    let (database, walcast) = serve();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "t", "where": "id = 1"}));
    client.send(&json!({"type": "subscribe", "id": "a", "table": "t"}));
    let error = client.error();
    assert_eq!(error["code"], "duplicate_id");
    assert_eq!(
        error.get("id"),
        None,
        "an error with an id ends that subscription"
    );
    client.send(&json!({"type": "unsubscribe", "id": "b"}));
    assert_eq!(client.error()["code"], "unknown_id");
    database.sql("INSERT INTO t VALUES (1, 1), (2, 2)");
    assert_eq!(client.change()["row"]["id"], 1);
}

#[test]
fn a_connection_has_at_most_as_many_subscriptions_as_it_may() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).flag("--max-subscriptions", "100").start();
    let mut client = walcast.connect();
    for id in 0..100 {
        client.subscribe(json!({"id": id.to_string(), "table": "t", "where": format!("id = {id}")}));
    }
    let error = client.subscribe_refused(json!({"id": "100", "table": "t"}));
    assert_eq!(
        (&error["code"], &error["limit"]),
        (&json!("limit_exceeded"), &json!("subscriptions"))
    );
    client.unsubscribe("7");
    client.subscribe(json!({"id": "100", "table": "t", "where": "id = 100"}));
    database.sql("INSERT INTO t SELECT generate_series(0, 100)");
    let ids: Vec<Value> = loop {
        let message = client.next();
        if message["type"] == "tx" {
            break message["changes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| c["id"].clone())
                .collect();
        }
    };
    assert_eq!(ids.len(), 100);
    assert!(!ids.contains(&json!("7")));
}

#[test]
fn a_message_that_is_too_big_closes_the_connection() {
    let (_database, walcast) = serve();
    let mut client = walcast.connect();
    client.send(&json!({"type": "ping", "ref": "x".repeat(100_000)}));
    let End::Closed(code, _) = client.end() else {
        panic!("lost")
    };
    assert_eq!(code, 1009);
}

#[test]
fn a_client_that_answers_no_ping_is_given_up() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database)
        .flag("--ping-interval", "200ms")
        .flag("--pong-timeout", "800ms");
    let walcast = setup.start();
    // One that answers stays.
    let mut alive = walcast.connect();
    alive.subscribe_live(json!({"id": "a", "table": "t"}));
    let mut dead = walcast.connect();
    let done = Arc::new(AtomicBool::new(false));
    let watch = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while !done.load(Ordering::Relaxed) {
                alive.next_by(std::time::Instant::now() + Duration::from_millis(50));
            }
            alive
        }
    });
    // It does not read, so it does not answer.
    eventually("one is given up", || {
        (walcast.metric(r#"connections_closed_total{code="4002"}"#) > 0.0).then_some(())
    });
    done.store(true, Ordering::Relaxed);
    let End::Closed(code, _) = dead.end() else {
        panic!("lost")
    };
    assert_eq!(code, 4002);
    let mut alive = watch.join().unwrap();
    database.sql("INSERT INTO t VALUES (1)");
    assert_eq!(alive.change()["row"]["id"], 1);
}

#[test]
fn a_client_that_reads_slowly_is_not_taken_for_one_that_is_dead() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database)
        .flag("--ping-interval", "300ms")
        .flag("--pong-timeout", "2s");
    let walcast = setup.start();
    let proxy = Proxy::to_walcast(setup.address());
    let mut client = crate::support::Client::connect(proxy.address());
    client.subscribe_live(json!({"id": "a", "table": "t", "ops": ["insert"]}));
    proxy.throttle(400_000);
    database.sql("INSERT INTO t SELECT g, 1, repeat('x', 400) FROM generate_series(1, 5000) g");
    let mut count = 0;
    while count < 5000 {
        count += client.expect("tx")["changes"].as_array().unwrap().len();
    }
    assert_eq!(walcast.metric(r#"connections_closed_total{code="4002"}"#), 0.0);
}

#[test]
fn clients_that_resume_beyond_the_head_share_the_databases_answer() {
    let database = Database::new(SCHEMA);
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let listener = Box::new(move |connection: usize, _, _: &mut [u8]| {
        counted.fetch_max(connection, Ordering::Relaxed);
    });
    let proxy = Proxy::listening_in(&database, listener);
    let walcast = Setup::new(&database).by(proxy.url(&database)).start();
    let mut clients: Vec<_> = (0..40).map(|_| walcast.connect()).collect();
    let before = connections.load(Ordering::Relaxed);
    let subscribe = json!({"type": "subscribe", "id": "a", "table": "t", "from": "FFFF/0"});
    for client in &mut clients {
        client.send(&subscribe);
    }
    for client in &mut clients {
        assert_eq!(client.error()["code"], "resume_invalid");
    }
    let made = connections.load(Ordering::Relaxed) - before;
    assert!(made < 20, "{made} connections for 40 questions");
}

#[test]
fn what_only_the_database_knows_is_refused_for_now_while_it_is_away() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    let beyond = json!({"id": "a", "table": "t", "from": "FFFF/0"});
    assert_eq!(client.subscribe_refused(beyond.clone())["code"], "resume_invalid");
    database.server().stop(walcast::cluster::Shutdown::Fast).unwrap();
    for subscribe in [beyond.clone(), json!({"id": "a", "table": "never_seen"})] {
        eventually("the database cannot be asked", || {
            let error = client.subscribe_refused(subscribe.clone());
            let words = error["message"].as_str().unwrap();
            let is_told = error["code"] == "internal" && words.contains("try again later");
            // A number, under which the log has the rest: hosts, roles and positions are the operator's.
            assert!(!is_told || words.contains("logged under"), "{words}");
            for inner in ["postgres", "/tmp", "socket", "refused"] {
                assert!(!is_told || !words.contains(inner), "{words}");
            }
            is_told.then_some(())
        });
    }
    database.server().resume().unwrap();
    assert_eq!(client.subscribe_refused(beyond)["code"], "resume_invalid");
}

#[test]
fn a_position_older_than_the_journal_is_expired_and_says_from_where_one_can_resume() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database)
        .flag("--segment-bytes", "1MiB")
        .flag("--retention-bytes", "2MiB");
    let walcast = setup.start();
    let mut client = walcast.connect();
    let start = client.hello["position"].clone();
    client.subscribe(json!({"id": "a", "table": "t", "from": start}));
    client.unsubscribe("a");
    eventually("the oldest history is removed", || {
        database.sql(
            "INSERT INTO t SELECT g, 1, repeat('x', 500) FROM generate_series(1, 2000) g; DELETE FROM t",
        );
        let earliest = walcast.connect().hello["earliest"].clone();
        (At::read(&earliest) > At::read(&start)).then_some(())
    });
    let error = client.subscribe_refused(json!({"id": "a", "table": "t", "from": start}));
    assert_eq!(error["code"], "resume_expired");
    let earliest = error["earliest"].clone();
    assert!(At::read(&earliest) > At::read(&start));
    assert_eq!(
        client.subscribe(json!({"id": "a", "table": "t", "from": earliest}))["position"],
        earliest
    );
}

#[test]
fn no_client_is_let_in_before_there_is_anything_to_serve() {
    let database = Database::new(SCHEMA);
    let first = Setup::new(&database);
    let _first = first.start();
    // A second one on the same slot waits for its turn, and says so.
    let second = Setup::new(&database);
    let second = second.start_unready();
    let reason = eventually("it says why it is not ready", || {
        second.ready().err().filter(|reason| reason.contains("slot"))
    });
    assert!(reason.starts_with("not ready"), "{reason}");
    let refused = second.try_connect("/v1/stream", &[]).err().unwrap();
    assert_eq!(refused.status, 503);
    // The reason is the operator's: it names processes, hosts and roles.
    assert_eq!(refused.body, "not ready: try again later\n");
    assert_eq!(second.get("/health/live").0, 200);
}

#[test]
fn a_client_that_asks_for_more_than_is_answered_is_not_read_on() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    let walcast = Setup::new(&database).start();
    let client = walcast.connect();
    let line = client.takes_little();
    let before = walcast.resident_bytes();
    // Nobody answers what each subscription asks of the database.
    database.server().signal(Signal::STOP).unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let flood = std::thread::spawn({
        let sent = Arc::clone(&sent);
        move || {
            let mut client = client;
            let predicate = format!("note = '{}'", "x".repeat(15_000));
            let mut send = |message| client.try_send(&message);
            for number in 0.. {
                let id = number.to_string();
                let subscribe =
                    json!({"type": "subscribe", "id": id, "table": format!("t{number}"), "where": predicate});
                if !send(subscribe) || !send(json!({"type": "unsubscribe", "id": id})) {
                    return;
                }
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    // It gets stuck: the socket's buffers take so much and no more.
    let mut last = usize::MAX;
    let mut same = 0;
    eventually("nothing more is taken", || {
        let now = sent.load(Ordering::Relaxed);
        same = if std::mem::replace(&mut last, now) == now {
            same + 1
        } else {
            0
        };
        (now > 0 && same > 50).then_some(())
    });
    let grown = walcast.resident_bytes().saturating_sub(before);
    assert!(grown < 30 << 20, "grew by {grown} bytes");
    database.server().signal(Signal::CONT).unwrap();
    drop(walcast);
    // It fails where walcast's end has cut the line already.
    drop(line.shutdown(Shutdown::Both));
    flood.join().unwrap();
}

#[test]
fn a_table_that_was_just_made_or_renamed_is_known_to_the_next_who_asks() {
    let database = Database::new("CREATE PUBLICATION pub FOR ALL TABLES");
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    // A client that asks too early does not keep others from being told what is there a moment later.
    for (table, sql) in [
        ("made", "CREATE TABLE made (id int PRIMARY KEY)"),
        ("renamed", "ALTER TABLE made RENAME TO renamed"),
    ] {
        let refused = client.subscribe_refused(json!({"id": "early", "table": table}));
        assert_eq!(refused["code"], "unknown_table", "{refused}");
        database.sql(sql);
        client.subscribe_live(json!({"id": table, "table": table}));
    }
}
