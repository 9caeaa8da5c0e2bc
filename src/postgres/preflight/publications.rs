//! Omissions and conflicts of publications: with each other, and with a slot that is older than they are.

use super::all_tables::Endangered;
use super::{Code, FoundTable, Inspection, Severity, listed, names};
use crate::event::{TableName, quote_identifier};
use crate::postgres::error::Error;
use crate::postgres::select::{Parameter, PgType, TypedRow};
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
            "SELECT {table}, pg_catalog.string_agg(pg_catalog.quote_ident(pubname), ', ' ORDER BY pubname), relid, \
                 schemaname, tablename \
             FROM {tables} t WHERE pubname = ANY ($1) \
             GROUP BY relid, schemaname, tablename HAVING pg_catalog.count(DISTINCT attnames) > 1 ORDER BY 1"
        ))?;
        for row in &rows {
            let table: &str = row.get(0, "table")?;
            let publications: &str = row.get(1, "publications")?;
            let all = self.publications.clone();
            let relisted = self.relisting(&all, Some(row.get(2, "oid")?), Without::List)?;
            let what = format!(
                "the publications {publications} publish different columns of {table}: the server fails at its first change"
            );
            let cure = format!(
                "Name fewer by --publication, or give {table} the same column list in all of them; to publish all of its \
                 columns:\n{}",
                relisted.join("\n")
            );
            let of_table = FoundTable {
                table: TableName::new(row.get::<&str>(3, "schema")?, row.get::<&str>(4, "table")?),
                what: what.clone(),
                cure: cure.clone(),
            };
            self.find(
                Severity::Blocks,
                Code::ColumnListsConflict,
                what,
                cure,
                vec![of_table],
            );
        }
        for filtered in self.row_filters()? {
            let Some((publication, shown)) = filtered
                .first()
                .map(|one| (&one.publication, &one.shown_publication))
            else {
                continue;
            };
            let relisted = self.relistings(&[publication], None, Without::Filter)?;
            let tables: Vec<String> = filtered.iter().map(|one| one.shown_table.clone()).collect();
            let what = |tables: &str| {
                format!("the publication {shown} has a row filter for {tables}: rows outside it never come")
            };
            let cure = |relisted: Vec<&str>| {
                format!("If subscriptions are to see all rows:\n{}", relisted.join("\n"))
            };
            let found = filtered.iter().map(|one| {
                let own = relisted.iter().filter(|(oid, _)| *oid == one.oid);
                FoundTable {
                    table: one.table.clone(),
                    what: what(&one.shown_table),
                    cure: cure(own.map(|(_, sql)| &**sql).collect()),
                }
            });
            self.find(
                Severity::Warns,
                Code::PublicationFiltered,
                what(&listed(&tables)),
                cure(relisted.iter().map(|(_, sql)| &**sql).collect()),
                found.collect(),
            );
        }
        Ok(())
    }

    /// The tables with a row filter, by publication.
    pub(super) fn row_filters(&mut self) -> Result<Vec<Vec<Filtered>>, Error> {
        let rows = self.of_publications(&format!(
            "SELECT pubname, pg_catalog.quote_ident(pubname), relid, schemaname, tablename, \
                 pg_catalog.format('%I.%I', schemaname, tablename) \
             FROM {} t WHERE pubname = ANY ($1) AND qual IS NOT NULL ORDER BY 2, 6",
            self.publication_tables()
        ))?;
        let filtered = rows.iter().map(|row| {
            Ok(Filtered {
                publication: row.get(0, "publication")?,
                shown_publication: row.get(1, "publication")?,
                oid: row.get(2, "oid")?,
                table: TableName::new(row.get::<&str>(3, "schema")?, row.get::<&str>(4, "table")?),
                shown_table: row.get(5, "table")?,
            })
        });
        let filtered: Vec<Filtered> = filtered.collect::<Result<_, Error>>()?;
        let by_publication = filtered.chunk_by(|a, b| a.publication == b.publication);
        Ok(by_publication.map(<[Filtered]>::to_vec).collect())
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
        let relistings = self.relistings(publications, table, without)?;
        Ok(relistings.into_iter().map(|(_, sql)| sql).collect())
    }

    /// [`Self::relisting`] with the table that each statement lists again.
    pub(super) fn relistings(
        &mut self,
        publications: &[&str],
        table: Option<u32>,
        without: Without,
    ) -> Result<Vec<(u32, String)>, Error> {
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
                 CASE WHEN c.relkind = 'r' AND c.relhassubclass THEN 'ONLY ' ELSE '' END || c.oid::pg_catalog.regclass, {rest}), c.oid \
             FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid \
             JOIN pg_catalog.pg_class c ON c.oid = r.prrelid WHERE {has} IS NOT NULL AND p.pubname = ANY ($1) \
             AND ($2 IS NULL OR c.oid = $2 OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors($2))) ORDER BY 1"
        );
        let parameters: [Parameter<'_>; 2] = [(&publications, PgType::TEXT_ARRAY), (&table, PgType::OID)];
        let rows = self.sql.select(&sql, &parameters)?;
        let statement = |row: &TypedRow| Ok((row.get(1, "oid")?, row.get(0, "publication")?));
        rows.iter().map(statement).collect()
    }
}

/// A table that a publication has a row filter for.
#[derive(Clone, Debug)]
pub(super) struct Filtered {
    publication: String,
    /// The publication's name as SQL has it.
    shown_publication: String,
    pub(super) oid: u32,
    pub(super) table: TableName,
    /// The table's name as SQL has it.
    pub(super) shown_table: String,
}

/// The part of a table's entry in a publication that is left out when it is listed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// The list of columns.
    List,
    /// The row filter.
    Filter,
}
