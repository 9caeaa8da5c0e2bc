//! Subscriptions that begin with the rows that are there, and go on without a gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Audience, Client, Database, Follower, Pace, SCHEMA, Setup, Workload, eventually, eventually_equal,
    queries, snapshot_views,
};

pub(super) const PACE: Pace = Pace {
    workers: 3,
    rest: Duration::from_millis(40),
    big: 3,
};

/// All rows of a snapshot, once it has begun, and where it went live.
pub(super) fn rows(client: &mut Client) -> (Vec<Value>, Value) {
    let mut rows = Vec::new();
    loop {
        let message = client.next();
        match message["type"].as_str().unwrap() {
            "snapshot" => rows.extend(message["rows"].as_array().unwrap().clone()),
            "live" => return (rows, message["position"].clone()),
            other => panic!("{other}: {message}"),
        }
    }
}

fn snapshot(client: &mut Client, mut subscribe: Value) -> (Value, Vec<Value>) {
    subscribe["snapshot"] = json!(true);
    let subscribed = client.subscribe(subscribe);
    (subscribed, rows(client).0)
}

#[test]
fn snapshots_among_writers_hold_the_result_from_the_first_row_on() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database).flag("--max-frame-bytes", "8KiB");
    let walcast = setup.start();
    let mut audience = Audience::new(setup.address());
    let workload = Workload::start(&database, PACE);
    for round in 0..3 {
        workload.goes_on(40);
        // All on one connection, each on its own, and one that goes away again and again.
        audience.join_with(snapshot_views(&queries()));
        for view in snapshot_views(&queries()).into_iter().skip(round % 3).step_by(3) {
            audience.join_with(vec![view]);
        }
        let seed = workload.seed().wrapping_add(round as u64);
        let cut = Follower::new(setup.address(), snapshot_views(&queries()));
        audience.join(cut.cut_once_in(40, 20, seed));
    }
    workload.goes_on(60);
    workload.finish();
    audience.everybody_has_joined();
    audience.join_with(snapshot_views(&queries()));
    audience.judge(&database);
    assert!(walcast.stop().success());
}

#[test]
fn snapshots_race_with_transactions_that_wait_for_a_standby() {
    let settings = [
        "synchronous_standby_names = 'nobody'",
        "synchronous_commit = local",
    ];
    let database = Database::on_its_own_server(SCHEMA, &settings);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut audience = Audience::new(setup.address());
    let workload = Workload::start(&database, PACE);
    // Writers whose commits are on disk, and in the stream, long before anybody may see them.
    let stop = Arc::new(AtomicBool::new(false));
    let mut stalled: Vec<_> = (0..4)
        .map(|number| {
            let stop = Arc::clone(&stop);
            let url = database.url().to_owned();
            thread::spawn(move || stall(&url, number, &stop))
        })
        .collect();
    let going = Arc::clone(&stop);
    let url = database.url().to_owned();
    stalled.push(thread::spawn(move || release(&url, &going)));
    for round in 0..10 {
        workload.goes_on(10);
        audience.join_with(snapshot_views(&distinct(round)));
    }
    // All are taken among the writers. What came meanwhile can be caught up with once they have finished.
    eventually("all are taken", || {
        audience.assert_following();
        let open = ["snapshots_waiting", "snapshots_reading"].map(|name| walcast.metric(name));
        (open == [0.0, 0.0] && walcast.metric("snapshots_total") >= 100.0).then_some(())
    });
    workload.finish();
    stop.store(true, Ordering::Relaxed);
    for writer in stalled {
        writer.join().unwrap();
    }
    audience.everybody_has_joined();
    audience.join_with(snapshot_views(&queries()));
    audience.judge(&database);
    assert!(
        walcast.metric("snapshots_total") >= 100.0,
        "{}",
        walcast.get("/metrics").1
    );
}

/// The queries, in words that nobody else uses: no two of them share a reading.
pub(super) fn distinct(round: usize) -> Vec<Value> {
    let mut queries = queries();
    for query in &mut queries {
        let condition = query["where"].as_str().unwrap_or("true");
        query["where"] = json!(format!("{condition}{}", " ".repeat(1 + round)));
    }
    queries
}

/// Writes what waits for a standby that never comes.
fn stall(url: &str, number: u32, stop: &AtomicBool) {
    let mut connection = crate::support::connect(url).unwrap();
    connection.query("SET synchronous_commit = on").unwrap();
    while !stop.load(Ordering::Relaxed) {
        let sql = format!(
            "INSERT INTO item VALUES (nextval('item_id'), 1 + {number}, 'open', 1, 100, now(), 'stalled');
             UPDATE item SET n = n + 1 WHERE id IN (SELECT id FROM item WHERE owner = 1 + {number} ORDER BY id DESC LIMIT 2)"
        );
        match connection.query(&sql) {
            // The test has failed, and its server is gone.
            Err(error) if error.is_fatal() => return,
            // Or a deadlock.
            _ => {}
        }
    }
}

/// Lets those go on that have waited for a while.
fn release(url: &str, stop: &AtomicBool) {
    let mut connection = crate::support::connect(url).unwrap();
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    loop {
        // Read first: commits that wait when it is set are released once more.
        let ends = stop.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(100));
        let released = connection.query(cancel);
        if released.is_err() || ends && released.is_ok_and(|released| released.is_empty()) {
            return;
        }
    }
}

#[test]
fn who_waits_for_a_lock_on_one_table_holds_up_nobody_on_another() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE held (id int PRIMARY KEY);
         CREATE PUBLICATION pub FOR TABLE t, held",
    );
    let setup = Setup::new(&database);
    drop(setup.start());
    // An application reads, a migration waits for it, and everybody else for the migration.
    let mut reads = database.connect();
    reads.query("BEGIN; SELECT FROM held").unwrap();
    let mut migrates = database.connect();
    let migration = thread::spawn(move || migrates.query("ALTER TABLE held ADD COLUMN more int").map(|_| ()));
    eventually("the migration waits", || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'held'::regclass AND NOT granted";
        (database.sql(waiting)[0].get(0) == Some("1")).then_some(())
    });
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.send(&json!({"type": "subscribe", "id": "s", "table": "t", "snapshot": true}));
    client.expect("subscribed");
    assert_eq!(rows(&mut client).0.len(), 1);
    database
        .sql("INSERT INTO t VALUES (2); CREATE TABLE late (id int); ALTER PUBLICATION pub ADD TABLE late");
    assert_eq!(client.change()["row"], json!({"id": 2}));
    eventually("a new table is known", || {
        let mut client = walcast.connect();
        client.send(&json!({"type": "subscribe", "id": "late", "table": "late"}));
        (client.next()["type"] == "subscribed").then_some(())
    });
    reads.query("COMMIT").unwrap();
    migration.join().unwrap().unwrap();
}

#[test]
fn all_who_ask_for_the_same_query_share_one_reading() {
    let database = Database::new("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t");
    database.sql("INSERT INTO t SELECT generate_series(1, 1000)");
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut locked = database.connect();
    locked
        .query("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let ask = json!({"type": "subscribe", "id": "s", "table": "t", "where": "id <= 500", "snapshot": true});
    let mut clients: Vec<Client> = (0..10).map(|_| walcast.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(&ask));
    let mut other = walcast.connect();
    other.send(&json!({"type": "subscribe", "id": "s", "table": "t", "snapshot": true}));
    eventually_equal("all have asked", 9.0, || walcast.metric("snapshots_shared_total"));
    eventually_equal("both read", 2.0, || walcast.metric("snapshots_reading"));
    locked.query("COMMIT").unwrap();
    for client in clients.iter_mut().chain([&mut other]) {
        client.expect("subscribed");
    }
    for mut client in clients {
        assert_eq!(rows(&mut client).0.len(), 500);
    }
    assert_eq!(rows(&mut other).0.len(), 1000);
    eventually_equal("it is counted", 2.0, || walcast.metric("snapshots_total"));
}

#[test]
fn a_client_that_leaves_cancels_its_query_at_the_server() {
    let database = Database::new("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t");
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut locked = database.connect();
    locked
        .query("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock'",
        database.name
    );
    let ask = json!({"type": "subscribe", "id": "s", "table": "t", "snapshot": true});
    let mut leaves = walcast.connect();
    leaves.send(&ask);
    eventually_equal("it waits for the table", "1".to_owned(), || {
        database.value(&waiting)
    });
    drop(leaves);
    eventually_equal("it waits no more", "0".to_owned(), || database.value(&waiting));
    // The same by a word.
    let mut stays = walcast.connect();
    stays.send(&ask);
    eventually_equal("it waits for the table", "1".to_owned(), || {
        database.value(&waiting)
    });
    stays.unsubscribe("s");
    eventually_equal("it waits no more", "0".to_owned(), || database.value(&waiting));
    eventually_equal("nothing is read", 0.0, || walcast.metric("snapshots_reading"));
    locked.query("COMMIT").unwrap();
    assert_eq!(
        snapshot(&mut stays, json!({"id": "s", "table": "t"})).1,
        [] as [Value; 0]
    );
}

#[test]
fn rows_are_those_that_the_publication_has() {
    let database = Database::new(
        "CREATE TABLE filtered (id int PRIMARY KEY, hidden text, shown text);
         CREATE TABLE parted (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
         CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
         CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
         CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (more int, PRIMARY KEY (id)) INHERITS (parent);
         INSERT INTO filtered SELECT g, 'secret', 'shown' FROM generate_series(1, 10) g;
         INSERT INTO parted SELECT g, 1 + g % 2 FROM generate_series(1, 10) g;
         INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (3, 3);",
    );
    let filter = match database.sql("SELECT current_setting('server_version_num')::int >= 150000")[0].get(0) {
        Some("t") => {
            database.sql("CREATE PUBLICATION pub FOR TABLE filtered (id, shown) WHERE (id > 7), parted, parent WITH (publish_via_partition_root)");
            3
        }
        _ => {
            database.sql(
                "CREATE PUBLICATION pub FOR TABLE filtered, parted, parent WITH (publish_via_partition_root)",
            );
            10
        }
    };
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    let (_, rows) = snapshot(&mut client, json!({"id": "filtered", "table": "filtered"}));
    assert_eq!(rows.len(), filter);
    assert!(
        filter == 10 || rows.iter().all(|row| row.get("hidden").is_none()),
        "{rows:?}"
    );
    for (table, where_, count) in [
        ("parted", "k = 1", 5),
        ("parent", "id > 0", 2),
        ("child", "id > 0", 1),
    ] {
        let (_, rows) = snapshot(&mut client, json!({"id": table, "table": table, "where": where_}));
        assert_eq!(rows.len(), count, "{table}");
    }
}

#[test]
fn a_table_that_changed_just_now_comes_as_it_is() {
    let database =
        Database::new("CREATE TABLE t (id int PRIMARY KEY, a int); CREATE PUBLICATION pub FOR TABLE t");
    database.sql("INSERT INTO t VALUES (1, 2)");
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    let ask = |id: &str| json!({"id": id, "table": "t"});
    assert_eq!(snapshot(&mut client, ask("1")).1, [json!({"id": 1, "a": 2})]);
    database.sql("ALTER TABLE t ADD COLUMN b text DEFAULT 'x'");
    let (subscribed, rows) = snapshot(&mut client, ask("2"));
    assert_eq!(rows, [json!({"id": 1, "a": 2, "b": "x"})]);
    assert_eq!(subscribed["columns"].as_array().unwrap().len(), 3);
    database.sql("ALTER TABLE t ALTER COLUMN a TYPE text USING a || '!'");
    let (_, rows) = snapshot(&mut client, ask("3"));
    assert_eq!(rows, [json!({"id": 1, "a": "2!", "b": "x"})]);
    database.sql("DROP TABLE t");
    let refusal = eventually("the table is gone", || {
        client.send(&json!({"type": "subscribe", "id": "4", "table": "t", "snapshot": true}));
        loop {
            let answer = client.next();
            if answer["id"] == "4" && answer["type"] != "snapshot" {
                return (answer["type"] == "error").then_some(answer);
            }
        }
    });
    assert_eq!(refusal["code"], "unknown_table", "{refusal}");
}

#[test]
fn rows_of_all_kinds_are_those_that_row_to_json_prints() {
    let database = Database::new(
        r#"CREATE DOMAIN positive AS numeric(10, 2) CHECK (value > 0); CREATE TYPE mood AS ENUM ('sad', 'ok');
         CREATE TYPE pair AS (a int, b text); CREATE DOMAIN tags AS text[];
         CREATE TABLE t (id int PRIMARY KEY, p positive, m mood, c pair, cs pair[], t tags, ts timestamptz, b bytea,
                         j jsonb, r int4range, n numeric, f float8, ch char(5), "Odd ""name" text);
         INSERT INTO t VALUES (1, 1.50, 'ok', row(1, 'x,"'), array[row(2, null)::pair], '{a,NULL,"b c"}',
             '2026-01-31 12:00:00.5+02', '\xdead', '{"a": [1.50, null]}', '[1,5)', 'NaN', 'Infinity', 'ab', 'it''s'),
             (2, null, null, null, null, null, 'infinity', '', 'null', 'empty', 12345678901234567890.12, -0, '', '');
         CREATE PUBLICATION pub FOR TABLE t"#,
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let (_, mut rows) = snapshot(&mut walcast.connect(), json!({"id": "t", "table": "t"}));
    rows.sort_by_key(|row| row["id"].as_u64());
    let expected = database.rows("SELECT * FROM t ORDER BY id");
    assert_eq!(rows, expected);
}

#[test]
fn what_may_not_be_read_is_an_error_and_never_fewer_rows() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
         ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE PUBLICATION pub FOR TABLE t",
    );
    database.sql(&format!(
        "CREATE ROLE limited_{0} LOGIN REPLICATION; GRANT SELECT ON t TO limited_{0}",
        database.name
    ));
    let url = database
        .url()
        .replace("postgres@", &format!("limited_{}@", database.name));
    assert_ne!(url, database.url());
    let setup = Setup::new(&database).by(url);
    let walcast = setup.start();
    let mut client = walcast.connect();
    let refusal = client.subscribe_refused(json!({"id": "s", "table": "t", "snapshot": true}));
    assert_eq!(refusal["code"], "database_refused", "{refusal}");
    walcast.logs("row-level security");
    let refusal =
        client.subscribe_refused(json!({"id": "s", "table": null, "messages": "m", "snapshot": true}));
    assert_eq!(refusal["code"], "bad_request", "{refusal}");
}

#[test]
fn a_row_that_is_too_large_to_be_sent_refuses_the_snapshot_and_takes_no_memory() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, body text); CREATE PUBLICATION pub FOR TABLE t;
         INSERT INTO t SELECT 1, repeat('x', 96 * 1024 * 1024); INSERT INTO t VALUES (3, 'short');
         INSERT INTO t SELECT 2, repeat('x', 1024 * 1024)",
    );
    let walcast = Setup::new(&database).flag("--max-row-bytes", "1MiB").start();
    let before = walcast.peak_resident_bytes();
    let mut client = walcast.connect();
    for condition in ["id = 1", "id = 2", "true"] {
        let subscribe =
            json!({"id": "s", "table": "t", "where": condition, "undecided": "withhold", "snapshot": true});
        client.send(&{
            let mut subscribe = subscribe;
            subscribe["type"] = json!("subscribe");
            subscribe
        });
        let refusal = eventually("it is refused", || {
            let message = client.next();
            (message["type"] == "error").then_some(message)
        });
        assert_eq!(
            (&refusal["code"], &refusal["limit"]),
            (&json!("limit_exceeded"), &json!("row_bytes")),
            "{refusal}"
        );
        assert!(
            refusal["message"].as_str().unwrap().contains("--max-row-bytes"),
            "{refusal}"
        );
    }
    let taken = walcast.peak_resident_bytes() - before;
    assert!(taken < 32 * 1024 * 1024, "{taken}");
    for subscribe in [
        json!({"id": "a", "table": "t", "where": "id = 3"}),
        json!({"id": "b", "table": "t", "columns": ["id"], "where": "id > 1"}),
    ] {
        let (_, rows) = snapshot(&mut client, subscribe);
        assert!(rows.iter().any(|row| row["id"] == 3), "{rows:?}");
    }
}
