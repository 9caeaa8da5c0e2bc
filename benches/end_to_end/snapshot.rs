//! A snapshot of ten million rows, against `COPY … TO STDOUT` of the same rows by psql.

use std::process::Stdio;
use std::time::Instant;

use serde_json::json;

use crate::support::{self, Server, cpu};

const ROWS: u64 = 10_000_000;

pub(crate) fn run() {
    let cluster = support::cluster();
    cluster.psql(&format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, bucket int, name text, amount numeric); \
         INSERT INTO t SELECT i, i % 100, 'name ' || i, i / 100.0 FROM generate_series(1, {ROWS}) i; \
         VACUUM (ANALYZE) t; CREATE PUBLICATION p FOR TABLE t"
    ));
    println!("\na snapshot of {ROWS} rows");
    let began = Instant::now();
    let copied = cluster
        .psql_command("postgres")
        .args(["-c", "COPY t TO STDOUT"])
        .stdout(Stdio::null())
        .status();
    assert!(copied.unwrap().success());
    let copy = began.elapsed();
    println!(
        "  COPY by psql:          {:>6.1} s  {:>10.0} rows/s",
        copy.as_secs_f64(),
        rate(copy)
    );

    let server = Server::start(&cluster, "s", "p");
    let runtime = support::runtime();
    runtime.block_on(async {
        let mut client = support::connect(server.listen).await;
        let before = cpu(server.pid()).unwrap();
        let began = Instant::now();
        let query = json!({"type": "subscribe", "id": "s", "table": "t", "snapshot": true});
        support::subscribe(&mut client, query).await;
        let mut rows = 0;
        loop {
            let text = support::next_text(&mut client).await;
            if text.starts_with(r#"{"type":"snapshot""#) {
                rows += text.matches(r#"{"id":"#).count() as u64;
            } else if text.starts_with(r#"{"type":"live""#) {
                break;
            }
        }
        let took = began.elapsed();
        assert_eq!(rows, ROWS);
        println!(
            "  a client, all of them: {:>6.1} s  {:>10.0} rows/s  {:.2} of COPY's rate; {:.1} s CPU of walcast; peak {} MB \
             resident",
            took.as_secs_f64(),
            rate(took),
            copy.as_secs_f64() / took.as_secs_f64(),
            (cpu(server.pid()).unwrap() - before).as_secs_f64(),
            support::peak_resident(server.pid()) / 1_000_000
        );
    });
}

fn rate(took: std::time::Duration) -> f64 {
    ROWS as f64 / took.as_secs_f64()
}
