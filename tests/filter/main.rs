//! The filter and the JSON writer against Postgres itself: random rows, random predicates, the same answers.
//!
//! The seed is printed; `WALCAST_SEED` sets it. `WALCAST_PAIRS` sets how many pairs of a row and a predicate are
//! compared.

// Clippy allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod clock;
mod collations;
mod computed;
mod domains;
mod letters;
mod predicates;
mod reasons;
mod sequences;
mod table;

use std::collections::BTreeMap;
use std::fmt::Write;

use walcast::cluster::{Cluster, Options};
use walcast::event::{Projection, Relation, Tuple, Value, View, encode_values};
use walcast::filter::{Error, Matcher, Predicate, Pushed, Row, Verdict};
use walcast::postgres::{ConnInfo, Connection, PINNED, Purpose};
use walcast::types::LiteralError;
use walcast::types::json::Numbers;

use predicates::{Written, predicate};
use reasons::{REASONS, reason};
use table::{ROWS, relation, table};

/// The number of pairs that are compared if `WALCAST_PAIRS` does not say.
const PAIRS: usize = 200_000;
/// The number of predicates that are tried on one table.
const PREDICATES: usize = 1_500;

/// The server's answer about a predicate.
pub(crate) enum Answer {
    /// It is no condition on the table.
    Error(String),
    /// The rows that it selects, and those that it fails for.
    Rows {
        selected: Vec<usize>,
        failed: Vec<usize>,
    },
}

impl Answer {
    pub(crate) fn of(text: &str) -> Answer {
        if text.starts_with("error: ") {
            return Answer::Error(text.to_owned());
        }
        let ids = text.split(',').filter(|id| !id.is_empty());
        let (failed, selected): (Vec<&str>, Vec<&str>) = ids.partition(|id| id.starts_with('!'));
        Answer::Rows {
            selected: selected.iter().map(|id| id.parse().unwrap()).collect(),
            failed: failed.iter().map(|id| id[1..].parse().unwrap()).collect(),
        }
    }
}

/// Asks the server which rows each predicate selects: their ids, those with a ! for which it fails, or its error.
fn answers(cluster: &Cluster, predicates: &[&Written]) -> Vec<String> {
    let mut sql = String::from(
        "CREATE OR REPLACE FUNCTION ids(condition text) RETURNS text LANGUAGE plpgsql AS $f$
         DECLARE result text; row int8; found bool;
         BEGIN
           EXECUTE 'SELECT coalesce(string_agg(id::text, '','' ORDER BY id), '''') FROM t WHERE ' || condition INTO result;
           RETURN result;
         EXCEPTION WHEN OTHERS THEN
           BEGIN
             EXECUTE 'SELECT FROM t WHERE id BETWEEN -1 AND -1 AND (' || condition || ')';
           EXCEPTION WHEN OTHERS THEN RETURN 'error: ' || replace(sqlerrm, E'\\n', ' ');
           END;
           result := '';
           FOR row IN SELECT id FROM t ORDER BY id LOOP
             BEGIN
               -- The cheapest condition is asked first, but an equality last.
               EXECUTE 'SELECT count(*) > 0 FROM t WHERE id BETWEEN ' || row || ' AND ' || row || ' AND (' || condition || ')' INTO found;
               result := result || CASE WHEN found THEN row || ',' ELSE '' END;
             EXCEPTION WHEN OTHERS THEN result := result || '!' || row || ',';
             END;
           END LOOP;
           RETURN result;
         END $f$;\n",
    );
    for written in predicates {
        writeln!(sql, "SELECT ids($walcast${}$walcast$);", written.theirs).unwrap();
    }
    // A last line keeps empty answers before it.
    let output = cluster.psql(&format!("{sql}SELECT 'end';"));
    let mut lines: Vec<String> = output.split('\n').map(str::to_owned).collect();
    assert_eq!(lines.pop().as_deref(), Some("end"));
    assert_eq!(lines.len(), predicates.len());
    lines
}

/// Reads `COPY … TO STDOUT`: for each row its tuple's bytes, as the replication stream would hold them.
fn tuples(copied: &str) -> Vec<Vec<u8>> {
    let rows = copied.lines().map(|line| {
        let fields: Vec<Option<String>> = line.split('\t').map(field).collect();
        let values = fields.iter().map(|field| match field {
            None => Value::Null,
            Some(text) => Value::Text(text.as_bytes()),
        });
        let mut bytes = Vec::new();
        encode_values(values, &mut bytes);
        bytes
    });
    rows.collect()
}

fn field(text: &str) -> Option<String> {
    if text == "\\N" {
        return None;
    }
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next().expect("an escape is complete") {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'v' => '\u{b}',
                other => other,
            },
            c => c,
        });
    }
    Some(out)
}

fn cluster(seed: u64) -> (Cluster, fastrand::Rng) {
    eprintln!("seed: WALCAST_SEED={seed}");
    (cluster_of("--locale=C.UTF-8"), fastrand::Rng::with_seed(seed))
}

/// A cluster whose databases have that locale.
fn cluster_of(locale: &str) -> Cluster {
    let wal_level = [("wal_level", "logical")];
    let settings = PINNED.iter().chain(&wal_level);
    let cluster = Cluster::start(&Options {
        settings: settings
            .map(|(name, value)| format!("{name} = '{value}'"))
            .collect(),
        initdb: locale.split(' ').map(str::to_owned).collect(),
        ..Options::default()
    });
    cluster.unwrap()
}

fn seed() -> u64 {
    match std::env::var("WALCAST_SEED") {
        Ok(seed) => seed.parse().expect("WALCAST_SEED is a number"),
        Err(_) => fastrand::u64(..),
    }
}

/// True if Postgres must refuse too what we refuse so.
fn is_error_there(error: &Error) -> bool {
    match error {
        Error::Unsupported { .. } | Error::Collation { .. } | Error::TooLarge { .. } => false,
        Error::Literal { source, .. } => {
            // A cast that fails is an error there only where it comes to it: not in NULL AND ….
            matches!(source, LiteralError::Invalid { .. })
        }
        _ => true,
    }
}

/// Hides random values of the row: what the matcher says of the rest must hold for the whole.
fn check_partial(
    rng: &mut fastrand::Rng,
    matcher: &Matcher,
    relation: &mut Relation,
    whole: Tuple<'_>,
    holds: bool,
) {
    let hidden = whole.values().map(|value| match value {
        Value::Text(_) if rng.u8(..3) == 0 => Value::Unchanged,
        value => value,
    });
    let hidden: Vec<Value<'_>> = hidden.collect();
    let mut bytes = Vec::new();
    encode_values(hidden.into_iter(), &mut bytes);
    for column in &mut relation.columns {
        column.identity = rng.bool();
    }
    let tuple = Tuple::parse(&bytes).unwrap().0;
    for row in [Row::new(tuple), Row::identity(tuple, relation)] {
        match matcher.eval(&row) {
            Verdict::Matches => assert!(holds, "{matcher:?} claims to match {row:?}"),
            Verdict::DoesNot => assert!(!holds, "{matcher:?} claims not to match {row:?}"),
            Verdict::Fails => panic!("{matcher:?} claims to fail for {row:?}"),
            Verdict::Undecided | Verdict::Unclear => {}
        }
    }
    let filled = matcher.eval(&Row::updated(tuple, whole));
    assert_eq!(
        filled == Verdict::Matches,
        holds,
        "the old row fills what did not change"
    );
}

/// The ids of the rows that the server selects by what it is asked for a snapshot; `None` if it fails for one.
fn selected(connection: &mut Connection, pushed: &Pushed) -> Option<Vec<usize>> {
    let sql = format!("SELECT id FROM public.t WHERE {} ORDER BY id", pushed.sql);
    connection.query("SAVEPOINT one").unwrap();
    let opened = connection.open_portal(&sql, &pushed.values, || true);
    let mut ids = Vec::new();
    let id = |row: &[u8]| match Tuple::parse(row).unwrap().0.get(0) {
        Some(Value::Text(id)) => ids.push(std::str::from_utf8(id).unwrap().parse().unwrap()),
        other => panic!("{other:?}"),
    };
    match opened.and_then(|_| connection.fetch(u32::MAX, || true, id)) {
        Ok(_) => {
            connection.query("ROLLBACK TO one; RELEASE one").unwrap();
            Some(ids)
        }
        // Of the class of data exceptions; or a NaN that is to be an integer.
        Err(error)
            if error
                .sqlstate()
                .is_some_and(|code| code.starts_with("22") || code == "0A000") =>
        {
            connection.query("ROLLBACK TO one; RELEASE one").unwrap();
            None
        }
        Err(error) => panic!("{error}: {pushed:?}"),
    }
}

/// Counts of what was compared, and of what was refused here that Postgres takes: how often, by reason.
#[derive(Default)]
struct Tally {
    pairs: usize,
    predicates: usize,
    /// Those that hold for some rows and not for others.
    telling: usize,
    /// Those that fail for some rows.
    failing: usize,
    /// The pairs of which nothing is said here.
    unclear: usize,
    refused: BTreeMap<String, usize>,
}

/// Tries random predicates on one table of random rows.
fn try_table(cluster: &Cluster, rng: &mut fastrand::Rng, tally: &mut Tally) {
    cluster.psql(&table(rng));
    let rows = tuples(&cluster.psql("COPY (SELECT * FROM t ORDER BY id) TO STDOUT"));
    assert_eq!(rows.len(), ROWS);
    let mut relation = relation(cluster);
    let mut connection = Connection::connect(
        &ConnInfo::parse(&cluster.url("postgres")).unwrap(),
        Purpose::Application,
    )
    .unwrap();
    // As for a snapshot: no operator counts that somebody made.
    connection
        .query("BEGIN; SET LOCAL search_path = pg_catalog")
        .unwrap();
    let predicates: Vec<Written> = (0..PREDICATES).map(|_| predicate(rng)).collect();
    let answers = answers(cluster, &predicates.iter().collect::<Vec<_>>());
    for (written, answer) in predicates.iter().zip(&answers) {
        let Written {
            ours,
            theirs,
            parameters,
        } = written;
        tally.predicates += 1;
        let mut parsed = Predicate::parse(ours);
        if let Ok(predicate) = &mut parsed {
            predicate.set_now(clock::NOW);
        }
        let bound = parsed
            .clone()
            .and_then(|predicate| predicate.bind(View::whole(&relation), parameters));
        let matcher = match bound {
            Ok(matcher) => matcher,
            Err(error) => {
                assert!(ours.is_char_boundary(error.offset()), "{ours}: {error:?}");
                if let Answer::Rows { .. } = Answer::of(answer) {
                    assert!(
                        !is_error_there(&error),
                        "refused here ({error}) but not there: {theirs}"
                    );
                    *tally.refused.entry(reason(&error)).or_default() += 1;
                }
                continue;
            }
        };
        let Answer::Rows {
            selected: expected,
            failed,
        } = Answer::of(answer)
        else {
            panic!("refused there ({answer}) but not here: {theirs}");
        };
        tally.telling += usize::from((1..ROWS).contains(&expected.len()));
        tally.failing += usize::from(!failed.is_empty());
        // Of several conditions one that decides may be asked first.
        let words = theirs.to_uppercase();
        let is_joined = ["AND", "OR ", "IN (", "BETWEEN"]
            .iter()
            .any(|word| words.contains(word));
        for (id, row) in rows.iter().enumerate() {
            let whole = Tuple::parse(row).unwrap().0;
            let verdict = matcher.eval(&Row::new(whole));
            tally.pairs += 1;
            match (verdict, expected.contains(&id), failed.contains(&id)) {
                (Verdict::Matches, true, _) | (Verdict::DoesNot, false, false) => {
                    let holds = verdict == Verdict::Matches;
                    check_partial(rng, &matcher, &mut relation, whole, holds);
                }
                (Verdict::Fails, _, true) => {}
                (Verdict::Unclear, ..) => tally.unclear += 1,
                (Verdict::Matches | Verdict::DoesNot, false, true) if is_joined => {}
                (verdict, is_in, fails) => {
                    panic!("row {id}: {verdict:?} (there in: {is_in}, fails: {fails}): {theirs}\n{matcher:?}")
                }
            }
        }
        let mut pushed = Pushed {
            citext: Some("public".to_owned()),
            ..Pushed::default()
        };
        parsed
            .unwrap()
            .append_sql(View::whole(&relation), parameters, &mut pushed)
            .unwrap();
        match selected(&mut connection, &pushed) {
            Some(mut selected) => {
                selected.retain(|id| !failed.contains(id));
                assert_eq!(selected, expected, "{theirs}\n{pushed:?}");
            }
            // Two that fail are asked in another order there.
            None => assert!(!failed.is_empty() || is_joined, "{theirs}\n{pushed:?}"),
        }
    }
}

#[test]
fn a_predicate_holds_here_exactly_when_it_holds_there() {
    let (cluster, mut rng) = cluster(seed());
    let wanted = match std::env::var("WALCAST_PAIRS") {
        Ok(pairs) => pairs.parse().expect("WALCAST_PAIRS is a number"),
        Err(_) => PAIRS,
    };
    let mut tally = Tally::default();
    while tally.pairs < wanted - wanted / 4 {
        try_table(&cluster, &mut rng, &mut tally);
    }
    drop(cluster);
    // The database's own collation is another one.
    let cluster = cluster_of("--locale=C");
    while tally.pairs < wanted {
        try_table(&cluster, &mut rng, &mut tally);
    }
    let refused: usize = tally.refused.values().sum();
    eprintln!(
        "{} pairs compared, of {} predicates; {} hold for some rows only; {} fail for some; {} pairs are unclear; {refused} are refused that Postgres takes:",
        tally.pairs, tally.predicates, tally.telling, tally.failing, tally.unclear
    );
    for (reason, count) in &tally.refused {
        eprintln!("{count:7} {reason}");
    }
    assert!(tally.failing * 100 > tally.predicates, "few predicates fail");
    assert!(tally.unclear * 100 < tally.pairs, "too much is unclear");
    assert!(
        tally.telling * 5 > tally.predicates * 2,
        "most predicates tell nothing"
    );
    for (reason, count) in &tally.refused {
        let limit = REASONS.iter().find(|(known, _)| known == reason);
        let (_, per_thousand) = limit.unwrap_or_else(|| panic!("a new reason: {reason}"));
        assert!(
            count * 1_000 <= per_thousand * tally.predicates,
            "too often: {reason}"
        );
    }
}

#[test]
fn a_row_is_written_byte_for_byte_as_row_to_json_writes_it() {
    let (cluster, mut rng) = cluster(seed());
    cluster.psql(&table(&mut rng));
    let rows = tuples(&cluster.psql("COPY (SELECT * FROM t ORDER BY id) TO STDOUT"));
    let expected = cluster.psql("SELECT row_to_json(t) FROM t ORDER BY id");
    let projection = Projection::all(&relation(&cluster), Numbers::Native);
    assert_eq!(expected.lines().count(), ROWS);
    for (row, expected) in rows.iter().zip(expected.lines()) {
        let mut out = Vec::new();
        assert_eq!(
            projection.write_row(Tuple::parse(row).unwrap().0, None, &mut out),
            0
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
