//! Columns that are never null, which the stream does not say.

use std::collections::HashSet;

use super::*;

/// Of the tables `$1`, the columns that are never null. Since 18 a constraint may not be validated yet: rows that are
/// older than it may hold nulls.
fn sql(version: u32) -> String {
    let validated = if version >= 180_000 {
        " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint c WHERE c.conrelid = a.attrelid AND c.contype = 'n' \
              AND c.conkey = ARRAY[a.attnum] AND NOT c.convalidated)"
    } else {
        ""
    };
    format!(
        "SELECT a.attrelid, a.attname::text FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull{validated}"
    )
}

impl Catalog {
    /// The columns of tables that are never null, by the table's OID and their names.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn not_null(&mut self, tables: &[u32]) -> Result<HashSet<(u32, String)>, Error> {
        const QUESTION: &str = "the columns that are never null";
        let rows = self.session.ask(sql, &[(&tables, PgType::OID_ARRAY)])?;
        rows.iter()
            .map(|row| Ok((row.get(0, QUESTION)?, row.get(1, QUESTION)?)))
            .collect()
    }

    /// The name of the database.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn database(&mut self) -> Result<String, Error> {
        const QUESTION: &str = "the database's name";
        let row = self
            .session
            .ask_one(QUESTION, "SELECT pg_catalog.current_database()::text")?;
        row.get(0, QUESTION)
    }
}
