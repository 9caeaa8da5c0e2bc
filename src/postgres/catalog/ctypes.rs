//! How collations fold letters: their [`Ctype`], and the server's tables of letters.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::*;
use crate::types::{CaseMap, Ctype};

/// The first version whose folding was not read in its sources (`str_tolower` in `formatting.c`, and what it calls).
const UNREAD: u32 = 190_000;

/// The ctype's name, as SQL, of the collation `co` of `pg_collation` in the database `d` of `pg_database`; null where
/// `lower` does not map each character by itself, or where the encoding is not one of those in which it was checked.
pub(super) fn of_collation(version: u32) -> String {
    let builtin = match version >= 170_000 {
        true => "WHEN 'b' THEN 'builtin ' || co.colllocale ",
        false => "",
    };
    let default = default_name(version);
    checked(
        version,
        &format!(
            "CASE co.collprovider WHEN 'd' THEN {default} WHEN 'c' THEN 'libc ' || co.collctype {builtin}END"
        ),
    )
}

/// That of the database `d`'s own collation.
pub(super) fn of_database(version: u32) -> String {
    checked(version, &default_name(version))
}

fn default_name(version: u32) -> String {
    let (provider, builtin) = match version {
        170_000.. => ("d.datlocprovider", "WHEN 'b' THEN 'builtin ' || d.datlocale "),
        150_000.. => ("d.datlocprovider", ""),
        _ => ("'c'", ""),
    };
    format!("CASE {provider} WHEN 'c' THEN 'libc ' || d.datctype {builtin}END")
}

/// LATIN1 folds byte by byte; there only ASCII letters are known to fold.
fn checked(version: u32, name: &str) -> String {
    match version < UNREAD {
        true => format!(
            "CASE WHEN d.encoding = 6 OR d.encoding = 8 AND {name} IN ('libc C', 'libc POSIX', 'builtin C') \
             THEN {name} END"
        ),
        false => "NULL".to_owned(),
    }
}

/// The ctype of that name.
pub(super) fn read(name: Option<&str>) -> Ctype {
    match name {
        Some("libc C" | "libc POSIX" | "builtin C") => Ctype::C,
        // `PG_UNICODE_FAST` looks at what stands around a letter.
        Some("builtin C.UTF-8") => Ctype::Named("builtin C.UTF-8".to_owned()),
        Some(name) if name.starts_with("libc ") => Ctype::Named(name.to_owned()),
        _ => Ctype::Unknown,
    }
}

/// Asks for the letters of ctypes, of each once: what is known to the process is not asked again, and neither is what no
/// letters can be. A question that failed is asked again.
#[derive(Debug, Default)]
pub(super) struct Letters {
    unusable: HashSet<String>,
    failed: HashMap<String, Failure>,
}

/// A question that failed.
#[derive(Debug)]
struct Failure {
    at: Instant,
    /// How long after that it is asked again.
    pause: Duration,
    /// The reason, said once.
    why: String,
}

/// The first pause after a question that failed; each further one doubles it.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(60);

impl Letters {
    /// Has the ctype's letters known; `collation` is one that has it, as SQL names it.
    ///
    /// # Errors
    /// The server cannot be asked. If it refuses to answer, predicates that need the letters are refused until it does; if
    /// it answers what no `lower` can be, they are refused for good.
    pub(super) fn learn(
        &mut self,
        session: &mut Session,
        ctype: &Ctype,
        collation: &str,
    ) -> Result<(), Error> {
        let Ctype::Named(name) = ctype else {
            return Ok(());
        };
        let waits = |failure: &Failure| failure.at.elapsed() < failure.pause;
        if CaseMap::of(ctype).is_some()
            || self.unusable.contains(name)
            || self.failed.get(name).is_some_and(waits)
        {
            return Ok(());
        }
        let why = match session.ask(|_| sql(collation)) {
            Ok(rows) => {
                if self.failed.remove(name).is_some() {
                    tracing::info!(ctype = %name, "how this ctype folds letters is known now");
                }
                match (letters(&rows, 1), letters(&rows, 2)) {
                    (Some(lower), Some(upper)) => match CaseMap::learn(name, lower, upper) {
                        Ok(()) => return Ok(()),
                        Err(error) => error.to_string(),
                    },
                    _ => "a letter's lower or upper case is not one character".to_owned(),
                }
            }
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                self.note_failure(name, error.to_string());
                return Ok(());
            }
        };
        tracing::warn!(ctype = %name, %why, "how this ctype folds letters cannot be used: predicates with ILIKE or citext are refused");
        self.unusable.insert(name.clone());
        Ok(())
    }

    /// Notes that the server did not answer: it is asked again, ever more rarely.
    fn note_failure(&mut self, name: &str, why: String) {
        let before = self.failed.get(name);
        let pause = before.map_or(MIN_PAUSE, |failure| (failure.pause * 2).min(MAX_PAUSE));
        if before.is_none_or(|failure| failure.why != why) {
            tracing::warn!(ctype = %name, %why, "how this ctype folds letters is not known yet: predicates with ILIKE or citext are refused until the server answers");
        }
        let at = Instant::now();
        self.failed.insert(name.to_owned(), Failure { at, pause, why });
    }
}

/// All characters that `lower` or `upper` changes, and what they become. About 2,800 rows, in less than half a second.
fn sql(collation: &str) -> String {
    format!(
        "SELECT s.i, NULLIF(s.lower, s.c), NULLIF(s.upper, s.c) FROM (SELECT c.i, c.c, \
                pg_catalog.lower(c.c COLLATE {collation}) COLLATE \"C\" AS lower, \
                pg_catalog.upper(c.c COLLATE {collation}) COLLATE \"C\" AS upper \
             FROM (SELECT i, pg_catalog.chr(i) COLLATE \"C\" AS c FROM pg_catalog.generate_series(1, 1114111) i \
                 WHERE i NOT BETWEEN 55296 AND 57343) c) s \
         WHERE s.lower <> s.c OR s.upper <> s.c"
    )
}

/// The letters that change, each with what the column of that index has for it; `None` if that is not one character.
fn letters(rows: &[Row], index: usize) -> Option<Vec<(char, char)>> {
    let changed = rows.iter().filter(|row| row.get(index).is_some());
    let letter = |row: &Row| {
        let letter = char::from_u32(row.get(0)?.parse().ok()?)?;
        let mut other = row.get(index)?.chars();
        match (other.next(), other.next()) {
            (Some(other), None) => Some((letter, other)),
            _ => None,
        }
    };
    changed.map(letter).collect()
}
