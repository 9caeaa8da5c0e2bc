//! Tables that the application could not update any more if they were published with their updates.

use super::Inspection;
use crate::event::quote_identifier;
use crate::postgres::error::Error;
use crate::postgres::select::{Parameter, PgType};
use crate::postgres::slot::{Publication, publication_of_all_tables};

/// A table whose UPDATE and DELETE would fail.
pub(super) struct Endangered {
    /// As SQL has it.
    pub(super) table: String,
    /// The SQL after which they would not.
    pub(super) cure: String,
}

impl Inspection<'_> {
    /// The tables whose UPDATE and DELETE would fail once [`publication_of_all_tables`] publishes them.
    pub(super) fn endangered(&mut self) -> Result<Vec<Endangered>, Error> {
        self.endangered_among("true", &[])
    }

    /// The SQL that creates a publication of all tables, behind the statements by which the endangered ones can still
    /// be updated.
    pub(super) fn creation(&self, name: &Publication, endangered: &[Endangered]) -> String {
        let create = publication_of_all_tables(name, self.sql.server_version_num());
        let first = endangered.iter().map(|endangered| endangered.cure.as_str());
        first.chain([create.as_str()]).collect::<Vec<_>>().join("\n")
    }

    /// The SQL that has a publication of some operations publish all of them, behind the statements by which its
    /// tables can still be updated.
    pub(super) fn completion(&mut self, publication: &str) -> Result<String, Error> {
        let of_it = format!(
            "EXISTS (SELECT 1 FROM {} t WHERE t.pubname = $1 AND (t.relid = c.oid \
                 OR t.relid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(c.oid))))",
            self.publication_tables()
        );
        let name: [Parameter<'_>; 1] = [(&publication, PgType::TEXT)];
        let endangered = self.endangered_among(&of_it, &name)?;
        let mut options = "publish = 'insert, update, delete, truncate'".to_owned();
        if self.sql.server_version_num() >= 180_000 {
            let sql = format!(
                "SELECT 1 FROM pg_catalog.pg_publication p, pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a \
                 ON a.attrelid = c.oid AND a.attnum > 0 AND a.attgenerated = 's' \
                 WHERE p.pubname = $1 AND p.pubgencols <> 's' AND c.relkind = 'r' AND {of_it} LIMIT 1"
            );
            if !self.sql.select(&sql, &name)?.is_empty() {
                options.push_str(", publish_generated_columns = stored");
            }
        }
        let complete = format!(
            "ALTER PUBLICATION {} SET ({options});",
            quote_identifier(publication)
        );
        let first = endangered.iter().map(|endangered| endangered.cure.as_str());
        Ok(first.chain([complete.as_str()]).collect::<Vec<_>>().join("\n"))
    }

    /// Of the tables that `scope`, a condition on `c` of `pg_class`, holds for (`CheckCmdReplicaIdentity` in the
    /// server's source says what fails): those without a replica identity, and those of which FULL would hold virtual
    /// columns.
    fn endangered_among(
        &mut self,
        scope: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Endangered>, Error> {
        let has_virtual = match self.sql.server_version_num() {
            180_000.. => {
                "EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
                 AND a.attgenerated = 'v')"
            }
            _ => "false",
        };
        let sql = format!(
            "SELECT c.oid::pg_catalog.regclass::text, has.primary_key, has.virtual_columns \
             FROM pg_catalog.pg_class c CROSS JOIN LATERAL (SELECT {has_virtual} AS virtual_columns, \
                 EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indimmediate AND i.indisvalid \
                     AND i.indisprimary) AS primary_key, \
                 EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indimmediate AND i.indisvalid \
                     AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END) AS identity) has \
             WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND pg_catalog.pg_relation_is_publishable(c.oid) \
             AND CASE c.relreplident WHEN 'f' THEN has.virtual_columns ELSE NOT has.identity END AND {scope} ORDER BY 1"
        );
        let rows = self.sql.select(&sql, parameters)?;
        let endangered = rows.iter().map(|row| {
            let table: String = row.get(0, "table")?;
            let cure = match (row.get(1, "primary key")?, row.get(2, "virtual columns")?) {
                (true, _) => format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT;"),
                (false, false) => format!(
                    "ALTER TABLE {table} REPLICA IDENTITY FULL;  -- or: ALTER TABLE {table} ADD PRIMARY KEY (…);"
                ),
                (false, true) => format!(
                    "ALTER TABLE {table} REPLICA IDENTITY DEFAULT, ADD PRIMARY KEY (…);  -- it has virtual generated columns"
                ),
            };
            Ok(Endangered { table, cure })
        });
        endangered.collect()
    }
}
