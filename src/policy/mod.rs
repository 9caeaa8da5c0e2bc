//! Policies, which decide what callers may see, and the part of a table that they admit for one caller. Pure.
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
mod configured;
mod fit;
mod fit_row_security;
mod row_security;

use std::sync::Arc;

pub use admission::{Admission, Grant, Judged};
pub use bound::{BoundAdmission, MAX_GROUPS, Mask, Masks};
pub use fit::{Misfit, misfits};
pub use fit_row_security::RoleCatalog;
pub use row_security::{DatabaseFunction, DatabasePolicy, Refusal, RoleAccess, RowSecurity};

use crate::auth::Claims;
use crate::event::{TableName, Visible};
use crate::filter::{self, DatabaseSession, Predicate};
use crate::protocol::Ops;

/// A rule that lets callers see something.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The tables that it applies to.
    pub tables: Vec<TablePattern>,
    /// The roles that it applies to; every role if `None`.
    pub roles: Option<Vec<String>>,
    /// The operations that callers are told of.
    pub ops: Ops,
    /// The columns that callers may see.
    pub columns: Visible,
    /// The rows that callers may see.
    pub rows: Rows,
}

/// The rows that a policy admits.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// Every row.
    All,
    /// The rows for which a condition is certainly true.
    Where(Arc<Condition>),
    /// The rows that the database's own policies let the database role of the caller's name select.
    RowSecurity,
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
            // The table that stands for logical messages has no schema.
            TablePattern::Schema(schema) => *schema == table.schema && table.messages().is_none(),
        }
    }
}

/// A rule that lets callers read logical messages with certain prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePolicy {
    /// The prefixes: it applies to messages whose own prefix begins with one of them.
    pub prefixes: Vec<String>,
    /// The roles that it applies to; every role if `None`.
    pub roles: Option<Vec<String>>,
}

/// All policies of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// The policies for tables.
    pub tables: Vec<Policy>,
    /// The policies for logical messages.
    pub messages: Vec<MessagePolicy>,
}

impl Policies {
    /// The part of a table that a caller may see; `None` if the table does not exist for it. A caller without a role
    /// gets only what applies to every role. `security` is what the database lets the role see, if it was asked for.
    pub fn admission(
        &self,
        table: &TableName,
        role: Option<&str>,
        claims: &Claims,
        security: Option<(&RowSecurity, &DatabaseSession)>,
    ) -> Option<Admission> {
        if table.messages().is_some() {
            return self.know(table, role).then(Admission::everything);
        }
        let grants = self
            .fitting(table, role)
            .filter_map(|policy| Grant::of(policy, claims, security));
        Admission::of(grants)
    }

    /// True if the database's own policies decide what callers of a role may see of a table.
    pub fn ask_the_database(&self, table: &TableName, role: Option<&str>) -> bool {
        let mut fitting = self.fitting(table, role);
        role.is_some() && fitting.any(|policy| policy.rows == Rows::RowSecurity)
    }

    /// True if a table exists for callers of a role, whatever the database's own policies are.
    pub fn know(&self, table: &TableName, role: Option<&str>) -> bool {
        let Some(prefix) = table.messages() else {
            let mut fitting = self.fitting(table, role);
            return fitting.any(|policy| policy.rows != Rows::RowSecurity);
        };
        let mut policies = self.messages.iter().filter(|policy| is_for(&policy.roles, role));
        policies.any(|policy| {
            policy
                .prefixes
                .iter()
                .any(|begins| prefix.starts_with(begins.as_str()))
        })
    }

    fn fitting<'p>(
        &'p self,
        table: &'p TableName,
        role: Option<&'p str>,
    ) -> impl Iterator<Item = &'p Policy> {
        self.tables.iter().filter(move |policy| {
            is_for(&policy.roles, role) && policy.tables.iter().any(|pattern| pattern.fits(table))
        })
    }
}

/// True if a policy for these roles applies to callers of a role.
fn is_for(roles: &Option<Vec<String>>, role: Option<&str>) -> bool {
    let Some(roles) = roles else { return true };
    roles.iter().any(|known| Some(known.as_str()) == role)
}

#[cfg(test)]
mod tests;
