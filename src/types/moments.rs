//! Arithmetic of dates, timestamps and intervals, as a session in UTC does it (`timestamp.c`, `date.c`).
//!
//! Dates are days and timestamps microseconds since 2000-01-01, as in [`Datum`](super::Datum); the extremes are the
//! infinities. Where Postgres says that a result is out of range there is none here.

use std::fmt;

pub use super::calendar::DAY;
use super::calendar::{civil_from_days, days_from_civil, days_in, is_date, is_finite_timestamp, midnight};
pub use super::interval::Interval;
use super::parse::LiteralError;
use super::{Kind, interval};

impl Interval {
    /// The interval of a literal that means the same under every setting.
    ///
    /// # Errors
    /// It is none, or not in the plain form.
    pub fn literal(text: &str) -> Result<Interval, LiteralError> {
        interval::literal_fields(text).ok_or_else(|| interval::not_plain(text))
    }

    /// The interval, if its text can be read again: the least number of microseconds has a text that cannot.
    fn readable(self) -> Option<Interval> {
        (self.micros != i64::MIN).then_some(self)
    }

    /// The sum, field by field.
    pub fn plus(self, other: Interval) -> Option<Interval> {
        let sum = Interval {
            months: self.months.checked_add(other.months)?,
            days: self.days.checked_add(other.days)?,
            micros: self.micros.checked_add(other.micros)?,
        };
        sum.readable()
    }

    /// The difference, field by field.
    pub fn minus(self, other: Interval) -> Option<Interval> {
        let difference = Interval {
            months: self.months.checked_sub(other.months)?,
            days: self.days.checked_sub(other.days)?,
            micros: self.micros.checked_sub(other.micros)?,
        };
        difference.readable()
    }

    /// The interval that long the other way.
    pub fn negated(self) -> Option<Interval> {
        Interval::default().minus(self)
    }

    /// The product, which Postgres computes in `double precision`.
    pub fn times(self, factor: i64) -> Option<Interval> {
        let factor = factor as f64;
        let whole = |field: i32| {
            let product = f64::from(field) * factor;
            let fits = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&product);
            fits.then_some(product as i32)
        };
        let micros = (self.micros as f64 * factor).round_ties_even();
        // The greatest `bigint` has no double of its own.
        let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&micros);
        let product = Interval {
            months: whole(self.months)?,
            days: whole(self.days)?,
            micros: fits.then_some(micros as i64)?,
        };
        product.readable()
    }
}

/// As the server prints it under `IntervalStyle = postgres`.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_first = true;
        let mut is_negative = false;
        for (count, unit) in [
            (self.months / 12, "year"),
            (self.months % 12, "mon"),
            (self.days, "day"),
        ] {
            if count == 0 {
                continue;
            }
            let blank = if is_first { "" } else { " " };
            let sign = if is_negative && count > 0 { "+" } else { "" };
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "{blank}{sign}{count} {unit}{plural}")?;
            is_first = false;
            is_negative = count < 0;
        }
        if is_first || self.micros != 0 {
            let blank = if is_first { "" } else { " " };
            let sign = if self.micros < 0 {
                "-"
            } else if is_negative {
                "+"
            } else {
                ""
            };
            let micros = self.micros.unsigned_abs();
            write!(f, "{blank}{sign}")?;
            write_time(f, micros)?;
        }
        Ok(())
    }
}

/// A timestamp and an interval: first the months, then the days, then the time, and none of the steps may leave the
/// range.
pub fn timestamp_plus(micros: i64, interval: Interval) -> Option<i64> {
    if is_infinite(micros) {
        return Some(micros);
    }
    let mut sum = micros;
    if interval.months != 0 {
        let days = sum.div_euclid(DAY);
        let time = sum.rem_euclid(DAY);
        let (year, month, day) = civil_from_days(days);
        let months = year * 12 + month - 1 + i64::from(interval.months);
        let year = months.div_euclid(12);
        let month = months.rem_euclid(12) + 1;
        // The 31st of a month that has no such day is its last.
        let days = days_from_civil(year, month, day.min(days_in(year, month)));
        sum = finite(days.checked_mul(DAY)?.checked_add(time))?;
    }
    if interval.days != 0 {
        sum = finite(i64::from(interval.days).checked_mul(DAY)?.checked_add(sum))?;
    }
    finite(sum.checked_add(interval.micros))
}

/// The interval from `earlier` to `later`, in days and time.
pub fn timestamp_difference(later: i64, earlier: i64) -> Option<Interval> {
    if is_infinite(later) || is_infinite(earlier) {
        return None;
    }
    let micros = later.checked_sub(earlier)?;
    Some(Interval {
        months: 0,
        days: i32::try_from(micros / DAY).ok()?,
        micros: micros % DAY,
    })
}

/// A date some days later.
pub fn date_plus(date: i64, days: i64) -> Option<i64> {
    if is_infinite(date) {
        return Some(date);
    }
    date.checked_add(days).filter(|date| is_date(*date))
}

/// The days from `earlier` to `later`.
pub fn date_difference(later: i64, earlier: i64) -> Option<i64> {
    if is_infinite(later) || is_infinite(earlier) {
        return None;
    }
    later.checked_sub(earlier)
}

/// To what `date_trunc` truncates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// A number of microseconds that divides the day.
    Micros(i64),
    /// From Monday.
    Week,
    /// A number of months that divides the year.
    Months(i64),
}

impl Precision {
    /// The precisions by their names.
    pub const NAMES: [(&str, Precision); 10] = [
        ("microseconds", Precision::Micros(1)),
        ("milliseconds", Precision::Micros(1_000)),
        ("second", Precision::Micros(1_000_000)),
        ("minute", Precision::Micros(60_000_000)),
        ("hour", Precision::Micros(3_600_000_000)),
        ("day", Precision::Micros(DAY)),
        ("week", Precision::Week),
        ("month", Precision::Months(1)),
        ("quarter", Precision::Months(3)),
        ("year", Precision::Months(12)),
    ];

    /// The precision of that name, in whatever case.
    pub fn of(name: &str) -> Option<Precision> {
        let mut names = Precision::NAMES.iter();
        let found = names.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, precision)| *precision)
    }
}

/// `date_trunc` of a timestamp.
pub fn truncated(micros: i64, to: Precision) -> Option<i64> {
    if is_infinite(micros) {
        return Some(micros);
    }
    let days = micros.div_euclid(DAY);
    finite(match to {
        Precision::Micros(unit) => micros.checked_sub(micros.rem_euclid(unit)),
        // 2000-01-03 was a Monday.
        Precision::Week => days.checked_sub((days - 2).rem_euclid(7))?.checked_mul(DAY),
        Precision::Months(unit) => {
            let (year, month, _) = civil_from_days(days);
            days_from_civil(year, month - (month - 1) % unit, 1).checked_mul(DAY)
        }
    })
}

/// A date, timestamp or time of day as the server prints it in ISO 8601, a `timestamptz` and a `timetz` in UTC. It is
/// read as the same value again.
pub fn text(kind: &Kind, value: i64) -> String {
    struct Text<'a>(&'a Kind, i64);

    impl fmt::Display for Text<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Text(kind, value) = *self;
            let is_time = matches!(kind, Kind::Time | Kind::TimeTz);
            match value {
                i64::MAX => return f.write_str("infinity"),
                i64::MIN => return f.write_str("-infinity"),
                _ => {}
            }
            let (days, time) = match kind {
                Kind::Date => (value, 0),
                _ => (value.div_euclid(DAY), value.rem_euclid(DAY)),
            };
            let (year, month, day) = civil_from_days(days);
            if !is_time {
                let year = if year > 0 { year } else { 1 - year };
                write!(f, "{year:04}-{month:02}-{day:02}")?;
            }
            if *kind != Kind::Date {
                f.write_str(if is_time { "" } else { " " })?;
                write_time(f, time.unsigned_abs())?;
            }
            if matches!(kind, Kind::TimestampTz | Kind::TimeTz) {
                f.write_str("+00")?;
            }
            f.write_str(if year > 0 || is_time { "" } else { " BC" })
        }
    }

    Text(kind, value).to_string()
}

/// A date as the timestamp of its midnight, if there is such a one.
pub fn midnight_of(date: i64) -> Option<i64> {
    let micros = midnight(date);
    (is_infinite(micros) || is_finite_timestamp(micros)).then_some(micros)
}

fn is_infinite(value: i64) -> bool {
    matches!(value, i64::MIN | i64::MAX)
}

fn finite(micros: Option<i64>) -> Option<i64> {
    micros.filter(|micros| is_finite_timestamp(*micros))
}

/// `04:05:06.789`
fn write_time(f: &mut fmt::Formatter<'_>, micros: u64) -> fmt::Result {
    let seconds = micros / 1_000_000;
    let fraction = micros % 1_000_000;
    let hours = seconds / 3_600;
    let minutes = seconds / 60 % 60;
    write!(f, "{hours:02}:{minutes:02}:{:02}", seconds % 60)?;
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "moments_tests.rs"]
mod tests;
