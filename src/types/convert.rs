//! Casts of a row's values: [`Simple`] types, what their input functions make of a text, and how one becomes another.
//!
//! Casts of constants are done once, when a predicate is bound; these are done for each row, and can fail for one, as
//! they do in Postgres.

use super::parse::{boolean, float_value, numeric_literal};
use super::reading::uuid;
use super::{Datum, Decimal, Float, Kind, Reading, calendar};

/// The types that values of rows can be cast to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Simple {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `numeric`
    Numeric,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `uuid`
    Uuid,
    /// `date`
    Date,
    /// `timestamp`
    Timestamp,
    /// `timestamp with time zone`
    TimestampTz,
}

/// The reason why a value has no counterpart of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Postgres fails too.
    Fails,
    /// Postgres may understand it, depending on its version or settings.
    Unclear,
}

use Failure::{Fails, Unclear};

impl Simple {
    /// The type of that kind, if it is one of these.
    pub fn of(kind: &Kind) -> Option<Simple> {
        Some(match kind {
            Kind::Bool => Simple::Bool,
            Kind::Int2 => Simple::Int2,
            Kind::Int4 => Simple::Int4,
            Kind::Int8 => Simple::Int8,
            Kind::Numeric => Simple::Numeric,
            Kind::Float4 => Simple::Float4,
            Kind::Float8 => Simple::Float8,
            Kind::Uuid => Simple::Uuid,
            Kind::Date => Simple::Date,
            Kind::Timestamp => Simple::Timestamp,
            Kind::TimestampTz => Simple::TimestampTz,
            _ => return None,
        })
    }

    /// The values that an integer type holds.
    pub fn integers(self) -> Option<std::ops::RangeInclusive<i64>> {
        Some(match self {
            Simple::Int2 => i16::MIN.into()..=i16::MAX.into(),
            Simple::Int4 => i32::MIN.into()..=i32::MAX.into(),
            Simple::Int8 => i64::MIN..=i64::MAX,
            _ => return None,
        })
    }

    fn is_integer(self) -> bool {
        matches!(self, Simple::Int2 | Simple::Int4 | Simple::Int8)
    }

    fn is_number(self) -> bool {
        self.is_integer() || matches!(self, Simple::Numeric | Simple::Float4 | Simple::Float8)
    }

    /// True if values of this type can be cast to that one, as Postgres does it and exactly. (A float becomes a
    /// `numeric` by being printed with fifteen digits: that is not done here.)
    pub fn converts(self, to: Simple) -> bool {
        use Simple::{Bool, Date, Float4, Float8, Int4, Numeric, Timestamp, TimestampTz};
        match (self, to) {
            (Float4 | Float8, Numeric) => false,
            (Bool, Int4) | (Int4, Bool) => true,
            (Date | Timestamp | TimestampTz, Date | Timestamp | TimestampTz) => true,
            (from, to) => from == to || from.is_number() && to.is_number(),
        }
    }

    /// The value of a text, as the type's input function reads it.
    ///
    /// # Errors
    /// It is no value of the type, or only one to some versions or under some settings.
    pub fn input(self, text: &[u8]) -> Result<Datum<'_>, Failure> {
        let trimmed = trim(text);
        let invalid = || {
            if is_of_later_versions(trimmed) {
                Unclear
            } else {
                Fails
            }
        };
        Ok(match self {
            Simple::Bool => {
                let text = std::str::from_utf8(trimmed).map_err(|_| Unclear)?;
                Datum::Bool(boolean(text).ok_or(Fails)?)
            }
            Simple::Int2 | Simple::Int4 | Simple::Int8 => {
                let digits = trimmed.strip_prefix(b"-").or(trimmed.strip_prefix(b"+"));
                let digits = digits.unwrap_or(trimmed);
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return Err(invalid());
                }
                let text = std::str::from_utf8(trimmed).map_err(|_| Unclear)?;
                self.integer(text.parse().map_err(|_| Fails)?)?
            }
            Simple::Numeric => match Reading::Numeric.read(trimmed) {
                // Longer ones are over what a `numeric` holds, perhaps.
                Some(number) if trimmed.len() < 1_000 => number,
                _ => {
                    let text = std::str::from_utf8(trimmed).map_err(|_| Unclear)?;
                    let number = numeric_literal(text)
                        .map_err(|error| if error.is_range() { Unclear } else { invalid() })?;
                    Datum::Numeric(number)
                }
            },
            Simple::Float4 | Simple::Float8 => {
                let text = std::str::from_utf8(trimmed).map_err(|_| Unclear)?;
                let value = float_value(self == Simple::Float4, text);
                // What C's `strtod` reads besides: hexadecimal numbers, NaN with a payload.
                let is_of_c = text.contains(['x', 'X', '(']);
                let value = value.map_err(|_| if is_of_c { Unclear } else { Fails })?;
                Datum::Float(Float::new(value))
            }
            Simple::Uuid => Datum::Uuid(uuid(text).ok_or(Fails)?),
            // Postgres reads much more than the ISO form, by settings.
            Simple::Date | Simple::Timestamp | Simple::TimestampTz if trimmed.is_empty() => {
                return Err(Fails);
            }
            Simple::Date => Datum::Date(calendar::date(trimmed).ok_or(Unclear)?),
            Simple::Timestamp => Datum::Timestamp(calendar::timestamp(trimmed).ok_or(Unclear)?),
            Simple::TimestampTz => Datum::Timestamp(calendar::timestamptz(trimmed).ok_or(Unclear)?),
        })
    }

    /// A value of the type `from` as one of this type.
    ///
    /// # Errors
    /// It has no counterpart.
    pub fn convert<'a>(self, datum: Datum<'a>, from: Simple) -> Result<Datum<'a>, Failure> {
        Ok(match (datum, self) {
            (Datum::Int(value), to) if to.is_integer() => self.integer(value)?,
            (Datum::Int(value), Simple::Numeric) => decimal(value)?,
            (Datum::Int(value), Simple::Float4) => Datum::Float(Float::new(f64::from(value as f32))),
            (Datum::Int(value), Simple::Float8) => Datum::Float(Float::new(value as f64)),
            (Datum::Int(value), Simple::Bool) => Datum::Bool(value != 0),
            (Datum::Bool(value), Simple::Int4) => Datum::Int(value.into()),
            (Datum::Numeric(value), to) if to.is_integer() => self.integer(value.rounded().ok_or(Fails)?)?,
            (Datum::Numeric(value), Simple::Float4 | Simple::Float8) => {
                let text = value.to_scientific();
                let float = match self {
                    Simple::Float4 => text.parse::<f32>().map(f64::from),
                    _ => text.parse::<f64>(),
                };
                let float = float.map_err(|_| Unclear)?;
                let is_lost = float == 0.0 && !value.is_zero() || float.is_infinite() && value.is_finite();
                Datum::Float(Float::new((!is_lost).then_some(float).ok_or(Fails)?))
            }
            (Datum::Float(value), to) if to.is_integer() => {
                let rounded = value.value().round_ties_even();
                // The greatest `bigint` has no double of its own.
                let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded);
                self.integer(fits.then_some(rounded as i64).ok_or(Fails)?)?
            }
            (Datum::Float(value), Simple::Float4) if from == Simple::Float8 => {
                let wide = value.value();
                let narrow = value.value() as f32;
                let is_lost = narrow == 0.0 && wide != 0.0 || narrow.is_infinite() && wide.is_finite();
                Datum::Float(Float::new((!is_lost).then_some(narrow.into()).ok_or(Fails)?))
            }
            (Datum::Date(days), Simple::Timestamp | Simple::TimestampTz) => {
                let micros = calendar::midnight(days);
                Datum::Timestamp(calendar::is_timestamp(micros).then_some(micros).ok_or(Fails)?)
            }
            (Datum::Timestamp(micros), Simple::Date) => Datum::Date(calendar::day_of(micros)),
            // The session's time zone is UTC.
            (datum @ Datum::Timestamp(_), Simple::Timestamp | Simple::TimestampTz) => datum,
            (datum, to) if from == to => datum,
            (datum @ Datum::Float(_), Simple::Float8) => datum,
            _ => return Err(Unclear),
        })
    }

    /// An integer of this type, if it is in its range.
    ///
    /// # Errors
    /// It is not.
    pub fn integer<'a>(self, value: i64) -> Result<Datum<'a>, Failure> {
        let range = self.integers().ok_or(Unclear)?;
        range.contains(&value).then_some(Datum::Int(value)).ok_or(Fails)
    }
}

/// A `jsonb` number or boolean as a value of that type.
///
/// # Errors
/// It is of another kind, or out of range. (Whether `null` is an error depends on the version.)
pub fn of_jsonb(text: &[u8], to: Simple) -> Result<Datum<'_>, Failure> {
    let text = trim(text);
    match text.first() {
        Some(b'n') => Err(Unclear),
        Some(b't' | b'f') if to == Simple::Bool => Ok(Datum::Bool(text == b"true")),
        Some(b'-' | b'0'..=b'9') if to != Simple::Bool => {
            let number = Decimal::parse(text).ok_or(Unclear)?;
            match to {
                Simple::Numeric => Ok(Datum::Numeric(number)),
                to => to.convert(Datum::Numeric(number), Simple::Numeric),
            }
        }
        _ => Err(Fails),
    }
}

fn decimal<'a>(value: i64) -> Result<Datum<'a>, Failure> {
    let text = value.to_string();
    let number = Decimal::parse(text.as_bytes()).ok_or(Unclear)?;
    Ok(Datum::Numeric(number.into_owned()))
}

/// Without the blanks that C's `isspace` knows.
fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| !is_blank(byte))
        .map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// True if a number may be one since version 16: hexadecimal, octal, binary, or with underscores.
fn is_of_later_versions(text: &[u8]) -> bool {
    let unsigned = match text {
        [b'-' | b'+', rest @ ..] => rest,
        text => text,
    };
    matches!(unsigned, [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]) || unsigned.contains(&b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(to: Simple, text: &str) -> Result<Datum<'_>, Failure> {
        to.input(text.as_bytes())
    }

    #[test]
    fn a_text_is_read_as_an_input_function_reads_it() {
        assert_eq!(input(Simple::Int4, " -5\n"), Ok(Datum::Int(-5)));
        assert_eq!(input(Simple::Int2, "32768"), Err(Fails));
        for text in ["", "x", "1.0", "1e3", "- 5", "5 5"] {
            assert_eq!(input(Simple::Int4, text), Err(Fails), "{text:?}");
        }
        for text in ["0x1F", "-0b1", "1_000"] {
            assert_eq!(input(Simple::Int4, text), Err(Unclear), "{text:?}");
            assert_eq!(input(Simple::Numeric, text), Err(Unclear), "{text:?}");
        }
        assert_eq!(input(Simple::Float8, "0x1p3"), Err(Unclear));
        assert_eq!(input(Simple::Float8, "1e400"), Err(Fails));
        assert_eq!(input(Simple::Bool, " YE "), Ok(Datum::Bool(true)));
        assert_eq!(input(Simple::Bool, "maybe"), Err(Fails));
        assert_eq!(input(Simple::Date, "2000-01-02"), Ok(Datum::Date(1)));
        assert_eq!(input(Simple::Date, "Jan 2 2000"), Err(Unclear));
        assert_eq!(input(Simple::Numeric, " 1.50e1 "), input(Simple::Numeric, "15"));
    }

    #[test]
    fn numbers_are_rounded_and_fail_as_there() {
        let numeric = |text: &'static str| Datum::Numeric(Decimal::parse(text.as_bytes()).unwrap());
        for (text, expected) in [
            ("0.4", Ok(0)),
            ("0.5", Ok(1)),
            ("-0.5", Ok(-1)),
            ("2.5", Ok(3)),
            ("-2.4999", Ok(-2)),
            ("0.05", Ok(0)),
            ("99.5", Ok(100)),
            ("9223372036854775807.4", Ok(i64::MAX)),
            ("9223372036854775807.5", Err(Fails)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("10000000000000000000000", Err(Fails)),
            ("NaN", Err(Fails)),
            ("-Infinity", Err(Fails)),
        ] {
            let converted = Simple::Int8.convert(numeric(text), Simple::Numeric);
            assert_eq!(converted, expected.map(Datum::Int), "{text}");
        }
        let float = |value| Simple::Int4.convert(Datum::Float(Float::new(value)), Simple::Float8);
        assert_eq!(float(2.5), Ok(Datum::Int(2)));
        assert_eq!(float(3.5), Ok(Datum::Int(4)));
        assert_eq!(float(2_147_483_647.5), Err(Fails));
        assert_eq!(float(f64::NAN), Err(Fails));
        let real = |value| Simple::Float4.convert(Datum::Float(Float::new(value)), Simple::Float8);
        assert_eq!((real(1e300), real(1e-300)), (Err(Fails), Err(Fails)));
        assert_eq!(of_jsonb(b"1.50", Simple::Int4), Ok(Datum::Int(2)));
        assert_eq!(of_jsonb(b"\"1\"", Simple::Int4), Err(Fails));
        assert_eq!(of_jsonb(b"null", Simple::Int4), Err(Unclear));
    }
}
