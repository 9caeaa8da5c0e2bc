//! Callers' identity: tokens in the header and in the first message, their refresh and their end, and the keys to verify them.

mod keys;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::guarded::{Guarded, auth};
use crate::support::issuer::{SigningKey, claims, seconds_from_now};
use crate::support::{Client, End, Incoming, Refused, Walcast, eventually_equal};

/// The policies of these tests.
const EVERYTHING: &str = "[[policy]]\ntables = [\"public.*\"]\n";

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION pub FOR TABLE t";

fn guarded() -> Guarded {
    Guarded::new(TABLE)
}

/// A client that has said nothing yet, and was told nothing.
fn open(walcast: &Walcast) -> Client {
    Client::open(walcast.listen(), "/v1/stream", &[]).unwrap()
}

fn with_header(walcast: &Walcast, value: &str) -> Result<Client, Refused> {
    walcast.try_connect("/v1/stream", &[("authorization", value)])
}

fn closed(end: End) -> u16 {
    match end {
        End::Closed(code, _) => code,
        End::Lost => panic!("it was lost"),
    }
}

/// The error that a client is sent and the code that it is closed by, for this first message.
fn refused(walcast: &Walcast, first: &Value) -> (String, u16) {
    let mut client = open(walcast);
    client.send(first);
    let error = client.error();
    (error["code"].as_str().unwrap().to_owned(), closed(client.end()))
}

#[test]
fn nothing_is_told_before_a_good_token() {
    let guarded = guarded();
    let walcast = guarded.setup("", EVERYTHING).start();
    let mut client = open(&walcast);
    for request in [
        json!({"type": "subscribe", "id": "a", "table": "t"}),
        json!({"type": "ping", "ref": 1}),
        json!({"type": "nonsense"}),
    ] {
        client.send(&request);
        let error = client.next_of_any_type();
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("error"), &json!("unauthenticated")),
            "{error}"
        );
        assert_eq!(error["id"], Value::Null);
    }
    client.send(&auth(&guarded.token("ann", "customer")));
    let hello = client.next_of_any_type();
    assert_eq!(hello["type"], "hello", "{hello}");
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    guarded.database.sql("INSERT INTO t VALUES (1, 'x')");
    assert_eq!(client.change()["row"], json!({"id": 1, "v": "x"}));
}

#[test]
fn a_token_in_the_header_is_good_or_the_handshake_is_refused() {
    let guarded = guarded();
    let walcast = guarded.setup("", EVERYTHING).start();
    let good = guarded.token("ann", "customer");
    assert!(with_header(&walcast, &format!("Bearer {good}")).is_ok());
    assert!(with_header(&walcast, &format!("bearer {good}")).is_ok());
    let expired = guarded
        .key
        .token(&json!({"sub": "ann", "exp": seconds_from_now(-1)}));
    let foreign = SigningKey::new("one").token(&claims("ann", "customer"));
    for value in [
        "Basic YTpi".to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {good} x"),
        format!("Bearer {expired}"),
        format!("Bearer {foreign}"),
        good.clone(),
    ] {
        let refused = with_header(&walcast, &value).err().unwrap();
        assert_eq!(refused.status, 401, "{refused:?}");
        assert!(
            !refused.body.contains("shop") && !refused.body.contains(&good),
            "{refused:?}"
        );
    }
    // In the address it would stand in the logs of every proxy.
    let refused = walcast.try_connect(&format!("/v1/stream?token={good}"), &[]);
    assert_eq!(refused.err().unwrap().status, 400);
}

#[test]
fn a_bad_token_closes_and_an_expired_one_asks_for_another() {
    let guarded = guarded();
    let walcast = guarded.setup("", EVERYTHING).start();
    let unauthenticated = ("unauthenticated".to_owned(), 4500);
    for token in ["", "x", &SigningKey::new("one").token(&claims("ann", "customer"))] {
        assert_eq!(refused(&walcast, &auth(token)), unauthenticated, "{token}");
    }
    let endless = guarded.key.token(&json!({"sub": "ann"}));
    assert_eq!(refused(&walcast, &auth(&endless)), unauthenticated);
    let expired = guarded
        .key
        .token(&json!({"sub": "ann", "exp": seconds_from_now(-1)}));
    assert_eq!(
        refused(&walcast, &auth(&expired)),
        ("token_expired".to_owned(), 4003)
    );
    // Nothing that large is a token.
    let mut client = open(&walcast);
    client.send(&auth(&"x".repeat(9 * 1024)));
    assert_eq!(closed(client.end()), 1009);
    let mut client = open(&walcast);
    for _ in 0..20 {
        client.send(&json!({"type": "ping"}));
    }
    assert_eq!(closed(client.end()), 4500);
}

#[test]
fn whoever_says_nothing_is_closed_in_time() {
    let guarded = guarded();
    let walcast = guarded
        .setup("", EVERYTHING)
        .flag("--auth-timeout", "200ms")
        .start();
    let mut client = open(&walcast);
    let error = client.error();
    assert_eq!(error["code"], "unauthenticated");
    assert_eq!(closed(client.end()), 4500);
}

#[test]
fn the_end_of_a_token_is_announced_and_another_one_goes_on() {
    let guarded = guarded();
    let walcast = guarded.setup("", EVERYTHING).start();
    let short = |seconds| {
        let mut claims = claims("ann", "customer");
        claims["exp"] = seconds_from_now(seconds).into();
        guarded.key.token(&claims)
    };
    let mut client = with_header(&walcast, &format!("Bearer {}", short(4))).unwrap();
    let mut forgetful = with_header(&walcast, &format!("Bearer {}", short(4))).unwrap();
    let expiring = client.expect("token_expiring");
    assert!(expiring["expires"].as_str().unwrap().ends_with('Z'), "{expiring}");
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    client.send(&auth(&guarded.token("ann", "customer")));
    forgetful.expect("token_expiring");
    assert_eq!(forgetful.error()["code"], "token_expired");
    assert_eq!(closed(forgetful.end()), 4003);
    // Its old one is over as well by now.
    guarded.database.sql("INSERT INTO t VALUES (1, 'x')");
    assert_eq!(client.change()["row"]["id"], 1);
}

#[test]
fn what_waits_for_a_client_is_dropped_when_its_token_ends() {
    let guarded = guarded();
    let walcast = guarded.setup("", EVERYTHING).start();
    let mut claims = claims("ann", "customer");
    claims["exp"] = seconds_from_now(3).into();
    let token = guarded.key.token(&claims);
    let mut client = with_header(&walcast, &format!("Bearer {token}")).unwrap();
    client.takes_little();
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    guarded
        .database
        .sql("INSERT INTO t SELECT n, repeat('x', 10000) FROM generate_series(1, 3000) n");
    walcast.logs("a token has expired");
    // It reads what was on its way, which is not nearly all of it.
    let mut rows = 0;
    let until = Instant::now() + Duration::from_secs(30);
    while let Incoming::Message(message) = client.next_by(until) {
        rows += message["changes"].as_array().map_or(0, Vec::len);
    }
    assert!(rows < 2000, "{rows} rows were drained");
}

#[test]
fn another_token_is_of_the_same_subject() {
    let guarded = guarded();
    let walcast = guarded.setup("", EVERYTHING).start();
    let mut client = with_header(&walcast, &format!("Bearer {}", guarded.token("ann", "customer"))).unwrap();
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    client.send(&auth(&guarded.token("bob", "customer")));
    let error = client.error();
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("forbidden"), &Value::Null),
        "{error}"
    );
    // It is still who it was.
    guarded.database.sql("INSERT INTO t VALUES (1, 'x')");
    assert_eq!(client.change()["row"]["id"], 1);
    client.send(&auth("x"));
    assert_eq!(client.error()["code"], "unauthenticated");
    assert_eq!(closed(client.end()), 4500);
}

#[test]
fn an_anonymous_caller_is_greeted_and_may_say_who_it_is_once() {
    let guarded = guarded();
    let walcast = guarded.setup("anonymous_role = \"anon\"", EVERYTHING).start();
    let mut client = walcast.connect();
    assert_eq!(client.hello["type"], "hello");
    client.send(&auth(&guarded.token("ann", "customer")));
    client.send(&auth(&guarded.token("bob", "customer")));
    assert_eq!(client.error()["code"], "forbidden");
    client.send(&auth(&guarded.token("ann", "customer")));
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    // A bad token is no anonymous caller's.
    assert_eq!(with_header(&walcast, "Bearer x").err().unwrap().status, 401);
}

#[test]
fn neither_tokens_nor_subjects_stand_in_the_log() {
    let guarded = guarded();
    let walcast = guarded.setup("", EVERYTHING).start();
    let good = guarded.token("MARKED", "customer");
    let bad = format!("{good}x");
    drop(with_header(&walcast, &format!("Bearer {good}")).unwrap());
    assert!(with_header(&walcast, &format!("Bearer {bad}")).is_err());
    let mut client = open(&walcast);
    client.send(&auth(&good));
    client.expect("hello");
    client.send(&auth(&bad));
    assert_eq!(closed(client.end()), 4500);
    // The first digits of the SHA-256 of MARKED.
    walcast.logs("729a09d7f0dc003d");
    let log = walcast.log();
    let (_, metrics) = walcast.get("/metrics");
    for secret in [
        "MARKED",
        good.split('.').nth(1).unwrap(),
        good.split('.').nth(2).unwrap(),
    ] {
        assert!(!log.contains(secret) && !metrics.contains(secret));
    }
    assert!(
        walcast.metric("walcast_tokens_refused_total{reason=\"signature\"}") >= 1.0
            || metrics.contains("tokens_refused_total")
    );
}

#[test]
fn those_who_send_no_token_take_no_places_of_those_who_have_one() {
    let guarded = guarded();
    let walcast = guarded
        .setup("", EVERYTHING)
        .flag("--max-connections", "8")
        .flag("--max-unauthenticated-connections", "2")
        .start();
    let mut waiting = [open(&walcast), open(&walcast)];
    let refused = Client::open(walcast.listen(), "/v1/stream", &[]).err().unwrap();
    assert!(
        refused.status == 503 && refused.body.contains("without a token"),
        "{refused:?}"
    );
    let bearer = format!("Bearer {}", guarded.token("ann", "customer"));
    let _known: Vec<Client> = (0..4).map(|_| with_header(&walcast, &bearer).unwrap()).collect();
    // One that says who it is leaves its place to another.
    waiting[0].send(&auth(&guarded.token("bob", "customer")));
    assert_eq!(waiting[0].next_of_any_type()["type"], "hello");
    let _next = open(&walcast);
    let reached = "limits_reached_total{limit=\"unauthenticated_connections\"}";
    eventually_equal("it is counted", 1.0, || walcast.metric(reached));
}
