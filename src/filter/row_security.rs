//! The expressions of Postgres' own policies, as `pg_get_expr` prints them: what may stand in them beyond what a
//! client's predicate may have.
//!
//! They were parsed by Postgres, which prints operators as functions of its own have them (`~~` for `LIKE`,
//! `<> ALL` for `NOT IN`), casts every constant, and has conditions that read the session: the role, and the caller's
//! claims ([`SessionValue`](super::session::SessionValue)).

use std::collections::{HashMap, HashSet};

use sqlparser::ast::{Expr as Sql, GroupByExpr, Query, Select, SelectFlavor, SelectItem, SetExpr};

use super::Error;
use super::ast::{Expr, Operand, Value};
use super::parse::{Dialect, Limits, Predicate};
use super::session::Form;
use crate::types::Kind;

/// The names that may stand in a table's policies.
#[derive(Clone, Debug, Default)]
pub struct PolicyNames {
    /// The types of the table's columns, as they are printed.
    pub(super) types: HashSet<String>,
    /// The functions that read the session, by their names with their schemas.
    pub(super) functions: HashMap<String, SessionFunction>,
}

/// A function without arguments that reads what the session says of its caller.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionFunction(pub(super) Operand);

impl PolicyNames {
    /// These types, and these functions, such as `auth.uid`.
    pub fn new(
        types: impl IntoIterator<Item = String>,
        functions: impl IntoIterator<Item = (String, SessionFunction)>,
    ) -> PolicyNames {
        PolicyNames {
            types: types.into_iter().collect(),
            functions: functions.into_iter().collect(),
        }
    }
}

impl SessionFunction {
    /// Parses the body of a function in SQL, `SELECT …` or `RETURN …`, which gives a value of a type that is printed so.
    ///
    /// # Errors
    /// It does something else than to read the session.
    pub fn parse(body: &str, result: &str) -> Result<SessionFunction, Error> {
        let body = body.trim().trim_end_matches(';').trim_end();
        let keyword = body.get(..6).unwrap_or_default();
        // The lines are for a comment at its end.
        let text = if keyword.eq_ignore_ascii_case("return") {
            format!("(\n{}\n)", body.get(6..).unwrap_or_default())
        } else {
            format!("(\n{body}\n)")
        };
        let names = PolicyNames::default();
        let operand = Predicate::parse_operand(&text, &Limits::default(), Dialect::Database(&names))?;
        let offset = operand.offset;
        let is_of_session = |operand: &Operand| {
            !operand.has(&|part| {
                matches!(
                    part.value,
                    Value::Column { .. } | Value::Clock(_) | Value::Parameter(_) | Value::Claim(_)
                )
            })
        };
        if !is_of_session(&operand) {
            return Err(Error::unsupported(
                "a function of anything but the session",
                offset,
            ));
        }
        let has_type = match (&operand.value, result) {
            (Value::Session(value), "text") => value.form() == Form::Text,
            (Value::Session(value), "jsonb") => value.form() == Form::Jsonb,
            (Value::Session(value), "json") => value.form() == Form::Json,
            (Value::Cast { to, .. }, "uuid") => *to == Kind::Uuid,
            (Value::Cast { to, .. }, "text") => *to == Kind::Text,
            (Value::Cast { to, .. }, "integer") => *to == Kind::Int4,
            (Value::Cast { to, .. }, "bigint") => *to == Kind::Int8,
            _ => false,
        };
        if !has_type {
            return Err(Error::unsupported("a function of another type", offset));
        }
        Ok(SessionFunction(operand))
    }
}

impl Predicate {
    /// Parses a policy of the database's, as `pg_get_expr` prints it where the search path is `pg_catalog` alone.
    ///
    /// # Errors
    /// As for [`Predicate::parse`], and for what depends on the time.
    pub fn parse_row_security(text: &str, names: &PolicyNames) -> Result<Predicate, Error> {
        let predicate = Predicate::parse_as(text, &Limits::default(), Dialect::Database(names))?;
        if predicate.asks_the_clock() {
            return Err(Error::unsupported(
                "the time, by which rows come and go without a change,",
                0,
            ));
        }
        let is_spelling = |operand: &Operand| {
            operand.has(
                &|part| matches!(&part.value, Value::Session(value) if value.form() == Form::TextOfClaims),
            )
        };
        if predicate.root.has(&is_spelling) {
            return Err(Error::unsupported(
                "the text of all claims, other than as json,",
                0,
            ));
        }
        Ok(predicate)
    }

    /// The rows that any of the permissive policies admits and each of the restrictive ones.
    pub fn of_policies(
        permissive: impl IntoIterator<Item = Predicate>,
        restrictive: impl IntoIterator<Item = Predicate>,
    ) -> Predicate {
        let mut of = Parts::default();
        let any: Vec<Expr> = permissive.into_iter().map(|part| of.take(part)).collect();
        let any = match any.len() {
            0 => Expr::Operand(Operand {
                offset: 0,
                value: Value::Bool(false),
            }),
            _ => Expr::Or(any),
        };
        let all = std::iter::once(any).chain(restrictive.into_iter().map(|part| of.take(part)));
        let root = Expr::And(all.collect());
        Predicate {
            root,
            computes: of.computes,
            now: None,
            collates: of.collates,
        }
    }

    /// True if it is `true`.
    pub fn is_true(&self) -> bool {
        matches!(
            &self.root,
            Expr::Operand(Operand {
                value: Value::Bool(true),
                ..
            })
        )
    }
}

/// The properties of predicates that become one.
#[derive(Default)]
struct Parts {
    computes: bool,
    collates: bool,
}

impl Parts {
    fn take(&mut self, part: Predicate) -> Expr {
        self.computes |= part.computes;
        self.collates |= part.collates;
        part.root
    }
}

/// The expression of `SELECT …` without anything else.
pub(super) fn selected(query: &Query) -> Option<&Sql> {
    let Query {
        with: None,
        body,
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return None;
    };
    let SetExpr::Select(select) = &**body else {
        return None;
    };
    let Select {
        select_token: _,
        optimizer_hints,
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
        lateral_views,
        prewhere: None,
        selection: None,
        connect_by,
        group_by: GroupByExpr::Expressions(groups, modifiers),
        cluster_by,
        distribute_by,
        sort_by,
        having: None,
        named_window,
        qualify: None,
        window_before_qualify: _,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    } = &**select
    else {
        return None;
    };
    let is_bare = locks.is_empty()
        && pipe_operators.is_empty()
        && optimizer_hints.is_empty()
        && from.is_empty()
        && lateral_views.is_empty()
        && connect_by.is_empty()
        && groups.is_empty()
        && modifiers.is_empty()
        && cluster_by.is_empty()
        && distribute_by.is_empty()
        && sort_by.is_empty()
        && named_window.is_empty();
    match projection.as_slice() {
        [SelectItem::UnnamedExpr(sql) | SelectItem::ExprWithAlias { expr: sql, .. }] if is_bare => Some(sql),
        _ => None,
    }
}

#[cfg(test)]
#[path = "row_security_tests.rs"]
mod tests;
