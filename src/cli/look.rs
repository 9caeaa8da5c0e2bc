//! Looking at a database without serving it: what `check` and `tables` have in common.

use std::process::ExitCode;

use super::WrongFlags;
use super::serve::Source;
use crate::bridge::Unreachable;
use crate::config::SourceName;
use crate::postgres::{ConnInfo, Error, Requirements};

/// The exit code if the database, or the server, cannot be reached.
pub(super) const UNREACHABLE: u8 = 3;

/// The answer of the database that the flags name, or the exit code once it was said what is wrong: 2 if it is a flag,
/// 3 if the database cannot be asked. `name` is that of the source, where there are several.
pub(super) fn look<T>(
    name: Option<&SourceName>,
    source: &Source,
    question: impl FnOnce(&ConnInfo, &Requirements) -> Result<T, Error>,
) -> Result<T, ExitCode> {
    let failed = |error: &anyhow::Error, code| {
        let of = name
            .map(|name| format!("[[source]] {name}: "))
            .unwrap_or_default();
        eprintln!("error: {of}{error:#}");
        ExitCode::from(code)
    };
    let wanted = source.wanted();
    let info = source
        .conninfo()
        .map_err(|error| failed(&error, WrongFlags::EXIT_CODE))?;
    question(&info, &wanted).map_err(|error| failed(&Unreachable::new(error, &info).into(), UNREACHABLE))
}
