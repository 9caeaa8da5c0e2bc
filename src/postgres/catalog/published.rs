//! What the publications have of a table, asked by its name: for streams that do not know publications.

use super::super::publication_tables::publication_tables;
use super::super::slot::WRITTEN;
use super::*;
use crate::event::{Lookup, Published};
use crate::lsn::Lsn;

impl Catalog {
    /// What the publications have of the table of that name now, and how far the server had written before that was
    /// asked: no transaction up to there changed it.
    pub fn published_as(
        &mut self,
        publications: &[Publication],
        table: &TableName,
    ) -> Result<(Lsn, Lookup), Error> {
        Ok((self.written()?, self.lookup(publications, table)?))
    }

    /// How far the server has written.
    pub fn written(&mut self) -> Result<Lsn, Error> {
        let written = self.session.ask(|_| WRITTEN.to_owned())?;
        match written.first() {
            Some(row) => row.parse(0, "position"),
            None => Ok(Lsn::ZERO),
        }
    }

    fn lookup(&mut self, publications: &[Publication], table: &TableName) -> Result<Lookup, Error> {
        let names = quote_literals(publications.iter().map(Publication::as_str));
        if publications.is_empty() {
            return Ok(Lookup::Unpublished);
        }
        let found = self.session.ask(|version| sql(&names, table, version))?;
        let Some(row) = found.first() else {
            let exists = self.session.ask(|_| exists_sql(table))?;
            return Ok(match exists.is_empty() {
                true => Lookup::Gone,
                false => Lookup::Unpublished,
            });
        };
        let root = TableName::new(row.text(0, "schema")?, row.text(1, "table")?);
        let oid: u32 = row.parse(2, "table's OID")?;
        let all = tables::read(&mut self.session, &Scope::Oid(oid, publications, false))?.pop();
        let scope = Scope::Published(publications, Some(&root));
        let published = tables::read(&mut self.session, &scope)?.pop();
        // Between two questions it may have been dropped.
        let (Some(all), Some(published)) = (all, published) else {
            return Ok(Lookup::Gone);
        };
        let is_published = |name: &str| published.columns.iter().any(|column| column.name == name);
        let columns = all.columns.into_iter().map(|column| column.name);
        let left_out = columns.filter(|name| !is_published(name)).collect();
        let Relation {
            oid,
            table,
            replica_identity,
            columns,
            ..
        } = published.into_relation(|_| Kind::Other);
        let column = |column: Column| StreamColumn {
            name: column.name,
            type_oid: column.ty.oid,
            typmod: column.typmod,
            identity: column.identity,
        };
        Ok(Lookup::Published(Published {
            relation: StreamRelation {
                oid,
                table,
                replica_identity,
                columns: columns.into_iter().map(column).collect(),
            },
            left_out,
            via_root: row.is_true(3),
            row_filter: row.is_true(4),
            insert: row.is_true(5),
            update: row.is_true(6),
            delete: row.is_true(7),
            truncate: row.is_true(8),
        }))
    }
}

/// The table itself or the topmost of its ancestors that the publications list: what its changes are published as.
fn sql(publications: &str, table: &TableName, version: u32) -> String {
    let (schema, name) = (quote_literal(&table.schema), quote_literal(&table.name));
    let row_filter = match version {
        150_000.. => "pg_catalog.bool_or(t.qual IS NOT NULL)",
        _ => "false",
    };
    format!(
        "SELECT n.nspname, c.relname, c.oid, c.oid <> named.oid, {row_filter}, \
             pg_catalog.bool_or(p.pubinsert), pg_catalog.bool_or(p.pubupdate), \
             pg_catalog.bool_or(p.pubdelete), pg_catalog.bool_or(p.pubtruncate) \
         FROM (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = {schema} AND c.relname = {name}) named \
         CROSS JOIN LATERAL (SELECT named.oid AS relid, 0 AS level UNION ALL \
             SELECT a.relid, a.level FROM pg_catalog.pg_partition_ancestors(named.oid) \
             WITH ORDINALITY a(relid, level) WHERE a.relid <> named.oid) ancestor \
         JOIN pg_catalog.pg_class c ON c.oid = ancestor.relid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN {tables} t ON t.relid = c.oid \
         JOIN pg_catalog.pg_publication p ON p.pubname = t.pubname \
         WHERE p.pubname IN ({publications}) \
         GROUP BY n.nspname, c.relname, c.oid, named.oid, ancestor.level \
         ORDER BY ancestor.level DESC LIMIT 1",
        tables = publication_tables(version),
    )
}

fn exists_sql(table: &TableName) -> String {
    let (schema, name) = (quote_literal(&table.schema), quote_literal(&table.name));
    format!(
        "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = {schema} AND c.relname = {name}"
    )
}
