//! Text to [`Predicate`]: sqlparser's tree, checked and made ours.

use sqlparser::ast::{BinaryOperator, Expr as Sql, Spanned, UnaryOperator};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::Error;
use super::ast::{Expr, Operand};
use super::hints;
use super::lex::Text;
pub use super::limits::Limits;
use super::matcher::Comparison;
use super::row_security::PolicyNames;
use super::sql::{comparison, describe, is_operand, operator};
use super::temporal;
use super::truth::Truth;
use crate::event::Timestamp;

/// A `where` as it was written: columns are names, literals are text, nothing has a type yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate {
    pub(super) root: Expr,
    /// Something in it is worked out before it is bound.
    pub(super) computes: bool,
    /// The value of `now()` in it.
    pub(super) now: Option<Timestamp>,
    /// It has a `COLLATE "C"`.
    pub(super) collates: bool,
}

impl Predicate {
    /// Parses a predicate within the default limits.
    pub fn parse(text: &str) -> Result<Predicate, Error> {
        Predicate::parse_within(text, &Limits::default())
    }

    /// Parses a predicate within these limits.
    pub fn parse_within(text: &str, limits: &Limits) -> Result<Predicate, Error> {
        Predicate::parse_as(text, limits, Dialect::Client)
    }

    /// Parses a predicate with what may stand in one of that origin.
    pub(super) fn parse_as(text: &str, limits: &Limits, dialect: Dialect<'_>) -> Result<Predicate, Error> {
        let (sql, mut checker) = Predicate::read(text, limits, dialect)?;
        let root = checker.boolean(&sql, 1)?;
        Ok(Predicate {
            computes: temporal::computes(&root),
            collates: checker.collates,
            root,
            now: None,
        })
    }

    /// Parses an operand alone.
    pub(super) fn parse_operand(text: &str, limits: &Limits, dialect: Dialect<'_>) -> Result<Operand, Error> {
        let (sql, mut checker) = Predicate::read(text, limits, dialect)?;
        checker.operand(&sql, 1)
    }

    fn read<'a>(
        text: &'a str,
        limits: &'a Limits,
        dialect: Dialect<'a>,
    ) -> Result<(Sql, Checker<'a>), Error> {
        if text.len() > limits.max_text_bytes {
            return Err(Error::TooLarge {
                of: "bytes",
                limit: limits.max_text_bytes,
                offset: limits.max_text_bytes,
            });
        }
        if text.trim().is_empty() {
            return Err(Error::syntax("it is empty; for all rows leave it out", 0));
        }
        let text = Text::new(text, matches!(dialect, Dialect::Database(_)));
        let mut parser = Parser::new(&PostgreSqlDialect {})
            .with_recursion_limit(limits.max_depth.saturating_mul(2).saturating_add(8))
            .with_tokens_with_locations(text.tokens(limits)?);
        let mut sql = parser.parse_expr();
        let end = parser.peek_token();
        // What cannot be parsed behind a NOT makes the parser take that for a column and stop: it is asked for the
        // reason.
        if end.token != Token::EOF && is_not(parser.get_current_token()) {
            sql = sql.and_then(|sql| parser.parse_expr().map(|_| sql));
        }
        let sql = sql.map_err(|e| parser_error(&text, limits, e))?;
        if end.token != Token::EOF {
            let hint = match &end.token {
                Token::Word(word) => hints::of_word(&word.value),
                _ => String::new(),
            };
            let message = format!("unexpected {} after the expression{hint}", end.token);
            return Err(Error::syntax(message, text.offset(end.span.start)));
        }
        let checker = Checker {
            text,
            limits,
            nodes: 0,
            collates: false,
            dialect,
        };
        Ok((sql, checker))
    }

    /// True if what it means depends on when it is asked: it has `now()` or its like.
    pub fn asks_the_clock(&self) -> bool {
        self.computes && temporal::asks_the_clock(&self.root)
    }

    /// Says what time it is to the predicate, for as long as it is used.
    pub fn set_now(&mut self, now: Timestamp) {
        self.now = Some(now);
    }

    /// True if it has a `COLLATE "C"`, which orders by the bytes of the database's encoding: here by those of UTF-8.
    pub fn collates(&self) -> bool {
        self.collates
    }
}

fn is_not(token: &TokenWithSpan) -> bool {
    matches!(&token.token, Token::Word(word) if word.keyword == Keyword::NOT && word.quote_style.is_none())
}

fn parser_error(text: &Text<'_>, limits: &Limits, error: ParserError) -> Error {
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            // The place is only in the message: "… at Line: 1, Column: 7".
            let place = message.rsplit_once(" at Line: ").and_then(|(what, place)| {
                let (line, column) = place.split_once(", Column: ")?;
                let line = line.parse().ok()?;
                let column = column.parse().ok()?;
                Some((what.to_owned(), text.offset(Location { line, column })))
            });
            let (message, offset) = place.unwrap_or((message, text.end()));
            let message = message.replace("found: EOF", "found: the end");
            // The parser has it behind a name and behind parentheses.
            if message.starts_with("No infix parser") && message.contains("keyword: COLLATE") {
                let what =
                    "COLLATE behind a cast or operator (put that in parentheses: (a::text) COLLATE \"C\")";
                return Error::unsupported(what, offset);
            }
            Error::syntax(message, offset)
        }
        ParserError::RecursionLimitExceeded => Error::TooLarge {
            of: "levels of nesting",
            limit: limits.max_depth,
            offset: 0,
        },
    }
}

/// The origin of a predicate.
#[derive(Clone, Copy)]
pub(super) enum Dialect<'a> {
    /// A client.
    Client,
    /// The configuration: there may be claims.
    Policy,
    /// The database's catalogs: it may read the session.
    Database(&'a PolicyNames),
}

/// Checks sqlparser's tree and makes ours of it.
pub(super) struct Checker<'a> {
    pub(super) text: Text<'a>,
    pub(super) limits: &'a Limits,
    nodes: usize,
    /// True if there is a `COLLATE "C"`.
    pub(super) collates: bool,
    pub(super) dialect: Dialect<'a>,
}

impl Checker<'_> {
    fn boolean(&mut self, sql: &Sql, depth: usize) -> Result<Expr, Error> {
        let sql = self.inner(sql);
        let offset = self.offset(sql);
        self.count(depth, offset)?;
        if let Some(condition) = self.printed_condition(sql, depth)? {
            return Ok(condition);
        }
        match sql {
            Sql::IsTrue(expr) => self.is(expr, Truth::True, false, depth),
            Sql::IsNotTrue(expr) => self.is(expr, Truth::True, true, depth),
            Sql::IsFalse(expr) => self.is(expr, Truth::False, false, depth),
            Sql::IsNotFalse(expr) => self.is(expr, Truth::False, true, depth),
            Sql::IsUnknown(expr) => self.is(expr, Truth::Null, false, depth),
            Sql::IsNotUnknown(expr) => self.is(expr, Truth::Null, true, depth),
            Sql::IsNull(expr) if !is_operand(self.inner(expr)) => self.is(expr, Truth::Null, false, depth),
            Sql::IsNotNull(expr) if !is_operand(self.inner(expr)) => self.is(expr, Truth::Null, true, depth),
            Sql::IsNull(expr) => self.is_null(expr, false, depth),
            Sql::IsNotNull(expr) => self.is_null(expr, true, depth),
            Sql::IsDistinctFrom(left, right) => self.compare(left, Comparison::Distinct, right, depth),
            Sql::IsNotDistinctFrom(left, right) => self.compare(left, Comparison::NotDistinct, right, depth),
            Sql::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => Ok(Expr::Not(Box::new(self.boolean(expr, depth + 1)?))),
            Sql::BinaryOp {
                op: BinaryOperator::And,
                ..
            } => Ok(Expr::And(self.chain(sql, &BinaryOperator::And, depth)?)),
            Sql::BinaryOp {
                op: BinaryOperator::Or,
                ..
            } => Ok(Expr::Or(self.chain(sql, &BinaryOperator::Or, depth)?)),
            Sql::BinaryOp { left, op, right } => {
                if let Some(comparison) = comparison(op) {
                    return self.compare(left, comparison, right, depth);
                }
                if let Some(operator) = operator(op) {
                    return Ok(Expr::Operator {
                        left: self.operand(left, depth)?,
                        operator,
                        right: self.operand(right, depth)?,
                        offset,
                    });
                }
                Ok(Expr::Operand(self.operand(sql, depth)?))
            }
            Sql::Like { any: false, .. } | Sql::ILike { any: false, .. } => self.like(sql, depth),
            Sql::AnyOp {
                left,
                compare_op,
                right,
                ..
            } => match comparison(compare_op) {
                Some(comparison) => Ok(Expr::Any {
                    left: self.operand(left, depth)?,
                    comparison,
                    array: self.operand(right, depth)?,
                }),
                None => Err(Error::unsupported(format!("{compare_op} ANY"), offset)),
            },
            Sql::InList { expr, list, negated } => self.in_list(expr, list, *negated, depth),
            Sql::Between {
                expr,
                negated,
                low,
                high,
            } => {
                // Postgres' grammar takes less there, the AND being the range's.
                if matches!(**low, Sql::Collate { .. }) {
                    let message = "after BETWEEN a COLLATE needs parentheses, (a COLLATE \"C\")";
                    return Err(Error::syntax(message, self.offset(low)));
                }
                Ok(Expr::Between {
                    operand: self.operand(expr, depth)?,
                    low: self.operand(low, depth)?,
                    high: self.operand(high, depth)?,
                    negated: *negated,
                })
            }
            operand => Ok(Expr::Operand(self.operand(operand, depth)?)),
        }
    }

    /// The operands of `a AND b AND …`, which sqlparser nests to the left without end.
    fn chain(&mut self, sql: &Sql, joined_by: &BinaryOperator, depth: usize) -> Result<Vec<Expr>, Error> {
        let mut operands = Vec::new();
        let mut rest = sql;
        while let Sql::BinaryOp { left, op, right } = rest
            && op == joined_by
        {
            operands.push(right.as_ref());
            rest = left;
        }
        operands.push(rest);
        operands
            .into_iter()
            .rev()
            .map(|sql| self.boolean(sql, depth + 1))
            .collect()
    }

    fn is(&mut self, expr: &Sql, truth: Truth, negated: bool, depth: usize) -> Result<Expr, Error> {
        let expr = Box::new(self.boolean(expr, depth + 1)?);
        Ok(Expr::Is { expr, truth, negated })
    }

    fn is_null(&mut self, expr: &Sql, negated: bool, depth: usize) -> Result<Expr, Error> {
        let operand = self.operand(expr, depth)?;
        Ok(Expr::IsNull { operand, negated })
    }

    fn compare(
        &mut self,
        left: &Sql,
        comparison: Comparison,
        right: &Sql,
        depth: usize,
    ) -> Result<Expr, Error> {
        Ok(Expr::Compare {
            left: self.operand(left, depth)?,
            comparison,
            right: self.operand(right, depth)?,
        })
    }

    fn like(&mut self, sql: &Sql, depth: usize) -> Result<Expr, Error> {
        let (folds, expr, pattern, escape, negated) = match sql {
            Sql::Like {
                negated,
                expr,
                pattern,
                escape_char,
                ..
            } => (false, expr, pattern, escape_char, *negated),
            Sql::ILike {
                negated,
                expr,
                pattern,
                escape_char,
                ..
            } => (true, expr, pattern, escape_char, *negated),
            other => return Err(Error::unsupported(describe(other), self.offset(other))),
        };
        let escape = escape.as_ref().map(|escape| self.operand(escape, depth));
        Ok(Expr::Like {
            operand: self.operand(expr, depth)?,
            pattern: self.operand(pattern, depth)?,
            escape: escape.transpose()?,
            folds,
            negated,
        })
    }

    fn in_list(&mut self, expr: &Sql, list: &[Sql], negated: bool, depth: usize) -> Result<Expr, Error> {
        let left = self.operand(expr, depth)?;
        let limit = self.limits.max_in_values;
        if list.is_empty() {
            return Err(Error::syntax("an IN list cannot be empty", left.offset));
        }
        if let Some(first_over) = list.get(limit) {
            return Err(Error::TooLarge {
                of: "values in an IN list",
                limit,
                offset: self.offset(first_over),
            });
        }
        let list = list
            .iter()
            .map(|sql| self.operand(sql, depth))
            .collect::<Result<_, _>>()?;
        Ok(Expr::In { left, list, negated })
    }

    pub(super) fn count(&mut self, depth: usize, offset: usize) -> Result<(), Error> {
        self.nodes += 1;
        if depth > self.limits.max_depth {
            return Err(self.too_deep(offset));
        }
        if self.nodes > self.limits.max_nodes {
            return Err(Error::TooLarge {
                of: "comparisons and logical operators",
                limit: self.limits.max_nodes,
                offset,
            });
        }
        Ok(())
    }

    pub(super) fn too_deep(&self, offset: usize) -> Error {
        Error::TooLarge {
            of: "levels of nesting",
            limit: self.limits.max_depth,
            offset,
        }
    }

    pub(super) fn offset(&self, sql: &Sql) -> usize {
        let start = sql.span().start;
        // A few kinds of expression, all of them refused, have no span.
        if start.line == 0 {
            0
        } else {
            self.text.offset(start)
        }
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
