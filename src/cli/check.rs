//! `walcast check`: names everything that would keep `serve` from working.

use std::process::ExitCode;

use super::WrongFlags;
use super::config::{ConfigFlag, Loaded};
use super::look::look;
use super::serve::Source;
use crate::config::Access;
use crate::policy::{Misfit, Policies, misfits};
use crate::postgres::{self, Catalog, Code, Severity};

/// Look at a database, and name everything that would keep `serve` from working, each with what mends it.
///
/// Changes nothing. With --config, the whole file is read as serve reads it. Exits with 1 if there is anything that
/// would keep `serve` from working, with 3 if the database cannot be reached, and with 2 if a flag or the file is
/// wrong.
#[derive(Debug, clap::Args)]
pub(crate) struct Command {
    #[command(flatten)]
    file: ConfigFlag,
    #[command(flatten)]
    source: Source,
}

pub(crate) fn run(args: &Command, loaded: Option<&Loaded>) -> ExitCode {
    if let Some(Err(wrong)) = loaded.map(flags_agree) {
        return wrong.report();
    }
    let findings = match look(&args.source, postgres::check) {
        Ok(findings) => findings,
        Err(code) => return code,
    };
    for finding in &findings {
        println!("{finding}");
    }
    let has_publications = findings
        .iter()
        .all(|finding| finding.code != Code::PublicationMissing);
    let loaded = loaded.filter(|_| has_publications);
    let misfits = match loaded.map(|loaded| policies(args, &loaded.file.access)) {
        Some(Err(code)) => return code,
        Some(Ok(misfits)) => misfits,
        None => Vec::new(),
    };
    for Misfit { is_error, error } in &misfits {
        let severity = if *is_error { "error" } else { "warning" };
        println!("{severity}: {error}");
    }
    let blocked = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Blocks)
        .count();
    let blocked = blocked + misfits.iter().filter(|misfit| misfit.is_error).count();
    if blocked > 0 {
        println!("{blocked} of these would keep walcast serve from working");
        return ExitCode::from(1);
    }
    println!("ok: walcast serve would work");
    ExitCode::SUCCESS
}

/// The policies that do not fit the published tables.
fn policies(args: &Command, access: &Access) -> Result<Vec<Misfit>, ExitCode> {
    if access.policies.is_empty() {
        return Ok(Vec::new());
    }
    // It was parsed when the flags were looked at.
    let policies = Policies::of(access).unwrap_or_default();
    look(&args.source, |info, wanted| {
        let mut catalog = Catalog::new(info.clone());
        let published = catalog.tables(&wanted.publications)?;
        misfits(access, &policies, &published, &mut catalog)
    })
}

/// Fails if values of the file, or of the environment with it, do not go together.
fn flags_agree(loaded: &Loaded) -> Result<(), WrongFlags> {
    let args = loaded.serve().map_err(WrongFlags::of_clap)?;
    let config = args.map(|args| args.config(&loaded.file.access));
    config.transpose().map(drop)
}
