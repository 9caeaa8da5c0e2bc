//! The cost of queries: what one takes is no other's to wait for, and what takes too much is refused or ended by name.

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, Walcast, eventually};

const SCHEMA: &str = "
    CREATE TABLE pages (id int PRIMARY KEY, body text, doc jsonb, tags int[]);
    ALTER TABLE pages REPLICA IDENTITY FULL;
    CREATE TABLE quiet (id int PRIMARY KEY);
    CREATE PUBLICATION pub FOR TABLE pages, quiet;
";

/// Where every place of a text looks like the pattern: ten units of work for each byte.
fn long(number: usize) -> String {
    format!("%{}b{number}%", "a_".repeat(240))
}

/// The changes of the next transaction, in however many frames they come.
fn transaction(client: &mut Client) -> Vec<Value> {
    let mut changes = Vec::new();
    loop {
        let tx = client.tx();
        changes.extend(tx["changes"].as_array().unwrap().iter().cloned());
        if tx["more"] != json!(true) {
            return changes;
        }
    }
}

/// The ids of the rows that come, as many as are awaited.
fn inserted(client: &mut Client, count: usize) -> Vec<i64> {
    let mut came = Vec::new();
    while came.len() < count {
        let changes = transaction(client);
        came.extend(changes.iter().map(|change| change["row"]["id"].as_i64().unwrap()));
    }
    came
}

fn put_apart(walcast: &Walcast) -> f64 {
    walcast.metric("queries_put_apart_total")
}

#[test]
fn who_has_queries_that_a_row_takes_long_is_served_apart_and_gets_exactly_its_rows() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut heavy = walcast.connect();
    let mut quiet = walcast.connect();
    for number in 0..4 {
        let body = long(number);
        heavy.subscribe_live(json!({
            "id": format!("q{number}"), "table": "pages", "where": "body LIKE $1", "params": [body], "columns": ["id"],
        }));
    }
    quiet.subscribe_live(json!({"id": "quiet", "table": "quiet"}));
    // The one row matches the third query, the other none.
    database.sql(
        "INSERT INTO pages VALUES (1, repeat('a', 2000000) || 'b2'), (2, repeat('a', 2000000));
         INSERT INTO quiet VALUES (1);
         INSERT INTO pages VALUES (3, repeat('a', 500) || 'b0')",
    );
    assert_eq!(inserted(&mut quiet, 1), [1]);
    eventually("it is put apart", || (put_apart(&walcast) >= 1.0).then_some(()));
    assert_eq!(inserted(&mut heavy, 2), [1, 3]);
    assert!(walcast.metric("match_work_total{schema=\"public\",table=\"pages\"}") > 1e6);
    // It goes on there, and is told how far it has come; what it asks for is answered.
    database.sql("UPDATE pages SET body = 'short' WHERE id = 1; INSERT INTO pages VALUES (4, repeat('a', 500) || 'b1')");
    let changes = transaction(&mut heavy);
    let told: Vec<_> = changes
        .iter()
        .map(|change| {
            let of = if change["op"] == "delete" { "key" } else { "row" };
            (change["op"].clone(), change[of]["id"].clone())
        })
        .collect();
    assert_eq!(told, [(json!("delete"), json!(1)), (json!("insert"), json!(4))]);
    heavy.unsubscribe("q3");
    heavy.subscribe_live(json!({"id": "all", "table": "quiet"}));
    database.sql("INSERT INTO quiet VALUES (2)");
    assert_eq!(inserted(&mut heavy, 1), [2]);
    assert_eq!(inserted(&mut quiet, 1), [2]);
}

#[test]
fn a_subscription_from_the_past_is_read_for_apart_where_its_rows_take_it_long() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut first = walcast.connect();
    first.subscribe_live(json!({"id": "s", "table": "quiet"}));
    database.sql(
        "INSERT INTO pages SELECT n, repeat('a', 1500000) || 'b' || n % 2 FROM generate_series(1, 6) n;
         INSERT INTO quiet VALUES (1)",
    );
    assert_eq!(inserted(&mut first, 1), [1]);
    let mut heavy = walcast.connect();
    let mut light = walcast.connect();
    heavy.subscribe(json!({
        "id": "h", "table": "pages", "where": "body LIKE $1", "params": [long(1)], "columns": ["id"], "from": "earliest",
    }));
    light.subscribe(json!({"id": "l", "table": "quiet", "from": "earliest"}));
    assert_eq!(inserted(&mut light, 1), [1]);
    assert_eq!(inserted(&mut heavy, 3), [1, 3, 5]);
    assert_eq!(heavy.expect("live")["id"], "h");
}

#[test]
fn what_would_take_too_much_is_refused_by_the_name_of_the_limit() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    let any = |count: usize, form: &str| {
        let each = (0..count).map(|number| form.replace('~', &number.to_string()));
        each.collect::<Vec<_>>().join(" OR ")
    };
    let refused = |client: &mut Client, predicate: String, params: Value| {
        let error = client.subscribe_refused(json!({
            "id": "r", "table": "pages", "where": predicate, "params": params,
        }));
        assert_eq!(error["code"], "limit_exceeded", "{error}");
        error["limit"].as_str().unwrap().to_owned()
    };
    // A message of 63 KB of which each list has the document 500 times.
    let document = json!({"a": "x".repeat(40_000)});
    let list = format!("doc IN ({})", vec!["$1"; 500].join(", "));
    let uses = vec![list; 5].join(" OR ");
    client.subscribe_live(json!({"id": "many", "table": "pages", "where": uses, "params": [document]}));
    let long_text = json!(["x".repeat(40_000)]);
    assert_eq!(
        refused(&mut client, any(250, "doc ->> 'k~' = $1"), long_text),
        "predicate_bytes"
    );
    let nested: Vec<Value> = (0..3_000).map(|n| json!([n])).collect();
    assert_eq!(
        refused(&mut client, "doc @> $1".into(), json!([nested])),
        "predicate_cost"
    );
    let body = long(1);
    let costly = any(150, "doc ->> 'k~' LIKE $1");
    let mut limit = None;
    for number in 0..8 {
        client.send(&json!({
            "type": "subscribe", "id": format!("c{number}"), "table": "pages", "where": costly, "params": [body],
        }));
        let answer = client.next();
        if answer["type"] == "error" {
            limit = answer["limit"].as_str().map(str::to_owned);
            break;
        }
        assert_eq!(client.expect("live")["id"], format!("c{number}"));
    }
    assert_eq!(limit.as_deref(), Some("connection_predicate_cost"));
    // What was given up counts no more.
    client.unsubscribe("c0");
    client.subscribe_live(json!({"id": "again", "table": "pages", "where": costly, "params": [body]}));
}
