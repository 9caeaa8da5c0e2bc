//! The configuration file of `serve`, and `walcast config`, which looks at it.

mod file;
mod flag;
mod schema;
mod show;
mod sources;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::anyhow;

pub(super) use self::file::{Loaded, Refused, parse};
pub(super) use self::flag::ConfigFlag;
pub(super) use self::sources::Own;
use super::{WrongFlags, print};

/// Look at the configuration: check it, show where each value comes from, or print a schema for editors.
///
/// No database is asked: `walcast check` does that.
#[derive(Debug, clap::Args)]
pub(super) struct Command {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, clap::Subcommand)]
enum Question {
    /// Check that serve would start with the file, the environment and these flags, as far as no database can tell.
    ///
    /// All errors are reported at once, each with line and column. Exits with 2 if there are any.
    Check(Given),
    /// Print the value of each flag and section that serve would use, and where it comes from.
    ///
    /// The output is a configuration file of the same meaning, but for values that may hold a password: those are hidden.
    Show(Given),
    /// Print a JSON schema of the configuration file, for editors.
    Schema,
}

/// The file and the flags that `serve` would be given.
#[derive(Debug, clap::Args)]
struct Given {
    #[command(flatten)]
    file: ConfigFlag,
    /// Flags as serve would be given them, after "--".
    #[arg(last = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

impl Given {
    /// Reads the file, if one is named.
    fn read(&self) -> Result<Option<crate::config::File>, WrongFlags> {
        let file = self.file.config.as_deref().map(file::read);
        file.transpose().map_err(WrongFlags)
    }
}

pub(super) fn run(args: &Command) -> anyhow::Result<ExitCode> {
    let done = match &args.question {
        Question::Check(given) => check(given),
        Question::Show(given) => show(given),
        Question::Schema => Ok(schema::text()),
    };
    match done {
        Ok(text) => {
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(wrong) => Ok(wrong.report()),
    }
}

fn show(given: &Given) -> Result<String, WrongFlags> {
    let file = given.read()?;
    show::text(file.as_ref(), &given.flags).map_err(WrongFlags::of_clap)
}

/// Checks what `serve` would check before it asks a database.
fn check(given: &Given) -> Result<String, WrongFlags> {
    let file = given.read()?.unwrap_or_default();
    let missing = show::missing(&file, &given.flags).map_err(WrongFlags::of_clap)?;
    if let Some(served) = file::serve(&file, &given.flags)? {
        served.args.config(&served.sources, &file.access)?;
    }
    if missing.is_empty() {
        return Ok("ok: the configuration is complete\n".into());
    }
    Err(WrongFlags(anyhow!(
        "there is no value for {}: give one in the file, as a flag, or as a variable of the environment",
        missing.join(", ")
    )))
}

#[cfg(test)]
mod show_tests;
#[cfg(test)]
mod sources_tests;
#[cfg(test)]
mod tests;
