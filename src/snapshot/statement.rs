//! The SQL of a snapshot. Pure.

use std::time::Duration;

use crate::event::{Relation, TableName};
use crate::filter::Pushed;
use crate::postgres::{Error, NAMES_IN_VALUES, TypedRow, publication_tables, quote_identifier};
use crate::protocol::OrderBy;

/// Begins the transaction in which a snapshot reads. None of this takes the transaction's snapshot yet. Row security
/// would silently hide rows: with it off, that is an error.
///
/// A lock that is not available at once is not waited for: the transaction holds others by then, and an application
/// that holds the one and wants the others (`ALTER TABLE` of a partition, then of its root) would be in a deadlock with
/// it, from which the server frees itself by aborting either.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
     SET LOCAL row_security = off; \
     SET LOCAL search_path = pg_catalog; \
     SET LOCAL idle_in_transaction_session_timeout = 0; \
     SET LOCAL lock_timeout = '1ms'";

/// Waits for the locks that [`hold`] could not get at once, those of the table, its partitions and their indexes, up to
/// `patience` for each. It holds one at a time, since `pg_relation_size` releases its lock, so it cannot be part of a
/// deadlock. The tree is read from the catalogs, as `pg_partition_tree` locks all of it.
pub(super) fn wait(oid: u32, patience: Duration) -> String {
    format!(
        "BEGIN READ ONLY; SET LOCAL lock_timeout = {patience}; \
         WITH RECURSIVE tree(oid) AS (SELECT {oid}::pg_catalog.oid UNION \
             SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid) \
         SELECT pg_catalog.count(pg_catalog.pg_relation_size(r.oid)) FROM (SELECT tree.oid FROM tree UNION ALL \
             SELECT x.indexrelid FROM tree JOIN pg_catalog.pg_index x ON x.indrelid = tree.oid) r; COMMIT",
        patience = patience.as_millis().max(1)
    )
}

/// Bounds the waits for locks of the transaction from here on, which has all that it needs but for those of values
/// that are stored apart (TOAST): a vacuum may hold these for a moment. The transaction gives up before the server
/// looks for a deadlock on behalf of a session that begins to wait for it meanwhile.
pub(super) const WAIT_BRIEFLY: &str = "SELECT pg_catalog.set_config('lock_timeout', \
     GREATEST(s.setting::pg_catalog.int4 / 2, 1)::text, true) \
     FROM pg_catalog.pg_settings s WHERE s.name = 'deadlock_timeout'";

/// Locks the table and its partitions as they are, until the transaction ends. `LOCK TABLE` would ask for the right to
/// read all columns, where a publication's column list needs some; to run the statement would connect to the servers of
/// foreign partitions.
pub(super) fn hold(table: &TableName) -> String {
    format!("EXPLAIN (COSTS OFF) SELECT FROM {} LIMIT 0", qualified(table))
}

/// Asks whether the table's files, and those of its partitions, are those that they were when the snapshot was taken: a
/// table that was rewritten or truncated since, before it was held, would seem to be empty. `pg_class` answers as of
/// the snapshot, and the function as of now.
pub(super) const IS_UNCHANGED: &str = "SELECT pg_catalog.bool_and(c.relfilenode = COALESCE(pg_catalog.pg_relation_filenode(c.oid), 0)) \
     FROM pg_catalog.pg_class c \
     WHERE c.oid = $1 OR c.oid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree($1) p)";

/// Restores the `statement_timeout` of the role, the database or the server for the statement that reads the rows.
pub(super) const OWN_TIMEOUT: &str = "SET LOCAL statement_timeout TO DEFAULT";

/// Asks for the rights that the role lacks to read the columns of a table: its name, whether it may use the schema,
/// whether row-level security applies to it, which of the columns it may not read, and whether it may read none of the
/// table.
///
/// `$1` is the table, `$2` are the columns.
pub(super) const RIGHTS: &str = "SELECT current_user, pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'), \
             pg_catalog.row_security_active(c.oid), \
             pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) \
                 FILTER (WHERE a.attname = ANY ($2) AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')), \
             pg_catalog.bool_and(a.attname = ANY ($2)) AND NOT pg_catalog.has_any_column_privilege(c.oid, 'SELECT') \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE c.oid = $1 GROUP BY c.oid, c.relnamespace";

/// Takes the snapshot, and asks where it was taken: the list of transactions, whether the server is a standby, a
/// position that nothing seen lies beyond, the system's identifier, the timeline.
pub(super) const TAKE: &str = "SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_is_in_recovery(), \
     CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
          ELSE pg_catalog.pg_current_wal_insert_lsn() END, \
     (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
     CASE WHEN pg_catalog.pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) \
          ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)) \
               ::bit(32)::int END";

/// The positions that a standby has replayed, and received by streaming replication.
pub(super) const PROGRESS: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_last_wal_replay_lsn(), \
     pg_catalog.pg_last_wal_receive_lsn()";

/// Asks of the table, of which the transaction has a lock, what [`Facts`] reads. Of partitions, which are found as of
/// the snapshot, `to_regclass` says what has their names now, and `pg_partition_tree` keeps those that are still
/// partitions as they are. `$1` is the table, `$2` are the publications.
pub(super) fn facts(version: u32) -> String {
    let condition = |operation: &str| match version {
        150_000.. => format!(
            "CASE WHEN pg_catalog.bool_and(t.qual IS NOT NULL) FILTER (WHERE p.{operation}) \
             THEN pg_catalog.string_agg('(' || pg_catalog.pg_get_expr(t.qual, t.relid) || ')', ' OR ') \
                  FILTER (WHERE p.{operation}) END"
        ),
        _ => "NULL".to_owned(),
    };
    format!(
        "SELECT c.relkind = 'p', {}, {}, {}, CASE WHEN c.relkind = 'p' THEN ( \
             WITH RECURSIVE tree(oid) AS (SELECT c.oid UNION ALL SELECT i.inhrelid FROM tree \
                 JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid AND NOT i.inhdetachpending) \
             SELECT pg_catalog.string_agg(w.oid::text, ', ') FROM tree JOIN pg_catalog.pg_class w ON w.oid = tree.oid \
             WHERE w.relkind <> 'p' AND (w.relkind <> 'r' OR w.relpersistence <> 'p')) END, \
             CASE WHEN c.relkind = 'p' THEN ( \
             WITH RECURSIVE tree(oid) AS (SELECT c.oid UNION ALL SELECT i.inhrelid FROM tree \
                 JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid AND NOT i.inhdetachpending) \
             SELECT CASE WHEN pg_catalog.bool_or(w.relkind = 'f') \
                     AND pg_catalog.bool_and(w.relkind = 'f' OR w.relpersistence <> 'p' \
                         OR pg_catalog.has_table_privilege(w.oid, 'SELECT') \
                             AND pg_catalog.has_schema_privilege(w.relnamespace, 'USAGE') \
                             AND NOT pg_catalog.row_security_active(w.oid) \
                             AND pg_catalog.to_regclass(pg_catalog.format('%I.%I', n.nspname, w.relname)) = w.oid \
                             AND w.oid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(c.oid) p)) \
                 THEN COALESCE(pg_catalog.array_agg(pg_catalog.format('%I.%I', n.nspname, w.relname) ORDER BY w.oid) \
                     FILTER (WHERE w.relkind = 'r' AND w.relpersistence = 'p'), '{{}}') END \
             FROM tree JOIN pg_catalog.pg_class w ON w.oid = tree.oid AND w.relkind <> 'p' \
             JOIN pg_catalog.pg_namespace n ON n.oid = w.relnamespace) END, \
             (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) \
              FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) \
         FROM pg_catalog.pg_class c LEFT JOIN ({tables} t JOIN pg_catalog.pg_publication p ON p.pubname = t.pubname) \
             ON t.relid = c.oid AND t.pubname = ANY ($2) \
         WHERE c.oid = $1 GROUP BY c.oid, c.relkind",
        condition("pubinsert"),
        condition("pubupdate"),
        condition("pubdelete"),
        tables = publication_tables(version),
    )
}

/// The rows of a table whose changes come in the stream.
#[derive(Debug)]
pub(super) struct Facts {
    /// True if it is partitioned. If not, its own rows alone: tables that inherit from it are published as themselves.
    is_partitioned: bool,
    /// The conditions on them: that the publications put, for one operation or another, and that their partition logs
    /// changes, which foreign and unlogged ones do not.
    conditions: Vec<String>,
    /// If there are foreign partitions, those that log changes, and all columns: to read the table would read the
    /// foreign ones, too, whose servers may be far. `None` if the role may read some by the root alone, or some were
    /// detached or renamed just now.
    parts: Option<(Vec<String>, String)>,
}

impl Facts {
    /// True if partitions are read one by one.
    pub(super) fn is_read_by_parts(&self) -> bool {
        self.parts.is_some()
    }

    /// Reads the answer to [`facts`].
    pub(super) fn read(row: &TypedRow) -> Result<Facts, Error> {
        let mut conditions: Vec<String> = Vec::new();
        for operation in 1..=3 {
            conditions.extend(row.get::<Option<String>>(operation, "a row filter")?);
        }
        conditions.sort_unstable();
        conditions.dedup();
        let parts: Option<Vec<String>> = row.get(5, "partitions that log")?;
        let parts = parts.zip(row.get(6, "columns")?);
        let silent: Option<&str> = row.get(4, "partitions that do not log")?;
        let silent = silent.filter(|_| parts.is_none());
        conditions.extend(silent.map(|oids| format!("tableoid NOT IN ({oids})")));
        Ok(Facts {
            is_partitioned: row.get(0, "relkind")?,
            conditions,
            parts,
        })
    }
}

/// Asks for the schema of the extension `citext`, quoted.
pub(super) const CITEXT: &str = "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e \
     JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'citext'";

/// Makes values of `regclass` and similar types print as in the stream, and as in an application's session.
pub(super) fn names_in_values() -> String {
    format!("SET LOCAL search_path = {NAMES_IN_VALUES}")
}

/// Reads the rows.
pub(super) fn select(
    relation: &Relation,
    columns: &[usize],
    facts: &Facts,
    predicate: Option<&Pushed>,
    order: &[OrderBy],
) -> String {
    let columns = columns.iter().filter_map(|&index| relation.columns.get(index));
    let columns: Vec<String> = columns.map(|column| quote_identifier(&column.name)).collect();
    let columns = columns.join(", ");
    let predicate = predicate.map(|pushed| pushed.sql.as_str());
    let conditions = facts.conditions.iter().map(String::as_str).chain(predicate);
    let conditions: Vec<String> = conditions.map(|condition| format!("({condition})")).collect();
    let filter = match conditions.as_slice() {
        [] => String::new(),
        conditions => format!(" WHERE {}", conditions.join(" AND ")),
    };
    let from = match &facts.parts {
        Some((parts, all)) if !parts.is_empty() => {
            let parts: Vec<String> = parts
                .iter()
                .map(|part| format!("SELECT {all} FROM ONLY {part}"))
                .collect();
            format!("({}) parts", parts.join(" UNION ALL "))
        }
        None if facts.is_partitioned => qualified(&relation.table),
        // Only the table's own rows, without those of tables that inherit from it.
        _ => format!("ONLY {}", qualified(&relation.table)),
    };
    let order = match order {
        [] => String::new(),
        order => format!(
            " ORDER BY {}",
            order.iter().map(ordered).collect::<Vec<_>>().join(", ")
        ),
    };
    format!("SELECT {columns} FROM {from}{filter}{order}")
}

fn ordered(by: &OrderBy) -> String {
    format!(
        "{} {} NULLS {}",
        quote_identifier(&by.column),
        if by.descending { "DESC" } else { "ASC" },
        if by.nulls_first { "FIRST" } else { "LAST" }
    )
}

pub(super) fn qualified(table: &TableName) -> String {
    format!(
        "{}.{}",
        quote_identifier(&table.schema),
        quote_identifier(&table.name)
    )
}

/// Makes the primary flush its WAL up to here. (Our sessions do not wait for standbys.)
pub(super) const REQUEST_WAL_FLUSH: &str =
    "SET TRANSACTION READ WRITE; SELECT pg_catalog.pg_logical_emit_message(true, 'walcast.flush', '')";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_under_every_condition() {
        let relation = Relation::of_messages("p", true);
        let read = |is_partitioned, conditions: &[&str]| {
            let conditions = conditions.iter().map(|&condition| condition.into()).collect();
            let facts = Facts {
                is_partitioned,
                conditions,
                parts: None,
            };
            select(&relation, &[0], &facts, None, &[])
        };
        assert_eq!(read(false, &[]), r#"SELECT "content" FROM ONLY ""."p""#);
        assert_eq!(
            read(true, &["a OR b", "tableoid NOT IN (1)"]),
            r#"SELECT "content" FROM ""."p" WHERE (a OR b) AND (tableoid NOT IN (1))"#
        );
        let facts = Facts {
            is_partitioned: true,
            conditions: vec!["a".into()],
            parts: Some((vec!["s.x".into(), "y".into()], "content, a".into())),
        };
        assert_eq!(
            select(&relation, &[0], &facts, None, &[]),
            "SELECT \"content\" FROM (SELECT content, a FROM ONLY s.x UNION ALL SELECT content, a FROM ONLY y) parts WHERE (a)"
        );
    }
}
