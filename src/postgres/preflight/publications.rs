//! What publications leave out, and how they conflict: with each other, and with a slot that is older than they are.

use super::{Code, Inspection, listed, names};
use crate::event::{quote_identifier, quote_literal};
use crate::postgres::error::Error;

impl Inspection<'_> {
    /// Row filters and column lists, which there are since 15.
    pub(super) fn lists_and_filters(&mut self) -> Result<(), Error> {
        if self.sql.server_version_num() < 150_000 {
            return Ok(());
        }
        let (of_wanted, tables) = (self.is_wanted("pubname"), self.publication_tables());
        let table = "pg_catalog.format('%I.%I', schemaname, tablename)";
        let rows = self.sql.query(&format!(
            "SELECT {table}, pg_catalog.string_agg(pg_catalog.quote_ident(pubname), ', ' ORDER BY pubname) \
             FROM {tables} t WHERE {of_wanted} \
             GROUP BY schemaname, tablename HAVING pg_catalog.count(DISTINCT attnames) > 1 ORDER BY 1"
        ))?;
        for row in &rows {
            let (table, publications) = (row.text(0, "table")?, row.text(1, "publications")?);
            self.blocks(
                Code::ColumnListsConflict,
                format!("the publications {publications} publish different columns of {table}: the server fails at its first change"),
                format!(
                    "Give {table} the same column list in all of them (ALTER PUBLICATION … SET TABLE …), or name fewer by --publication."
                ),
            );
        }
        let rows = self.sql.query(&format!(
            "SELECT pg_catalog.quote_ident(pubname), {table} FROM {tables} t \
             WHERE {of_wanted} AND qual IS NOT NULL ORDER BY 1, 2"
        ))?;
        for publication in names(&rows, 0, |_| true) {
            let tables = names(&rows, 1, |row| row.get(0) == Some(&publication));
            self.warns(
                Code::PublicationFiltered,
                format!(
                    "the publication {publication} has a row filter for {}: rows outside it never come",
                    listed(&tables)
                ),
                "If subscriptions are to see all rows, set the tables again without WHERE: ALTER PUBLICATION … SET TABLE …;",
            );
        }
        Ok(())
    }

    /// Changes are decoded with the catalog as it was when they were made. Before 18 the slot cannot pass one that was
    /// made before a publication that it is read with.
    pub(super) fn publications_younger_than_the_slot(&mut self) -> Result<(), Error> {
        if self.sql.server_version_num() >= 180_000 {
            return Ok(());
        }
        let slot = quote_literal(self.wanted.slot.as_str());
        let plugin = quote_literal(self.wanted.plugin.as_str());
        let rows = self.sql.query(&format!(
            "SELECT pg_catalog.quote_ident(p.pubname) FROM pg_catalog.pg_publication p, pg_catalog.pg_replication_slots s \
             WHERE s.slot_name = {slot} AND s.catalog_xmin IS NOT NULL AND {} \
             AND pg_catalog.age(p.xmin) <= pg_catalog.age(s.catalog_xmin) ORDER BY 1",
            self.is_wanted("p.pubname")
        ))?;
        let younger = names(&rows, 0, |_| true);
        if !younger.is_empty() {
            let name = &self.wanted.slot;
            self.warns(
                Code::PublicationYoungerThanSlot,
                format!(
                    "{} was made or altered after the slot {name}: if it was made, and rows were written in between, the slot \
                     cannot pass them (\"publication … does not exist\")",
                    listed(&younger)
                ),
                format!(
                    "If serve says so, make the slot anew:\nSELECT pg_drop_replication_slot({slot});\n\
                     SELECT pg_create_logical_replication_slot({slot}, {plugin});"
                ),
            );
        }
        Ok(())
    }

    /// What a missing publication costs if the slot is there already.
    pub(super) fn missing_publications(&mut self) -> Result<(), Error> {
        let missing = self.sql.missing_publications(&self.wanted.publications)?;
        if missing.is_empty() {
            return Ok(());
        }
        if self.wanted.create_publication {
            return self.right_to_create(&missing);
        }
        for name in &missing {
            let sql = quote_identifier(name.as_str());
            self.blocks(
                Code::PublicationMissing,
                format!("there is no publication {name} in this database"),
                format!("CREATE PUBLICATION {sql} FOR ALL TABLES;  -- or: FOR TABLE orders, items;"),
            );
        }
        Ok(())
    }
}
