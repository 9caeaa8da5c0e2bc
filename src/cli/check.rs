//! `walcast check`: names everything that would keep `serve` from working.

use std::process::ExitCode;

use super::serve::Source;
use crate::app::cannot_look;
use crate::postgres::{self, Severity};

/// Look at a database, and name everything that would keep `serve` from working, each with what mends it.
///
/// Changes nothing. Exits with 1 if there is anything that would keep `serve` from working, with 3 if the database
/// cannot be reached, and with 2 if a flag is wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
}

/// The exit code if a flag's value cannot be used, as clap has it.
pub(super) const WRONG_FLAGS: u8 = 2;
/// The exit code if the database cannot be reached.
pub(super) const UNREACHABLE: u8 = 3;

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let wanted = args.source.wanted();
    let info = match args.source.conninfo() {
        Ok(info) => info,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(WRONG_FLAGS));
        }
    };
    let findings = match postgres::check(&info, &wanted) {
        Ok(findings) => findings,
        Err(error) => {
            eprintln!("error: {:#}", cannot_look(error, &info));
            return Ok(ExitCode::from(UNREACHABLE));
        }
    };
    for finding in &findings {
        println!("{finding}");
    }
    let blocked = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Blocks)
        .count();
    if blocked > 0 {
        println!("{blocked} of these would keep walcast serve from working");
        return Ok(ExitCode::from(1));
    }
    println!("ok: walcast serve would work");
    Ok(ExitCode::SUCCESS)
}
