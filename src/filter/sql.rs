//! The meaning of sqlparser's words to us: operators, constants, types, and what to call the rest.

use sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, DataType, ExactNumberInfo, Expr as Sql, TimezoneInfo, UnaryOperator,
    Value as SqlValue,
};

use super::Error;
use super::ast::{Extraction, Operator, Value};
use super::computed::Arithmetic;
use super::matcher::Comparison;
use crate::types::Kind;

/// The expression inside the parentheses, if it stands in any.
pub(super) fn unwrap_parentheses(mut sql: &Sql) -> &Sql {
    while let Sql::Nested(inner) = sql {
        sql = inner;
    }
    sql
}

/// True if the expression is a column or a constant rather than a condition.
pub(super) fn is_operand(sql: &Sql) -> bool {
    matches!(
        unwrap_parentheses(sql),
        Sql::Identifier(_)
            | Sql::CompoundIdentifier(_)
            | Sql::Value(_)
            | Sql::TypedString(_)
            | Sql::Cast { .. }
            | Sql::Collate { .. }
            | Sql::Function(_)
            | Sql::Array(_)
            | Sql::UnaryOp {
                op: UnaryOperator::Minus | UnaryOperator::Plus,
                ..
            }
    ) || matches!(
        unwrap_parentheses(sql),
        Sql::BinaryOp { op, .. } if extraction(op).is_some() || arithmetic(op).is_some()
    )
}

/// The operator, if it is one of documents and arrays that gives a boolean.
pub(super) fn operator(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::AtArrow => Operator::Contains,
        BinaryOperator::ArrowAt => Operator::IsContained,
        BinaryOperator::PGOverlap => Operator::Overlaps,
        BinaryOperator::Question => Operator::HasKey,
        _ => return None,
    })
}

/// The operator, if it takes a part of a document.
pub(super) fn extraction(op: &BinaryOperator) -> Option<Extraction> {
    let (by_path, as_text) = match op {
        BinaryOperator::Arrow => (false, false),
        BinaryOperator::LongArrow => (false, true),
        BinaryOperator::HashArrow => (true, false),
        BinaryOperator::HashLongArrow => (true, true),
        _ => return None,
    };
    Some(Extraction { by_path, as_text })
}

/// The operator, if it is one of numbers.
pub(super) fn arithmetic(op: &BinaryOperator) -> Option<Arithmetic> {
    Some(match op {
        BinaryOperator::Plus => Arithmetic::Add,
        BinaryOperator::Minus => Arithmetic::Subtract,
        BinaryOperator::Multiply => Arithmetic::Multiply,
        BinaryOperator::Divide => Arithmetic::Divide,
        BinaryOperator::Modulo => Arithmetic::Modulo,
        _ => return None,
    })
}

pub(super) fn comparison(op: &BinaryOperator) -> Option<Comparison> {
    Some(match op {
        BinaryOperator::Eq => Comparison::Equal,
        BinaryOperator::NotEq => Comparison::NotEqual,
        BinaryOperator::Lt => Comparison::Less,
        BinaryOperator::LtEq => Comparison::LessOrEqual,
        BinaryOperator::Gt => Comparison::Greater,
        BinaryOperator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

pub(super) fn constant(value: &SqlValue, offset: usize) -> Result<Value, Error> {
    Ok(match value {
        SqlValue::Number(number, _) => Value::Number(number.to_string()),
        SqlValue::SingleQuotedString(text) => Value::Text(text.clone()),
        SqlValue::Boolean(value) => Value::Bool(*value),
        SqlValue::Null => Value::Null,
        SqlValue::Placeholder(name) => {
            let digits = name.strip_prefix('$').unwrap_or_default();
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            match digits.parse::<usize>() {
                Ok(number) if plain && number > 0 => Value::Parameter(number),
                _ => {
                    return Err(Error::syntax(
                        format!("{name} is no parameter: they are $1, $2, …"),
                        offset,
                    ));
                }
            }
        }
        other => return Err(Error::unsupported(format!("the literal {other}"), offset)),
    })
}

/// The kind of a type that an operand may be cast to; no modifiers, for they change values.
pub(super) fn kind_of(ty: &DataType) -> Option<Kind> {
    use TimezoneInfo::{None as NoZone, Tz, WithTimeZone, WithoutTimeZone};
    Some(match ty {
        DataType::Bool | DataType::Boolean => Kind::Bool,
        DataType::Int2(None) | DataType::SmallInt(None) => Kind::Int2,
        DataType::Int(None) | DataType::Int4(None) | DataType::Integer(None) => Kind::Int4,
        DataType::Int8(None) | DataType::BigInt(None) => Kind::Int8,
        DataType::Real | DataType::Float4 => Kind::Float4,
        DataType::Float8 | DataType::DoublePrecision | DataType::Float(ExactNumberInfo::None) => Kind::Float8,
        DataType::Numeric(ExactNumberInfo::None)
        | DataType::Decimal(ExactNumberInfo::None)
        | DataType::Dec(ExactNumberInfo::None) => Kind::Numeric,
        DataType::Text
        | DataType::Varchar(None)
        | DataType::CharVarying(None)
        | DataType::CharacterVarying(None) => Kind::Text,
        DataType::Uuid => Kind::Uuid,
        DataType::JSONB => Kind::Jsonb,
        DataType::Date => Kind::Date,
        DataType::Time(None, NoZone | WithoutTimeZone) => Kind::Time,
        DataType::Time(None, Tz | WithTimeZone) => Kind::TimeTz,
        DataType::Bytea => Kind::Bytea,
        DataType::Interval {
            fields: None,
            precision: None,
        } => Kind::Interval,
        DataType::Timestamp(None, NoZone | WithoutTimeZone) => Kind::Timestamp,
        DataType::Timestamp(None, Tz | WithTimeZone) => Kind::TimestampTz,
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, None))
            if !matches!(**element, DataType::Array(_)) =>
        {
            Kind::Array(Box::new(kind_of(element)?))
        }
        _ => return None,
    })
}

/// The name of an expression that is not supported.
pub(super) fn describe(sql: &Sql) -> String {
    const OVERLAP: &str = "&& as an operand (between conditions write AND)";
    let is_overlap = |sql: &Sql| {
        matches!(
            sql,
            Sql::BinaryOp {
                op: BinaryOperator::PGOverlap,
                ..
            }
        )
    };
    match sql {
        Sql::Like { .. } | Sql::ILike { .. } | Sql::AnyOp { .. } => "a condition as an operand".into(),
        Sql::SimilarTo { .. } => "SIMILAR TO".into(),
        Sql::AllOp { compare_op, .. } => format!("{compare_op} ALL"),
        Sql::Function(function) => format!("the function {}", function.name),
        Sql::UnaryOp {
            op: UnaryOperator::Not,
            ..
        } => "a condition as an operand".into(),
        Sql::UnaryOp { op, .. } => format!("the operator {op}"),
        Sql::BinaryOp { op, .. } if comparison(op).is_none() => match op {
            BinaryOperator::And | BinaryOperator::Or => "a condition as an operand".into(),
            BinaryOperator::PGOverlap => OVERLAP.into(),
            op if operator(op).is_some() => "a condition as an operand".into(),
            op => format!("the operator {op}"),
        },
        // It binds closer than =, so that a = 1 && b = 2 is (a = (1 && b)) = 2.
        Sql::BinaryOp { left, right, .. } if is_overlap(left) || is_overlap(right) => OVERLAP.into(),
        Sql::InSubquery { .. } | Sql::Subquery(_) | Sql::Exists { .. } => "a subquery".into(),
        Sql::Case { .. } => "CASE".into(),
        Sql::Array(_) => "an array".into(),
        Sql::Tuple(_) => "a row of values".into(),
        Sql::Collate { collation, .. } => {
            format!("COLLATE {collation} (COLLATE \"C\" is, in double quotes)")
        }
        Sql::AtTimeZone { .. } => {
            "AT TIME ZONE (times are compared in UTC: localtimestamp is now() in it)".into()
        }
        Sql::Interval(_) => "an interval with its unit outside of the quotes (write interval '1 day')".into(),
        Sql::Extract { .. } => "EXTRACT (compare the column itself, as in at >= '2024-01-01')".into(),
        Sql::BinaryOp { .. }
        | Sql::IsNull(_)
        | Sql::IsNotNull(_)
        | Sql::IsTrue(_)
        | Sql::IsNotTrue(_)
        | Sql::IsFalse(_)
        | Sql::IsNotFalse(_)
        | Sql::IsUnknown(_)
        | Sql::IsNotUnknown(_)
        | Sql::IsDistinctFrom(..)
        | Sql::IsNotDistinctFrom(..)
        | Sql::InList { .. }
        | Sql::Between { .. } => "a condition as an operand".into(),
        Sql::CompoundFieldAccess { .. } => "a subscript (of a document write data -> 'key')".into(),
        _ => "this kind of expression".into(),
    }
}
