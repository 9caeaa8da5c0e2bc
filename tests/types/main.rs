//! Types here and in Postgres itself: random values, each operator's answer the same on both sides.
//!
//! The seed is printed; `WALCAST_SEED` sets it.

// Clippy allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod arrays;
mod json;
mod like;
mod scalars;

use std::fmt::Write;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use walcast::cluster::{Cluster, Options};
use walcast::postgres::PINNED;

/// A server that the tests share; it ends with the last test that holds it.
fn shared() -> Arc<Cluster> {
    static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut current = CLUSTER.lock();
    current.upgrade().unwrap_or_else(|| {
        let cluster = Cluster::start(&Options {
            settings: PINNED
                .iter()
                .map(|(name, value)| format!("{name} = '{value}'"))
                .collect(),
            ..Options::default()
        });
        let cluster = Arc::new(cluster.unwrap());
        cluster.psql(
            "CREATE FUNCTION answer(expression text) RETURNS text LANGUAGE plpgsql AS $f$
             DECLARE result text;
             BEGIN
               EXECUTE 'SELECT (' || expression || ')::text' INTO result;
               RETURN coalesce(encode(convert_to(result, 'UTF8'), 'hex'), 'null');
             EXCEPTION WHEN OTHERS THEN RETURN 'error ' || replace(sqlerrm, E'\\n', ' ');
             END $f$;",
        );
        *current = Arc::downgrade(&cluster);
        cluster
    })
}

fn random() -> fastrand::Rng {
    let seed = match std::env::var("WALCAST_SEED") {
        Ok(seed) => seed.parse().expect("WALCAST_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("seed: WALCAST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// The server's answer to an expression: its value as text (booleans are `true` and `false`), or its error.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Null,
    Text(String),
    Error(String),
}

impl Answer {
    fn is(value: bool) -> Answer {
        Answer::Text(value.to_string())
    }
}

/// Asks the server for the values of expressions.
fn answers(cluster: &Cluster, expressions: &[String]) -> Vec<Answer> {
    let mut sql = String::new();
    for expression in expressions {
        writeln!(sql, "SELECT answer($walcast${expression}$walcast$);").unwrap();
    }
    let output = cluster.psql(&format!("{sql}SELECT 'end';"));
    let lines: Vec<&str> = output.split('\n').collect();
    assert_eq!(lines.len(), expressions.len() + 1);
    let answer = |line: &&str| match line.strip_prefix("error ") {
        Some(error) => Answer::Error(error.to_owned()),
        None if *line == "null" => Answer::Null,
        None => Answer::Text(from_hex(line)),
    };
    lines[..expressions.len()].iter().map(answer).collect()
}

fn from_hex(text: &str) -> String {
    let bytes = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).unwrap();
        u8::from_str_radix(pair, 16).unwrap()
    });
    String::from_utf8(bytes.collect()).unwrap()
}

/// A quoted literal.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Up to `most` random pieces, one after the other.
fn pieces(rng: &mut fastrand::Rng, pool: &[&str], most: usize) -> String {
    (0..rng.usize(..=most))
        .map(|_| pool[rng.usize(..pool.len())])
        .collect()
}
