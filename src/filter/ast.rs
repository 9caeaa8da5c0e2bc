//! A predicate's tree, before anything in it has a type.

use super::Error;
use super::computed::Arithmetic;
use super::matcher::Comparison;
use super::session::SessionValue;
use super::truth::Truth;
use crate::types::Kind;

/// A boolean expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    /// `IS [NOT] TRUE | FALSE | UNKNOWN`
    Is {
        expr: Box<Expr>,
        truth: Truth,
        negated: bool,
    },
    IsNull {
        operand: Operand,
        negated: bool,
    },
    Compare {
        left: Operand,
        comparison: Comparison,
        right: Operand,
    },
    In {
        left: Operand,
        list: Vec<Operand>,
        negated: bool,
    },
    Between {
        operand: Operand,
        low: Operand,
        high: Operand,
        negated: bool,
    },
    /// `[NOT] LIKE | ILIKE`
    Like {
        operand: Operand,
        pattern: Operand,
        escape: Option<Operand>,
        /// True if it is `ILIKE`.
        folds: bool,
        negated: bool,
    },
    /// `left = ANY (array)`
    Any {
        left: Operand,
        comparison: Comparison,
        array: Operand,
    },
    /// An operator that compares nothing.
    Operator {
        left: Operand,
        operator: Operator,
        right: Operand,
        /// The operator's own place.
        offset: usize,
    },
    /// An operand that is a boolean itself.
    Operand(Operand),
}

impl Expr {
    /// True if one of its operands passes.
    pub(super) fn has(&self, test: &dyn Fn(&Operand) -> bool) -> bool {
        match self {
            Expr::And(exprs) | Expr::Or(exprs) => exprs.iter().any(|expr| expr.has(test)),
            Expr::Not(expr) | Expr::Is { expr, .. } => expr.has(test),
            Expr::IsNull { operand, .. } | Expr::Operand(operand) => test(operand),
            Expr::Compare { left, right, .. }
            | Expr::Operator { left, right, .. }
            | Expr::Any {
                left, array: right, ..
            } => test(left) || test(right),
            Expr::In { left, list, .. } => test(left) || list.iter().any(test),
            Expr::Between {
                operand, low, high, ..
            } => test(operand) || test(low) || test(high),
            Expr::Like {
                operand,
                pattern,
                escape,
                ..
            } => test(operand) || test(pattern) || escape.iter().any(test),
        }
    }

    /// Changes each of its operands.
    ///
    /// # Errors
    /// A part cannot be changed.
    pub(super) fn change(
        &mut self,
        change: &mut dyn FnMut(&mut Operand) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self {
            Expr::And(exprs) | Expr::Or(exprs) => exprs.iter_mut().try_for_each(|expr| expr.change(change)),
            Expr::Not(expr) | Expr::Is { expr, .. } => expr.change(change),
            Expr::IsNull { operand, .. } | Expr::Operand(operand) => change(operand),
            Expr::Compare { left, right, .. }
            | Expr::Operator { left, right, .. }
            | Expr::Any {
                left, array: right, ..
            } => [left, right].into_iter().try_for_each(change),
            Expr::In { left, list, .. } => {
                change(left)?;
                list.iter_mut().try_for_each(change)
            }
            Expr::Between {
                operand, low, high, ..
            } => [operand, low, high].into_iter().try_for_each(change),
            Expr::Like {
                operand,
                pattern,
                escape,
                ..
            } => {
                let operands = [operand, pattern].into_iter().chain(escape);
                operands.into_iter().try_for_each(change)
            }
        }
    }
}

/// An operator of documents and arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// `@>`
    Contains,
    /// `<@`
    IsContained,
    /// `&&`
    Overlaps,
    /// `?`
    HasKey,
}

impl Operator {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Operator::Contains => "@>",
            Operator::IsContained => "<@",
            Operator::Overlaps => "&&",
            Operator::HasKey => "?",
        }
    }
}

/// An operator that takes a part of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extraction {
    /// `#>` and `#>>`: by a path rather than one step.
    pub(super) by_path: bool,
    /// `->>` and `#>>`: as text.
    pub(super) as_text: bool,
}

/// A column, a part of it, or a constant, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operand {
    pub(super) offset: usize,
    pub(super) value: Value,
}

impl Operand {
    /// True if it, or an operand inside it, passes.
    pub(super) fn has(&self, test: &dyn Fn(&Operand) -> bool) -> bool {
        test(self)
            || match &self.value {
                Value::Cast { operand, .. } | Value::Negative(operand) | Value::Collate(operand) => {
                    operand.has(test)
                }
                Value::Part {
                    of: left, key: right, ..
                }
                | Value::Arithmetic { left, right, .. } => left.has(test) || right.has(test),
                Value::Function {
                    arguments: operands, ..
                }
                | Value::Array(operands) => operands.iter().any(|operand| operand.has(test)),
                _ => false,
            }
    }

    /// Changes the operands that it is made of.
    ///
    /// # Errors
    /// A part cannot be changed.
    pub(super) fn change_parts(
        &mut self,
        mut change: impl FnMut(&mut Operand) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match &mut self.value {
            Value::Cast { operand, .. } | Value::Negative(operand) | Value::Collate(operand) => {
                change(operand)
            }
            Value::Part {
                of: left, key: right, ..
            }
            | Value::Arithmetic { left, right, .. } => {
                change(left)?;
                change(right)
            }
            Value::Function {
                arguments: operands, ..
            }
            | Value::Array(operands) => operands.iter_mut().try_for_each(change),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A column's name, folded as SQL folds names, and the table's and schema's before it if they are given.
    Column {
        qualifiers: Vec<String>,
        name: String,
        /// It stands in double quotes.
        quoted: bool,
    },
    /// A quoted literal.
    Text(String),
    /// An unquoted number, its sign included.
    Number(String),
    Bool(bool),
    Null,
    /// `$1` is 1.
    Parameter(usize),
    Cast {
        operand: Box<Operand>,
        to: Kind,
    },
    Part {
        of: Box<Operand>,
        extraction: Extraction,
        key: Box<Operand>,
    },
    Function {
        function: Function,
        arguments: Vec<Operand>,
    },
    Arithmetic {
        left: Box<Operand>,
        operator: Arithmetic,
        right: Box<Operand>,
    },
    /// `-x`
    Negative(Box<Operand>),
    /// `ARRAY[…]`
    Array(Vec<Operand>),
    /// `now()` and its like.
    Clock(Clock),
    /// `… COLLATE "C"`
    Collate(Box<Operand>),
    /// `claim('a.b')`: the path of a claim.
    Claim(String),
    /// Something that a session of the database says of its caller.
    Session(SessionValue),
}

/// A reading of the clock, which is one thing for a whole statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// `now()`, `current_timestamp`, `transaction_timestamp()`, `statement_timestamp()`
    Now,
    /// `localtimestamp`
    LocalTimestamp,
    /// `current_date`
    Date,
    /// `current_time`
    Time,
    /// `localtime`
    LocalTime,
}

impl Clock {
    /// The functions, and whether parentheses follow their names.
    const NAMES: [(&str, bool, Clock); 8] = [
        ("now", true, Clock::Now),
        ("transaction_timestamp", true, Clock::Now),
        // A statement that is a transaction by itself begins when it does.
        ("statement_timestamp", true, Clock::Now),
        ("current_timestamp", false, Clock::Now),
        ("localtimestamp", false, Clock::LocalTimestamp),
        ("current_date", false, Clock::Date),
        ("current_time", false, Clock::Time),
        ("localtime", false, Clock::LocalTime),
    ];

    /// The function of that name, and whether parentheses follow it.
    pub(super) fn of(name: &str) -> Option<(Clock, bool)> {
        let mut names = Clock::NAMES.into_iter();
        let found = names.find(|(known, ..)| *known == name);
        found.map(|(_, has_parentheses, clock)| (clock, has_parentheses))
    }
}

/// A function of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Lower,
    Upper,
    Coalesce,
    DateTrunc,
}

impl Function {
    pub(super) const ALL: [Function; 4] = [
        Function::Lower,
        Function::Upper,
        Function::Coalesce,
        Function::DateTrunc,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Function::Lower => "lower",
            Function::Upper => "upper",
            Function::Coalesce => "coalesce",
            Function::DateTrunc => "date_trunc",
        }
    }
}
