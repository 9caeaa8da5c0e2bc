//! [`Printing`]: a program at work, and the lines that it prints.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::DEADLINE;

/// A program that runs until it is dropped, and the lines of its output and its errors, as they come.
pub struct Printing {
    child: Child,
    lines: Receiver<String>,
}

impl Printing {
    pub fn start(mut command: Command) -> Printing {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = BufReader::new(child.stderr.take().unwrap());
        let to = sender.clone();
        thread::spawn(move || out.lines().for_each(|line| drop(to.send(line.unwrap()))));
        thread::spawn(move || err.lines().for_each(|line| drop(sender.send(line.unwrap()))));
        Printing { child, lines }
    }

    /// The next line that holds `words`.
    pub fn line(&self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|error| panic!("waiting for {words:?}: {error}"));
            if line.contains(words) {
                return line;
            }
        }
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
