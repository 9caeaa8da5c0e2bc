use proptest::prelude::*;

use super::*;
use crate::types::{Datum, literal};

fn interval(text: &str) -> Interval {
    Interval::literal(text).unwrap_or_else(|error| panic!("{error}"))
}

fn timestamp(text: &str) -> i64 {
    match literal(&Kind::Timestamp, text) {
        Ok(Datum::Timestamp(micros)) => micros,
        other => panic!("{text}: {other:?}"),
    }
}

// What is expected here is what Postgres 18 says in UTC.
#[test]
fn months_end_where_the_month_does_and_each_step_stays_in_range() {
    for (at, by, sum) in [
        ("2024-03-31 10:00", "-1 mon", Some("2024-02-29 10:00:00")),
        ("2023-03-31 10:00", "1 mon ago", Some("2023-02-28 10:00:00")),
        ("2024-02-29", "-1 year", Some("2023-02-28 00:00:00")),
        ("2024-02-29", "4 years", Some("2028-02-29 00:00:00")),
        ("1900-01-31", "1 mon", Some("1900-02-28 00:00:00")),
        ("2024-01-31", "1 mon -1 days", Some("2024-02-28 00:00:00")),
        (
            "2024-12-31 23:59:59.999999",
            "00:00:00.000001",
            Some("2025-01-01 00:00:00"),
        ),
        (
            "2024-01-15",
            "-1 year +2 mons -3 days +04:05:06.789",
            Some("2023-03-12 04:05:06.789"),
        ),
        ("0001-01-01", "-1 day", Some("0001-12-31 00:00:00 BC")),
        ("0001-12-31 BC", "-11 mons", Some("0001-01-31 00:00:00 BC")),
        ("4714-11-24 BC", "-00:00:00.000001", None),
        ("4714-11-24 BC", "-1 day +24:00:00", None),
        ("4714-12-01 BC", "-1 mon +1 day", None),
        ("294276-12-31 23:59:59.999999", "1 mon -40 days", None),
        ("294276-11-30", "1 mon", Some("294276-12-30 00:00:00")),
        ("2024-01-01", "178956970 years", None),
        ("2024-01-01", "2147483647 days", None),
        ("2024-01-01", "2562047788:00:54.775807", None),
        ("infinity", "-1 day", Some("infinity")),
        ("-infinity", "178956970 years", Some("-infinity")),
    ] {
        let found = timestamp_plus(timestamp(at), interval(by));
        let found = found.map(|micros| text(&Kind::Timestamp, micros));
        assert_eq!(found.as_deref(), sum, "{at} + {by}");
    }
}

#[test]
fn differences_are_in_days_and_time() {
    for (later, earlier, difference) in [
        ("2024-03-01", "2024-02-01 10:00", Some("28 days 14:00:00")),
        ("2024-02-01 10:00", "2024-03-01", Some("-28 days -14:00:00")),
        ("2024-01-01", "2024-01-01", Some("00:00:00")),
        ("infinity", "2024-01-01", None),
        ("294276-12-31", "4714-11-24 BC", None),
    ] {
        let found = timestamp_difference(timestamp(later), timestamp(earlier));
        let found = found.map(|interval| interval.to_string());
        assert_eq!(found.as_deref(), difference, "{later} - {earlier}");
    }
    assert_eq!(date_plus(i64::MAX, 7), Some(i64::MAX));
    assert_eq!(date_plus(2_145_031_948, 1), None);
    assert_eq!(date_difference(i64::MIN, 0), None);
}

#[test]
fn intervals_are_computed_field_by_field_and_do_not_overflow() {
    let times = |text: &str, factor| interval(text).times(factor).map(|product| product.to_string());
    assert_eq!(
        times("1 mon -2 days +03:00", -2).as_deref(),
        Some("-2 mons +4 days -06:00:00")
    );
    assert_eq!(times("1 day", 2_147_483_648), None);
    assert_eq!(times("00:00:01", i64::MAX), None);
    assert_eq!(times("1 mon", i64::MAX), None);
    let greatest = interval("2147483647 days");
    assert_eq!(greatest.plus(interval("1 day")), None);
    assert_eq!(
        greatest.negated().map(|least| least.to_string()).as_deref(),
        Some("-2147483647 days")
    );
    assert_eq!(interval("-2147483648 days").negated(), None);
}

#[test]
fn truncation_takes_the_beginning_of_the_unit() {
    for (at, unit, beginning) in [
        (
            "2024-05-31 12:34:56.789012",
            "milliseconds",
            "2024-05-31 12:34:56.789",
        ),
        ("2024-05-31 12:34:56.789012", "hour", "2024-05-31 12:00:00"),
        ("2024-05-31 12:34:56.789012", "day", "2024-05-31 00:00:00"),
        ("2024-01-01 00:00", "week", "2024-01-01 00:00:00"),
        ("2023-01-01 10:00", "WEEK", "2022-12-26 00:00:00"),
        ("1999-12-31", "week", "1999-12-27 00:00:00"),
        ("2024-05-31", "month", "2024-05-01 00:00:00"),
        ("2024-06-30", "quarter", "2024-04-01 00:00:00"),
        ("2024-06-30", "year", "2024-01-01 00:00:00"),
        ("0044-03-15 BC", "year", "0044-01-01 00:00:00 BC"),
        ("infinity", "week", "infinity"),
    ] {
        let found = truncated(timestamp(at), Precision::of(unit).unwrap()).unwrap();
        assert_eq!(text(&Kind::Timestamp, found), beginning, "{unit} of {at}");
    }
    assert_eq!(truncated(timestamp("4714-11-24 BC"), Precision::Months(12)), None);
    assert_eq!(Precision::of("century"), None);
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(micros in -211_813_488_000_000_000..9_223_371_331_200_000_000_i64) {
        for kind in [Kind::Timestamp, Kind::TimestampTz] {
            prop_assert_eq!(literal(&kind, &text(&kind, micros)), Ok(Datum::Timestamp(micros)));
        }
        let days = micros.div_euclid(DAY);
        prop_assert_eq!(literal(&Kind::Date, &text(&Kind::Date, days)), Ok(Datum::Date(days)));
        let time = micros.rem_euclid(DAY);
        prop_assert_eq!(literal(&Kind::Time, &text(&Kind::Time, time)), Ok(Datum::Time(time)));
    }

    #[test]
    fn an_interval_is_read_as_it_is_written(months: i32, days: i32, micros: i64) {
        for micros in [micros.max(-i64::MAX), 0, micros % 1_000_000] {
            let interval = Interval { months, days, micros };
            prop_assert_eq!(Interval::literal(&interval.to_string()), Ok(interval));
        }
    }
}
