//! The subscriptions that a change concerns, and how. Pure.
//!
//! A [`Predicate`] is a `where` as it was written. Bound to a relation and its parameters it becomes a [`Matcher`],
//! which looks at a [`Row`] and says whether the row is in the result; [`membership()`] compares a row's versions
//! before and after a change. The one thing to know: some values are not in the log, so a matcher computes which truth
//! values are *possible*, and its verdict can be [`Verdict::Undecided`].

mod arrays;
mod ast;
mod bind;
mod casts;
mod claims;
mod clock;
mod collations;
mod compare;
mod computed;
mod cost;
mod documents;
mod error;
mod eval;
mod functions;
mod hints;
mod index;
mod kept;
mod leaf;
mod lex;
mod like;
mod limits;
mod look;
mod matcher;
mod membership;
mod open;
mod operand;
mod parse;
mod parts;
mod printed;
mod pushdown;
mod row;
mod row_security;
mod scalar;
mod session;
mod sql;
mod temporal;
mod term;
#[cfg(test)]
mod testing;
mod truth;
mod type_hints;
mod typing;
mod undecided;

pub use bind::parameters_size;
pub use cost::{Cost, MAX_BYTES, MAX_COST};
pub use error::Error;
pub use hints::{nearest, nearest_table};
pub use index::{Allowance, Failure, Filed, FiledKind, Index, Tally, filed};
pub use kept::{Kept, json_bytes};
pub use matcher::{Matcher, Verdict};
pub use membership::{Decision, Operation, ResultChange, membership, verdicts};
pub use parse::{Limits, Predicate};
pub use pushdown::Pushed;
pub use row::{Cell, Row};
pub use row_security::{PolicyNames, SessionFunction};
pub use session::DatabaseSession;
pub use undecided::{Undecided, decides};
