//! Programs of this machine, and the files of `deploy/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PROGRAM, left_out};

/// A file of the repository.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A program, also of those that only root's path has, and of those that `scripts/install.sh chart` keeps beside what
/// cargo builds.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let own = Path::new(PROGRAM)
        .ancestors()
        .nth(2)
        .unwrap()
        .join("deploy-tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = [own].into_iter().chain(std::env::split_paths(&path));
    let mut found = places.chain(["/usr/sbin".into()]).map(|place| place.join(name));
    found.find(|program| program.exists())
}

/// A command of a program; `None`, and a word about it, if this machine does not have it.
pub(crate) fn command(name: &str) -> Option<Command> {
    let found = program(name);
    if found.is_none() {
        left_out(
            name,
            "it is not installed (scripts/install.sh deploy chart package)",
        );
    }
    found.map(Command::new)
}

/// Runs a command that has to succeed, and returns what it says.
pub(crate) fn run(command: &mut Command) -> String {
    let (succeeded, said) = outcome(command);
    assert!(succeeded, "{command:?}: {said}");
    said
}

/// Runs a command: whether it succeeds, and what it says.
pub(crate) fn outcome(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// A program that runs until it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended. Asked to, a program ends those that it has started, which would outlive it otherwise.
        let _gone = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && matches!(self.0.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The text with each of these parts replaced, all of which it has to have.
pub(crate) fn replaced(text: &str, parts: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in parts {
        assert!(text.contains(from), "there is no {from:?} in {text}");
        text = text.replace(from, to);
    }
    text
}

/// The environment variables of flags of `serve`.
pub(crate) fn variables_of_serve() -> Vec<String> {
    let help = run(Command::new(PROGRAM).args(["serve", "--help"]));
    let names = help.split("[env: ").skip(1);
    names
        .map(|rest| rest.split(['=', ']']).next().unwrap().to_owned())
        .collect()
}

/// The variables of walcast that a text names.
pub(crate) fn variables_in(text: &str) -> Vec<String> {
    let letters = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !letters(c));
    words
        .filter(|word| word.starts_with("WALCAST_"))
        .map(str::to_owned)
        .collect()
}
