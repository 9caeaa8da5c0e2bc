//! The rights of the role to read: changes stream without any right, but the rows that are there need one.

use super::{Code, Inspection, listed, names};
use crate::event::quote_identifier;
use crate::postgres::connection::Row;
use crate::postgres::error::Error;

impl Inspection<'_> {
    pub(super) fn rights(&mut self) -> Result<(), Error> {
        // Column lists are there since 15.
        let is_published = match self.sql.server_version_num() {
            150_000.. => "a.attname = ANY (t.attnames)",
            _ => "true",
        };
        let may_read = "pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')";
        let rows = self.sql.query(&format!(
            "SELECT c.oid::pg_catalog.regclass::text, current_user, \
                 pg_catalog.quote_ident(n.nspname), pg_catalog.has_schema_privilege(n.oid, 'USAGE'), \
                 pg_catalog.row_security_active(c.oid), \
                 pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(a.attname), ', ') \
                     FILTER (WHERE {is_published} AND NOT {may_read}), \
                 pg_catalog.bool_and({is_published}) \
             FROM {tables} t \
             JOIN pg_catalog.pg_class c ON c.oid = t.relid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             WHERE {wanted} GROUP BY c.oid, n.oid, n.nspname ORDER BY 1",
            tables = self.publication_tables(),
            wanted = self.is_wanted("t.pubname")
        ))?;
        let Some(role) = rows.first().and_then(|row| row.get(1)).map(quote_identifier) else {
            return Ok(());
        };
        self.select_rights(&rows, &role);
        self.row_security(&rows, &role);
        Ok(())
    }

    fn select_rights(&mut self, rows: &[Row], role: &str) {
        let unreadable = names(rows, 0, |row| !row.is_true(3) || row.get(5).is_some());
        if unreadable.is_empty() {
            return;
        }
        let mut grants = Vec::new();
        let schemas = names(rows, 2, |row| !row.is_true(3));
        if !schemas.is_empty() {
            grants.push(format!("GRANT USAGE ON SCHEMA {} TO {role};", schemas.join(", ")));
        }
        let whole = names(rows, 0, |row| row.get(5).is_some() && row.is_true(6));
        if !whole.is_empty() {
            grants.push(format!("GRANT SELECT ON {} TO {role};", whole.join(", ")));
        }
        // Of tables with a column list, no more than is published.
        for row in rows.iter().filter(|row| !row.is_true(6)) {
            if let (Some(table), Some(columns)) = (row.get(0), row.get(5)) {
                grants.push(format!("GRANT SELECT ({columns}) ON {table} TO {role};"));
            }
        }
        self.warns(
            Code::NoSelectRight,
            format!(
                "{role} may not read {}: their changes stream all the same, but subscriptions with \"snapshot\" are refused",
                listed(&unreadable)
            ),
            grants.join("\n"),
        );
    }

    fn row_security(&mut self, rows: &[Row], role: &str) {
        let hidden = names(rows, 0, |row| row.is_true(4));
        if !hidden.is_empty() {
            self.warns(
                Code::RowSecurity,
                format!(
                    "row-level security hides rows of {} from {role}: their changes stream all the same, but subscriptions \
                     with \"snapshot\" are refused",
                    listed(&hidden)
                ),
                format!("ALTER ROLE {role} BYPASSRLS;"),
            );
        }
    }
}
