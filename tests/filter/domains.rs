//! Domains over enumerations: what Postgres has no operator for is refused, and everything else is the same as there.

use walcast::event::{Tuple, View};
use walcast::filter::{Error, Predicate, Row, Verdict};

use crate::predicates::Written;
use crate::table::relation;
use crate::{answers, cluster_of, tuples};

/// Predicates that Postgres refuses with 42883: the operators of enumerations are of `anyenum`, which no domain is.
const REFUSED: &[&str] = &[
    "d = 'ok'",
    "d <> 'ok'",
    "d < 'ok'",
    "'ok' >= d",
    "d = NULL",
    "d = e",
    "d = f",
    "d IN ('ok', 'sad')",
    "d NOT IN ('ok')",
    "d BETWEEN 'sad' AND 'ok'",
    "d IS DISTINCT FROM 'ok'",
    "d IS NOT DISTINCT FROM f",
    "d = ANY ('{ok}')",
    "d = ANY (es)",
    "'ok' = ANY (ds)",
    "e = ANY (ds)",
    "coalesce(d, f) = 'ok'",
];

/// Predicates that it takes.
const TAKEN: &[&str] = &[
    "d::text = 'ok'",
    "d::text IN ('ok', 'sad')",
    "(d::text) COLLATE \"C\" < 'p'",
    "d IS NULL",
    "d IS DISTINCT FROM NULL",
    "d IS NOT DISTINCT FROM NULL",
    "coalesce(d, 'sad') = 'sad'",
    "e = 'ok'",
    "e < 'ok'",
    "'ok' = ANY (es)",
    "ds = '{ok}'",
    "ds && '{ok,sad}'",
];

#[test]
fn labels_are_compared_with_domains_over_enumerations_only_as_there() {
    let cluster = cluster_of("--locale=C");
    cluster.psql(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN feeling AS mood;
         CREATE TABLE t (id int, d feeling, f feeling, e mood, ds feeling[], es mood[]); CREATE PUBLICATION pub FOR TABLE t;
         INSERT INTO t VALUES (0, 'ok', 'sad', 'ok', '{ok}', '{ok}'), (1, 'sad', 'sad', 'sad', '{sad,ok}', '{}'),
             (2, NULL, NULL, NULL, NULL, NULL)",
    );
    let relation = relation(&cluster);
    let rows = tuples(&cluster.psql("COPY (SELECT * FROM t ORDER BY id) TO STDOUT"));
    let all: Vec<Written> = REFUSED
        .iter()
        .chain(TAKEN)
        .map(|text| Written {
            ours: (*text).to_owned(),
            theirs: (*text).to_owned(),
            parameters: Vec::new(),
        })
        .collect();
    let answers = answers(&cluster, &all.iter().collect::<Vec<_>>());
    for (Written { ours, .. }, answer) in all.iter().zip(answers) {
        let bound = Predicate::parse(ours).and_then(|predicate| predicate.bind(View::whole(&relation), &[]));
        if REFUSED.contains(&ours.as_str()) {
            assert!(
                answer.starts_with("error: operator does not exist"),
                "{ours}: {answer}"
            );
            match bound {
                Err(Error::Type { .. }) => {}
                other => panic!("{ours}: {other:?}"),
            }
            continue;
        }
        let matcher = bound.unwrap_or_else(|error| panic!("{ours}: {error}"));
        let holds = |row: &[u8]| matcher.eval(&Row::new(Tuple::parse(row).unwrap().0)) == Verdict::Matches;
        let found = rows.iter().enumerate().filter(|(_, row)| holds(row));
        let found: Vec<String> = found.map(|(id, _)| id.to_string()).collect();
        assert_eq!(found.join(","), answer, "{ours}");
    }
    let refused = Predicate::parse("d = 'ok'")
        .unwrap()
        .bind(View::whole(&relation), &[]);
    let message = refused.unwrap_err().to_string();
    assert!(
        message.contains("feeling") && message.contains("::text"),
        "{message}"
    );
}
