//! The commits that wait for a session: the grammar of `synchronous_standby_names`.

use super::connection::Connection;
use super::error::Error;
use super::select::{PgType, TypedRow};

/// Asks for the setting, and for what this session is called.
pub(super) const SQL: &str = "SELECT pg_catalog.current_setting('synchronous_standby_names'), \
    pg_catalog.current_setting('application_name'), pg_catalog.pg_is_in_recovery()";

/// The setting, if it names the session.
pub(super) fn naming(setting: &str, application_name: &str, in_recovery: bool) -> Option<String> {
    let named = !in_recovery && names(setting, application_name);
    named.then(|| setting.to_owned())
}

impl Connection {
    /// The setting `synchronous_standby_names`, if this session, once it streams, is one of those that commits may
    /// have to wait for. (Where several are named, which of them count changes with who is connected; a role without
    /// `pg_read_all_stats` cannot see it.)
    pub fn synchronous_by(&mut self) -> Result<Option<String>, Error> {
        let row = self.query_one("synchronous_standby_names", SQL)?;
        let text = |index| row.get(index).unwrap_or_default();
        Ok(naming(text(0), text(1), row.is_true(2)))
    }

    /// The processes that hold a lock which the process that reads a slot waits for, one of ours. It takes locks
    /// itself to print rows with composites (`lookup_rowtype_tupdesc` in the server's source).
    pub fn holders_of_what_decoding_waits_for(&mut self, reader: u32) -> Result<Vec<u32>, Error> {
        let rows = self.select(
            "SELECT holder FROM pg_catalog.pg_stat_activity a, \
             LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(a.pid)) holder \
             WHERE a.pid = $1 AND a.wait_event_type = 'Lock'",
            &[(&reader.cast_signed(), PgType::INT4)],
        )?;
        let process = |row: &TypedRow| Ok(row.get::<i32>(0, "process")?.cast_unsigned());
        rows.iter().map(process).collect()
    }
}

/// True if the setting names a standby of that name: `FIRST 2 (a, "b c")`, `ANY 1 (*)`, `2 (a, b)`, `a, b` (see
/// `syncrep_gram.y` and `SyncRepGetStandbyPriority` in the server's source).
fn names(setting: &str, application_name: &str) -> bool {
    let mut named = Vec::new();
    let mut rest = setting.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            // What came before was how many, and which of them.
            '(' => named.clear(),
            ')' | ',' => {}
            '"' => {
                let mut name = String::new();
                while let Some(c) = rest.next() {
                    match c {
                        '"' if rest.next_if_eq(&'"').is_none() => break,
                        c => name.push(c),
                    }
                }
                named.push(name);
            }
            c if c.is_whitespace() => {}
            c => {
                let mut name = String::from(c);
                let is_name = |c: &char| !c.is_whitespace() && !matches!(c, '(' | ')' | ',' | '"');
                while let Some(c) = rest.next_if(is_name) {
                    name.push(c);
                }
                named.push(name);
            }
        }
    }
    // A quoted star is one, too.
    named
        .iter()
        .any(|name| name == "*" || name.eq_ignore_ascii_case(application_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_is_named_by_its_application_name_or_by_a_star() {
        let yes = [
            "*",
            "\"*\"",
            "walcast",
            "WalCast",
            "a, walcast",
            "FIRST 1 (a, walcast)",
            "first 1(walcast)",
            "2 (a,walcast , b)",
            "ANY 1 (*)",
            "\"walcast\"",
            "any 1 (\"Walcast\")",
        ];
        for setting in yes {
            assert!(names(setting, "walcast"), "{setting}");
        }
        let no = [
            "",
            "nobody",
            "walcast2",
            "FIRST 1 (a, b)",
            "\"walcast \"",
            "any 1 (a)",
            "\"wal\"\"cast\"",
        ];
        for setting in no {
            assert!(!names(setting, "walcast"), "{setting}");
        }
        assert!(names("a \"x\"\"y\"", "X\"y"));
        assert!(!names("FIRST 1 (a)", "first") && !names("ANY 3 (a)", "3"));
        assert!(names("first, any", "ANY"));
    }
}
