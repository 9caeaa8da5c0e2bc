//! The cost of hostile and heavy predicates, each against something ordinary in the same run: `cargo bench --bench
//! work`.
//!
//! A unit is what the server counts of a change ([`walcast::filter::Index::tally`]), of which it allows so many; the
//! table tells what one takes in time. Times are the least of several.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use walcast::event::{
    Collation, Column, OldTuple, Op, Relation, ReplicaIdentity, TableName, Tuple, Value, View, encode_values,
};
use walcast::filter::{Index, Predicate};
use walcast::protocol::ClientMessage;
use walcast::types::{Ctype, Kind, Type};

fn relation(identity: ReplicaIdentity) -> Relation {
    let kinds = [
        ("id", "bigint", Kind::Int8),
        ("email", "text", Kind::Text),
        ("body", "text", Kind::Text),
        ("tags", "integer[]", Kind::Array(Box::new(Kind::Int4))),
        ("doc", "jsonb", Kind::Jsonb),
    ];
    let columns = kinds.into_iter().map(|(name, of, kind)| Column {
        name: name.into(),
        ty: Type {
            oid: 0,
            name: of.into(),
            kind,
        },
        typmod: -1,
        identity: identity == ReplicaIdentity::Full || name == "id",
        collation: Collation::Deterministic,
        ctype: Ctype::C,
        attnum: Default::default(),
    });
    Relation {
        oid: 1,
        table: TableName::new("public", "pages"),
        replica_identity: identity,
        columns: columns.collect(),
        key: vec![0],
        logging: Default::default(),
    }
}

fn row(texts: [&str; 5]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_values(texts.iter().map(|text| Value::Text(text.as_bytes())), &mut bytes);
    bytes
}

/// Queries on one table, and a relation that they fit.
struct Bed {
    relation: Relation,
    index: Index,
}

impl Bed {
    fn new(predicates: impl Iterator<Item = (String, Vec<Json>)>) -> Bed {
        let mut bed = Bed {
            relation: relation(ReplicaIdentity::Full),
            index: Index::default(),
        };
        for (entry, (text, params)) in predicates.enumerate() {
            let matcher = Predicate::parse(&text)
                .unwrap()
                .bind(View::whole(&bed.relation), &params);
            bed.index.insert(entry as u32, &matcher.unwrap(), false);
        }
        bed
    }

    fn of(predicate: &str, params: Vec<Json>) -> Bed {
        Bed::new(std::iter::once((predicate.to_owned(), params)))
    }

    /// The time that the row takes as one that is inserted, and the units that are counted of it.
    fn insert(&mut self, row: &[u8]) -> (Duration, u64) {
        let new = Tuple::parse(row).unwrap().0;
        self.change(&Op::Insert { new })
    }

    fn change(&mut self, op: &Op<'_>) -> (Duration, u64) {
        let least = least(|| {
            self.index.matches(&self.relation, op, |entry, membership| {
                black_box((entry, membership));
            });
        });
        (least, self.index.tally().done)
    }
}

/// The least time that something takes.
fn least(mut run: impl FnMut()) -> Duration {
    let began = Instant::now();
    let mut least = Duration::MAX;
    let mut runs = 0;
    while runs < 3 || began.elapsed() < Duration::from_millis(300) {
        let began = Instant::now();
        run();
        least = least.min(began.elapsed());
        runs += 1;
    }
    least
}

fn print(what: &str, (took, units): (Duration, u64), baseline: Duration) {
    let nanos = took.as_nanos() as f64;
    println!(
        "  {what:<64} {took:>12.1?}  {:>9.2} times  {:>11} units  {:>5.2} ns a unit",
        nanos / baseline.as_nanos().max(1) as f64,
        units,
        nanos / units.max(1) as f64,
    );
}

/// Patterns against a text in which every place looks like them.
fn patterns() {
    let megabytes = 2;
    let body = "a".repeat(megabytes * 1_000_000);
    let row = row(["1", "e", &body, "{}", "{}"]);
    println!("LIKE, a text of {megabytes} MB; times what copying it takes");
    let copy = least(|| drop(black_box(black_box(&body).clone())));
    let inner = |piece: &str, times: usize| format!("%{}b%", piece.repeat(times));
    let patterns = [
        ("%b%", inner("", 1)),
        ("%aaa…b%, 1,000 letters", inner("a", 1_000)),
        ("%a%a%…b%, 500 wildcards", inner("a%", 500)),
        ("%a_a_…b%, 240 wildcards", inner("a_", 240)),
        ("%a_a_…b%, 2,000 wildcards", inner("a_", 2_000)),
        ("%aab%aab%…, 300 wildcards", inner("aab%", 300)),
    ];
    for (what, pattern) in patterns {
        let mut bed = match Predicate::parse("body LIKE $1")
            .unwrap()
            .bind(View::whole(&relation(ReplicaIdentity::Full)), &[json!(pattern)])
        {
            Ok(_) => Bed::of("body LIKE $1", vec![json!(pattern)]),
            Err(error) => {
                println!("  {what:<64} refused: {error}");
                continue;
            }
        };
        print(what, bed.insert(&row), copy);
    }
}

/// A hundred lists of a thousand against a row of a thousand.
fn arrays() {
    let list = |from: usize| {
        let ids: Vec<String> = (from..from + 1_000).map(|id| id.to_string()).collect();
        format!("{{{}}}", ids.join(","))
    };
    let tags = list(1);
    let row = row(["1", "e", "b", &tags, "{}"]);
    println!("arrays, a row of 1,000 ids; times what reading them once takes");
    let once = least(|| {
        let ids = black_box(&tags).trim_matches(['{', '}']).split(',');
        black_box(ids.map(|id| id.parse::<i64>().unwrap()).sum::<i64>());
    });
    // The shortest elements there are, of which the text has the most.
    let digits = format!("{{{}}}", vec!["7"; 100_000].join(","));
    let short = self::row(["1", "e", "b", &digits, "{}"]);
    for (what, predicate, param) in [
        ("tags && <1,000 ids>", "tags && $1", json!(list(2_000))),
        ("tags @> {8}", "tags @> $1", json!("{8}")),
        ("8 = ANY (tags)", "$1 = ANY (tags)", json!(8)),
        (
            "tags = <itself>",
            "tags = $1",
            json!(digits[..20_000].trim_end_matches(',').to_owned() + "}"),
        ),
    ] {
        print(
            &format!("{what}, a row of 100,000 digits"),
            Bed::of(predicate, vec![param]).insert(&short),
            once,
        );
    }
    for queries in [1, 100] {
        let lists = (0..queries).map(|number| ("tags && $1".to_owned(), vec![json!(list(2_000 + number))]));
        print(
            &format!("tags && <1,000 ids>, {queries} queries"),
            Bed::new(lists).insert(&row),
            once,
        );
    }
}

/// A document with so many members, of so many bytes.
fn document(members: usize, bytes: usize) -> String {
    let value = "x".repeat((bytes / members).saturating_sub(12));
    let members = (0..members).map(|number| (format!("key{number}"), Json::from(value.as_str())));
    Json::from(members.collect::<serde_json::Map<_, _>>()).to_string()
}

/// Queries over different parts of one document.
fn parts() {
    println!("parts of a jsonb of 100 KB; times one query's");
    for (what, predicate) in [
        ("doc ->> 'key<n>' = 'open'", "doc ->> $2 = $1"),
        ("doc ->> 'key<n>' LIKE '%open%'", "doc ->> $2 LIKE $1"),
    ] {
        let row = row(["1", "e", "b", "{}", &document(1_000, 100_000)]);
        let bed = |queries: usize| {
            let each = (0..queries).map(|number| {
                // The last members, so that one query too comes to the end.
                (
                    predicate.to_owned(),
                    vec![json!("%open%"), json!(format!("key{}", 999 - number))],
                )
            });
            Bed::new(each)
        };
        let one = bed(1).insert(&row);
        for queries in [1, 100] {
            print(
                &format!("{what}, {queries} queries"),
                bed(queries).insert(&row),
                one.0,
            );
        }
    }
}

/// Many equalities with expressions, of which a row meets one.
fn expressions() {
    let email = "User777@Example.com";
    let doc = document(10, 300).replace("key3\":\"", "status\":\"status777\",\"n\":777,\"key3\":\"");
    let row = row(["777", email, "b", "{}", &doc]);
    for queries in [100, 10_000] {
        println!("equalities with expressions, {queries} queries; times those with the column");
        let bed = |text: &str, param: &dyn Fn(usize) -> Json| {
            Bed::new((0..queries).map(|number| (text.to_owned(), vec![param(number)])))
        };
        let plain = bed("email = $1", &|n| json!(format!("User{n}@Example.com"))).insert(&row);
        print("email = $1", plain, plain.0);
        let lower = |n: usize| json!(format!("user{n}@example.com"));
        print(
            "lower(email) = $1",
            bed("lower(email) = $1", &lower).insert(&row),
            plain.0,
        );
        let coalesce = bed("coalesce(email, '') = $1", &|n| {
            json!(format!("User{n}@Example.com"))
        });
        print("coalesce(email, '') = $1", { coalesce }.insert(&row), plain.0);
        let status = |n: usize| json!(format!("status{n}"));
        print(
            "doc ->> 'status' = $1",
            bed("doc ->> 'status' = $1", &status).insert(&row),
            plain.0,
        );
        let n = |n: usize| json!(n);
        print(
            "(doc ->> 'n')::int = $1",
            bed("(doc ->> 'n')::int = $1", &n).insert(&row),
            plain.0,
        );
        let above = |n: usize| json!(n + 700);
        print(
            "(doc ->> 'n')::int > $1, 77 match",
            bed("(doc ->> 'n')::int > $1", &above).insert(&row),
            plain.0,
        );
    }
}

/// Updates whose old row is not known: whoever wants to know hears of each.
fn undecided() {
    println!(
        "updates under the default identity, email = $1; times one that matches nobody of those who ask not to be told"
    );
    let relation = relation(ReplicaIdentity::Default);
    let row = row(["1", "nobody", "b", "{}", "{}"]);
    let new = Tuple::parse(&row).unwrap().0;
    let op = Op::Update {
        old: None::<OldTuple<'_>>,
        new,
    };
    let mut baseline = None;
    for (what, queries, watching) in [
        ("withhold, 10,000 queries", 10_000, false),
        ("send, 100 queries", 100, true),
        ("send, 10,000 queries", 10_000, true),
    ] {
        let mut bed = Bed {
            relation: relation.clone(),
            index: Index::default(),
        };
        for entry in 0..queries {
            let predicate = Predicate::parse("email = $1").unwrap();
            let matcher = predicate
                .bind(View::whole(&relation), &[json!(format!("u{entry}"))])
                .unwrap();
            bed.index.insert(entry, &matcher, watching);
        }
        let took = bed.change(&op);
        print(what, took, *baseline.get_or_insert(took.0));
    }
}

/// Messages of 63 KB.
fn subscribes() {
    println!("a subscribe of 63 KB, parsed and bound; times reading its JSON");
    let relation = relation(ReplicaIdentity::Full);
    let repeat = |piece: &str, joined: &str, bytes: usize| {
        let times = bytes / (piece.len() + joined.len());
        vec![piece; times].join(joined)
    };
    let many_uses = format!("email IN ({})", vec!["$1"; 900].join(", "));
    let cases = [
        (
            "comparisons, as many as may be",
            repeat("id = 1", " OR ", 1_700),
            vec![],
        ),
        (
            "lists of 1,000 values",
            {
                let list = format!("id IN ({})", vec!["12345"; 1_000].join(", "));
                repeat(&list, " OR ", 60_000)
            },
            vec![],
        ),
        (
            "a parameter of 60 KB, used once",
            "body = $1".to_owned(),
            vec![json!("x".repeat(60_000))],
        ),
        (
            "a parameter of 55 KB, used 900 times",
            many_uses,
            vec![json!("x".repeat(55_000))],
        ),
        (
            "a pattern of 60 KB",
            "body LIKE $1".to_owned(),
            vec![json!("a%".repeat(30_000))],
        ),
        (
            "a document of 60 KB",
            "doc @> $1".to_owned(),
            vec![json!({"a": "x".repeat(60_000)})],
        ),
        (
            "parentheses",
            format!("{}id = 1{}", "(".repeat(30_000), ")".repeat(30_000)),
            vec![],
        ),
    ];
    for (what, text, params) in cases {
        let message =
            json!({"type": "subscribe", "id": "s", "table": "pages", "where": text, "params": params});
        let message = message.to_string();
        let json = least(|| drop(black_box(ClientMessage::parse(black_box(&message)))));
        let mut outcome = String::new();
        let took = least(|| {
            let bound =
                Predicate::parse(&text).and_then(|predicate| predicate.bind(View::whole(&relation), &params));
            outcome = match black_box(bound) {
                Ok(_) => "bound".to_owned(),
                Err(error) => error.to_string().chars().take(60).collect(),
            };
        });
        println!(
            "  {what:<48} {:>3} KB {took:>12.1?}  {:>9.1} times  {outcome}",
            message.len() / 1_000,
            took.as_nanos() as f64 / json.as_nanos() as f64,
        );
    }
}

fn main() {
    // Cargo passes "--bench"; others choose what is run.
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|one| !one.starts_with('-'))
        .collect();
    let all: [(&str, fn()); 6] = [
        ("patterns", patterns),
        ("arrays", arrays),
        ("parts", parts),
        ("expressions", expressions),
        ("undecided", undecided),
        ("subscribes", subscribes),
    ];
    for (name, run) in all {
        if chosen.is_empty() || chosen.iter().any(|one| one == name) {
            run();
        }
    }
}
