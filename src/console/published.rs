//! The published tables as the database has them now, with what is wrong with them.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::Checked;
use crate::event::{Relation, TableName, quote_literal};
use crate::policy::Misfit;
use crate::postgres::{Catalog, ConnInfo, Connection, Error, Finding, Purpose, Severity, publication_tables};
use crate::types::Kind;

/// A table with everything about its publication. Columns that are not published are among its columns, too.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PublishedTable {
    #[serde(skip)]
    pub(super) name: TableName,
    table: String,
    schema: String,
    #[serde(rename = "name")]
    own_name: String,
    key: Vec<String>,
    replica_identity: String,
    columns: Vec<ColumnOfTable>,
    row_filters: Vec<Option<String>>,
    publications: Vec<String>,
    publishes: Vec<&'static str>,
    problems: Vec<Problem>,
}

#[derive(Clone, Debug, Serialize)]
struct ColumnOfTable {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    key: bool,
    published: bool,
    #[serde(rename = "enum", skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<String>>,
}

/// Something that is not as it should be, with the SQL that mends it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Problem {
    severity: &'static str,
    message: String,
    fix: Option<String>,
}

impl Problem {
    fn new(severity: Severity, message: &str, cure: &str) -> Problem {
        Problem {
            severity: match severity {
                Severity::Blocks => "error",
                Severity::Warns => "warning",
            },
            message: message.to_owned(),
            fix: Some(cure.to_owned()).filter(|cure| !cure.is_empty()),
        }
    }
}

/// A finding about a table, or about something else.
#[derive(Debug, Serialize)]
struct Told {
    table: Option<String>,
    #[serde(flatten)]
    problem: Problem,
}

impl PublishedTable {
    /// Leaves out what only those may see who may see rows: the row filters, though not that there are some.
    pub(super) fn hide(&mut self) {
        self.row_filters.fill(None);
    }
}

/// The findings of a check: one about several tables is told once for each of them, with the SQL that mends it there. Of a
/// policy, which may have values in its condition, only `shows` tells more than its place.
pub(super) fn findings(checked: &Checked, shows: bool) -> Value {
    let mut told = Vec::new();
    for finding in &checked.findings {
        if finding.tables.is_empty() {
            let problem = Problem::new(finding.severity, &finding.what, &finding.cure);
            told.push(Told { table: None, problem });
        }
        told.extend(finding.tables.iter().map(|of| Told {
            table: Some(of.table.to_string()),
            problem: Problem::new(finding.severity, &of.what, &of.cure),
        }));
    }
    told.extend(checked.misfits.iter().map(|Misfit { is_error, error }| {
        let severity = if *is_error {
            Severity::Blocks
        } else {
            Severity::Warns
        };
        let message = if shows {
            error.to_string()
        } else {
            let (path, place) = (error.path.display(), error.place);
            format!(
                "{path}:{}:{}: a policy does not fit the tables: walcast check --config says why",
                place.line, place.column
            )
        };
        Told {
            table: None,
            problem: Problem::new(severity, &message, ""),
        }
    }));
    json!(told)
}

/// Adds to each table the findings about it.
pub(super) fn judge(tables: &mut [PublishedTable], findings: &[Finding]) {
    let mut by_name: HashMap<TableName, Vec<Problem>> = HashMap::new();
    for finding in findings {
        for of in &finding.tables {
            let problems = by_name.entry(of.table.clone()).or_default();
            problems.push(Problem::new(finding.severity, &of.what, &of.cure));
        }
    }
    for table in tables {
        table.problems = by_name.remove(&table.name).unwrap_or_default();
    }
}

/// The time that the database may take for a lock. (Row filters are printed where their tables are locked.)
const LOCK_TIMEOUT: &str = "1s";

/// The most tables that are told of.
const MAX_TABLES: usize = 5_000;

/// Asks for the published tables. Blocking.
///
/// # Errors
/// The database does not answer.
pub(super) fn published(
    info: &ConnInfo,
    publications: &[crate::postgres::Publication],
) -> Result<Vec<PublishedTable>, Error> {
    let mut relations = Catalog::new(info.clone()).tables(publications)?;
    relations.sort_by(|a, b| a.table.cmp(&b.table));
    relations.truncate(MAX_TABLES);
    let mut connection = Connection::connect(info, Purpose::Query)?;
    connection.query(&format!(
        "BEGIN READ ONLY; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
    ))?;
    let names: Vec<&str> = publications.iter().map(|name| name.as_str()).collect();
    let memberships = memberships(&mut connection, &names);
    let columns =
        memberships.and_then(|memberships| Ok((memberships, all_columns(&mut connection, &relations)?)));
    connection.query("ROLLBACK")?;
    connection.close();
    let (memberships, columns) = columns?;
    let none = Vec::new();
    let tables = relations.into_iter().map(|relation| {
        let members = memberships.get(&relation.oid).unwrap_or(&none);
        let all = columns.get(&relation.oid).unwrap_or(&none_columns()).clone();
        table(&relation, members, all)
    });
    Ok(tables.collect())
}

fn none_columns() -> Vec<DatabaseColumn> {
    Vec::new()
}

/// A table's place in a publication.
#[derive(Clone, Debug)]
struct Membership {
    publication: String,
    publishes: [bool; 4],
    filter: Option<String>,
}

#[derive(Clone, Debug)]
struct DatabaseColumn {
    name: String,
    ty: String,
}

fn memberships(connection: &mut Connection, wanted: &[&str]) -> Result<HashMap<u32, Vec<Membership>>, Error> {
    let version = connection.server_version_num();
    let filter = match version {
        150_000.. => "pg_catalog.pg_get_expr(t.qual, t.relid)",
        _ => "NULL::pg_catalog.text",
    };
    let wanted: Vec<String> = wanted.iter().map(|name| quote_literal(name)).collect();
    let rows = connection.query(&format!(
        "SELECT t.relid, t.pubname, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, {filter} \
         FROM {} t JOIN pg_catalog.pg_publication p ON p.pubname = t.pubname \
         WHERE t.pubname IN ({}) ORDER BY t.pubname",
        publication_tables(version),
        wanted.join(", ")
    ))?;
    let mut found: HashMap<u32, Vec<Membership>> = HashMap::new();
    for row in rows {
        let publishes = |index| row.get(index) == Some("t");
        found.entry(row.parse(0, "relid")?).or_default().push(Membership {
            publication: row.text(1, "pubname")?.to_owned(),
            publishes: [publishes(2), publishes(3), publishes(4), publishes(5)],
            filter: row.get(6).map(str::to_owned),
        });
    }
    Ok(found)
}

fn all_columns(
    connection: &mut Connection,
    relations: &[Relation],
) -> Result<HashMap<u32, Vec<DatabaseColumn>>, Error> {
    let mut found: HashMap<u32, Vec<DatabaseColumn>> = HashMap::new();
    if relations.is_empty() {
        return Ok(found);
    }
    let oids: Vec<String> = relations
        .iter()
        .map(|relation| relation.oid.to_string())
        .collect();
    let rows = connection.query(&format!(
        "SELECT a.attrelid, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) \
         FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = ANY ('{{{}}}'::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY a.attrelid, a.attnum",
        oids.join(",")
    ))?;
    for row in rows {
        found
            .entry(row.parse(0, "attrelid")?)
            .or_default()
            .push(DatabaseColumn {
                name: row.text(1, "attname")?.to_owned(),
                ty: row.text(2, "format_type")?.to_owned(),
            });
    }
    Ok(found)
}

fn table(relation: &Relation, members: &[Membership], all: Vec<DatabaseColumn>) -> PublishedTable {
    let key = relation.key_names();
    let of_relation = |column: &crate::event::Column| ColumnOfTable {
        name: column.name.clone(),
        ty: column.ty.name.clone(),
        key: key.contains(&&*column.name),
        published: true,
        labels: labels(&column.ty.kind),
    };
    let mut columns: Vec<ColumnOfTable> = relation.columns.iter().map(of_relation).collect();
    let is_hidden = |column: &DatabaseColumn| relation.column(&column.name).is_none();
    columns.extend(all.into_iter().filter(is_hidden).map(|column| ColumnOfTable {
        name: column.name,
        ty: column.ty,
        key: false,
        published: false,
        labels: None,
    }));
    let ops = ["insert", "update", "delete", "truncate"].into_iter().enumerate();
    let is_published = |index: usize| {
        members
            .iter()
            .any(|member| member.publishes.get(index) == Some(&true))
    };
    PublishedTable {
        table: relation.table.to_string(),
        schema: relation.table.schema.clone(),
        own_name: relation.table.name.clone(),
        key: key.into_iter().map(str::to_owned).collect(),
        replica_identity: relation.replica_identity.to_string(),
        columns,
        row_filters: members
            .iter()
            .filter_map(|member| member.filter.clone())
            .map(Some)
            .collect(),
        publications: members.iter().map(|member| member.publication.clone()).collect(),
        publishes: ops
            .filter(|(index, _)| is_published(*index))
            .map(|(_, op)| op)
            .collect(),
        problems: Vec::new(),
        name: relation.table.clone(),
    }
}

fn labels(kind: &Kind) -> Option<Vec<String>> {
    match kind {
        Kind::Enum { labels, .. } => Some(labels.clone()),
        _ => None,
    }
}
