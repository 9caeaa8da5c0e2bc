//! A decimal as an integer, rounded as a cast rounds it.

use super::{Decimal, Sign};

impl Decimal<'_> {
    /// The nearest integer, halves away from zero; `None` if no `bigint` holds it.
    pub(in crate::types) fn rounded(&self) -> Option<i64> {
        let is_negative = match self.sign {
            Sign::Zero => return Some(0),
            Sign::Negative => true,
            Sign::Positive => false,
            Sign::NegativeInfinity | Sign::Infinity | Sign::NaN => return None,
        };
        if self.weight > 19 {
            return None;
        }
        let mut whole: i128 = 0;
        let mut digits = self.significant();
        for _ in 0..self.weight.max(0) {
            whole = whole * 10 + i128::from(digits.next().unwrap_or(b'0') - b'0');
        }
        // Below a tenth the first digit is not the one behind the point.
        let next = digits.next().filter(|_| self.weight >= 0);
        whole += i128::from(next.is_some_and(|digit| digit >= b'5'));
        i64::try_from(if is_negative { -whole } else { whole }).ok()
    }

    /// True if it is zero.
    pub(in crate::types) fn is_zero(&self) -> bool {
        self.sign == Sign::Zero
    }
}
