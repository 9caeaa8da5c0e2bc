//! Rows a few at a time.

use walcast::event::{Tuple, Value};
use walcast::postgres::*;

use crate::{connect, shared, wait_for};

fn texts(tuple: &[u8]) -> Vec<Option<String>> {
    let (tuple, rest) = Tuple::parse(tuple).unwrap();
    assert!(rest.is_empty());
    let text = |value| match value {
        Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        _ => None,
    };
    tuple.values().map(text).collect()
}

#[test]
fn rows_come_a_few_at_a_time_and_values_take_their_types_from_the_statement() {
    let cluster = shared();
    let mut connection = connect(&cluster, Purpose::Application);
    connection.query("BEGIN").unwrap();
    let sql = "SELECT i, CASE WHEN i > $1 THEN $2::text END FROM generate_series(1, 5) i WHERE i <> ALL ($3)";
    let values = [Some("3".into()), Some("it's".into()), Some("{4}".into())];
    let fields = connection.open_portal(sql, &values, || true).unwrap();
    let types: Vec<u32> = fields.iter().map(|field| field.type_oid).collect();
    assert_eq!(types, [23, 25]);
    let mut rows = Vec::new();
    let mut fetch = |connection: &mut Connection, count| {
        let fetched = connection.fetch(count, || true, |tuple| rows.push(texts(tuple)));
        (fetched.unwrap(), rows.len())
    };
    assert_eq!(fetch(&mut connection, 3), (Fetched::More, 3));
    assert_eq!(fetch(&mut connection, 3), (Fetched::All, 4));
    let row = |id: &str, text: Option<&str>| vec![Some(id.to_owned()), text.map(str::to_owned)];
    let expected = [
        row("1", None),
        row("2", None),
        row("3", None),
        row("5", Some("it's")),
    ];
    assert_eq!(rows, expected);
    // An error leaves the session of use.
    let error = connection.open_portal("SELECT $1::int", &[Some("x".into())], || true);
    assert_eq!(error.unwrap_err().sqlstate(), Some("22P02"));
    connection.query("ROLLBACK").unwrap();
    assert_eq!(connection.query("SELECT 1").unwrap().len(), 1);
}

#[test]
fn a_statement_whose_rows_nobody_waits_for_is_cancelled() {
    let cluster = shared();
    let mut connection = connect(&cluster, Purpose::Application);
    connection.query("BEGIN").unwrap();
    let pid = connection.backend_pid();
    let mut asked = 0;
    let go_on = || {
        asked += 1;
        asked < 3
    };
    let opened = connection.open_portal("SELECT pg_sleep(600)", &[], || true);
    assert_eq!(opened.unwrap().len(), 1);
    let cancelled = connection.fetch(1, go_on, |_| panic!("there is no row"));
    assert_eq!(cancelled.unwrap_err().sqlstate(), Some("57014"));
    drop(connection);
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    wait_for("the session to end", || cluster.psql(&sessions) == "0");
}
