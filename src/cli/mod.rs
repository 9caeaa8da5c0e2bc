//! The command line.

mod check;
mod config;
mod demo;
mod look;
mod manual;
mod reload;
mod serve;
mod signals;
mod status;
mod tables;
mod tail;
mod types;
mod values;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};

use self::config::{Loaded, Refused};

use crate::telemetry::{self, LogFormat};

/// Live queries over websockets from Postgres' logical replication.
///
/// Clients subscribe to a table with a SQL predicate and receive every matching row change, in commit order, without
/// missing or repeating one. Every flag can also be given as an environment variable, named in its help.
#[derive(Debug, Parser)]
#[command(name = "walcast", version = version(), max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Format of log lines.
    #[arg(
        long,
        global = true,
        env = "WALCAST_LOG_FORMAT",
        value_enum,
        default_value = "text"
    )]
    log_format: LogFormat,
    /// Level of the log on standard error: error, warn, info, debug or trace, also by module (walcast::ingest=debug).
    /// [default: info; of demo: warn]
    #[arg(long, global = true, env = "WALCAST_LOG")]
    log: Option<String>,
    /// The file that the command named, read.
    #[arg(skip)]
    loaded: Option<Loaded>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Command>),
    Tail(Box<tail::Args>),
    Check(check::Command),
    Config(config::Command),
    Tables(tables::Args),
    Types(types::Args),
    Status(status::Args),
    Demo(demo::Args),
    Man(manual::Man),
    Completions(manual::Completions),
}

/// The version, and the commit that the program was built from, where its build was told (`WALCAST_COMMIT`).
fn version() -> String {
    match option_env!("WALCAST_COMMIT").filter(|commit| !commit.is_empty()) {
        Some(commit) => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
        None => format!("{} (development build)", env!("CARGO_PKG_VERSION")),
    }
}

impl Cli {
    /// Parses the process's arguments, or prints help or what is wrong and exits.
    pub fn from_args() -> Cli {
        let arguments: Vec<_> = std::env::args_os().collect();
        match config::parse(&arguments) {
            Ok(cli) => cli,
            Err(Refused::Flags(error)) => error.exit(),
            Err(Refused::File(error)) => {
                error.report();
                std::process::exit(i32::from(WrongFlags::EXIT_CODE))
            }
        }
    }

    /// Does what was asked for.
    ///
    /// # Errors
    /// The cause, in words for people.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let usual = match self.command {
            Command::Demo(_) => "warn",
            _ => "info",
        };
        let log = self.log.as_deref().unwrap_or(usual);
        telemetry::start_logging(self.log_format, log)
            .map_err(|error| WrongFlags(anyhow!("{log:?} is no log filter (--log): {error}")))?;
        match self.command {
            Command::Serve(args) => serve::run(&args, self.loaded),
            Command::Tail(args) => tail::run(*args),
            Command::Check(args) => Ok(check::run(&args, self.loaded.as_ref())),
            Command::Config(args) => config::run(&args),
            Command::Tables(args) => Ok(tables::run(&args)),
            Command::Types(args) => types::run(&args),
            Command::Status(args) => status::run(&args),
            Command::Demo(args) => demo::run(&args),
            Command::Man(args) => args.run().map(|()| ExitCode::SUCCESS),
            Command::Completions(args) => args.run().map(|()| ExitCode::SUCCESS),
        }
    }
}

/// Prints a text. A reader that has gone, as `head` has, is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}

/// Flags that cannot be used as they are, by a rule that clap does not know.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct WrongFlags(anyhow::Error);

impl WrongFlags {
    /// The exit code, which is clap's for others.
    pub const EXIT_CODE: u8 = 2;

    /// Prints it, a line for each error of a file, and returns the exit code.
    fn report(&self) -> ExitCode {
        for line in self.to_string().lines() {
            eprintln!("error: {line}");
        }
        ExitCode::from(WrongFlags::EXIT_CODE)
    }

    /// An error of clap's, without the word that it begins with and the usage behind it.
    fn of_clap(error: clap::Error) -> WrongFlags {
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        // The usage that follows is that of serve, which may not be the command.
        let text = text.split("\n\nUsage:").next().unwrap_or(text).trim_end();
        WrongFlags(anyhow!("{text}"))
    }
}

#[cfg(test)]
mod docs_tests;
