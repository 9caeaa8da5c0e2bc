//! `walcast man` and `walcast completions`: what packages install beside the program.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, print};

/// Write the manual pages: walcast.1, and one for each command.
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// The directory, which is made if there is none.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Print a shell's completions of commands and flags.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Man {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        write(&self.directory).with_context(|| format!("cannot write to {}", self.directory.display()))
    }
}

fn write(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(definition(), directory)
}

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut definition(), "walcast", &mut script);
        print(&String::from_utf8(script).context("the script is no text")?)
    }
}

/// The command line. Values of this machine's environment are no part of a manual.
fn definition() -> clap::Command {
    let hidden = |command: clap::Command| command.mut_args(|arg| arg.hide_env_values(true));
    hidden(Cli::command()).mut_subcommands(move |command| hidden(command).mut_subcommands(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_each_command_with_its_flags() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        for command in Cli::command().get_subcommands() {
            let name = format!("walcast-{}.1", command.get_name());
            let page = std::fs::read_to_string(directory.path().join(&name)).unwrap();
            for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
                let printed = flag.replace('-', "\\-");
                assert!(page.contains(&format!("\\-\\-{printed}")), "{name}: --{flag}");
            }
        }
        let all = std::fs::read_to_string(directory.path().join("walcast.1")).unwrap();
        assert!(all.contains("walcast\\-serve(1)"), "{all}");
    }

    #[test]
    fn each_shell_completes_every_command() {
        for &shell in <Shell as clap::ValueEnum>::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut definition(), "walcast", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(
                    script.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
        }
    }
}
