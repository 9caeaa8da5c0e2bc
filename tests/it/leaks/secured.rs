//! Random policies and privileges of the database's own.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fastrand::Rng;

use super::policies::some_columns;
use super::{ROLES, TABLES, role_name};

const ON_DOC: [&str; 8] = [
    "tenant = claim('tenant')::int",
    "level <= claim('level')::int AND NOT sealed",
    "owner = claim('sub')",
    "owner = (SELECT claim('sub'))",
    "title LIKE 'M%7Z%'",
    "body IS NOT NULL AND tenant IN (1, 2)",
    "NOT (sealed OR level > 3)",
    "claim('role') = current_user AND tenant < 4",
];
const ON_ROOM: [&str; 4] = [
    "tenant = claim('tenant')::int",
    "id BETWEEN 2 AND 6",
    "id <> 3",
    "true",
];

/// The policies and privileges of all tables.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Secured(Vec<SecuredTable>);

#[derive(Clone, Debug, PartialEq)]
struct SecuredTable {
    table: &'static str,
    is_on: bool,
    policies: Vec<DatabasePolicy>,
    /// The columns and rows that each role may select.
    grants: [Granted; ROLES],
}

#[derive(Clone, Debug, PartialEq)]
enum Granted {
    Nothing,
    All,
    Columns(BTreeSet<&'static str>),
}

#[derive(Clone, Debug, PartialEq)]
struct DatabasePolicy {
    is_permissive: bool,
    role: Option<usize>,
    command: &'static str,
    condition: &'static str,
}

/// A condition as the database has it.
fn in_database(condition: &str) -> String {
    let claim = "(current_setting('request.jwt.claims', true)::json ->> '";
    condition.replace("claim('", claim)
}

impl DatabasePolicy {
    fn random(rng: &mut Rng, table: &str, is_permissive: bool) -> DatabasePolicy {
        let conditions: &[_] = match table {
            "doc" => &ON_DOC,
            _ => &ON_ROOM,
        };
        DatabasePolicy {
            is_permissive,
            role: *rng.choice(&[None, Some(0), Some(1)]).unwrap(),
            command: rng.choice(&["ALL", "SELECT", "SELECT", "UPDATE"]).unwrap(),
            condition: rng.choice(conditions).unwrap(),
        }
    }

    fn is_for(&self, role: usize) -> bool {
        self.command != "UPDATE" && self.role.is_none_or(|own| own == role)
    }
}

impl SecuredTable {
    fn random(rng: &mut Rng, table: &'static str) -> SecuredTable {
        let permissive = rng.usize(1..4);
        let restrictive = rng.usize(0..3);
        let kinds = (0..permissive + restrictive).map(|number| number < permissive);
        SecuredTable {
            table,
            is_on: rng.u32(0..8) > 0,
            policies: kinds
                .map(|is_permissive| DatabasePolicy::random(rng, table, is_permissive))
                .collect(),
            grants: std::array::from_fn(|_| match rng.u32(0..6) {
                0 => Granted::Nothing,
                1 | 2 => Granted::Columns(some_columns(rng, table)),
                _ => Granted::All,
            }),
        }
    }

    /// The statements that make it so.
    fn sql(&self) -> String {
        let table = self.table;
        let mut sql = format!(
            "DO $$ DECLARE name text; BEGIN FOR name IN SELECT polname FROM pg_policy \
             WHERE polrelid = '{table}'::regclass LOOP EXECUTE format('DROP POLICY %I ON {table}', name); END LOOP; END $$; \
             ALTER TABLE {table} {} ROW LEVEL SECURITY",
            if self.is_on { "ENABLE" } else { "DISABLE" }
        );
        for (number, policy) in self.policies.iter().enumerate() {
            let kind = if policy.is_permissive {
                "PERMISSIVE"
            } else {
                "RESTRICTIVE"
            };
            let to = policy.role.map_or("PUBLIC".to_owned(), role_name);
            write!(
                sql,
                "; CREATE POLICY p{number} ON {table} AS {kind} FOR {} TO {to} USING ({})",
                policy.command,
                in_database(policy.condition)
            )
            .unwrap();
        }
        for (role, granted) in self.grants.iter().enumerate() {
            let role = role_name(role);
            write!(sql, "; REVOKE ALL ON {table} FROM {role}").unwrap();
            match granted {
                Granted::Nothing => {}
                Granted::All => write!(sql, "; GRANT SELECT ON {table} TO {role}").unwrap(),
                Granted::Columns(columns) => {
                    let columns: Vec<&str> = columns.iter().copied().collect();
                    let columns = columns.join(", ");
                    write!(sql, "; GRANT SELECT ({columns}) ON {table} TO {role}").unwrap();
                }
            }
        }
        sql
    }

    fn of(&self, role: usize) -> Option<(Option<BTreeSet<&'static str>>, String)> {
        let columns = match &self.grants[role] {
            Granted::Nothing => return None,
            Granted::All => None,
            Granted::Columns(columns) => Some(columns.clone()),
        };
        if !self.is_on {
            return Some((columns, "true".to_owned()));
        }
        let of_kind = |is_permissive: bool| {
            let policies = self.policies.iter().filter(move |policy| policy.is_for(role));
            let of_kind = policies.filter(move |policy| policy.is_permissive == is_permissive);
            of_kind.map(|policy| format!("({})", policy.condition))
        };
        let permissive: Vec<String> = of_kind(true).collect();
        let any = if permissive.is_empty() {
            "false".to_owned()
        } else {
            permissive.join(" OR ")
        };
        let all: Vec<String> = std::iter::once(format!("({any})"))
            .chain(of_kind(false))
            .collect();
        Some((columns, all.join(" AND ")))
    }
}

impl Secured {
    pub(super) fn random(rng: &mut Rng) -> Secured {
        Secured(TABLES.map(|table| SecuredTable::random(rng, table)).into())
    }

    /// The same, but that there is something of each kind for the first role and `doc`: rows, and others that a restrictive
    /// policy takes away.
    pub(super) fn restricted(mut self) -> Secured {
        for secured in self.0.iter_mut().filter(|secured| secured.table == "doc") {
            let kinds = [
                (true, "claim('role') = current_user AND tenant < 4"),
                (false, "NOT (sealed OR level > 3)"),
            ];
            let both = kinds.map(|(is_permissive, condition)| DatabasePolicy {
                is_permissive,
                role: Some(0),
                command: "SELECT",
                condition,
            });
            secured.policies.extend(both);
            secured.is_on = true;
            if secured.grants[0] == Granted::Nothing {
                secured.grants[0] = Granted::All;
            }
        }
        self
    }

    /// The statements that make it so, one transaction: there is nothing to be seen in between.
    pub(super) fn sql(&self) -> String {
        let statements: Vec<String> = self.0.iter().map(SecuredTable::sql).collect();
        statements.join("; ")
    }

    /// The columns and the condition by which a role may read a table; `None` if it may not.
    pub(super) fn of(&self, table: &str, role: usize) -> Option<(Option<BTreeSet<&'static str>>, String)> {
        let secured = self.0.iter().find(|secured| secured.table == table);
        secured.unwrap().of(role)
    }
}
