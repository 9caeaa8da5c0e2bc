//! Dates and times of day in their ISO 8601 text, which is what the server prints under `DateStyle = ISO` and the only
//! spelling that means the same under every setting.

/// Microseconds in a day.
pub const DAY: i64 = 86_400_000_000;

/// The range of a `date`'s days: 4714-11-24 BC to 5874897-12-31 (`datatype/timestamp.h`).
const DATES: std::ops::Range<i64> = -2_451_545..2_147_483_494 - 2_451_545;

/// The range of a timestamp's microseconds: 4714-11-24 BC to 294276-12-31.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// A date and time as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    /// Days since 2000-01-01.
    days: i64,
    /// Microseconds since midnight, if a time of day is given.
    time: Option<i64>,
    /// Microseconds east of Greenwich, if an offset is given.
    offset: Option<i64>,
}

/// Days since 2000-01-01 of a date; the infinities are the extremes.
pub(super) fn date(text: &[u8]) -> Option<i64> {
    if let Some(infinity) = infinity(text) {
        return Some(infinity);
    }
    let written = written(text)?;
    (written.time.is_none() && written.offset.is_none() && DATES.contains(&written.days))
        .then_some(written.days)
}

/// Microseconds since 2000-01-01 of a timestamp without a time zone.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    if let Some(infinity) = infinity(text) {
        return Some(infinity);
    }
    let written = written(text)?;
    if written.offset.is_some() {
        return None;
    }
    moment(written)
}

/// Microseconds since 2000-01-01 UTC of a timestamp with a time zone; without an offset it is in UTC.
pub(super) fn timestamptz(text: &[u8]) -> Option<i64> {
    infinity(text).or_else(|| moment(written(text)?))
}

/// Microseconds since midnight of a time of day, up to 24:00:00.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    if text == b"24:00:00" {
        return Some(DAY);
    }
    let mut scan = Scan(text);
    let time = scan.time()?;
    scan.0.is_empty().then_some(time)
}

/// A time of day and its offset: microseconds since midnight there, and microseconds east of Greenwich.
pub(super) fn timetz(text: &[u8]) -> Option<(i64, i64)> {
    let (time, rest) = match text.strip_prefix(b"24:00:00") {
        Some(rest) => (DAY, rest),
        None => {
            let mut scan = Scan(text);
            (scan.time()?, scan.0)
        }
    };
    let mut scan = Scan(rest);
    let east = scan.offset()??;
    scan.0.is_empty().then_some((time, east))
}

/// A date as a timestamp: its midnight. Dates past the last timestamp stay below infinity, as in Postgres' comparisons.
pub(super) fn midnight(days: i64) -> i64 {
    match days {
        i64::MIN | i64::MAX => days,
        days => days.saturating_mul(DAY).clamp(i64::MIN + 1, i64::MAX - 1),
    }
}

/// The day that a timestamp lies in.
pub(super) fn day_of(micros: i64) -> i64 {
    match micros {
        i64::MIN | i64::MAX => micros,
        micros => micros.div_euclid(DAY),
    }
}

/// True if a timestamp can have that many microseconds.
pub(super) fn is_timestamp(micros: i64) -> bool {
    is_finite_timestamp(micros) || matches!(micros, i64::MIN | i64::MAX)
}

/// True if a timestamp that is not infinite can have that many microseconds.
pub(super) fn is_finite_timestamp(micros: i64) -> bool {
    TIMESTAMPS.contains(&micros)
}

/// True if a date that is not infinite can have that many days.
pub(super) fn is_date(days: i64) -> bool {
    DATES.contains(&days)
}

fn infinity(text: &[u8]) -> Option<i64> {
    if text.eq_ignore_ascii_case(b"infinity") {
        Some(i64::MAX)
    } else if text.eq_ignore_ascii_case(b"-infinity") {
        Some(i64::MIN)
    } else {
        None
    }
}

fn moment(written: Written) -> Option<i64> {
    let midnight = written.days.checked_mul(DAY)?;
    let local = midnight.checked_add(written.time.unwrap_or(0))?;
    let utc = local.checked_sub(written.offset.unwrap_or(0))?;
    TIMESTAMPS.contains(&utc).then_some(utc)
}

/// `2024-01-31`, `2024-01-31 10:00`, `2024-01-31T10:00:00.5+02:00`, `0044-03-15 BC`.
fn written(text: &[u8]) -> Option<Written> {
    let (text, before_christ) = match text {
        [rest @ .., b' ', b'B' | b'b', b'C' | b'c'] => (rest, true),
        _ => (text, false),
    };
    let mut scan = Scan(text);
    let days = scan.date(before_christ)?;
    let time = match scan.0.first() {
        Some(b' ' | b'T' | b't') => {
            scan.skip(1);
            Some(scan.time()?)
        }
        _ => None,
    };
    let offset = if time.is_some() { scan.offset()? } else { None };
    scan.0.is_empty().then_some(Written { days, time, offset })
}

/// The rest of a text.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    fn skip(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        (*first == byte).then_some(())
    }

    fn starts_with(&self, byte: u8) -> bool {
        self.0.first() == Some(&byte)
    }

    /// A number of `min` to `max` digits.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits < min || digits > max {
            return None;
        }
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        Some(number.iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0')))
    }

    /// `2024-01-31`: days since 2000-01-01.
    fn date(&mut self, before_christ: bool) -> Option<i64> {
        let year = self.number(4, 7)?;
        self.take(b'-')?;
        let month = self.number(2, 2)?;
        self.take(b'-')?;
        let day = self.number(2, 2)?;
        if year == 0 {
            return None;
        }
        let year = if before_christ { 1 - year } else { year };
        ((1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day))
            .then(|| days_from_civil(year, month, day))
    }

    /// `10:00`, `10:00:00.123456`: microseconds since midnight.
    fn time(&mut self) -> Option<i64> {
        let hour = self.number(2, 2)?;
        self.take(b':')?;
        let minute = self.number(2, 2)?;
        let mut second = 0;
        let mut micros = 0;
        if self.starts_with(b':') {
            self.skip(1);
            second = self.number(2, 2)?;
            if self.starts_with(b'.') {
                self.skip(1);
                let before = self.0.len();
                micros = self.number(1, 6)?;
                for _ in before - self.0.len()..6 {
                    micros *= 10;
                }
            }
        }
        (hour < 24 && minute < 60 && second < 60)
            .then_some(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros)
    }

    /// `Z`, `+02`, `-0330`, `+05:45`, `+00:19:32`: microseconds east; the inner `None` if there is none.
    fn offset(&mut self) -> Option<Option<i64>> {
        let sign = match self.0.first() {
            Some(b'Z' | b'z') => {
                self.skip(1);
                return Some(Some(0));
            }
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Some(None),
        };
        self.skip(1);
        let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (hour, mut minute, mut second) = match digits {
            2 => (self.number(2, 2)?, 0, 0),
            4 => {
                let both = self.number(4, 4)?;
                (both / 100, both % 100, 0)
            }
            _ => return None,
        };
        if digits == 2 && self.starts_with(b':') {
            self.skip(1);
            minute = self.number(2, 2)?;
            if self.starts_with(b':') {
                self.skip(1);
                second = self.number(2, 2)?;
            }
        }
        (hour <= 15 && minute < 60 && second < 60)
            .then_some(Some(sign * ((hour * 60 + minute) * 60 + second) * 1_000_000))
    }
}

/// The days of a month.
pub(super) fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 2000-01-01 in the proleptic Gregorian calendar; year 0 is 1 BC.
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Count years from March, so that the leap day is the last of its year, in eras of 400.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 730_425
}

/// The year, month and day of a number of days since 2000-01-01; year 0 is 1 BC.
pub(super) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 730_425;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_2000() {
        for (text, days) in [
            ("2000-01-01", 0),
            ("1999-12-31", -1),
            ("2000-03-01", 60),
            ("1970-01-01", -10_957),
            ("2024-02-29", 8_825),
            ("0001-01-01", -730_119),
            ("0001-12-31 BC", -730_120),
            ("4714-11-24 BC", -2_451_545),
            ("5874897-12-31", 2_145_031_948),
            ("infinity", i64::MAX),
            ("-Infinity", i64::MIN),
        ] {
            assert_eq!(date(text.as_bytes()), Some(days), "{text}");
        }
    }

    #[test]
    fn what_is_no_iso_date_is_refused() {
        let bad = [
            "",
            "2024",
            "2024-1-1",
            "24-01-01",
            "2024-13-01",
            "2024-00-01",
            "2024-02-30",
            "2023-02-29",
            "0000-01-01",
            "2024-01-01 10:00",
            "20240101",
            "Jan 1 2024",
            "now",
            "today",
            "epoch",
            "+infinity",
            "2024-01-01BC",
            "5874898-01-01",
            "4714-11-23 BC",
            "2024-01-01+02",
            "2024-01-01 ",
        ];
        for text in bad {
            assert_eq!(date(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn times_and_offsets_read_to_the_microsecond() {
        let noon = 12 * 3_600 * 1_000_000;
        for (text, micros) in [
            ("2000-01-01 12:00", noon),
            ("2000-01-01T12:00:00Z", noon),
            ("2000-01-01 14:00:00+02", noon),
            ("2000-01-01 08:30:00-0330", noon),
            ("2000-01-01 12:19:32+00:19:32", noon),
            ("2000-01-01 12:00:00.000001", noon + 1),
            ("2000-01-01 12:00:00.5+00", noon + 500_000),
            ("2000-01-01", 0),
            ("0001-12-31 00:00:00+00 BC", -730_120 * DAY),
            ("infinity", i64::MAX),
        ] {
            assert_eq!(timestamptz(text.as_bytes()), Some(micros), "{text}");
        }
        assert_eq!(timestamp(b"2000-01-01 12:00"), Some(noon));
        assert_eq!(
            timestamp(b"2000-01-01 12:00Z"),
            None,
            "Postgres would ignore the zone"
        );
        assert_eq!(time(b"24:00:00"), Some(DAY));
        assert_eq!(time(b"12:00"), Some(noon));
        for text in [
            "25:00",
            "12:60",
            "12:00:60",
            "12",
            "12:00+02",
            "12:00:00.1234567",
            "12:00:00.",
            "24:00:01",
        ] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
        for text in [
            "2000-01-01 12:00 UTC",
            "2000-01-01 12:00+2",
            "2000-01-01 12:00+16",
            "294277-01-01 00:00",
        ] {
            assert_eq!(timestamptz(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_date_past_the_last_timestamp_is_still_below_infinity() {
        assert_eq!(midnight(1), DAY);
        assert!(midnight(2_145_031_948) > TIMESTAMPS.end && midnight(2_145_031_948) < i64::MAX);
        assert_eq!(midnight(i64::MIN), i64::MIN);
    }
}
