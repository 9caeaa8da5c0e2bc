//! Order: texts are ordered here as there under every collation that orders by code points, and under no other.

use walcast::cluster::Cluster;
use walcast::event::{Relation, Tuple, View};
use walcast::filter::{Error, Predicate, Row, Verdict};
use walcast::postgres::{Catalog, ConnInfo};

use crate::predicates::Written;
use crate::table::{quote, relation};
use crate::{answers, cluster_of, seed, tuples};

/// Texts in which orders differ: case, accents, blanks, the lengths of UTF-8, the surrogates of UTF-16, the planes
/// beyond the first.
const CHARACTERS: &[&str] = &[
    "a",
    "b",
    "B",
    "Z",
    "z",
    " ",
    "~",
    "-",
    "é",
    "e",
    "\u{301}",
    "\u{7f}",
    "\u{80}",
    "ÿ",
    "Ā",
    "\u{7ff}",
    "\u{800}",
    "日",
    "ß",
    "\u{d7ff}",
    "\u{e000}",
    "\u{ffff}",
    "\u{fffd}",
    "\u{10000}",
    "𐐀",
    "\u{10ffff}",
    "\u{1}",
];

fn text(rng: &mut fastrand::Rng) -> String {
    let count = rng.usize(..5);
    (0..count).map(|_| *rng.choice(CHARACTERS).unwrap()).collect()
}

fn exists(cluster: &Cluster, collation: &str) -> bool {
    let sql = format!(
        "SELECT count(*) FROM pg_collation WHERE collname = '{collation}' AND collencoding IN (-1, 6)"
    );
    cluster.psql(&sql) != "0"
}

/// A table of texts under the collations, one column for each, and others of types that have the first one.
fn fill(cluster: &Cluster, rng: &mut fastrand::Rng, collations: &[&str]) -> Relation {
    let columns: Vec<String> = (0..)
        .zip(collations)
        .map(|(at, collation)| format!("c{at} text COLLATE \"{collation}\""))
        .collect();
    let first = collations[0];
    cluster.psql(&format!(
        "DROP TABLE IF EXISTS t; DROP PUBLICATION IF EXISTS pub; CREATE EXTENSION IF NOT EXISTS citext;
         DROP DOMAIN IF EXISTS word; CREATE DOMAIN word AS text COLLATE \"{first}\";
         CREATE TABLE t (id int, {}, d word, v varchar(9) COLLATE \"{first}\", b char(9) COLLATE \"{first}\",
             i citext COLLATE \"{first}\", a text[] COLLATE \"{first}\"); CREATE PUBLICATION pub FOR TABLE t",
        columns.join(", ")
    ));
    let rows: Vec<String> = (0..120)
        .map(|id| {
            let text = quote(&text(rng));
            let texts = format!("{text}, ").repeat(collations.len() + 4);
            format!("({id}, {texts} ARRAY[{text}, 'a'])")
        })
        .collect();
    cluster.psql(&format!("INSERT INTO t VALUES {}", rows.join(", ")));
    relation(cluster)
}

/// Compares with what the server says of each; `{}` stands for a random text.
fn compare(cluster: &Cluster, rng: &mut fastrand::Rng, relation: &Relation, conditions: &[String]) {
    let rows = tuples(&cluster.psql("COPY (SELECT * FROM t ORDER BY id) TO STDOUT"));
    let mut written = Vec::new();
    for condition in conditions {
        for _ in 0..25 {
            let condition = condition
                .replace("{}", &quote(&text(rng)))
                .replace("[]", &quote(&text(rng)));
            let ours = condition.clone();
            let theirs = condition;
            let parameters = Vec::new();
            written.push(Written {
                ours,
                theirs,
                parameters,
            });
        }
    }
    let answers = answers(cluster, &written.iter().collect::<Vec<_>>());
    for (Written { ours, .. }, answer) in written.iter().zip(answers) {
        let bound = Predicate::parse(ours).and_then(|predicate| predicate.bind(View::whole(relation), &[]));
        let matcher = bound.unwrap_or_else(|error| panic!("{ours}: {error}"));
        let holds = |row: &[u8]| matcher.eval(&Row::new(Tuple::parse(row).unwrap().0)) == Verdict::Matches;
        let found = rows.iter().enumerate().filter(|(_, row)| holds(row));
        let found: Vec<String> = found.map(|(id, _)| id.to_string()).collect();
        assert_eq!(found.join(","), answer, "{ours}");
    }
}

fn conditions(column: &str) -> Vec<String> {
    let conditions = [
        "$ < {}",
        "$ >= {}",
        "{} > $",
        "$ <= {}",
        "$ BETWEEN {} AND []",
        "$ > ANY (ARRAY[{}, []])",
    ];
    conditions
        .iter()
        .map(|condition| condition.replace('$', column))
        .collect()
}

fn of_types() -> Vec<String> {
    let mut all: Vec<String> = ["d", "v", "b", "i"].into_iter().flat_map(conditions).collect();
    all.retain(|condition| !condition.starts_with("b > ANY"));
    all.push("{} < ANY (a)".to_owned());
    all.push("a > ARRAY[{}, []]".to_owned());
    all
}

fn refused(relation: &Relation, text: &str) {
    let bound = Predicate::parse(text).unwrap().bind(View::whole(relation), &[]);
    match bound {
        Err(Error::Collation { message, .. }) if message.contains("COLLATE \"C\"") => {}
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn texts_are_ordered_as_there_under_each_collation_that_orders_by_code_points() {
    let seed = seed();
    eprintln!("seed: WALCAST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let cluster = cluster_of("--locale=C.UTF-8");
    let named = [
        "C.utf8",
        "default",
        "C",
        "POSIX",
        "ucs_basic",
        "pg_c_utf8",
        "pg_unicode_fast",
    ];
    let collations: Vec<&str> = named.into_iter().filter(|name| exists(&cluster, name)).collect();
    let version: u32 = cluster.psql("SHOW server_version_num").parse().unwrap();
    let builtin = u32::from(version >= 170_000) + u32::from(version >= 180_000);
    assert_eq!(collations.len() as u32, 5 + builtin, "{collations:?}");
    let relation = fill(&cluster, &mut rng, &collations);
    let mut all: Vec<String> = (0..collations.len())
        .flat_map(|at| conditions(&format!("c{at}")))
        .collect();
    all.extend(of_types());
    // Columns of the same, and of the database's with another.
    all.extend(
        [
            "d < v",
            "c0 >= c1",
            "c1 < c2",
            "c0 COLLATE \"C\" < c2",
            "c3 > c4 COLLATE \"C\"",
        ]
        .map(str::to_owned),
    );
    compare(&cluster, &mut rng, &relation, &all);
}

#[test]
fn texts_are_ordered_as_there_in_databases_whose_own_collation_orders_by_code_points() {
    let seed = seed();
    eprintln!("seed: WALCAST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let cluster = cluster_of("--locale=C --encoding=UTF8");
    let version: u32 = cluster.psql("SHOW server_version_num").parse().unwrap();
    let mut locales = vec!["--locale=C --encoding=UTF8"];
    if version >= 170_000 {
        locales.push("--locale=C --encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8");
        locales.push("--locale=C.UTF-8 --encoding=UTF8 --locale-provider=builtin --builtin-locale=C");
    }
    if version >= 180_000 {
        locales.push(
            "--locale=C.UTF-8 --encoding=UTF8 --locale-provider=builtin --builtin-locale=PG_UNICODE_FAST",
        );
    }
    drop(cluster);
    for locale in locales {
        let cluster = cluster_of(locale);
        let relation = fill(&cluster, &mut rng, &["default"]);
        let mut all = conditions("c0");
        all.extend(of_types());
        if locale.ends_with("PG_UNICODE_FAST") {
            // Its folding looks at a letter's neighbours, so no citext compares: tests/filter/letters.rs.
            all.retain(|condition| !condition.split(' ').any(|word| word == "i"));
        }
        compare(&cluster, &mut rng, &relation, &all);
    }
}

#[test]
fn under_any_other_collation_texts_are_ordered_by_collate_c_alone() {
    let seed = seed();
    eprintln!("seed: WALCAST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let cluster = cluster_of("--locale=C.UTF-8");
    if !exists(&cluster, "en-x-icu") {
        return;
    }
    cluster.psql(
        "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE COLLATION numbers (provider = icu, locale = 'en-u-kn')",
    );
    let relation = fill(&cluster, &mut rng, &["en-x-icu", "folded", "numbers"]);
    for column in ["c0", "c1", "c2", "d", "v", "b", "i", "c0::varchar"] {
        refused(&relation, &format!("{column} < 'a'"));
        refused(&relation, &format!("{column} BETWEEN 'a' AND 'b'"));
    }
    refused(&relation, "'a' < ANY (a)");
    refused(&relation, "c1 = 'a'");
    let mut all = Vec::new();
    for column in ["c0", "c1", "c2", "d", "v", "b", "i", "c0::varchar"] {
        let column = format!("({column}) COLLATE \"C\"");
        all.extend(conditions(&column));
        all.retain(|condition| !condition.starts_with("(b) COLLATE \"C\" > ANY"));
        all.push(format!("{column} = {{}} OR {column} IN ([], 'a')"));
    }
    all.push("(c1 COLLATE \"C\") LIKE 'a%'".to_owned());
    all.push("a COLLATE \"C\" > ARRAY[{}, []]".to_owned());
    all.push("c0 COLLATE \"C\" < c1".to_owned());
    compare(&cluster, &mut rng, &relation, &all);
}

#[test]
fn whether_a_collation_orders_by_code_points_is_seen_by_its_order_and_not_by_its_name() {
    let cluster = cluster_of("--locale=C.UTF-8");
    let url = cluster.url("postgres");
    let info = ConnInfo::parse_with(&url, |name| (name == "USER").then(|| "postgres".into()));
    let mut catalog = Catalog::new(info.unwrap());
    for (collation, expected) in [("\"C\"", true), ("ucs_basic", true), ("\"default\"", true)] {
        assert_eq!(
            catalog.orders_by_code_points(collation).unwrap(),
            expected,
            "{collation}"
        );
    }
    if exists(&cluster, "en-x-icu") {
        assert!(!catalog.orders_by_code_points("\"en-x-icu\"").unwrap());
    }
}
