//! [`Attnum`]: a column's number, by which it is known whatever it is called.

use serde::{Deserialize, Serialize};

/// A column's number in its table, or an attribute's in its composite type (`attnum`): it keeps it under another name,
/// and no other of the table ever has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attnum(i16);

impl Attnum {
    /// Not asked for: journals of earlier versions have it, and what is no table's.
    pub const UNKNOWN: Attnum = Attnum(0);
    /// It cannot be told which of several columns it was: the table was changed more than once before the catalogs
    /// could be asked.
    pub const UNCERTAIN: Attnum = Attnum(-1);

    /// The column of that number, which is positive.
    pub fn new(number: i16) -> Attnum {
        Attnum(number)
    }

    /// The number, if it is known.
    pub fn number(self) -> Option<i16> {
        (self.0 > 0).then_some(self.0)
    }

    /// True if the number was not asked for.
    pub fn is_unknown(&self) -> bool {
        *self == Attnum::UNKNOWN
    }

    /// True if two columns of a table may be two different ones. Without a number they are told apart by name and type
    /// alone.
    pub fn may_differ(self, other: Attnum) -> bool {
        !self.is_unknown() && !other.is_unknown() && (self != other || self == Attnum::UNCERTAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_known_number_is_surely_the_same_column() {
        let [unknown, uncertain] = [Attnum::UNKNOWN, Attnum::UNCERTAIN];
        let [one, two] = [1, 2].map(Attnum::new);
        assert!(!one.may_differ(one) && one.may_differ(two));
        assert!(uncertain.may_differ(one) && one.may_differ(uncertain) && uncertain.may_differ(uncertain));
        for other in [unknown, uncertain, one] {
            assert!(!unknown.may_differ(other) && !other.may_differ(unknown));
        }
        assert_eq!(
            (one.number(), uncertain.number(), unknown.number()),
            (Some(1), None, None)
        );
    }
}
