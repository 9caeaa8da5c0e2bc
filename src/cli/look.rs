//! Looking at a database without serving it: what `check` and `tables` have in common.

use std::process::ExitCode;

use super::serve::Source;
use crate::app::cannot_look;
use crate::postgres::{ConnInfo, Error, Requirements};

/// The exit code if a flag's value cannot be used, as clap has it.
const WRONG_FLAGS: u8 = 2;
/// The exit code if the database cannot be reached.
const UNREACHABLE: u8 = 3;

/// The answer of the database that the flags name, or the exit code once it was said what is wrong: 2 if it is a flag,
/// 3 if the database cannot be asked.
pub(super) fn look<T>(
    source: &Source,
    question: impl FnOnce(&ConnInfo, &Requirements) -> Result<T, Error>,
) -> Result<T, ExitCode> {
    let failed = |error: &anyhow::Error, code| {
        eprintln!("error: {error:#}");
        ExitCode::from(code)
    };
    let wanted = source.wanted();
    let info = source.conninfo().map_err(|error| failed(&error, WRONG_FLAGS))?;
    question(&info, &wanted).map_err(|error| failed(&cannot_look(error, &info), UNREACHABLE))
}
