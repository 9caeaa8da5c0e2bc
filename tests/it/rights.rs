//! Snapshots that the database refuses or bounds: by which code, in which words, and that nobody else waits for them.

use std::time::Instant;

use serde_json::{Value, json};
use walcast::postgres::Connection;

use crate::support::{Client, Database, Incoming, Setup, Walcast, eventually, eventually_equal};

/// A walcast whose role has the right to replication and no other.
fn limited(database: &Database) -> (String, Walcast, Setup) {
    let setup = Setup::new(database).by(database.limited_role());
    (format!("limited_{}", database.name), setup.start(), setup)
}

/// Asks for rows that are refused for good, does what the message says, and asks again.
fn cured(database: &Database, client: &mut Client, subscribe: &Value) -> Vec<Value> {
    let mut ask = subscribe.clone();
    ask["snapshot"] = json!(true);
    let refusal = client.subscribe_refused(ask);
    assert_eq!(refusal["code"], "database_refused", "{refusal}");
    let words = refusal["message"].as_str().unwrap();
    assert!(!words.contains("try again"), "{words}");
    let (_, cure) = words.split_once(": ").unwrap();
    database.sql(cure);
    client.snapshot(subscribe.clone())
}

#[test]
fn a_role_that_may_read_what_is_published_gets_it_and_no_table_lock_is_asked_for() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, name text, secret text); INSERT INTO t VALUES (1, 'a', 'x');
         CREATE TABLE parted (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
         CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1); INSERT INTO parted VALUES (7, 1)",
    );
    let has_lists = database.version() >= 150_000;
    database.sql(if has_lists {
        "CREATE PUBLICATION pub FOR TABLE t (id, name), parted WITH (publish_via_partition_root)"
    } else {
        "CREATE PUBLICATION pub FOR TABLE t, parted WITH (publish_via_partition_root)"
    });
    let (role, walcast, _setup) = limited(&database);
    database.sql(&format!(
        "GRANT SELECT (id, name) ON t TO {role}; GRANT SELECT ON parted TO {role}"
    ));
    let mut client = walcast.connect();
    let found = client.snapshot(json!({"id": "1", "table": "t", "columns": ["id", "name"]}));
    assert_eq!(found, [json!({"id": 1, "name": "a"})]);
    assert_eq!(
        client.snapshot(json!({"id": "2", "table": "parted"})),
        [json!({"id": 7, "k": 1})]
    );
    if has_lists {
        assert_eq!(
            client.snapshot(json!({"id": "3", "table": "t"})),
            [json!({"id": 1, "name": "a"})]
        );
    }
}

#[test]
fn what_the_role_may_not_read_is_refused_with_what_mends_it() {
    let database = Database::new(
        r#"CREATE TABLE plain (id int PRIMARY KEY, v text); INSERT INTO plain VALUES (1, 'x');
         CREATE TABLE part (id int PRIMARY KEY, "Odd name" text, v text); INSERT INTO part VALUES (1, 'y', 'z');
         CREATE SCHEMA "Other"; CREATE TABLE "Other"."T" (id int PRIMARY KEY); INSERT INTO "Other"."T" VALUES (1);
         CREATE TABLE hides (id int PRIMARY KEY); INSERT INTO hides VALUES (1); ALTER TABLE hides ENABLE ROW LEVEL SECURITY;
         CREATE PUBLICATION pub FOR ALL TABLES"#,
    );
    let (role, walcast, _setup) = limited(&database);
    database.sql(&format!(
        "GRANT SELECT (id) ON part TO {role}; GRANT SELECT ON hides TO {role}"
    ));
    let mut client = walcast.connect();
    for (id, table, row) in [
        ("1", "plain", json!({"id": 1, "v": "x"})),
        ("2", "part", json!({"id": 1, "Odd name": "y", "v": "z"})),
        ("3", r#""Other"."T""#, json!({"id": 1})),
        ("4", "hides", json!({"id": 1})),
    ] {
        let found = cured(&database, &mut client, &json!({"id": id, "table": table}));
        assert_eq!(found, [row], "{table}");
    }
    eventually_equal("it is counted", 4.0, || {
        walcast.metric(r#"errors_total{code="database_refused"}"#)
    });
}

#[test]
fn a_character_that_the_database_does_not_have_is_the_predicates_fault() {
    let database = Database::encoded(
        "LATIN1",
        "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL;
         INSERT INTO t VALUES (1, U&'\\00e9'); CREATE PUBLICATION pub FOR TABLE t",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    for snapshot in [true, false] {
        for query in [
            json!({"where": "v = $1", "params": ["€"]}),
            json!({"where": "v = '€'"}),
            json!({"where": "v IN ($1, 'x')", "params": ["5 €"]}),
        ] {
            let mut ask = query.clone();
            ask["id"] = json!("a");
            ask["table"] = json!("t");
            ask["snapshot"] = json!(snapshot);
            let refusal = client.subscribe_refused(ask);
            assert_eq!(refusal["code"], "bad_predicate", "{query}: {refusal}");
        }
    }
    let found = client.snapshot(json!({"id": "b", "table": "t", "where": "v = $1", "params": ["é"]}));
    assert_eq!(found, [json!({"id": 1, "v": "é"})]);
}

#[test]
fn a_predicate_that_fails_for_a_row_is_not_tried_again_and_no_row_is_told_of() {
    let database = Database::new(
        r#"CREATE TABLE t (id int PRIMARY KEY, j json); ALTER TABLE t REPLICA IDENTITY FULL;
         INSERT INTO t VALUES (1, '{"a": "ROWSECRET\u0000"}'); CREATE PUBLICATION pub FOR TABLE t"#,
    );
    let walcast = Setup::new(&database).flag("--log", "walcast=debug").start();
    let mut client = walcast.connect();
    let ask = json!({"id": "a", "table": "t", "where": "j->>'a' = 'x'", "snapshot": true});
    let refusal = client.subscribe_refused(ask);
    assert_eq!(refusal["code"], "bad_predicate", "{refusal}");
    assert!(
        refusal["message"].as_str().unwrap().contains("22P05"),
        "{refusal}"
    );
    assert!(!refusal.to_string().contains("ROWSECRET") && !walcast.log().contains("ROWSECRET"));
}

/// A table with one row, and a view of time: conditions that take long for each of its rows.
const SLOW: &str = "
    CREATE TABLE slow (id int PRIMARY KEY, t text); ALTER TABLE slow REPLICA IDENTITY FULL;
    INSERT INTO slow SELECT g, repeat('ab', 400) FROM generate_series(1, 20000) g;
    CREATE TABLE quick (id int PRIMARY KEY); INSERT INTO quick VALUES (1);
    CREATE PUBLICATION pub FOR TABLE slow, quick;
";

/// A query of `slow` that nobody else asks for.
fn slow(number: usize) -> Value {
    json!({"type": "subscribe", "id": format!("slow{number}"), "table": "slow", "where": format!("id > {number}"),
           "snapshot": true})
}

/// Locks `slow`, so that it is as slow as can be: nobody is answered until the test lets them.
fn lock_slow(database: &Database) -> Connection {
    let mut connection = database.connect();
    connection
        .query("BEGIN; LOCK TABLE slow IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    connection
}

#[test]
fn one_client_that_asks_for_slow_rows_does_not_hold_up_another() {
    let database = Database::new(SLOW);
    let walcast = Setup::new(&database).start();
    let mut locked = lock_slow(&database);
    let mut greedy = walcast.connect();
    for number in 0..12 {
        greedy.send(&slow(number));
    }
    // All places but the last.
    eventually_equal("its turns", 3.0, || walcast.metric("snapshots_reading"));
    eventually_equal("the others wait", 9.0, || walcast.metric("snapshots_waiting"));
    for number in 0..5 {
        let mut client = walcast.connect();
        assert_eq!(
            client.snapshot(json!({"id": "q", "table": "quick"})),
            [json!({"id": 1})],
            "{number}"
        );
    }
    // What it asked for alone is not what it waits for behind its own: the same query of another has a turn of its own.
    let mut other = walcast.connect();
    other.send(&slow(11));
    eventually_equal("the last place", 4.0, || walcast.metric("snapshots_reading"));
    eventually_equal("it is counted", 1.0, || walcast.metric("snapshots_shared_total"));
    // Nothing is read for a client that has left, and it takes no session with it.
    drop((greedy, other));
    eventually_equal("nothing waits", 0.0, || walcast.metric("snapshots_reading"));
    locked.query("COMMIT").unwrap();
    let mut client = walcast.connect();
    assert_eq!(
        client.snapshot(json!({"id": "q", "table": "quick"})),
        [json!({"id": 1})]
    );
    eventually_equal("nothing waits", 0.0, || walcast.metric("snapshots_waiting"));
    assert!(walcast.metric("snapshots_total") < 20.0);
}

#[test]
fn many_clients_that_ask_for_slow_rows_do_not_hold_up_another() {
    let database = Database::new(SLOW);
    let setup = Setup::new(&database)
        .flag("--max-snapshots", "2")
        .flag("--snapshot-timeout", "1h");
    let walcast = setup.start();
    let mut locked = lock_slow(&database);
    // One reading each, so that none of them asks for much.
    let mut first = walcast.connect();
    first.send(&slow(0));
    eventually_equal("a place", 1.0, || walcast.metric("snapshots_reading"));
    let mut last = walcast.connect();
    last.send(&slow(1));
    eventually_equal("the other", 2.0, || walcast.metric("snapshots_reading"));
    // The one that came last gives way, and is told to come again.
    let mut client = walcast.connect();
    assert_eq!(
        client.snapshot(json!({"id": "q", "table": "quick"})),
        [json!({"id": 1})]
    );
    let refusal = last.error();
    assert_eq!(
        (&refusal["code"], &refusal["limit"], &refusal["id"]),
        (&json!("limit_exceeded"), &json!("snapshots"), &json!("slow1")),
        "{refusal}"
    );
    // While nobody waits it takes as long as it takes.
    last.send(&slow(1));
    eventually_equal("both again", 2.0, || walcast.metric("snapshots_reading"));
    locked.query("COMMIT").unwrap();
    for client in [&mut first, &mut last] {
        client.expect("subscribed");
        while client.next()["type"] != "live" {}
    }
}

#[test]
fn readings_whose_askers_left_are_dropped_from_the_queue() {
    let database = Database::new(SLOW);
    let walcast = Setup::new(&database).start();
    let mut locked = lock_slow(&database);
    let mut holding = walcast.connect();
    (0..3).for_each(|number| holding.send(&slow(number)));
    eventually_equal("places are taken", 3.0, || walcast.metric("snapshots_reading"));
    let mut last = walcast.connect();
    last.send(&slow(3));
    eventually_equal("all places are taken", 4.0, || {
        walcast.metric("snapshots_reading")
    });
    for round in 0..5 {
        let mut leaves = walcast.connect();
        (0..50).for_each(|number| leaves.send(&slow(1000 * (round + 1) + number)));
        eventually("they wait", || {
            (walcast.metric("snapshots_waiting") >= 50.0).then_some(())
        });
        drop(leaves);
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert_eq!(database.value(waiting), "4");
    locked.query("COMMIT").unwrap();
    drop((holding, last));
    // None of the 250 is read.
    let mut client = walcast.connect();
    assert_eq!(
        client.snapshot(json!({"id": "q", "table": "quick"})),
        [json!({"id": 1})]
    );
    eventually_equal("nothing is read", 0.0, || walcast.metric("snapshots_reading"));
    eventually_equal("nothing waits", 0.0, || walcast.metric("snapshots_waiting"));
}

#[test]
fn a_reading_that_takes_too_long_is_cancelled_at_the_server() {
    let database = Database::new(SLOW);
    let setup = Setup::new(&database).flag("--snapshot-timeout", "1s");
    let walcast = setup.start();
    let mut locked = lock_slow(&database);
    let mut client = walcast.connect();
    client.send(&slow(0));
    let refusal = client.error();
    assert_eq!(
        (&refusal["code"], &refusal["limit"], &refusal["id"]),
        (
            &json!("limit_exceeded"),
            &json!("snapshot_timeout"),
            &json!("slow0")
        ),
        "{refusal}"
    );
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'",
        database.name
    );
    eventually_equal("it is cancelled", "0".to_owned(), || database.value(&waiting));
    locked.query("COMMIT").unwrap();
    assert_eq!(
        client.snapshot(json!({"id": "q", "table": "quick"})),
        [json!({"id": 1})]
    );
}

#[test]
fn a_client_that_takes_its_rows_slowly_holds_no_transaction_for_long() {
    let database = Database::new(
        "CREATE TABLE big (id int PRIMARY KEY, t text); ALTER TABLE big ALTER t SET STORAGE PLAIN;
         INSERT INTO big SELECT g, repeat('x', 2000) FROM generate_series(1, 30000) g;
         CREATE PUBLICATION pub FOR TABLE big",
    );
    let setup = Setup::new(&database)
        .flag("--max-snapshot-bytes", "1MiB")
        .flag("--snapshot-timeout", "2s");
    let walcast = setup.start();
    let mut sips = walcast.connect();
    let _little = sips.takes_little();
    sips.send(&json!({"type": "subscribe", "id": "s", "table": "big", "snapshot": true}));
    eventually_equal("it is read", 1.0, || walcast.metric("snapshots_reading"));
    // The reading waits for its client, but not for ever: the lock of its transaction is gone.
    eventually_equal("it is over", 0.0, || walcast.metric("snapshots_reading"));
    database.sql("SET lock_timeout = '5s'; ALTER TABLE big ADD more int");
    let (mut rows, mut refusal) = (0, None);
    while refusal.is_none() {
        let message = sips.next();
        rows += message["rows"].as_array().map_or(0, Vec::len);
        refusal = Some(message).filter(|message| message["type"] == "error");
    }
    let refusal = refusal.unwrap();
    assert_eq!(
        (&refusal["code"], &refusal["limit"], &refusal["id"]),
        (&json!("limit_exceeded"), &json!("snapshot_timeout"), &json!("s")),
        "{refusal}"
    );
    assert!(rows < 30_000);
}

#[test]
fn operators_that_others_made_where_citext_is_are_never_run() {
    let database = Database::new(
        "CREATE EXTENSION citext; CREATE DOMAIN nick AS citext;
         CREATE TABLE t (id int PRIMARY KEY, who citext, alias nick, note varchar(20), tags citext[]);
         ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t;
         INSERT INTO t VALUES (1, 'a', 'a', 'a', '{a}'), (2, 'B', 'B', 'B', '{B}');
         DO $$ DECLARE ty text; op text; BEGIN
             FOREACH ty IN ARRAY ARRAY['varchar', 'nick'] LOOP
                 EXECUTE format('CREATE FUNCTION planted(%1$s, %1$s) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
                     $f$ BEGIN RAISE EXCEPTION ''planted''; END $f$', ty);
                 FOREACH op IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '~~', '!~~', '~~*', '!~~*'] LOOP
                     EXECUTE format('CREATE OPERATOR %s (FUNCTION = planted, LEFTARG = %s, RIGHTARG = %2$s)', op, ty);
                 END LOOP;
             END LOOP; END $$",
    );
    let mut anybody = database.connect();
    for condition in ["note = 'a'", "alias = 'a'"] {
        let planted = anybody.query(&format!("SELECT FROM t WHERE {condition}"));
        assert!(
            planted.unwrap_err().to_string().contains("planted"),
            "{condition}"
        );
    }
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    for (number, (condition, parameters)) in [
        ("note = 'a'", json!([])),
        ("note = $1", json!(["a"])),
        ("note IN ('a', 'x')", json!([])),
        ("note NOT IN ('B', 'x')", json!([])),
        ("note LIKE 'a%'", json!([])),
        ("note ILIKE 'A%'", json!([])),
        ("note IS DISTINCT FROM 'B'", json!([])),
        ("note = who AND id = 1", json!([])),
        ("who = 'A'", json!([])),
        ("who = $1 AND alias = $1", json!(["A"])),
        ("who <> 'b'", json!([])),
        ("who = alias AND who = 'A'", json!([])),
        ("who IN ('A', $1)", json!(["x"])),
        ("who NOT IN ('b', 'x')", json!([])),
        ("who IN (note, 'A') AND id = 1", json!([])),
        ("who LIKE 'A!%%' ESCAPE '!' OR who NOT LIKE 'b%'", json!([])),
        ("alias = 'A'", json!([])),
        ("alias LIKE 'A%'", json!([])),
        ("alias NOT ILIKE 'b%'", json!([])),
        ("alias IS NOT DISTINCT FROM $1", json!(["A"])),
        ("who IS DISTINCT FROM 'b'", json!([])),
        ("who = ANY ($1)", json!([["A", "Z"]])),
        ("'A' = ANY (tags)", json!([])),
    ]
    .into_iter()
    .enumerate()
    {
        let rows = client.snapshot(json!({
            "id": number.to_string(), "table": "t", "where": condition, "params": parameters, "columns": ["id"],
        }));
        assert_eq!(rows, [json!({"id": 1})], "{condition}");
    }
}

#[test]
fn the_administrators_bound_on_statements_holds_for_snapshots() {
    let database = Database::new(SLOW);
    database.sql(&format!(
        "ALTER DATABASE {} SET statement_timeout = '300ms'",
        database.name
    ));
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    let patterns: Vec<String> = (0..60).map(|n| format!("t LIKE '%a{n}b%c'")).collect();
    let takes_long = json!({"type": "subscribe", "id": "long", "table": "slow", "where": patterns.join(" OR "), "snapshot": true});
    client.send(&takes_long);
    let refusal = loop {
        match client.next_by(Instant::now() + crate::support::DEADLINE) {
            Incoming::Message(message) if message["type"] == "error" => break message,
            Incoming::Message(_) => {}
            end => panic!("{end:?}"),
        }
    };
    assert_eq!(
        (&refusal["code"], &refusal["limit"]),
        (&json!("limit_exceeded"), &json!("snapshot_timeout")),
        "{refusal}"
    );
    assert_eq!(
        client.snapshot(json!({"id": "q", "table": "quick"})),
        [json!({"id": 1})]
    );
}

#[test]
fn a_table_that_is_rewritten_while_its_snapshot_is_taken_is_not_taken_for_empty() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g, g FROM generate_series(1, 1000) g;
         CREATE TABLE parted (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
         CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
         INSERT INTO parted SELECT g, 1 FROM generate_series(1, 500) g;
         CREATE PUBLICATION pub FOR TABLE t, parted WITH (publish_via_partition_root)",
    );
    let walcast = Setup::new(&database).start();
    for (table, rewritten, count) in [("t", "t", 1000), ("parted", "parted_1", 500)] {
        for round in 0..3 {
            let mut locked = database.connect();
            locked
                .query(&format!("BEGIN; LOCK TABLE {rewritten} IN ACCESS EXCLUSIVE MODE"))
                .unwrap();
            let mut client = walcast.connect();
            let name = format!("{table}{round}");
            client.send(&json!({"type": "subscribe", "id": name, "table": table, "snapshot": true}));
            let waiting = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'",
                database.name
            );
            eventually_equal("it waits for the table", "1".to_owned(), || {
                database.value(&waiting)
            });
            // VACUUM FULL does as much, but not inside a transaction.
            locked
                .query(&format!("CLUSTER {rewritten} USING {rewritten}_pkey; COMMIT"))
                .unwrap();
            client.expect("subscribed");
            let mut found = 0;
            loop {
                let message = client.next();
                match message["type"].as_str().unwrap() {
                    "snapshot" => found += message["rows"].as_array().unwrap().len(),
                    "live" => break,
                    other => panic!("{other}: {message}"),
                }
            }
            assert_eq!(found, count, "{table}");
        }
    }
}
