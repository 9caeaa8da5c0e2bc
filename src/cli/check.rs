//! `walcast check`: names everything that would keep `serve` from working.

use std::process::ExitCode;

use super::WrongFlags;
use super::config::{ConfigFlag, Loaded, Own};
use super::look::look;
use super::serve::Source;
use crate::config::{Access, SourceName};
use crate::policy::Misfit;
use crate::postgres::{self, Code, Severity};

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
    source: Own<Source>,
}

pub(crate) fn run(args: &Command, loaded: Option<&Loaded>) -> ExitCode {
    if let Some(Err(wrong)) = loaded.map(flags_agree) {
        return wrong.report();
    }
    let sources = match loaded.map(Loaded::sources).transpose() {
        Ok(sources) => sources.unwrap_or_default(),
        Err(wrong) => return wrong.report(),
    };
    let access = loaded.map(|loaded| &*loaded.file.access);
    let mut sums = Vec::new();
    if sources.is_empty()
        && let Some(source) = args.source.get()
    {
        sums.push(check(None, source, access));
    }
    for (name, source) in &sources {
        println!("[[source]] {name}");
        let access = access.map(|access| access.of_source(Some(name)));
        // One that cannot be asked keeps no other from being looked at.
        sums.push(check(Some(name), source, access.as_ref()));
    }
    let failed = sums.iter().find_map(|sum| sum.as_ref().err());
    let blocked: usize = sums.iter().flatten().sum();
    if blocked > 0 {
        println!("{blocked} of these would keep walcast serve from working");
    }
    match failed {
        Some(code) => *code,
        None if blocked > 0 => ExitCode::from(1),
        None => {
            println!("ok: walcast serve would work");
            ExitCode::SUCCESS
        }
    }
}

/// Looks at one database and prints what it finds. Returns the number of findings that would keep `serve` from working,
/// or the exit code if it cannot be asked.
fn check(name: Option<&SourceName>, source: &Source, access: Option<&Access>) -> Result<usize, ExitCode> {
    let findings = look(name, source, postgres::check)?;
    for finding in &findings {
        println!("{finding}");
    }
    let remarks = look(name, source, |info, _| postgres::remarks(info))?;
    for remark in &remarks {
        println!("note: {remark}");
    }
    let has_publications = findings
        .iter()
        .all(|finding| finding.code != Code::PublicationMissing);
    let misfits = match access.filter(|_| has_publications) {
        Some(access) => look(name, source, |info, wanted| {
            postgres::check_policies(info, &wanted.publications, access)
        })?,
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
    Ok(blocked + misfits.iter().filter(|misfit| misfit.is_error).count())
}

/// Fails if values of the file, or of the environment with it, do not go together.
fn flags_agree(loaded: &Loaded) -> Result<(), WrongFlags> {
    let served = loaded.serve()?;
    let config = served.map(|served| served.args.config(&served.sources, &loaded.file.access));
    config.transpose().map(drop)
}
