//! Clients that resume in a data directory of an earlier version: another server stands in for the one that it was read
//! from, with a table of the same OID, and positions that go on.

use serde_json::{Value, json};
use walcast::event::{OldTuple, Op, Tuple};
use walcast::journal::{Journal, Options};
use walcast::log::{Entry, Log, LogReader};
use walcast::lsn::{Lsn, Start};

use super::kept::Kept;
use crate::support::{Database, Setup, left_out};

/// A table as it was in the end.
struct Table {
    version: &'static str,
    name: &'static str,
    columns: &'static str,
}

const TABLES: [Table; 2] = [
    Table {
        version: "before-0.1.0",
        name: "orders",
        columns: "id int PRIMARY KEY, city text",
    },
    Table {
        version: "0.1.0",
        name: "visits",
        columns: "id int PRIMARY KEY, page text",
    },
];

/// A change as both the journal and a client have it: the operation, and the row's id.
type Change = (&'static str, Option<i64>);

/// The table's OID, the transactions that changed it, and the end of the history.
fn transactions(kept: &Kept, table: &str) -> (u32, Vec<(Lsn, Vec<Change>)>, Lsn) {
    let (_writer, journal) = Journal::open(kept.path(), Options::default(), &kept.identity()).unwrap();
    let name = walcast::event::TableName::new("public", table);
    let oid = journal.tables().borrow().holder(&name).unwrap().oid;
    let mut reader = journal.reader(Start::Earliest).unwrap();
    let mut found: Vec<(Lsn, Vec<Change>)> = Vec::new();
    while let Some(batch) = reader.next_blocking(64 * 1024).unwrap() {
        for entry in batch.entries() {
            let Entry::Piece(piece) = entry.unwrap() else {
                continue;
            };
            let changes = piece.changes.map(Result::unwrap);
            let changes: Vec<Change> = changes
                .filter(|change| change.relation.oid == oid)
                .map(|change| change_of(&change.op))
                .collect();
            if !changes.is_empty() {
                found.push((piece.transaction.end, changes));
            }
        }
    }
    (oid, found, journal.head())
}

fn change_of(op: &Op<'_>) -> Change {
    let id = |tuple: &Tuple<'_>| match tuple.values().next() {
        Some(walcast::event::Value::Text(text)) => std::str::from_utf8(text).unwrap().parse().ok(),
        _ => None,
    };
    match op {
        Op::Insert { new } => ("insert", id(new)),
        Op::Update { new, .. } => ("update", id(new)),
        Op::Delete {
            old: OldTuple::Key(old) | OldTuple::Full(old),
        } => ("delete", id(old)),
        Op::Truncate => ("truncate", None),
    }
}

/// Makes the database one that the directory's could be: with the table, under its OID, and a slot that is confirmed
/// up to somewhere in the history, which ends before what the server writes from now on. False if the server's positions
/// are too far already.
fn stand_in(database: &Database, slot: &str, table: &Table, oid: u32, begin: Lsn, head: Lsn) -> bool {
    database.sql(&format!(
        "DO $$ DECLARE last oid; BEGIN
           LOOP
             last := lo_create(0);
             PERFORM lo_unlink(last);
             EXIT WHEN last >= {oid} - 1;
           END LOOP;
         END $$;
         CREATE TABLE {} ({});
         CREATE PUBLICATION pub FOR ALL TABLES",
        table.name, table.columns
    ));
    let found = database.value(&format!("SELECT '{}'::regclass::oid", table.name));
    assert_eq!(found, oid.to_string(), "the next OID is the table's");
    let write = |until: Lsn| {
        loop {
            let missing = until.0.saturating_sub(database.written().0);
            if missing == 0 {
                break;
            }
            let bytes = missing.clamp(100, 1_000_000);
            database.sql(&format!(
                "SELECT pg_logical_emit_message(true, 'later', repeat('x', {bytes}))"
            ));
        }
    };
    write(begin);
    if database.written() > head {
        return false;
    }
    database.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    if database.confirmed(slot) > head {
        return false;
    }
    write(head);
    true
}

#[test]
fn clients_resume_in_the_directory_of_each_version_and_go_on() {
    let named = TABLES.map(|table| table.version);
    for kept in Kept::all() {
        assert!(
            named.contains(&&*kept.name),
            "no table to resume in {}",
            kept.name
        );
    }
    for table in TABLES {
        resume(&table);
    }
}

fn resume(table: &Table) {
    let kept = Kept::of(table.version);
    let manifest = kept.manifest();
    let start: Lsn = manifest["start"].as_str().unwrap().parse().unwrap();
    let epoch = &manifest["epoch"];
    // Another copy, since this may raise the format.
    let (oid, transactions, head) = transactions(&Kept::of(table.version), table.name);
    let database = Database::on_its_own_server("", &[]);
    let setup = Setup::new(&database);
    if !stand_in(&database, &setup.slot, table, oid, start, head) {
        return left_out(
            "resuming in an old directory",
            "this server begins behind its end",
        );
    }
    kept.give_to(&database, &setup.slot);
    let data = setup.data();
    assert!(
        std::process::Command::new("cp")
            .arg("-a")
            .args([kept.path(), &data])
            .status()
            .unwrap()
            .success()
    );
    let walcast = setup.start();
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0, "{}", walcast.log());
    let mut live = Vec::new();
    for (number, (from, _)) in transactions.iter().enumerate() {
        let mut client = walcast.connect();
        assert_eq!(client.hello["epoch"], *epoch);
        let from = from.to_string();
        client.subscribe(json!({"id": "t", "table": table.name, "from": from, "epoch": epoch}));
        for (end, changes) in &transactions[number + 1..] {
            let tx = client.expect("tx");
            assert_eq!(tx["position"], end.to_string(), "{}: from {from}", table.version);
            let found: Vec<Value> = tx["changes"].as_array().unwrap().iter().map(short).collect();
            let expected: Vec<Value> = changes.iter().map(|change| json!(change)).collect();
            assert_eq!(found, expected, "{}: from {from}", table.version);
        }
        client.expect("live");
        live.push(client);
    }
    assert!(live.len() >= 3, "{}: {} transactions", table.version, live.len());
    database.sql(&format!("INSERT INTO {} VALUES (77, 'new')", table.name));
    for mut client in live {
        assert_eq!(client.change()["row"]["id"], 77);
    }
}

fn short(change: &Value) -> Value {
    let row = if change["row"].is_object() {
        &change["row"]
    } else {
        &change["key"]
    };
    json!([change["op"], row["id"]])
}
