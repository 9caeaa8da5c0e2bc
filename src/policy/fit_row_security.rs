//! Policies with `rls` held against those of the database.

use super::fit::Found;
use super::{DatabasePolicy, RoleAccess, RowSecurity};
use crate::config::{Spanned, TableGrant, Tables};
use crate::event::{Relation, quote_identifier};
use crate::types::CollationQuestion;

/// The catalogs of a database, as far as they tell what its roles may see.
pub trait RoleCatalog {
    /// The reason why they do not answer.
    type Error;

    /// True if there is a role of that name.
    ///
    /// # Errors
    /// The database does not answer.
    fn has_role(&mut self, role: &str) -> Result<bool, Self::Error>;

    /// Roles that may read something of the table with that OID: at least one for each way in which they differ in what
    /// they may see of it.
    ///
    /// # Errors
    /// The database does not answer.
    fn roles(&mut self, table: u32) -> Result<Vec<String>, Self::Error>;

    /// The table with that OID as a role may see it; `None` if it may read nothing of it.
    ///
    /// # Errors
    /// The database does not answer.
    fn access(&mut self, table: u32, role: &str) -> Result<Option<RoleAccess>, Self::Error>;

    /// Answers a question for as long as the process runs, if it has an answer.
    ///
    /// # Errors
    /// The database does not answer.
    fn answer(&mut self, question: &CollationQuestion) -> Result<(), Self::Error>;
}

/// A problem that a table has for a role, in words around the role.
#[derive(PartialEq)]
struct Problem {
    is_error: bool,
    before: String,
    after: String,
}

impl Found<'_> {
    /// Holds a policy with `rls` for these roles, or for all that the database has, against the database's policies.
    pub(super) fn row_security<C: RoleCatalog>(
        &mut self,
        grant: &TableGrant,
        roles: Option<&[Spanned<String>]>,
        catalog: &mut C,
    ) -> Result<(), C::Error> {
        let mut existing = Vec::new();
        for role in roles.into_iter().flatten() {
            if catalog.has_role(&role.value)? {
                existing.push(role.value.clone());
                continue;
            }
            let quoted = quote_identifier(&role.value);
            let what = format!(
                "roles: the database has no role {quoted}, so this shows nothing to callers in it; fix: CREATE ROLE {quoted}"
            );
            self.add_at(true, role, what);
        }
        let published = self.published;
        for named in &grant.tables {
            for relation in published
                .iter()
                .filter(|relation| named.value.contains(&relation.table))
            {
                let meant = Meant {
                    relation,
                    is_named: matches!(named.value, Tables::One(_)) && roles.is_some(),
                };
                let of_table;
                let roles = match roles {
                    Some(_) => &existing,
                    None => {
                        of_table = catalog.roles(relation.oid)?;
                        &of_table
                    }
                };
                // Each with all roles that have it.
                let mut problems: Vec<(Problem, Vec<String>)> = Vec::new();
                for role in roles {
                    for problem in meant.problems(role, catalog)? {
                        match problems.iter_mut().find(|(known, _)| *known == problem) {
                            Some((_, roles)) => roles.push(quote_identifier(role)),
                            None => problems.push((problem, vec![quote_identifier(role)])),
                        }
                    }
                }
                for (problem, roles) in problems {
                    let word = if roles.len() == 1 { "role" } else { "roles" };
                    let Problem {
                        is_error,
                        before,
                        after,
                    } = problem;
                    let what = format!("{before} for the {word} {}{after}", roles.join(", "));
                    self.add_at(is_error, named, what);
                }
            }
        }
        Ok(())
    }
}

/// A table that a policy means.
struct Meant<'a> {
    relation: &'a Relation,
    /// True if both the table and the role stand in the policy.
    is_named: bool,
}

impl Meant<'_> {
    /// The reasons for which callers in a role of the database would be refused or see nothing.
    fn problems<C: RoleCatalog>(&self, role: &str, catalog: &mut C) -> Result<Vec<Problem>, C::Error> {
        let Meant { relation, is_named } = *self;
        let table = &relation.table;
        let Some(access) = catalog.access(relation.oid, role)? else {
            return Ok(is_named.then(|| self.unreadable(role)).into_iter().collect());
        };
        let mut problems = Vec::new();
        let key = relation.key_names().into_iter();
        let hidden: Vec<String> = key
            .filter(|name| !access.columns.has(name))
            .map(quote_identifier)
            .collect();
        if !hidden.is_empty() {
            let hidden = hidden.join(", ");
            problems.push(Problem {
                is_error: is_named,
                before: format!("the key of {table} is hidden"),
                after: format!(
                    ", which may not SELECT {hidden}: without it clients cannot tell rows apart, and are refused; fix: \
                     GRANT SELECT ({hidden}) ON {table} TO {}",
                    quote_identifier(role)
                ),
            });
        }
        let refusals = self.refusals(&access, catalog)?;
        if !refusals.is_empty() {
            problems.extend(refusals);
            return Ok(problems);
        }
        let shows_some = |policies: &Vec<DatabasePolicy>| {
            let mut policies = policies.iter();
            policies.any(|policy| policy.is_permissive && policy.using.is_some())
        };
        if !access.policies.as_ref().is_none_or(shows_some) {
            problems.push(Problem {
                is_error: is_named,
                before: format!("no row of {table} is shown"),
                after: format!(
                    ": row level security is on, and no permissive policy is for it; fix: CREATE POLICY … ON {table} FOR \
                     SELECT TO {} USING (…)",
                    quote_identifier(role)
                ),
            });
        }
        if let Ok(security) = RowSecurity::new(&access, relation) {
            problems.extend(self.undecided(&security));
        }
        Ok(problems)
    }

    fn unreadable(&self, role: &str) -> Problem {
        let table = &self.relation.table;
        let (schema, role) = (quote_identifier(&table.schema), quote_identifier(role));
        Problem {
            is_error: true,
            before: format!("{table} does not exist"),
            after: format!(
                ", which may read nothing of it; fix: GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {table} TO {role}"
            ),
        }
    }

    /// The policies that cannot be evaluated here, once the database has answered what there was to ask.
    fn refusals<C: RoleCatalog>(
        &self,
        access: &RoleAccess,
        catalog: &mut C,
    ) -> Result<Vec<Problem>, C::Error> {
        let table = &self.relation.table;
        let mut asked = Vec::new();
        let refusals = loop {
            let refusals = RowSecurity::refusals(access, self.relation);
            let mut questions = refusals.iter().filter_map(|refusal| refusal.question.as_ref());
            // What has no answer is not asked again.
            let Some(question) = questions.find(|question| !asked.contains(*question)).cloned() else {
                break refusals;
            };
            catalog.answer(&question)?;
            asked.push(question);
        };
        let told = refusals.into_iter().map(|refusal| Problem {
            is_error: true,
            before: format!(
                "the policy {} of {table} in the database cannot be evaluated",
                quote_identifier(&refusal.policy)
            ),
            after: format!(
                ", and subscriptions are refused: {}; fix: write it with columns of the row and claims of the caller, as \
                 docs/configuration.md has it under \"Row level security\", or take the table out of this policy",
                refusal.detail.replace('\n', " ")
            ),
        });
        Ok(told.collect())
    }

    /// The columns that policies read, and that the log does not hold of old rows.
    fn undecided(&self, security: &RowSecurity) -> Option<Problem> {
        let relation = self.relation;
        let names = security.column_names();
        let outside = relation.columns.iter().filter(|column| {
            let is_read = names.contains(&column.name);
            is_read && !column.identity
        });
        let outside: Vec<&str> = outside.map(|column| column.name.as_str()).collect();
        if relation.tells_all() || outside.is_empty() {
            return None;
        }
        Some(Problem {
            is_error: true,
            before: format!(
                "the log does not hold {} of old rows of {}, which the policies of the database read",
                outside.join(", "),
                relation.table
            ),
            after: format!(
                ": it cannot tell which rows were admitted, and subscriptions are refused; fix: {}",
                relation.cure(&outside)
            ),
        })
    }
}
