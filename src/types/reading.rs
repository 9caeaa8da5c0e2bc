//! Values as the server prints them, to [`Datum`]: [`Reading`].

use std::borrow::Cow;

use super::{CaseMap, Datum, Decimal, Float, Inet, Kind};
use super::{bytea, calendar, interval, network};
use crate::lsn::Lsn;

/// The way in which a column's text is read for a comparison: by its own type, and by the type it is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reading {
    /// `boolean` as itself
    Bool,
    /// An integer as an integer
    Int,
    /// An integer or `numeric` as a `numeric`
    Numeric,
    /// `real`; widened to `double precision` it is the same number.
    Float4,
    /// Any other number as a `double precision`
    Float8,
    /// `text`, `character varying`, `name`
    Text,
    /// `character(n)`
    Bpchar,
    /// `citext`: in lower case
    Citext(CaseMap),
    /// `uuid`
    Uuid,
    /// `date` as itself
    Date,
    /// `date` as a timestamp
    DateAsTimestamp,
    /// `time`
    Time,
    /// `timestamp`
    Timestamp,
    /// `timestamp with time zone`
    TimestampTz,
    /// `interval`
    Interval,
    /// `time with time zone`
    TimeTz,
    /// `bytea`
    Bytea,
    /// `bit`, `bit varying`
    Bit,
    /// `inet`, `cidr`
    Inet,
    /// `macaddr`
    MacAddr,
    /// `macaddr8`
    MacAddr8,
    /// `pg_lsn`
    PgLsn,
}

impl Reading {
    /// The way in which values of a type are read to be compared with others of it; `None` if that takes more than
    /// reading them, or cannot be done here.
    pub fn of(kind: &Kind) -> Option<Reading> {
        Some(match kind {
            Kind::Bool => Reading::Bool,
            Kind::Int2 | Kind::Int4 | Kind::Int8 => Reading::Int,
            Kind::Numeric => Reading::Numeric,
            Kind::Float4 => Reading::Float4,
            Kind::Float8 => Reading::Float8,
            Kind::Text => Reading::Text,
            Kind::Bpchar => Reading::Bpchar,
            Kind::Citext(ctype) => Reading::Citext(CaseMap::of(ctype)?),
            Kind::Uuid => Reading::Uuid,
            Kind::Date => Reading::Date,
            Kind::Time => Reading::Time,
            Kind::TimeTz => Reading::TimeTz,
            Kind::Timestamp => Reading::Timestamp,
            Kind::TimestampTz => Reading::TimestampTz,
            Kind::Interval => Reading::Interval,
            Kind::Bytea => Reading::Bytea,
            Kind::Bit => Reading::Bit,
            Kind::Inet | Kind::Cidr => Reading::Inet,
            Kind::MacAddr => Reading::MacAddr,
            Kind::MacAddr8 => Reading::MacAddr8,
            Kind::PgLsn => Reading::PgLsn,
            Kind::Json
            | Kind::Jsonb
            | Kind::UnlabelledEnum
            | Kind::Enum { .. }
            | Kind::Array(_)
            | Kind::Vector(_)
            | Kind::Composite { .. }
            | Kind::Hstore
            | Kind::Range(_)
            | Kind::Separated(_)
            | Kind::Other => return None,
        })
    }

    /// About how many bytes of a text are read in the time of one that is looked at by itself.
    pub fn bytes_at_once(self) -> usize {
        match self {
            // Nothing is read before it is compared, and then many at once.
            Reading::Text | Reading::Bpchar => 16,
            _ => 1,
        }
    }

    /// Reads a value as the server prints it, in place but for letters that change. `None` if the text is not of the
    /// type, which no server sends.
    pub fn read(self, text: &[u8]) -> Option<Datum<'_>> {
        Some(match self {
            Reading::Bool => Datum::Bool(match text {
                b"t" => true,
                b"f" => false,
                _ => return None,
            }),
            Reading::Int => Datum::Int(int(text)?),
            Reading::Numeric => Datum::Numeric(Decimal::parse(text)?),
            Reading::Float4 => Datum::Float(Float::new(ascii(text)?.parse::<f32>().ok()?.into())),
            Reading::Float8 => Datum::Float(Float::new(ascii(text)?.parse().ok()?)),
            Reading::Text => Datum::Text(Cow::Borrowed(text)),
            Reading::Bpchar => Datum::Text(Cow::Borrowed(without_trailing_blanks(text))),
            Reading::Citext(case) => Datum::Text(case.lower(text)?),
            Reading::Uuid => Datum::Uuid(uuid(text)?),
            Reading::Date => Datum::Date(calendar::date(text)?),
            Reading::DateAsTimestamp => Datum::Timestamp(calendar::midnight(calendar::date(text)?)),
            Reading::Time => Datum::Time(calendar::time(text)?),
            Reading::Timestamp => Datum::Timestamp(calendar::timestamp(text)?),
            Reading::TimestampTz => Datum::Timestamp(calendar::timestamptz(text)?),
            Reading::Interval => Datum::Interval(interval::printed(text)?),
            Reading::TimeTz => timetz(text)?,
            Reading::Bytea => Datum::Bytea(Cow::Borrowed(bytea::printed(text)?)),
            Reading::Bit => {
                let are_bits = text.iter().all(|b| matches!(b, b'0' | b'1'));
                Datum::Bit(Cow::Borrowed(are_bits.then_some(text)?))
            }
            Reading::Inet => Datum::Inet(Inet::parse(text)?),
            Reading::MacAddr => Datum::Bits(network::mac(text, 6)?),
            Reading::MacAddr8 => Datum::Bits(network::mac(text, 8)?),
            Reading::PgLsn => Datum::Bits(ascii(text)?.parse::<Lsn>().ok()?.0),
        })
    }
}

fn ascii(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok()
}

fn int(text: &[u8]) -> Option<i64> {
    ascii(text)?.parse().ok()
}

/// A `timetz`, which has an offset.
pub(super) fn timetz<'a>(text: &[u8]) -> Option<Datum<'a>> {
    let (local, east) = calendar::timetz(text)?;
    Some(Datum::TimeTz {
        utc: local - east,
        west: -east,
    })
}

pub(super) fn without_trailing_blanks(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| *b != b' ').map_or(0, |last| last + 1);
    text.get(..end).unwrap_or(text)
}

/// A UUID as `uuid_in` reads it: hyphens after any group of four digits, braces around it.
pub(super) fn uuid(text: &[u8]) -> Option<u128> {
    let text = match text {
        [b'{', inner @ .., b'}'] => inner,
        text => text,
    };
    let mut value = 0u128;
    let mut digits = 0;
    let mut bytes = text.iter().peekable();
    while let Some(byte) = bytes.next() {
        let digit = char::from(*byte).to_digit(16)?;
        value = value << 4 | u128::from(digit);
        digits += 1;
        if digits > 32 {
            return None;
        }
        if digits % 4 == 0 && digits < 32 {
            bytes.next_if_eq(&&b'-');
        }
    }
    (digits == 32).then_some(value)
}
