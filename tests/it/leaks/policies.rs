//! Random policies and claims, for the configuration file and for Postgres.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fastrand::Rng;
use serde_json::{Value, json};

use super::secured::Secured;
use super::{ROLES, TABLES, role_name};

/// The conditions of policies, which Postgres takes once claims are put into their places.
const ON_DOC: [&str; 7] = [
    "tenant = claim('tenant')::int",
    "tenant = ANY (claim('tenants')::int[])",
    "level <= claim('level')::int AND NOT sealed",
    "owner = claim('sub')",
    "title LIKE 'M%7Z%'",
    "body IS NOT NULL AND tenant IN (1, 2)",
    "NOT (sealed OR level > 3)",
];
const ON_ROOM: [&str; 3] = [
    "tenant = claim('tenant')::int",
    "tenant = ANY (claim('tenants')::int[]) AND id <> 3",
    "id BETWEEN 2 AND 6",
];
const COLUMNS_OF_DOC: [&str; 6] = ["tenant", "level", "owner", "title", "body", "sealed"];
const COLUMNS_OF_ROOM: [&str; 2] = ["topic", "notes"];

/// Some columns of a table, and its key.
pub(super) fn some_columns(rng: &mut Rng, table: &str) -> BTreeSet<&'static str> {
    let (columns, key): (&[_], &[_]) = match table {
        "doc" => (&COLUMNS_OF_DOC, &["id"]),
        _ => (&COLUMNS_OF_ROOM, &["tenant", "id"]),
    };
    let shown = columns.iter().filter(|_| rng.bool());
    shown.chain(key).copied().collect()
}

/// The rows that a policy admits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rows {
    All,
    Where(&'static str),
    /// Those that the database's own policies do.
    ByDatabase,
}

/// One policy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Policy {
    table: &'static str,
    role: Option<usize>,
    /// All if `None`.
    columns: Option<BTreeSet<&'static str>>,
    /// True if it tells of deletes and truncates.
    is_whole: bool,
    rows: Rows,
}

/// The columns and rows that a policy comes to for one role.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) table: &'static str,
    pub(super) columns: Option<BTreeSet<&'static str>>,
    pub(super) is_whole: bool,
    pub(super) is_by_database: bool,
    condition: String,
}

impl Admitted {
    /// The condition as Postgres takes it.
    pub(super) fn sql(&self, claims: &Value) -> String {
        let mut sql = self.condition.clone();
        for claim in ["tenant", "tenants", "level", "sub", "role"] {
            let text = match &claims[claim] {
                Value::Null => "NULL::text".into(),
                Value::String(text) => format!("'{text}'::text"),
                Value::Array(items) => {
                    let items: Vec<String> = items.iter().map(Value::to_string).collect();
                    format!("'{{{}}}'::text", items.join(","))
                }
                other => format!("'{other}'::text"),
            };
            sql = sql.replace(&format!("claim('{claim}')"), &format!("({text})"));
        }
        let role = claims["role"].as_str().unwrap();
        sql.replace("current_user", &format!("'{role}'"))
    }

    pub(super) fn shows(&self, column: &str) -> bool {
        self.columns
            .as_ref()
            .is_none_or(|columns| columns.contains(column))
    }
}

impl Policy {
    fn random(rng: &mut Rng) -> Policy {
        let table = *rng.choice(&TABLES).unwrap();
        let conditions: &[_] = match table {
            "doc" => &ON_DOC,
            _ => &ON_ROOM,
        };
        let rows = match rng.u32(0..8) {
            0 => Rows::All,
            1..4 => Rows::ByDatabase,
            _ => Rows::Where(rng.choice(conditions).unwrap()),
        };
        let is_narrow = rng.bool() && rows != Rows::ByDatabase;
        Policy {
            table,
            role: *rng.choice(&[None, Some(0), Some(1)]).unwrap(),
            columns: is_narrow.then(|| some_columns(rng, table)),
            is_whole: rng.u32(0..5) > 0,
            rows,
        }
    }
}

/// All policies at one time.
#[derive(Clone, Debug)]
pub(super) struct PolicySet {
    pub(super) configured: Vec<Policy>,
    pub(super) secured: Secured,
}

impl PolicySet {
    pub(super) fn random(rng: &mut Rng) -> PolicySet {
        PolicySet {
            secured: Secured::random(rng),
            configured: Vec::new(),
        }
        .with_others(rng)
    }

    /// Other policies of the configuration's.
    pub(super) fn with_others(mut self, rng: &mut Rng) -> PolicySet {
        let count = rng.usize(2..6);
        self.configured = (0..count).map(|_| Policy::random(rng)).collect();
        self
    }

    /// Other policies of the database's.
    pub(super) fn with_others_of_database(mut self, rng: &mut Rng) -> PolicySet {
        self.secured = Secured::random(rng);
        self
    }

    /// The same with all operations, with something for the first role that the database decides, and with something
    /// for the second that it does not.
    pub(super) fn whole(mut self) -> PolicySet {
        self.secured = self.secured.restricted();
        let policies = [
            (0, Rows::ByDatabase),
            (1, Rows::Where("NOT (sealed OR level > 3)")),
        ];
        self.configured
            .retain(|policy| (policy.table, policy.role) != ("doc", Some(0)) && policy.role.is_some());
        self.configured.extend(policies.map(|(role, rows)| Policy {
            table: "doc",
            role: Some(role),
            columns: None,
            is_whole: true,
            rows,
        }));
        for policy in &mut self.configured {
            policy.is_whole = true;
        }
        self
    }

    /// The columns and rows that the policies for a role and a table come to.
    pub(super) fn of(&self, table: &'static str, role: usize) -> Vec<Admitted> {
        let fits = |policy: &&Policy| policy.table == table && policy.role.is_none_or(|own| own == role);
        let fitting = self.configured.iter().filter(fits);
        let admitted = fitting.filter_map(|policy| {
            let (columns, condition) = match policy.rows {
                Rows::All => (policy.columns.clone(), "true".to_owned()),
                Rows::Where(condition) => (policy.columns.clone(), condition.to_owned()),
                Rows::ByDatabase => self.secured.of(table, role)?,
            };
            Some(Admitted {
                table,
                columns,
                is_whole: policy.is_whole,
                is_by_database: policy.rows == Rows::ByDatabase,
                condition,
            })
        });
        admitted.collect()
    }

    /// The sections of the file.
    pub(super) fn toml(&self) -> String {
        let mut toml = "[[policy]]\ntables = [\"beacon\"]\nrls = true\n".to_owned();
        for policy in &self.configured {
            writeln!(toml, "[[policy]]\ntables = [\"{}\"]", policy.table).unwrap();
            if let Some(role) = policy.role {
                writeln!(toml, "roles = [\"{}\"]", role_name(role)).unwrap();
            }
            if let Some(columns) = &policy.columns {
                writeln!(toml, "columns = {}", json!(columns)).unwrap();
            }
            if !policy.is_whole {
                writeln!(toml, "ops = [\"insert\", \"update\"]").unwrap();
            }
            match policy.rows {
                Rows::All => {}
                Rows::Where(condition) => writeln!(toml, "where = \"{condition}\"").unwrap(),
                Rows::ByDatabase => writeln!(toml, "rls = true").unwrap(),
            }
        }
        toml
    }
}

/// Claims of some subject in a role, or in any.
pub(super) fn claims(rng: &mut Rng, subject: &str, role: Option<usize>) -> Value {
    let role = role.unwrap_or_else(|| rng.usize(..ROLES));
    let mut claims = json!({
        "sub": subject,
        "role": role_name(role),
        "exp": crate::support::issuer::seconds_from_now(7_200),
    });
    if rng.u32(0..5) > 0 {
        claims["tenant"] = json!(rng.u32(1..5));
    }
    if rng.u32(0..5) > 0 {
        let tenants: Vec<u32> = (1..5).filter(|_| rng.bool()).collect();
        claims["tenants"] = json!(tenants);
    }
    if rng.u32(0..5) > 0 {
        claims["level"] = json!(rng.u32(0..6));
    }
    claims
}
