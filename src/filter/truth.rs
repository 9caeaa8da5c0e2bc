//! [`Truth`], SQL's three values, and [`Possible`], a set of them.

/// A value of SQL's three-valued logic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Truth {
    True,
    False,
    Null,
}

impl Truth {
    pub(super) fn not(self) -> Truth {
        match self {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Null => Truth::Null,
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Truth {
        if value { Truth::True } else { Truth::False }
    }
}

/// The truth values that an expression may have, as far as the row is known; failing is one of them. Known rows give
/// sets of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Possible(u8);

impl Possible {
    pub(super) const TRUE: Possible = Possible(1);
    pub(super) const FALSE: Possible = Possible(2);
    pub(super) const NULL: Possible = Possible(4);
    /// Postgres raises an error.
    pub(super) const FAILS: Possible = Possible(8);
    /// A value cannot be read here, though some server may read it.
    pub(super) const UNCLEAR: Possible = Possible(16);
    /// Either, but not null.
    pub(super) const KNOWN: Possible = Possible(1 | 2);
    pub(super) const ANY: Possible = Possible(1 | 2 | 4);

    pub(super) const fn or_else(self, other: Possible) -> Possible {
        Possible(self.0 | other.0)
    }

    pub(super) const fn includes(self, other: Possible) -> bool {
        self.0 & other.0 != 0
    }

    /// True where these values say nothing else, else false.
    pub(super) fn certain(self) -> Possible {
        Truth::from(self == Possible::TRUE).into()
    }

    /// The same with false in the place of null.
    pub(super) const fn null_is_false(self) -> Possible {
        Possible((self.0 & !Possible::NULL.0) | (self.0 & Possible::NULL.0) >> 1)
    }

    /// The values that `a AND b` can have when `a` can be any of these values and `b` any of those. False is false
    /// whatever the other is, even if that fails: Postgres asks them in an order of its own, and may or may not come
    /// to it. So beside one that is unclear, and may be false, it is not certain that another fails.
    pub(super) fn and(self, other: Possible) -> Possible {
        // Each is the value of a pair unless the other of the two stands before it.
        const ORDER: [Possible; 5] = [
            Possible::FALSE,
            Possible::UNCLEAR,
            Possible::FAILS,
            Possible::NULL,
            Possible::TRUE,
        ];
        let mut result = 0;
        let mut behind = 0b1_1111;
        for value in ORDER {
            // The other is this one, or one behind it.
            if self.includes(value) && other.0 & behind != 0 || other.includes(value) && self.0 & behind != 0
            {
                result |= value.0;
            }
            behind &= !value.0;
        }
        Possible(result)
    }

    /// The values that `a OR b` can have: by De Morgan, which holds in three-valued logic too.
    pub(super) fn or(self, other: Possible) -> Possible {
        self.not().and(other.not()).not()
    }

    pub(super) const fn not(self) -> Possible {
        Possible((self.0 & 1) << 1 | (self.0 & 2) >> 1 | self.0 & !3)
    }

    /// The values that `IS wanted` can have. Of what fails that fails too.
    pub(super) const fn is(self, wanted: Possible) -> Possible {
        let truths = Possible(self.0 & Possible::ANY.0);
        let is = match (truths.includes(wanted), truths.0 & !wanted.0 != 0) {
            (true, true) => Possible::KNOWN.0,
            (true, false) => Possible::TRUE.0,
            (false, true) => Possible::FALSE.0,
            (false, false) => 0,
        };
        Possible(is | self.0 & !Possible::ANY.0)
    }
}

impl From<Truth> for Possible {
    fn from(truth: Truth) -> Possible {
        match truth {
            Truth::True => Possible::TRUE,
            Truth::False => Possible::FALSE,
            Truth::Null => Possible::NULL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [Possible; 5] = [
        Possible::TRUE,
        Possible::FALSE,
        Possible::NULL,
        Possible::FAILS,
        Possible::UNCLEAR,
    ];

    /// SQL's truth table for AND, where what fails does so unless the other decides, or may.
    fn and(a: Possible, b: Possible) -> Possible {
        for absorbing in [
            Possible::FALSE,
            Possible::UNCLEAR,
            Possible::FAILS,
            Possible::NULL,
        ] {
            if a == absorbing || b == absorbing {
                return absorbing;
            }
        }
        Possible::TRUE
    }

    #[test]
    fn sets_compose_as_all_of_their_members_do() {
        let members = |set: Possible| VALUES.into_iter().filter(move |value| set.includes(*value));
        let union = |values: Vec<Possible>| values.into_iter().fold(Possible(0), Possible::or_else);
        for a in (1..32).map(Possible) {
            assert_eq!(a.not(), union(members(a).map(Possible::not).collect()));
            for b in (1..32).map(Possible) {
                let pairs = || members(a).flat_map(|x| members(b).map(move |y| (x, y)));
                assert_eq!(a.and(b), union(pairs().map(|(x, y)| and(x, y)).collect()));
                assert_eq!(
                    a.or(b),
                    union(pairs().map(|(x, y)| and(x.not(), y.not()).not()).collect())
                );
            }
        }
    }

    #[test]
    fn what_fails_fails_in_every_test_of_its_truth() {
        let null_or_fails = Possible::NULL.or_else(Possible::FAILS);
        assert_eq!(
            null_or_fails.is(Possible::NULL),
            Possible::TRUE.or_else(Possible::FAILS)
        );
        assert_eq!(Possible::FAILS.is(Possible::TRUE), Possible::FAILS);
        assert_eq!(Possible::KNOWN.is(Possible::NULL), Possible::FALSE);
        assert_eq!(Possible::ANY.is(Possible::TRUE), Possible::KNOWN);
    }
}
