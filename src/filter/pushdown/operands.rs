//! Operands as SQL: names, quoted texts and values, and which value stands where.

use serde_json::Value as Json;

use super::{Context, ListAs, MAX_VALUES_BYTES, Writer};
use crate::event::{Column, quote_identifier, quote_literal};
use crate::filter::Error;
use crate::filter::ast::{Extraction, Function, Operand, Value};
use crate::filter::term::text_of_json;
use crate::types::Kind;

impl Writer<'_> {
    /// Two operands around an operator: a list that stands for one of them is what the other needs.
    pub(super) fn pair(
        &mut self,
        left: &Operand,
        operator: &'static str,
        right: &Operand,
    ) -> Result<(), Error> {
        let kinds = [left, right].map(|operand| Ok(self.binder.term(operand)?.kind().cloned()));
        let [left_kind, right_kind]: [Result<Option<Kind>, Error>; 2] = kinds;
        let list_as = match (left_kind?, right_kind?) {
            // Neither gives the other a type.
            (None, None) => {
                self.of_any_type(left)?;
                self.word(&format!(" {operator} "));
                return self.of_any_type(right);
            }
            (Some(Kind::Jsonb), _) | (_, Some(Kind::Jsonb)) => ListAs::Json,
            _ => ListAs::Array,
        };
        let of_right = self.context(operator, right)?;
        let of_left = self.context(operator, left)?;
        self.operand_in(&of_right, left, list_as)?;
        self.word(&format!(" {operator} "));
        self.operand_in(&of_left, right, list_as)
    }

    /// The context that gives its type to a parameter beside `operand`; `None` if that has none of its own.
    pub(super) fn context(
        &mut self,
        place: &'static str,
        operand: &Operand,
    ) -> Result<Option<Context>, Error> {
        let column = match &operand.value {
            Value::Collate(operand) => return self.context(place, operand),
            Value::Column { name, .. } => self.view.column(name).map(|(_, column)| column),
            _ => None,
        };
        let beside = match column {
            Some(Column { ty, .. }) => Some(format!("{} {}", ty.oid, ty.name)),
            None => self.binder.term(operand)?.kind().map(|kind| format!("{kind:?}")),
        };
        Ok(beside.map(|beside| Context { place, beside }))
    }

    /// An operand of which, should it be a parameter, the type is given by its context: the same value stands for it
    /// there each time.
    pub(super) fn operand_in(
        &mut self,
        context: &Option<Context>,
        operand: &Operand,
        list_as: ListAs,
    ) -> Result<(), Error> {
        let (Value::Parameter(parameter), Some(context)) = (&operand.value, context) else {
            return self.operand(operand, list_as);
        };
        let place = (context.clone(), *parameter, list_as);
        if let Some(number) = self.shared.get(&place) {
            self.word(&format!("${number}"));
            return Ok(());
        }
        self.operand(operand, list_as)?;
        self.shared.insert(place, self.pushed.values.len());
        Ok(())
    }

    /// An operand that is compared several times, with what may be of several types: a parameter would have one of them
    /// for all, where a literal takes each.
    pub(super) fn repeated(&mut self, operand: &Operand) -> Result<(), Error> {
        let text = match &operand.value {
            Value::Text(text) => Some(text.clone()),
            Value::Parameter(number) => self.text_of(*number, operand.offset, ListAs::Array)?,
            _ => return self.operand(operand, ListAs::Array),
        };
        let literal = text.as_deref().map(quote_literal);
        let literal = literal.as_deref().unwrap_or("NULL");
        self.count(literal.len(), operand.offset)?;
        self.word(literal);
        Ok(())
    }

    /// The text that `$number` stands for.
    fn text_of(&mut self, number: usize, offset: usize, list_as: ListAs) -> Result<Option<String>, Error> {
        let json = self.binder.parameter_json(number, offset)?;
        text_of_parameter(json, list_as).map_err(|what| Error::Parameter {
            message: format!("parameter ${number} {what}"),
            offset,
        })
    }

    /// An operand whose context gives it no type.
    pub(super) fn of_any_type(&mut self, operand: &Operand) -> Result<(), Error> {
        let is_open = matches!(operand.value, Value::Text(_) | Value::Parameter(_));
        self.word(if is_open { "CAST(" } else { "" });
        self.operand(operand, ListAs::Array)?;
        self.word(if is_open { " AS pg_catalog.text)" } else { "" });
        Ok(())
    }

    pub(super) fn operand(&mut self, operand: &Operand, list_as: ListAs) -> Result<(), Error> {
        match &operand.value {
            Value::Column { name, .. } => self.word(&quote_identifier(name)),
            Value::Text(text) => self.value(Some(text.clone()), operand.offset)?,
            Value::Number(number) => self.word(&format!("({number})")),
            Value::Bool(value) => self.word(if *value { "TRUE" } else { "FALSE" }),
            Value::Null => self.word("NULL"),
            // It was worked out before.
            Value::Claim(_) | Value::Session(_) => {
                return Err(Error::unsupported("a claim without a caller", operand.offset));
            }
            Value::Clock(_) => return Err(Error::unsupported("the clock here", operand.offset)),
            Value::Parameter(number) => {
                let text = self.text_of(*number, operand.offset, list_as)?;
                self.value(text, operand.offset)?;
            }
            Value::Cast { operand, to } => {
                self.word("CAST(");
                let list_as = match to {
                    Kind::Jsonb => ListAs::Json,
                    _ => ListAs::Array,
                };
                let context = Context {
                    place: "CAST",
                    beside: type_name(to),
                };
                self.operand_in(&Some(context), operand, list_as)?;
                self.word(&format!(" AS {})", type_name(to)));
            }
            Value::Function { function, arguments } => {
                let texts = matches!(function, Function::Lower | Function::Upper);
                self.word(if texts { "pg_catalog." } else { "" });
                self.word(function.as_str());
                self.list("(", arguments, ")", |writer, argument| {
                    if texts {
                        writer.of_any_type(argument)
                    } else {
                        writer.operand(argument, ListAs::Array)
                    }
                })?;
            }
            Value::Arithmetic {
                left,
                operator,
                right,
            } => {
                self.word("(");
                self.operand(left, ListAs::Array)?;
                self.word(&format!(" {} ", operator.as_str()));
                self.operand(right, ListAs::Array)?;
                self.word(")");
            }
            Value::Negative(operand) => {
                self.word("(- ");
                self.operand(operand, ListAs::Array)?;
                self.word(")");
            }
            Value::Array(elements) => self.list("ARRAY[", elements, "]", |writer, element| {
                writer.operand(element, ListAs::Array)
            })?,
            Value::Collate(operand) => {
                self.word("(");
                self.operand(operand, ListAs::Array)?;
                self.word(" COLLATE pg_catalog.\"C\")");
            }
            Value::Part { of, extraction, key } => {
                let Extraction { by_path, as_text } = extraction;
                self.word("(");
                self.operand(of, ListAs::Json)?;
                let operator = match (by_path, as_text) {
                    (false, false) => "->",
                    (false, true) => "->>",
                    (true, false) => "#>",
                    (true, true) => "#>>",
                };
                self.word(&format!(" {operator} "));
                let context = self.context(operator, of)?;
                self.operand_in(&context, key, ListAs::Array)?;
                self.word(")");
            }
        }
        Ok(())
    }

    fn list(
        &mut self,
        before: &str,
        operands: &[Operand],
        after: &str,
        write: impl Fn(&mut Self, &Operand) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.word(before);
        for (at, operand) in operands.iter().enumerate() {
            self.word(if at > 0 { ", " } else { "" });
            write(self, operand)?;
        }
        self.word(after);
        Ok(())
    }

    fn value(&mut self, text: Option<String>, offset: usize) -> Result<(), Error> {
        self.count(text.as_ref().map_or(0, String::len), offset)?;
        self.pushed.values.push(text);
        let number = self.pushed.values.len();
        self.word(&format!("${number}"));
        Ok(())
    }

    /// Counts what the client gave and is about to be written once more.
    fn count(&mut self, bytes: usize, offset: usize) -> Result<(), Error> {
        self.bytes += bytes;
        if self.bytes > MAX_VALUES_BYTES {
            return Err(Error::too_many_bytes(offset));
        }
        Ok(())
    }
}

/// A type that a cast can name.
fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Array(element) => format!("{}[]", type_name(element)),
        kind => kind.name().to_owned(),
    }
}

/// The text of the literal that a parameter stands for.
fn text_of_parameter(json: &Json, list_as: ListAs) -> Result<Option<String>, &'static str> {
    match json {
        Json::Array(_) if list_as == ListAs::Json => Ok(Some(json.to_string())),
        Json::Array(items) => {
            let texts = items.iter().map(text_of_json).collect::<Result<Vec<_>, _>>()?;
            Ok(Some(array_literal(&texts)))
        }
        value => text_of_json(value),
    }
}

/// Texts as the literal of an array of one dimension (documentation, "Array Input and Output Syntax").
fn array_literal(texts: &[Option<String>]) -> String {
    let elements = texts.iter().map(|text| match text {
        None => "NULL".to_owned(),
        Some(text) => format!("\"{}\"", text.replace('\\', r"\\").replace('"', r#"\""#)),
    });
    format!("{{{}}}", elements.collect::<Vec<_>>().join(","))
}
