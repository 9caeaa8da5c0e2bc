//! Settings that somebody else changes while walcast runs: for its role, and for the server.

use fastrand::Rng;
use walcast::postgres::Connection;

use crate::support::{Database, eventually};

/// The role that walcast has.
pub(crate) const ROLE: &str = "odd";

pub(crate) const SCHEMA: &str = "
    CREATE ROLE odd LOGIN REPLICATION;
    CREATE ROLE other;
    GRANT other TO odd;
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO odd, other;
";

/// Settings that change the text of values, what predicates mean, how long a session lives, or how it reads.
const SETTINGS: [(&str, &str); 41] = [
    ("datestyle", "'German, DMY'"),
    ("datestyle", "'SQL, MDY'"),
    ("intervalstyle", "'iso_8601'"),
    ("timezone", "'Asia/Kolkata'"),
    ("extra_float_digits", "-10"),
    ("bytea_output", "'escape'"),
    ("client_encoding", "'LATIN1'"),
    ("quote_all_identifiers", "on"),
    ("search_path", "nowhere"),
    ("standard_conforming_strings", "off"),
    ("backslash_quote", "off"),
    ("transform_null_equals", "on"),
    ("array_nulls", "off"),
    ("gin_fuzzy_search_limit", "3"),
    ("xmloption", "'document'"),
    ("lc_messages", "'C.UTF-8'"),
    ("lc_time", "'C.UTF-8'"),
    ("client_min_messages", "'debug3'"),
    ("client_min_messages", "'error'"),
    ("role", "'other'"),
    ("row_security", "off"),
    // It is the administrator's bound on snapshots, too.
    ("statement_timeout", "'20s'"),
    ("lock_timeout", "'1ms'"),
    ("idle_in_transaction_session_timeout", "'20ms'"),
    ("idle_session_timeout", "'100ms'"),
    ("default_transaction_isolation", "'serializable'"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_deferrable", "on"),
    ("synchronous_commit", "'remote_apply'"),
    ("logical_decoding_work_mem", "'64MB'"),
    ("wal_sender_timeout", "'2s'"),
    ("work_mem", "'64kB'"),
    ("enable_seqscan", "off"),
    ("enable_indexscan", "off"),
    ("max_parallel_workers_per_gather", "4"),
    ("parallel_setup_cost", "0"),
    ("cursor_tuple_fraction", "1"),
    ("plan_cache_mode", "'force_generic_plan'"),
    ("exit_on_error", "on"),
    ("jit_above_cost", "0"),
    ("constraint_exclusion", "off"),
];

/// Gives walcast's role some other settings, or none any more, and ends its sessions: the next ones begin with these.
pub(crate) fn change(database: &Database, rng: &mut Rng) {
    let mut sql = format!(
        "ALTER ROLE {ROLE} RESET ALL; ALTER ROLE {ROLE} IN DATABASE {} RESET ALL;",
        database.name
    );
    for _ in 0..rng.u32(0..7) {
        let (name, value) = *rng.choice(&SETTINGS).unwrap();
        let place = if rng.bool() {
            format!("IN DATABASE {}", database.name)
        } else {
            String::new()
        };
        sql += &format!("ALTER ROLE {ROLE} {place} SET {name} = {value};");
    }
    eprintln!("{sql}");
    let mut connection = database.connect();
    connection
        .query(&sql)
        .unwrap_or_else(|error| panic!("{error}: {sql}"));
    terminate(&mut connection);
}

fn terminate(connection: &mut Connection) {
    connection
        .query(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
        ))
        .unwrap();
}

/// Has commits wait for walcast, or not any more. It is one of the standbys that a star names.
pub(crate) fn synchronous(database: &Database, rng: &mut Rng) {
    let standbys = *rng
        .choice(&["*", "*", "FIRST 1 (walcast)", "ANY 1 (*)", "", ""])
        .unwrap();
    let waits_for = *rng
        .choice(&["on", "on", "remote_write", "remote_apply", "local"])
        .unwrap();
    eprintln!("synchronous_standby_names = '{standbys}', synchronous_commit = {waits_for}");
    // The server may be on its way back.
    eventually("the server's settings can be changed", || {
        let mut connection = database.connect();
        for statement in [
            format!("ALTER SYSTEM SET synchronous_standby_names = '{standbys}'"),
            format!("ALTER SYSTEM SET synchronous_commit = '{waits_for}'"),
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            connection.query(&statement).ok()?;
        }
        Some(())
    });
}

/// From here on no commit waits.
pub(crate) fn not_synchronous(database: &Database) {
    for statement in [
        "ALTER SYSTEM RESET synchronous_standby_names",
        "SELECT pg_reload_conf()",
    ] {
        database.sql(statement);
    }
}
