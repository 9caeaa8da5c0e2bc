//! [`Abbreviated`]: a datum's place in its order, as far as 64 bits can tell it.

use super::{Datum, Decimal, Sign};

/// A datum as a number of 64 bits that keeps its order: of two data of one variant, the one with the smaller number is
/// smaller. Where the numbers are equal, so are the data if they are exact, and otherwise the data
/// themselves must be compared. Equal numbers of one variant are both exact or both not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Abbreviated {
    /// The place in the order.
    pub place: u64,
    /// True if no other value shares the place.
    pub exact: bool,
}

impl Abbreviated {
    fn exact(place: u64) -> Abbreviated {
        Abbreviated { place, exact: true }
    }

    fn signed(value: i64) -> Abbreviated {
        Abbreviated::exact(value as u64 ^ 1 << 63)
    }
}

impl Datum<'_> {
    /// Its place in the order of its variant.
    pub fn abbreviated(&self) -> Abbreviated {
        match self {
            Datum::Bool(value) => Abbreviated::exact((*value).into()),
            Datum::Int(value) | Datum::Date(value) | Datum::Time(value) | Datum::Timestamp(value) => {
                Abbreviated::signed(*value)
            }
            Datum::Float(value) => Abbreviated::signed(value.0),
            Datum::Numeric(value) => value.abbreviated(),
            Datum::Text(text) => abbreviated_text(text),
            Datum::Uuid(value) => Abbreviated {
                place: (value >> 64) as u64,
                exact: false,
            },
            // Variants without a shorthand of their own: one place for all of them.
            #[allow(unreachable_patterns)]
            _ => Abbreviated {
                place: 0,
                exact: false,
            },
        }
    }
}

/// The first seven bytes, and then the length as far as eight.
fn abbreviated_text(text: &[u8]) -> Abbreviated {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(text.iter().take(7)) {
        *to = *from;
    }
    Abbreviated {
        place: u64::from_be_bytes(bytes) | text.len().min(8) as u64,
        exact: text.len() < 8,
    }
}

/// The number of digits of a decimal that its place has room for.
const DIGITS: usize = 15;

/// The weights that the place of a decimal tells apart, from the negative to this.
const WEIGHTS: i32 = 1000;

/// The place where a decimal's place tells its part of the line.
const POSITIVE: u64 = 2 << 62;

impl Decimal<'_> {
    /// From the top: two bits for the part of the line, eleven for the weight, fifty for the digits, one for whether
    /// there are more of them. All but the first two are inverted for a negative number.
    fn abbreviated(&self) -> Abbreviated {
        match self.sign {
            Sign::NegativeInfinity => Abbreviated::exact(0),
            Sign::Zero => Abbreviated::exact(POSITIVE),
            Sign::Infinity => Abbreviated::exact(3 << 62),
            Sign::NaN => Abbreviated::exact(3 << 62 | 1),
            Sign::Negative => {
                let (magnitude, exact) = self.magnitude();
                let place = 1 << 62 | magnitude ^ ((1 << 62) - 1);
                Abbreviated { place, exact }
            }
            Sign::Positive => {
                let (magnitude, exact) = self.magnitude();
                let place = POSITIVE | magnitude;
                Abbreviated { place, exact }
            }
        }
    }

    /// The part for the weight and the digits, above zero, and whether it tells them all.
    fn magnitude(&self) -> (u64, bool) {
        if self.weight > WEIGHTS {
            return ((1 << 62) - 1, false);
        }
        if self.weight < -WEIGHTS {
            return (1, false);
        }
        let mut digits = 0;
        let mut taken = 0;
        let mut more = false;
        for digit in self.significant() {
            if taken == DIGITS {
                more = true;
                break;
            }
            digits = digits * 10 + u64::from(digit - b'0');
            taken += 1;
        }
        for _ in taken..DIGITS {
            digits *= 10;
        }
        let weight = u64::from((self.weight + WEIGHTS).unsigned_abs()) + 1;
        (weight << 51 | digits << 1 | u64::from(more), !more)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::super::Float;
    use super::*;

    fn decimal(text: String) -> Datum<'static> {
        Datum::Numeric(Decimal::parse(text.as_bytes()).unwrap().into_owned())
    }

    fn text(bytes: Vec<u8>) -> Datum<'static> {
        Datum::Text(Cow::Owned(bytes))
    }

    fn datum_pair() -> impl Strategy<Value = (Datum<'static>, Datum<'static>)> {
        let decimals = || {
            prop_oneof![
                "-?[0-9]{1,20}(\\.[0-9]{1,20})?",
                "-?[01]{1,3}(\\.[01]{1,3})?",
                "-?12345678901234[0-9]{0,5}(\\.[0-9]{0,2})?",
                "-?[1-9]0{990,1010}",
                "-?0\\.0{990,1010}[1-9]",
                Just("NaN".to_owned()),
                Just("Infinity".to_owned()),
                Just("-Infinity".to_owned()),
            ]
            .prop_map(decimal)
        };
        let texts =
            || prop::collection::vec(prop_oneof![Just(0_u8), Just(b'a'), any::<u8>()], 0..11).prop_map(text);
        prop_oneof![
            (decimals(), decimals()),
            (texts(), texts()),
            (any::<i64>(), any::<i64>()).prop_map(|(a, b)| (Datum::Int(a), Datum::Int(b))),
            (any::<f64>(), any::<f64>())
                .prop_map(|(a, b)| (Datum::Float(Float::new(a)), Datum::Float(Float::new(b)))),
            (any::<u128>(), any::<u128>()).prop_map(|(a, b)| (Datum::Uuid(a), Datum::Uuid(b))),
            (any::<bool>(), any::<bool>()).prop_map(|(a, b)| (Datum::Bool(a), Datum::Bool(b))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn places_are_ordered_as_the_data_are((a, b) in datum_pair()) {
            let left = a.abbreviated(); let right = b.abbreviated();
            if left.place != right.place {
                prop_assert_eq!(left.place.cmp(&right.place), a.cmp(&b));
            } else {
                prop_assert_eq!(left.exact, right.exact);
                prop_assert!(!left.exact || a == b);
            }
            prop_assert_eq!(left, a.clone().into_owned().abbreviated());
        }
    }
}
