//! [`Predicate::to_sql`]: the predicate as SQL for the server itself, to read the rows that match now.
//!
//! It is written from the checked tree, never from the client's text, and every text that the client gave goes as a
//! parameter or, where that means something else, as a quoted literal: what the server parses was put together here, name by name. A parameter without a declared type takes it
//! from its context as a quoted literal does.

use serde_json::Value as Json;

use super::Error;
use super::ast::{Expr, Extraction, Operand, Value};
use super::bind::{Binder, distinct};
use super::cost::MAX_BYTES;
use super::matcher::Comparison;
use super::parse::Predicate;
use super::term::text_of_json;
use super::truth::Truth;
use crate::event::{Relation, quote_identifier, quote_literal};
use crate::types::Kind;

/// A condition that Postgres can evaluate, over the columns of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// The expression, with `$1`, `$2`, … for the values.
    pub sql: String,
    /// The values as text, to be sent without a declared type; `None` is null.
    pub values: Vec<Option<String>>,
}

impl Predicate {
    /// The predicate as SQL, with the parameters that it was given.
    ///
    /// # Errors
    /// As for [`Predicate::bind`].
    pub fn to_sql(&self, relation: &Relation, parameters: &[Json]) -> Result<Pushed, Error> {
        let mut writer = Writer {
            binder: Binder::new(relation, parameters),
            pushed: Pushed::default(),
        };
        writer.condition(&self.root)?;
        let values = writer.pushed.values.iter().flatten();
        match values.map(String::len).sum::<usize>() > MAX_VALUES_BYTES {
            true => Err(Error::too_many_bytes(0)),
            false => Ok(writer.pushed),
        }
    }
}

/// How many bytes the values may have together, each in every place where it is used.
const MAX_VALUES_BYTES: usize = 2 * MAX_BYTES;

struct Writer<'a> {
    binder: Binder<'a>,
    pushed: Pushed,
}

/// What a list that stands for a parameter is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ListAs {
    Array,
    Json,
}

impl Writer<'_> {
    fn condition(&mut self, expr: &Expr) -> Result<(), Error> {
        self.word("(");
        match expr {
            Expr::And(exprs) => self.joined(exprs, " AND ")?,
            Expr::Or(exprs) => self.joined(exprs, " OR ")?,
            Expr::Not(expr) => {
                self.word("NOT ");
                self.condition(expr)?;
            }
            Expr::Is { expr, truth, negated } => {
                self.condition(expr)?;
                self.word(if *negated { " IS NOT " } else { " IS " });
                self.word(match truth {
                    Truth::True => "TRUE",
                    Truth::False => "FALSE",
                    Truth::Null => "UNKNOWN",
                });
            }
            Expr::IsNull { operand, negated } => {
                self.of_any_type(operand)?;
                self.word(if *negated { " IS NOT NULL" } else { " IS NULL" });
            }
            Expr::Compare {
                left,
                comparison,
                right,
            } => self.pair(left, sql_of(*comparison), right)?,
            Expr::In { left, list, negated } => {
                self.repeated(left)?;
                self.word(if *negated { " NOT IN (" } else { " IN (" });
                for (at, member) in distinct(list).enumerate() {
                    self.word(if at > 0 { ", " } else { "" });
                    self.operand(member, ListAs::Array)?;
                }
                self.word(")");
            }
            Expr::Between {
                operand,
                low,
                high,
                negated,
            } => {
                self.repeated(operand)?;
                self.word(if *negated { " NOT BETWEEN " } else { " BETWEEN " });
                self.operand(low, ListAs::Array)?;
                self.word(" AND ");
                self.operand(high, ListAs::Array)?;
            }
            Expr::Like { .. } => self.like(expr)?,
            Expr::Any {
                left,
                comparison,
                array,
            } => {
                self.operand(left, ListAs::Array)?;
                self.word(&format!(" {} ANY (", sql_of(*comparison)));
                self.operand(array, ListAs::Array)?;
                self.word(")");
            }
            Expr::Operator {
                left,
                operator,
                right,
                ..
            } => self.pair(left, operator.as_str(), right)?,
            Expr::Operand(operand) => self.operand(operand, ListAs::Array)?,
        }
        self.word(")");
        Ok(())
    }

    fn joined(&mut self, exprs: &[Expr], word: &str) -> Result<(), Error> {
        for (at, expr) in exprs.iter().enumerate() {
            self.word(if at > 0 { word } else { "" });
            self.condition(expr)?;
        }
        Ok(())
    }

    fn like(&mut self, expr: &Expr) -> Result<(), Error> {
        let Expr::Like {
            operand,
            pattern,
            escape,
            folds,
            negated,
        } = expr
        else {
            return Ok(());
        };
        self.operand(operand, ListAs::Array)?;
        self.word(if *negated { " NOT" } else { "" });
        self.word(if *folds { " ILIKE " } else { " LIKE " });
        self.operand(pattern, ListAs::Array)?;
        if let Some(escape) = escape {
            self.word(" ESCAPE ");
            self.operand(escape, ListAs::Array)?;
        }
        Ok(())
    }

    /// Two operands around an operator: a list that stands for one of them is what the other needs.
    fn pair(&mut self, left: &Operand, operator: &str, right: &Operand) -> Result<(), Error> {
        let is_document = |writer: &mut Self, operand: &Operand| {
            let term = writer.binder.term(operand)?;
            Ok::<bool, Error>(term.kind() == Some(&Kind::Jsonb))
        };
        let list_as = match is_document(self, left)? || is_document(self, right)? {
            true => ListAs::Json,
            false => ListAs::Array,
        };
        self.operand(left, list_as)?;
        self.word(&format!(" {operator} "));
        self.operand(right, list_as)
    }

    /// An operand that is compared several times, with what may be of several types: a parameter would have one of them
    /// for all, where a literal takes each.
    fn repeated(&mut self, operand: &Operand) -> Result<(), Error> {
        let text = match &operand.value {
            Value::Text(text) => Some(text.clone()),
            Value::Parameter(number) => self.text_of(*number, operand.offset, ListAs::Array)?,
            _ => return self.operand(operand, ListAs::Array),
        };
        let literal = text.as_deref().map(quote_literal);
        self.word(literal.as_deref().unwrap_or("NULL"));
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
    fn of_any_type(&mut self, operand: &Operand) -> Result<(), Error> {
        let is_open = matches!(operand.value, Value::Text(_) | Value::Parameter(_));
        self.word(if is_open { "CAST(" } else { "" });
        self.operand(operand, ListAs::Array)?;
        self.word(if is_open { " AS pg_catalog.text)" } else { "" });
        Ok(())
    }

    fn operand(&mut self, operand: &Operand, list_as: ListAs) -> Result<(), Error> {
        match &operand.value {
            Value::Column { name, .. } => self.word(&quote_identifier(name)),
            Value::Text(text) => self.value(Some(text.clone())),
            Value::Number(number) => self.word(&format!("({number})")),
            Value::Bool(value) => self.word(if *value { "TRUE" } else { "FALSE" }),
            Value::Null => self.word("NULL"),
            Value::Parameter(number) => {
                let text = self.text_of(*number, operand.offset, list_as)?;
                self.value(text);
            }
            Value::Cast { operand, to } => {
                self.word("CAST(");
                let list_as = match to {
                    Kind::Jsonb => ListAs::Json,
                    _ => ListAs::Array,
                };
                self.operand(operand, list_as)?;
                self.word(&format!(" AS {})", type_name(to)));
            }
            Value::Part { of, extraction, key } => {
                let Extraction { by_path, as_text } = extraction;
                self.word("(");
                self.operand(of, ListAs::Json)?;
                self.word(match (by_path, as_text) {
                    (false, false) => " -> ",
                    (false, true) => " ->> ",
                    (true, false) => " #> ",
                    (true, true) => " #>> ",
                });
                self.operand(key, ListAs::Array)?;
                self.word(")");
            }
        }
        Ok(())
    }

    fn value(&mut self, text: Option<String>) {
        self.pushed.values.push(text);
        let number = self.pushed.values.len();
        self.word(&format!("${number}"));
    }

    fn word(&mut self, text: &str) {
        self.pushed.sql.push_str(text);
    }
}

fn sql_of(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
        Comparison::Distinct => "IS DISTINCT FROM",
        Comparison::NotDistinct => "IS NOT DISTINCT FROM",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Collation, Column, ReplicaIdentity, TableName};
    use crate::types::Type;

    fn relation() -> Relation {
        let column = |name: &str, kind: Kind| Column {
            name: name.into(),
            ty: Type {
                oid: 0,
                name: kind.name().into(),
                kind,
            },
            typmod: -1,
            identity: false,
            collation: Collation::C,
            ctype: Default::default(),
            attnum: Default::default(),
        };
        Relation {
            oid: 1,
            table: TableName::new("public", "t"),
            replica_identity: ReplicaIdentity::Full,
            columns: vec![
                column("id", Kind::Int4),
                column("na\"me", Kind::Text),
                column("tags", Kind::Array(Box::new(Kind::Text))),
                column("data", Kind::Jsonb),
            ],
            key: vec![0],
            logging: Default::default(),
        }
    }

    fn pushed(text: &str, parameters: &Json) -> (String, Vec<Option<String>>) {
        let predicate = Predicate::parse(text).unwrap();
        let parameters = parameters.as_array().unwrap();
        let Pushed { sql, values } = predicate.to_sql(&relation(), parameters).unwrap();
        (sql, values)
    }

    #[test]
    fn texts_go_as_values_and_names_are_quoted() {
        let some = |text: &str| Some(text.to_owned());
        let none = serde_json::json!([]);
        for (text, parameters, sql, values) in [
            (
                r#"id = 5 AND "na""me" <> 'it''s; --'"#,
                none.clone(),
                r#"(("id" = (5)) AND ("na""me" <> $1))"#,
                vec![some("it's; --")],
            ),
            (
                "NOT (id IN (1, -2, $1) OR id IS NULL)",
                serde_json::json!(["7"]),
                r#"(NOT (("id" IN ((1), (-2), $1)) OR ("id" IS NULL)))"#,
                vec![some("7")],
            ),
            (
                "tags @> $1 AND data @> $2",
                serde_json::json!([["a\"b", null, "c\\"], [1, "x"]]),
                r#"(("tags" @> $1) AND ("data" @> $2))"#,
                vec![some(r#"{"a\"b",NULL,"c\\"}"#), some(r#"[1,"x"]"#)],
            ),
            (
                "data ->> 'k' LIKE 'a%' ESCAPE '!' AND (id > 3) IS NOT UNKNOWN",
                none.clone(),
                r#"((("data" ->> $1) LIKE $2 ESCAPE $3) AND (("id" > (3)) IS NOT UNKNOWN))"#,
                vec![some("k"), some("a%"), some("!")],
            ),
            (
                "'x' IS NULL OR id = ANY ('{1,2}'::int[])",
                none,
                r#"((CAST($1 AS pg_catalog.text) IS NULL) OR ("id" = ANY (CAST($2 AS integer[]))))"#,
                vec![some("x"), some("{1,2}")],
            ),
        ] {
            assert_eq!(pushed(text, &parameters), (sql.to_owned(), values), "{text}");
        }
    }
}
