//! Operands: what stands on a side of a comparison.

use sqlparser::ast::{
    CastKind, DataType, Expr as Sql, Function as SqlFunction, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, Interval, ObjectName, UnaryOperator, Value as SqlValue,
};

use super::Error;
use super::ast::{Clock, Function, Operand, Value};
use super::claims;
use super::hints;
use super::lex::is_reserved;
use super::parse::{Checker, Dialect};
use super::sql::{arithmetic, constant, describe, extraction, kind_of};
use crate::types::Kind;

impl Checker<'_> {
    pub(super) fn operand(&mut self, sql: &Sql, depth: usize) -> Result<Operand, Error> {
        let sql = self.inner(sql);
        let offset = self.offset(sql);
        if depth > self.limits.max_depth {
            return Err(self.too_deep(offset));
        }
        if let Some(value) = self.printed_operand(sql, depth)? {
            let value = self.of_the_session(value);
            return Ok(Operand { offset, value });
        }
        let value = match sql {
            Sql::Identifier(name) => self.column(std::slice::from_ref(name))?,
            Sql::CompoundIdentifier(names) => self.column(names)?,
            Sql::Value(value) => constant(&value.value, offset)?,
            Sql::TypedString(typed) if matches!(typed.value.value, SqlValue::SingleQuotedString(_)) => {
                let to = self.kind_of(&typed.data_type, offset)?;
                let value = constant(&typed.value.value, offset)?;
                let operand = Box::new(Operand { offset, value });
                Value::Cast { operand, to }
            }
            Sql::Interval(Interval {
                value,
                leading_field: None,
                leading_precision: None,
                last_field: None,
                fractional_seconds_precision: None,
            }) if matches!(**value, Sql::Value(_)) => {
                let operand = Box::new(self.operand(value, depth + 1)?);
                let to = Kind::Interval;
                Value::Cast { operand, to }
            }
            Sql::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => {
                let operand = Box::new(self.operand(expr, depth + 1)?);
                let to = self.kind_of(data_type, offset)?;
                Value::Cast { operand, to }
            }
            Sql::UnaryOp {
                op: op @ (UnaryOperator::Minus | UnaryOperator::Plus),
                expr,
            } => match self.operand(expr, depth + 1)?.value {
                Value::Number(number) if *op == UnaryOperator::Plus => Value::Number(number),
                Value::Number(number) => Value::Number(match number.strip_prefix('-') {
                    Some(positive) => positive.to_owned(),
                    None => format!("-{number}"),
                }),
                Value::Cast { operand, .. } if matches!(operand.value, Value::Number(_)) => {
                    return Err(Error::unsupported(
                        "the sign of a cast, as in -1::t: write (-1)::t;",
                        offset,
                    ));
                }
                value if *op == UnaryOperator::Minus => {
                    self.count(depth, offset)?;
                    Value::Negative(Box::new(Operand { offset, value }))
                }
                _ => return Err(Error::unsupported("a plus sign before what is no number", offset)),
            },
            Sql::BinaryOp { left, op, right } => match (extraction(op), arithmetic(op)) {
                (Some(extraction), _) => Value::Part {
                    of: Box::new(self.operand(left, depth + 1)?),
                    extraction,
                    key: Box::new(self.operand(right, depth + 1)?),
                },
                (_, Some(operator)) => {
                    self.count(depth, offset)?;
                    Value::Arithmetic {
                        left: Box::new(self.operand(left, depth + 1)?),
                        operator,
                        right: Box::new(self.operand(right, depth + 1)?),
                    }
                }
                _ => return Err(Error::unsupported(describe(sql), offset)),
            },
            Sql::Function(function) => self.function(function, depth, offset)?,
            Sql::Collate { expr, collation } if is_c(collation) => {
                self.collates = true;
                Value::Collate(Box::new(self.operand(expr, depth + 1)?))
            }
            Sql::Array(array) if array.named => {
                let elements = array.elem.iter().map(|sql| self.operand(sql, depth + 1));
                Value::Array(elements.collect::<Result<_, _>>()?)
            }
            other => return Err(Error::unsupported(describe(other), offset)),
        };
        let value = self.of_the_session(value);
        Ok(Operand { offset, value })
    }

    fn function(&mut self, function: &SqlFunction, depth: usize, offset: usize) -> Result<Value, Error> {
        self.count(depth, offset)?;
        let unsupported = || {
            let hint = hints::of_function(&function.name.to_string());
            Error::unsupported(format!("the function {}{hint}", function.name), offset)
        };
        let name = name_of(&function.name).ok_or_else(unsupported)?;
        if let Some((clock, has_parentheses)) = Clock::of(&name) {
            return match (arguments_of(function), &function.args) {
                (Some(arguments), FunctionArguments::List(_)) if has_parentheses && arguments.is_empty() => {
                    Ok(Value::Clock(clock))
                }
                (_, FunctionArguments::None) if !has_parentheses => Ok(Value::Clock(clock)),
                _ if has_parentheses => {
                    let message = format!("{name} is written with parentheses and nothing in them, {name}()");
                    Err(Error::syntax(message, offset))
                }
                (Some(arguments), _) if !arguments.is_empty() => {
                    let what = format!("{name} with a precision (write {name} alone)");
                    Err(Error::unsupported(what, offset))
                }
                _ => {
                    let message = format!("{name} is written without parentheses");
                    Err(Error::syntax(message, offset))
                }
            };
        }
        if name == claims::NAME {
            return self.claim(function, offset);
        }
        let known = Function::ALL.into_iter().find(|known| known.as_str() == name);
        let known = known.ok_or_else(unsupported)?;
        let arguments = arguments_of(function).ok_or_else(unsupported)?;
        if arguments.is_empty() {
            let message = format!("the function {name} needs an argument");
            return Err(Error::syntax(message, offset));
        }
        let arguments = arguments.into_iter().map(|sql| self.operand(sql, depth + 1));
        Ok(Value::Function {
            function: known,
            arguments: arguments.collect::<Result<_, _>>()?,
        })
    }

    /// `claim('path')`
    fn claim(&self, function: &SqlFunction, offset: usize) -> Result<Value, Error> {
        if !matches!(self.dialect, Dialect::Policy) {
            return Err(Error::unsupported(
                "claim(), which stands in policies only,",
                offset,
            ));
        }
        let path = match arguments_of(function).as_deref() {
            Some(&[Sql::Value(value)]) => match &value.value {
                SqlValue::SingleQuotedString(path) => Some(path),
                _ => None,
            },
            _ => None,
        };
        let path = path.filter(|path| !path.is_empty()).ok_or_else(|| {
            Error::syntax(
                "claim takes the path of a claim as a quoted literal, as in claim('app.tenant')",
                offset,
            )
        })?;
        Ok(Value::Claim(path.clone()))
    }

    fn column(&self, names: &[Ident]) -> Result<Value, Error> {
        let mut folded = Vec::with_capacity(names.len());
        for (at, ident) in names.iter().enumerate() {
            let offset = self.text.offset(ident.span.start);
            folded.push(match ident.quote_style {
                Some('"') => ident.value.clone(),
                Some(_) => return Err(Error::syntax(format!("expected a column, found {ident}"), offset)),
                None => {
                    let name = ident.value.to_ascii_lowercase();
                    // After a dot any word is a name.
                    if at == 0 && is_reserved(&name) {
                        let message =
                            format!("{name} is a reserved word: as a column's name it must be quoted");
                        return Err(Error::syntax(message, offset));
                    }
                    name
                }
            });
        }
        let name = folded.pop().unwrap_or_default();
        let qualifiers = folded;
        let quoted = names.last().is_some_and(|name| name.quote_style.is_some());
        Ok(Value::Column {
            qualifiers,
            name,
            quoted,
        })
    }

    fn kind_of(&self, ty: &DataType, offset: usize) -> Result<Kind, Error> {
        kind_of(ty).ok_or_else(|| Error::unsupported(format!("the type {ty}"), offset))
    }
}

/// True if it is the collation `"C"`.
fn is_c(collation: &ObjectName) -> bool {
    name_of(collation).is_some_and(|name| name == "C")
}

/// The name of something of Postgres' own.
fn name_of(name: &ObjectName) -> Option<String> {
    let mut names = name.0.iter().map(|part| {
        let ident = part.as_ident()?;
        match ident.quote_style {
            None => Some(ident.value.to_ascii_lowercase()),
            Some('"') => Some(ident.value.clone()),
            Some(_) => None,
        }
    });
    match (names.next()??, names.next()) {
        (name, None) => Some(name),
        (schema, Some(name)) => name.filter(|_| schema == "pg_catalog" && names.next().is_none()),
    }
}

/// The arguments of a plain call.
pub(super) fn arguments_of(function: &SqlFunction) -> Option<Vec<&Sql>> {
    let SqlFunction {
        name: _,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args,
        within_group,
        filter: None,
        null_treatment: None,
        over: None,
    } = function
    else {
        return None;
    };
    let list = match args {
        _ if !within_group.is_empty() => return None,
        FunctionArguments::None => return Some(Vec::new()),
        FunctionArguments::List(list) if list.duplicate_treatment.is_none() && list.clauses.is_empty() => {
            list
        }
        _ => return None,
    };
    let argument = |argument| match argument {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref sql)) => Some(sql),
        _ => None,
    };
    list.args.iter().map(argument).collect()
}
