//! A predicate's tree, before anything in it has a type.

use super::computed::Arithmetic;
use super::matcher::Comparison;
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
        /// Whether it is `ILIKE`.
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
}

/// A function of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Lower,
    Upper,
    Coalesce,
}

impl Function {
    pub(super) const ALL: [Function; 3] = [Function::Lower, Function::Upper, Function::Coalesce];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Function::Lower => "lower",
            Function::Upper => "upper",
            Function::Coalesce => "coalesce",
        }
    }
}
