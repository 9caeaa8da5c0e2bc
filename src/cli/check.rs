//! `walcast check`: names everything that would keep `serve` from working.

use std::process::ExitCode;

use super::look::look;
use super::serve::Source;
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

pub(crate) fn run(args: &Args) -> ExitCode {
    let findings = match look(&args.source, postgres::check) {
        Ok(findings) => findings,
        Err(code) => return code,
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
        return ExitCode::from(1);
    }
    println!("ok: walcast serve would work");
    ExitCode::SUCCESS
}
