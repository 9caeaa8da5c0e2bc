//! The settings of a session: what a role, a database, a server or a pooler may have set otherwise, and what depends
//! on it.
//!
//! They were found by going through `pg_settings` of versions 14 to 18, everything that can be set for a role or a
//! database. What only costs time (planning, `work_mem`) or is the administrator's to decide (logging, TCP,
//! `logical_decoding_work_mem`, `temp_file_limit`) is left as it is, but for `jit` and `plan_cache_mode`; what a session cannot set for itself (the
//! superuser's) is not depended on: `lc_messages` for one, so no error is recognised by its words. `lc_monetary`, by
//! which values of `money` are printed, keeps the value that the first session found: the currency is the
//! administrator's to say, and a change under way must not have the stream print one and a snapshot the other.
//!
//! The one thing to know: they are set by SQL once the session is open, and read back. In the startup message most
//! poolers refuse them, some pass them over without a word, and a login trigger can undo them.

use std::time::Instant;

use super::connection::{Connection, Row};
use super::conninfo::SharedMonetary;
use super::error::Error;
use super::link::Deadline;
use super::settings::{Purpose, Settings};
use crate::event::quote_literal;

/// The settings that the text of values depends on, both ways.
pub const PINNED: [(&str, &str); 7] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "3"),
    // Of `regclass`, `regtype` and so on.
    ("quote_all_identifiers", "off"),
];

/// The other settings that our own sessions depend on.
const OWN: [(&str, &str); 17] = [
    // No operator or type of ours is somebody's.
    ("search_path", "pg_catalog"),
    // What the SQL of a predicate means.
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    ("array_nulls", "on"),
    // Beyond it, an index of type GIN returns some of the rows, at random.
    ("gin_fuzzy_search_limit", "0"),
    // A standby refuses `serializable`.
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // That changes are passed over is said by a warning (version 18).
    ("client_min_messages", "warning"),
    // Nothing that we write is to wait for a standby: it may be ourselves.
    ("synchronous_commit", "local"),
    // The session's life. A question has its bound; `START_REPLICATION` and what is decoded have none.
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("exit_on_error", "off"),
    STATEMENT_TIMEOUT,
    TRANSACTION_TIMEOUT,
    JIT,
    // A plan that is kept would be of the catalog as it was before there were thousands of partitions.
    ("plan_cache_mode", "force_custom_plan"),
];

/// The schemas whose names are not qualified in values of `regclass`, `regtype` and so on, as in an application's
/// session: set once nothing is to be looked up by name any more.
pub const NAMES_IN_VALUES: &str = "public";

/// As long as we wait for an answer ourselves.
const STATEMENT_TIMEOUT: (&str, &str) = ("statement_timeout", "1min");
/// Decoding runs in transactions.
const TRANSACTION_TIMEOUT: (&str, &str) = ("transaction_timeout", "0");

/// In a database of some thousand tables, the server takes a second to compile a question about one of them that it
/// answers in a millisecond. Reading a table for a client is another matter, and the administrator's.
const JIT: (&str, &str) = ("jit", "off");

/// The settings of a session for `purpose` with a server of that version.
fn settings(purpose: Purpose, version: u32) -> Vec<(&'static str, &'static str)> {
    let own = OWN.into_iter().filter(|_| purpose != Purpose::Application);
    let known = own.filter(|setting| *setting != TRANSACTION_TIMEOUT || version >= 170_000);
    let fitting = known.filter_map(|setting| match (setting, purpose) {
        (STATEMENT_TIMEOUT, Purpose::Replication) => Some(("statement_timeout", "0")),
        (STATEMENT_TIMEOUT | JIT, Purpose::Snapshot) => None,
        _ => Some(setting),
    });
    PINNED.into_iter().chain(fitting).collect()
}

impl Connection {
    /// Makes sure of the session's settings.
    ///
    /// A process that is not the one whose key we got has a pooler before it. There nothing is set for longer than a
    /// transaction, unless the session is one for replication, which has its process to itself.
    pub(super) fn pin(
        &mut self,
        purpose: Purpose,
        deadline: Deadline,
        shared_monetary: &SharedMonetary,
    ) -> Result<(), Error> {
        let settings = settings(purpose, self.server_version_num()).into_iter();
        let mut wanted: Vec<(&'static str, String)> =
            settings.map(|(name, value)| (name, value.to_owned())).collect();
        if purpose != Purpose::Application {
            let lc_monetary = match shared_monetary.lc_monetary() {
                Some(known) => known.to_owned(),
                None => {
                    let sql = "BEGIN; SET LOCAL statement_timeout = 0; \
                               SELECT pg_catalog.current_setting('lc_monetary'); COMMIT";
                    let row = self.ask_by(deadline, "the session's settings", sql)?;
                    shared_monetary.agree(row.text(0, "lc_monetary")?).to_owned()
                }
            };
            wanted.push(("lc_monetary", lc_monetary));
        }
        let (key, _) = self.key;
        let is_local = match purpose {
            Purpose::Replication => "false".to_owned(),
            _ => format!("pg_catalog.pg_backend_pid() <> {key}"),
        };
        let set: Vec<String> = wanted
            .iter()
            .map(|(name, value)| {
                let name = quote_literal(name);
                let value = quote_literal(value);
                format!("pg_catalog.set_config({name}, {value}, {is_local})")
            })
            .collect();
        // The bound is of each statement by itself: the first one lifts it for the second.
        let sql = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0; SELECT pg_catalog.pg_backend_pid(), {}; COMMIT",
            set.join(", ")
        );
        let row = self.ask_by(deadline, "the session's settings", &sql)?;
        compare(&wanted, &row)?;
        let backend_pid = row.parse(0, "the session's process")?;
        let is_pooled = backend_pid != key;
        let each_time = is_pooled && purpose != Purpose::Replication;
        self.settings = Settings {
            each_time: each_time.then(|| set_local(&wanted)),
            backend_pid,
            wanted,
        };
        Ok(())
    }

    /// True if a pooler stands between us and the server.
    pub fn is_pooled(&self) -> bool {
        self.settings.backend_pid != self.key.0
    }

    /// Asks whether the settings hold, and whether it is the same process that answers: a pooler may have thought
    /// otherwise of both.
    pub(super) fn check_settings(&mut self) -> Result<(), Error> {
        let wanted = self.settings.wanted.clone();
        let current: Vec<String> = wanted
            .iter()
            .map(|(name, _)| format!("pg_catalog.current_setting({})", quote_literal(name)))
            .collect();
        let sql = format!("SELECT pg_catalog.pg_backend_pid(), {}", current.join(", "));
        let row = self.query_one("the session's settings", &sql)?;
        compare(&wanted, &row)?;
        if row.parse::<u32>(0, "the session's process")? == self.settings.backend_pid {
            Ok(())
        } else {
            Err(Error::Pooled)
        }
    }

    fn ask_by(&mut self, deadline: Deadline, question: &'static str, sql: &str) -> Result<Row, Error> {
        let usual = self.read_timeout;
        if let Some(deadline) = deadline {
            self.read_timeout = Some(deadline.saturating_duration_since(Instant::now()));
        }
        let answer = self.query_one(question, sql);
        self.read_timeout = usual;
        answer
    }
}

/// Sets for the transaction, in words that take no snapshot and so can stand before any statement.
fn set_local(wanted: &[(&'static str, String)]) -> String {
    let set = wanted
        .iter()
        .map(|(name, value)| format!("SET LOCAL {name} TO {}; ", quote_literal(value).trim_start()));
    set.collect()
}

/// Compares the settings with the columns of `row` from the second on.
fn compare(wanted: &[(&'static str, String)], row: &Row) -> Result<(), Error> {
    for (at, (name, value)) in (1..).zip(wanted) {
        let found = row.get(at).unwrap_or_default();
        if !found.eq_ignore_ascii_case(value) {
            return Err(Error::Setting {
                name,
                wanted: value.clone(),
                found: found.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_the_server_does_not_know_is_not_asked_for() {
        let names = |purpose, version| -> Vec<&str> {
            let settings = settings(purpose, version);
            settings.into_iter().map(|(name, _)| name).collect()
        };
        assert!(!names(Purpose::Replication, 160_009).contains(&"transaction_timeout"));
        assert!(names(Purpose::Replication, 170_000).contains(&"transaction_timeout"));
        assert_eq!(names(Purpose::Application, 180_000), PINNED.map(|(name, _)| name));
    }

    #[test]
    fn what_is_decoded_has_no_bound_and_a_question_has_one() {
        let timeout = |purpose| {
            let settings = settings(purpose, 170_000);
            settings
                .into_iter()
                .find(|(name, _)| *name == "statement_timeout")
        };
        assert_eq!(timeout(Purpose::Replication), Some(("statement_timeout", "0")));
        assert_eq!(timeout(Purpose::Query), Some(STATEMENT_TIMEOUT));
        assert_eq!(timeout(Purpose::Snapshot), None, "the administrator's");
        assert!(settings(Purpose::Query, 170_000).contains(&JIT));
        assert!(!settings(Purpose::Snapshot, 170_000).contains(&JIT));
    }
}
