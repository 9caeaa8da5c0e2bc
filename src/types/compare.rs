//! [`Datum`]: a value as comparisons see it, with Postgres' order and equality.
//!
//! A datum borrows from the row it was read from, so reading one costs no allocation. Two data of the same variant
//! compare as their types do in Postgres; comparing different variants means nothing, and the filter never does it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use super::{Inet, calendar};

mod abbreviated;
mod rounded;

pub use abbreviated::Abbreviated;

/// A value that can be compared. Equal data hash alike, so they can be the keys of an index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum<'a> {
    /// `boolean`; false is less than true.
    Bool(bool),
    /// `smallint`, `integer`, `bigint`
    Int(i64),
    /// `real` and `double precision`
    Float(Float),
    /// `numeric`, of any size
    Numeric(Decimal<'a>),
    /// Text, compared by bytes; of `character(n)` without its trailing blanks, of `citext` in lower case.
    Text(Cow<'a, [u8]>),
    /// `uuid`
    Uuid(u128),
    /// `date`: days since 2000-01-01; the extremes are the infinities.
    Date(i64),
    /// `time`: microseconds since midnight, 24:00:00 included.
    Time(i64),
    /// `timestamp` and `timestamptz` (in UTC): microseconds since 2000-01-01; the extremes are the infinities.
    Timestamp(i64),
    /// `interval`: microseconds, with months of 30 days and days of 24 hours; the extremes are the infinities.
    Interval(i128),
    /// `timetz`
    TimeTz {
        /// Microseconds since midnight in UTC, before it and after the next one too.
        utc: i64,
        /// Microseconds west of Greenwich, which count where the time is the same.
        west: i64,
    },
    /// `bytea`: its hexadecimal digits in lower case, which order as the bytes do.
    Bytea(Cow<'a, [u8]>),
    /// `bit` and `bit varying`: zeros and ones, which order as they are written.
    Bit(Cow<'a, [u8]>),
    /// `inet` and `cidr`
    Inet(Inet),
    /// `macaddr`, `macaddr8` and `pg_lsn`: their bits.
    Bits(u64),
}

impl Datum<'_> {
    /// A date as the timestamp that it is compared as, its midnight; other values as they are. Dates past the last
    /// timestamp stay above all of them and below infinity.
    pub fn at_midnight(self) -> Self {
        match self {
            Datum::Date(days) => Datum::Timestamp(calendar::midnight(days)),
            other => other,
        }
    }

    /// The number of bytes that it has besides itself.
    pub fn bytes(&self) -> usize {
        match self {
            Datum::Text(bytes) | Datum::Bytea(bytes) | Datum::Bit(bytes) => bytes.len(),
            Datum::Numeric(number) => number.digits.len(),
            _ => 0,
        }
    }

    /// The same value, borrowing its bytes from this one.
    pub fn borrowed(&self) -> Datum<'_> {
        match self {
            Datum::Bool(value) => Datum::Bool(*value),
            Datum::Int(value) => Datum::Int(*value),
            Datum::Float(value) => Datum::Float(*value),
            Datum::Numeric(value) => Datum::Numeric(value.borrowed()),
            Datum::Text(value) => Datum::Text(Cow::Borrowed(value)),
            Datum::Uuid(value) => Datum::Uuid(*value),
            Datum::Date(value) => Datum::Date(*value),
            Datum::Time(value) => Datum::Time(*value),
            Datum::Timestamp(value) => Datum::Timestamp(*value),
            Datum::Interval(value) => Datum::Interval(*value),
            Datum::TimeTz { utc, west } => Datum::TimeTz {
                utc: *utc,
                west: *west,
            },
            Datum::Bytea(digits) => Datum::Bytea(Cow::Borrowed(digits)),
            Datum::Bit(digits) => Datum::Bit(Cow::Borrowed(digits)),
            Datum::Inet(value) => Datum::Inet(*value),
            Datum::Bits(value) => Datum::Bits(*value),
        }
    }

    /// The same value, owning its bytes.
    pub fn into_owned(self) -> Datum<'static> {
        match self {
            Datum::Bool(value) => Datum::Bool(value),
            Datum::Int(value) => Datum::Int(value),
            Datum::Float(value) => Datum::Float(value),
            Datum::Numeric(value) => Datum::Numeric(value.into_owned()),
            Datum::Text(value) => Datum::Text(Cow::Owned(value.into_owned())),
            Datum::Uuid(value) => Datum::Uuid(value),
            Datum::Date(value) => Datum::Date(value),
            Datum::Time(value) => Datum::Time(value),
            Datum::Timestamp(value) => Datum::Timestamp(value),
            Datum::Interval(value) => Datum::Interval(value),
            Datum::TimeTz { utc, west } => Datum::TimeTz { utc, west },
            Datum::Bytea(digits) => Datum::Bytea(Cow::Owned(digits.into_owned())),
            Datum::Bit(digits) => Datum::Bit(Cow::Owned(digits.into_owned())),
            Datum::Inet(value) => Datum::Inet(value),
            Datum::Bits(value) => Datum::Bits(value),
        }
    }
}

/// A floating-point number under Postgres' total order: NaN equals NaN and is above everything, -0 equals 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Float(i64);

impl Float {
    /// The number's place in that order.
    pub fn new(value: f64) -> Float {
        let canonical = if value.is_nan() {
            f64::NAN.abs()
        } else {
            value + 0.0
        };
        let bits = canonical.to_bits() as i64;
        // Negative numbers order by magnitude backwards: flip all bits but the sign.
        Float(bits ^ (((bits >> 63) as u64) >> 1) as i64)
    }

    /// The number.
    pub fn value(self) -> f64 {
        f64::from_bits((self.0 ^ (((self.0 >> 63) as u64) >> 1) as i64) as u64)
    }
}

/// The part of the line that a [`Decimal`] lies in; the order is Postgres' order of `numeric`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Sign {
    NegativeInfinity,
    Negative,
    Zero,
    Positive,
    Infinity,
    NaN,
}

/// A `numeric` of any size: `0.d₁d₂… × 10^weight`, read in place from its decimal text and compared exactly.
#[derive(Clone, Debug)]
pub struct Decimal<'a> {
    sign: Sign,
    /// The power of ten; the first digit is significant (0 for zero and the specials).
    weight: i32,
    /// From the first significant digit on; may hold the decimal point and end in zeros.
    digits: Cow<'a, [u8]>,
}

impl<'a> Decimal<'a> {
    /// Reads the text of a `numeric` or an integer as the server prints it: no exponent, no blanks.
    pub fn parse(text: &'a [u8]) -> Option<Decimal<'a>> {
        match text {
            b"NaN" => Some(Decimal::special(Sign::NaN)),
            b"Infinity" => Some(Decimal::special(Sign::Infinity)),
            b"-Infinity" => Some(Decimal::special(Sign::NegativeInfinity)),
            [b'-', magnitude @ ..] => Decimal::finite(Sign::Negative, magnitude),
            magnitude => Decimal::finite(Sign::Positive, magnitude),
        }
    }

    fn special(sign: Sign) -> Decimal<'static> {
        Decimal {
            sign,
            weight: 0,
            digits: Cow::Borrowed(b""),
        }
    }

    fn finite(sign: Sign, magnitude: &'a [u8]) -> Option<Decimal<'a>> {
        let mut point = None;
        let mut first = None;
        for (at, byte) in magnitude.iter().enumerate() {
            match byte {
                b'0' => {}
                b'1'..=b'9' => first = first.or(Some(at)),
                b'.' if point.is_none() => point = Some(at),
                _ => return None,
            }
        }
        if magnitude.len() == usize::from(point.is_some()) {
            return None;
        }
        let Some(first) = first else {
            return Some(Decimal::special(Sign::Zero));
        };
        let point = i32::try_from(point.unwrap_or(magnitude.len())).ok()?;
        let place = i32::try_from(first).ok()?;
        Some(Decimal {
            sign,
            weight: if place < point {
                point - place
            } else {
                point + 1 - place
            },
            digits: Cow::Borrowed(magnitude.get(first..)?),
        })
    }

    /// The number times ten to the power of `exponent`; `None` if the power overflows.
    pub(super) fn scaled(mut self, exponent: i32) -> Option<Decimal<'a>> {
        if matches!(self.sign, Sign::Negative | Sign::Positive) {
            self.weight = self.weight.checked_add(exponent)?;
        }
        Some(self)
    }

    /// The number of digits that stand before the decimal point, at most 0 if the number is less than one.
    pub(super) fn weight(&self) -> i32 {
        self.weight
    }

    /// True if it is neither infinite nor NaN.
    pub(super) fn is_finite(&self) -> bool {
        matches!(self.sign, Sign::Negative | Sign::Zero | Sign::Positive)
    }

    /// The number in a form that Rust's floating-point parser reads.
    pub(super) fn to_scientific(&self) -> String {
        let digits: String = self.significant().map(char::from).collect();
        match self.sign {
            Sign::NegativeInfinity => "-inf".into(),
            Sign::Negative => format!("-0.{digits}e{}", self.weight),
            Sign::Zero => "0".into(),
            Sign::Positive => format!("0.{digits}e{}", self.weight),
            Sign::Infinity => "inf".into(),
            Sign::NaN => "nan".into(),
        }
    }

    /// The same number, borrowing its digits from this one.
    pub(super) fn borrowed(&self) -> Decimal<'_> {
        Decimal {
            sign: self.sign,
            weight: self.weight,
            digits: Cow::Borrowed(&self.digits),
        }
    }

    /// The same number owning its digits, without the point and trailing zeros.
    pub fn into_owned(self) -> Decimal<'static> {
        Decimal {
            sign: self.sign,
            weight: self.weight,
            digits: Cow::Owned(self.significant().collect()),
        }
    }

    /// The digits up to the last significant one, without the point.
    fn significant(&self) -> impl Iterator<Item = u8> {
        let end = self.digits.iter().rposition(|b| matches!(b, b'1'..=b'9'));
        let digits = end.and_then(|end| self.digits.get(..=end)).unwrap_or_default();
        digits.iter().copied().filter(|b| *b != b'.')
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sign.cmp(&other.sign).then_with(|| {
            let magnitude = self
                .weight
                .cmp(&other.weight)
                .then_with(|| compare_digits(&self.digits, &other.digits));
            if self.sign == Sign::Negative {
                magnitude.reverse()
            } else {
                magnitude
            }
        })
    }
}

/// Compares two fractions by their digits; a missing digit is a zero.
fn compare_digits(left: &[u8], right: &[u8]) -> Ordering {
    let digits = |text| <[u8]>::iter(text).copied().filter(|b| *b != b'.');
    let mut left = digits(left);
    let mut right = digits(right);
    loop {
        let l = left.next();
        let r = right.next();
        if l.is_none() && r.is_none() {
            return Ordering::Equal;
        }
        match l.unwrap_or(b'0').cmp(&r.unwrap_or(b'0')) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal<'_> {}

impl Hash for Decimal<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sign.hash(state);
        self.weight.hash(state);
        for digit in self.significant() {
            state.write_u8(digit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal<'_> {
        Decimal::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a decimal"))
    }

    #[test]
    fn decimals_order_as_numeric_does() {
        let ordered = [
            "-Infinity",
            "-1000000000000000000000000",
            "-10",
            "-9.99",
            "-1",
            "-0.1",
            "-0.01",
            "0",
            "0.000001",
            "0.01",
            "0.0100000000000000000000000001",
            "0.1",
            "0.9",
            "1",
            "1.0000000000000000000000000000001",
            "9",
            "10",
            "10.01",
            "99999999999999999999",
            "100000000000000000000",
            "Infinity",
            "NaN",
        ];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(decimal(a).cmp(&decimal(b)), i.cmp(&j), "{a} and {b}");
            }
        }
    }

    #[test]
    fn equal_decimals_hash_alike_however_they_are_written() {
        let hasher = std::hash::RandomState::new();
        for (a, b) in [
            ("0", "-0.000"),
            ("1", "1.000"),
            ("120", "120.0"),
            ("0.5", "00.50"),
            ("-3", "-3."),
        ] {
            assert_eq!(decimal(a), decimal(b), "{a} = {b}");
            assert_eq!(
                hasher.hash_one(decimal(a)),
                hasher.hash_one(decimal(b)),
                "{a} = {b}"
            );
            assert_eq!(decimal(a), decimal(b).into_owned());
        }
    }

    #[test]
    fn what_is_no_decimal_is_not_read_as_one() {
        for text in [
            "", ".", "-", "-.", "1.2.3", "1e5", "+1", " 1", "1 ", "nan", "--1", "0x1", "Infinit",
        ] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_datum_is_no_larger_than_its_largest_values_need() {
        assert_eq!(size_of::<Datum<'_>>(), 48);
    }

    #[test]
    fn floats_order_as_postgres_orders_them() {
        let ordered = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1.5,
            -5e-324,
            0.0,
            5e-324,
            1.0,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
        ];
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(Float::new(*a).cmp(&Float::new(*b)), i.cmp(&j), "{a} and {b}");
            }
            assert_eq!(Float::new(Float::new(*a).value()), Float::new(*a));
        }
        assert_eq!(Float::new(-0.0), Float::new(0.0));
        assert_eq!(Float::new(-f64::NAN), Float::new(f64::NAN));
    }

    /// A decimal's digits around the point, padded to a common width: compared as text, slowly.
    fn reference(text: &str) -> (bool, String) {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole:0>60}{fraction:0<60}");
        (negative && digits.bytes().any(|b| b != b'0'), digits)
    }

    fn any_decimal() -> impl Strategy<Value = String> {
        let number = prop_oneof![
            "-?[0-9]{1,50}(\\.[0-9]{1,50})?",
            "-?0{0,3}[01]{1,3}(\\.[01]{1,3}0{0,3})?"
        ];
        number.prop_map(|text| text)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn decimals_compare_as_their_digits_do(a in any_decimal(), b in any_decimal()) {
            let (a_negative, a_digits) = reference(&a);
            let (b_negative, b_digits) = reference(&b);
            let expected = match (a_negative, b_negative) {
                (false, false) => a_digits.cmp(&b_digits),
                (true, true) => b_digits.cmp(&a_digits),
                (a_negative, _) => if a_negative { Ordering::Less } else { Ordering::Greater },
            };
            prop_assert_eq!(decimal(&a).cmp(&decimal(&b)), expected);
            prop_assert_eq!(decimal(&a).into_owned().cmp(&decimal(&b)), expected);
        }
    }
}
