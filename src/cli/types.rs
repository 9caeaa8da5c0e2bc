//! `walcast types`: the tables that clients can subscribe to, as TypeScript.

mod typescript;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::typescript::{Numbers, Table, body};
use super::look::look;
use super::serve::Source;
use super::{WrongFlags, print};
use crate::postgres::Catalog;

/// Write the tables of the publications as TypeScript: an interface for the rows of each, and a constant by which the
/// client infers them.
///
/// Asks the database, not a running server; the slot need not exist. With --check it writes nothing, and exits with 1 if
/// the file does not say what the database has now. Exits with 3 if the database cannot be reached, and with 2 if a flag
/// is wrong or the file cannot be read or written.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// File to write. Without it they are printed.
    #[arg(long, env = "WALCAST_OUT", value_name = "FILE")]
    out: Option<PathBuf>,
    /// Form of bigint and numeric, as the client is told to make them of their text: text, native (both are JavaScript's
    /// numbers), or bigint (of bigint alone; numeric is text).
    #[arg(long, env = "WALCAST_NUMBERS", value_name = "KIND", value_enum, default_value_t = Numbers::Text)]
    numbers: Numbers,
    /// Compare instead of writing: for continuous integration.
    #[arg(long, env = "WALCAST_CHECK", requires = "out")]
    check: bool,
}

/// The line that ends the head of a file. What follows depends on the tables alone.
const END_OF_HEAD: &str = "\n\n";

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let looked = look(&args.source, |info, wanted| {
        let mut catalog = Catalog::new(info.clone());
        let database = catalog.database()?;
        let mut relations = catalog.tables(&wanted.publications)?;
        relations.sort_by(|a, b| a.table.cmp(&b.table));
        let oids: Vec<u32> = relations.iter().map(|relation| relation.oid).collect();
        let not_null = catalog.not_null(&oids)?;
        let tables: Vec<Table> = relations
            .into_iter()
            .map(|relation| {
                let is_never_null = |name: &str| not_null.contains(&(relation.oid, name.to_owned()));
                let nullable = relation.columns.iter();
                let nullable = nullable.map(|column| !is_never_null(&column.name)).collect();
                Table { relation, nullable }
            })
            .collect();
        let publications: Vec<String> = wanted.publications.iter().map(ToString::to_string).collect();
        Ok((database, publications.join(", "), tables))
    });
    let (database, publications, tables) = match looked {
        Ok(looked) => looked,
        Err(code) => return Ok(code),
    };
    if tables.is_empty() {
        eprintln!("the publications have no tables: ALTER PUBLICATION … ADD TABLE …");
    }
    let body = body(&tables, args.numbers);
    let text = format!("{}{END_OF_HEAD}{body}", head(&database, &publications, &body));
    let Some(file) = &args.out else {
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    };
    let done = if args.check {
        check(file, &body)
    } else {
        std::fs::write(file, text)
            .map(|()| true)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))
    };
    Ok(match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(WrongFlags::EXIT_CODE)
        }
    })
}

fn head(database: &str, publications: &str, body: &str) -> String {
    // A name may have a line's end in it.
    let line = |text: &str| text.replace(|c: char| c.is_control(), " ");
    format!(
        "// Written by `walcast types`, version {}: do not edit.\n// Database {}, publication {}, {}.",
        env!("CARGO_PKG_VERSION"),
        line(database),
        line(publications),
        hash(body),
    )
}

/// A name of what the tables are: the first 64 bits of its SHA-256.
fn hash(body: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
    let digits = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}"));
    format!("sha256 {}", digits.collect::<String>())
}

/// The most lines that are shown of a difference.
const MAX_LINES: usize = 20;

/// True if the file has these tables. Its head may differ: another version, or another database with the same tables.
fn check(file: &Path, body: &str) -> Result<bool, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?
        .replace("\r\n", "\n");
    let there = text.split_once(END_OF_HEAD).map_or("", |(_, there)| there);
    if there == body {
        return Ok(true);
    }
    eprintln!(
        "{} is not what the database has: run `walcast types` again with the same flags, without --check",
        file.display()
    );
    let lines = |text: &'_ str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    let (before, now) = (lines(there), lines(body));
    let gone = there
        .lines()
        .filter(|line| !now.contains(*line))
        .map(|line| format!("- {line}"));
    let new = body
        .lines()
        .filter(|line| !before.contains(*line))
        .map(|line| format!("+ {line}"));
    let differences: Vec<String> = gone.chain(new).collect();
    for line in differences.iter().take(MAX_LINES) {
        eprintln!("{line}");
    }
    if let Some(more @ 1..) = differences.len().checked_sub(MAX_LINES) {
        eprintln!("and {more} more lines");
    }
    Ok(false)
}
