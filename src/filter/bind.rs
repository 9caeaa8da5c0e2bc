//! [`Predicate::bind`]: names become columns, literals become values, each comparison gets the type that Postgres
//! compares by.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::Error;
use super::arrays::{self, any};
use super::ast::{Expr, Operand, Value};
use super::compare::{compare, gather, is_null, leaf};
use super::documents::{self, part};
use super::functions;
use super::hints;
use super::leaf::Test;
use super::like::like;
use super::matcher::{Comparison, Matcher, Node, Source};
use super::open::{Copied, Open, TRANSIENT_BYTES};
use super::parse::Predicate;
use super::term::{Place, Term, Typed, text_of_json};
use super::truth::Truth;
use super::typing::common_type;
use crate::event::{Timestamp, View};
use crate::types::{Datum, Kind, Reading, literal};

impl Predicate {
    /// Binds the predicate to the columns of a view and to its parameters.
    ///
    /// A parameter is as if the same literal stood in its place, quoted: it takes its type from there. A JSON string
    /// gives its text, a number its digits, true and false those words, null a null. A list gives an array of such, and
    /// for a `jsonb` a list or an object is that JSON.
    pub fn bind(&self, view: View<'_>, parameters: &[Json]) -> Result<Matcher, Error> {
        if parameters_size(parameters) > MAX_PARAMETER_BYTES {
            return Err(Error::TooLarge {
                of: "bytes of parameters",
                limit: MAX_PARAMETER_BYTES,
                offset: 0,
            });
        }
        let mut binder = Binder::new(view, parameters, self.now);
        let root = self.worked_out(&mut binder)?;
        let node = binder.boolean(&root)?;
        match binder.used.iter().position(|used| !used) {
            None => Matcher::new(node).within_limits(),
            Some(unused) => Err(Error::Parameter {
                message: format!("parameter ${} is given but not used", unused + 1),
                offset: 0,
            }),
        }
    }
}

/// The members of a list, but for parameters that are there more than twice. (One constant has another type by itself
/// than two of them.)
pub(super) fn distinct(list: &[Operand]) -> impl Iterator<Item = &Operand> {
    let mut seen: HashMap<usize, usize> = HashMap::new();
    list.iter().filter(move |operand| match operand.value {
        Value::Parameter(number) => {
            let uses = seen.entry(number).or_default();
            *uses += 1;
            *uses <= 2
        }
        _ => true,
    })
}

/// The size that the parameters of a predicate may have together.
const MAX_PARAMETER_BYTES: usize = 64 * 1024;

/// About how many bytes parameters take.
pub fn parameters_size(parameters: &[Json]) -> usize {
    parameters.iter().map(size).sum()
}

/// About how many bytes a parameter takes.
fn size(json: &Json) -> usize {
    match json {
        Json::Null | Json::Bool(_) | Json::Number(_) => 8,
        Json::String(text) => text.len() + 2,
        Json::Array(items) => items.iter().map(size).sum::<usize>() + 2,
        Json::Object(members) => members
            .iter()
            .map(|(key, value)| key.len() + 3 + size(value))
            .sum::<usize>(),
    }
}

/// Gives a predicate's operands their types.
pub(super) struct Binder<'a> {
    view: View<'a>,
    parameters: &'a [Json],
    used: Vec<bool>,
    /// The value of `now()`.
    pub(super) now: Option<Timestamp>,
    /// The texts of those that were used, so that each is read once.
    texts: Vec<Option<Open>>,
    copied: Copied,
}

impl<'a> Binder<'a> {
    pub(super) fn new(view: View<'a>, parameters: &'a [Json], now: Option<Timestamp>) -> Binder<'a> {
        Binder {
            view,
            parameters,
            used: vec![false; parameters.len()],
            now,
            texts: vec![None; parameters.len()],
            copied: Copied::default(),
        }
    }

    fn boolean(&mut self, expr: &Expr) -> Result<Node, Error> {
        match expr {
            Expr::And(exprs) => Ok(Node::and(self.booleans(exprs)?)),
            Expr::Or(exprs) => Ok(Node::or(self.booleans(exprs)?)),
            Expr::Not(expr) => Ok(self.boolean(expr)?.negated()),
            Expr::Is { expr, truth, negated } => Ok(Node::is(self.boolean(expr)?, *truth, *negated)),
            Expr::IsNull { operand, negated } => {
                let term = self.term(operand)?;
                // Of a composite it asks for its attributes: ROW(NULL) is null, and ROW(1, NULL) neither null nor not.
                if let Some(Kind::Composite { .. }) = term.kind() {
                    let what = "IS NULL of a composite (IS NOT DISTINCT FROM NULL asks for the value itself)";
                    return Err(Error::unsupported(what, term.offset));
                }
                Ok(is_null(&term, *negated))
            }
            Expr::Compare {
                left,
                comparison,
                right,
            } => compare(self.term(left)?, *comparison, self.term(right)?),
            Expr::In { left, list, negated } => {
                let is_in = self.is_in(left, list)?;
                Ok(if *negated { is_in.negated() } else { is_in })
            }
            Expr::Between {
                operand,
                low,
                high,
                negated,
            } => {
                let low = compare(self.term(operand)?, Comparison::GreaterOrEqual, self.term(low)?)?;
                let high = compare(self.term(operand)?, Comparison::LessOrEqual, self.term(high)?)?;
                let between = Node::and(vec![low, high]);
                Ok(if *negated { between.negated() } else { between })
            }
            Expr::Like {
                operand,
                pattern,
                escape,
                folds,
                negated,
            } => {
                let escape = escape.as_ref().map(|escape| self.term(escape)).transpose()?;
                let like = like(self.term(operand)?, self.term(pattern)?, escape, *folds)?;
                Ok(if *negated { like.negated() } else { like })
            }
            Expr::Any {
                left,
                comparison,
                array,
            } => any(self.term(left)?, *comparison, self.term(array)?),
            Expr::Operator {
                left,
                operator,
                right,
                ..
            } => {
                let left = self.term(left)?;
                let right = self.term(right)?;
                match left.kind().or(right.kind()) {
                    Some(Kind::Jsonb) => documents::operate(left, *operator, right),
                    _ => arrays::operate(left, *operator, right),
                }
            }
            Expr::Operand(operand) => truth(self.term(operand)?),
        }
    }

    fn booleans(&mut self, exprs: &[Expr]) -> Result<Vec<Node>, Error> {
        exprs.iter().map(|expr| self.boolean(expr)).collect()
    }

    /// `left IN (list)`. Postgres gives the list's constants one type if there are several (`transformAExprIn` in
    /// `parse_expr.c`), and compares a single one, or columns, each by itself.
    fn is_in(&mut self, left: &Operand, list: &[Operand]) -> Result<Node, Error> {
        let mut terms = distinct(list)
            .map(|operand| self.term(operand))
            .collect::<Result<Vec<_>, _>>()?;
        let left = self.term(left)?;
        if terms.iter().filter(|term| !term.is_place()).count() > 1 {
            terms.iter().try_for_each(|term| left.check_name(term))?;
            let members = std::iter::once(&left).chain(terms.iter().filter(|term| !term.is_place()));
            if let Some(common) = common_type(members.filter_map(Term::kind)) {
                for term in terms.iter_mut().filter(|term| !term.is_place()) {
                    term.cast(&common)?;
                }
            }
        }
        let mut nodes = Vec::with_capacity(terms.len());
        for term in terms {
            nodes.push(compare(left.clone(), Comparison::Equal, term)?);
        }
        Ok(gather(nodes))
    }

    pub(super) fn term(&mut self, operand: &Operand) -> Result<Term<'a>, Error> {
        let offset = operand.offset;
        let typed = match &operand.value {
            Value::Column {
                qualifiers,
                name,
                quoted,
            } => self.column(qualifiers, name, *quoted, offset)?,
            Value::Text(text) => Typed::Open(Some(Open::new(text.clone(), &self.copied))),
            Value::Null => Typed::Open(None),
            Value::Bool(value) => Typed::Constant {
                kind: Kind::Bool,
                value: Some(Datum::Bool(*value)),
            },
            Value::Number(text) => {
                let kind = kind_of_number(text);
                let value = literal(&kind, text).map_err(|source| Error::Literal { source, offset })?;
                let value = Some(value);
                Typed::Constant { kind, value }
            }
            Value::Parameter(number) => self.parameter(*number, offset)?,
            Value::Cast { operand, to } => {
                // The cast is one of the elements.
                if let (Value::Array(elements), Kind::Array(element)) = (&operand.value, to) {
                    let typed = functions::array_of(self.terms(elements)?, element, offset)?;
                    return Ok(Term { offset, typed });
                }
                let mut term = self.term(operand)?;
                term.cast(to)?;
                term.typed
            }
            Value::Function { function, arguments } => {
                functions::call(self.view.relation(), *function, self.terms(arguments)?, offset)?
            }
            Value::Arithmetic {
                left,
                operator,
                right,
            } => functions::arithmetic(self.term(left)?, *operator, self.term(right)?)?,
            Value::Negative(operand) => functions::negative(self.term(operand)?)?,
            Value::Array(elements) => functions::array(self.terms(elements)?, offset)?,
            // It was worked out before.
            Value::Clock(_) => return Err(Error::unsupported("the clock here", offset)),
            // Values were put in its place before.
            Value::Claim(_) | Value::Session(_) => {
                return Err(Error::unsupported("a claim without a caller", offset));
            }
            Value::Collate(operand) => self.collated(operand)?,
            Value::Part { of, extraction, key } => part(self.term(of)?, *extraction, self.term(key)?)?,
        };
        Ok(Term { offset, typed })
    }

    /// `operand COLLATE "C"`
    fn collated(&mut self, operand: &Operand) -> Result<Typed<'a>, Error> {
        match self.term(operand)?.typed {
            Typed::Place(mut place) => {
                place.collate(operand.offset)?;
                Ok(Typed::Place(place))
            }
            _ => {
                let what = "COLLATE of a constant (write it behind the column, and a part in parentheses: (data ->> 'key') \
                            COLLATE \"C\")";
                Err(Error::unsupported(what, operand.offset))
            }
        }
    }

    fn terms(&mut self, operands: &[Operand]) -> Result<Vec<Term<'a>>, Error> {
        operands.iter().map(|operand| self.term(operand)).collect()
    }

    fn column(
        &self,
        qualifiers: &[String],
        name: &str,
        quoted: bool,
        offset: usize,
    ) -> Result<Typed<'a>, Error> {
        let table = self.view.table();
        let own = match qualifiers {
            [] => true,
            [name] => *name == table.name,
            [schema, name] => *schema == table.schema && *name == table.name,
            _ => false,
        };
        match self.view.column(name) {
            Some((index, column)) if own => Ok(Typed::Place(Place::new(index, column))),
            _ => {
                let hint = hints::of_column(self.view, qualifiers, name, quoted);
                let mut parts = qualifiers.to_vec();
                parts.push(name.to_owned());
                let name = parts.join(".");
                Err(Error::UnknownColumn { name, hint, offset })
            }
        }
    }

    /// The value of `$number`.
    pub(super) fn parameter_json(&mut self, number: usize, offset: usize) -> Result<&'a Json, Error> {
        let index = number.wrapping_sub(1);
        let (Some(json), Some(used)) = (self.parameters.get(index), self.used.get_mut(index)) else {
            let given = match self.parameters.len() {
                0 => "no parameters were given".to_owned(),
                1 => "one parameter was given, $1".to_owned(),
                given => format!("{given} parameters were given, $1 to ${given}"),
            };
            let message = format!("${number} has no value: {given}");
            return Err(Error::Parameter { message, offset });
        };
        *used = true;
        Ok(json)
    }

    fn parameter(&mut self, number: usize, offset: usize) -> Result<Typed<'a>, Error> {
        let value = match self.parameter_json(number, offset)? {
            list @ Json::Array(items) => {
                self.copied.set(
                    self.copied
                        .get()
                        .saturating_add(size(list) + items.len() * size_of::<Datum<'_>>()),
                );
                if self.copied.get() > TRANSIENT_BYTES {
                    return Err(Error::too_many_bytes(offset));
                }
                return Ok(Typed::OpenList(items));
            }
            value => value,
        };
        let held = self.texts.get_mut(number.wrapping_sub(1));
        if let Some(Some(open)) = &held {
            return Ok(Typed::Open(Some(open.clone())));
        }
        let text = text_of_json(value).map_err(|what| {
            let message = format!("parameter ${number} {what}");
            Error::Parameter { message, offset }
        })?;
        let open = text.map(|text| Open::new(text, &self.copied));
        if let Some(held) = held {
            *held = open.clone();
        }
        Ok(Typed::Open(open))
    }
}

/// The type of an unquoted number: the first that holds it of integer and bigint, else numeric.
pub(super) fn kind_of_number(text: &str) -> Kind {
    match text.parse::<i64>() {
        Ok(value) if i32::try_from(value).is_ok() => Kind::Int4,
        Ok(_) => Kind::Int8,
        Err(_) => Kind::Numeric,
    }
}

/// An operand that stands as a condition.
fn truth(mut term: Term<'_>) -> Result<Node, Error> {
    term.close(&Kind::Bool)?;
    match (&term.typed, term.kind()) {
        (Typed::Place(place), Some(Kind::Bool)) if place.computed.is_some() => {
            let comparison = Comparison::Equal;
            let right = Datum::Bool(true);
            Ok(leaf(place.text(), Test::Compare { comparison, right }))
        }
        (Typed::Place(place), Some(Kind::Bool)) => {
            let column = place.index;
            let reading = Reading::Bool;
            Ok(Node::truth_of(Source { column, reading }, true))
        }
        (Typed::Constant { value: None, .. }, Some(Kind::Bool)) => Ok(Node::Constant(Truth::Null)),
        (
            Typed::Constant {
                value: Some(Datum::Bool(value)),
                ..
            },
            _,
        ) => Ok(Node::Constant(Truth::from(*value))),
        _ => Err(Error::ty(
            format!("a condition must be boolean, not {}", term.type_name()),
            term.offset,
        )),
    }
}

#[cfg(test)]
#[path = "bind_tests.rs"]
mod tests;
