//! The `walcast` binary: parse, run, exit code.

use std::process::ExitCode;

use walcast::cli::Cli;

fn main() -> ExitCode {
    match Cli::from_args().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
