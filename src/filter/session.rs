//! [`DatabaseSession`]: what a session of the database says of the caller that it was opened for, in the places of
//! constants. It stands in policies of the database's own only.
//!
//! Such a session has taken the caller's role (`SET ROLE`), and has the claims of the caller's token as JSON in the
//! setting `request.jwt.claims`, as PostgREST opens them.

use serde_json::{Map, Value as Json};

use super::ast::{Operand, Value};
use super::parse::Predicate;
use crate::types::{Kind, literal};

/// A session of the database on behalf of a caller.
#[derive(Clone, Debug)]
pub struct DatabaseSession {
    role: String,
    claims: Json,
}

impl DatabaseSession {
    /// The session of a role whose token has these claims. Their `role` is the role's, as PostgREST has it, wherever the
    /// token names it.
    pub fn new(role: &str, mut claims: Map<String, Json>) -> DatabaseSession {
        claims.insert("role".to_owned(), Json::from(role));
        DatabaseSession {
            role: role.to_owned(),
            claims: Json::Object(claims),
        }
    }

    /// The setting `request.jwt.claim.…` of a name, as PostgREST made it before it had `request.jwt.claims`: the text of
    /// a string, and the JSON of any other value, also of a null. Settings do not tell letters' cases apart.
    ///
    /// # Errors
    /// There are several claims of that name.
    fn claim(&self, name: &str) -> Result<Option<String>, Failed> {
        let claims = self.claims.as_object().into_iter().flatten();
        let mut named = claims.filter(|(claim, _)| claim.eq_ignore_ascii_case(name));
        let found = named.next();
        if named.next().is_some() {
            return Err(Failed);
        }
        Ok(found.map(|(_, claim)| match claim {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        }))
    }
}

/// Something that a session of the database says of its caller.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SessionValue {
    /// `current_user`
    Role,
    /// `current_setting('request.jwt.claims', true)`
    Claims,
    /// `current_setting('request.jwt.claim.x', true)`
    Claim(String),
    /// A text, or null, beside others of a function.
    Constant(Option<String>),
    /// A text as a document.
    Document {
        of: Box<SessionValue>,
        /// True if it is a `jsonb`.
        is_binary: bool,
    },
    /// A part of a document.
    Part {
        of: Box<SessionValue>,
        steps: Vec<Step>,
        /// True if it is taken as text.
        as_text: bool,
    },
    /// `NULLIF`
    NullIf(Box<SessionValue>, Box<SessionValue>),
    /// `COALESCE`
    Coalesce(Vec<SessionValue>),
}

/// A step into a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// A member of an object.
    Key(String),
    /// An element of an array, from 0; from the end, from -1.
    Index(i64),
    /// A step of a path, which is either.
    Path(String),
}

/// The database would fail there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    /// All claims as a text, whose spelling is nobody's promise.
    TextOfClaims,
    Json,
    Jsonb,
}

/// A value, as it is in a session.
enum Found<'s> {
    Text(String),
    /// A document, and all claims before they are one.
    Json(&'s Json),
    Own(Json),
}

impl SessionValue {
    /// The form of its values.
    pub(super) fn form(&self) -> Form {
        match self {
            SessionValue::Role | SessionValue::Claim(_) | SessionValue::Constant(_) => Form::Text,
            SessionValue::Claims => Form::TextOfClaims,
            SessionValue::Document { is_binary: true, .. } => Form::Jsonb,
            SessionValue::Document { is_binary: false, .. } => Form::Json,
            SessionValue::Part { as_text: true, .. } => Form::Text,
            SessionValue::Part { of, .. } => of.form(),
            SessionValue::NullIf(of, _) => of.form(),
            SessionValue::Coalesce(of) => {
                let mut forms = of.iter().map(SessionValue::form);
                let first = forms.find(|form| *form != Form::Text);
                first.unwrap_or(Form::Text)
            }
        }
    }

    /// True if it is a text, of whatever.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.form(), Form::Text | Form::TextOfClaims)
    }

    /// The value in a session; `None` is null.
    fn found<'s>(&self, session: &'s DatabaseSession) -> Result<Option<Found<'s>>, Failed> {
        Ok(match self {
            SessionValue::Role => Some(Found::Text(session.role.clone())),
            SessionValue::Claims => Some(Found::Json(&session.claims)),
            SessionValue::Claim(name) => session.claim(name)?.map(Found::Text),
            SessionValue::Constant(text) => text.clone().map(Found::Text),
            SessionValue::Document { of, .. } => match of.found(session)? {
                Some(Found::Text(text)) => Some(Found::Own(serde_json::from_str(&text).map_err(|_| Failed)?)),
                found => found,
            },
            SessionValue::Part { of, steps, as_text } => {
                let is_binary = of.form() == Form::Jsonb;
                let part = match of.found(session)? {
                    Some(Found::Json(json)) => walk(json, steps, is_binary).map(Found::Json),
                    Some(Found::Own(json)) => walk(&json, steps, is_binary).cloned().map(Found::Own),
                    Some(Found::Text(_)) => return Err(Failed),
                    None => None,
                };
                match part {
                    Some(part) if *as_text => {
                        text_of(part.json().ok_or(Failed)?, is_binary)?.map(Found::Text)
                    }
                    part => part,
                }
            }
            SessionValue::NullIf(of, other) => {
                let (of, other) = (of.found(session)?, other.found(session)?);
                match (&of, &other) {
                    (Some(Found::Text(of)), Some(Found::Text(other))) if of == other => None,
                    // All claims are an object, whose text is equal to no other that could stand there.
                    (Some(_), Some(Found::Text(text))) if text.is_empty() => of,
                    (Some(Found::Text(_)), _) | (None, _) | (_, None) => of,
                    _ => return Err(Failed),
                }
            }
            SessionValue::Coalesce(values) => {
                for value in values {
                    if let Some(found) = value.found(session)? {
                        return Ok(Some(found));
                    }
                }
                None
            }
        })
    }

    /// The literal that stands for it in a session.
    fn value(&self, session: &DatabaseSession) -> Result<Option<String>, Failed> {
        let text = match self.found(session)? {
            None => return Ok(None),
            Some(Found::Text(text)) => text,
            Some(Found::Json(json)) => json.to_string(),
            Some(Found::Own(json)) => json.to_string(),
        };
        // No text of Postgres' has it.
        if text.contains('\0') {
            Err(Failed)
        } else {
            Ok(Some(text))
        }
    }
}

impl Found<'_> {
    fn json(&self) -> Option<&Json> {
        match self {
            Found::Json(json) => Some(json),
            Found::Own(json) => Some(json),
            Found::Text(_) => None,
        }
    }
}

/// The value in a document that some steps lead to; `None` is null.
fn walk<'j>(json: &'j Json, steps: &[Step], is_binary: bool) -> Option<&'j Json> {
    steps.iter().try_fold(json, |json, step| match (step, json) {
        (Step::Key(key) | Step::Path(key), Json::Object(members)) => members.get(key),
        (Step::Path(index), Json::Array(items)) => element(items, index.parse().ok()?),
        (Step::Index(index), Json::Array(items)) => element(items, *index),
        (_, Json::Object(_) | Json::Array(_)) => None,
        // A `jsonb` that is a scalar is its own only element.
        (Step::Index(0 | -1), scalar) if is_binary => Some(scalar),
        _ => None,
    })
}

fn element(items: &[Json], index: i64) -> Option<&Json> {
    let from_end = |back: u64| items.len().checked_sub(usize::try_from(back).ok()?);
    let index = match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => from_end(index.unsigned_abs())?,
    };
    items.get(index)
}

/// The outcome of `->>`: `None` for null.
fn text_of(json: &Json, is_binary: bool) -> Result<Option<String>, Failed> {
    Ok(match json {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other if is_binary => {
            let mut text = String::new();
            print_binary(other, &mut text)?;
            Some(text)
        }
        other => Some(other.to_string()),
    })
}

/// Appends a `jsonb` as the server prints it.
fn print_binary(json: &Json, text: &mut String) -> Result<(), Failed> {
    match json {
        // Its digits are those of a `numeric`.
        Json::Number(number) => {
            let number = number.to_string();
            let plain = !number.contains(['e', 'E']) && !number.starts_with("-0");
            if plain {
                text.push_str(&number)
            } else {
                text.push_str(&digits(&number).ok_or(Failed)?)
            }
        }
        Json::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                print_binary(item, text)?;
            }
            text.push(']');
        }
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(one, _), (other, _)| (one.len(), one).cmp(&(other.len(), other)));
            text.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    text.push_str(", ");
                }
                text.push_str(&Json::from(key.as_str()).to_string());
                text.push_str(": ");
                print_binary(value, text)?;
            }
            text.push('}');
        }
        other => text.push_str(&other.to_string()),
    }
    Ok(())
}

/// A number's digits without an exponent.
fn digits(number: &str) -> Option<String> {
    literal(&Kind::Numeric, number).ok()?;
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
    // No float has more.
    if point.unsigned_abs() > 400 {
        return None;
    }
    let length = i64::try_from(all.len()).ok()?;
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or_default());
    let (whole, fraction) = if point <= 0 {
        ("0".to_owned(), format!("{}{all}", zeros(-point)))
    } else if point >= length {
        (format!("{all}{}", zeros(point - length)), String::new())
    } else {
        let (whole, fraction) = all.split_at(usize::try_from(point).ok()?);
        (whole.to_owned(), fraction.to_owned())
    };
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let is_zero = whole == "0" && fraction.bytes().all(|digit| digit == b'0');
    let sign = if is_zero { "" } else { sign };
    Some(if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    })
}

impl Predicate {
    /// The predicate with the values of a session in their places, and these values: of equal ones the predicates are
    /// equal. Where the database would fail to give a value, the predicate cannot be bound.
    pub fn in_session(&self, session: &DatabaseSession) -> (Predicate, Box<[Option<Box<str>>]>) {
        let mut predicate = self.clone();
        let mut values = Vec::new();
        let mut put = |operand: &mut Operand| {
            put_values(operand, session, &mut values);
            Ok(())
        };
        // It fails for nothing.
        predicate.root.change(&mut put).unwrap_or_default();
        (predicate, values.into())
    }
}

fn put_values(operand: &mut Operand, session: &DatabaseSession, values: &mut Vec<Option<Box<str>>>) {
    let offset = operand.offset;
    let mut take = |value: &SessionValue| -> Option<Value> {
        // What is found and what is not differ by their first letter.
        let Ok(found) = value.value(session) else {
            values.push(Some("!".into()));
            return None;
        };
        values.push(found.as_ref().map(|text| format!("={text}").into()));
        Some(found.map_or(Value::Null, Value::Text))
    };
    match &mut operand.value {
        Value::Session(value) => {
            let to = match value.form() {
                Form::Text | Form::TextOfClaims => Kind::Text,
                // It can be asked for nothing else than null.
                Form::Json | Form::Jsonb => Kind::Jsonb,
            };
            if let Some(found) = take(value) {
                let operand_of = Box::new(Operand { offset, value: found });
                operand.value = Value::Cast {
                    operand: operand_of,
                    to,
                };
            }
        }
        Value::Cast { operand: of, .. }
            if let Value::Session(value) = &of.value
                && value.is_text() =>
        {
            // A text's cast gives what a literal's does.
            if let Some(found) = take(value) {
                of.value = found;
            }
        }
        _ => {
            let put = operand.change_parts(|part| {
                put_values(part, session, values);
                Ok(())
            });
            // It fails for nothing.
            put.unwrap_or_default();
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
