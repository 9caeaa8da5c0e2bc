//! The `walcast` binary: parse, run, exit code.

use std::process::ExitCode;

use walcast::cli::{Cli, WrongFlags};

fn main() -> ExitCode {
    match Cli::from_args().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<WrongFlags>() {
                ExitCode::from(WrongFlags::EXIT_CODE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
