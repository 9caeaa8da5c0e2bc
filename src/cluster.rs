//! [`Cluster`]: a throwaway Postgres server of our own, for the demo, the tests and the benchmarks.
//!
//! It lives in a temporary directory, listens on a unix socket there (and on a loopback port if asked), and is gone
//! when it is dropped. Postgres refuses to run as root: started by root, it runs as the user `postgres`.

mod directory;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

pub use directory::{Directory, remove_dead};

/// An error that keeps a throwaway server from running.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are no server binaries on this machine.
    #[error(
        "found no Postgres server: looked in $PG_BIN, /usr/lib/postgresql/*/bin and $PATH (Debian: apt-get install postgresql)"
    )]
    NoServer,
    /// There are none where `PG_BIN` says.
    #[error("there is no postgres in {}: set PG_BIN to the directory of the server's programs, or leave it out", .0.display())]
    NoServerIn(PathBuf),
    /// A file or a process could not be handled.
    #[error("{0}")]
    Io(String, #[source] io::Error),
    /// A program of Postgres' failed.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program.
        program: &'static str,
        /// The text that it printed.
        output: String,
    },
    /// The server does not answer.
    #[error("the server did not become ready in {0:?}; its log ends: {1}")]
    NotReady(Duration, String),
}

/// The way to stop a server (`pg_ctl stop -m`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Disconnect the clients, then stop cleanly.
    Fast,
    /// Stop at once, as after a crash.
    Immediate,
}

/// The options of a [`Cluster`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Further lines for `postgresql.conf`.
    pub settings: Vec<String>,
    /// Further lines for the start of `pg_hba.conf`; local users are trusted.
    pub hba: Vec<String>,
    /// True if it listens on a loopback port too.
    pub tcp: bool,
    /// Further arguments for `initdb`, `--encoding=LATIN1` for example.
    pub initdb: Vec<String>,
}

/// A running (or stopped) throwaway server. Its superuser is `postgres`, without a password.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    directory: Directory,
    owner: Option<(u32, u32)>,
    port: u16,
    tcp: bool,
    server: Option<Child>,
    /// Ends the server if we die before we can.
    guard: Option<Child>,
}

/// Waits for a line; if the pipe ends without one, its other end has died: the server goes, and its directory.
const GUARD: &str = "read -r _ && exit; kill -QUIT \"$0\"; while kill -0 \"$0\" 2>/dev/null; do sleep 0.1; done; \
                     rm -rf -- \"$1\"";
/// The directory of clusters, and the beginning of their directories' names.
const PARENT: &str = "/tmp";
const PREFIX: &str = "walcast-pg-";
/// The time that a server gets to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

impl Cluster {
    /// Makes a cluster with `wal_level = logical` and starts it.
    pub fn start(options: &Options) -> Result<Cluster, Error> {
        let mut cluster = Cluster::create(options)?;
        cluster.resume()?;
        Ok(cluster)
    }

    /// Removes the directories of clusters whose processes were killed, guard and all, and returns their paths.
    ///
    /// # Errors
    /// The directory of temporary files cannot be read.
    pub fn remove_dead() -> io::Result<Vec<PathBuf>> {
        remove_dead(Path::new(PARENT), PREFIX)
    }

    /// Makes a standby that follows a running cluster, with further lines for its `postgresql.conf`, and starts it. It
    /// copies the primary's files itself: not every package of a server has `pg_basebackup`.
    pub fn standby_of(primary: &Cluster, settings: &[String]) -> Result<Cluster, Error> {
        let mut standby = Cluster::empty(&Options::default())?;
        let from = primary.data();
        let to = standby.data();
        let from = from.display();
        let to = to.display();
        let version: u32 = primary
            .psql("SHOW server_version_num")
            .parse()
            .unwrap_or_default();
        let (start, stop) = match version {
            150_000.. => ("pg_backup_start('standby', true)", "pg_backup_stop(false)"),
            _ => (
                "pg_start_backup('standby', true, false)",
                "pg_stop_backup(false, false)",
            ),
        };
        // Both in one session, as the server wants it. Files that go meanwhile are none that are missed.
        primary.try_psql(
            "postgres",
            &format!(
                "SELECT {start};\n\\! cp -a {from} {to} 2>/dev/null\n\\! rm -rf {to}/postmaster.* {to}/pg_replslot/*\n\
                 SELECT labelfile FROM {stop} \\g {to}/backup_label\n"
            ),
        )?;
        fs::write(standby.data().join("standby.signal"), "")
            .map_err(|e| Error::Io("cannot make a standby of a server".into(), e))?;
        // All else is the primary's: a standby may not have less of some of it.
        let follows = format!(
            "primary_conninfo = 'host={} port={} user=postgres'",
            primary.socket_directory().display(),
            primary.port
        );
        let settings = [standby.place(), vec![follows], settings.to_vec()].concat();
        standby.append("postgresql.conf", &settings.join("\n"))?;
        standby.resume()?;
        Ok(standby)
    }

    /// Makes a cluster without starting it.
    fn create(options: &Options) -> Result<Cluster, Error> {
        let cluster = Cluster::empty(options)?;
        let initdb = cluster
            .command("initdb")
            .args([
                "--username=postgres",
                "--auth=trust",
                "--no-sync",
                "--no-instructions",
            ])
            .args(["--encoding=UTF8", "--locale=C.UTF-8"])
            .args(&options.initdb)
            .arg("-D")
            .arg(cluster.data())
            .output();
        succeeded("initdb", initdb)?;
        cluster.append("postgresql.conf", &cluster.settings(options).join("\n"))?;
        if !options.hba.is_empty() {
            let path = cluster.data().join("pg_hba.conf");
            let io = |e| Error::Io(format!("cannot edit {}", path.display()), e);
            let standard = fs::read_to_string(&path).map_err(io)?;
            fs::write(&path, format!("{}\n{standard}", options.hba.join("\n"))).map_err(io)?;
        }
        Ok(cluster)
    }

    /// A place for a cluster.
    fn empty(options: &Options) -> Result<Cluster, Error> {
        let bin = find_bin()?;
        // A short path: a unix socket's is limited to 107 bytes.
        let directory = Directory::new(Path::new(PARENT), PREFIX)
            .map_err(|e| Error::Io("cannot make a directory in /tmp".into(), e))?;
        let owner = if geteuid().is_root() {
            Some(postgres_user()?)
        } else {
            None
        };
        if let Some((uid, gid)) = owner {
            chown(directory.path(), Some(uid), Some(gid))
                .map_err(|e| Error::Io("cannot give the directory to the user postgres".into(), e))?;
        }
        let port = if options.tcp { free_port()? } else { 5432 };
        Ok(Cluster {
            bin,
            directory,
            owner,
            port,
            tcp: options.tcp,
            server: None,
            guard: None,
        })
    }

    /// The address of the server.
    fn place(&self) -> Vec<String> {
        let listen = if self.tcp { "127.0.0.1" } else { "" };
        vec![
            format!("listen_addresses = '{listen}'"),
            format!("port = {}", self.port),
            format!("unix_socket_directories = '{}'", self.directory.path().display()),
        ]
    }

    fn settings(&self, options: &Options) -> Vec<String> {
        let mut lines = self.place();
        lines.extend([
            "wal_level = logical".into(),
            "max_wal_senders = 20".into(),
            "max_replication_slots = 20".into(),
            "shared_buffers = 64MB".into(),
            "max_wal_size = 4GB".into(),
            // The operating system does not crash here; a crash of the server alone loses nothing without it.
            "fsync = off".into(),
            "autovacuum = off".into(),
        ]);
        lines.extend(options.settings.iter().cloned());
        lines
    }

    /// Starts the server after [`Cluster::stop`] (or a crash) and waits until it takes connections.
    pub fn resume(&mut self) -> Result<(), Error> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .map_err(|e| Error::Io("cannot open the server's log".into(), e))?;
        let errors = log
            .try_clone()
            .map_err(|e| Error::Io("cannot open the server's log".into(), e))?;
        let server = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            // A process group of its own: Ctrl-C is for us, and we stop the server in our own time.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|e| Error::Io("cannot start postgres".into(), e))?;
        let pid = server.id().to_string();
        self.server = Some(server);
        let guard = self
            .command("sh")
            .args(["-c", GUARD, &pid])
            .arg(self.directory.path())
            // As the server: what ends us by the terminal must not end it.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Error::Io("cannot start sh".into(), e))?;
        self.guard = Some(guard);
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let ended = self
                .server
                .as_mut()
                .and_then(|server| server.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                let tail = log.lines().rev().take(5).collect::<Vec<_>>().join(" | ");
                return Err(Error::NotReady(START_TIMEOUT, tail));
            }
            if self.try_psql("postgres", "SELECT 1").is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server and waits for its end.
    pub fn stop(&mut self, how: Shutdown) -> Result<(), Error> {
        self.signal(if how == Shutdown::Fast {
            Signal::INT
        } else {
            Signal::QUIT
        })?;
        self.wait()?;
        Ok(())
    }

    /// Asks the server to stop without waiting for it; [`Cluster::wait`] does.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let Some(server) = &self.server else { return Ok(()) };
        let pid = Pid::from_child(server);
        kill_process(pid, signal).map_err(|e| Error::Io("cannot signal postgres".into(), e.into()))
    }

    /// Waits for the server's end. `None` if it does not run.
    pub fn wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        let Some(mut server) = self.server.take() else {
            return Ok(None);
        };
        let ended = server
            .wait()
            .map_err(|e| Error::Io("cannot wait for postgres".into(), e))?;
        if let Some(mut guard) = self.guard.take() {
            // If somebody ended it, there is nothing to call off.
            drop(
                guard
                    .stdin
                    .take()
                    .map(|mut line| io::Write::write_all(&mut line, b"\n")),
            );
            guard
                .wait()
                .map_err(|e| Error::Io("cannot wait for sh".into(), e))?;
        }
        Ok(Some(ended))
    }

    /// True if the server has ended, without waiting.
    pub fn has_ended(&mut self) -> bool {
        self.server
            .as_mut()
            .is_none_or(|server| matches!(server.try_wait(), Ok(Some(_))))
    }

    /// The libpq URL of a database, over the unix socket, as the superuser.
    pub fn url(&self, database: &str) -> String {
        let directory = self.directory.path().to_string_lossy().replace('/', "%2F");
        format!("postgresql://postgres@{directory}:{}/{database}", self.port)
    }

    /// The libpq URL of a database over the loopback port; only if [`Options::tcp`] was set.
    pub fn tcp_url(&self, database: &str) -> String {
        format!(
            "postgresql://postgres@127.0.0.1:{}/{database}?sslmode=disable",
            self.port
        )
    }

    /// The loopback port, or the unix socket's number if it does not listen on one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the unix socket.
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The server's log file.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Appends to a file of the data directory, `postgresql.conf` for example.
    pub fn append(&self, file: &str, text: &str) -> Result<(), Error> {
        let path = self.data().join(file);
        let io = |e| Error::Io(format!("cannot edit {}", path.display()), e);
        let before = fs::read_to_string(&path).map_err(io)?;
        fs::write(&path, format!("{before}\n{text}\n")).map_err(io)
    }

    /// Runs SQL by psql in the database `postgres`, as the superuser, and returns what it prints: unaligned, without
    /// headers. Each statement is its own transaction unless the text says otherwise.
    pub fn psql(&self, sql: &str) -> String {
        self.try_psql("postgres", sql).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs SQL by psql in a database of choice.
    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String, Error> {
        let mut child = self
            .psql_command(database)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Error::Io("cannot start psql".into(), e))?;
        let mut input = child.stdin.take();
        let text = sql.to_owned();
        let writer = thread::spawn(move || input.as_mut().map(|i| io::Write::write_all(i, text.as_bytes())));
        let output = child.wait_with_output();
        // If psql stopped reading, its own output says why.
        drop(writer.join());
        let stdout = succeeded("psql", output)?.stdout;
        Ok(String::from_utf8_lossy(&stdout).trim_end_matches('\n').to_owned())
    }

    /// A psql for this server, connected to `database`: quiet, unaligned, stopping at the first error.
    pub fn psql_command(&self, database: &str) -> Command {
        let mut command = self.command("psql");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        command
            .arg("-h")
            .arg(self.directory.path())
            .args(["-p", &self.port.to_string()]);
        command
    }

    /// A program of this server's version, to be run as the server's owner.
    pub fn command(&self, program: &str) -> Command {
        let own = self.bin.join(program);
        let mut command = Command::new(if own.exists() { own } else { program.into() });
        command
            .current_dir(self.directory.path())
            .env("LC_ALL", "C.UTF-8")
            .env_remove("PGOPTIONS");
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nobody is left to tell: the directory goes in any case. One that was stopped goes on only to end.
        drop(self.signal(Signal::QUIT));
        drop(self.signal(Signal::CONT));
        drop(self.wait());
    }
}

fn succeeded(program: &'static str, output: io::Result<Output>) -> Result<Output, Error> {
    let output = output.map_err(|e| Error::Io(format!("cannot run {program}"), e))?;
    if output.status.success() {
        return Ok(output);
    }
    let text = [output.stderr, output.stdout].concat();
    Err(Error::Failed {
        program,
        output: String::from_utf8_lossy(&text).trim().to_owned(),
    })
}

/// The directory of the server's programs: `$PG_BIN`, else the newest of Debian's, else that of `postgres` in `$PATH`.
fn find_bin() -> Result<PathBuf, Error> {
    if let Some(bin) = std::env::var_os("PG_BIN").filter(|bin| !bin.is_empty()) {
        let bin = PathBuf::from(bin);
        return if bin.join("postgres").exists() {
            Ok(bin)
        } else {
            Err(Error::NoServerIn(bin))
        };
    }
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = debian
        .filter(|entry| entry.path().join("bin/postgres").exists())
        .max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    if let Some(entry) = newest {
        return Ok(entry.path().join("bin"));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|dir| dir.join("postgres").exists())
        .ok_or(Error::NoServer)
}

/// The user and group IDs of the system's user `postgres`.
fn postgres_user() -> Result<(u32, u32), Error> {
    let id = |flag| {
        let output = succeeded("id", Command::new("id").args([flag, "postgres"]).output())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim().parse::<u32>().map_err(|_| Error::Failed {
            program: "id",
            output: text,
        })
    };
    Ok((id("-u")?, id("-g")?))
}

fn free_port() -> Result<u16, Error> {
    let io = |e| Error::Io("cannot find a free port".into(), e);
    Ok(TcpListener::bind(("127.0.0.1", 0))
        .map_err(io)?
        .local_addr()
        .map_err(io)?
        .port())
}
