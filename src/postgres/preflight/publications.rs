//! Omissions and conflicts of publications: with each other, and with a slot that is older than they are.

use super::all_tables::Endangered;
use super::{Code, Inspection, listed, names};
use crate::event::quote_identifier;
use crate::postgres::error::Error;
use crate::postgres::select::{Parameter, PgType};
use crate::postgres::slot::Publication;

impl Inspection<'_> {
    /// Row filters and column lists, which there are since 15.
    pub(super) fn lists_and_filters(&mut self) -> Result<(), Error> {
        if self.sql.server_version_num() < 150_000 {
            return Ok(());
        }
        let tables = self.publication_tables();
        let table = "pg_catalog.format('%I.%I', schemaname, tablename)";
        let rows = self.of_publications(&format!(
            "SELECT {table}, pg_catalog.string_agg(pg_catalog.quote_ident(pubname), ', ' ORDER BY pubname), relid \
             FROM {tables} t WHERE pubname = ANY ($1) \
             GROUP BY relid, schemaname, tablename HAVING pg_catalog.count(DISTINCT attnames) > 1 ORDER BY 1"
        ))?;
        for row in &rows {
            let table: &str = row.get(0, "table")?;
            let publications: &str = row.get(1, "publications")?;
            let all = self.publications.clone();
            let relisted = self.relisting(&all, Some(row.get(2, "oid")?), Without::List)?;
            self.blocks(
                Code::ColumnListsConflict,
                format!("the publications {publications} publish different columns of {table}: the server fails at its first change"),
                format!(
                    "Name fewer by --publication, or give {table} the same column list in all of them; to publish all of its \
                     columns:\n{}",
                    relisted.join("\n")
                ),
            );
        }
        let rows = self.of_publications(&format!(
            "SELECT pubname, pg_catalog.quote_ident(pubname), pg_catalog.array_agg({table} ORDER BY {table}) \
             FROM {tables} t WHERE pubname = ANY ($1) AND qual IS NOT NULL GROUP BY pubname ORDER BY 2"
        ))?;
        for row in &rows {
            let publication: &str = row.get(1, "publication")?;
            let tables: Vec<String> = row.get(2, "tables")?;
            let relisted = self.relisting(&[row.get(0, "publication")?], None, Without::Filter)?;
            self.warns(
                Code::PublicationFiltered,
                format!(
                    "the publication {publication} has a row filter for {}: rows outside it never come",
                    listed(&tables)
                ),
                format!("If subscriptions are to see all rows:\n{}", relisted.join("\n")),
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
        let rows = self.sql.select(
            "SELECT pg_catalog.quote_ident(p.pubname) FROM pg_catalog.pg_publication p, pg_catalog.pg_replication_slots s \
             WHERE s.slot_name = $2 AND s.catalog_xmin IS NOT NULL AND p.pubname = ANY ($1) \
             AND pg_catalog.age(p.xmin) <= pg_catalog.age(s.catalog_xmin) ORDER BY 1",
            &[
                (&self.publications, PgType::TEXT_ARRAY),
                (&self.wanted.slot.as_str(), PgType::TEXT),
            ],
        )?;
        let younger = names(&rows, 0)?;
        if !younger.is_empty() {
            let name = &self.wanted.slot;
            let create = self.sql.slot_creation(name, self.wanted.plugin.as_str())?;
            self.warns(
                Code::PublicationYoungerThanSlot,
                format!(
                    "{} was made or altered after the slot {name}: if it was made, and rows were written in between, the slot \
                     cannot pass them (\"publication … does not exist\")",
                    listed(&younger)
                ),
                format!(
                    "Nothing is to be done unless serve says so. Then name only publications that are older than the slot \
                     (--publication), by which nothing is lost. The last way out is to create the slot again: what was written \
                     meanwhile and walcast has not read is lost, a new epoch begins, and clients resubscribe with new snapshots:\n\
                     SELECT pg_drop_replication_slot('{name}');\n{create};"
                ),
            );
        }
        Ok(())
    }

    /// Publications that are not there: how they are made without having the application's writes fail.
    pub(super) fn missing_publications(&mut self) -> Result<(), Error> {
        let missing = self.sql.missing_publications(&self.wanted.publications)?;
        if missing.is_empty() {
            return Ok(());
        }
        let endangered = self.endangered()?;
        if self.wanted.create_publication {
            self.right_to_create(&missing, &endangered)?;
            if !endangered.is_empty() {
                let tables: Vec<String> = endangered
                    .iter()
                    .map(|endangered| endangered.table.clone())
                    .collect();
                let cures: Vec<&str> = endangered
                    .iter()
                    .map(|endangered| endangered.cure.as_str())
                    .collect();
                self.blocks(
                    Code::PublicationEndangersWrites,
                    format!(
                        "a publication of all tables (--create-publication) would have UPDATE and DELETE fail on {}, which \
                         have no replica identity that can be published",
                        listed(&tables)
                    ),
                    format!(
                        "Give each of them a replica identity, or publish some tables by name (sql/setup.sql) without --create-publication:\n{}",
                        cures.join("\n")
                    ),
                );
            }
            return Ok(());
        }
        for name in &missing {
            let some = quote_identifier(name.as_str());
            self.blocks(
                Code::PublicationMissing,
                format!("there is no publication {name} in this database"),
                format!(
                    "{}\n-- or of some tables, each with a replica identity: CREATE PUBLICATION {some} FOR TABLE …;",
                    self.creation(name, &endangered)
                ),
            );
        }
        Ok(())
    }

    fn right_to_create(&mut self, missing: &[Publication], endangered: &[Endangered]) -> Result<(), Error> {
        // The administrators of hosted servers, whom the hosts let do it.
        let row = self.sql.select_one(
            "preflight",
            "SELECT current_user, rolsuper OR EXISTS (SELECT 1 FROM pg_catalog.pg_roles r WHERE r.rolname IN \
             ('rds_superuser', 'cloudsqlsuperuser', 'alloydbsuperuser', 'azure_pg_admin') \
             AND pg_catalog.pg_has_role(r.oid, 'MEMBER')), pg_catalog.current_database() \
             FROM pg_catalog.pg_roles WHERE rolname = current_user",
            &[],
        )?;
        if row.get(1, "right")? {
            return Ok(());
        }
        let role: &str = row.get(0, "role")?;
        let database: &str = row.get(2, "database")?;
        // What is to be done first is said once.
        let first = missing.iter().take(1);
        let rest = missing.iter().skip(1);
        let sql: Vec<String> = first
            .map(|name| self.creation(name, endangered))
            .chain(rest.map(|name| self.creation(name, &[])))
            .collect();
        self.blocks(
            Code::CannotCreatePublication,
            format!(
                "there is no publication {}, and {role} may not create one of all tables",
                listed(&missing.iter().map(Publication::to_string).collect::<Vec<_>>())
            ),
            format!("As a superuser, in the database {database}:\n{}", sql.join("\n")),
        );
        Ok(())
    }

    /// The SQL that lists tables again in these publications: all that have a part to be left out, or of one table those
    /// by which it is published. Unlike `SET TABLE`, it leaves the publication's other tables alone.
    pub(super) fn relisting(
        &mut self,
        publications: &[&str],
        table: Option<u32>,
        without: Without,
    ) -> Result<Vec<String>, Error> {
        // A row filter is not printed: that would lock the table (`pg_get_expr`).
        let rest = match without {
            Without::List => "CASE WHEN r.prqual IS NOT NULL THEN ' WHERE (…)' END",
            Without::Filter => {
                "' (' || (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) \
                     FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs)) || ')'"
            }
        };
        let has = match without {
            Without::List => "r.prattrs",
            Without::Filter => "r.prqual",
        };
        let sql = format!(
            "SELECT pg_catalog.format('BEGIN; ALTER PUBLICATION %1$I DROP TABLE %2$s; \
                 ALTER PUBLICATION %1$I ADD TABLE %2$s%3$s; COMMIT;', p.pubname, \
                 CASE WHEN c.relkind = 'r' AND c.relhassubclass THEN 'ONLY ' ELSE '' END || c.oid::pg_catalog.regclass, {rest}) \
             FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid \
             JOIN pg_catalog.pg_class c ON c.oid = r.prrelid WHERE {has} IS NOT NULL AND p.pubname = ANY ($1) \
             AND ($2 IS NULL OR c.oid = $2 OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors($2))) ORDER BY 1"
        );
        let parameters: [Parameter<'_>; 2] = [(&publications, PgType::TEXT_ARRAY), (&table, PgType::OID)];
        let rows = self.sql.select(&sql, &parameters)?;
        rows.iter().map(|row| row.get(0, "publication")).collect()
    }
}

/// The part of a table's entry in a publication that is left out when it is listed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// The list of columns.
    List,
    /// The row filter.
    Filter,
}
