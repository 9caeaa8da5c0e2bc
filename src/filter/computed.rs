//! [`Computed`]: a value that functions, casts and arithmetic make of others.

use std::borrow::Cow;

use super::cost::Cost;
use super::eval::Operand;
use super::look::Look;
use super::scalar::Scalar;
use crate::types::{CaseMap, Datum, Failure, Simple, of_jsonb};

/// A value of a row that is computed. Where Postgres raises an error, so does this.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Computed {
    /// `lower`
    Lower(Scalar, CaseMap),
    /// `upper`
    Upper(Scalar, CaseMap),
    /// The first that is not null.
    Coalesce(Box<[Argument]>),
    /// A value as another type.
    Cast { of: Scalar, cast: Cast },
    /// Two integers.
    Arithmetic {
        left: Argument,
        operator: Arithmetic,
        right: Argument,
        /// The result's type, which bounds it.
        of: Simple,
    },
}

/// The cost of a computation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Argument {
    /// Not null.
    Constant(Datum<'static>),
    Value(Scalar),
}

/// The way in which a value becomes one of another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Cast {
    /// A text, by the type's input function.
    Input(Simple),
    /// A value of one type as one of another.
    Convert { from: Simple, to: Simple },
    /// A number or boolean of a `jsonb`.
    OfJsonb(Simple),
    /// A date as the timestamp that it is compared as.
    Midnight,
}

/// An operator of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// The work of a computation, apart from that on its text.
const STEP: usize = 16;

/// The work of folding a byte: it is decoded, looked up and copied.
const FOLD: usize = 16;

impl Computed {
    /// Everything that is known of it.
    pub(super) fn read<'a, 'r: 'a>(&'a self, row: &Look<'r>) -> Operand<'a> {
        if row.spend(STEP).is_err() {
            return Operand::Absent;
        }
        match self {
            Computed::Lower(of, map) => changed(of.read(row), row, |text| map.lower(text)),
            Computed::Upper(of, map) => changed(of.read(row), row, |text| map.upper(text)),
            Computed::Coalesce(arguments) => {
                let read = arguments.iter().map(|argument| argument.read(row));
                let mut not_null = read.skip_while(|operand| matches!(operand, Operand::Null));
                not_null.next().unwrap_or(Operand::Null)
            }
            Computed::Cast { of, cast } => match of.read(row) {
                Operand::Value(Datum::Text(text)) if row.spend(text.len()).is_err() => Operand::Absent,
                Operand::Value(datum) => result(cast.apply(datum)),
                Operand::Is(datum) => result(cast.apply(datum.borrowed())),
                other => other,
            },
            Computed::Arithmetic {
                left,
                operator,
                right,
                of,
            } => match (left.read(row), right.read(row)) {
                (Operand::None(failure), _) | (_, Operand::None(failure)) => Operand::None(failure),
                (Operand::Null, _) | (_, Operand::Null) => Operand::Null,
                (Operand::Absent, _) | (_, Operand::Absent) => Operand::Absent,
                (left, right) => match (left.datum(), right.datum()) {
                    (Some(Datum::Int(left)), Some(Datum::Int(right))) => {
                        result(operator.apply(*left, *right, *of))
                    }
                    _ => Operand::Unknown,
                },
            },
        }
    }

    /// The columns that it is made of.
    pub(super) fn columns(&self, out: &mut Vec<usize>) {
        match self {
            Computed::Lower(of, _) | Computed::Upper(of, _) | Computed::Cast { of, .. } => of.columns(out),
            Computed::Coalesce(arguments) => arguments.iter().for_each(|argument| argument.columns(out)),
            Computed::Arithmetic { left, right, .. } => {
                left.columns(out);
                right.columns(out);
            }
        }
    }
}

impl Computed {
    /// The cost to the server of a row whose texts have so many bytes.
    pub(super) fn cost(&self, text: usize) -> Cost {
        let own = Cost {
            work: STEP as u64,
            bytes: size_of::<Computed>(),
        };
        let of_text = |units: usize| Cost {
            work: units as u64,
            bytes: 0,
        };
        own + match self {
            Computed::Lower(of, _) | Computed::Upper(of, _) => of.cost() + of_text(text * FOLD),
            Computed::Coalesce(arguments) => arguments.iter().map(Argument::cost).sum(),
            Computed::Cast { of, .. } => of.cost() + of_text(text),
            Computed::Arithmetic { left, right, .. } => left.cost() + right.cost(),
        }
    }
}

impl Argument {
    fn cost(&self) -> Cost {
        match self {
            Argument::Value(scalar) => scalar.cost(),
            Argument::Constant(datum) => Cost {
                work: 0,
                bytes: datum.bytes(),
            },
        }
    }

    fn read<'a, 'r: 'a>(&'a self, row: &Look<'r>) -> Operand<'a> {
        match self {
            Argument::Constant(datum) => Operand::Is(datum),
            Argument::Value(scalar) => scalar.read(row),
        }
    }

    fn columns(&self, out: &mut Vec<usize>) {
        if let Argument::Value(scalar) = self {
            scalar.columns(out);
        }
    }
}

impl Cast {
    fn apply(self, datum: Datum<'_>) -> Result<Datum<'_>, Failure> {
        match (self, datum) {
            (Cast::Convert { from, to }, datum) => to.convert(datum, from),
            (Cast::Midnight, datum) => Ok(datum.at_midnight()),
            (Cast::Input(to), Datum::Text(Cow::Borrowed(text))) => to.input(text),
            (Cast::Input(to), Datum::Text(Cow::Owned(text))) => to.input(&text).map(Datum::into_owned),
            (Cast::OfJsonb(to), Datum::Text(Cow::Borrowed(text))) => of_jsonb(text, to),
            (Cast::OfJsonb(to), Datum::Text(Cow::Owned(text))) => of_jsonb(&text, to).map(Datum::into_owned),
            _ => Err(Failure::Unclear),
        }
    }
}

impl Arithmetic {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Modulo => "%",
        }
    }

    /// The result, unless it overflows or is divided by zero.
    pub(super) fn apply<'a>(self, left: i64, right: i64, of: Simple) -> Result<Datum<'a>, Failure> {
        let value = match self {
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Subtract => left.checked_sub(right),
            Arithmetic::Multiply => left.checked_mul(right),
            Arithmetic::Divide => left.checked_div(right),
            // The least integer has a remainder by -1, though no quotient.
            Arithmetic::Modulo if right == -1 => Some(0),
            Arithmetic::Modulo => left.checked_rem(right),
        };
        of.integer(value.ok_or(Failure::Fails)?)
    }
}

fn result<'a>(result: Result<Datum<'a>, Failure>) -> Operand<'a> {
    result.map_or_else(Operand::None, Operand::Value)
}

/// A text with its letters changed.
fn changed<'a>(
    of: Operand<'a>,
    row: &Look<'_>,
    change: impl Fn(&[u8]) -> Option<Cow<'_, [u8]>>,
) -> Operand<'a> {
    let text = match of {
        Operand::Value(Datum::Text(text)) => text,
        Operand::Is(Datum::Text(text)) => Cow::Borrowed(&**text),
        Operand::Value(_) | Operand::Is(_) => return Operand::None(Failure::Unclear),
        other => return other,
    };
    if row.spend(text.len().saturating_mul(FOLD)).is_err() {
        return Operand::Absent;
    }
    let changed = match change(&text) {
        None => return Operand::None(Failure::Unclear),
        Some(Cow::Borrowed(_)) => None,
        Some(Cow::Owned(changed)) => Some(changed),
    };
    Operand::Value(Datum::Text(changed.map_or(text, Cow::Owned)))
}
