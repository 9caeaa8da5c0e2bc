//! Readings of the clock, and arithmetic of dates, times and intervals, against Postgres itself: the same values of
//! the same types, and errors where it has errors.

use std::fmt::Write;

use walcast::cluster::Cluster;
use walcast::event::{Relation, ReplicaIdentity, TableName, Timestamp, View};
use walcast::filter::{Error, Predicate};
use walcast::types::{Datum, Kind, literal};

use crate::{cluster, seed};

/// The number of expressions that are tried at each time.
const EXPRESSIONS: usize = 1_500;

/// 2024-03-31 10:30:00.5+00, which is what the clock says in random predicates.
pub(crate) const NOW: Timestamp = Timestamp(765_196_200_500_000);

/// Times at which months, years and leap years begin and end.
const TIMES: [&str; 6] = [
    "2024-03-31 10:30:00.5+00",
    "2024-02-29 23:59:59.999999+00",
    "2023-12-31 00:00:00+00",
    "2100-03-01 00:00:00+00",
    "1970-01-01 00:00:00+00",
    "9999-12-31 23:59:59.999999+00",
];

/// The same at 2024-03-31 10:30:00.5+00, without a clock.
pub(crate) fn at_now(text: &str) -> String {
    at(text, TIMES[0])
}

fn at(text: &str, now: &str) -> String {
    let time = &now[11..];
    let local = now.strip_suffix("+00").unwrap();
    let mut text = text.to_owned();
    for (name, literal) in [
        ("transaction_timestamp()", format!("timestamptz '{now}'")),
        ("statement_timestamp()", format!("timestamptz '{now}'")),
        ("now()", format!("timestamptz '{now}'")),
        ("current_timestamp", format!("timestamptz '{now}'")),
        ("localtimestamp", format!("timestamp '{local}'")),
        ("current_date", format!("date '{}'", &now[..10])),
        (
            "localtime",
            format!("time '{}'", time.strip_suffix("+00").unwrap()),
        ),
        ("current_time", format!("timetz '{time}'")),
    ] {
        text = text.replace(name, &literal);
    }
    text
}

fn timestamp(text: &str) -> Timestamp {
    match literal(&Kind::TimestampTz, text) {
        Ok(Datum::Timestamp(micros)) => Timestamp(micros),
        other => panic!("{text}: {other:?}"),
    }
}

const CLOCKS: &[&str] = &[
    "now()",
    "now()",
    "current_timestamp",
    "transaction_timestamp()",
    "statement_timestamp()",
    "localtimestamp",
    "current_date",
    "current_date",
];
const MOMENTS: &[&str] = &[
    "2024-02-29",
    "2000-01-31",
    "0001-01-01",
    "0044-03-15 BC",
    "4714-11-24 BC",
    "4714-12-25 BC",
    "294276-12-31",
    "infinity",
    "-infinity",
];
const TIMES_OF_DAY: &[&str] = &["", "", " 00:00:00", " 23:59:59.999999", " 10:30"];
const INTERVALS: &[&str] = &[
    "1 day",
    "7 days",
    "1 mon",
    "1 month",
    "13 months",
    "1 year",
    "-1 year",
    "1 hour",
    "90 minutes",
    "1 week",
    "1.5 seconds",
    "1 mon 2 days ago",
    "@ 1 day -2 hours",
    "3 days ago",
    "-1 mons +2 days -03:04:05.678901",
    "1 year 2 mons 3 days 04:05:06.789",
    "P1Y2M3DT4H5M6.7S",
    "P-1M2D",
    "PT36H",
    "P2W",
    "00:00:00",
    "-00:00:00.000001",
    "6000 years",
    "-4800 years",
    "292276 years",
    "178956970 years 7 mons",
    "2147483647 days",
    "-2147483648 days",
    "2562047788:00:54.775807",
    "-2562047788:00:54.775808",
];
const PRECISIONS: &[&str] = &[
    "microseconds",
    "milliseconds",
    "second",
    "minute",
    "hour",
    "day",
    "DAY",
    "week",
    "month",
    "quarter",
    "year",
    "century",
];

struct Generator<'a> {
    rng: &'a mut fastrand::Rng,
}

impl Generator<'_> {
    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        self.rng.choice(from).unwrap()
    }

    fn moment(&mut self, depth: u32) -> String {
        if depth == 0 || self.rng.u8(..4) == 0 {
            return match self.rng.u8(..3) {
                0 => {
                    let ty = self.pick(&["date", "timestamp", "timestamptz"]);
                    let date = self.pick(MOMENTS);
                    let mut time = self.pick(TIMES_OF_DAY);
                    if ty == "date" || date.ends_with("infinity") {
                        time = "";
                    }
                    match date.strip_suffix(" BC") {
                        Some(date) => format!("'{date}{time} BC'::{ty}"),
                        None => format!("{ty} '{date}{time}'"),
                    }
                }
                _ => self.pick(CLOCKS).to_owned(),
            };
        }
        let depth = depth - 1;
        match self.rng.u8(..12) {
            0..3 => format!("{} - {}", self.moment(depth), self.interval(depth)),
            3..5 => format!("{} + {}", self.moment(depth), self.interval(depth)),
            5 => format!("{} + {}", self.interval(depth), self.moment(depth)),
            6 => {
                let operator = self.pick(&["+", "-"]);
                let days = self.integer();
                format!("({})::date {operator} {days}", self.moment(depth))
            }
            7 => format!("{} + {}", self.integer(), self.pick(&["current_date", "now()"])),
            8 => {
                let to = self.pick(&["date", "timestamp", "timestamptz"]);
                format!("({})::{to}", self.moment(depth))
            }
            9 => format!("date_trunc('{}', {})", self.pick(PRECISIONS), self.moment(depth)),
            10 => {
                let operator = self.pick(&["+", "-"]);
                let interval = self.pick(INTERVALS);
                format!("{} {operator} '{interval}'", self.moment(depth))
            }
            _ => format!("({})", self.moment(depth)),
        }
    }

    fn interval(&mut self, depth: u32) -> String {
        if depth == 0 || self.rng.u8(..2) == 0 {
            let interval = self.pick(INTERVALS);
            return match self.rng.u8(..3) {
                0 => format!("'{interval}'::interval"),
                _ => format!("interval '{interval}'"),
            };
        }
        let depth = depth - 1;
        match self.rng.u8(..8) {
            0 => format!("({} + {})", self.interval(depth), self.interval(depth)),
            1 => format!("({} - {})", self.interval(depth), self.interval(depth)),
            2 => format!("({} - {})", self.moment(depth), self.moment(depth)),
            3 => format!("{} * {}", self.integer(), self.interval(depth)),
            4 => format!("{} * {}", self.interval(depth), self.integer()),
            5 => format!("(- {})", self.interval(depth)),
            6 => format!("({} - '{}')", self.interval(depth), self.pick(INTERVALS)),
            _ => self.interval(0),
        }
    }

    fn integer(&mut self) -> &'static str {
        self.pick(&[
            "0",
            "1",
            "7",
            "30",
            "(-7)",
            "'7'",
            "2::int2",
            "3::bigint",
            "100000",
            "2147483647",
            "3000000000",
            "(7 - 3)",
            "NULL",
            "1.5",
        ])
    }

    fn expression(&mut self) -> String {
        match self.rng.u8(..5) {
            0 => format!("{} - {}", self.moment(2), self.moment(1)),
            1 => format!("{} - {}", self.pick(CLOCKS), self.interval(2)),
            2 => format!("now() + {}", self.interval(2)),
            _ => {
                let moment = self.moment(3);
                // What is not computed goes to the server as it is.
                format!("{moment} + interval '0 days'")
            }
        }
    }
}

/// The server's answers to expressions, in a transaction that begins with `begin`: the type and the text of each, or
/// that it is an error.
fn answers(cluster: &Cluster, begin: &str, expressions: &[String]) -> Vec<String> {
    let mut sql = String::from(
        "CREATE OR REPLACE FUNCTION value(expression text) RETURNS text LANGUAGE plpgsql AS $f$
         DECLARE result text;
         BEGIN
           EXECUTE 'SELECT pg_typeof(x) || ''|'' || coalesce(x::text, ''null'') FROM (SELECT ' || expression || ') AS s(x)' INTO result;
           RETURN result;
         EXCEPTION WHEN OTHERS THEN RETURN 'error: ' || replace(sqlerrm, E'\\n', ' ');
         END $f$;\n",
    );
    sql.push_str(begin);
    for expression in expressions {
        writeln!(sql, "SELECT value($walcast${expression}$walcast$);").unwrap();
    }
    cluster.psql(&sql).lines().map(str::to_owned).collect()
}

/// The same here: what the server is asked for in the expression's place.
fn ours(expression: &str, now: Timestamp) -> Result<String, Error> {
    let relation = Relation {
        oid: 1,
        table: TableName::new("public", "t"),
        replica_identity: ReplicaIdentity::Full,
        columns: Vec::new(),
        key: Vec::new(),
        logging: Default::default(),
    };
    let mut predicate = Predicate::parse(&format!("({expression}) IS NULL"))?;
    predicate.set_now(now);
    predicate.bind(View::whole(&relation), &[])?;
    let pushed = predicate.to_sql(View::whole(&relation), &[])?;
    let (_, sql) = pushed
        .sql
        .split_once("CAST(")
        .unwrap_or_else(|| panic!("{expression}: {pushed:?}"));
    let (value, ty) = sql.split_once(" AS ").unwrap();
    let (ty, _) = ty.split_once(')').unwrap();
    let value = match pushed.values.as_slice() {
        [Some(value)] => value.clone(),
        _ if value == "NULL" => "null".to_owned(),
        _ => value.trim_matches(['(', ')']).to_owned(),
    };
    // Of the types' names only the long ones are in another form there.
    Ok(format!(
        "{}|{value}",
        ty.replace("timestamp without time zone", "timestamp")
    ))
}

fn compare(expressions: &[String], answers: &[String], now: Timestamp, refused: &mut Vec<String>) -> usize {
    assert_eq!(expressions.len(), answers.len());
    let mut same = 0;
    for (expression, answer) in expressions.iter().zip(answers) {
        let theirs = answer.replace("timestamp without time zone", "timestamp");
        match (ours(expression, now), theirs.starts_with("error: ")) {
            (Ok(found), false) => {
                assert_eq!(found, theirs, "{expression}");
                same += 1;
            }
            (Ok(found), true) => panic!("{expression} is {found} here, and there {theirs}"),
            (Err(_), true) => {}
            (Err(error), false) => {
                let is_invalid = matches!(&error, Error::Literal { source, .. } if source.to_string().contains("invalid input"));
                assert!(!is_invalid, "{expression} is {theirs} there, and here {error}");
                refused.push(format!("{expression}: {error}"));
            }
        }
    }
    same
}

#[test]
fn dates_and_times_are_computed_as_there() {
    let (cluster, mut rng) = cluster(seed());
    let mut generator = Generator { rng: &mut rng };
    let version: u32 = cluster.psql("SHOW server_version_num").parse().unwrap();
    // Before 15 Postgres reads no more hours than an integer has: the longest intervals are errors there, and exact
    // here.
    let is_read_there = |text: &String| version >= 150_000 || !text.contains("2562047788");
    let mut expressions = || -> Vec<String> {
        let all = std::iter::repeat_with(|| generator.expression());
        all.filter(is_read_there).take(EXPRESSIONS).collect()
    };
    let mut same = 0;
    let mut refused = Vec::new();
    for now in TIMES {
        let expressions = expressions();
        let theirs: Vec<String> = expressions.iter().map(|expression| at(expression, now)).collect();
        let answers = answers(&cluster, "", &theirs);
        same += compare(&expressions, &answers, timestamp(now), &mut refused);
    }
    // By the server's own clock. The transaction has several statements.
    let expressions: Vec<String> = expressions()
        .iter()
        .map(|expression| expression.replace("statement_timestamp", "transaction_timestamp"))
        .collect();
    let mut answers = answers(&cluster, "BEGIN; SELECT now();\n", &expressions);
    let now = timestamp(&answers.remove(0));
    same += compare(&expressions, &answers, now, &mut refused);
    let tried = EXPRESSIONS * (TIMES.len() + 1);
    eprintln!(
        "{same} of {tried} have the same value, {} are refused here alone",
        refused.len()
    );
    assert!(same * 5 > tried * 2, "few have a value");
    for refusal in &refused {
        let is_known = [
            "is out of range for type",
            "is not the plain form of this interval",
            "the sign of a cast",
            "date_trunc ",
            "the operator ",
        ]
        .iter()
        .any(|known| refusal.contains(known));
        // What has a factor with a fraction is not computed, and refused for the first part of it that has to be.
        let is_of_a_fraction = refusal.contains("* 1.5") || refusal.contains("1.5 *");
        assert!(
            is_known || is_of_a_fraction && refusal.contains("casting "),
            "{refusal}"
        );
    }
    // They are of factors with a fraction, of `century`, and of what versions before 17 make of overflows.
    assert!(refused.len() * 8 < tried, "{refused:#?}");
}
