//! Policies, which say who may see what, and what they admit of a table for one caller. Pure.
//!
//! A [`Policy`] names tables, roles, operations, columns and rows. Those that fit a caller's role and a table become an
//! [`Admission`], which is a part of the key of every query of that caller: nobody shares bytes with a caller whose
//! admission is another one. Bound to a version of the table it says of each row which columns exist for the caller
//! ([`BoundAdmission`]).
//!
//! The one thing to know: a row is admitted only where a policy is *certainly* true of it. What cannot be decided is
//! withheld, also what a policy makes of a version of the table in which its columns are not what they are now.

mod admission;
mod bound;

use std::sync::Arc;

pub use admission::{Admission, Grant};
pub use bound::{BoundAdmission, MAX_GROUPS, Mask, Masks};

use crate::auth::Claims;
use crate::event::{TableName, Visible};
use crate::filter::{self, Predicate};
use crate::protocol::Ops;

/// A rule that lets callers see something.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The tables that it is about.
    pub tables: Vec<TablePattern>,
    /// The roles that it is for; every role if `None`.
    pub roles: Option<Vec<String>>,
    /// The operations that it lets callers hear of.
    pub ops: Ops,
    /// The columns that it lets them see.
    pub columns: Visible,
    /// The rows that it lets them see.
    pub rows: Rows,
}

/// The rows that a policy admits.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// Every row.
    All,
    /// Those of which a condition certainly holds.
    Where(Arc<Condition>),
}

/// A policy's condition on rows, as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: Arc<str>,
    predicate: Predicate,
    /// The paths of its claims, ascending.
    claims: Vec<String>,
}

impl Condition {
    /// Parses a policy's `where`.
    ///
    /// # Errors
    /// It does not parse.
    pub fn parse(text: &str) -> Result<Condition, filter::Error> {
        let predicate = Predicate::parse_policy(text)?;
        Ok(Condition {
            text: text.into(),
            claims: predicate.claims(),
            predicate,
        })
    }
}

/// A table, or all tables of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TablePattern {
    /// One table.
    Table(TableName),
    /// Every table of a schema: `public.*`.
    Schema(String),
}

impl TablePattern {
    fn fits(&self, table: &TableName) -> bool {
        match self {
            TablePattern::Table(name) => name == table,
            // What stands for logical messages has no schema.
            TablePattern::Schema(schema) => *schema == table.schema && table.messages().is_none(),
        }
    }
}

/// A rule that lets callers read the logical messages of some prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePolicy {
    /// The prefixes: messages whose own prefix begins with one of them are meant.
    pub prefixes: Vec<String>,
    /// The roles that it is for; every role if `None`.
    pub roles: Option<Vec<String>>,
}

/// All policies of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// Those of tables.
    pub tables: Vec<Policy>,
    /// Those of logical messages.
    pub messages: Vec<MessagePolicy>,
}

impl Policies {
    /// The part of a table that a caller may see; `None` if the table does not exist for it.
    pub fn admission(&self, table: &TableName, role: &str, claims: &Claims) -> Option<Admission> {
        let is_for = |roles: &Option<Vec<String>>| {
            roles
                .as_ref()
                .is_none_or(|roles| roles.iter().any(|known| known == role))
        };
        if let Some(prefix) = table.messages() {
            let begins =
                |policy: &&MessagePolicy| policy.prefixes.iter().any(|p| prefix.starts_with(p.as_str()));
            let mut fitting = self.messages.iter().filter(|policy| is_for(&policy.roles));
            return fitting.any(|policy| begins(&policy)).then(Admission::everything);
        }
        let fitting = self.tables.iter().filter(|policy| {
            is_for(&policy.roles) && policy.tables.iter().any(|pattern| pattern.fits(table))
        });
        Admission::of(fitting.map(|policy| Grant::of(policy, claims)))
    }
}

#[cfg(test)]
mod tests;
