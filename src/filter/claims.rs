//! `claim('a.b')`: what a token says of its bearer, in the place of a literal. It stands in policies only.
//!
//! A claim is a text, as `->>` gives it, and null where the token has none. A cast makes it a value of another type: a
//! JSON array becomes an array of that type's elements.

use std::cell::RefCell;

use serde_json::Value as Json;

use super::Error;
use super::ast::{Operand, Value};
use super::parse::{Dialect, Limits, Predicate};
use crate::types::Kind;

/// The function's name.
pub(super) const NAME: &str = "claim";

impl Predicate {
    /// Parses the `where` of a policy, in which claims may stand.
    ///
    /// # Errors
    /// As for [`Predicate::parse`]; and it asks for the time, which no subscription begins at that a policy knows of.
    pub fn parse_policy(text: &str) -> Result<Predicate, Error> {
        let predicate = Predicate::parse_as(text, &Limits::default(), Dialect::Policy)?;
        if predicate.asks_the_clock() {
            return Err(Error::unsupported(
                "the current time (now() and its kin) of a policy",
                0,
            ));
        }
        Ok(predicate)
    }

    /// The paths of the claims in it, ascending, each once.
    pub fn claims(&self) -> Vec<String> {
        self.named(|value| match value {
            Value::Claim(path) => Some(path),
            _ => None,
        })
    }

    /// The names of the columns in it, ascending, each once, whatever becomes of them when it is bound.
    pub fn column_names(&self) -> Vec<String> {
        self.named(|value| match value {
            Value::Column { name, .. } => Some(name),
            _ => None,
        })
    }

    /// The names that its parts have, ascending, each once.
    fn named(&self, name: impl Fn(&Value) -> Option<&String>) -> Vec<String> {
        let names = RefCell::new(Vec::new());
        let note = |part: &Operand| {
            names.borrow_mut().extend(name(&part.value).cloned());
            false
        };
        self.root.has(&|operand| operand.has(&note));
        let mut names = names.into_inner();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The predicate with values in the place of its claims: of each path, the claim's, or `None` if the token has
    /// none.
    pub fn with_claims<'c>(&self, claim: &dyn Fn(&str) -> Option<&'c Json>) -> Predicate {
        let mut predicate = self.clone();
        let mut put = |operand: &mut Operand| {
            put_claims(operand, claim);
            Ok(())
        };
        // It fails for nothing.
        predicate.root.change(&mut put).unwrap_or_default();
        predicate
    }
}

fn put_claims<'c>(operand: &mut Operand, claim: &dyn Fn(&str) -> Option<&'c Json>) {
    let offset = operand.offset;
    match &mut operand.value {
        Value::Claim(path) => {
            let text = literal(claim(path));
            operand.value = cast(text, Kind::Text, offset);
        }
        Value::Cast { operand: of, to } => {
            let Value::Claim(path) = &of.value else {
                return put_claims(of, claim);
            };
            of.value = match (claim(path), to) {
                (Some(Json::Array(items)), Kind::Array(_)) => {
                    let elements = items.iter().map(|item| Operand {
                        offset,
                        value: literal(Some(item)),
                    });
                    Value::Array(elements.collect())
                }
                // A text's cast gives what a literal's does.
                (claim, _) => literal(claim),
            };
        }
        _ => {
            let put = operand.change_parts(|part| {
                put_claims(part, claim);
                Ok(())
            });
            // It fails for nothing.
            put.unwrap_or_default();
        }
    }
}

/// A claim as `->>` gives it.
fn literal(json: Option<&Json>) -> Value {
    match json {
        None | Some(Json::Null) => Value::Null,
        Some(Json::String(text)) => Value::Text(text.clone()),
        Some(other) => Value::Text(other.to_string()),
    }
}

fn cast(value: Value, to: Kind, offset: usize) -> Value {
    let operand = Box::new(Operand { offset, value });
    Value::Cast { operand, to }
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
