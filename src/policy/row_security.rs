//! [`RowSecurity`]: the part of a table that Postgres' own policies and privileges let a role see.

use std::fmt::Write as _;
use std::sync::Arc;

use super::Grant;
use super::admission::RowCondition;
use crate::event::{Relation, View, Visible};
use crate::filter::{self, DatabaseSession, PolicyNames, Predicate, SessionFunction};
use crate::protocol::Ops;
use crate::types::CollationQuestion;

/// A table as the catalogs have it for a role that may read something of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleAccess {
    /// The columns that it may SELECT.
    pub columns: Visible,
    /// The policies for SELECT and ALL that apply to it; `None` if it sees every row: without row security, and for
    /// roles that bypass it.
    pub policies: Option<Vec<DatabasePolicy>>,
    /// The functions that policies may call and that the database has.
    pub functions: Vec<DatabaseFunction>,
    /// The columns, with their types as printed in policies.
    pub types: Vec<(String, String)>,
}

/// A policy in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabasePolicy {
    /// Its name.
    pub name: String,
    /// True if it adds rows, false if it takes some away.
    pub is_permissive: bool,
    /// Its `USING` as `pg_get_expr` prints it; `None` if it has none, and so neither adds nor takes away rows.
    pub using: Option<String>,
}

/// A function in the database, without arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFunction {
    /// Its name with its schema, such as `auth.uid`.
    pub name: String,
    /// Its body; `None` if it is not a plain function in SQL.
    pub body: Option<String>,
    /// The type of its result, as printed.
    pub result: String,
    /// True if the role may execute it.
    pub may_execute: bool,
}

/// The reason why the policies of a table cannot be evaluated here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The policy's name.
    pub policy: String,
    /// The part that cannot be evaluated, in words that name no column.
    pub part: String,
    /// The whole reason with the policy's text, for the operator.
    pub detail: String,
    /// The question whose answer by the server may make it possible.
    pub question: Option<CollationQuestion>,
}

/// The part of a table that a role may see, for any caller.
#[derive(Clone, Debug)]
pub struct RowSecurity {
    columns: Visible,
    /// The condition on the rows; `None` for all.
    rows: Option<Condition>,
}

#[derive(Clone, Debug)]
struct Condition {
    text: Arc<str>,
    predicate: Predicate,
}

impl RowSecurity {
    /// Combines the policies of a version of a table.
    ///
    /// # Errors
    /// One of them cannot be evaluated here.
    pub fn new(access: &RoleAccess, relation: &Relation) -> Result<RowSecurity, Refusal> {
        let columns = access.columns.clone();
        let Some(policies) = &access.policies else {
            return Ok(RowSecurity { columns, rows: None });
        };
        let (functions, unusable) = functions(&access.functions);
        let types = access.types.iter().filter_map(|(column, printed)| {
            relation.column(column)?;
            Some(printed.as_str())
        });
        // An array's elements are printed as they are.
        let types = types.flat_map(|printed| [Some(printed), printed.strip_suffix("[]")]);
        let names = PolicyNames::new(types.flatten().map(str::to_owned), functions);
        // It reads no claims.
        let nobody = DatabaseSession::new("", Default::default());
        let mut permissive = Vec::new();
        let mut restrictive = Vec::new();
        let mut text = String::new();
        for policy in policies {
            let Some(using) = &policy.using else {
                continue;
            };
            let refused = |part: String, error: &filter::Error| Refusal {
                policy: policy.name.clone(),
                part,
                detail: detail(using, error, &unusable),
                question: error.collation_question(),
            };
            let predicate = Predicate::parse_row_security(using, &names)
                .map_err(|error| refused(part_in_text(&error), &error))?;
            let (asked, _) = predicate.in_session(&nobody);
            match asked.bind(View::whole(relation), &[]) {
                Ok(_) => {}
                // A question about a value that this session lacks.
                Err(error @ filter::Error::Literal { .. }) if error.collation_question().is_none() => {}
                Err(error) => return Err(refused(part_of_table(&error).to_owned(), &error)),
            }
            let kind = if policy.is_permissive { "any" } else { "all" };
            // Writing to a string does not fail.
            writeln!(text, "{kind} {using}").unwrap_or_default();
            if policy.is_permissive {
                permissive.push(predicate)
            } else {
                restrictive.push(predicate)
            }
        }
        for function in &access.functions {
            let body = function.body.as_deref().unwrap_or_default();
            writeln!(text, "{} {body}", function.name).unwrap_or_default();
        }
        if restrictive.is_empty() && permissive.iter().any(Predicate::is_true) {
            return Ok(RowSecurity { columns, rows: None });
        }
        Ok(RowSecurity {
            columns,
            rows: Some(Condition {
                text: text.into(),
                predicate: Predicate::of_policies(permissive, restrictive),
            }),
        })
    }

    /// The reasons why policies of a table's version cannot be held here, each policy looked at alone.
    pub(super) fn refusals(access: &RoleAccess, relation: &Relation) -> Vec<Refusal> {
        let policies = access.policies.iter().flatten();
        let alone = policies.filter_map(|policy| {
            let alone = RoleAccess {
                policies: Some(vec![policy.clone()]),
                ..access.clone()
            };
            RowSecurity::new(&alone, relation).err()
        });
        alone.collect()
    }

    /// The names of the columns that the condition on rows reads, ascending.
    pub(super) fn column_names(&self) -> Vec<String> {
        let rows = self.rows.as_ref();
        rows.map_or_else(Vec::new, |rows| rows.predicate.column_names())
    }

    /// True if it orders texts by the bytes of the database's encoding.
    pub fn collates(&self) -> bool {
        self.rows.as_ref().is_some_and(|rows| rows.predicate.collates())
    }

    /// The grant to a caller, for these operations.
    pub fn grant(&self, session: &DatabaseSession, ops: Ops) -> Grant {
        Grant {
            rows: self.rows.as_ref().map(|rows| {
                let (predicate, values) = rows.predicate.in_session(session);
                RowCondition::new(Arc::clone(&rows.text), values, predicate)
            }),
            columns: self.columns.clone(),
            ops,
        }
    }
}

/// Functions that policies may not call, and the reasons.
type Unusable<'a> = Vec<(&'a str, String)>;

/// The functions that policies may call, and the reasons against the others.
fn functions(of: &[DatabaseFunction]) -> (Vec<(String, SessionFunction)>, Unusable<'_>) {
    let mut usable = Vec::new();
    let mut unusable = Vec::new();
    for function in of {
        let name = function.name.as_str();
        let Some(body) = &function.body else {
            let why =
                "it is not a plain function in SQL (SECURITY DEFINER and SET, but of search_path, are none)";
            unusable.push((name, why.to_owned()));
            continue;
        };
        if !function.may_execute {
            unusable.push((name, "the role may not execute it".to_owned()));
            continue;
        }
        match SessionFunction::parse(body, &function.result) {
            Ok(parsed) => usable.push((name.to_owned(), parsed)),
            Err(error) => unusable.push((name, format!("{error}: {body}"))),
        }
    }
    (usable, unusable)
}

/// The reason for the operator.
fn detail(using: &str, error: &filter::Error, unusable: &Unusable<'_>) -> String {
    let mut detail = format!("{error}, at byte {} of {using}", error.offset());
    for (name, why) in unusable
        .iter()
        .filter(|(name, _)| using.contains(&format!("{name}(")))
    {
        // Writing to a string does not fail.
        write!(detail, "; {name}(): {why}").unwrap_or_default();
    }
    detail
}

/// The part of a policy's text that predicates do not allow. It never names a column.
fn part_in_text(error: &filter::Error) -> String {
    match error {
        filter::Error::Unsupported { what, .. } => what.trim_end_matches(',').to_owned(),
        filter::Error::TooLarge { of, limit, .. } => format!("more than {limit} {of}"),
        _ => "its notation".to_owned(),
    }
}

/// The part that does not fit the table's columns.
fn part_of_table(error: &filter::Error) -> &'static str {
    match error {
        filter::Error::UnknownColumn { .. } => "a column that is not published",
        filter::Error::Collation { .. } => "a comparison by rules of its language",
        filter::Error::TooLarge { .. } | filter::Error::Limit { .. } => "it is too large",
        _ => "a cast or comparison of these types",
    }
}

#[cfg(test)]
#[path = "row_security_tests.rs"]
mod tests;
