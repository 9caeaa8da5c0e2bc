//! [`Pooler`]: a throwaway PgBouncer before a database's server.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use tempfile::TempDir;
use walcast::postgres::{ConnInfo, Connection, Purpose};

use super::{Database, eventually};

/// A running PgBouncer.
pub struct Pooler {
    program: Child,
    directory: TempDir,
    database: String,
}

impl Pooler {
    /// One with further lines for its settings; `None` if this machine has no PgBouncer.
    pub fn before(database: &Database, settings: &[&str]) -> Option<Pooler> {
        let program = program()?;
        // A short path: a unix socket's is limited to 107 bytes.
        let directory = tempfile::Builder::new()
            .prefix("walcast-pool-")
            .tempdir_in("/tmp")
            .unwrap();
        let place = directory.path();
        // It runs as the server's owner, who may not be us.
        fs::set_permissions(place, fs::Permissions::from_mode(0o777)).unwrap();
        let server = database.server();
        fs::write(place.join("users"), "\"postgres\" \"\"\n").unwrap();
        let settings = format!(
            "[databases]\n* = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n\
             unix_socket_dir = {}\nauth_type = trust\nauth_file = {}\n{}\n",
            server.socket_directory().display(),
            server.port(),
            place.display(),
            place.join("users").display(),
            settings.join("\n")
        );
        fs::write(place.join("settings"), settings).unwrap();
        let mut command = server.command(&program.to_string_lossy());
        let owner = fs::metadata(server.data()).unwrap();
        use std::os::unix::fs::MetadataExt;
        for file in ["settings", "users"] {
            // As nobody but root may.
            drop(chown(place.join(file), Some(owner.uid()), Some(owner.gid())));
        }
        let program = command
            .args(["-q", "settings"])
            .current_dir(place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop(server);
        let pooler = Pooler {
            program,
            directory,
            database: database.name.clone(),
        };
        eventually("the pooler answers", || pooler.connect().ok());
        Some(pooler)
    }

    /// The way to the database through it.
    pub fn url(&self) -> String {
        let directory = self.directory.path().to_string_lossy().replace('/', "%2F");
        format!("postgresql://postgres@{directory}:6432/{}", self.database)
    }

    /// An application's session through it.
    pub fn connect(&self) -> Result<Connection, walcast::postgres::Error> {
        Connection::connect(&ConnInfo::parse(&self.url()).unwrap(), Purpose::Application)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

/// Debian keeps it where only root looks.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let mut programs = directories.map(|directory| directory.join("pgbouncer"));
    programs.find(|program| program.exists())
}
