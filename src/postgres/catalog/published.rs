//! The part that the publications have of a table, asked by its name: for streams that do not know publications.

use super::super::publication_tables::publication_tables;
use super::super::slot::WRITTEN;
use super::*;
use crate::event::{Lookup, Published};
use crate::lsn::Lsn;

/// The number of times that a partition is looked at which is altered meanwhile. After that the stream starts again at
/// the journal's head, as after any other question that failed, and asks again.
const LOOKS: usize = 20;

impl Catalog {
    /// The part that the publications have of the table of that name now, and how far the server had written before
    /// that was asked: no transaction up to there changed it. It is asked because of a row that commits at `commit`.
    pub fn published_as(
        &mut self,
        publications: &[Publication],
        table: &TableName,
        commit: Lsn,
    ) -> Result<(Lsn, Lookup), Error> {
        Ok((self.written()?, self.lookup(publications, table, commit)?))
    }

    /// The position up to which the server has written.
    pub fn written(&mut self) -> Result<Lsn, Error> {
        self.session.ask_one("position", WRITTEN)?.get(0, "position")
    }

    fn lookup(
        &mut self,
        publications: &[Publication],
        table: &TableName,
        commit: Lsn,
    ) -> Result<Lookup, Error> {
        let names: Vec<&str> = publications.iter().map(Publication::as_str).collect();
        let parameters: [Parameter<'_>; 3] = [
            (&names, PgType::TEXT_ARRAY),
            (&table.schema, PgType::TEXT),
            (&table.name, PgType::TEXT),
        ];
        if publications.is_empty() {
            return Ok(Lookup::Unpublished);
        }
        for _ in 0..LOOKS {
            let found = self.session.ask(sql, &parameters)?;
            let Some(row) = found.first() else {
                let exists = self.session.ask(|_| EXISTS.to_owned(), &parameters)?;
                return Ok(if exists.is_empty() {
                    Lookup::Gone
                } else {
                    Lookup::Unpublished
                });
            };
            let root = TableName::new(row.get::<&str>(0, "schema")?, row.get::<&str>(1, "table")?);
            let scope = Scope::Published(publications, Some(&root));
            // Between two questions it may have been dropped.
            let Some(published) = tables::read(&mut self.session, &scope)?.pop() else {
                return Ok(Lookup::Gone);
            };
            if row.get(2, "root")? {
                // A column may have changed its name in the partition as in the root.
                let again = self.session.ask(sql, &parameters)?;
                let columns = |row: &TypedRow| row.get::<Option<Vec<String>>>(8, "columns of a partition");
                let again = again.first().map(columns).transpose()?;
                if again != Some(columns(row)?) {
                    continue;
                }
                // No stream of this kind says that a partition was attached, or logs something else.
                self.writers.remove(&published.oid());
                self.answers.forget(published.oid());
            }
            return Ok(Lookup::Published(self.published_by(row, published, commit)?));
        }
        Err(Error::Answer {
            question: "what is published of a partition",
            problem: format!("{table} was altered between two questions each of {LOOKS} times"),
        })
    }

    fn published_by(&self, row: &TypedRow, published: Table, commit: Lsn) -> Result<Published, Error> {
        let seen = published.written;
        let layout = published.layout.clone();
        let before = self.layouts.before(published.oid(), commit);
        let renamed = before.map_or_else(Vec::new, |before| before.names_of_others(&layout));
        let is_published = |name: &str| published.columns.iter().any(|column| column.name == name);
        let names = || layout.columns.iter().map(|column| column.name.clone());
        let left_out = names().filter(|name| !is_published(name)).collect();
        let via_root = row.get(2, "root")?;
        let order = if via_root {
            row.get(8, "columns of a partition")?
        } else {
            names().collect()
        };
        let Relation {
            oid,
            table,
            replica_identity,
            columns,
            ..
        } = published.into_relation(|_| Kind::Other);
        let numbers = columns.iter().map(|column| column.attnum).collect();
        let column = |column: Column| StreamColumn {
            name: column.name,
            type_oid: column.ty.oid,
            typmod: column.typmod,
            identity: column.identity,
        };
        Ok(Published {
            relation: StreamRelation {
                oid,
                table,
                replica_identity,
                columns: columns.into_iter().map(column).collect(),
            },
            numbers,
            order,
            seen,
            renamed,
            left_out,
            via_root,
            row_filter: row.get(3, "row filter")?,
            insert: row.get(4, "pubinsert")?,
            update: row.get(5, "pubupdate")?,
            delete: row.get(6, "pubdelete")?,
            truncate: row.get(7, "pubtruncate")?,
        })
    }
}

/// The table itself or the topmost of its ancestors that the publications list: what its changes are published as. The
/// operations are those that publications have of any of them. `$1` are our publications, `$2` and `$3` the table's
/// names.
fn sql(version: u32) -> String {
    let row_filter = match version {
        150_000.. => "pg_catalog.bool_or(t.qual IS NOT NULL)",
        _ => "false",
    };
    format!(
        "SELECT n.nspname, c.relname, c.oid <> named.oid, {row_filter}, \
             pg_catalog.bool_or(pg_catalog.bool_or(p.pubinsert)) OVER (), pg_catalog.bool_or(pg_catalog.bool_or(p.pubupdate)) OVER (), \
             pg_catalog.bool_or(pg_catalog.bool_or(p.pubdelete)) OVER (), pg_catalog.bool_or(pg_catalog.bool_or(p.pubtruncate)) OVER (), \
             (SELECT pg_catalog.array_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a \
              WHERE a.attrelid = named.oid AND a.attnum > 0 AND NOT a.attisdropped) \
         FROM (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $2 AND c.relname = $3) named \
         CROSS JOIN LATERAL (SELECT named.oid AS relid, 0 AS level UNION ALL \
             SELECT a.relid, a.level FROM pg_catalog.pg_partition_ancestors(named.oid) \
             WITH ORDINALITY a(relid, level) WHERE a.relid <> named.oid) ancestor \
         JOIN pg_catalog.pg_class c ON c.oid = ancestor.relid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN {tables} t ON t.relid = c.oid \
         JOIN pg_catalog.pg_publication p ON p.pubname = t.pubname \
         WHERE p.pubname = ANY ($1) \
         GROUP BY n.nspname, c.relname, c.oid, named.oid, ancestor.level \
         ORDER BY ancestor.level DESC LIMIT 1",
        tables = publication_tables(version),
    )
}

/// Asks whether the database has the table, with the parameters of [`sql`].
const EXISTS: &str = "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $2 AND c.relname = $3";
