//! The SQL of a snapshot. Pure.

use crate::event::{Relation, TableName};
use crate::filter::Pushed;
use crate::postgres::{NAMES_IN_VALUES, Publication, publication_tables, quote_identifier, quote_literal};

/// Begins the transaction that a snapshot reads in, and keeps the table as it is for as long. None of this takes the
/// transaction's snapshot yet. Row security would hide rows without a word: with it off they are an error.
pub(super) fn begin(table: &TableName) -> String {
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
         SET LOCAL row_security = off; \
         SET LOCAL search_path = pg_catalog; \
         SET LOCAL statement_timeout = 0; \
         SET LOCAL idle_in_transaction_session_timeout = 0; \
         SET LOCAL lock_timeout = '10s'; \
         LOCK TABLE {} IN ACCESS SHARE MODE",
        qualified(table)
    )
}

/// Takes the snapshot, and asks where it was taken: the list of transactions, whether the server is a standby, a
/// position that nothing seen lies beyond, the system's identifier, the timeline.
pub(super) const TAKE: &str = "SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_is_in_recovery(), \
     CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
          ELSE pg_catalog.pg_current_wal_insert_lsn() END, \
     (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
     CASE WHEN pg_catalog.pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) \
          ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)) \
               ::bit(32)::int END";

/// How far a standby has come.
pub(super) const REPLAYED: &str =
    "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_last_wal_replay_lsn()";

/// Asks whether the table, of which the transaction has a lock, is partitioned, and for the condition that the
/// publications put on its rows: null if one of them puts none.
pub(super) fn facts(oid: u32, publications: &[Publication], version: u32) -> String {
    let names: Vec<String> = publications.iter().map(|p| quote_literal(p.as_str())).collect();
    let names = names.join(", ");
    let condition = match version {
        150_000.. => {
            "CASE WHEN pg_catalog.bool_and(t.qual IS NOT NULL) \
             THEN pg_catalog.string_agg('(' || pg_catalog.pg_get_expr(t.qual, t.relid) || ')', ' OR ') END"
        }
        _ => "NULL",
    };
    format!(
        "SELECT c.relkind = 'p', {condition} \
         FROM pg_catalog.pg_class c LEFT JOIN {tables} t ON t.relid = c.oid AND t.pubname IN ({names}) \
         WHERE c.oid = {oid} GROUP BY c.relkind",
        tables = publication_tables(version),
    )
}

/// Lets the operators of `citext` be found where the extension is: they are its own.
pub(super) const WITH_CITEXT: &str = "SELECT pg_catalog.set_config('search_path', \
     pg_catalog.concat_ws(', ', 'pg_catalog', (SELECT pg_catalog.quote_ident(n.nspname) \
         FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace \
         WHERE e.extname = 'citext')), true)";

/// Has values of `regclass` and so on printed as the stream has them, and as an application's session does.
pub(super) fn names_in_values() -> String {
    format!("SET LOCAL search_path = {NAMES_IN_VALUES}")
}

/// Reads the rows: of the table alone, since tables that inherit from it are published as themselves, unless it is
/// partitioned.
pub(super) fn select(
    relation: &Relation,
    columns: &[usize],
    is_partitioned: bool,
    row_filter: Option<&str>,
    predicate: Option<&Pushed>,
) -> String {
    let columns = columns.iter().filter_map(|&index| relation.columns.get(index));
    let columns: Vec<String> = columns.map(|column| quote_identifier(&column.name)).collect();
    let only = if is_partitioned { "" } else { "ONLY " };
    let mut sql = format!(
        "SELECT {} FROM {only}{}",
        columns.join(", "),
        qualified(&relation.table)
    );
    let predicate = predicate.map(|pushed| pushed.sql.as_str());
    let conditions: Vec<String> = [row_filter, predicate]
        .into_iter()
        .flatten()
        .map(|condition| format!("({condition})"))
        .collect();
    if !conditions.is_empty() {
        sql.push_str(" WHERE ");
        sql.push_str(&conditions.join(" AND "));
    }
    sql
}

fn qualified(table: &TableName) -> String {
    format!(
        "{}.{}",
        quote_identifier(&table.schema),
        quote_identifier(&table.name)
    )
}

/// Makes the primary write its log to disk up to here. (No session of ours waits for a standby.)
pub(super) const NUDGE: &str =
    "SET TRANSACTION READ WRITE; SELECT pg_catalog.pg_logical_emit_message(true, 'walcast.flush', '')";
