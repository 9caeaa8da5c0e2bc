//! `walcast demo` as its user runs it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The time that anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is there.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn walcast() -> Command {
    // Under nohup, what the terminal's end says would be ignored.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_walcast")]);
    let configured = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WALCAST_"));
    for (name, _) in configured {
        command.env_remove(name);
    }
    command
}

/// A running demo, on free ports.
pub(crate) struct Demo {
    child: Child,
    /// The directory of its own files.
    temp: Rc<tempfile::TempDir>,
    /// The throwaway server's directory.
    pub(crate) cluster: PathBuf,
    pub(crate) page: String,
    pub(crate) console: String,
    psql: Vec<String>,
}

impl Demo {
    pub(crate) fn start() -> Demo {
        Demo::start_in(Rc::new(tempfile::tempdir().unwrap()))
    }

    /// With its own files in a directory of choice.
    pub(crate) fn start_in(temp: Rc<tempfile::TempDir>) -> Demo {
        Demo::start_with(temp, &[])
    }

    /// With further flags, too.
    pub(crate) fn start_with(temp: Rc<tempfile::TempDir>, flags: &[&str]) -> Demo {
        let mut child = walcast()
            .args(["demo", "--listen", "127.0.0.1:0"])
            .env("WALCAST_ADMIN_LISTEN", "127.0.0.1:0")
            .args(flags)
            .env("TMPDIR", temp.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It prints a few lines, which the pipe holds; this ends too if it fails.
        let out = BufReader::new(child.stdout.take().unwrap());
        let lines: Vec<String> = out
            .lines()
            .map(|line| line.unwrap().trim().to_owned())
            .take_while(|line| !line.starts_with("Ctrl-C"))
            .collect();
        let line = |start: &str| {
            let found = lines.iter().find(|line| line.starts_with(start));
            found.unwrap_or_else(|| panic!("no {start} in {lines:?}")).clone()
        };
        let address = |name: &str| line(name).trim_start_matches(name).trim().to_owned();
        let psql: Vec<String> = line("psql ").split(' ').map(str::to_owned).collect();
        Demo {
            page: address("page:"),
            console: address("console:"),
            cluster: psql[2].clone().into(),
            child,
            temp,
            psql,
        }
    }

    /// The address of its websocket.
    pub(crate) fn stream(&self) -> String {
        self.page.replacen("http", "ws", 1) + "v1/stream"
    }

    /// The address of the page and the websocket.
    pub(crate) fn address(&self) -> &str {
        self.page.trim_start_matches("http://").trim_end_matches('/')
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The database's answer, one line per row.
    pub(crate) fn sql(&self, sql: &str) -> Vec<String> {
        let output = Command::new(&self.psql[0])
            .args(&self.psql[1..])
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Kills it where it stands.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and says how it did and what it left behind.
    pub(crate) fn end(mut self, signal: Signal) -> (ExitStatus, Vec<String>) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let status = wait_for("the demo's end", || self.child.try_wait().unwrap());
        let files = std::fs::read_dir(self.temp.path()).unwrap();
        let mut left: Vec<String> = files
            .map(|file| file.unwrap().path().display().to_string())
            .collect();
        left.extend(self.cluster.exists().then(|| self.cluster.display().to_string()));
        left.extend(processes_that_name(&self.cluster));
        (status, left)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            kill_process(Pid::from_child(&self.child), Signal::INT).ok();
            self.child.wait().ok();
        }
    }
}

/// The command lines of running processes that have `path` in them.
pub(crate) fn processes_that_name(path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    commands
        .map(|command| String::from_utf8_lossy(&command).replace('\0', " "))
        .filter(|command| command.contains(path))
        .collect()
}
