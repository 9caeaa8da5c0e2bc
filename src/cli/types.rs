//! `walcast types`: the tables that clients can subscribe to, as TypeScript.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::look::look;
use super::serve::Source;
use super::{WrongFlags, print};
use crate::schema::{TypeScriptNumbers, Typed, typescript};

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
    #[arg(long, env = "WALCAST_NUMBERS", value_name = "KIND", value_enum, default_value_t = TypeScriptNumbers::Text)]
    numbers: TypeScriptNumbers,
    /// Compare instead of writing: for continuous integration.
    #[arg(long, env = "WALCAST_CHECK", requires = "out")]
    check: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let looked = look(None, &args.source, |info, wanted| {
        typescript(info, &wanted.publications, None, args.numbers)
    });
    let typed = match looked {
        Ok(typed) => typed,
        Err(code) => return Ok(code),
    };
    if typed.is_empty {
        eprintln!("the publications have no tables: ALTER PUBLICATION … ADD TABLE …");
    }
    let Some(file) = &args.out else {
        print(&typed.text())?;
        return Ok(ExitCode::SUCCESS);
    };
    let done = if args.check {
        check(file, &typed.body)
    } else {
        std::fs::write(file, typed.text())
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

/// The most lines that are shown of a difference.
const MAX_LINES: usize = 20;

/// True if the file has these tables. Its head may differ: another version, or another database with the same tables.
fn check(file: &Path, body: &str) -> Result<bool, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?
        .replace("\r\n", "\n");
    let there = text.split_once(Typed::END_OF_HEAD).map_or("", |(_, there)| there);
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
