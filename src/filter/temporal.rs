//! The parts of a predicate that are worked out before it is bound: readings of the clock, and arithmetic of dates and
//! times.

use super::ast::{Expr, Function, Operand, Value};
use crate::types::Kind;

/// True if a kind is one of dates and times.
pub(super) fn is_temporal(kind: &Kind) -> bool {
    is_moment(kind) || matches!(kind, Kind::Interval | Kind::Time | Kind::TimeTz)
}

/// True if a kind is one of dates, with or without a time.
pub(super) fn is_moment(kind: &Kind) -> bool {
    matches!(kind, Kind::Date | Kind::Timestamp | Kind::TimestampTz)
}

/// True if the clock is asked in it.
pub(super) fn asks_the_clock(expr: &Expr) -> bool {
    expr.has(&|operand| operand.has(&|part| matches!(part.value, Value::Clock(_))))
}

/// True if something in it is to be worked out.
pub(super) fn computes(expr: &Expr) -> bool {
    expr.has(&|operand| operand.has(&is_worked_out))
}

/// True if the operand itself is to be worked out, if its parts are constants.
pub(super) fn is_worked_out(operand: &Operand) -> bool {
    let is_of_times = |operand: &Operand| {
        operand.has(&|part| match &part.value {
            Value::Clock(_) => true,
            Value::Cast { to, .. } => is_temporal(to),
            _ => false,
        })
    };
    match &operand.value {
        Value::Clock(_)
        | Value::Function {
            function: Function::DateTrunc,
            ..
        } => true,
        Value::Arithmetic { left, right, .. } => is_of_times(left) || is_of_times(right),
        Value::Negative(of) => is_of_times(of),
        _ => false,
    }
}
