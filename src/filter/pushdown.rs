//! [`Predicate::to_sql`]: the predicate as SQL for the server itself, to read the rows that match now.
//!
//! It is written from the checked tree, never from the client's text, and every text that the client gave goes as a
//! parameter or, where that means something else, as a quoted literal: what the server parses was put together here,
//! name by name. A parameter without a declared type takes it from its context as a quoted literal does.

mod citext;
mod operands;

use std::collections::HashMap;

use serde_json::Value as Json;

use super::Error;
use super::ast::{Expr, Operand, Value};
use super::bind::{Binder, distinct};
use super::cost::MAX_BYTES;
use super::matcher::Comparison;
use super::parse::Predicate;
use super::truth::Truth;
use crate::event::View;

/// A condition that Postgres can evaluate, over the columns of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// The expression, with `$1`, `$2`, … for the values.
    pub sql: String,
    /// The values as text, to be sent without a declared type; `None` is null.
    pub values: Vec<Option<String>>,
    /// The schema of the extension `citext`, quoted, where columns are of its type: its operators are named with it, so
    /// that no others of that schema count, which somebody else may have made. `None` leaves them to the search path.
    pub citext: Option<String>,
}

impl Predicate {
    /// The predicate as SQL, with the parameters that it was given.
    ///
    /// # Errors
    /// As for [`Predicate::bind`].
    pub fn to_sql(&self, view: View<'_>, parameters: &[Json]) -> Result<Pushed, Error> {
        let mut pushed = Pushed::default();
        self.append_sql(view, parameters, &mut pushed)?;
        Ok(pushed)
    }

    /// Appends the predicate as SQL, with values of its own behind those that are there.
    ///
    /// # Errors
    /// As for [`Predicate::bind`]; nothing was appended.
    pub fn append_sql(&self, view: View<'_>, parameters: &[Json], pushed: &mut Pushed) -> Result<(), Error> {
        let before = (pushed.sql.len(), pushed.values.len());
        let mut writer = Writer {
            binder: Binder::new(view, parameters, self.now),
            view,
            pushed: std::mem::take(pushed),
            shared: HashMap::new(),
            bytes: 0,
        };
        let root = self.worked_out(&mut writer.binder);
        let written = root.and_then(|root| writer.condition(&root, Place::WHERE));
        *pushed = writer.pushed;
        if written.is_err() {
            pushed.sql.truncate(before.0);
            pushed.values.truncate(before.1);
        }
        written
    }

    /// True if Postgres may fail to evaluate it for some row.
    pub fn may_fail(&self) -> bool {
        can_fail(&self.root)
    }
}

/// The number of bytes that the values may have together, each as often as it is sent.
const MAX_VALUES_BYTES: usize = 2 * MAX_BYTES;

struct Writer<'a> {
    binder: Binder<'a>,
    view: View<'a>,
    pushed: Pushed,
    /// The value that stands for a parameter where it has a type: it is sent once, however often it is used so.
    shared: HashMap<(Context, usize, ListAs), usize>,
    /// The amount that has been written, in bytes.
    bytes: usize,
}

/// The context that gives a parameter its type: the text around it, as far as Postgres looks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Context {
    /// The operator or another word for the place.
    place: &'static str,
    /// The type of what stands there beside it: a column's by its OID, any other by its name.
    beside: String,
}

/// The place where a condition stands.
#[derive(Clone, Copy)]
struct Place {
    /// Of its truth values null is as good as false.
    selects: bool,
    /// The opposite counts.
    negated: bool,
}

impl Place {
    const WHERE: Place = Place {
        selects: true,
        negated: false,
    };
    /// In what tells null from false.
    const INSIDE: Place = Place {
        selects: false,
        negated: false,
    };
}

/// The way in which conditions are joined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joint {
    And,
    Or,
}

/// The form there of a list that stands for a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ListAs {
    Array,
    Json,
}

impl Writer<'_> {
    /// A condition.
    fn condition(&mut self, expr: &Expr, place: Place) -> Result<(), Error> {
        let turned = Place {
            negated: !place.negated,
            ..place
        };
        match expr {
            Expr::Not(expr) => return self.condition(expr, turned),
            Expr::And(exprs) | Expr::Or(exprs) => {
                // By De Morgan, as the server itself does it.
                let joint = if matches!(expr, Expr::And(_)) != place.negated {
                    Joint::And
                } else {
                    Joint::Or
                };
                self.word("(");
                self.joined(exprs, joint, place)?;
                self.word(")");
                return Ok(());
            }
            _ => {}
        }
        self.word(if place.negated { "(NOT (" } else { "(" });
        match expr {
            Expr::Not(_) | Expr::And(_) | Expr::Or(_) => {}
            Expr::Is { expr, truth, negated } => {
                self.condition(expr, Place::INSIDE)?;
                self.word(if *negated { " IS NOT " } else { " IS " });
                self.word(match truth {
                    Truth::True => "TRUE",
                    Truth::False => "FALSE",
                    Truth::Null => "UNKNOWN",
                });
            }
            Expr::IsNull { operand, negated } => {
                self.of_any_type(operand)?;
                self.word(if *negated { " IS NOT NULL" } else { " IS NULL" });
            }
            Expr::Compare {
                left,
                comparison,
                right,
            } => self.compared(left, *comparison, right)?,
            Expr::In { left, list, negated } if self.is_in_citext(left, list)? => {
                self.in_citext(left, list, *negated)?;
            }
            Expr::In { left, list, negated } => {
                self.repeated(left)?;
                self.word(if *negated { " NOT IN (" } else { " IN (" });
                let context = self.context("=", left)?;
                for (at, member) in distinct(list).enumerate() {
                    self.word(if at > 0 { ", " } else { "" });
                    self.operand_in(&context, member, ListAs::Array)?;
                }
                self.word(")");
            }
            Expr::Between {
                operand,
                low,
                high,
                negated,
            } if self.is_of_citext(operand, low)? || self.is_of_citext(operand, high)? => {
                self.word(if *negated { "NOT (" } else { "(" });
                self.compared(operand, Comparison::GreaterOrEqual, low)?;
                self.word(" AND ");
                self.compared(operand, Comparison::LessOrEqual, high)?;
                self.word(")");
            }
            Expr::Between {
                operand,
                low,
                high,
                negated,
            } => {
                self.repeated(operand)?;
                self.word(if *negated { " NOT BETWEEN " } else { " BETWEEN " });
                let context = self.context("<=", operand)?;
                self.operand_in(&context, low, ListAs::Array)?;
                self.word(" AND ");
                self.operand_in(&context, high, ListAs::Array)?;
            }
            Expr::Like { .. } => self.like(expr)?,
            Expr::Any {
                left,
                comparison,
                array,
            } if self.is_any_citext(left, array)? => self.any_citext(left, *comparison, array)?,
            Expr::Any {
                left,
                comparison,
                array,
            } => {
                let of_array = self.context("= ANY", array)?;
                let of_left = self.context("ANY =", left)?;
                self.operand_in(&of_array, left, ListAs::Array)?;
                self.word(&format!(" {} ANY (", sql_of(*comparison)));
                self.operand_in(&of_left, array, ListAs::Array)?;
                self.word(")");
            }
            Expr::Operator {
                left,
                operator,
                right,
                ..
            } => self.pair(left, operator.as_str(), right)?,
            Expr::Operand(operand) => self.operand(operand, ListAs::Array)?,
        }
        self.word(if place.negated { "))" } else { ")" });
        Ok(())
    }

    /// Several conditions. Those that fail for no row are asked first, and the others only where they do not decide:
    /// Postgres itself takes what seems cheapest first.
    fn joined(&mut self, exprs: &[Expr], joint: Joint, place: Place) -> Result<(), Error> {
        let (fallible, safe): (Vec<&Expr>, Vec<&Expr>) = exprs.iter().partition(|expr| can_fail(expr));
        if fallible.is_empty() || safe.is_empty() {
            return self.list_of(exprs.iter(), joint, place);
        }
        let safe = || safe.iter().copied();
        let selects = joint == Joint::And && place.selects;
        if selects {
            // Once more in front, where an index can be used for it.
            self.list_of(safe(), joint, place)?;
            self.word(" AND ");
        }
        self.word("CASE WHEN (");
        self.list_of(safe(), joint, place)?;
        self.word(match (joint, selects) {
            (Joint::And, true) => ") THEN ",
            (Joint::And, false) => ") IS FALSE THEN FALSE ELSE ",
            (Joint::Or, _) => ") IS TRUE THEN TRUE ELSE ",
        });
        if place.selects {
            self.list_of(fallible.into_iter(), joint, place)?
        } else {
            self.list_of(safe().chain(fallible), joint, place)?
        }
        self.word(if selects { " ELSE FALSE END" } else { " END" });
        Ok(())
    }

    fn list_of<'e>(
        &mut self,
        exprs: impl Iterator<Item = &'e Expr>,
        joint: Joint,
        place: Place,
    ) -> Result<(), Error> {
        for (at, expr) in exprs.enumerate() {
            self.word(match (at, joint) {
                (0, _) => "",
                (_, Joint::And) => " AND ",
                (_, Joint::Or) => " OR ",
            });
            self.condition(expr, place)?;
        }
        Ok(())
    }

    fn like(&mut self, expr: &Expr) -> Result<(), Error> {
        let Expr::Like {
            operand,
            pattern,
            escape,
            folds,
            negated,
        } = expr
        else {
            return Ok(());
        };
        if self.is_citext(operand)? {
            return self.like_citext(operand, (*folds, *negated), pattern, escape.as_ref());
        }
        self.operand(operand, ListAs::Array)?;
        self.word(if *negated { " NOT" } else { "" });
        self.word(if *folds { " ILIKE " } else { " LIKE " });
        let context = self.context("LIKE", operand)?;
        self.operand_in(&context, pattern, ListAs::Array)?;
        if let Some(escape) = escape {
            self.word(" ESCAPE ");
            self.operand(escape, ListAs::Array)?;
        }
        Ok(())
    }

    fn word(&mut self, text: &str) {
        self.pushed.sql.push_str(text);
    }
}

/// True if a condition may fail for a row.
fn can_fail(expr: &Expr) -> bool {
    expr.has(&operand_can_fail)
}

fn operand_can_fail(operand: &Operand) -> bool {
    match &operand.value {
        Value::Column { .. } | Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::Null => false,
        Value::Parameter(_) | Value::Clock(_) | Value::Claim(_) | Value::Session(_) => false,
        // That of a constant was made when it was bound.
        Value::Cast { operand, .. } => match operand.value {
            Value::Text(_) | Value::Number(_) | Value::Parameter(_) | Value::Null => false,
            _ => !matches!(operand.value, Value::Array(_)) || operand_can_fail(operand),
        },
        Value::Arithmetic { .. } | Value::Negative(_) => true,
        Value::Part { of, .. } | Value::Collate(of) => operand_can_fail(of),
        Value::Function {
            arguments: operands, ..
        }
        | Value::Array(operands) => operands.iter().any(operand_can_fail),
    }
}

fn sql_of(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
        Comparison::Distinct => "IS DISTINCT FROM",
        Comparison::NotDistinct => "IS NOT DISTINCT FROM",
    }
}

#[cfg(test)]
#[path = "pushdown_tests.rs"]
mod tests;
