//! Readings of the clock, and arithmetic of dates, times and intervals: constants, worked out once when the predicate
//! is bound, so that all that looks at rows sees literals.
//!
//! The one thing to know: the operator is the one that Postgres takes for the types of both sides (documentation,
//! "Operator Type Resolution"), in a session whose time zone is UTC.

use std::borrow::Cow;

use super::Error;
use super::ast::{Clock, Expr, Function, Operand, Value};
use super::bind::{Binder, kind_of_number};
use super::computed::Arithmetic;
use super::parse::Predicate;
use super::temporal::{is_moment, is_temporal, is_worked_out};
use super::term::{Term, Typed, text_of_json};
use super::typing::common_type;
use crate::event::Timestamp;
use crate::types::Quoted;
use crate::types::moments::{self, Interval, Precision};
use crate::types::{Datum, Kind, LiteralError, Simple};

/// A constant on its way to a type.
#[derive(Clone, Debug)]
enum Constant {
    /// A quoted literal, a parameter or null.
    Open(Option<String>),
    /// A value of a type, or a null.
    Of(Kind, Option<Amount>),
}

/// A value of a date, a time, an interval or an integer.
#[derive(Clone, Copy, Debug)]
enum Amount {
    Interval(Interval),
    /// As [`Datum`] has it.
    Number(i64),
}

use Amount::Number;
use Constant::{Of, Open};

impl Predicate {
    /// The expression with its constants worked out.
    ///
    /// # Errors
    /// A part cannot be, or has no value.
    pub(super) fn worked_out(&self, binder: &mut Binder<'_>) -> Result<Cow<'_, Expr>, Error> {
        if !self.computes {
            return Ok(Cow::Borrowed(&self.root));
        }
        let mut root = self.root.clone();
        root.change(&mut |operand| binder.work_out(operand))?;
        Ok(Cow::Owned(root))
    }
}

impl Binder<'_> {
    fn work_out(&mut self, operand: &mut Operand) -> Result<(), Error> {
        if !operand.has(&is_worked_out) {
            return Ok(());
        }
        let offset = operand.offset;
        if let Some(Of(kind, amount)) = self.constant(operand)? {
            operand.value = written(kind, amount, offset);
            return Ok(());
        }
        operand.change_parts(|part| self.work_out(part))
    }

    /// The operand, if it is a constant of these types.
    fn constant(&mut self, operand: &Operand) -> Result<Option<Constant>, Error> {
        let offset = operand.offset;
        Ok(match &operand.value {
            Value::Text(text) => Some(Open(Some(text.clone()))),
            Value::Null => Some(Open(None)),
            Value::Parameter(number) => {
                let json = self.parameter_json(*number, offset)?;
                text_of_json(json).ok().map(Open)
            }
            Value::Number(text) => match (kind_of_number(text), text.parse()) {
                (Kind::Numeric, _) | (_, Err(_)) => None,
                (kind, Ok(number)) => Some(Of(kind, Some(Number(number)))),
            },
            Value::Clock(clock) => {
                let now = self.now.ok_or_else(|| {
                    let what = "the clock, outside of a subscription,";
                    Error::unsupported(what, offset)
                })?;
                Some(at(*clock, now))
            }
            Value::Cast { operand, to } => match self.constant(operand)? {
                Some(constant) => constant.cast(to, offset)?,
                None => None,
            },
            Value::Negative(of) => match self.constant(of)? {
                Some(of @ Of(Kind::Interval, _)) => {
                    let zero = Of(Kind::Interval, Some(Amount::Interval(Interval::default())));
                    Some(operate(zero, Arithmetic::Subtract, of, offset)?)
                }
                Some(Of(kind, amount)) if !is_temporal(&kind) => {
                    let zero = Of(kind.clone(), Some(Number(0)));
                    Some(operate(zero, Arithmetic::Subtract, Of(kind, amount), offset)?)
                }
                _ => None,
            },
            Value::Arithmetic {
                left,
                operator,
                right,
            } => match (self.constant(left)?, self.constant(right)?) {
                (Some(Open(_)), Some(Open(_))) | (None, _) | (_, None) => None,
                (Some(left), Some(right)) => Some(operate(left, *operator, right, offset)?),
            },
            Value::Function {
                function: Function::DateTrunc,
                arguments,
            } => self.date_trunc(arguments, offset)?,
            _ => None,
        })
    }

    /// `date_trunc(precision, moment)`
    fn date_trunc(&mut self, arguments: &[Operand], offset: usize) -> Result<Option<Constant>, Error> {
        let [precision, of] = arguments else {
            let what = "date_trunc with a time zone (dates are those of UTC: write date_trunc('day', now()))";
            return Err(Error::unsupported(what, offset));
        };
        let Some(Open(Some(name))) = self.constant(precision)? else {
            let what = "date_trunc to anything but a quoted literal";
            return Err(Error::unsupported(what, precision.offset));
        };
        let Some(to) = Precision::of(&name) else {
            let names = Precision::NAMES.map(|(name, _)| name).join(", ");
            let what = format!("date_trunc to {} (here it may be {names})", Quoted(&name));
            return Err(Error::unsupported(what, precision.offset));
        };
        let Some(Of(kind, amount)) = self.constant(of)? else {
            let what = "date_trunc of anything but constants, such as now(),";
            return Err(Error::unsupported(what, offset));
        };
        // Of the types that a date could become it takes the preferred one.
        let (kind, amount) = match (kind, amount) {
            (Kind::Date, amount) => (Kind::TimestampTz, as_moment(amount, &Kind::Date, offset)?),
            (kind @ (Kind::Timestamp | Kind::TimestampTz), amount) => (kind, amount),
            (kind, _) => {
                let what = format!("date_trunc of a value of type {}", kind.name());
                return Err(Error::unsupported(what, offset));
            }
        };
        let Some(Number(micros)) = amount else {
            return Ok(Some(Of(kind, None)));
        };
        let truncated = moments::truncated(micros, to);
        let truncated = truncated.ok_or_else(|| out_of_range(&kind, "date_trunc".to_owned(), offset))?;
        Ok(Some(Of(kind, Some(Number(truncated)))))
    }
}

/// The constant that the clock says at that time.
fn at(clock: Clock, now: Timestamp) -> Constant {
    let midnight = moments::truncated(now.0, Precision::Micros(moments::DAY)).unwrap_or_default();
    let (kind, number) = match clock {
        Clock::Now => (Kind::TimestampTz, now.0),
        Clock::LocalTimestamp => (Kind::Timestamp, now.0),
        Clock::Date => (Kind::Date, midnight / moments::DAY),
        Clock::Time => (Kind::TimeTz, now.0 - midnight),
        Clock::LocalTime => (Kind::Time, now.0 - midnight),
    };
    Of(kind, Some(Number(number)))
}

/// The constant as a literal.
fn written(kind: Kind, amount: Option<Amount>, offset: usize) -> Value {
    let value = match amount {
        None => Value::Null,
        Some(Amount::Interval(interval)) => Value::Text(interval.to_string()),
        Some(Number(number)) if is_temporal(&kind) => Value::Text(moments::text(&kind, number)),
        Some(Number(number)) => Value::Number(number.to_string()),
    };
    let operand = Box::new(Operand { offset, value });
    Value::Cast { operand, to: kind }
}

impl Constant {
    fn name(&self) -> &'static str {
        match self {
            Open(_) => "unknown",
            Of(kind, _) => kind.name(),
        }
    }

    /// The constant as another type; `None` if that is not one of these, or there is no such cast.
    fn cast(self, to: &Kind, offset: usize) -> Result<Option<Constant>, Error> {
        let (kind, amount) = match self {
            Open(text) => {
                let is_known =
                    is_moment(to) || matches!(to, Kind::Interval | Kind::Int2 | Kind::Int4 | Kind::Int8);
                return is_known.then(|| read(text, to, offset)).transpose();
            }
            Of(kind, amount) => (kind, amount),
        };
        if kind == *to {
            return Ok(Some(Of(kind, amount)));
        }
        let (Some(from), Some(simple)) = (Simple::of(&kind), Simple::of(to)) else {
            return Ok(None);
        };
        let is_integer = |simple: Simple| simple.integers().is_some();
        let are_moments = is_moment(&kind) && is_moment(to);
        let is_known = are_moments || is_integer(from) && is_integer(simple);
        if !is_known {
            return Ok(None);
        }
        let Some(Number(number)) = amount else {
            return Ok(Some(Of(to.clone(), None)));
        };
        let datum = match kind {
            Kind::Date => Datum::Date(number),
            Kind::Timestamp | Kind::TimestampTz => Datum::Timestamp(number),
            _ => Datum::Int(number),
        };
        let number = match simple.convert(datum, from) {
            Ok(Datum::Date(number) | Datum::Timestamp(number) | Datum::Int(number)) => number,
            _ => {
                let text = if is_temporal(&kind) {
                    moments::text(&kind, number)
                } else {
                    number.to_string()
                };
                return Err(out_of_range(to, text, offset));
            }
        };
        Ok(Some(Of(to.clone(), Some(Number(number)))))
    }
}

/// A literal of that type.
fn read(text: Option<String>, kind: &Kind, offset: usize) -> Result<Constant, Error> {
    let amount = match (&text, kind) {
        (None, _) => None,
        (Some(text), Kind::Interval) => {
            let interval = Interval::literal(text).map_err(|source| Error::Literal { source, offset })?;
            Some(Amount::Interval(interval))
        }
        (Some(text), kind) => {
            let mut term = Term::open(text, offset);
            term.close(kind)?;
            match term.typed {
                Typed::Constant {
                    value: Some(Datum::Date(number) | Datum::Timestamp(number) | Datum::Int(number)),
                    ..
                } => Some(Number(number)),
                _ => None,
            }
        }
    };
    Ok(Of(kind.clone(), amount))
}

/// `left operator right`
fn operate(left: Constant, operator: Arithmetic, right: Constant, offset: usize) -> Result<Constant, Error> {
    let (left, right) = close(left, operator, right, offset)?;
    let (Of(left_kind, left_amount), Of(right_kind, right_amount)) = (&left, &right) else {
        return Err(no_such(&left, operator, &right, offset));
    };
    let kind = match result_of(left_kind, operator, right_kind) {
        Some(kind) => kind,
        None => return Err(no_such(&left, operator, &right, offset)),
    };
    let (Some(left_amount), Some(right_amount)) = (*left_amount, *right_amount) else {
        return Ok(Of(kind, None));
    };
    let failed = || {
        let text = |kind: &Kind, amount| match amount {
            Amount::Interval(interval) => interval.to_string(),
            Number(number) if is_temporal(kind) => moments::text(kind, number),
            Number(number) => number.to_string(),
        };
        let left = text(left_kind, left_amount);
        let right = text(right_kind, right_amount);
        out_of_range(&kind, format!("{left} {} {right}", operator.as_str()), offset)
    };
    let amount = match (left_amount, right_amount) {
        (Amount::Interval(left), Amount::Interval(right)) => match operator {
            Arithmetic::Add => left.plus(right),
            _ => left.minus(right),
        }
        .map(Amount::Interval),
        (Amount::Interval(interval), Number(number)) | (Number(number), Amount::Interval(interval))
            if operator == Arithmetic::Multiply =>
        {
            interval.times(number).map(Amount::Interval)
        }
        (Amount::Interval(interval), moment @ Number(_))
        | (moment @ Number(_), Amount::Interval(interval)) => {
            let moment_kind = if is_moment(left_kind) {
                left_kind
            } else {
                right_kind
            };
            let interval = match operator {
                Arithmetic::Subtract => interval.negated(),
                _ => Some(interval),
            };
            match (as_moment(Some(moment), moment_kind, offset)?, interval) {
                (Some(Number(micros)), Some(interval)) => {
                    moments::timestamp_plus(micros, interval).map(Number)
                }
                _ => None,
            }
        }
        (Number(left), Number(right)) if kind == Kind::Date => match (left_kind, operator) {
            (Kind::Date, Arithmetic::Subtract) => right
                .checked_neg()
                .and_then(|days| moments::date_plus(left, days)),
            (Kind::Date, _) => moments::date_plus(left, right),
            _ => moments::date_plus(right, left),
        }
        .map(Number),
        (Number(left), Number(right)) if *left_kind == Kind::Date && *right_kind == Kind::Date => {
            moments::date_difference(left, right).map(Number)
        }
        (left @ Number(_), right @ Number(_)) if kind == Kind::Interval => {
            let left = as_moment(Some(left), left_kind, offset)?;
            let right = as_moment(Some(right), right_kind, offset)?;
            match (left, right) {
                (Some(Number(left)), Some(Number(right))) => {
                    moments::timestamp_difference(left, right).map(Amount::Interval)
                }
                _ => None,
            }
        }
        (Number(left), Number(right)) => {
            let simple = Simple::of(&kind).ok_or_else(failed)?;
            match operator.apply(left, right, simple) {
                Ok(Datum::Int(number)) => Some(Number(number)),
                _ => None,
            }
        }
    };
    let amount = amount.ok_or_else(failed)?;
    Ok(Of(kind, Some(amount)))
}

/// The type of the result; `None` if there is no such operator here.
fn result_of(left: &Kind, operator: Arithmetic, right: &Kind) -> Option<Kind> {
    use Arithmetic::{Add, Multiply, Subtract};
    let is_integer = |kind: &Kind| matches!(kind, Kind::Int2 | Kind::Int4 | Kind::Int8);
    let counts_days = |kind: &Kind| matches!(kind, Kind::Int2 | Kind::Int4);
    let with_interval = |moment: &Kind| match moment {
        Kind::Date => Kind::Timestamp,
        moment => moment.clone(),
    };
    Some(match (left, operator, right) {
        (Kind::Interval, Add | Subtract, Kind::Interval) => Kind::Interval,
        (moment, Add | Subtract, Kind::Interval) if is_moment(moment) => with_interval(moment),
        (Kind::Interval, Add, moment) if is_moment(moment) => with_interval(moment),
        (Kind::Interval, Multiply, factor) | (factor, Multiply, Kind::Interval) if is_integer(factor) => {
            Kind::Interval
        }
        (Kind::Date, Add | Subtract, days) if counts_days(days) => Kind::Date,
        (days, Add, Kind::Date) if counts_days(days) => Kind::Date,
        (Kind::Date, Subtract, Kind::Date) => Kind::Int4,
        (left, Subtract, right) if is_moment(left) && is_moment(right) => Kind::Interval,
        (left, _, right) if is_integer(left) && is_integer(right) => common_type([left, right].into_iter())?,
        _ => return None,
    })
}

/// Gives a side whose type is open the one that it has beside the other side.
fn close(
    left: Constant,
    operator: Arithmetic,
    right: Constant,
    offset: usize,
) -> Result<(Constant, Constant), Error> {
    let (kind, text, is_left) = match (&left, &right) {
        (Open(text), Of(kind, _)) => (kind.clone(), text.clone(), true),
        (Of(kind, _), Open(text)) => (kind.clone(), text.clone(), false),
        _ => return Ok((left, right)),
    };
    use Arithmetic::{Add, Multiply, Subtract};
    let other = match (&kind, operator) {
        // The only operator of these types.
        (Kind::Timestamp | Kind::TimestampTz, Add) => Kind::Interval,
        // A number of type `double precision`.
        (Kind::Interval, Multiply) => Kind::Int8,
        // A date and an integer, an interval, a time: it could be each.
        (Kind::Date, Add) => return Err(no_such(&left, operator, &right, offset)),
        // Else that of the other side.
        (Kind::Interval, Add | Subtract) => Kind::Interval,
        (kind, Subtract) if is_moment(kind) && !is_left => {
            // Mostly an interval was meant, not a moment.
            return match read(text, kind, offset) {
                Ok(right) => Ok((left, right)),
                Err(_) => Err(no_such(&left, operator, &right, offset)),
            };
        }
        (kind, _) if is_temporal(kind) && !is_moment(kind) => {
            return Err(no_such(&left, operator, &right, offset));
        }
        (kind, _) => kind.clone(),
    };
    let closed = match (read(text, &other, offset), operator) {
        // A factor may have a fraction there.
        (Err(_), Multiply) => return Err(no_such(&left, operator, &right, offset)),
        (closed, _) => closed?,
    };
    Ok(if is_left { (closed, right) } else { (left, closed) })
}

/// A date as the timestamp that it becomes beside an interval or a timestamp.
fn as_moment(amount: Option<Amount>, kind: &Kind, offset: usize) -> Result<Option<Amount>, Error> {
    match (amount, kind) {
        (Some(Number(date)), Kind::Date) => {
            let micros = moments::midnight_of(date);
            let micros = micros
                .ok_or_else(|| out_of_range(&Kind::Timestamp, moments::text(&Kind::Date, date), offset))?;
            Ok(Some(Number(micros)))
        }
        (amount, _) => Ok(amount),
    }
}

fn out_of_range(kind: &Kind, text: String, offset: usize) -> Error {
    let source = LiteralError::OutOfRange {
        ty: kind.name(),
        text,
    };
    Error::Literal { source, offset }
}

/// The error for an operator that does not exist, with a hint at what to write.
fn no_such(left: &Constant, operator: Arithmetic, right: &Constant, offset: usize) -> Error {
    let is_of = |test: &dyn Fn(&Kind) -> bool| {
        [left, right].into_iter().any(|side| match side {
            Of(kind, _) => test(kind),
            Open(_) => false,
        })
    };
    let is_open = [left, right].into_iter().any(|side| matches!(side, Open(_)));
    let hint = if is_open && is_of(&is_moment) {
        " (say what it is: interval '1 day', or $1::interval)"
    } else if is_of(&|kind| *kind == Kind::Int8) && is_of(&|kind| *kind == Kind::Date) {
        " (a number of days is an integer: …::int)"
    } else if is_of(&|kind| matches!(kind, Kind::Timestamp | Kind::TimestampTz))
        && !is_of(&|kind| *kind == Kind::Interval)
    {
        " (write an interval, such as interval '7 days')"
    } else {
        ""
    };
    let what = format!(
        "the operator {} on {} and {}{hint}",
        operator.as_str(),
        left.name(),
        right.name()
    );
    Error::unsupported(what, offset)
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
