//! The forms that `pg_get_expr` prints and nobody writes (operators for `LIKE` and `NOT IN`, a `SELECT` around a constant, a
//! cast of every literal), and the readings of the session.

use sqlparser::ast::{BinaryOperator, DataType, Expr as Sql, Function as SqlFunction, ObjectName};

use super::Error;
use super::ast::{Expr, Function, Operand, Value};
use super::matcher::Comparison;
use super::operand::arguments_of;
use super::parse::{Checker, Dialect};
use super::row_security::{PolicyNames, SessionFunction, selected};
use super::session::{Form, SessionValue, Step};
use super::sql::kind_of;
use crate::types::{Array, Datum, Kind};

impl Checker<'_> {
    /// The expression inside parentheses, and inside a `SELECT` without anything else where that may stand.
    pub(super) fn inner<'s>(&self, mut sql: &'s Sql) -> &'s Sql {
        loop {
            sql = match sql {
                Sql::Nested(inner) => inner,
                Sql::Subquery(query) if self.names().is_some() => match selected(query) {
                    Some(inner) => inner,
                    None => return sql,
                },
                other => return other,
            };
        }
    }

    /// The names of the database's policies, if this is one.
    pub(super) fn names(&self) -> Option<&PolicyNames> {
        match self.dialect {
            Dialect::Database(names) => Some(names),
            _ => None,
        }
    }

    /// A condition that only the database's policies have; `None` if it is one as others are.
    pub(super) fn printed_condition(&mut self, sql: &Sql, depth: usize) -> Result<Option<Expr>, Error> {
        if self.names().is_none() {
            return Ok(None);
        }
        Ok(match sql {
            Sql::BinaryOp { left, op, right } => {
                let (folds, negated) = match op {
                    BinaryOperator::PGLikeMatch => (false, false),
                    BinaryOperator::PGNotLikeMatch => (false, true),
                    BinaryOperator::PGILikeMatch => (true, false),
                    BinaryOperator::PGNotILikeMatch => (true, true),
                    _ => return Ok(None),
                };
                Some(Expr::Like {
                    operand: self.operand(left, depth)?,
                    pattern: self.operand(right, depth)?,
                    escape: None,
                    folds,
                    negated,
                })
            }
            Sql::AllOp {
                left,
                compare_op: BinaryOperator::NotEq,
                right,
            } => {
                // What it differs from all of, it is equal to none of.
                let any = self.is_any(left, right, depth)?;
                Some(Expr::Not(Box::new(any)))
            }
            Sql::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                ..
            } => Some(self.is_any(left, right, depth)?),
            Sql::InSubquery {
                expr,
                subquery,
                negated,
            } => match selected(subquery) {
                // Of one row.
                Some(right) => {
                    let comparison = match negated {
                        true => Comparison::NotEqual,
                        false => Comparison::Equal,
                    };
                    Some(Expr::Compare {
                        left: self.operand(expr, depth)?,
                        comparison,
                        right: self.operand(right, depth)?,
                    })
                }
                None => None,
            },
            _ => None,
        })
    }

    /// `left = ANY (right)`
    fn is_any(&mut self, left: &Sql, right: &Sql, depth: usize) -> Result<Expr, Error> {
        let left = self.operand(left, depth)?;
        let array = self.operand(right, depth)?;
        // An array of these would be one of texts.
        let is_open = |element: &Operand| matches!(element.value, Value::Text(_) | Value::Null);
        Ok(match array.value {
            Value::Array(list) if list.iter().any(is_open) => Expr::In {
                left,
                list,
                negated: false,
            },
            _ => Expr::Any {
                left,
                comparison: Comparison::Equal,
                array,
            },
        })
    }

    /// An operand that only the database's policies have; `None` if it is one as others are.
    pub(super) fn printed_operand(&mut self, sql: &Sql, depth: usize) -> Result<Option<Value>, Error> {
        let Some(names) = self.names() else {
            return Ok(None);
        };
        let offset = self.offset(sql);
        match sql {
            Sql::Identifier(name) if name.quote_style.is_none() && is_role(&name.value) => {
                Ok(Some(Value::Session(SessionValue::Role)))
            }
            Sql::Cast { expr, data_type, .. }
                if !matches!(data_type, DataType::Array(_)) || kind_of(data_type).is_none() =>
            {
                let is_json = *data_type == DataType::JSON;
                let is_named = is_named(data_type, "bpchar") || names.types.contains(&data_type.to_string());
                let mut operand = self.operand(expr, depth + 1)?;
                // What it is compared with gives a literal its type. Another value might be cut, or have no such label.
                if is_named
                    && kind_of(data_type).is_none()
                    && matches!(operand.value, Value::Text(_) | Value::Null)
                {
                    return Ok(Some(operand.value));
                }
                let to = match kind_of(data_type) {
                    Some(kind) => Some(kind),
                    None if is_json => None,
                    None => {
                        return Err(Error::unsupported(format!("a cast to {data_type}"), offset));
                    }
                };
                let is_document = is_json || to == Some(Kind::Jsonb);
                let value = match (std::mem::replace(&mut operand.value, Value::Null), to) {
                    (Value::Session(of), _) if is_document && of.is_text() => {
                        Value::Session(SessionValue::Document {
                            of: Box::new(of),
                            is_binary: !is_json,
                        })
                    }
                    // As it is.
                    (Value::Session(of), _) if is_json && of.form() == Form::Json => Value::Session(of),
                    (Value::Session(of), Some(Kind::Jsonb)) if of.form() == Form::Jsonb => Value::Session(of),
                    (Value::Session(of), Some(Kind::Text)) if of.form() == Form::TextOfClaims => {
                        Value::Session(of)
                    }
                    (value, Some(to)) => {
                        operand.value = value;
                        let operand = Box::new(operand);
                        Value::Cast { operand, to }
                    }
                    (_, None) => return Err(Error::unsupported(format!("a cast to {data_type}"), offset)),
                };
                Ok(Some(value))
            }
            Sql::Function(function) => self.printed_function(function, depth, offset),
            _ => Ok(None),
        }
    }

    fn printed_function(
        &mut self,
        function: &SqlFunction,
        depth: usize,
        offset: usize,
    ) -> Result<Option<Value>, Error> {
        let Some(arguments) = arguments_of(function) else {
            return Ok(None);
        };
        let name = full_name(&function.name);
        if let Some(SessionFunction(operand)) = self.names().and_then(|names| names.functions.get(&name)) {
            if !arguments.is_empty() {
                return Ok(None);
            }
            let mut operand = operand.clone();
            place(&mut operand, offset);
            return Ok(Some(operand.value));
        }
        match name.strip_prefix("pg_catalog.").unwrap_or(&name) {
            role if is_role(role) => Ok(Some(Value::Session(SessionValue::Role))),
            "current_setting" => self.setting(&arguments, depth, offset).map(Some),
            "nullif" => {
                let [of, other] = arguments.as_slice() else {
                    return Ok(None);
                };
                let of = self.operand(of, depth + 1)?;
                let other = self.operand(other, depth + 1)?;
                match (of_session(&of), of_session(&other)) {
                    (Some(of), Some(other)) if is_nullif(&of, &other) => Ok(Some(Value::Session(
                        SessionValue::NullIf(Box::new(of), Box::new(other)),
                    ))),
                    _ => Err(Error::unsupported(
                        "NULLIF of anything but the session's texts",
                        offset,
                    )),
                }
            }
            _ => Ok(None),
        }
    }

    /// `current_setting('…', true)`
    fn setting(&mut self, arguments: &[&Sql], depth: usize, offset: usize) -> Result<Value, Error> {
        let mut operands = Vec::new();
        for argument in arguments {
            operands.push(self.operand(argument, depth + 1)?);
        }
        let (name, is_missing_ok) = match operands.as_slice() {
            [name] => (name, false),
            [
                name,
                Operand {
                    value: Value::Bool(is_missing_ok),
                    ..
                },
            ] => (name, *is_missing_ok),
            _ => return Err(Error::unsupported("the function current_setting of this", offset)),
        };
        let Some(Some(name)) = constant_text(name) else {
            return Err(Error::unsupported("the function current_setting of this", offset));
        };
        let folded = name.to_ascii_lowercase();
        if folded == "request.jwt.claims" {
            return Ok(Value::Session(SessionValue::Claims));
        }
        // Supabase's functions ask for it. It is never set.
        if folded == "request.jwt.claim" && is_missing_ok {
            return Ok(Value::Session(SessionValue::Constant(None)));
        }
        match folded.strip_prefix("request.jwt.claim.") {
            Some(claim) if is_missing_ok && !claim.is_empty() => {
                Ok(Value::Session(SessionValue::Claim(claim.to_owned())))
            }
            Some(_) => Err(Error::unsupported(
                format!("current_setting('{name}') without true behind it"),
                offset,
            )),
            None => Err(Error::unsupported(format!("current_setting('{name}')"), offset)),
        }
    }

    /// The value, if it reads the session, as one that does.
    pub(super) fn of_the_session(&self, value: Value) -> Value {
        if self.names().is_none() {
            return value;
        }
        let folded = match &value {
            Value::Part { of, extraction, key } => match &of.value {
                Value::Session(of) if !of.is_text() => {
                    part_of(of, extraction.by_path, extraction.as_text, key)
                }
                _ => None,
            },
            Value::Function {
                function: Function::Coalesce,
                arguments,
            } => coalesced(arguments),
            _ => None,
        };
        folded.map_or(value, Value::Session)
    }
}

/// True if it is one of the names of `current_user`.
fn is_role(name: &str) -> bool {
    ["current_user", "current_role", "user"]
        .iter()
        .any(|role| name.eq_ignore_ascii_case(role))
}

fn is_named(ty: &DataType, name: &str) -> bool {
    matches!(ty, DataType::Custom(named, modifiers) if modifiers.is_empty() && full_name(named) == name)
}

/// A name as it is looked up, its parts joined by dots. One that has a dot itself is none of those that are looked for.
fn full_name(name: &ObjectName) -> String {
    let parts = name.0.iter().map(|part| match part.as_ident() {
        Some(ident) if ident.quote_style.is_none() => ident.value.to_ascii_lowercase(),
        Some(ident) if !ident.value.contains('.') => ident.value.clone(),
        _ => "\"".to_owned(),
    });
    parts.collect::<Vec<_>>().join(".")
}

/// Gives an operand from elsewhere a place in this text.
fn place(operand: &mut Operand, offset: usize) {
    operand.offset = offset;
    let placed = operand.change_parts(|part| {
        place(part, offset);
        Ok(())
    });
    // It fails for nothing.
    placed.unwrap_or_default();
}

/// The text of a constant, `None` inside for null.
fn constant_text(operand: &Operand) -> Option<Option<&str>> {
    match &operand.value {
        Value::Text(text) => Some(Some(text)),
        Value::Null => Some(None),
        Value::Cast {
            operand,
            to: Kind::Text,
        } => constant_text(operand),
        _ => None,
    }
}

/// The operand as a value of the session, if it is one, or a text beside such.
fn of_session(operand: &Operand) -> Option<SessionValue> {
    match &operand.value {
        Value::Session(value) => Some(value.clone()),
        _ => Some(SessionValue::Constant(constant_text(operand)?.map(str::to_owned))),
    }
}

/// True if `NULLIF` of these can be given: of all claims, that they are not empty.
fn is_nullif(of: &SessionValue, other: &SessionValue) -> bool {
    let is_empty = matches!(other, SessionValue::Constant(Some(text)) if text.is_empty());
    match of.form() {
        Form::Text => other.form() == Form::Text,
        Form::TextOfClaims => is_empty,
        Form::Json | Form::Jsonb => false,
    }
}

fn coalesced(arguments: &[Operand]) -> Option<SessionValue> {
    let has_session = arguments
        .iter()
        .any(|argument| matches!(argument.value, Value::Session(_)));
    let values: Vec<SessionValue> = arguments.iter().map(of_session).collect::<Option<_>>()?;
    let first = values
        .iter()
        .find(|value| !matches!(value, SessionValue::Constant(None)))?
        .form();
    let is_text = values.iter().all(SessionValue::is_text);
    let are_alike = values
        .iter()
        .all(|value| value.form() == first || matches!(value, SessionValue::Constant(None)));
    // A text beside all claims would have to be JSON.
    let has_other = values
        .iter()
        .any(|value| matches!(value, SessionValue::Constant(Some(_))))
        && values.iter().any(|value| value.form() == Form::TextOfClaims);
    (has_session && !has_other && (is_text || are_alike)).then_some(SessionValue::Coalesce(values))
}

/// A part of a document of the session's.
fn part_of(of: &SessionValue, by_path: bool, as_text: bool, key: &Operand) -> Option<SessionValue> {
    let added: Vec<Step> = match &key.value {
        Value::Number(index) if !by_path => vec![Step::Index(index.parse::<i32>().ok()?.into())],
        Value::Cast {
            operand,
            to: Kind::Int4,
        } if !by_path => match &operand.value {
            Value::Text(index) | Value::Number(index) => vec![Step::Index(index.parse::<i32>().ok()?.into())],
            _ => return None,
        },
        Value::Cast {
            operand,
            to: Kind::Array(element),
        } if by_path && **element == Kind::Text => path(operand)?,
        _ if by_path => path(key)?,
        _ => vec![Step::Key(constant_text(key)??.to_owned())],
    };
    let (of, mut steps) = match of {
        SessionValue::Part {
            of,
            steps,
            as_text: false,
        } => (of.clone(), steps.clone()),
        of => (Box::new(of.clone()), Vec::new()),
    };
    steps.extend(added);
    Some(SessionValue::Part { of, steps, as_text })
}

/// The steps of a path, `'{a,b}'` or `ARRAY['a', 'b']`.
fn path(operand: &Operand) -> Option<Vec<Step>> {
    match &operand.value {
        Value::Text(text) => {
            let steps = Array::literal(&Kind::Text, text).ok()?;
            let steps = steps.elements().iter().map(|step| match step {
                Some(Datum::Text(text)) => Some(Step::Path(String::from_utf8(text.to_vec()).ok()?)),
                _ => None,
            });
            steps.collect()
        }
        Value::Array(elements) => {
            let steps = elements.iter();
            steps
                .map(|element| Some(Step::Path(constant_text(element)??.to_owned())))
                .collect()
        }
        _ => None,
    }
}
