//! [`Predicate::to_sql`]: the predicate as SQL for the server itself, to read the rows that match now.
//!
//! It is written from the checked tree, never from the client's text, and every text that the client gave goes as a
//! parameter or, where that means something else, as a quoted literal: what the server parses was put together here, name by name. A parameter without a declared type takes it
//! from its context as a quoted literal does.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::Error;
use super::ast::{Expr, Extraction, Function, Operand, Value};
use super::bind::{Binder, distinct};
use super::cost::MAX_BYTES;
use super::matcher::Comparison;
use super::parse::Predicate;
use super::term::text_of_json;
use super::truth::Truth;
use crate::event::{Column, Relation, quote_identifier, quote_literal};
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
            relation,
            pushed: Pushed::default(),
            shared: HashMap::new(),
            bytes: 0,
        };
        writer.condition(&self.root, Place::WHERE)?;
        Ok(writer.pushed)
    }
}

/// How many bytes the values may have together, each as often as it is sent.
const MAX_VALUES_BYTES: usize = 2 * MAX_BYTES;

struct Writer<'a> {
    binder: Binder<'a>,
    relation: &'a Relation,
    pushed: Pushed,
    /// Which value stands for a parameter where it has a type: it is sent once, however often it is used so.
    shared: HashMap<(Context, usize, ListAs), usize>,
    /// How much has been written, in bytes.
    bytes: usize,
}

/// What gives a parameter its type: what stands around it, as far as Postgres looks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Context {
    /// The operator or another word for the place.
    place: &'static str,
    /// The type of what stands there beside it: a column's by its OID, any other by its name.
    beside: String,
}

/// Where a condition stands.
#[derive(Clone, Copy)]
struct Place {
    /// Of its truth values null is as good as false.
    selects: bool,
    /// What counts is its opposite.
    negated: bool,
}

impl Place {
    const WHERE: Place = Place {
        selects: true,
        negated: false,
    };
    /// In what tells null from false.
    const INSIDE: Place = Place {
        selects: false,
        negated: false,
    };
}

/// How conditions are joined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joint {
    And,
    Or,
}

/// What a list that stands for a parameter is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ListAs {
    Array,
    Json,
}

impl Writer<'_> {
    /// A condition.
    fn condition(&mut self, expr: &Expr, place: Place) -> Result<(), Error> {
        let turned = Place {
            negated: !place.negated,
            ..place
        };
        match expr {
            Expr::Not(expr) => return self.condition(expr, turned),
            Expr::And(exprs) | Expr::Or(exprs) => {
                // By De Morgan, as the server itself does it.
                let joint = match matches!(expr, Expr::And(_)) != place.negated {
                    true => Joint::And,
                    false => Joint::Or,
                };
                self.word("(");
                self.joined(exprs, joint, place)?;
                self.word(")");
                return Ok(());
            }
            _ => {}
        }
        self.word(if place.negated { "(NOT (" } else { "(" });
        match expr {
            Expr::Not(_) | Expr::And(_) | Expr::Or(_) => {}
            Expr::Is { expr, truth, negated } => {
                self.condition(expr, Place::INSIDE)?;
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
                let context = self.context("=", left)?;
                for (at, member) in distinct(list).enumerate() {
                    self.word(if at > 0 { ", " } else { "" });
                    self.operand_in(&context, member, ListAs::Array)?;
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
                let context = self.context("<=", operand)?;
                self.operand_in(&context, low, ListAs::Array)?;
                self.word(" AND ");
                self.operand_in(&context, high, ListAs::Array)?;
            }
            Expr::Like { .. } => self.like(expr)?,
            Expr::Any {
                left,
                comparison,
                array,
            } => {
                let (of_array, of_left) = (self.context("= ANY", array)?, self.context("ANY =", left)?);
                self.operand_in(&of_array, left, ListAs::Array)?;
                self.word(&format!(" {} ANY (", sql_of(*comparison)));
                self.operand_in(&of_left, array, ListAs::Array)?;
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
        self.word(if place.negated { "))" } else { ")" });
        Ok(())
    }

    /// Several conditions. Those that fail for no row are asked first, and the others only where they do not decide:
    /// Postgres itself takes what seems cheapest first.
    fn joined(&mut self, exprs: &[Expr], joint: Joint, place: Place) -> Result<(), Error> {
        let (fallible, safe): (Vec<&Expr>, Vec<&Expr>) = exprs.iter().partition(|expr| can_fail(expr));
        if fallible.is_empty() || safe.is_empty() {
            return self.list_of(exprs.iter(), joint, place);
        }
        let safe = || safe.iter().copied();
        let selects = joint == Joint::And && place.selects;
        if selects {
            // Once more in front, where an index can be used for it.
            self.list_of(safe(), joint, place)?;
            self.word(" AND ");
        }
        self.word("CASE WHEN (");
        self.list_of(safe(), joint, place)?;
        self.word(match (joint, selects) {
            (Joint::And, true) => ") THEN ",
            (Joint::And, false) => ") IS FALSE THEN FALSE ELSE ",
            (Joint::Or, _) => ") IS TRUE THEN TRUE ELSE ",
        });
        match place.selects {
            true => self.list_of(fallible.into_iter(), joint, place)?,
            false => self.list_of(safe().chain(fallible), joint, place)?,
        }
        self.word(if selects { " ELSE FALSE END" } else { " END" });
        Ok(())
    }

    fn list_of<'e>(
        &mut self,
        exprs: impl Iterator<Item = &'e Expr>,
        joint: Joint,
        place: Place,
    ) -> Result<(), Error> {
        for (at, expr) in exprs.enumerate() {
            self.word(match (at, joint) {
                (0, _) => "",
                (_, Joint::And) => " AND ",
                (_, Joint::Or) => " OR ",
            });
            self.condition(expr, place)?;
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
        let context = self.context("LIKE", operand)?;
        self.operand_in(&context, pattern, ListAs::Array)?;
        if let Some(escape) = escape {
            self.word(" ESCAPE ");
            self.operand(escape, ListAs::Array)?;
        }
        Ok(())
    }

    /// Two operands around an operator: a list that stands for one of them is what the other needs.
    fn pair(&mut self, left: &Operand, operator: &'static str, right: &Operand) -> Result<(), Error> {
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
        let (of_right, of_left) = (self.context(operator, right)?, self.context(operator, left)?);
        self.operand_in(&of_right, left, list_as)?;
        self.word(&format!(" {operator} "));
        self.operand_in(&of_left, right, list_as)
    }

    /// What gives a parameter its type that stands there beside `operand`; `None` if that has none of its own.
    fn context(&mut self, place: &'static str, operand: &Operand) -> Result<Option<Context>, Error> {
        let column = match &operand.value {
            Value::Column { name, .. } => self.relation.columns.iter().find(|column| column.name == *name),
            _ => None,
        };
        let beside = match column {
            Some(Column { ty, .. }) => Some(format!("{} {}", ty.oid, ty.name)),
            None => self.binder.term(operand)?.kind().map(|kind| format!("{kind:?}")),
        };
        Ok(beside.map(|beside| Context { place, beside }))
    }

    /// An operand of which, should it be a parameter, the type is given by its context: the same value stands for it there
    /// each time.
    fn operand_in(
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
    fn repeated(&mut self, operand: &Operand) -> Result<(), Error> {
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
            Value::Text(text) => self.value(Some(text.clone()), operand.offset)?,
            Value::Number(number) => self.word(&format!("({number})")),
            Value::Bool(value) => self.word(if *value { "TRUE" } else { "FALSE" }),
            Value::Null => self.word("NULL"),
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
                self.list("(", arguments, ")", |writer, argument| match texts {
                    true => writer.of_any_type(argument),
                    false => writer.operand(argument, ListAs::Array),
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

    fn word(&mut self, text: &str) {
        self.pushed.sql.push_str(text);
    }
}

/// Whether a condition may fail for a row.
fn can_fail(expr: &Expr) -> bool {
    let any = |exprs: &[Expr]| exprs.iter().any(can_fail);
    let operands = |operands: &[&Operand]| operands.iter().any(|operand| operand_can_fail(operand));
    match expr {
        Expr::And(exprs) | Expr::Or(exprs) => any(exprs),
        Expr::Not(expr) | Expr::Is { expr, .. } => can_fail(expr),
        Expr::IsNull { operand, .. } | Expr::Operand(operand) => operand_can_fail(operand),
        Expr::Compare { left, right, .. } | Expr::Operator { left, right, .. } => operands(&[left, right]),
        Expr::Any { left, array, .. } => operands(&[left, array]),
        Expr::In { left, list, .. } => operand_can_fail(left) || list.iter().any(operand_can_fail),
        Expr::Between {
            operand, low, high, ..
        } => operands(&[operand, low, high]),
        Expr::Like { operand, .. } => operand_can_fail(operand),
    }
}

fn operand_can_fail(operand: &Operand) -> bool {
    match &operand.value {
        Value::Column { .. } | Value::Text(_) | Value::Number(_) | Value::Bool(_) | Value::Null => false,
        Value::Parameter(_) => false,
        // That of a constant was made when it was bound.
        Value::Cast { operand, .. } => match operand.value {
            Value::Text(_) | Value::Number(_) | Value::Parameter(_) | Value::Null => false,
            _ => !matches!(operand.value, Value::Array(_)) || operand_can_fail(operand),
        },
        Value::Arithmetic { .. } | Value::Negative(_) => true,
        Value::Part { of, .. } => operand_can_fail(of),
        Value::Function {
            arguments: operands, ..
        }
        | Value::Array(operands) => operands.iter().any(operand_can_fail),
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
    use crate::event::{Collation, ReplicaIdentity, TableName};
    use crate::types::{Ctype, Type};

    fn relation() -> Relation {
        let column = |name: &str, kind: Kind| Column {
            name: name.into(),
            collation: match kind {
                Kind::Text => Collation::C,
                _ => Collation::None,
            },
            ty: Type {
                oid: 0,
                name: kind.name().into(),
                kind,
            },
            typmod: -1,
            identity: false,
            ctype: Ctype::C,
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
    fn a_parameter_goes_once_wherever_it_has_the_same_type() {
        let parameters = serde_json::json!(["7", "k"]);
        for (text, sql, values) in [
            (
                "id IN ($1, 5) OR id = $1",
                r#"(("id" IN ($1, (5))) OR ("id" = $1))"#,
                1,
            ),
            // As a number and as a text it is not the same.
            (
                "id = $1 OR \"na\"\"me\" = $1",
                r#"(("id" = $1) OR ("na""me" = $2))"#,
                2,
            ),
            ("id BETWEEN $1 AND $1", r#"("id" BETWEEN $1 AND $1)"#, 1),
            (
                "data ->> $2 = $1 AND data ->> $2 LIKE $1 AND data ->> 'a' = $1",
                r#"((("data" ->> $1) = $2) AND (("data" ->> $1) LIKE $3) AND (("data" ->> $4) = $2))"#,
                4,
            ),
            (
                "$2 = ANY (tags) OR tags @> '{a}' AND $2 = ANY (tags)",
                r#"(($1 = ANY ("tags")) OR (("tags" @> $2) AND ($1 = ANY ("tags"))))"#,
                2,
            ),
            (
                "id = $1::int OR id > $1::int",
                r#"(("id" = CAST($1 AS integer)) OR ("id" > CAST($1 AS integer)))"#,
                1,
            ),
        ] {
            let (written, given) = pushed(text, &parameters);
            assert_eq!((written.as_str(), given.len()), (sql, values), "{text}");
        }
    }

    #[test]
    fn what_the_database_would_get_is_bounded() {
        let uses: Vec<String> = (0..100).map(|_| "$1 IN ('a', 'b')".to_owned()).collect();
        let predicate = Predicate::parse(&uses.join(" OR ")).unwrap();
        let parameters = [serde_json::json!("x".repeat(50_000))];
        let error = predicate.to_sql(&relation(), &parameters).unwrap_err();
        assert_eq!(error, Error::too_many_bytes(error.offset()));
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
                r#"((NOT ("id" IN ((1), (-2), $1))) AND (NOT ("id" IS NULL)))"#,
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
                none.clone(),
                r#"((CAST($1 AS pg_catalog.text) IS NULL) OR ("id" = ANY (CAST($2 AS integer[]))))"#,
                vec![some("x"), some("{1,2}")],
            ),
            (
                "lower(\"na\"\"me\") = lower($1) OR tags && ARRAY['x']",
                serde_json::json!(["Y"]),
                r#"((pg_catalog.lower("na""me") = pg_catalog.lower(CAST($1 AS pg_catalog.text))) OR ("tags" && ARRAY[$2]))"#,
                vec![some("Y"), some("x")],
            ),
            (
                "NULL IS DISTINCT FROM 'x'",
                none,
                r#"(NULL IS DISTINCT FROM CAST($1 AS pg_catalog.text))"#,
                vec![some("x")],
            ),
        ] {
            assert_eq!(pushed(text, &parameters), (sql.to_owned(), values), "{text}");
        }
    }

    #[test]
    fn what_can_fail_is_asked_last_and_an_index_can_still_be_used() {
        let none = serde_json::json!([]);
        for (text, sql) in [
            (
                "(data ->> 'n')::int > 5 AND id = 1",
                r#"(("id" = (1)) AND CASE WHEN (("id" = (1))) THEN (CAST(("data" ->> $1) AS integer) > (5)) ELSE FALSE END)"#,
            ),
            (
                "id % 2 = 0 OR id IS NULL",
                r#"(CASE WHEN (("id" IS NULL)) IS TRUE THEN TRUE ELSE (("id" % (2)) = (0)) END)"#,
            ),
            (
                "NOT (id % 2 = 0 AND id = 1)",
                r#"(CASE WHEN ((NOT ("id" = (1)))) IS TRUE THEN TRUE ELSE (NOT (("id" % (2)) = (0))) END)"#,
            ),
            (
                "(id % 2 = 0 AND id = 1) IS UNKNOWN",
                r#"((CASE WHEN (("id" = (1))) IS FALSE THEN FALSE ELSE ("id" = (1)) AND (("id" % (2)) = (0)) END) IS UNKNOWN)"#,
            ),
            ("id = 1 AND id = 2", r#"(("id" = (1)) AND ("id" = (2)))"#),
        ] {
            assert_eq!(pushed(text, &none).0, sql, "{text}");
        }
    }
}
