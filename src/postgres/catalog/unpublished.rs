//! [`Unpublished`]: why a table of the database cannot be subscribed to. For those who run walcast: clients are told of
//! published tables alone.

use super::facts::Holds;
use super::*;
use crate::event::{Refusal, quote_identifier};

/// The reason why there is no table of a name among those of the publications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpublished {
    /// The kind of thing that it is, or the place of one of its name.
    pub what: String,
    /// True if the database has no table of that name, in whatever schema.
    pub is_missing: bool,
    /// The SQL that makes it one of the publications' tables, with its conditions, if anything does.
    pub cure: Option<String>,
}

impl Unpublished {
    fn new(what: impl Into<String>) -> Unpublished {
        Unpublished {
            what: what.into(),
            is_missing: false,
            cure: None,
        }
    }

    fn with(what: impl Into<String>, cure: impl Into<String>) -> Unpublished {
        Unpublished {
            what: what.into(),
            is_missing: false,
            cure: Some(cure.into()),
        }
    }
}

/// A relation of the name that was asked for.
struct Found {
    oid: u32,
    name: TableName,
    kind: String,
    persistence: String,
    is_system: bool,
    /// The ancestor as which it is published.
    root: Option<TableName>,
}

impl Catalog {
    /// The reason why the publications have no table of that name.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub fn why_unpublished(
        &mut self,
        publications: &[Publication],
        table: &TableName,
    ) -> Result<Unpublished, Error> {
        let names: Vec<&str> = publications.iter().map(Publication::as_str).collect();
        let parameters: [Parameter<'_>; 2] = [(&names, PgType::TEXT_ARRAY), (&table.name, PgType::TEXT)];
        let rows = self.session.ask(sql, &parameters)?;
        let found = rows.iter().map(read).collect::<Result<Vec<Found>, Error>>()?;
        let Some(found) = found.iter().find(|found| found.name == *table) else {
            let others: Vec<String> = found.iter().map(|found| found.name.to_string()).collect();
            return Ok(Unpublished {
                what: match others.as_slice() {
                    [] => "the database has no such table, or not with these capitals".to_owned(),
                    others => format!(
                        "the database has no {table}: did you mean {}?",
                        others.join(" or ")
                    ),
                },
                is_missing: others.is_empty(),
                cure: None,
            });
        };
        if let Some(root) = &found.root {
            let what =
                format!("it is a partition, whose changes are published as its root's: subscribe to {root}");
            return Ok(Unpublished::new(what));
        }
        if found.is_system {
            return Ok(Unpublished::new(
                "it is the system's: its changes are not published",
            ));
        }
        let behind = "no changes of it are in the log: subscribe to the tables behind it";
        match (found.kind.as_str(), found.persistence.as_str()) {
            ("v", _) => return Ok(Unpublished::new(format!("it is a view: {behind}"))),
            ("m", _) => return Ok(Unpublished::new(format!("it is a materialized view: {behind}"))),
            ("f", _) => {
                return Ok(Unpublished::new(
                    "it is a foreign table: no changes of it are in the log",
                ));
            }
            (_, "t") => {
                return Ok(Unpublished::new(
                    "it is temporary: no changes of it are in the log",
                ));
            }
            (_, "u") => {
                return Ok(Unpublished::with(
                    "it is unlogged: no changes of it are in the log",
                    format!(
                        "ALTER TABLE {table} SET LOGGED;  -- rewrites it, locked meanwhile; then ask again how to publish it"
                    ),
                ));
            }
            _ => {}
        }
        self.unlisted(publications, found)
    }

    /// Of a table that can be published and is not.
    fn unlisted(&mut self, publications: &[Publication], found: &Found) -> Result<Unpublished, Error> {
        let Found { name, kind, .. } = found;
        let Some(publication) = publications.first() else {
            return Ok(Unpublished::new("there are no publications"));
        };
        let oids = [found.oid];
        let scope = Scope::Oids(&oids, publications, &[]);
        let Some(table) = tables::read(&mut self.session, &scope)?.pop() else {
            return Ok(Unpublished::new("it was dropped just now"));
        };
        let quoted = quote_identifier(publication.as_str());
        if kind == "p" && !table.facts.ours.is_empty() {
            return Ok(Unpublished::with(
                "it is partitioned, and published by its partitions: subscribe to those",
                format!(
                    "ALTER PUBLICATION {quoted} SET (publish_via_partition_root = true);  -- then the partitions are no \
                     tables of their own any more"
                ),
            ));
        }
        let add = format!("ALTER PUBLICATION {quoted} ADD TABLE {name};");
        let what = format!("it is not published by {publication}");
        // As if it were published, without a column list.
        let mut facts = table.facts;
        facts.publications = Some(vec![publication.as_str().to_owned()]);
        facts.ungenerated = facts.publications.clone();
        let writers = facts.writers.clone().unwrap_or_default();
        let obstacle = writers
            .iter()
            .find_map(|writers| Some((writers, facts.refusal(writers)?)));
        Ok(match obstacle {
            None => Unpublished::with(what, add),
            Some((writers, Refusal::NoIdentity)) => {
                let first = &writers.first;
                let generated = [&facts.stored, &facts.virtual_]
                    .into_iter()
                    .flatten()
                    .any(|names| !names.is_empty());
                let identity = match (writers.holds, generated) {
                    (Holds::Nothing, false) => {
                        format!("ALTER TABLE {first} REPLICA IDENTITY FULL;  -- or a primary key")
                    }
                    _ => format!("ALTER TABLE {first} ADD PRIMARY KEY (…);"),
                };
                let others = match writers.count {
                    1 => "",
                    _ => "  -- and so for each partition without a key",
                };
                Unpublished::with(
                    format!(
                        "{what}, and has no replica identity: published as it is, its UPDATE and DELETE would fail. So give it \
                         one first"
                    ),
                    format!("{identity}{others}\n{add}"),
                )
            }
            Some(_) => Unpublished::new(format!(
                "{what}, and its replica identity holds a generated column, or columns that a publication leaves out: published \
                 as it is, its UPDATE and DELETE would fail. Give it a replica identity without such columns first, then {add}"
            )),
        })
    }
}

fn read(row: &TypedRow) -> Result<Found, Error> {
    let root: (Option<&str>, Option<&str>) = (row.get(6, "root")?, row.get(7, "root")?);
    let root = match root {
        (Some(schema), Some(name)) => Some(TableName::new(schema, name)),
        _ => None,
    };
    Ok(Found {
        oid: row.get(0, "table's OID")?,
        name: TableName::new(row.get::<&str>(1, "schema")?, row.get::<&str>(2, "table")?),
        kind: row.get(3, "relkind")?,
        persistence: row.get(4, "relpersistence")?,
        is_system: row.get(5, "schema")?,
        root,
    })
}

/// All that is called `$2` in any schema; `$1` are our publications.
fn sql(version: u32) -> String {
    // The topmost that is published by itself: of what is as its root.
    let root = format!(
        "LEFT JOIN LATERAL (SELECT rn.nspname, r.relname FROM pg_catalog.pg_partition_ancestors(c.oid) \
             WITH ORDINALITY ancestor(relid, level) \
             JOIN pg_catalog.pg_class r ON r.oid = ancestor.relid AND r.oid <> c.oid \
             JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace \
             JOIN {tables} p ON p.relid = r.oid AND p.pubname = ANY ($1) \
             WHERE {as_root} ORDER BY ancestor.level DESC LIMIT 1) root ON true",
        tables = super::super::publication_tables::publication_tables(version),
        as_root = facts::as_root(version),
    );
    format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relpersistence::text, \
             n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast'), root.nspname, root.relname \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace {root} \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') \
             AND pg_catalog.lower(c.relname::pg_catalog.text) = pg_catalog.lower($2) \
         ORDER BY n.nspname, c.relname",
    )
}
