//! Literals as people write them, to [`Datum`]: [`literal`], and [`cast`] between types.
//!
//! A literal is accepted only if Postgres' own input function gives it the same value under every setting; where that
//! function accepts more (month names, zone names, `now`, hexadecimal), the literal is refused.

use std::borrow::Cow;

use super::reading::{timetz, uuid, without_trailing_blanks};
use super::{CaseMap, Ctype, Datum, Decimal, Float, Inet, Kind, Quoted, Reading};
use super::{bytea, calendar, interval};
use crate::lsn::Lsn;

/// The reason why a literal has no value of the type that it needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiteralError {
    /// Postgres would refuse it too.
    #[error("invalid input syntax for type {ty}: {}", Quoted(text))]
    Invalid {
        /// The type.
        ty: &'static str,
        /// The literal.
        text: String,
    },
    /// Postgres would refuse it too.
    #[error("{} is out of range for type {ty}", Quoted(text))]
    OutOfRange {
        /// The type.
        ty: &'static str,
        /// The literal.
        text: String,
    },
    /// Postgres may understand it, but only the ISO form means the same everywhere.
    #[error("{} is not an ISO 8601 {ty}, such as '{example}'", Quoted(text))]
    NotIso {
        /// The type.
        ty: &'static str,
        /// The literal.
        text: String,
        /// An example of how it should look.
        example: &'static str,
    },
    /// Postgres may understand it, but only the plain form means the same everywhere.
    #[error(
        "{} is not the plain form of this {ty}: write it like '{example}'",
        Quoted(text)
    )]
    NotPlain {
        /// The type.
        ty: &'static str,
        /// The literal.
        text: String,
        /// An example of how it should look.
        example: &'static str,
    },
    /// It nests deeper than is followed.
    #[error("this {ty} is nested deeper than {limit} levels")]
    TooDeep {
        /// The type.
        ty: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Values of the type cannot be compared here.
    #[error("comparing values of type {0} is not supported")]
    Unsupported(&'static str),
    /// The database's collation folds letters in a way that is not known here.
    #[error(
        "comparing citext is not supported in this database: how its collation folds letters is known to the server alone"
    )]
    Citext(Ctype),
    /// There is no such conversion here.
    #[error("casting {from} to {to} is not supported: write the value as a quoted literal of that type")]
    Cast {
        /// The value's type.
        from: &'static str,
        /// The type asked for.
        to: &'static str,
    },
}

/// The value of a quoted literal as that type, as Postgres' input function reads it.
pub fn literal(kind: &Kind, text: &str) -> Result<Datum<'static>, LiteralError> {
    let trimmed = text.trim_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let invalid = || LiteralError::Invalid {
        ty: kind.name(),
        text: text.to_owned(),
    };
    let not_iso = |example| LiteralError::NotIso {
        ty: kind.name(),
        text: text.to_owned(),
        example,
    };
    let not_plain = |example| LiteralError::NotPlain {
        ty: kind.name(),
        text: text.to_owned(),
        example,
    };
    Ok(match kind {
        Kind::Bool => Datum::Bool(boolean(trimmed).ok_or_else(invalid)?),
        Kind::Int2 | Kind::Int4 | Kind::Int8 => integer_literal(kind, trimmed, text)?,
        Kind::Numeric => Datum::Numeric(numeric_literal(trimmed).map_err(|e| e.into_error(kind, text))?),
        Kind::Float4 | Kind::Float8 => float_literal(kind, trimmed).map_err(|e| e.into_error(kind, text))?,
        Kind::Text => Datum::Text(Cow::Owned(text.into())),
        Kind::Bpchar => Datum::Text(Cow::Owned(without_trailing_blanks(text.as_bytes()).into())),
        Kind::Citext(ctype) => {
            let case = CaseMap::of(ctype).ok_or_else(|| LiteralError::Citext(ctype.clone()))?;
            let lower = case.lower(text.as_bytes()).ok_or_else(invalid)?;
            Datum::Text(Cow::Owned(lower.into_owned()))
        }
        Kind::Uuid => Datum::Uuid(uuid(text.as_bytes()).ok_or_else(invalid)?),
        Kind::Date => Datum::Date(calendar::date(trimmed.as_bytes()).ok_or_else(|| not_iso("2024-01-31"))?),
        Kind::Time => Datum::Time(calendar::time(trimmed.as_bytes()).ok_or_else(|| not_iso("10:00:00.5"))?),
        Kind::Timestamp => {
            let micros = calendar::timestamp(trimmed.as_bytes());
            Datum::Timestamp(micros.ok_or_else(|| not_iso("2024-01-31 10:00:00"))?)
        }
        Kind::TimestampTz => {
            let micros = calendar::timestamptz(trimmed.as_bytes());
            Datum::Timestamp(micros.ok_or_else(|| not_iso("2024-01-31 10:00:00+02"))?)
        }
        Kind::TimeTz => timetz(trimmed.as_bytes()).ok_or_else(|| not_iso("10:00:00.5+02"))?,
        Kind::Interval => {
            let value = interval::literal(text);
            Datum::Interval(value.ok_or_else(|| interval::not_plain(text))?)
        }
        Kind::Bytea if !text.is_ascii() => return Err(not_plain("\\xdeadbeef")),
        Kind::Bytea => Datum::Bytea(bytea::literal(text).ok_or_else(invalid)?.into()),
        Kind::Bit => Datum::Bit(bits(text).ok_or_else(invalid)?.into()),
        Kind::Inet => Datum::Inet(Inet::parse(text.as_bytes()).ok_or_else(|| not_plain("10.0.0.1/8"))?),
        Kind::Cidr => {
            let network = Inet::parse(text.as_bytes()).ok_or_else(|| not_plain("10.0.0.0/8"))?;
            Datum::Inet(network.is_network().then_some(network).ok_or_else(invalid)?)
        }
        Kind::MacAddr | Kind::MacAddr8 => {
            let reading = Reading::of(kind).and_then(|reading| reading.read(trimmed.as_bytes()));
            reading
                .ok_or_else(|| not_plain("08:00:2b:01:02:03"))?
                .into_owned()
        }
        Kind::PgLsn => Datum::Bits(text.parse::<Lsn>().map_err(|_| invalid())?.0),
        _ => return Err(LiteralError::Unsupported(kind.name())),
    })
}

/// The value of a constant as another type, where Postgres casts so implicitly, or between integers, or an integer or
/// `uuid` to its text.
pub fn cast(datum: &Datum<'static>, from: &Kind, to: &Kind) -> Result<Datum<'static>, LiteralError> {
    use Kind::{Date, Float4, Float8, Int2, Int4, Int8, Numeric, Text, Timestamp, TimestampTz};
    if from == to {
        return Ok(datum.clone());
    }
    match (datum, to) {
        (Datum::Int(value), Int2 | Int4 | Int8 | Numeric) => literal(to, &value.to_string()),
        (Datum::Int(value), Float8) => Ok(Datum::Float(Float::new(*value as f64))),
        (Datum::Int(value), Float4) => Ok(Datum::Float(Float::new((*value as f32).into()))),
        (Datum::Numeric(value), Float4 | Float8) => literal(to, &value.to_scientific()),
        (Datum::Float(_), Float8) if *from == Float4 => Ok(datum.clone()),
        (Datum::Date(days), Timestamp | TimestampTz) if *from == Date => {
            let micros = calendar::midnight(*days);
            if calendar::is_timestamp(micros) {
                Ok(Datum::Timestamp(micros))
            } else {
                Err(LiteralError::OutOfRange {
                    ty: to.name(),
                    text: format!("{days} days after 2000-01-01"),
                })
            }
        }
        (Datum::Int(value), Text) => literal(to, &value.to_string()),
        (Datum::Uuid(value), Text) => {
            let digits = format!("{value:032x}");
            let mut text = String::with_capacity(36);
            for (index, digit) in digits.chars().enumerate() {
                if matches!(index, 8 | 12 | 16 | 20) {
                    text.push('-');
                }
                text.push(digit);
            }
            literal(to, &text)
        }
        // The session's time zone is UTC.
        (Datum::Timestamp(_), Timestamp | TimestampTz) => Ok(datum.clone()),
        _ => Err(LiteralError::Cast {
            from: from.name(),
            to: to.name(),
        }),
    }
}

/// The reason why a number cannot be read.
pub(super) enum NumberError {
    Invalid,
    OutOfRange,
}

impl NumberError {
    pub(super) fn is_range(&self) -> bool {
        matches!(self, NumberError::OutOfRange)
    }

    fn into_error(self, kind: &Kind, text: &str) -> LiteralError {
        let ty = kind.name();
        let text = text.to_owned();
        match self {
            NumberError::Invalid => LiteralError::Invalid { ty, text },
            NumberError::OutOfRange => LiteralError::OutOfRange { ty, text },
        }
    }
}

fn integer_literal(kind: &Kind, trimmed: &str, text: &str) -> Result<Datum<'static>, LiteralError> {
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumberError::Invalid.into_error(kind, text));
    }
    let range = match kind {
        Kind::Int2 => i64::from(i16::MIN)..=i16::MAX.into(),
        Kind::Int4 => i64::from(i32::MIN)..=i32::MAX.into(),
        _ => i64::MIN..=i64::MAX,
    };
    match trimmed.parse::<i64>() {
        Ok(value) if range.contains(&value) => Ok(Datum::Int(value)),
        _ => Err(NumberError::OutOfRange.into_error(kind, text)),
    }
}

/// The number of digits that a `numeric` may have before its decimal point, and after it (documentation, "Numeric
/// Types").
const NUMERIC_DIGITS: (i32, i64) = (131_072, 16_383);

pub(super) fn numeric_literal(text: &str) -> Result<Decimal<'static>, NumberError> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let special = match unsigned.to_ascii_lowercase().as_str() {
        "nan" if unsigned.len() == text.len() => Some("NaN"),
        "infinity" | "inf" => Some("Infinity"),
        "-infinity" | "-inf" if unsigned.len() == text.len() => Some("-Infinity"),
        _ => None,
    };
    if let Some(special) = special {
        return Decimal::parse(special.as_bytes()).ok_or(NumberError::Invalid);
    }
    if unsigned.len() != text.len() && unsigned.starts_with('-') {
        return Err(NumberError::Invalid);
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        None => (unsigned, 0),
        Some((mantissa, exponent)) => (mantissa, self::exponent(exponent)?),
    };
    let decimal = Decimal::parse(mantissa.as_bytes())
        .filter(Decimal::is_finite)
        .ok_or(NumberError::Invalid)?;
    let fraction = mantissa
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.len() as i64);
    let decimal = decimal.scaled(exponent).ok_or(NumberError::OutOfRange)?;
    if decimal.weight() > NUMERIC_DIGITS.0 || fraction - i64::from(exponent) > NUMERIC_DIGITS.1 {
        return Err(NumberError::OutOfRange);
    }
    Ok(decimal.into_owned())
}

fn exponent(text: &str) -> Result<i32, NumberError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumberError::Invalid);
    }
    match text.parse::<i32>() {
        Ok(exponent) if exponent.unsigned_abs() <= 200_000 => Ok(exponent),
        _ => Err(NumberError::OutOfRange),
    }
}

fn float_literal(kind: &Kind, text: &str) -> Result<Datum<'static>, NumberError> {
    let value = float_value(*kind == Kind::Float4, text)?;
    Ok(Datum::Float(Float::new(value)))
}

/// The number of a text, as a `real` or a `double precision`.
pub(super) fn float_value(is_real: bool, text: &str) -> Result<f64, NumberError> {
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    let value: f64 = if is_real {
        text.parse::<f32>()
            .map(f64::from)
            .map_err(|_| NumberError::Invalid)?
    } else {
        text.parse().map_err(|_| NumberError::Invalid)?
    };
    // Only a literal that names infinity is infinite, and only one without significant digits is zero.
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let is_zero = !mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'));
    if plain && (value.is_infinite() || (value == 0.0 && !is_zero)) {
        return Err(NumberError::OutOfRange);
    }
    Ok(value)
}

/// A boolean as `boolin` reads it: any unambiguous beginning of true, false, yes, no, on, off; 1 and 0.
pub(super) fn boolean(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str, at_least| text.len() >= at_least && word.starts_with(&text);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || text == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

/// The bits of a literal, as `varbit_in` reads them: binary, or hexadecimal behind an x.
fn bits(text: &str) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix(['x', 'X']) {
        let bits = |digit: char| Some(format!("{:04b}", digit.to_digit(16)?));
        return Some(digits.chars().map(bits).collect::<Option<String>>()?.into());
    }
    let digits = text.strip_prefix(['b', 'B']).unwrap_or(text);
    digits
        .bytes()
        .all(|b| matches!(b, b'0' | b'1'))
        .then(|| digits.into())
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
