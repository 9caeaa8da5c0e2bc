//! Operands: what stands on a side of a comparison.

use sqlparser::ast::{CastKind, DataType, Expr as Sql, Ident, Interval, UnaryOperator, Value as SqlValue};

use super::Error;
use super::ast::{Operand, Value};
use super::lex::is_reserved;
use super::parse::Checker;
use super::sql::{constant, describe, extraction, kind_of, unwrap_parentheses};
use crate::types::Kind;

impl Checker<'_> {
    pub(super) fn operand(&mut self, sql: &Sql, depth: usize) -> Result<Operand, Error> {
        let sql = unwrap_parentheses(sql);
        let offset = self.offset(sql);
        if depth > self.limits.max_depth {
            return Err(self.too_deep(offset));
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
                Value::Cast { .. } => {
                    return Err(Error::unsupported(
                        "the sign of a cast, as in -1::t: write (-1)::t;",
                        offset,
                    ));
                }
                _ => return Err(Error::unsupported("arithmetic", offset)),
            },
            Sql::BinaryOp { left, op, right } => match extraction(op) {
                Some(extraction) => Value::Part {
                    of: Box::new(self.operand(left, depth + 1)?),
                    extraction,
                    key: Box::new(self.operand(right, depth + 1)?),
                },
                None => return Err(Error::unsupported(describe(sql), offset)),
            },
            other => return Err(Error::unsupported(describe(other), offset)),
        };
        Ok(Operand { offset, value })
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
        Ok(Value::Column { qualifiers, name })
    }

    fn kind_of(&self, ty: &DataType, offset: usize) -> Result<Kind, Error> {
        kind_of(ty).ok_or_else(|| Error::unsupported(format!("the type {ty}"), offset))
    }
}
