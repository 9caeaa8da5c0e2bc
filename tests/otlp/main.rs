//! Traces over OTLP, of a program that was built with the feature: `make test-otlp`.

// Clippy allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod collector;
// The support of the integration tests.
#[allow(unreachable_pub)]
#[path = "../it/support/mod.rs"]
mod support;

use std::net::TcpListener;
use std::time::Instant;

use serde_json::json;

use collector::{Came, Collector, Span};
use support::guarded::Guarded;
use support::{Database, Setup, eventually};

/// A text that no byte of a trace may hold, in a row, a parameter, an id, a claim and a subject.
const MARKER: &str = "zebra7391";

const TABLE: &str =
    "CREATE TABLE orders (id int PRIMARY KEY, note text); CREATE PUBLICATION pub FOR TABLE orders";

fn traced(setup: Setup, endpoint: &str) -> Setup {
    setup
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .variable("OTEL_BSP_SCHEDULE_DELAY", "20")
}

/// The names from the root of its trace to a span, as a path.
fn path(came: &Came, span: &Span) -> String {
    match came.spans.iter().find(|other| other.id == span.parent) {
        Some(parent) => {
            assert_eq!(parent.trace, span.trace);
            format!("{} / {}", path(came, parent), span.name)
        }
        None => span.name.clone(),
    }
}

#[test]
fn a_subscription_and_a_transaction_are_traces_that_show_no_value() {
    let collector = Collector::new();
    let guarded = Guarded::new(&format!(
        "{TABLE}; ALTER TABLE orders REPLICA IDENTITY FULL; INSERT INTO orders VALUES (1, '{MARKER}')"
    ));
    let policy = "[[policy]]\ntables = [\"public.*\"]\nwhere = \"note = claim('secret')\"";
    let setup = guarded.setup("", policy);
    let walcast = traced(setup, &collector.url()).start();
    let mut client = guarded.client(&walcast, MARKER, &json!({"secret": MARKER}));
    let rows = client.snapshot(json!({
        "id": MARKER, "table": "orders", "where": "note = $1", "params": [MARKER],
    }));
    assert_eq!(rows, [json!({"id": 1, "note": MARKER})]);
    // A refusal, whose words repeat the client's.
    client.subscribe_refused(json!({"id": "other", "table": MARKER}));
    guarded
        .database
        .sql(&format!("INSERT INTO orders VALUES (2, '{MARKER}')"));
    assert_eq!(client.change()["row"], json!({"id": 2, "note": MARKER}));
    // Also what has not been sent by then.
    assert!(walcast.stop().success());

    let came = collector.came();
    let text = String::from_utf8_lossy(&came.bytes);
    let token = guarded.token_with(MARKER, &json!({"secret": MARKER}));
    for secret in [MARKER, token.split('.').next().unwrap()] {
        assert!(!text.contains(secret), "{:#?}", came.spans);
    }
    assert_eq!(came.program["service.name"], "walcast");
    let mut paths: Vec<String> = came.spans.iter().map(|span| path(&came, span)).collect();
    paths.sort();
    paths.dedup();
    for expected in [
        "handshake",
        "handshake / handshake token",
        "handshake / session",
        "replication",
        "replication / catalog describe",
        "replication / replication connect",
        "source open",
        "source open / identify",
        "source open / journal open",
        "source open / preflight",
        "source open / tables read",
        "source open / tables read / catalog tables",
        "source open / visibility",
        "subscribe",
        "subscribe / subscribe check",
        "subscribe / subscribe check / catalog question",
        "subscribe / subscribe join",
        "subscribe / subscribe replay",
        "subscribe / subscribe snapshot",
        "subscribe / subscribe snapshot / snapshot",
        "subscribe / subscribe snapshot / snapshot / snapshot connect",
        "subscribe / subscribe snapshot / snapshot / snapshot read",
        "subscribe / subscribe snapshot / snapshot / snapshot read / snapshot rows",
        "subscribe / subscribe snapshot / snapshot / snapshot read / snapshot take",
        "subscribe / subscribe snapshot / snapshot / snapshot wait",
        "subscribe / subscribe wait",
        "transaction",
        "transaction / transaction journal",
        "transaction / transaction receive",
        "transaction / transaction route",
        "transaction / transaction send",
    ] {
        assert!(
            paths.iter().any(|path| path == expected),
            "{expected}: {paths:#?}"
        );
    }
    let find = |name: &str, is_it: &dyn Fn(&Span) -> bool| {
        let mut spans = came.spans.iter().filter(|span| span.name == name && is_it(span));
        spans.next().unwrap_or_else(|| panic!("{name}: {paths:#?}"))
    };
    let live = find("subscribe", &|span| !span.failed);
    assert_eq!(live.attributes["db.collection.name"], "public.orders");
    assert_eq!(live.attributes["walcast.opening"], "snapshot");
    let session = find("session", &|_| true);
    assert_eq!(live.links, std::slice::from_ref(&session.id));
    assert_eq!(
        live.attributes["walcast.connection"],
        session.attributes["walcast.connection"]
    );
    assert_eq!(find("snapshot rows", &|_| true).attributes["walcast.rows"], "1");
    let refused = find("subscribe", &|span| span.failed);
    assert_eq!(refused.attributes["error.type"], "unknown_table");
    let handshake = find("handshake", &|_| true);
    assert_eq!(handshake.attributes["http.response.status_code"], "101");
    for span in &came.spans {
        assert!(span.began <= span.ended, "{span:?}");
    }
}

#[test]
fn a_collector_that_is_dead_or_silent_holds_up_nothing() {
    let database = Database::new(TABLE);
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let silent = Collector::silent();
    for (endpoint, reason) in [(dead, "unsent"), (silent.url(), "queue")] {
        let slot = format!("{}_{reason}", database.name);
        let setup = traced(Setup::new(&database).on_slot(&slot), &endpoint);
        let began = Instant::now();
        let walcast = setup.variable("OTEL_BSP_MAX_QUEUE_SIZE", "8").start();
        let dropped = format!("trace_spans_dropped_total{{reason=\"{reason}\"}}");
        // Many more spans than the queue has places for, while all is served.
        let mut client = walcast.connect();
        for _ in 0..50 {
            client.subscribe_live(json!({"id": "s", "table": "orders"}));
            client.unsubscribe("s");
        }
        eventually("spans are dropped", || {
            (walcast.metric(&dropped) > 0.0).then_some(())
        });
        client.subscribe_live(json!({"id": "s", "table": "orders"}));
        database.sql("INSERT INTO orders VALUES (1, 'x')");
        assert_eq!(client.change()["row"]["id"], json!(1));
        database.sql("DELETE FROM orders");
        assert_eq!(walcast.metric("trace_spans_sent_total"), 0.0);
        if reason == "unsent" {
            walcast.logs("\"traces_dropped\"");
            walcast.logs("the collector cannot be reached: Connection refused");
            // Once a minute, however often it fails.
            let log = walcast.log();
            let refusals = log.matches("cannot be reached").count() as u64;
            let minutes = 1 + began.elapsed().as_secs() / 60;
            assert!((1..=minutes).contains(&refusals), "{log}");
        }
        assert!(walcast.stop().success());
        database.drop_slot(&slot);
    }
}

#[test]
fn traces_that_cannot_be_sent_as_the_environment_asks_are_refused_in_words() {
    let database = Database::new(TABLE);
    for (variable, value, words) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "by http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "always_on"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "collector:4318",
            "no address",
        ),
    ] {
        let setup = traced(Setup::new(&database), "http://127.0.0.1:1").variable(variable, value);
        let said = support::refused(setup.command());
        assert!(said.contains(variable) && said.contains(words), "{said}");
    }
}
