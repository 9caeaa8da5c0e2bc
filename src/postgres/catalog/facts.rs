//! The facts of how a table's rows are logged and published, in one JSON value for each table.

use serde::Deserialize;

use crate::event::Refusal;
use crate::postgres::error::Error;

/// The way in which a table's rows are logged and published.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Facts {
    /// True if it is partitioned.
    pub(super) partitioned: bool,
    /// True if its changes are published as an ancestor's.
    pub(super) as_root: bool,
    /// The operations that our publications have of it, with their row filters.
    pub(super) ours: Vec<Ours>,
    /// The operations of those that publish partitions of it alone. The server publishes a partition's changes as its
    /// root's if one publication does, and of each what any publication has of it.
    pub(super) of_partitions: Vec<Ours>,
    /// The column lists of publications, anybody's, that have its updates or deletes.
    pub(super) lists: Option<Vec<(String, Vec<String>)>>,
    /// The columns of such publications' row filters.
    pub(super) filters: Option<Vec<(String, Vec<String>)>>,
    /// Such publications without a column list that leave out stored generated columns, since version 18.
    pub(super) ungenerated: Option<Vec<String>>,
    /// Such publications at all.
    pub(super) publications: Option<Vec<String>>,
    /// The stored generated columns, and the virtual ones.
    pub(super) stored: Option<Vec<String>>,
    pub(super) virtual_: Option<Vec<String>>,
    /// The tables that write its rows, itself or its partitions, by what they log of old rows.
    pub(super) writers: Option<Vec<Writers>>,
}

/// The part that one of our publications has of a table.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ours {
    pub(super) insert: bool,
    pub(super) update: bool,
    pub(super) delete: bool,
    pub(super) truncate: bool,
    /// Its row filter, as far as to tell it from others.
    pub(super) filter: Option<String>,
}

/// Tables that log the same of old rows.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Writers {
    pub(super) holds: Holds,
    /// The columns of the identity; all of them under `FULL`.
    pub(super) columns: Option<Vec<String>>,
    pub(super) count: u64,
    /// The first of them by name, as SQL has it.
    pub(super) first: String,
}

/// The part of old rows that a table logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Holds {
    /// All of them.
    Whole,
    /// The columns of an index.
    Columns,
    /// Nothing: it has no identity, and UPDATE and DELETE fail while they are published.
    Nothing,
    /// It logs no changes at all: it is foreign or unlogged.
    Silent,
}

impl Facts {
    pub(super) fn read(json: &str) -> Result<Facts, Error> {
        serde_json::from_str(json).map_err(|error| Error::Answer {
            question: "a table's identity",
            problem: error.to_string(),
        })
    }

    /// The reason why REPLICA IDENTITY FULL alone would make UPDATE and DELETE fail.
    pub(super) fn obstacle(&self) -> Option<crate::event::Obstacle> {
        use crate::event::Obstacle::{ColumnLists, StoredGenerated, VirtualGenerated};
        let lists = self.lists.iter().flatten();
        let lists: Vec<String> = lists.map(|(publication, _)| publication.clone()).collect();
        let some = |names: &Option<Vec<String>>| names.as_ref().is_some_and(|names| !names.is_empty());
        if !lists.is_empty() {
            return Some(ColumnLists(lists));
        }
        if some(&self.virtual_) && some(&self.publications) {
            return Some(VirtualGenerated);
        }
        let ungenerated = self.ungenerated.clone().unwrap_or_default();
        (some(&self.stored) && !ungenerated.is_empty()).then_some(StoredGenerated(ungenerated))
    }

    /// The reason why UPDATE and DELETE fail on the writers, if they do.
    pub(super) fn refusal(&self, writers: &Writers) -> Option<Refusal> {
        let publication = self.publications.iter().flatten().next()?;
        let identity = writers.columns.as_deref().unwrap_or_default();
        let whole = writers.holds == Holds::Whole;
        match writers.holds {
            Holds::Nothing => return Some(Refusal::NoIdentity),
            Holds::Silent => return None,
            Holds::Whole | Holds::Columns => {}
        }
        let lacks = |columns: &[String]| !identity.iter().all(|name| columns.contains(name));
        let mut lists = self.lists.iter().flatten();
        if let Some((publication, _)) = lists.find(|(_, columns)| whole || lacks(columns)) {
            return Some(Refusal::ColumnList(publication.clone()));
        }
        let mut filters = self.filters.iter().flatten();
        let beyond = |columns: &[String]| !columns.iter().all(|name| identity.contains(name));
        if let Some((publication, _)) = filters.find(|(_, columns)| !whole && beyond(columns)) {
            return Some(Refusal::RowFilter(publication.clone()));
        }
        let held = |names: &Option<Vec<String>>| {
            let names = names.iter().flatten();
            whole && names.clone().next().is_some() || names.clone().any(|name| identity.contains(name))
        };
        if held(&self.virtual_) {
            return Some(Refusal::Generated(publication.clone()));
        }
        let ungenerated = self.ungenerated.iter().flatten().next();
        ungenerated
            .filter(|_| held(&self.stored))
            .map(|publication| Refusal::Generated(publication.clone()))
    }

    /// True if our publications have updates or deletes of it, or of any partition.
    pub(super) fn has_updates_or_deletes(&self) -> bool {
        let mut all = self.ours.iter().chain(&self.of_partitions);
        all.any(|ours| ours.update || ours.delete)
    }
}

/// The expression of the facts of the table `c` of `pg_class`. `$1` are our publications. Partitions are found without
/// a lock on any, which `pg_partition_tree` takes; not those of the tables `$3`.
pub(super) fn sql(version: u32) -> String {
    let related =
        "(c.oid = r.prrelid OR r.prrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(c.oid)))";
    // The namespaces of the table and of its ancestors.
    let namespace = "s.pnnspid IN (SELECT u.relnamespace FROM pg_catalog.pg_class u WHERE u.oid = c.oid \
         OR u.oid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(c.oid)))";
    let schemas = match version {
        150_000.. => format!(
            "OR EXISTS (SELECT 1 FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid AND {namespace})"
        ),
        _ => String::new(),
    };
    let has_it = format!(
        "(p.puballtables OR EXISTS (SELECT 1 FROM pg_catalog.pg_publication_rel r \
             WHERE r.prpubid = p.oid AND {related}) {schemas})"
    );
    let named = |column: &str, condition: &str, columns: &str| match version {
        150_000.. => format!(
            "(SELECT pg_catalog.json_agg(pg_catalog.json_build_array(p.pubname, {columns}) ORDER BY p.pubname) \
              FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid \
              WHERE r.{column} IS NOT NULL AND NOT p.puballtables AND (p.pubupdate OR p.pubdelete) AND {condition})"
        ),
        _ => "NULL".to_owned(),
    };
    let lists = named(
        "prattrs",
        related,
        "(SELECT coalesce(pg_catalog.json_agg(a.attname), '[]') FROM pg_catalog.pg_attribute a \
          WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs))",
    );
    let filters = named(
        "prqual",
        related,
        "(SELECT coalesce(pg_catalog.json_agg(a.attname), '[]') FROM pg_catalog.pg_attribute a \
          WHERE a.attrelid = r.prrelid AND a.attnum IN (SELECT m[1]::int2 \
              FROM pg_catalog.regexp_matches(r.prqual::text, ':varattno ([0-9]+)', 'g') m))",
    );
    let (generated, ungenerated) = match version {
        180_000.. => (
            "a.attgenerated",
            format!(
                "(SELECT pg_catalog.json_agg(p.pubname ORDER BY p.pubname) FROM pg_catalog.pg_publication p \
                  WHERE (p.pubupdate OR p.pubdelete) AND p.pubgencols <> 's' AND {has_it} \
                  AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_publication_rel r \
                      WHERE r.prpubid = p.oid AND r.prattrs IS NOT NULL AND NOT p.puballtables AND {related}))"
            ),
        ),
        _ => ("''", "NULL".to_owned()),
    };
    let columns_of = |kind: char| {
        format!(
            "(SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_attribute a \
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND {generated} = '{kind}')"
        )
    };
    let filter = match version {
        150_000.. => {
            "(SELECT pg_catalog.md5(pg_catalog.regexp_replace(r.prqual::text, ':location [-0-9]+', '', 'g')) \
              FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid AND NOT p.puballtables \
              AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_publication_namespace s \
                              WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace))"
        }
        _ => "NULL",
    };
    let part_schemas = match version {
        150_000.. => {
            "OR EXISTS (SELECT 1 FROM pg_catalog.pg_publication_namespace s JOIN pg_catalog.pg_class u \
                 ON u.relnamespace = s.pnnspid AND u.relispartition WHERE s.pnpubid = p.oid \
                 AND c.oid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(u.oid)))"
        }
        _ => "",
    };
    let has_parts = format!(
        "(EXISTS (SELECT 1 FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid \
             AND c.oid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(r.prrelid))) {part_schemas})"
    );
    let as_root = as_root(version);
    format!(
        "pg_catalog.json_build_object('partitioned', c.relkind = 'p', 'as_root', {as_root}, \
         'ours', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('insert', p.pubinsert, \
             'update', p.pubupdate, 'delete', p.pubdelete, 'truncate', p.pubtruncate, 'filter', {filter})), '[]') \
             FROM pg_catalog.pg_publication p WHERE p.pubname = ANY ($1) AND {has_it}), \
         'of_partitions', CASE WHEN c.relkind = 'p' THEN (SELECT coalesce(pg_catalog.json_agg( \
             pg_catalog.json_build_object('insert', p.pubinsert, 'update', p.pubupdate, 'delete', p.pubdelete, \
                 'truncate', p.pubtruncate)), '[]') \
             FROM pg_catalog.pg_publication p WHERE p.pubname = ANY ($1) AND NOT {has_it} AND {has_parts}) \
             ELSE '[]' END, \
         'lists', {lists}, 'filters', {filters}, 'ungenerated', {ungenerated}, \
         'publications', (SELECT pg_catalog.json_agg(p.pubname ORDER BY p.pubname) FROM pg_catalog.pg_publication p \
             WHERE (p.pubupdate OR p.pubdelete) AND {has_it}), \
         'stored', {stored}, 'virtual_', {virtual_}, 'writers', CASE WHEN c.oid <> ALL ($3) THEN {WRITERS} END)",
        stored = columns_of('s'),
        virtual_ = columns_of('v'),
    )
}

/// The condition that changes of `c` of `pg_class` are published as an ancestor's: of all that our publications, `$1`,
/// publish by their root, whatever another of them has of the partition itself.
pub(super) fn as_root(version: u32) -> String {
    let by_schema = match version {
        150_000.. => {
            "OR EXISTS (SELECT 1 FROM pg_catalog.pg_publication_namespace s JOIN pg_catalog.pg_class u \
                 ON u.relnamespace = s.pnnspid WHERE s.pnpubid = p.oid AND u.oid = ancestor.relid)"
        }
        _ => "",
    };
    format!(
        "(c.relispartition AND EXISTS (SELECT 1 FROM pg_catalog.pg_publication p, \
             pg_catalog.pg_partition_ancestors(c.oid) ancestor(relid) \
             WHERE p.pubviaroot AND p.pubname = ANY ($1) AND ancestor.relid <> c.oid \
             AND (p.puballtables OR EXISTS (SELECT 1 FROM pg_catalog.pg_publication_rel r \
                  WHERE r.prpubid = p.oid AND r.prrelid = ancestor.relid) {by_schema})))"
    )
}

/// The tables that write the rows of `c`, by what they log of old rows (`RelationGetIndexList` says which index it is).
///
/// `OFFSET 0` has each looked up by its OID: the planner expects many more, and would read all tables that there are.
const WRITERS: &str = "(WITH RECURSIVE tree(oid) AS (SELECT c.oid UNION ALL \
         SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid AND NOT i.inhdetachpending \
         WHERE c.relkind = 'p'), \
     writer AS (SELECT w.oid::pg_catalog.regclass::text AS name, \
         CASE WHEN w.relkind <> 'r' OR w.relpersistence <> 'p' THEN 'silent' \
              WHEN w.relreplident = 'f' THEN 'whole' WHEN x.columns IS NULL THEN 'nothing' ELSE 'columns' END AS holds, \
         CASE WHEN w.relreplident = 'f' THEN NULL ELSE x.columns END AS columns \
         FROM tree CROSS JOIN LATERAL (SELECT w.oid, w.relkind, w.relpersistence, w.relreplident \
             FROM pg_catalog.pg_class w WHERE w.oid = tree.oid AND w.relkind <> 'p' OFFSET 0) w \
         LEFT JOIN LATERAL (SELECT (SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attnum) \
                FROM pg_catalog.pg_attribute a WHERE a.attrelid = w.oid \
                AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])) AS columns \
             FROM pg_catalog.pg_index i WHERE i.indrelid = w.oid AND i.indimmediate AND i.indisvalid AND \
             CASE w.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END OFFSET 0) x ON true) \
     SELECT pg_catalog.json_agg(g) FROM (SELECT holds, columns, pg_catalog.count(*) AS count, \
         pg_catalog.min(name) AS first FROM writer GROUP BY holds, columns ORDER BY holds, columns) g)";
