//! [`Kept`]: a data directory that is test data, as a version left it, and the recording of today's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use walcast::log::Identity;

use super::history;
use crate::support::{Database, Setup};

const FOLDER: &str = "tests/data/journals";

/// A data directory in a test's own copy: opening one may write to it.
pub struct Kept {
    pub name: String,
    directory: TempDir,
}

impl Kept {
    /// Of a version, by the name of its folder.
    pub fn of(version: &str) -> Kept {
        let directory = tempfile::tempdir().unwrap();
        let archive = Path::new(FOLDER).join(version).join("directory.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(&archive).arg("-C").arg(directory.path());
        assert!(tar.status().unwrap().success(), "{}", archive.display());
        Kept {
            name: version.to_owned(),
            directory,
        }
    }

    /// All that there are.
    pub fn all() -> Vec<Kept> {
        let folders = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap());
        let folders = folders.filter(|entry| entry.file_type().unwrap().is_dir());
        folders
            .map(|entry| Kept::of(&entry.file_name().into_string().unwrap()))
            .collect()
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The contents, as they were read when it was recorded.
    pub fn history(&self) -> String {
        fs::read_to_string(Path::new(FOLDER).join(&self.name).join("history.txt")).unwrap()
    }

    pub fn manifest(&self) -> Value {
        manifest(self.path())
    }

    pub fn identity(&self) -> Identity {
        identity(self.path())
    }

    /// Has it say that it is of another server's database and slot.
    pub fn give_to(&self, database: &Database, slot: &str) {
        let mut manifest = self.manifest();
        manifest["system_id"] = database
            .value("SELECT system_identifier FROM pg_control_system()")
            .into();
        let oid = database.value("SELECT oid FROM pg_database WHERE datname = current_database()");
        manifest["database_oid"] = oid.parse::<u32>().unwrap().into();
        manifest["database"] = database.name.as_str().into();
        manifest["slot"] = slot.into();
        fs::write(manifest_path(self.path()), manifest.to_string()).unwrap();
    }
}

pub fn manifest_path(directory: &Path) -> PathBuf {
    directory.join("journal.json")
}

pub fn manifest(directory: &Path) -> Value {
    serde_json::from_slice(&fs::read(manifest_path(directory)).unwrap()).unwrap()
}

fn identity(directory: &Path) -> Identity {
    serde_json::from_value(manifest(directory)).unwrap()
}

/// Later than where another server begins, which can then stand in for this one: positions and OIDs.
const LATER: &str = "SELECT lo_unlink(lo_create(0)) FROM generate_series(1, 600);
     SELECT pg_logical_emit_message(false, 'later', 'x'), pg_switch_wal()";

const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('calm', 'loud');
    CREATE TABLE orders (id int PRIMARY KEY, status text, total numeric, tags text[], mood mood);
    CREATE TABLE items (id int PRIMARY KEY, note text);
    ALTER TABLE items REPLICA IDENTITY FULL;
    CREATE TABLE visits (id int PRIMARY KEY, page text);
    CREATE PUBLICATION pub FOR ALL TABLES";

/// Every kind of record, with a stop after the first half and a `kill -9` at the end.
const BEFORE_A_STOP: [&str; 8] = [
    "INSERT INTO orders VALUES (1, 'new', 10.50, '{a,b}', 'calm'), (2, 'new', NULL, NULL, NULL)",
    "INSERT INTO visits VALUES (1, '/')",
    "UPDATE orders SET status = 'paid' WHERE id = 1",
    "INSERT INTO items VALUES (1, 'one'), (2, NULL)",
    "UPDATE items SET note = 'uno' WHERE id = 1; DELETE FROM items WHERE id = 2",
    "SELECT pg_logical_emit_message(true, 'audit', '{\"by\":\"ann\"}')",
    "INSERT INTO items SELECT g, repeat('x', 120) FROM generate_series(100, 6099) g;
     UPDATE orders SET id = 3 WHERE id = 2",
    "UPDATE visits SET page = '/about' WHERE id = 1",
];
const BEFORE_A_KILL: [&str; 8] = [
    "ALTER TABLE orders RENAME total TO amount; ALTER TABLE orders ADD city text;
     INSERT INTO orders VALUES (4, 'new', 1, '{}', 'loud', 'Oslo')",
    "ALTER TYPE mood RENAME VALUE 'loud' TO 'noisy'",
    "ALTER TABLE items RENAME TO lines; INSERT INTO lines VALUES (7000, 'seven')",
    "ALTER TABLE orders RENAME TO purchases; CREATE TABLE orders (id int PRIMARY KEY, city text);
     INSERT INTO purchases VALUES (5, 'new', 2); INSERT INTO orders VALUES (1, 'Rome')",
    "TRUNCATE orders",
    "INSERT INTO visits VALUES (2, '/prices'), (3, '/')",
    "DELETE FROM visits WHERE id = 1",
    "INSERT INTO orders VALUES (2, 'Bern')",
];

/// Writes the data directory of this version: a real server's, read by the real program.
pub fn record() {
    let database = Database::on_its_own_server("", &[]);
    for _ in 0..3 {
        database.sql(LATER);
    }
    database.sql(SCHEMA);
    let setup = Setup::new(&database)
        .flag("--segment-bytes", "1MiB")
        .flag("--messages", "audit");
    for (steps, is_stopped) in [(BEFORE_A_STOP, true), (BEFORE_A_KILL, false)] {
        let walcast = setup.start();
        for step in steps {
            database.sql(step);
            walcast.comes_up_to(&database);
        }
        if is_stopped {
            assert!(walcast.stop().success());
        } else {
            walcast.kill();
        }
    }
    let data = setup.data();
    fs::remove_file(data.join("LOCK")).unwrap();
    let folder = Path::new(FOLDER).join(env!("CARGO_PKG_VERSION"));
    fs::create_dir_all(&folder).unwrap();
    let archive = File::create(folder.join("directory.tar.gz")).unwrap();
    let tar = "tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf - journal.json segments | gzip -9n";
    let mut tar = Command::new("sh")
        .args(["-c", tar])
        .current_dir(&data)
        .stdout(archive)
        .spawn()
        .unwrap();
    assert!(tar.wait().unwrap().success());
    let history = history::of(&data, &identity(&data));
    fs::write(folder.join("history.txt"), history).unwrap();
}
