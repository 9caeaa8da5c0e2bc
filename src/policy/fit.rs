//! [`misfits`]: checks the policies of a configuration against the tables of a database.

use std::collections::{BTreeSet, HashSet};

use super::{Condition, MAX_GROUPS, Policies, RoleCatalog, Rows};
use crate::config::{self, Access, Policy, Spanned, TableGrant};
use crate::event::{Relation, TableName, View, Visible};
use crate::filter::{nearest, nearest_table};

/// A policy that does not fit a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// True if it shows nothing, or makes subscriptions be refused; otherwise it shows less than one might expect.
    pub is_error: bool,
    /// Its place, the problem and the cure.
    pub error: config::Error,
}

/// The policies that do not fit the published tables, in the order of the file. Of those that leave rows to the
/// database's own policies, it asks the catalogs for these.
///
/// # Errors
/// The catalogs do not answer.
pub fn misfits<C: RoleCatalog>(
    access: &Access,
    policies: &Policies,
    published: &[Relation],
    catalog: &mut C,
) -> Result<Vec<Misfit>, C::Error> {
    let mut found = Found {
        access,
        published,
        misfits: Vec::new(),
    };
    for policy in &access.policies {
        if let config::Grant::Tables(grant) = &policy.grant {
            found.policy(grant);
            if grant.rows == config::Rows::RowSecurity {
                found.row_security(grant, policy.roles.as_deref(), catalog)?;
            }
        }
    }
    found.groups(policies);
    Ok(found.misfits)
}

/// The misfits found so far, and the tables that policies are held against.
pub(super) struct Found<'a> {
    access: &'a Access,
    pub(super) published: &'a [Relation],
    misfits: Vec<Misfit>,
}

impl Found<'_> {
    fn add(&mut self, is_error: bool, place: config::Place, what: String) {
        let error = self.access.error(place, what);
        self.misfits.push(Misfit { is_error, error });
    }

    pub(super) fn add_at<T>(&mut self, is_error: bool, at: &Spanned<T>, what: String) {
        self.add(is_error, self.access.text.place(at.at.start), what);
    }

    fn policy(&mut self, grant: &TableGrant) {
        let condition = match &grant.rows {
            config::Rows::Where(text) => Condition::parse(&text.value).ok().map(|parsed| (text, parsed)),
            config::Rows::All | config::Rows::RowSecurity => None,
        };
        for named in &grant.tables {
            let tables = self.published.iter();
            let tables: Vec<&Relation> = tables
                .filter(|relation| named.value.contains(&relation.table))
                .collect();
            let is_named = match &named.value {
                config::Tables::One(table) => {
                    if tables.is_empty() {
                        let what = format!("{table} is not published{}", self.meant(table));
                        self.add_at(true, named, what);
                    }
                    true
                }
                config::Tables::Schema(schema) => {
                    if tables.is_empty() {
                        let what = format!("no table of the schema {schema} is published");
                        self.add_at(false, named, what);
                    }
                    false
                }
            };
            for relation in tables {
                if let Some(columns) = &grant.columns {
                    self.columns(columns, relation, is_named);
                }
                if let Some((text, condition)) = &condition {
                    self.condition(text, condition, relation, is_named);
                }
            }
        }
    }

    fn meant(&self, table: &TableName) -> String {
        let names: Vec<&TableName> = self.published.iter().map(|relation| &relation.table).collect();
        match nearest_table(table, &names) {
            Some(meant) => format!(": did you mean {meant}?"),
            None => format!(": `walcast tables '{table}'` says why"),
        }
    }

    /// Checks that the columns exist, and that the key is among them. With a whole schema, some tables may lack a
    /// column.
    fn columns(&mut self, columns: &[Spanned<String>], relation: &Relation, is_named: bool) {
        let table = &relation.table;
        for column in columns {
            if relation.column(&column.value).is_some() {
                continue;
            }
            let names = relation.columns.iter().map(|column| column.name.as_str());
            let hint = nearest(&column.value, names).map(|near| format!(": did you mean {near}?"));
            let what = format!(
                "{table} has no column {}{}",
                column.value,
                hint.unwrap_or_default()
            );
            self.add_at(is_named, column, what);
        }
        let is_hidden = |name: &&str| columns.iter().all(|column| column.value != *name);
        let hidden: Vec<&str> = relation.key_names().into_iter().filter(is_hidden).collect();
        if let (Some(first), false) = (columns.first(), hidden.is_empty()) {
            let hidden = hidden.join(", ");
            let what = format!(
                "columns: {hidden} of the key of {table} must be among them: without it clients cannot tell rows apart, and \
                 are refused"
            );
            self.add_at(true, first, what);
        }
    }

    fn condition(
        &mut self,
        text: &Spanned<String>,
        condition: &Condition,
        relation: &Relation,
        is_named: bool,
    ) {
        let table = &relation.table;
        // As null, a claim is a value of any type that it is cast to.
        let predicate = condition.predicate.with_claims(&|_| None);
        match predicate.bind(View::whole(relation), &[]) {
            Ok(_) => {}
            // The server can answer this question when a subscription needs it.
            Err(error) if error.collation_question().is_some() => {}
            Err(error) => {
                let place = self.access.text.place_in(text, error.offset());
                let what = format!("where: it admits nothing of {table}: {error}");
                return self.add(is_named, place, what);
            }
        }
        let names = condition.predicate.column_names();
        let outside = relation.columns.iter().filter(|column| {
            let is_read = names.contains(&column.name);
            is_read && !column.identity
        });
        let outside: Vec<&str> = outside.map(|column| column.name.as_str()).collect();
        if relation.tells_all() || outside.is_empty() {
            return;
        }
        let what = format!(
            "where: the log does not hold {} of old rows of {table}, so it cannot tell which rows were admitted, and \
             subscriptions are refused; fix: {}",
            outside.join(", "),
            relation.cure(&outside)
        );
        self.add_at(true, text, what);
    }

    /// Checks the number of different lists of columns and operations that each role has for one table.
    fn groups(&mut self, policies: &Policies) {
        let roles: BTreeSet<Option<&str>> = policies
            .tables
            .iter()
            .flat_map(|policy| policy.roles.iter().flatten())
            .map(|role| Some(role.as_str()))
            .chain([None])
            .collect();
        let published = self.published;
        for relation in published {
            for role in &roles {
                let fitting = policies.fitting(&relation.table, *role);
                let fitting = fitting.filter(|policy| policy.rows != Rows::RowSecurity);
                let groups: HashSet<(&Visible, _)> =
                    fitting.map(|policy| (&policy.columns, policy.ops)).collect();
                if groups.len() <= MAX_GROUPS {
                    continue;
                }
                let Some(last) = self.access.policies.last() else {
                    return;
                };
                let Policy { at, .. } = last;
                let place = self.access.text.place(at.start);
                let role = role.map_or("callers without a role".to_owned(), |role| {
                    format!("the role {role}")
                });
                let what = format!(
                    "{role} has {} different lists of columns and operations for {}, and {MAX_GROUPS} can be kept apart: \
                     give policies the same columns and ops, and join their conditions by OR",
                    groups.len(),
                    relation.table
                );
                self.add(true, place, what);
                break;
            }
        }
    }
}
