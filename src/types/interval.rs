//! Intervals as their comparisons see them: microseconds, with months of 30 days and days of 24 hours
//! (`interval_cmp_value`).

use super::calendar::DAY;
use super::{Kind, LiteralError};

/// An interval by its fields: a month is not always as long, and neither is a day elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Years are twelve of them.
    pub months: i32,
    /// Weeks are seven of them.
    pub days: i32,
    /// Hours, minutes and seconds, in microseconds.
    pub micros: i64,
}

/// The fields of an interval, as Postgres keeps them.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    months: i64,
    days: i64,
    micros: i64,
}

impl Span {
    /// The fields, if Postgres could hold them.
    fn fields(self) -> Option<Interval> {
        Some(Interval {
            months: i32::try_from(self.months).ok()?,
            days: i32::try_from(self.days).ok()?,
            micros: self.micros,
        })
    }

    /// The value that is compared; `None` if Postgres could not hold the fields.
    fn value(self) -> Option<i128> {
        self.fields().map(value)
    }

    /// Adds a number of units. `Second` has its fraction in `micros`, whose sign is that of the number.
    fn add(&mut self, unit: Unit, count: i64, micros: i64) -> Option<()> {
        let (field, factor) = match unit {
            Unit::Year => (&mut self.months, 12),
            Unit::Month => (&mut self.months, 1),
            Unit::Week => (&mut self.days, 7),
            Unit::Day => (&mut self.days, 1),
            Unit::Hour => (&mut self.micros, 3_600_000_000),
            Unit::Minute => (&mut self.micros, 60_000_000),
            Unit::Second => (&mut self.micros, 1_000_000),
        };
        let added = count.checked_mul(factor)?.checked_add(micros)?;
        *field = field.checked_add(added)?;
        Some(())
    }
}

/// The units in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Year,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
}

impl Unit {
    fn of(word: &[u8]) -> Option<Unit> {
        const WORDS: [(&[&str], Unit); 7] = [
            (&["year", "years"], Unit::Year),
            (&["mon", "mons", "month", "months"], Unit::Month),
            (&["week", "weeks"], Unit::Week),
            (&["day", "days"], Unit::Day),
            (&["hour", "hours"], Unit::Hour),
            (&["min", "mins", "minute", "minutes"], Unit::Minute),
            (&["sec", "secs", "second", "seconds"], Unit::Second),
        ];
        let is_word = |name: &&str| name.as_bytes().eq_ignore_ascii_case(word);
        let (_, unit) = WORDS.iter().find(|(names, _)| names.iter().any(is_word))?;
        Some(*unit)
    }
}

/// The value of an interval as the server prints it under `IntervalStyle = postgres`; the infinities (Postgres 17) are
/// the extremes.
pub(super) fn printed(text: &[u8]) -> Option<i128> {
    match text {
        b"infinity" => Some(i128::MAX),
        b"-infinity" => Some(i128::MIN),
        text => words(text)?.value(),
    }
}

/// The value of a literal that [`literal_fields`] reads.
pub(super) fn literal(text: &str) -> Option<i128> {
    literal_fields(text).map(value)
}

/// The fields of a literal that means the same under every `IntervalStyle` and to every server: units in words from the
/// greatest to the least with the time of day last, and perhaps `ago` behind them, or ISO 8601 with designators.
pub(super) fn literal_fields(text: &str) -> Option<Interval> {
    if text.starts_with('P') {
        return iso(text.as_bytes())?.fields();
    }
    let text = text.trim_ascii();
    let text = text.strip_prefix('@').map_or(text, str::trim_ascii_start);
    let (text, is_ago) = match text.rsplit_once(' ') {
        Some((before, last)) if last.eq_ignore_ascii_case("ago") => (before.trim_ascii_end(), true),
        _ => (text, false),
    };
    // Where the style is sql_standard, one sign at the front is that of all fields, unless there are others.
    let has_more = |sign: &str| text.contains(&format!(" {sign}"));
    if text.starts_with('-') && text.split(' ').count() > 2 && !has_more("+") && !has_more("-") {
        return None;
    }
    let span = words(text.as_bytes())?;
    let fields = span.fields()?;
    // The server prints the least number of microseconds, and does not read it.
    let fields = Some(fields).filter(|fields| fields.micros != i64::MIN)?;
    if is_ago { fields.negated() } else { Some(fields) }
}

/// The words for a literal that is not in that form.
pub(super) fn not_plain(text: &str) -> LiteralError {
    LiteralError::NotPlain {
        ty: Kind::Interval.name(),
        text: text.to_owned(),
        example: "1 year 2 mons 3 days 04:05:06",
    }
}

/// The value that is compared.
fn value(of: Interval) -> i128 {
    (i128::from(of.months) * 30 + i128::from(of.days)) * i128::from(DAY) + i128::from(of.micros)
}

/// `1 year 2 mons -3 days +04:05:06.789`
fn words(text: &[u8]) -> Option<Span> {
    let mut span = Span::default();
    let mut least = None;
    let mut words = text.split(|b| *b == b' ');
    while let Some(number) = words.next() {
        if number.contains(&b':') {
            if least >= Some(Unit::Hour) || words.next().is_some() {
                return None;
            }
            time(number, &mut span)?;
            return Some(span);
        }
        let (count, micros) = signed(number)?;
        let unit = Unit::of(words.next()?)?;
        if least >= Some(unit) || (micros.is_some() && unit != Unit::Second) {
            return None;
        }
        least = Some(unit);
        span.add(unit, count, micros.unwrap_or(0))?;
    }
    Some(span)
}

/// `P1Y2M3W4DT5H6M7.8S`
fn iso(text: &[u8]) -> Option<Span> {
    let mut span = Span::default();
    let mut rest = text.strip_prefix(b"P")?;
    let mut least = None;
    let mut is_time = false;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(b"T")
            && !is_time
            && !after.is_empty()
        {
            is_time = true;
            rest = after;
        }
        let end = rest.iter().position(u8::is_ascii_uppercase)?;
        let (number, designator) = rest.split_at_checked(end)?;
        let (designator, after) = designator.split_first()?;
        rest = after;
        let unit = match (designator, is_time) {
            (b'Y', false) => Unit::Year,
            (b'M', false) => Unit::Month,
            (b'W', false) => Unit::Week,
            (b'D', false) => Unit::Day,
            (b'H', true) => Unit::Hour,
            (b'M', true) => Unit::Minute,
            (b'S', true) => Unit::Second,
            _ => return None,
        };
        let (count, micros) = signed(number)?;
        if least >= Some(unit) || number.starts_with(b"+") || (micros.is_some() && unit != Unit::Second) {
            return None;
        }
        least = Some(unit);
        span.add(unit, count, micros.unwrap_or(0))?;
    }
    least.map(|_| span)
}

/// `+04:05`, `-04:05:06.789`
fn time(text: &[u8], span: &mut Span) -> Option<()> {
    let (sign, text) = sign(text);
    let mut parts = text.split(|b| *b == b':');
    let hours = digits(parts.next()?)?;
    let minutes = digits(parts.next()?)?;
    let (seconds, micros) = match parts.next() {
        Some(seconds) => fraction(seconds)?,
        None => (0, None),
    };
    if parts.next().is_some() || minutes >= 60 || seconds >= 60 {
        return None;
    }
    // The least number of microseconds has no positive counterpart.
    span.add(Unit::Hour, sign * hours, 0)?;
    span.add(Unit::Minute, sign * minutes, 0)?;
    span.add(Unit::Second, sign * seconds, sign * micros.unwrap_or(0))
}

fn sign(text: &[u8]) -> (i64, &[u8]) {
    match text.split_first() {
        Some((b'-', rest)) => (-1, rest),
        Some((b'+', rest)) => (1, rest),
        _ => (1, text),
    }
}

/// A number and its millionths, if it has any.
fn signed(text: &[u8]) -> Option<(i64, Option<i64>)> {
    let (sign, text) = sign(text);
    let (whole, micros) = fraction(text)?;
    Some((sign * whole, micros.map(|micros| sign * micros)))
}

fn fraction(text: &[u8]) -> Option<(i64, Option<i64>)> {
    let Some(point) = text.iter().position(|b| *b == b'.') else {
        return Some((digits(text)?, None));
    };
    let (whole, fraction) = text.split_at_checked(point)?;
    let fraction = fraction.get(1..).filter(|fraction| fraction.len() <= 6)?;
    let mut micros = digits(fraction)?;
    for _ in fraction.len()..6 {
        micros *= 10;
    }
    Some((digits(whole)?, Some(micros)))
}

/// A number of up to ten digits: an interval has none longer.
fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 10 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i128 = 3_600_000_000;
    const DAYS: i128 = 24 * HOUR;

    #[test]
    fn intervals_are_as_long_as_their_comparisons_say() {
        for (text, value) in [
            ("00:00:00", 0),
            (
                "1 year 2 mons -3 days +04:05:06.789",
                (14 * 30 - 3) * DAYS + 4 * HOUR + 306_789_000,
            ),
            ("-1 days", -DAYS),
            ("1 mon -1 days", 29 * DAYS),
            ("-00:00:00.000001", -1),
            ("-1 years +1 mon", -330 * DAYS),
            ("2147483647 days", 2_147_483_647 * DAYS),
            ("178956970 years 7 mons", 2_147_483_647 * 30 * DAYS),
            ("2562047788:00:54.775807", i128::from(i64::MAX)),
            ("-2562047788:00:54.775808", i128::from(i64::MIN)),
            ("infinity", i128::MAX),
            ("-infinity", i128::MIN),
        ] {
            assert_eq!(printed(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            "1",
            "day",
            "1 day 2",
            "1:2:3:4",
            "1 x",
            "00:60",
            "2147483648 days",
            "2562047788:00:54.775808",
        ] {
            assert_eq!(printed(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn literals_are_words_or_iso_that_mean_the_same_everywhere() {
        for (text, value) in [
            ("1 year 2 months", 420 * DAYS),
            (" 2 WEEKS ", 14 * DAYS),
            ("90 minutes", HOUR * 3 / 2),
            ("1 day 12:00", DAYS + 12 * HOUR),
            ("1.5 seconds", 1_500_000),
            ("-1 day", -DAYS),
            ("-1 day +04:00", 4 * HOUR - DAYS),
            ("-04:00", -4 * HOUR),
            ("P1Y2M3DT4H5M6.7S", 423 * DAYS + 4 * HOUR + 306_700_000),
            ("P2W", 14 * DAYS),
            ("PT36H", 36 * HOUR),
            ("P-1DT4H", 4 * HOUR - DAYS),
            ("PT-0.5S", -500_000),
            ("3 days ago", -3 * DAYS),
            ("1 mon 2 days AGO", -32 * DAYS),
            ("@ 1 day -02:00", DAYS - 2 * HOUR),
            ("-1 day ago", DAYS),
            ("@1 day 2 hours ago", -DAYS - 2 * HOUR),
        ] {
            assert_eq!(literal(text), Some(value), "{text}");
        }
        for text in [
            "",
            "1",
            "90",
            "1 12:00",
            "1-2",
            "1.5 days",
            "ago",
            "@",
            "@ ago",
            "ago 3 days",
            "3 ago days",
            "3 days ago ago",
            "@ -1 day 04:00",
            "P1D ago",
            "-2562047788:00:54.775808",
            "-1 day 04:00",
            "-1 year 2 mons",
            "1:30.5",
            "00:00:60",
            "1 day 1 day",
            "1 day 1 year",
            "1 hour 00:05",
            "04:05 1 day",
            "infinity",
            "P",
            "PT",
            "P1",
            "P1DT",
            "p1d",
            " P1D",
            "P1D ",
            "P1.5D",
            "P1D1Y",
            "P0001-02-03",
            "PT1:30",
            "P+1D",
            "-P1D",
            "PT0.0000005S",
            "PT.5S",
            "P1H",
            "1 century",
            "P1YT",
            "PT1D",
        ] {
            assert_eq!(literal(text), None, "{text}");
        }
    }
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_text_gets_an_answer(text in "(P|T|[-+]|[0-9]{1,3}|9999999999| |:|\\.|year|day|D|S|\\PC){0,8}") {
            if let Some(value) = literal(&text) && !text.starts_with('P') && !text.contains('@') {
                prop_assert_eq!(printed(text.trim_ascii().as_bytes()), Some(value));
            }
        }
    }
}
