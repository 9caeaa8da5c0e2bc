use serde_json::{Value as Json, json};

use super::*;
use crate::event::{Relation, ReplicaIdentity, View};
use crate::filter::Matcher;
use crate::filter::testing::{column, table};

fn relation() -> Relation {
    let columns = [
        ("id", Kind::Int4),
        ("day", Kind::Date),
        ("ts", Kind::Timestamp),
        ("at", Kind::TimestampTz),
        ("lasts", Kind::Interval),
        ("tod", Kind::Time),
        ("todz", Kind::TimeTz),
    ];
    let columns = columns.map(|(name, kind)| column(name, kind));
    table(ReplicaIdentity::Full, columns)
}

/// 2024-03-31 10:30:00.5+00
const NOW: Timestamp = Timestamp(765_196_200_500_000);

fn bind(text: &str, parameters: &[Json]) -> Result<Matcher, Error> {
    let mut predicate = Predicate::parse(text)?;
    predicate.set_now(NOW);
    let pushed = predicate.to_sql(View::whole(&relation()), parameters);
    let bound = predicate.bind(View::whole(&relation()), parameters);
    assert!(pushed.is_ok() || bound.is_err(), "{text}");
    bound
}

#[test]
fn what_the_clock_says_is_a_constant() {
    for (text, parameters, same) in [
        ("at > now()", json!([]), "at > '2024-03-31 10:30:00.5+00'"),
        ("at > NOW( )", json!([]), "at > '2024-03-31 10:30:00.5+00'"),
        (
            "at > pg_catalog.now()",
            json!([]),
            "at > '2024-03-31 10:30:00.5+00'",
        ),
        (
            "at > current_timestamp",
            json!([]),
            "at > '2024-03-31 10:30:00.5+00'",
        ),
        (
            "at > transaction_timestamp()",
            json!([]),
            "at > '2024-03-31 10:30:00.5+00'",
        ),
        (
            "at > statement_timestamp()",
            json!([]),
            "at > '2024-03-31 10:30:00.5+00'",
        ),
        ("ts > localtimestamp", json!([]), "ts > '2024-03-31 10:30:00.5'"),
        (
            "ts > now()",
            json!([]),
            "ts > '2024-03-31 10:30:00.5+00'::timestamptz",
        ),
        ("day = CURRENT_DATE", json!([]), "day = '2024-03-31'"),
        ("at >= current_date", json!([]), "at >= '2024-03-31'::date"),
        ("tod < localtime", json!([]), "tod < '10:30:00.5'"),
        ("todz < current_time", json!([]), "todz < '10:30:00.5+00'"),
        (
            "at > now() - interval '1 mon'",
            json!([]),
            "at > '2024-02-29 10:30:00.5+00'",
        ),
        (
            "at > now() - '7 days'::interval",
            json!([]),
            "at > '2024-03-24 10:30:00.5+00'",
        ),
        (
            "at > now() + '1 day'",
            json!([]),
            "at > '2024-04-01 10:30:00.5+00'",
        ),
        (
            "at > now() - $1::interval",
            json!(["PT1H"]),
            "at > '2024-03-31 09:30:00.5+00'",
        ),
        (
            "at > now() - $1 * interval '1 day'",
            json!([30]),
            "at > '2024-03-01 10:30:00.5+00'",
        ),
        (
            "at > now() - 2 * interval '1 day'",
            json!([]),
            "at > '2024-03-29 10:30:00.5+00'",
        ),
        (
            "at > now() - interval '1 day' - interval '1 hour'",
            json!([]),
            "at > '2024-03-30 09:30:00.5+00'",
        ),
        (
            "at > now() - (interval '1 day' + '1 hour')",
            json!([]),
            "at > '2024-03-30 09:30:00.5+00'",
        ),
        (
            "at > now() + - interval '1 day'",
            json!([]),
            "at > '2024-03-30 10:30:00.5+00'",
        ),
        (
            "at > interval '1 day' + now()",
            json!([]),
            "at > '2024-04-01 10:30:00.5+00'",
        ),
        (
            "ts > current_date - interval '1 day'",
            json!([]),
            "ts > '2024-03-30'",
        ),
        ("day > current_date - 7", json!([]), "day > '2024-03-24'"),
        ("day > 1 + current_date", json!([]), "day > '2024-04-01'"),
        (
            "day > current_date - $1::int",
            json!(["31"]),
            "day > '2024-02-29'",
        ),
        ("day = now()::date", json!([]), "day = '2024-03-31'"),
        ("day = now()::date - 1", json!([]), "day = '2024-03-30'"),
        ("day = '2024-03-01'::date - 1", json!([]), "day = '2024-02-29'"),
        (
            "at >= date_trunc('month', now())",
            json!([]),
            "at >= '2024-03-01 00:00+00'",
        ),
        (
            "at >= date_trunc('week', now() - interval '1 week')",
            json!([]),
            "at >= '2024-03-18 00:00+00'",
        ),
        (
            "ts >= date_trunc('day', localtimestamp)",
            json!([]),
            "ts >= '2024-03-31'",
        ),
        ("id = current_date - '2024-03-01'", json!([]), "id = 30"),
        (
            "lasts > now() - '2024-03-30'",
            json!([]),
            "lasts > '1 day 10:30:00.5'",
        ),
        (
            "lasts < interval '1 day' - '2 hours'",
            json!([]),
            "lasts < '1 day -2 hours'",
        ),
        (
            "at BETWEEN now() - interval '1 day' AND now()",
            json!([]),
            "at BETWEEN '2024-03-30 10:30:00.5+00' AND '2024-03-31 10:30:00.5+00'",
        ),
        (
            "day IN (current_date, current_date - 1)",
            json!([]),
            "day IN ('2024-03-31', '2024-03-30')",
        ),
        ("at::date = current_date", json!([]), "at::date = '2024-03-31'"),
        ("at > now() - NULL::interval", json!([]), "at > NULL"),
        (
            "at > now() - interval '1 mon 2 days ago'",
            json!([]),
            "at > '2024-05-02 10:30:00.5+00'",
        ),
        (
            "at < 'infinity'::timestamptz - interval '1 day'",
            json!([]),
            "at < 'infinity'",
        ),
    ] {
        let parameters = parameters.as_array().unwrap();
        let bound = bind(text, parameters).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(bound, bind(same, &[]).unwrap(), "{text}");
    }
}

#[test]
fn what_has_no_value_is_refused_and_says_what_to_write() {
    for (text, parameters, message) in [
        (
            "at > now() - '7 days'",
            json!([]),
            "the operator - on timestamp with time zone and unknown (say what it is: interval '1 day', or $1::interval)",
        ),
        (
            "at > now() - $1",
            json!(["7 days"]),
            "(say what it is: interval '1 day', or $1::interval)",
        ),
        (
            "day > current_date - $1",
            json!([7]),
            "(say what it is: interval '1 day', or $1::interval)",
        ),
        (
            "at > now() - 7",
            json!([]),
            "the operator - on timestamp with time zone and integer (write an interval, such as interval '7 days')",
        ),
        (
            "at > now() + now()",
            json!([]),
            "the operator + on timestamp with time zone and timestamp with time zone (write an interval, such as interval '7 days')",
        ),
        (
            "day > current_date - 7::bigint",
            json!([]),
            "(a number of days is an integer: …::int)",
        ),
        (
            "at > now() - interval '1 day' * '1.5'",
            json!([]),
            "the operator * on interval and unknown",
        ),
        (
            "at > now() - interval '1 day' / 2",
            json!([]),
            "the operator / on interval and integer",
        ),
        (
            "now() - at < interval '1 day'",
            json!([]),
            "keep the column by itself, as in at > now() - interval '1 day'",
        ),
        (
            "at + interval '1 day' > now()",
            json!([]),
            "keep the column by itself, as in at > now() - interval '1 day'",
        ),
        (
            "at > now() - interval '300000 years'",
            json!([]),
            "\"2024-03-31 10:30:00.5+00 - 300000 years\" is out of range for type timestamp with time zone",
        ),
        (
            "day > current_date + 2147483647",
            json!([]),
            "\"2024-03-31 + 2147483647\" is out of range for type date",
        ),
        (
            "ts > '5874897-12-31'::date - interval '1 day'",
            json!([]),
            "\"5874897-12-31\" is out of range for type timestamp",
        ),
        (
            "lasts > now() - 'infinity'",
            json!([]),
            "\"2024-03-31 10:30:00.5+00 - infinity\" is out of range for type interval",
        ),
        (
            "at > now() - interval '1.5 days'",
            json!([]),
            "is not the plain form of this interval",
        ),
        (
            "at > now() - interval '7' day",
            json!([]),
            "an interval with its unit outside of the quotes (write interval '1 day')",
        ),
        (
            "at > date_trunc('century', now())",
            json!([]),
            "date_trunc to \"century\" (here it may be microseconds, milliseconds, second, minute, hour, day, week, month, quarter, year)",
        ),
        (
            "at > date_trunc('day', at)",
            json!([]),
            "date_trunc of anything but constants, such as now(),",
        ),
        (
            "at > date_trunc('day', now(), 'UTC')",
            json!([]),
            "date_trunc with a time zone",
        ),
        (
            "at > now",
            json!([]),
            ": the time is now(), with parentheses, and the day current_date",
        ),
        (
            "at > getdate()",
            json!([]),
            "the function getdate (the time is now(), the day current_date)",
        ),
        (
            "at > sysdate",
            json!([]),
            ": the time is now(), with parentheses, and the day current_date",
        ),
        (
            "at > now(3)",
            json!([]),
            "now is written with parentheses and nothing in them, now()",
        ),
        (
            "at > current_timestamp(3)",
            json!([]),
            "current_timestamp with a precision (write current_timestamp alone)",
        ),
        (
            "day > current_date()",
            json!([]),
            "current_date is written without parentheses",
        ),
        (
            "at > clock_timestamp()",
            json!([]),
            "the function clock_timestamp (it tells another time for each row",
        ),
        (
            "at > 'today'",
            json!([]),
            "the literal 'today' (write current_date)",
        ),
        (
            "age(at) < interval '1 day'",
            json!([]),
            "the function age (compare the column with now() and an interval",
        ),
        (
            "extract(year FROM at) = 2024",
            json!([]),
            "EXTRACT (compare the column itself",
        ),
        (
            "now()::text = 'x'",
            json!([]),
            "casting timestamp with time zone to text is not supported",
        ),
    ] {
        let error = bind(text, parameters.as_array().unwrap())
            .expect_err(text)
            .to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn the_clock_is_asked_once_and_not_at_all_where_nothing_says_the_time() {
    let predicate = Predicate::parse("at > now()").unwrap();
    assert!(predicate.asks_the_clock());
    assert!(predicate.bind(View::whole(&relation()), &[]).is_err());
    assert!(predicate.to_sql(View::whole(&relation()), &[]).is_err());
    let collated = "((id + (current_date - '2024-01-01'::date))::text) COLLATE \"C\" < '5'";
    assert!(Predicate::parse(collated).unwrap().asks_the_clock());
    let constant = Predicate::parse("day = '2024-03-01'::date - 1 AND id = 1 + 1").unwrap();
    assert!(!constant.asks_the_clock());
    assert!(constant.bind(View::whole(&relation()), &[]).is_ok());
}

#[test]
fn the_server_is_asked_for_the_same_constants() {
    let pushed = |text: &str| {
        let mut predicate = Predicate::parse(text).unwrap();
        predicate.set_now(NOW);
        let pushed = predicate
            .to_sql(View::whole(&relation()), &[json!("2 hours")])
            .unwrap();
        (pushed.sql, pushed.values)
    };
    let some = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| Some((*text).to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        pushed("at > now() - $1::interval AND id % 2 = current_date - '2024-03-30'"),
        (
            "((\"at\" > CAST($1 AS timestamp with time zone)) AND CASE WHEN ((\"at\" > CAST($2 AS timestamp with time zone))) \
             THEN ((\"id\" % (2)) = CAST((1) AS integer)) ELSE FALSE END)"
                .to_owned(),
            some(&["2024-03-31 08:30:00.5+00", "2024-03-31 08:30:00.5+00"]),
        )
    );
}
