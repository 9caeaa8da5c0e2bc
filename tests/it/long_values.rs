//! Long values that an update leaves as they were, and the log leaves out.

use serde_json::{Value, json};

use crate::support::{Client, eventually};
use crate::undecided::{Page, serve};

pub(crate) const LONG: &str = "
    CREATE TABLE t (id int PRIMARY KEY, n int, body text); ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
    CREATE PUBLICATION pub FOR TABLE t;
    INSERT INTO t SELECT g, 0, CASE WHEN g % 2 = 0 THEN 'keep' ELSE 'drop' END || repeat('x', 3000)
    FROM generate_series(1, 6) g;";

#[test]
fn nobody_is_deceived_about_a_long_value_that_was_not_logged_again() {
    let (database, walcast) = serve(LONG);
    let query = |undecided: &str| {
        json!({"id": "s", "table": "t", "where": "body LIKE 'keep%'", "columns": ["n"], "undecided": undecided,
               "type": "subscribe", "snapshot": true})
    };
    let refused = walcast.connect().subscribe_refused(query("refuse"));
    assert_eq!(refused["code"], "replica_identity");
    let mut pages: Vec<(Client, Page)> = Vec::new();
    for undecided in ["send", "withhold"] {
        let mut client = walcast.connect();
        client.send(&query(undecided));
        let warning = client.expect("subscribed")["warnings"][0].clone();
        let warning = warning.as_str().unwrap();
        assert!(
            warning.contains("\"undecided\": true")
                && warning.ends_with("fix: ALTER TABLE public.t REPLICA IDENTITY FULL"),
            "{warning}"
        );
        let page = Page::snapshot(&mut client);
        assert_eq!(page.ids(), [2, 4, 6]);
        pages.push((client, page));
    }
    database.sql("UPDATE t SET n = n + 1 WHERE id IN (1, 2, 5, 6)");
    database.sql("INSERT INTO t VALUES (8, 0, 'keep')");
    for (client, page) in &mut pages {
        let changes = client.changes();
        assert_eq!(changes.len(), 4);
        for change in &changes {
            assert_eq!(
                (&change["op"], &change["undecided"], change.get("unchanged")),
                (&json!("update"), &json!(true), None),
                "{change}"
            );
            let id = change["row"]["id"].as_i64().unwrap();
            if page.0.contains_key(&id) {
                page.0.insert(id, change["row"].clone());
            }
        }
        page.until(client, 8);
        assert_eq!(page.ids(), [2, 4, 6]);
        assert_eq!(page.0[&2], json!({"id": 2, "n": 1}));
    }
    // Where the row is logged whole it is decided.
    database.sql("ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET n = 5");
    for (client, _) in &mut pages {
        let changes = client.changes();
        let mut ids: Vec<i64> = changes
            .iter()
            .map(|change| change["row"]["id"].as_i64().unwrap())
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, [2, 4, 6, 8]);
        assert!(changes.iter().all(|change| change.get("undecided").is_none()));
    }
}

#[test]
fn a_row_that_comes_by_an_update_without_its_long_values_is_told_of_with_the_cure() {
    let (database, walcast) = serve(
        "CREATE TABLE t (id int PRIMARY KEY, n int, body text); ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         CREATE PUBLICATION pub FOR TABLE t; INSERT INTO t VALUES (1, 1, repeat('x', 9000)), (2, 2, repeat('y', 9000))",
    );
    let mut client = walcast.connect();
    // By the key everything is decided, and yet the new row lacks what nobody can have from before.
    let by_key = json!({"id": "key", "table": "t", "where": "id > 10"});
    let by_value = json!({"id": "value", "table": "t", "where": "n > 10", "undecided": "send"});
    let without = json!({"id": "without", "table": "t", "where": "id > 10", "columns": ["n"]});
    let all = json!({"id": "all", "table": "t"});
    let warning = |subscribed: &Value| {
        let warnings = subscribed["warnings"].as_array().unwrap();
        let found = warnings
            .iter()
            .find(|warning| warning.to_string().contains("unchanged"));
        found.map(|warning| warning.as_str().unwrap().to_owned())
    };
    let warned = warning(&client.subscribe_live(by_key.clone())).unwrap();
    assert!(
        warning(&client.subscribe_live(by_value))
            .unwrap()
            .contains("of body")
    );
    assert_eq!(warning(&client.subscribe_live(without)), None);
    assert_eq!(warning(&client.subscribe_live(all)), None);
    // Who is not told that a row left keeps what it had then.
    let mut untold = walcast.connect();
    for (id, told, ops) in [
        ("told", "send", json!(["insert", "update", "delete"])),
        ("withheld", "withhold", json!(["insert", "update", "delete"])),
        ("births", "send", json!(["insert", "update"])),
    ] {
        let query = json!({"id": id, "table": "t", "where": "n > 10", "undecided": told, "ops": ops});
        let warned = warning(&untold.subscribe_live(query)).unwrap();
        assert_eq!(warned.contains("may be outdated"), id != "told", "{id}: {warned}");
    }
    database.sql("UPDATE t SET id = 11, n = 11 WHERE id = 1");
    for change in client.changes() {
        let row = change["row"].as_object().unwrap();
        assert!(!row.contains_key("body"), "{change}");
        let unchanged = match change["id"].as_str().unwrap() {
            "without" => None,
            _ => Some(&json!(["body"])),
        };
        assert_eq!(change.get("unchanged"), unchanged, "{change}");
    }
    // With the cure the row is whole, and nobody is warned.
    database.sql(
        warned
            .split_once("fix: ")
            .unwrap()
            .1
            .split("  --")
            .next()
            .unwrap(),
    );
    let subscribed = eventually("the cure is known", || {
        let mut client = walcast.connect();
        let subscribed = client.subscribe_live(by_key.clone());
        let is_known = warning(&subscribed).is_none();
        is_known.then_some(client)
    });
    let mut client = subscribed;
    database.sql("UPDATE t SET id = 12 WHERE id = 2");
    let change = client.change();
    assert_eq!(change["row"]["body"], "y".repeat(9000));
    assert_eq!(change.get("unchanged"), None);
}
