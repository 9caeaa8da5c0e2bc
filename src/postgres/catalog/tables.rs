//! Tables as the catalogs have them now.

use super::super::publication_tables::publication_tables;
use super::facts::{self, Facts};
use super::identity::{self, Keys};
use super::layout::{Layout, Numbered};
use super::*;
use crate::event::ReplicaIdentity;
use crate::lsn::Lsn;
use crate::types::{Attnum, Ctype};

/// The tables to read.
pub(super) enum Scope<'a> {
    /// These, with all of their columns, as these publications have them; and those of them whose partitions are not
    /// to be asked for.
    Oids(&'a [u32], &'a [Publication], &'a [u32]),
    /// Those of the publications, or the one of that name among them, with the columns that are published.
    Published(&'a [Publication], Option<&'a TableName>),
}

/// A table as it is now.
#[derive(Debug)]
pub(super) struct Table {
    oid: u32,
    name: TableName,
    replica_identity: ReplicaIdentity,
    /// The way in which its rows are logged and published.
    pub(super) facts: Facts,
    /// The key columns' `attnum`s: the primary key's and the identity index's, in the order of the index.
    primary_key: Vec<i16>,
    identity_index: Vec<i16>,
    /// In the order of `attnum`, which is the stream's.
    pub(super) columns: Vec<TableColumn>,
    /// All columns, also those that are not published.
    pub(super) layout: Layout,
    /// The position from which on everything commits that is not in the answer.
    pub(super) written: Lsn,
}

#[derive(Debug)]
pub(super) struct TableColumn {
    pub(super) attnum: i16,
    pub(super) name: String,
    pub(super) type_oid: u32,
    typmod: i32,
    type_name: String,
    pub(super) collation: Collation,
    pub(super) ctype: Ctype,
}

impl TableColumn {
    /// The column's type with its modifier, and its name.
    pub(super) fn named_type(&self) -> ((u32, i32), String) {
        ((self.type_oid, self.typmod), self.type_name.clone())
    }
}

impl Table {
    pub(super) fn oid(&self) -> u32 {
        self.oid
    }

    /// The keys that the table has by its indexes, each in the order of its index, without one that has a column which
    /// is not among the table's: of that nothing can be told.
    pub(super) fn keys(&self, identity: ReplicaIdentity) -> Keys<'_> {
        let name = |attnum: &i16| {
            let column = self.columns.iter().find(|c| c.attnum == *attnum);
            column.map(|c| c.name.as_str())
        };
        let names = |key: &Vec<i16>| key.iter().map(name).collect::<Option<Vec<&str>>>();
        Keys {
            index: match identity {
                ReplicaIdentity::Index => names(&self.identity_index),
                _ => None,
            },
            primary: names(&self.primary_key),
        }
    }

    pub(super) fn into_relation(self, kind: impl Fn(u32) -> Kind) -> Relation {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let told = identity::of(
            self.replica_identity,
            &names,
            &self.keys(self.replica_identity),
            &self.facts,
        );
        let columns = self.columns.into_iter().zip(&told.columns);
        Relation {
            oid: self.oid,
            table: self.name,
            replica_identity: told.replica_identity,
            columns: columns
                .map(|(column, &identity)| Column {
                    name: column.name,
                    attnum: Attnum::new(column.attnum),
                    ty: Type {
                        oid: column.type_oid,
                        name: column.type_name,
                        kind: kind(column.type_oid),
                    },
                    typmod: column.typmod,
                    identity,
                    collation: column.collation,
                    ctype: column.ctype,
                })
                .collect(),
            key: told.key,
            logging: told.logging,
        }
    }
}

/// Reads the tables in the order of their OIDs.
pub(super) fn read(session: &mut Session, scope: &Scope<'_>) -> Result<Vec<Table>, Error> {
    if matches!(scope, Scope::Published([], _)) {
        return Ok(Vec::new());
    }
    let none: &[u32] = &[];
    let (publications, oids, without, name) = match *scope {
        Scope::Oids(oids, publications, without) => (publications, oids, without, None),
        Scope::Published(publications, name) => (publications, none, none, name),
    };
    let publications: Vec<&str> = publications.iter().map(Publication::as_str).collect();
    let schema = name.map(|name| &name.schema);
    let table = name.map(|name| &name.name);
    let parameters: [Parameter<'_>; 5] = [
        (&publications, PgType::TEXT_ARRAY),
        (&oids, PgType::OID_ARRAY),
        (&without, PgType::OID_ARRAY),
        (&schema, PgType::TEXT),
        (&table, PgType::TEXT),
    ];
    let rows = session.ask(|version| sql(scope, version), &parameters)?;
    let mut tables: Vec<Table> = Vec::new();
    for row in &rows {
        let oid = row.get(0, "table's OID")?;
        if tables.last().is_none_or(|table| table.oid != oid) {
            tables.push(read_table(oid, row)?);
        }
        // A table can be without columns.
        if let (Some(table), Some(attnum)) = (tables.last_mut(), row.get(6, "attnum")?) {
            let column = read_column(attnum, row)?;
            table.layout.columns.push(Numbered {
                number: attnum,
                name: column.name.clone(),
                type_oid: column.type_oid,
            });
            if row.get(13, "published")? {
                table.columns.push(column);
            }
        }
    }
    Ok(tables)
}

fn read_table(oid: u32, row: &TypedRow) -> Result<Table, Error> {
    let numbers = |index| -> Result<Vec<i16>, Error> {
        let numbers: Option<Vec<i16>> = row.get(index, "columns of a key")?;
        Ok(numbers.unwrap_or_default())
    };
    Ok(Table {
        oid,
        name: TableName::new(row.get::<&str>(1, "schema")?, row.get::<&str>(2, "table")?),
        replica_identity: match row.get(3, "replica identity")? {
            "d" => ReplicaIdentity::Default,
            "f" => ReplicaIdentity::Full,
            "i" => ReplicaIdentity::Index,
            _ => ReplicaIdentity::Nothing,
        },
        facts: Facts::read(row.get(16, "facts of a table")?)?,
        primary_key: numbers(4)?,
        identity_index: numbers(5)?,
        columns: Vec::new(),
        layout: Layout {
            highest: row.get(14, "number of columns")?,
            columns: Vec::new(),
        },
        written: row.get(15, "position")?,
    })
}

fn read_column(attnum: i16, row: &TypedRow) -> Result<TableColumn, Error> {
    Ok(TableColumn {
        attnum,
        name: row.get(7, "column")?,
        type_oid: row.get(8, "type's OID")?,
        typmod: row.get(9, "type modifier")?,
        type_name: types::unqualified(row.get(10, "type")?),
        collation: match row.get(11, "collation")? {
            "none" => Collation::None,
            "ascii" => Collation::Ascii,
            "c" => Collation::C,
            "library" => Collation::Library,
            "deterministic" => Collation::Deterministic,
            _ => Collation::Nondeterministic,
        },
        ctype: ctypes::read(row.get(12, "ctype")?),
    })
}

/// A position that lies behind whatever the question it stands in can see.
pub(super) const WRITTEN: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
     THEN GREATEST(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()) \
     ELSE pg_catalog.pg_current_wal_insert_lsn() END";

/// The question of [`read`], which says what its parameters are.
fn sql(scope: &Scope<'_>, version: u32) -> String {
    let Source { with, from, column } = Source::of(scope, version);
    let facts = facts::sql(version);
    // Once for each table, not once for each column.
    let with = match with.as_str() {
        "" => "WITH".to_owned(),
        with => format!("{with},"),
    };
    // Only an index that is checked at once identifies rows; one being deferrable does not.
    let key = |which: &str| {
        format!(
            "(SELECT i.indkey[0:i.indnkeyatts - 1]::int2[] FROM pg_catalog.pg_index i \
             WHERE i.indrelid = c.oid AND i.{which} AND i.indimmediate AND i.indisvalid)"
        )
    };
    // All of the builtin provider's order by code point, as far as they were looked at.
    const BUILTIN: &str = "('C', 'C.UTF-8', 'PG_UNICODE_FAST')";
    let (builtin, builtin_by_default) = if version >= 170_000 {
        (
            format!("co.collprovider = 'b' AND co.colllocale IN {BUILTIN}"),
            format!("d.datlocprovider = 'b' AND d.datlocale IN {BUILTIN} OR "),
        )
    } else {
        ("false".to_owned(), String::new())
    };
    let c_by_default = if version >= 150_000 {
        "d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX')"
    } else {
        "d.datcollate IN ('C', 'POSIX')"
    };
    let c_by_default = format!("{builtin_by_default}{c_by_default}");
    let libc = if version >= 150_000 {
        "d.datlocprovider = 'c' AND "
    } else {
        ""
    };
    let c_altogether = format!("{libc}d.datcollate IN ('C', 'POSIX') AND d.datctype IN ('C', 'POSIX')");
    format!(
        "{with} facts AS MATERIALIZED (SELECT c.oid, {facts} AS facts FROM {from}) \
         SELECT c.oid, n.nspname, c.relname, c.relreplident::text, {primary_key}, {identity_index}, \
             a.attnum, a.attname, a.atttypid, a.atttypmod, pg_catalog.format_type(a.atttypid, a.atttypmod), \
             CASE WHEN a.attcollation = 0 THEN 'none' \
                  WHEN NOT co.collisdeterministic THEN 'nondeterministic' \
                  WHEN d.encoding NOT IN (0, 6, 8) THEN 'deterministic' \
                  WHEN d.encoding <> 0 AND (co.collprovider = 'c' AND co.collcollate IN ('C', 'POSIX') \
                      AND co.collctype IN ('C', 'POSIX') OR co.collprovider = 'd' AND ({c_altogether})) THEN 'ascii' \
                  WHEN {builtin} OR co.collprovider = 'c' AND co.collcollate IN ('C', 'POSIX') THEN 'c' \
                  WHEN co.collprovider = 'd' AND ({c_by_default}) THEN 'c' \
                  WHEN {library} THEN 'library' \
                  ELSE 'deterministic' END, \
             CASE WHEN a.attcollation = 0 THEN {database_ctype} WHEN co.collisdeterministic THEN {ctype} END, {column}, c.relnatts, ({WRITTEN}), facts.facts::text \
         FROM {from} \
         JOIN facts ON facts.oid = c.oid \
         JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database() \
         LEFT JOIN pg_catalog.pg_attribute a \
             ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation \
         ORDER BY c.oid, a.attnum",
        database_ctype = ctypes::of_database(version),
        ctype = ctypes::of_collation(version),
        library = ctypes::is_library(version),
        primary_key = key("indisprimary"),
        identity_index = key("indisreplident"),
    )
}

/// The source of the tables.
struct Source {
    /// The beginning of the query.
    with: String,
    /// Each table once: `c` of `pg_class` with its `n` of `pg_namespace`.
    from: String,
    /// The condition for a column `a` to be published.
    column: &'static str,
}

impl Source {
    fn of(scope: &Scope<'_>, version: u32) -> Source {
        let only = match scope {
            Scope::Published(_, None) => "",
            Scope::Published(_, Some(_)) => " AND p.schemaname = $4 AND p.tablename = $5",
            Scope::Oids(..) => {
                return Source {
                    with: String::new(),
                    from: "pg_catalog.pg_class c \
                         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND c.oid = ANY ($2)"
                        .to_owned(),
                    column: "true",
                };
            }
        };
        let (listed, from_listed, column) = match version {
            150_000.. => (LISTED, FROM_LISTED, "a.attname = ANY (p.attnames)"),
            _ => ("", "", "a.attgenerated = ''"),
        };
        // They are gone through once.
        Source {
            with: format!(
                "WITH published AS MATERIALIZED (SELECT p.relid {listed} \
                     FROM {tables} p {from_listed} \
                     WHERE p.pubname = ANY ($1){only} GROUP BY p.relid)",
                tables = publication_tables(version),
            ),
            // Of what the view lists before version 15, and of partitions, not all is published as itself.
            from: format!(
                "published p \
                 JOIN pg_catalog.pg_class c ON c.oid = p.relid AND pg_catalog.pg_relation_is_publishable(c.oid) \
                     AND NOT {} \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
                facts::as_root(version)
            ),
            column,
        }
    }
}

/// The columns that any of the publications has of a table.
const LISTED: &str = ", pg_catalog.array_agg(DISTINCT l.attname) AS attnames";
const FROM_LISTED: &str = "LEFT JOIN LATERAL pg_catalog.unnest(p.attnames) l(attname) ON true";
