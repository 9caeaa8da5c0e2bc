//! [`Walcast`]: the real program, started, killed and started again on the same data directory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{At, Client, DEADLINE, Database, Refused, eventually, failure};

/// The options that walcast is started with: its database, its data directory, its flags.
pub struct Setup {
    directory: TempDir,
    program: PathBuf,
    url: String,
    pub slot: String,
    publications: String,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    config: Option<PathBuf>,
    shell: Option<String>,
    address: Address,
    listen: SocketAddr,
    admin: SocketAddr,
}

/// The address at which clients find walcast; another place after each start.
pub type Address = Arc<Mutex<SocketAddr>>;

/// A running walcast.
pub struct Walcast {
    child: Child,
    log: Arc<Mutex<String>>,
    address: Address,
    admin: SocketAddr,
}

/// The walcast program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_walcast");
/// The publication of all tests.
pub const PUBLICATION: &str = "pub";

impl Setup {
    /// For the publication `pub` of a database, with a slot named like the database.
    pub fn new(database: &Database) -> Setup {
        failure::remember();
        Setup {
            directory: TempDir::new().unwrap(),
            program: PROGRAM.into(),
            url: database.url().to_owned(),
            slot: database.name.clone(),
            publications: PUBLICATION.to_owned(),
            flags: Vec::new(),
            variables: Vec::new(),
            config: None,
            shell: None,
            address: Arc::new(Mutex::new(([127, 0, 0, 1], 0).into())),
            listen: ([127, 0, 0, 1], 0).into(),
            admin: ([127, 0, 0, 1], 0).into(),
        }
        .flag("--progress-interval", "50ms")
    }

    /// By another program from the next start on: that of another version.
    pub fn run_by(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// With its journal elsewhere.
    pub fn data_in(mut self, directory: &Path) -> Setup {
        self.directory = TempDir::new_in(directory).unwrap();
        self
    }

    /// With a further flag.
    pub fn flag(mut self, name: &str, value: &str) -> Setup {
        self.flags.retain(|flag| !flag.starts_with(&format!("{name}=")));
        self.flags.push(format!("{name}={value}"));
        self
    }

    /// With a further flag that takes no value.
    pub fn switch(mut self, name: &str) -> Setup {
        self.flags.push(name.to_owned());
        self
    }

    /// With a variable in its environment.
    pub fn variable(mut self, name: &str, value: &str) -> Setup {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a configuration file instead of the flags that it has otherwise.
    pub fn configured(mut self, config: &Path) -> Setup {
        self.config = Some(config.to_owned());
        self
    }

    /// By another way to the same database.
    pub fn by(mut self, url: String) -> Setup {
        self.url = url;
        self
    }

    /// On a slot of another name.
    pub fn on_slot(mut self, slot: &str) -> Setup {
        slot.clone_into(&mut self.slot);
        self
    }

    /// For other publications.
    pub fn publications(mut self, names: &[&str]) -> Setup {
        self.publications = names.join("\n");
        self
    }

    /// On an address of its own choice, not on any free port.
    pub fn listen_on(mut self, address: SocketAddr) -> Setup {
        self.listen = address;
        self
    }

    /// With an admin listener on another address than a free port of this machine's own.
    pub fn admin_on(mut self, address: SocketAddr) -> Setup {
        self.admin = address;
        self
    }

    /// After a shell command, `ulimit` for example.
    pub fn after(mut self, shell: &str) -> Setup {
        self.shell = Some(shell.to_owned());
        self
    }

    /// With a disk of two megabytes. A limit on the size of files stands for one: the kernel refuses writes all the
    /// same.
    pub fn on_a_small_disk(self) -> Setup {
        self.after("ulimit -S -f 2048")
    }

    /// The directory of the journal.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The address at which clients find walcast, also after a restart.
    pub fn address(&self) -> Address {
        Arc::clone(&self.address)
    }

    /// The command that serves.
    pub fn command(&self) -> Command {
        self.command_on(&self.data())
    }

    /// The command that serves on some data directory.
    pub fn command_on(&self, data: &Path) -> Command {
        let mut command = match &self.shell {
            None => Command::new(&self.program),
            Some(shell) => {
                let mut command = Command::new("bash");
                command.args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")]);
                command.arg(&self.program);
                command
            }
        };
        // A client of a test answers pings only while the test reads from it, which a busy machine may put off for long.
        command.env("WALCAST_PONG_TIMEOUT", "10min");
        command.envs(self.variables.iter().cloned()).stdin(Stdio::null());
        if let Some(config) = &self.config {
            command.args(["serve", "--config"]).arg(config).args(&self.flags);
            return command;
        }
        command
            .args([
                "serve",
                "--log-format",
                "json",
                "--listen",
                &self.listen.to_string(),
            ])
            .args(["--admin-listen", &self.admin.to_string(), "--create-slot"])
            .args(["--database-url", &self.url, "--slot", &self.slot])
            .args(self.publications.lines().flat_map(|name| ["--publication", name]))
            .arg("--data-dir")
            .arg(data)
            .args(&self.flags);
        command
    }

    /// Starts it and waits until it serves.
    pub fn start(&self) -> Walcast {
        let walcast = self.start_unready();
        eventually("walcast is ready", || {
            walcast.ready().is_ok().then_some(()).or_else(|| {
                walcast.assert_running();
                None
            })
        });
        walcast
    }

    /// Starts it and waits until it listens.
    pub fn start_unready(&self) -> Walcast {
        let mut child = self
            .command()
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (found, listening) = std::sync::mpsc::channel();
        thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in errors.lines().map_while(Result::ok) {
                    if let Some(addresses) = addresses(&line) {
                        // The receiver may have given up.
                        let _gone = found.send(addresses);
                    }
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            }
        });
        let Ok((listen, admin)) = listening.recv_timeout(DEADLINE) else {
            // Ends the process if it hangs, and the log with it.
            drop(child.kill());
            drop(child.wait());
            panic!("walcast did not start:\n{}", log.lock().unwrap());
        };
        *self.address.lock().unwrap() = listen;
        Walcast {
            child,
            log,
            address: self.address(),
            admin,
        }
    }
}

/// Runs a command that is to fail by itself, and returns what it says.
pub fn refused(mut command: Command) -> String {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let (ended, end) = std::sync::mpsc::channel();
    thread::spawn(move || ended.send(child.wait_with_output()));
    let Ok(output) = end.recv_timeout(DEADLINE) else {
        // It may have ended this moment.
        let _gone = kill_process(pid, Signal::KILL);
        panic!("it was not refused: {command:?}");
    };
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = &line["fields"];
    (fields["message"] == "listening").then_some(())?;
    let address = |name: &str| fields[name].as_str()?.parse().ok();
    Some((address("listen")?, address("admin_listen")?))
}

impl Walcast {
    pub fn connect(&self) -> Client {
        Client::connect(*self.address.lock().unwrap())
    }

    /// Connects with a query string and further headers, or is refused.
    pub fn try_connect(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, Refused> {
        Client::try_connect(*self.address.lock().unwrap(), path, headers)
    }

    pub fn listen(&self) -> SocketAddr {
        *self.address.lock().unwrap()
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The answer of `/health/ready`; the reason if it is not ready.
    pub fn ready(&self) -> Result<(), String> {
        match self.get("/health/ready") {
            (200, _) => Ok(()),
            (503, reason) => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    /// Asks the admin listener. Status 0 if it does not answer.
    pub fn get(&self, path: &str) -> (u16, String) {
        http_get(self.admin, path).unwrap_or_default()
    }

    /// A metric's value, its labels written as in `/metrics`; 0 if it has none yet.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("walcast_{name} ")));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that it ever had, in bytes.
    pub fn peak_resident_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that its disk is full.
    pub fn fills_its_disk(&self) {
        let reason = eventually("the disk is full", || self.ready().err());
        assert!(reason.contains("full"), "{reason}");
    }

    /// Makes room on the disk of one that was set up on a small disk.
    pub fn make_space(&self) {
        let raised = Command::new("prlimit")
            .args(["--pid", &self.pid().to_string(), "--fsize=unlimited"])
            .status()
            .unwrap();
        assert!(raised.success());
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has logged a text: its log comes by a pipe, in its own time.
    pub fn logs(&self, text: &str) {
        eventually(text, || self.log().contains(text).then_some(()));
    }

    pub fn assert_running(&self) {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        if state.is_none_or(|state| state == 'Z') {
            // Its last words say why.
            let said_all = || (Arc::strong_count(&self.log) == 1).then_some(());
            eventually("the log is read", said_all);
            panic!("walcast has ended:\n{}", self.log());
        }
    }

    /// Waits until its journal has all that the database has written by now. Clients may have it a moment later.
    pub fn comes_up_to(&self, database: &Database) {
        let written = At::after(database.written());
        eventually("walcast has it all", || {
            (At::read(&self.connect().hello["position"]) >= written).then_some(())
        });
    }

    /// Waits until it reads a stream that began after it had begun so many.
    pub fn reads_again(&self, connects: f64) {
        eventually("it reads again", || {
            (self.metric("replication_connects_total") > connects && self.ready().is_ok()).then_some(())
        });
    }

    /// Kills it where it stands.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops its process where it stands, or lets it go on.
    pub fn pause(&self, paused: bool) {
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks it to stop, as an init system does.
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(self) -> ExitStatus {
        self.terminate();
        self.ended()
    }

    /// Waits for its end, which is to be one with an error, and returns what it logged.
    pub fn ended_with_log(self) -> String {
        let log = Arc::clone(&self.log);
        assert_eq!(self.ended().code(), Some(1));
        eventually("the log is read", || {
            let log = log.lock().unwrap();
            log.contains("\nerror: ").then(|| log.clone())
        })
    }

    /// Waits for its end.
    pub fn ended(mut self) -> ExitStatus {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("walcast did not stop:\n{}", self.log());
    }
}

impl Drop for Walcast {
    fn drop(&mut self) {
        // It may have ended already, as it should have.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            let reason = failure::reason().unwrap_or_default();
            let log = failure::last_lines(&self.log());
            eprintln!("--- walcast's log ---\n{log}--- it failed by ---\n{reason}");
        }
    }
}

/// A plain HTTP request; `None` if the server does not answer.
pub fn http_get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let answer = http(address, &request)?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Some((status, body.to_owned()))
}

/// Sends the text of an HTTP request and returns that of the whole answer.
pub fn http(address: SocketAddr, request: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    socket.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}
