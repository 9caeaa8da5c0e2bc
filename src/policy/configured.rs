//! From the configuration file to [`Policies`].

use std::sync::Arc;

use super::{Condition, MessagePolicy, Policies, Policy, Rows, TablePattern};
use crate::config::{self, Access, Spanned};
use crate::event::Visible;

impl Policies {
    /// The policies of a configuration.
    ///
    /// # Errors
    /// All conditions that do not parse, each with its place.
    pub fn of(access: &Access) -> Result<Policies, config::Errors> {
        let mut policies = Policies::default();
        let mut errors = Vec::new();
        for policy in &access.policies {
            let roles = policy.roles.as_deref().map(values);
            match &policy.grant {
                config::Grant::Messages(prefixes) => policies.messages.push(MessagePolicy {
                    prefixes: values(prefixes),
                    roles,
                }),
                config::Grant::Tables(grant) => match rows(access, &grant.rows) {
                    Ok(rows) => policies.tables.push(Policy {
                        tables: grant.tables.iter().map(|named| pattern(&named.value)).collect(),
                        roles,
                        ops: grant.ops,
                        columns: match &grant.columns {
                            Some(columns) => Visible::only(values(columns)),
                            None => Visible::All,
                        },
                        rows,
                    }),
                    Err(error) => errors.push(error),
                },
            }
        }
        if errors.is_empty() {
            Ok(policies)
        } else {
            Err(config::Errors(errors))
        }
    }
}

fn values(spanned: &[Spanned<String>]) -> Vec<String> {
    spanned.iter().map(|text| text.value.clone()).collect()
}

fn pattern(tables: &config::Tables) -> TablePattern {
    match tables {
        config::Tables::One(table) => TablePattern::Table(table.clone()),
        config::Tables::Schema(schema) => TablePattern::Schema(schema.clone()),
    }
}

fn rows(access: &Access, rows: &config::Rows) -> Result<Rows, config::Error> {
    Ok(match rows {
        config::Rows::All => Rows::All,
        config::Rows::RowSecurity => Rows::RowSecurity,
        config::Rows::Where(text) => match Condition::parse(&text.value) {
            Ok(condition) => Rows::Where(Arc::new(condition)),
            Err(error) => {
                let place = access.text.place_in(text, error.offset());
                return Err(access.error(place, format!("where: {error}")));
            }
        },
    })
}
