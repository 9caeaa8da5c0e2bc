//! The side of collations that predicates need: how they fold letters, by the server's tables, and whether they order
//! by code points.

use super::*;
use crate::types::{CaseMap, CollationQuestion, Ctype, LibraryOrder};

/// The first version whose folding was not read in its sources (`str_tolower` in `formatting.c`, and what it calls).
const UNREAD: u32 = 190_000;

/// The ctype's name, as SQL, of the collation `co` of `pg_collation` in the database `d` of `pg_database`; null where
/// `lower` does not map each character by itself, or where the encoding is not one of those in which it was checked.
pub(super) fn of_collation(version: u32) -> String {
    let builtin = if version >= 170_000 {
        "WHEN 'b' THEN 'builtin ' || co.colllocale "
    } else {
        ""
    };
    let default = default_name(version);
    checked(
        version,
        &format!(
            "CASE co.collprovider WHEN 'd' THEN {default} WHEN 'c' THEN 'libc ' || co.collctype {builtin}END"
        ),
    )
}

/// The expression for the database `d`'s own collation.
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
    if version < UNREAD {
        format!(
            "CASE WHEN d.encoding = 6 OR d.encoding = 8 AND {name} IN ('libc C', 'libc POSIX', 'builtin C') \
             THEN {name} END"
        )
    } else {
        "NULL".to_owned()
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

impl Catalog {
    /// Asks the server what a predicate depends on, and keeps it for as long as the process runs. A question that
    /// failed leaves nothing behind.
    ///
    /// # Errors
    /// The server cannot be asked, or refuses to answer.
    pub fn learn(&mut self, question: &CollationQuestion) -> Result<(), Error> {
        match question {
            CollationQuestion::Letters(name) => self.learn_letters(name),
            CollationQuestion::Order => self.learn_order(),
        }
    }

    fn learn_letters(&mut self, name: &str) -> Result<(), Error> {
        // Any collation that has the ctype folds as all of them do.
        let found = self.session.ask(|version| {
            format!(
                "SELECT co.oid::pg_catalog.regcollation::text FROM {COLLATIONS} AND {ctype} = $1 ORDER BY co.oid LIMIT 1",
                ctype = of_collation(version),
            )
        }, &[(&name, PgType::TEXT)])?;
        let found = found
            .first()
            .map(|row| row.get::<&str>(0, "collation"))
            .transpose()?;
        let Some(collation) = found else {
            tracing::warn!(
                event = "ctype_gone", ctype = %name,
                "no collation of the database folds letters in this way any more"
            );
            return Ok(());
        };
        tracing::debug!(ctype = %name, collation, "asking how this ctype folds letters");
        let rows = self.session.ask(|_| letters_sql(collation), &[])?;
        let why = match (letters(&rows, 1)?, letters(&rows, 2)?) {
            (Some(lower), Some(upper)) => match CaseMap::learn(name, lower, upper) {
                Ok(()) => return Ok(()),
                Err(error) => error.to_string(),
            },
            _ => {
                CaseMap::learn_none(name);
                "a letter's lower or upper case is not one character".to_owned()
            }
        };
        tracing::warn!(
            event = "ctype_unusable", ctype = %name, %why,
            "the letter folding of this ctype cannot be used: predicates with ILIKE or citext are refused"
        );
        Ok(())
    }

    fn learn_order(&mut self) -> Result<(), Error> {
        // The same locale has several spellings; they are few.
        let found = self.session.ask(|version| {
            format!(
                "SELECT pg_catalog.min(co.oid)::pg_catalog.regcollation::text FROM {COLLATIONS} AND {is_library} GROUP BY {locale}",
                is_library = is_library(version),
                locale = libc_locale(version)
            )
        }, &[])?;
        let mut order = LibraryOrder::CodePoints;
        for row in &found {
            let collation: &str = row.get(0, "collation")?;
            tracing::debug!(collation, "asking whether this collation orders by code points");
            if !self.orders_by_code_points(collation)? {
                tracing::warn!(
                    event = "collation_unusable",
                    collation,
                    "the server's C library does not order by code points under this collation: predicates that order by it are refused"
                );
                order = LibraryOrder::Other;
            }
        }
        if !found.is_empty() {
            order.learn();
        }
        Ok(())
    }

    /// True if texts are ordered by code point under a collation, named as in SQL, of which it is known that it orders
    /// texts character by character: this looks at each character and the next. What comes behind them must not count,
    /// as it would if they were told apart by more than their first weight.
    ///
    /// # Errors
    /// The server cannot be asked, or refuses to answer.
    pub fn orders_by_code_points(&mut self, collation: &str) -> Result<bool, Error> {
        let rows = self.session.ask(|_| {
            format!(
                "SELECT pg_catalog.bool_and(s.c COLLATE {collation} < s.next AND '' < s.c COLLATE {collation} \
                     AND (s.c || s.last) COLLATE {collation} < s.next || s.first) \
                 FROM (SELECT pg_catalog.chr(i) AS c, pg_catalog.chr(CASE i WHEN 55295 THEN 57344 ELSE i + 1 END) AS next, \
                         pg_catalog.chr(1) AS first, pg_catalog.chr(1114111) AS last \
                     FROM pg_catalog.generate_series(1, 1114110) i WHERE i NOT BETWEEN 55296 AND 57343) s"
            )
        }, &[])?;
        rows.first().map_or(Ok(false), |row| row.get(0, "order"))
    }
}

/// The collations `co` that texts of the database `d` can have.
const COLLATIONS: &str = "pg_catalog.pg_collation co JOIN pg_catalog.pg_database d \
     ON d.datname = pg_catalog.current_database() AND co.collencoding IN (-1, d.encoding) WHERE true";

/// The locale of a collation `co` of the C library by which it orders; null if it is another's.
fn libc_locale(version: u32) -> String {
    let default = match version {
        150_000.. => "CASE d.datlocprovider WHEN 'c' THEN d.datcollate END",
        _ => "d.datcollate",
    };
    format!("CASE co.collprovider WHEN 'c' THEN co.collcollate WHEN 'd' THEN {default} END")
}

/// True if a collation `co` of the database `d` orders as the C library's `C.UTF-8` does, however it is spelled.
pub(super) fn is_library(version: u32) -> String {
    let locale = libc_locale(version);
    format!("(d.encoding = 6 AND pg_catalog.lower({locale} COLLATE \"C\") IN ('c.utf-8', 'c.utf8'))")
}

/// All characters that `lower` or `upper` changes, and what they become. About 2,800 rows, in less than half a second.
fn letters_sql(collation: &str) -> String {
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
fn letters(rows: &[TypedRow], index: usize) -> Result<Option<Vec<(char, char)>>, Error> {
    let mut letters = Vec::new();
    for row in rows {
        let Some(other) = row.get::<Option<&str>>(index, "other case")? else {
            continue;
        };
        let mut other = other.chars();
        match (
            char::from_u32(row.get::<i32>(0, "letter")?.cast_unsigned()),
            other.next(),
            other.next(),
        ) {
            (Some(letter), Some(other), None) => letters.push((letter, other)),
            _ => return Ok(None),
        }
    }
    Ok(Some(letters))
}
