//! Changes whose membership the log does not tell are refused, sent or withheld, as the subscription asks.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::long_values::LONG;
use crate::support::{At, Client, Database, Follower, Setup, View, Walcast, eventually, eventually_equal};

pub(crate) fn serve(schema: &str) -> (Database, Walcast) {
    let database = Database::new(schema);
    let walcast = Setup::new(&database).start();
    (database, walcast)
}

/// The rows that a page shows, by their `id`: it knows nothing of the table but what it was told.
#[derive(Default)]
pub(crate) struct Page(pub(crate) BTreeMap<i64, Value>);

impl Page {
    /// The rows that come until it is live.
    pub(crate) fn snapshot(client: &mut Client) -> Page {
        let mut page = Page::default();
        loop {
            let message = client.next();
            if message["type"] == "live" {
                return page;
            }
            assert_eq!(message["type"], "snapshot");
            for row in message["rows"].as_array().unwrap() {
                page.0.insert(row["id"].as_i64().unwrap(), row.clone());
            }
        }
    }

    /// Folds what comes until a row of that `id` does, as docs/consistency.md says.
    pub(crate) fn until(&mut self, client: &mut Client, last: i64) {
        while !self.0.contains_key(&last) {
            for change in client.changes() {
                let id = |row: &Value| row["id"].as_i64();
                let key = id(&change["key"]);
                let row = id(&change["row"]);
                if change["as_before"] == true && !self.0.contains_key(&key.or(row).unwrap()) {
                    continue;
                }
                if let Some(key) = key {
                    self.0.remove(&key);
                }
                if let Some(row) = row {
                    self.0.insert(row, change["row"].clone());
                }
            }
        }
        self.0.remove(&last);
    }

    pub(crate) fn ids(&self) -> Vec<i64> {
        self.0.keys().copied().collect()
    }
}

fn ids(database: &Database, condition: &str) -> Vec<i64> {
    let rows = database.sql(&format!("SELECT id FROM t WHERE {condition} ORDER BY id"));
    rows.iter()
        .map(|row| row.get(0).unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_refusal_names_the_cure_and_with_it_the_same_subscription_is_made() {
    let (database, walcast) = serve(
        "CREATE SCHEMA \"Odd one\"; CREATE TABLE \"Odd one\".\"T\" (id int PRIMARY KEY, state text, n int);
         CREATE TABLE plain (id int PRIMARY KEY, state text);
         CREATE TABLE by_index (id int PRIMARY KEY, state text, code int NOT NULL UNIQUE);
         ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code_key;
         CREATE PUBLICATION pub FOR TABLE \"Odd one\".\"T\", plain, by_index;",
    );
    for (table, snapshot) in [("plain", false), ("\"Odd one\".\"T\"", true), ("by_index", true)] {
        let mut client = walcast.connect();
        let subscribe = json!({"id": "s", "table": table, "where": "state = 'open'", "snapshot": snapshot});
        let refused = client.subscribe_refused(subscribe.clone());
        assert_eq!(refused["code"], "replica_identity", "{refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("does not hold state"), "{message}");
        let (_, cure) = message.split_once("fix: ").unwrap();
        database.sql(cure);
        let subscribed = client.subscribe_live(subscribe);
        assert_eq!(
            (&subscribed["replica_identity"], &subscribed["warnings"]),
            (&json!("full"), &json!([]))
        );
        database.sql(&format!("INSERT INTO {table} VALUES (1, 'open', 1)").replace(
            "(1, 'open', 1)",
            if table == "plain" {
                "(1, 'open')"
            } else {
                "(1, 'open', 1)"
            },
        ));
        assert_eq!(client.change()["op"], "insert");
        database.sql(&format!("UPDATE {table} SET state = 'done'"));
        let left = client.change();
        assert_eq!(
            (&left["op"], &left["cause"]),
            (&json!("delete"), &json!("update"))
        );
    }
}

#[test]
fn what_decides_everything_is_never_refused() {
    let (database, walcast) = serve(
        "CREATE TABLE t (id int PRIMARY KEY, state text); CREATE TABLE log (at int, state text);
         CREATE TABLE outbox (id int PRIMARY KEY, state text); CREATE PUBLICATION pub FOR TABLE t;
         CREATE PUBLICATION inserts FOR TABLE log, outbox WITH (publish = 'insert, delete');",
    );
    for query in [
        json!({"id": "all", "table": "t"}),
        json!({"id": "key", "table": "t", "where": "id IN (1, 2) OR id > 100", "columns": ["id"]}),
        json!({"id": "constant", "table": "t", "where": "true"}),
        // However rows come and go, all of them go.
        json!({"id": "truncates", "table": "t", "where": "state = 'open'", "ops": ["truncate"]}),
    ] {
        let subscribed = walcast.connect().subscribe_live(query);
        assert_eq!(subscribed["warnings"], json!([]), "{subscribed}");
    }
    drop(walcast);
    // Without a key rows only come.
    let setup = Setup::new(&database)
        .on_slot(&format!("{}_inserts", database.name))
        .publications(&["inserts"]);
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "log", "table": "log", "where": "state = 'open'"}));
    database.sql("INSERT INTO log VALUES (1, 'done'), (2, 'open')");
    assert_eq!(client.change()["row"]["at"], 2);
    // Nor is anything open where no updates are published.
    client.subscribe_live(json!({"id": "outbox", "table": "outbox", "where": "state = 'open'"}));
    database.sql("INSERT INTO outbox VALUES (1, 'done'), (2, 'open'); UPDATE outbox SET state = 'done'; DELETE FROM outbox");
    let changes = client.changes();
    let ops: Vec<&Value> = changes.iter().map(|change| &change["op"]).collect();
    assert_eq!(ops, ["insert", "delete", "delete"]);
    assert_eq!(changes[0]["row"]["id"], 2);
}

#[test]
fn a_history_that_leaves_it_open_ends_what_must_know_and_is_exact_for_who_is_sent_it() {
    let (database, walcast) =
        serve("CREATE TABLE t (id int PRIMARY KEY, n int); CREATE PUBLICATION pub FOR TABLE t;");
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "w", "table": "t"}));
    database.sql("INSERT INTO t SELECT g, 1 FROM generate_series(1, 4) g");
    database.sql("UPDATE t SET n = 2 WHERE id = 2");
    database.sql(
        "ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET n = 2 WHERE id = 3; INSERT INTO t VALUES (9, 1)",
    );
    while client.changes().last().unwrap()["row"]["id"] != 9 {}
    let mut reader = walcast.connect();
    let earliest = |id: &str, undecided: &str| json!({"id": id, "table": "t", "where": "n = 1", "undecided": undecided, "from": "earliest"});
    reader.subscribe(earliest("r", "refuse"));
    let ended = reader.error();
    assert_eq!(
        (&ended["id"], &ended["code"]),
        (&json!("r"), &json!("replica_identity"))
    );
    let mut page = Page::default();
    reader.subscribe(earliest("s", "send"));
    page.until(&mut reader, 9);
    assert_eq!(page.ids(), [1, 4]);
    let mut page = Page::default();
    reader.unsubscribe("s");
    reader.subscribe(earliest("w", "withhold"));
    page.until(&mut reader, 9);
    assert_eq!(page.ids(), [1, 2, 4], "what left under the key alone is not told");
    // The rows that are there can be had.
    reader.subscribe_live(json!({"id": "n", "table": "t", "where": "n = 1", "snapshot": true}));
}

#[test]
fn a_page_that_is_sent_what_is_undecided_holds_the_result() {
    let (database, walcast) = serve(
        "CREATE TABLE t (id int PRIMARY KEY, state text, n int, body text); ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         CREATE PUBLICATION pub FOR TABLE t;",
    );
    database.sql(
        "INSERT INTO t SELECT g, 'open', g % 3, CASE g % 4 WHEN 0 THEN repeat('x', 3000) WHEN 1 THEN repeat('y', 3000) END
         FROM generate_series(1, 40) g",
    );
    let queries = [
        ("state = 'open'", json!(null)),
        ("state <> 'open' AND n > 0", json!(["n"])),
        ("n = 1 OR state IS NULL", json!(["state"])),
        ("id < 30 AND state = 'done'", json!(null)),
        ("body IS NULL", json!(["n"])),
        ("body LIKE 'x%'", json!(["n"])),
        ("NOT body LIKE 'x%'", json!(["id"])),
    ];
    let mut pages: Vec<(&str, Client, Page)> = queries
        .into_iter()
        .map(|(condition, columns)| {
            let mut client = walcast.connect();
            let mut subscribe = json!({
                "type": "subscribe", "id": "s", "table": "t", "where": condition, "undecided": "send", "snapshot": true
            });
            if columns != json!(null) {
                subscribe["columns"] = columns;
            }
            client.send(&subscribe);
            let subscribed = client.expect("subscribed");
            assert_eq!(subscribed["replica_identity"], "default");
            let page = Page::snapshot(&mut client);
            assert_eq!(page.ids(), ids(&database, condition), "{condition}");
            (condition, client, page)
        })
        .collect();
    let seed = fastrand::u64(..);
    let mut rng = Rng::with_seed(seed);
    for round in 0..12 {
        for _ in 0..12 {
            let id = rng.u32(1..60);
            let sql = match rng.u32(0..12) {
                0..=2 => format!("UPDATE t SET state = 'done' WHERE id % 5 = {id} % 5"),
                3 | 4 => format!("UPDATE t SET state = 'open' WHERE id % 7 = {id} % 7"),
                5 => format!("UPDATE t SET state = NULL WHERE id = {id}"),
                6 | 7 => format!("UPDATE t SET n = n + 1 WHERE id % 3 = {id} % 3"),
                8 => format!(
                    "UPDATE t SET id = id + 100 WHERE id = {id} AND NOT EXISTS (SELECT FROM t WHERE id = {id} + 100)"
                ),
                9 => format!(
                    "UPDATE t SET body = NULL WHERE id = {id}; UPDATE t SET body = repeat('x', 2500) WHERE id = {id} + 1"
                ),
                10 => format!("DELETE FROM t WHERE id = {id}"),
                _ => format!(
                    "INSERT INTO t VALUES ({id}, 'open', 1, repeat('x', 3000)) ON CONFLICT DO NOTHING"
                ),
            };
            database.sql(&sql);
        }
        // A row that is in every result, and is gone again.
        let last = 1000 + round;
        for (condition, client, page) in &mut pages {
            let id = if condition.contains("id < 30") {
                -last
            } else {
                last
            };
            let (state, n, body) = match *condition {
                "state = 'open'" | "n = 1 OR state IS NULL" | "body IS NULL" => ("open", 1, "NULL"),
                "body LIKE 'x%'" => ("open", 1, "'x'"),
                "NOT body LIKE 'x%'" => ("open", 1, "'y'"),
                _ => ("done", 1, "NULL"),
            };
            database.sql(&format!("INSERT INTO t VALUES ({id}, '{state}', {n}, {body})"));
            page.until(client, id);
            let expected: Vec<i64> = ids(&database, condition)
                .into_iter()
                .filter(|held| *held != id)
                .collect();
            assert_eq!(page.ids(), expected, "seed {seed}, round {round}: {condition}");
            database.sql(&format!("DELETE FROM t WHERE id = {id}"));
        }
    }
}

#[test]
fn a_change_is_undecided_only_as_far_as_something_else_changed_with_it() {
    let (database, walcast) = serve(LONG);
    let mut client = walcast.connect();
    client.subscribe_live(
        json!({"id": "s", "table": "t", "where": "n = 1 AND body LIKE 'keep%'", "undecided": "send"}),
    );
    database.sql("UPDATE t SET n = 1 WHERE id = 1");
    let change = client.change();
    assert_eq!(
        json!([
            change["op"],
            change["undecided"],
            change.get("as_before"),
            change["unchanged"]
        ]),
        json!(["update", true, null, ["body"]])
    );
    // By what is known of it, it is not in the result: it may have been.
    database.sql("UPDATE t SET n = 2 WHERE id = 2");
    let change = client.change();
    assert_eq!(
        change,
        json!({"id": "s", "seq": 0, "op": "delete", "cause": "update", "key": {"id": 2}})
    );
    // By its old key.
    database.sql("UPDATE t SET id = 30 WHERE id = 3");
    assert_eq!(client.change()["key"], json!({"id": 3}));
    // A delete may be of a row of the result, or not.
    database.sql("DELETE FROM t WHERE id = 5");
    assert_eq!(
        client.change(),
        json!({"id": "s", "seq": 0, "op": "delete", "key": {"id": 5}})
    );
}

#[test]
fn who_asks_the_same_shares_the_frames_and_each_delete_is_counted() {
    let (database, walcast) = serve(
        "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE PUBLICATION pub FOR TABLE t;
         INSERT INTO t SELECT g, 0 FROM generate_series(1, 10) g;",
    );
    let query = |undecided: &str, ops: Value| json!({"id": "s", "table": "t", "where": "n = 1", "undecided": undecided, "ops": ops});
    let all = json!(["insert", "update", "delete", "truncate"]);
    let mut told: Vec<Client> = (0..3).map(|_| walcast.connect()).collect();
    for client in &mut told {
        client.subscribe_live(query("send", all.clone()));
    }
    let mut others: Vec<Client> = Vec::new();
    for (undecided, ops) in [("withhold", all), ("send", json!(["insert", "update"]))] {
        let mut client = walcast.connect();
        client.subscribe_live(query(undecided, ops));
        others.push(client);
    }
    eventually_equal("it is counted", 3.0, || walcast.metric("queries"));
    database.sql("UPDATE t SET n = 2");
    let texts: Vec<String> = told.iter_mut().map(Client::tx_text).collect();
    assert!(texts.iter().all(|text| *text == texts[0]));
    assert_eq!(texts[0].matches("\"cause\":\"update\"").count(), 10);
    eventually("they are counted", || {
        let (_, metrics) = walcast.get("/metrics");
        metrics
            .contains("walcast_undecided_deletes_total{schema=\"public\",table=\"t\"} 30\n")
            .then_some(())
    });
    database.sql("UPDATE t SET n = 1 WHERE id = 1");
    for client in &mut others {
        assert_eq!(
            client.change()["row"],
            json!({"id": 1, "n": 1}),
            "nothing came before"
        );
    }
    let warned = walcast
        .connect()
        .subscribe_live(query("send", json!(["insert", "delete"])));
    assert!(
        warned["warnings"][1]
            .as_str()
            .unwrap()
            .contains("\"ops\" leaves out"),
        "{warned}"
    );
}

#[test]
fn a_row_too_large_to_be_kept_leaves_the_result_of_who_must_know() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, state text, doc text); ALTER TABLE t REPLICA IDENTITY FULL;
         CREATE PUBLICATION pub FOR TABLE t;",
    );
    let walcast = Setup::new(&database).flag("--max-row-bytes", "100kB").start();
    let mut clients: Vec<Client> = ["refuse", "send", "withhold"]
        .into_iter()
        .map(|undecided| {
            let mut client = walcast.connect();
            client.subscribe_live(json!({
                "id": "s", "table": "t", "where": "state = 'open' AND doc <> 'x'", "undecided": undecided
            }));
            client
        })
        .collect();
    database.sql("INSERT INTO t VALUES (1, 'open', repeat('x', 200000))");
    database.sql("UPDATE t SET state = 'done'");
    database.sql("INSERT INTO t VALUES (2, 'open', 'y')");
    let came =
        json!({"id": "s", "seq": 0, "op": "insert", "undecided": true, "oversize": true, "key": {"id": 1}});
    let left =
        json!({"id": "s", "seq": 0, "op": "delete", "cause": "update", "oversize": true, "key": {"id": 1}});
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.change(), came);
        if number < 2 {
            assert_eq!(client.change(), left);
        }
        assert_eq!(client.change()["row"]["id"], 2);
    }
}

#[test]
fn who_is_cut_off_again_and_again_holds_the_result() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, n int, note text); CREATE PUBLICATION pub FOR TABLE t;",
    );
    let setup = Setup::new(&database).flag("--max-frame-bytes", "4KiB");
    let walcast = setup.start();
    let views = ["n = 1", "n > 1 OR note IS NULL", "NOT note = 'b'"].map(|condition| {
        let query =
            json!({"id": condition, "table": "t", "where": condition, "undecided": "send", "snapshot": true});
        View::new(query, json!(null), true)
    });
    let mut follower = Follower::new(setup.address(), views.to_vec()).cut_once_in(8, 40, fastrand::u64(..));
    database.sql("INSERT INTO t SELECT g, g % 4, 'a' FROM generate_series(1, 500) g");
    follower.until(|follower| follower.views.iter().all(View::is_established));
    for round in 0..30 {
        database.sql(&format!(
            "UPDATE t SET n = (n + 1) % 4 WHERE id % 11 = {round} % 11;
             UPDATE t SET note = CASE id % 3 WHEN 0 THEN 'b' WHEN 1 THEN NULL ELSE 'a' END WHERE id % 13 = {round} % 13;
             UPDATE t SET id = id + 1000 WHERE id = {round} + 1; DELETE FROM t WHERE id % 97 = {round}"
        ));
        let goal = At::after(database.written());
        follower.until(|follower| follower.has_come_to(goal));
        for view in &follower.views {
            view.assert_is_result(&database);
        }
    }
    assert!(follower.connects > 5, "{}", follower.connects);
    assert!(walcast.stop().success());
}

#[test]
fn the_setup_script_has_tables_watched_by_all_of_their_columns() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, state text); CREATE TABLE \"Odd one\" (id int PRIMARY KEY, state text);
         CREATE TABLE root (id int PRIMARY KEY, state text) PARTITION BY RANGE (id);
         CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10);",
    );
    let setup = Setup::new(&database);
    let script = include_str!("../../sql/setup.sql");
    let role = format!("role_{}", database.name);
    for _ in 0..2 {
        let named = format!(
            "\\set tables 't, \"Odd one\", root'\n\\set full '\"Odd one\",root'\n\\set role {role}\n\
             \\set publication pub\n\\set slot {}\n{script}",
            setup.slot
        );
        database.server().try_psql(&database.name, &named).unwrap();
    }
    let full = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relreplident = 'f'";
    assert_eq!(database.value(full), "Odd one leaf root");
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "odd", "table": "\"Odd one\"", "where": "state = 'open'"}));
    let refused = client.subscribe_refused(json!({"id": "t", "table": "t", "where": "state = 'open'"}));
    assert_eq!(refused["code"], "replica_identity");
    drop(walcast);
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
