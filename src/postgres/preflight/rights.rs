//! The rights of the role to read: changes stream without any right, but the rows that are there need one.

use super::{Code, FoundTable, Inspection, Severity, distinct, listed};
use crate::event::{TableName, quote_identifier};
use crate::postgres::error::Error;
use crate::postgres::select::TypedRow;

/// The role's rights to a table, all names as SQL has them.
struct Rights {
    table: String,
    name: TableName,
    schema: String,
    may_use_schema: bool,
    /// True if row-level security hides rows from the role.
    secured: bool,
    /// The published columns that it may not read.
    unreadable: Option<String>,
    /// True if all columns are published.
    is_whole: bool,
}

impl Rights {
    fn read(row: &TypedRow) -> Result<Rights, Error> {
        Ok(Rights {
            table: row.get(0, "table")?,
            name: TableName::new(row.get::<&str>(7, "schema")?, row.get::<&str>(8, "table")?),
            schema: row.get(2, "schema")?,
            may_use_schema: row.get(3, "right to the schema")?,
            secured: row.get(4, "row security")?,
            unreadable: row.get(5, "right to columns")?,
            is_whole: row.get(6, "columns")?,
        })
    }

    /// The SQL that lets the role read this table.
    fn grants(&self, role: &str) -> Vec<String> {
        let mut grants = Vec::new();
        if !self.may_use_schema {
            grants.push(format!("GRANT USAGE ON SCHEMA {} TO {role};", self.schema));
        }
        if self.is_whole && self.unreadable.is_some() {
            grants.push(format!("GRANT SELECT ON {} TO {role};", self.table));
        }
        if !self.is_whole {
            grants.extend(self.grant_of_columns(role));
        }
        grants
    }

    fn grant_of_columns(&self, role: &str) -> Option<String> {
        let columns = self.unreadable.as_ref()?;
        Some(format!("GRANT SELECT ({columns}) ON {} TO {role};", self.table))
    }
}

/// The names in those that fit.
fn names(
    rights: &[Rights],
    name: impl Fn(&Rights) -> &String,
    fits: impl Fn(&Rights) -> bool,
) -> Vec<String> {
    let fitting = rights.iter().filter(|rights| fits(rights));
    distinct(fitting.map(|rights| name(rights).clone()).collect())
}

impl Inspection<'_> {
    pub(super) fn rights(&mut self) -> Result<(), Error> {
        // Column lists are there since 15.
        let is_published = match self.sql.server_version_num() {
            150_000.. => "a.attname = ANY (t.attnames)",
            _ => "true",
        };
        let may_read = "pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')";
        let rows = self.of_publications(&format!(
            "SELECT c.oid::pg_catalog.regclass::text, current_user, \
                 pg_catalog.quote_ident(n.nspname), pg_catalog.has_schema_privilege(n.oid, 'USAGE'), \
                 pg_catalog.row_security_active(c.oid), \
                 pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(a.attname), ', ') \
                     FILTER (WHERE {is_published} AND NOT {may_read}), \
                 pg_catalog.bool_and({is_published}), n.nspname, c.relname \
             FROM {tables} t \
             JOIN pg_catalog.pg_class c ON c.oid = t.relid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             WHERE t.pubname = ANY ($1) GROUP BY c.oid, c.relname, n.oid, n.nspname ORDER BY 1",
            tables = self.publication_tables(),
        ))?;
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let role = quote_identifier(first.get(1, "role")?);
        let rights: Vec<Rights> = rows.iter().map(Rights::read).collect::<Result<_, _>>()?;
        self.select_rights(&rights, &role);
        self.row_security(&rights, &role);
        Ok(())
    }

    fn select_rights(&mut self, rights: &[Rights], role: &str) {
        let is_unreadable = |of: &Rights| !of.may_use_schema || of.unreadable.is_some();
        let unreadable = names(rights, |of| &of.table, is_unreadable);
        if unreadable.is_empty() {
            return;
        }
        let what = |tables: &str| {
            format!(
                "{role} may not read {tables}: their changes stream all the same, but subscriptions with \"snapshot\" are \
                 refused"
            )
        };
        let mut grants = Vec::new();
        let schemas = names(rights, |of| &of.schema, |of| !of.may_use_schema);
        if !schemas.is_empty() {
            grants.push(format!("GRANT USAGE ON SCHEMA {} TO {role};", schemas.join(", ")));
        }
        let whole = names(
            rights,
            |of| &of.table,
            |of| of.unreadable.is_some() && of.is_whole,
        );
        if !whole.is_empty() {
            grants.push(format!("GRANT SELECT ON {} TO {role};", whole.join(", ")));
        }
        // Of tables with a column list, no more than is published.
        for of in rights.iter().filter(|of| !of.is_whole) {
            grants.extend(of.grant_of_columns(role));
        }
        let tables = rights.iter().filter(|of| is_unreadable(of)).map(|of| FoundTable {
            table: of.name.clone(),
            what: what(&of.table),
            cure: of.grants(role).join("\n"),
        });
        self.find(
            Severity::Warns,
            Code::NoSelectRight,
            what(&listed(&unreadable)),
            grants.join("\n"),
            tables.collect(),
        );
    }

    fn row_security(&mut self, rights: &[Rights], role: &str) {
        let hidden = names(rights, |of| &of.table, |of| of.secured);
        if hidden.is_empty() {
            return;
        }
        let what = |tables: &str| {
            format!(
                "row-level security hides rows of {tables} from {role}: their changes stream all the same, but subscriptions \
                 with \"snapshot\" are refused"
            )
        };
        let cure = format!("ALTER ROLE {role} BYPASSRLS;");
        let tables = rights.iter().filter(|of| of.secured).map(|of| FoundTable {
            table: of.name.clone(),
            what: what(&of.table),
            cure: cure.clone(),
        });
        let tables = tables.collect();
        self.find(
            Severity::Warns,
            Code::RowSecurity,
            what(&listed(&hidden)),
            cure,
            tables,
        );
    }
}
