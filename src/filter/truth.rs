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

/// The truth values that an expression may have, as far as the row is known. Known rows give sets of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Possible(u8);

impl Possible {
    pub(super) const TRUE: Possible = Possible(1);
    pub(super) const FALSE: Possible = Possible(2);
    pub(super) const NULL: Possible = Possible(4);
    /// Either, but not null.
    pub(super) const KNOWN: Possible = Possible(1 | 2);
    pub(super) const ANY: Possible = Possible(1 | 2 | 4);

    pub(super) const fn or_else(self, other: Possible) -> Possible {
        Possible(self.0 | other.0)
    }

    pub(super) const fn includes(self, other: Possible) -> bool {
        self.0 & other.0 != 0
    }

    /// What `a AND b` can be when `a` can be any of these values and `b` any of those.
    pub(super) const fn and(self, other: Possible) -> Possible {
        let mut result = 0;
        if self.includes(Possible::TRUE) && other.includes(Possible::TRUE) {
            result |= Possible::TRUE.0;
        }
        if self.includes(Possible::FALSE) || other.includes(Possible::FALSE) {
            result |= Possible::FALSE.0;
        }
        let not_false = Possible(Possible::TRUE.0 | Possible::NULL.0);
        if self.includes(Possible::NULL) && other.includes(not_false)
            || other.includes(Possible::NULL) && self.includes(not_false)
        {
            result |= Possible::NULL.0;
        }
        Possible(result)
    }

    /// What `a OR b` can be: by De Morgan, which holds in three-valued logic too.
    pub(super) const fn or(self, other: Possible) -> Possible {
        self.not().and(other.not()).not()
    }

    pub(super) const fn not(self) -> Possible {
        Possible((self.0 & 1) << 1 | (self.0 & 2) >> 1 | self.0 & 4)
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

    const TRUTHS: [Truth; 3] = [Truth::True, Truth::False, Truth::Null];

    /// SQL's truth table for AND.
    fn and(a: Truth, b: Truth) -> Truth {
        match (a, b) {
            (Truth::False, _) | (_, Truth::False) => Truth::False,
            (Truth::True, Truth::True) => Truth::True,
            _ => Truth::Null,
        }
    }

    #[test]
    fn sets_compose_as_all_of_their_members_do() {
        let members = |set: Possible| TRUTHS.into_iter().filter(move |t| set.includes((*t).into()));
        let union = |truths: Vec<Truth>| truths.into_iter().fold(Possible(0), |s, t| s.or_else(t.into()));
        for a in (1..8).map(Possible) {
            assert_eq!(a.not(), union(members(a).map(Truth::not).collect()));
            for b in (1..8).map(Possible) {
                let pairs = || members(a).flat_map(|x| members(b).map(move |y| (x, y)));
                assert_eq!(a.and(b), union(pairs().map(|(x, y)| and(x, y)).collect()));
                assert_eq!(
                    a.or(b),
                    union(pairs().map(|(x, y)| and(x.not(), y.not()).not()).collect())
                );
            }
        }
    }
}
