//! The recipes of docs/consistency.md, run as they are written.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{At, Client, Database, Incoming, Setup, left_out};

const PAGE: &str = include_str!("../../docs/consistency.md");
const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE PUBLICATION pub FOR TABLE t";

/// The one block of JavaScript on the page that has these words.
fn recipe(words: &str) -> &'static str {
    let mut blocks = PAGE
        .split("```js\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let found = blocks.find(|block| block.contains(words)).unwrap();
    assert!(!blocks.any(|block| block.contains(words)));
    found
}

/// Runs JavaScript with lines of input, and returns what it prints; `None` if this machine cannot.
fn node(script: &str, input: &str) -> Option<String> {
    let mut command = Command::new("node");
    command
        .args(["-e", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            left_out("a recipe in JavaScript", &error.to_string());
            return None;
        }
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Writes as an application does that does not wait for the disk, and returns the position that the page says to ask
/// for.
fn write(connection: &mut walcast::postgres::Connection, sql: &str) -> At {
    connection.query(sql).unwrap();
    let position = connection.query("SELECT pg_current_wal_insert_lsn()").unwrap();
    At::read(&json!(position[0].get(0).unwrap()))
}

#[test]
fn a_client_holds_its_own_write_once_its_position_is_the_insert_position() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t"}));
    let mut connection = database.connect();
    connection.query("SET synchronous_commit = off").unwrap();
    let mut held = 0;
    for id in 1..=40 {
        let written = write(&mut connection, &format!("INSERT INTO t VALUES ({id}, 1)"));
        loop {
            let message = client.next_of_any_type();
            held += message["changes"].as_array().map_or(0, Vec::len);
            if At::read(&message["position"]) >= written {
                break;
            }
        }
        assert_eq!(held, id, "its position is {written}, and the write is missing");
    }
}

#[test]
fn under_asynchronous_commit_the_write_position_lies_before_the_commit_and_the_insert_position_does_not() {
    // The server writes what it holds in memory only when it has to.
    let database = Database::on_its_own_server(TABLE, &["wal_writer_delay = 10s", "autovacuum = off"]);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t"}));
    let mut connection = database.connect();
    connection.query("SET synchronous_commit = off").unwrap();
    let mut too_early = 0;
    for id in 1..=10 {
        connection
            .query(&format!("INSERT INTO t VALUES ({id}, 1)"))
            .unwrap();
        let positions = "SELECT pg_current_wal_lsn(), pg_current_wal_insert_lsn()";
        let positions = connection.query(positions).unwrap();
        let [written, inserted] = [0, 1].map(|at| At::read(&json!(positions[0].get(at).unwrap())));
        // A commit that waits for the disk takes the other with it.
        database.sql(&format!("INSERT INTO t VALUES (-{id}, 1)"));
        let tx = client.tx();
        assert_eq!(tx["changes"][0]["row"]["id"], id, "{tx}");
        let end = At::read(&tx["position"]);
        assert!(inserted >= end, "{inserted} is to cover what ends at {end}");
        too_early += u32::from(written < end);
        client.expect("tx");
    }
    // The server may write on its own now and then.
    assert!(too_early >= 8, "{too_early} of 10");
}

#[test]
fn a_start_at_the_insert_position_waits_for_what_comes_after_it() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    let mut connection = database.connect();
    connection.query("SET synchronous_commit = off").unwrap();
    for id in 1..=20 {
        let written = write(&mut connection, &format!("INSERT INTO t VALUES ({}, 1)", -id));
        let name = id.to_string();
        let subscribed = client.subscribe(json!({"id": name, "table": "t", "from": written.to_string()}));
        assert_eq!(At::read(&subscribed["position"]), written);
        write(&mut connection, &format!("INSERT INTO t VALUES ({id}, 1)"));
        // The first that comes is the one after.
        let changes = loop {
            let message = client.next();
            if message["type"] == "tx" {
                break message["changes"].clone();
            }
        };
        assert_eq!(changes[0]["row"]["id"], id, "{changes}");
        client.unsubscribe(&name);
    }
    // With nothing written behind it: the server is asked to write what it holds back.
    let written = write(&mut connection, "INSERT INTO t VALUES (1000, 1)");
    client.subscribe(json!({"id": "last", "table": "t", "from": written.to_string()}));
    assert!(At::read(&client.expect("live")["position"]) >= written);
}

#[test]
fn positions_compare_as_the_page_says() {
    let script = format!(
        "{}
        for (const line of require('fs').readFileSync(0, 'utf8').trim().split('\\n')) {{
          const [position, lsn] = line.split(' ');
          console.log(holds(position, lsn));
        }}",
        recipe("const holds")
    );
    let cases = [
        ("0/1A2B3C8", "0/1A2B3C8", true),
        ("0/1A2B3C8", "0/1A2B3C9", false),
        // Not as texts: A/0 is less than 10/0.
        ("10/0", "A/FFFFFFFF", true),
        ("A/FFFFFFFF", "10/0", false),
        // Inside the transaction that ends there.
        ("1/100:7", "1/100", false),
        ("1/100:7", "1/FF", true),
    ];
    let input: Vec<String> = cases
        .iter()
        .map(|(position, lsn, _)| format!("{position} {lsn}"))
        .collect();
    let Some(output) = node(&script, &input.join("\n")) else {
        return;
    };
    let expected: Vec<String> = cases.iter().map(|(_, _, holds)| holds.to_string()).collect();
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn rows_without_a_key_are_folded_as_the_page_says() {
    let database = Database::new(
        "CREATE TABLE t (a int, b text, c numeric); ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t;
         INSERT INTO t SELECT g % 3, 'x', 1.50 FROM generate_series(1, 10) g",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.send(&json!({"type": "subscribe", "id": "s", "table": "t", "where": "a < 5", "snapshot": true}));
    let mut messages = Vec::new();
    let mut take = |client: &mut Client, until: &dyn Fn(&Value) -> bool| loop {
        let Incoming::Message(message) = client.next_by(Instant::now() + Duration::from_secs(60)) else {
            panic!("nothing comes")
        };
        messages.push(message.to_string());
        if until(&message) {
            return;
        }
    };
    take(&mut client, &|message| message["type"] == "live");
    for sql in [
        "INSERT INTO t VALUES (1, 'x', 1.5), (1, 'x', 1.50), (NULL, NULL, NULL), (7, 'out', 0)",
        "UPDATE t SET b = 'y' WHERE ctid IN (SELECT ctid FROM t WHERE a = 1 LIMIT 2)",
        "DELETE FROM t WHERE ctid IN (SELECT ctid FROM t WHERE a = 2 LIMIT 1)",
        // In, out, and from one to another that is there already.
        "UPDATE t SET a = 4 WHERE a = 7; UPDATE t SET a = 8 WHERE ctid IN (SELECT ctid FROM t WHERE a = 0 LIMIT 1)",
        "UPDATE t SET a = 1, b = 'x' WHERE a = 2",
    ] {
        database.sql(sql);
    }
    let written = At::after(database.written());
    take(&mut client, &|message| {
        message
            .get("position")
            .is_some_and(|position| At::read(position) >= written)
    });
    let script = format!(
        "{}
        for (const line of require('fs').readFileSync(0, 'utf8').trim().split('\\n')) apply(JSON.parse(line));
        for (const [text, count] of rows) for (let i = 0; i < count; i++) console.log(text);",
        recipe("const apply")
    );
    let Some(output) = node(&script, &messages.join("\n")) else {
        return;
    };
    let mut held: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut expected = database.rows("SELECT * FROM t WHERE a < 5");
    for row in &mut expected {
        // As numbers of JavaScript are printed.
        row["c"] = json!(row["c"].as_f64());
    }
    held.iter_mut()
        .for_each(|row| row["c"] = json!(row["c"].as_f64()));
    held.sort_by_key(Value::to_string);
    expected.sort_by_key(Value::to_string);
    assert!(expected.len() > 8);
    assert_eq!(held, expected);
}
