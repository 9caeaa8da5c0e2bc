//! Faults: of walcast, Postgres, the ways to both, and the disk; and what happens to the tables meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};
use tempfile::TempDir;
use walcast::cluster::Shutdown;

use crate::ledger::{self, Partitions};
use crate::person;
use crate::said;
use crate::settings;
use crate::shapes::Shape;
use crate::support::{
    Client, DEADLINE, Database, Direction, Forgiven, Incoming, Mishaps, Proxy, Setup, Walcast, eventually,
    left_out,
};

/// The changes of the tables between rounds.
pub(crate) const SCHEMA_CHANGES: [&str; 4] = [
    "ALTER TABLE unpublished ADD COLUMN more int; CREATE INDEX ON item (owner)",
    "ALTER TABLE unpublished DROP COLUMN more; ALTER TABLE item ALTER COLUMN note SET STORAGE EXTERNAL",
    "CREATE TABLE more (id int PRIMARY KEY); ALTER PUBLICATION pub ADD TABLE more; INSERT INTO more VALUES (1)",
    "ALTER PUBLICATION pub DROP TABLE more; DROP TABLE more; ALTER TABLE part ALTER COLUMN v SET STATISTICS 10",
];

/// Columns that change their types.
pub(crate) const RETYPED: [[&str; 2]; 2] = [["item", "n"], ["part", "v"]];

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Killed,
    Stopped,
    Terminated,
    PostgresCrashed,
    PostgresRestarted,
    PostgresCut,
    PostgresStalled,
    PostgresStalledOneWay,
    ClientsCut,
    ClientsStalled,
    DiskFull,
    TailTorn,
    TailCorrupted,
    ColumnsChanged,
    TypeChanged,
    RoleChanged,
    SynchronousChanged,
    PartitionsChanged,
    ColumnsSwapped,
}

const FAULTS: [Fault; 19] = [
    Fault::Killed,
    Fault::Stopped,
    Fault::Terminated,
    Fault::PostgresCrashed,
    Fault::PostgresRestarted,
    Fault::PostgresCut,
    Fault::PostgresStalled,
    Fault::PostgresStalledOneWay,
    Fault::ClientsCut,
    Fault::ClientsStalled,
    Fault::DiskFull,
    Fault::TailTorn,
    Fault::TailCorrupted,
    Fault::ColumnsChanged,
    Fault::TypeChanged,
    Fault::RoleChanged,
    Fault::SynchronousChanged,
    Fault::PartitionsChanged,
    Fault::ColumnsSwapped,
];

/// A small disk, if this machine lets us have one.
struct SmallDisk {
    directory: TempDir,
}

/// The size.
const DISK: &str = "size=1g";

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let directory = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", DISK, "tmpfs"])
            .arg(directory.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk { directory }),
            Ok(output) => {
                left_out("a full disk", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                left_out("a full disk", &error.to_string());
                None
            }
        }
    }

    /// Leaves no space, or makes it again.
    fn fill(&self, full: bool) {
        let path = self.directory.path().join("fill");
        if full {
            // It ends with an error: there is no space.
            let filled = Command::new("dd")
                .args(["if=/dev/zero", "bs=1M", "status=none"])
                .arg(format!("of={}", path.display()))
                .output();
            assert!(!filled.unwrap().status.success());
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process that still has a file open there keeps it until then.
        let unmounted = Command::new("umount")
            .arg("-l")
            .arg(self.directory.path())
            .output();
        if let Err(error) = unmounted {
            eprintln!("a disk stays mounted: {error}");
        }
    }
}

/// All that can fail.
pub(crate) struct Ground<'a> {
    database: &'a Database,
    // Before the disk that it is on.
    walcast: Option<Walcast>,
    setup: Setup,
    disk: Option<SmallDisk>,
    postgres: Arc<Proxy>,
    clients: Arc<Proxy>,
    pub(crate) mishaps: Arc<Mishaps>,
    rng: Rng,
    counts: BTreeMap<Fault, usize>,
    /// The name of the history that began where everything was empty.
    pub(crate) epoch: Value,
    broken: bool,
    retyped: bool,
    /// Columns that were added: the table, and the name, which none has twice.
    added: Vec<(&'static str, String)>,
    names: usize,
    /// The time at which the round began, as clients write it.
    pub(crate) now: String,
    /// The publications of this run.
    pub(crate) shape: Shape,
    partitions: Partitions,
    /// A client that has to be told that columns changed places, and its position.
    witness: Option<(Client, Value)>,
    /// The number of things that are still forgiven because of places that changed in the round before. They come first.
    late: usize,
    /// The errors of all columns or labels that have changed places.
    swapped: Vec<Forgiven>,
}

impl<'a> Ground<'a> {
    pub(crate) fn new(database: &'a Database, mut rng: Rng) -> Ground<'a> {
        let version = database.value("SHOW server_version_num").parse().unwrap();
        let shape = Shape::draw(&mut rng, version);
        eprintln!("{}", shape.sql);
        database.sql(&shape.sql);
        let disk = SmallDisk::mount();
        let postgres = Arc::new(Proxy::to_postgres(database));
        let mut setup = Setup::new(database)
            .by(postgres
                .url(database)
                .replace("postgres@", &format!("{}@", settings::ROLE)))
            .flag("--messages", said::PREFIX)
            .flag("--segment-bytes", "4MiB")
            .flag("--max-frame-bytes", "8KiB")
            .publications(&shape.publications);
        if let Some(disk) = &disk {
            setup = setup.data_in(disk.directory.path());
        }
        let clients = Arc::new(Proxy::to_walcast(setup.address()));
        let walcast = setup.start();
        let mishaps = Arc::new(Mishaps::default());
        let partitions = Partitions::default();
        partitions.forgive(&mishaps);
        Ground {
            epoch: walcast.connect().hello["epoch"].clone(),
            walcast: Some(walcast),
            database,
            setup,
            disk,
            postgres,
            clients,
            mishaps,
            rng,
            counts: BTreeMap::new(),
            broken: false,
            retyped: false,
            added: Vec::new(),
            names: 0,
            now: String::new(),
            shape,
            partitions,
            witness: None,
            late: 0,
            swapped: Vec::new(),
        }
    }

    /// Looks at the clock.
    pub(crate) fn tell_time(&mut self) {
        let form = "YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"";
        self.now = self
            .database
            .value(&format!("SELECT to_char(now() AT TIME ZONE 'UTC', '{form}')"));
    }

    /// The address at which clients find walcast.
    pub(crate) fn address(&self) -> Arc<Mutex<SocketAddr>> {
        self.setup.address()
    }

    /// The same, by a way that fails.
    pub(crate) fn clients_proxy(&self) -> Arc<Mutex<SocketAddr>> {
        Arc::new(Mutex::new(self.clients.address()))
    }

    /// True if the history has been broken since the start.
    pub(crate) fn has_broken(&self) -> bool {
        self.broken
    }

    /// True if the history tells of columns, of those that queries name, that have another type by now.
    pub(crate) fn has_retyped(&self) -> bool {
        self.retyped
    }

    pub(crate) fn report(&self) -> String {
        let counts = self
            .counts
            .iter()
            .map(|(fault, count)| format!("{count} {fault:?}"));
        counts.collect::<Vec<_>>().join(", ")
    }

    /// True if columns or labels have changed places.
    pub(crate) fn has_swapped(&self) -> bool {
        !self.swapped.is_empty()
    }

    /// The errors of all that has ever changed places. Walcast finds a change within seconds, and again if it is started
    /// anew before a row of the table came. A client that began before that is refused from the place where it began, since
    /// nobody knows what it was told.
    pub(crate) fn of_swaps(&self) -> Arc<Mishaps> {
        Arc::new(Mishaps {
            forgiven: Mutex::new(self.swapped.clone()),
            ..Mishaps::default()
        })
    }

    /// Waits until everything works again.
    pub(crate) fn settle(&mut self) {
        eventually("every partition has an identity", || {
            ledger::cure(&mut self.database.connect())
        });
        self.settle_walcast();
        self.await_witness();
    }

    fn settle_walcast(&self) {
        let walcast = self.walcast.as_ref().unwrap();
        eventually("walcast is ready", || {
            walcast.assert_running();
            walcast.ready().ok()
        });
    }

    /// From here on nobody may be told to start again.
    pub(crate) fn forgive_no_more(&mut self) {
        self.mishaps.may_break.store(false, Ordering::SeqCst);
        self.mishaps.may_change.store(false, Ordering::SeqCst);
        let mut forgiven = self.mishaps.forgiven.lock().unwrap();
        // Rows from before a swap may still be on their way once all are told of it, and then they are told again.
        forgiven.drain(..self.late);
        forgiven.retain(|forgiven| forgiven.table == person::TABLE);
        self.late = forgiven.len();
        drop(forgiven);
        self.partitions.forgive(&self.mishaps);
    }

    /// Walcast ends well.
    pub(crate) fn end(mut self) {
        settings::not_synchronous(self.database);
        let status = self.walcast.take().unwrap().stop();
        assert!(status.success(), "{status}");
    }

    /// One of the faults.
    pub(crate) fn fault(&mut self) {
        let wanted = std::env::var("WALCAST_FAULTS").unwrap_or_default();
        let is_wanted = |fault: &Fault| wanted.is_empty() || wanted.contains(&format!("{fault:?}"));
        let faults: Vec<Fault> = FAULTS.into_iter().filter(is_wanted).collect();
        let fault = *self.rng.choice(&faults).unwrap();
        if fault == Fault::DiskFull && self.disk.is_none() {
            return self.fault();
        }
        eprintln!("{fault:?}");
        *self.counts.entry(fault).or_default() += 1;
        let some = Duration::from_millis(self.rng.u64(50..2_000));
        match fault {
            Fault::Killed => self.restart(Walcast::kill, |_, _| {}),
            Fault::Terminated => self.restart(|walcast| assert!(walcast.stop().success()), |_, _| {}),
            Fault::Stopped => {
                let walcast = self.walcast.as_ref().unwrap();
                walcast.pause(true);
                thread::sleep(some);
                walcast.pause(false);
            }
            Fault::PostgresCrashed | Fault::PostgresRestarted => {
                let how = match fault {
                    Fault::PostgresCrashed => Shutdown::Immediate,
                    _ => Shutdown::Fast,
                };
                self.database.server().stop(how).unwrap();
                thread::sleep(some / 4);
                self.database.server().resume().unwrap();
            }
            Fault::PostgresCut => self.postgres.cut(),
            Fault::PostgresStalled => {
                self.postgres.stall(true);
                thread::sleep(some);
                self.postgres.stall(false);
            }
            Fault::PostgresStalledOneWay => {
                let way = *self.rng.choice(&[Direction::Up, Direction::Down]).unwrap();
                self.postgres.stall_one(way, true);
                thread::sleep(some);
                self.postgres.cut();
                self.postgres.stall_one(way, false);
            }
            Fault::ClientsCut => self.clients.cut(),
            Fault::ClientsStalled => {
                self.clients.stall(true);
                thread::sleep(some);
                self.clients.stall(false);
            }
            Fault::DiskFull => {
                let disk = self.disk.as_ref().unwrap();
                disk.fill(true);
                thread::sleep(some);
                disk.fill(false);
            }
            Fault::TailTorn => self.restart(Walcast::kill, |path, rng| {
                let bytes = fs::read(path).unwrap();
                let torn = bytes.len() - far(rng).min(bytes.len() / 2);
                fs::write(path, &bytes[..torn]).unwrap();
            }),
            Fault::TailCorrupted => self.restart(Walcast::kill, |path, rng| {
                let mut bytes = fs::read(path).unwrap();
                let at = bytes.len() - far(rng).min(bytes.len() / 2);
                bytes[at] ^= 1 << rng.u32(0..8);
                fs::write(path, bytes).unwrap();
            }),
            Fault::ColumnsChanged => self.change_columns(),
            Fault::RoleChanged => settings::change(self.database, &mut self.rng),
            Fault::SynchronousChanged => settings::synchronous(self.database, &mut self.rng),
            Fault::PartitionsChanged => self.change_partitions(),
            Fault::ColumnsSwapped => self.swap_columns(),
            Fault::TypeChanged => {
                self.mishaps.may_change.store(true, Ordering::SeqCst);
                self.retyped = true;
                let [table, column] = *self.rng.choice(&RETYPED).unwrap();
                let ty = *self.rng.choice(&["int", "bigint"]).unwrap();
                self.alter(&format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE {ty}"));
            }
        }
    }

    /// Columns that no query names come and go.
    fn change_columns(&mut self) {
        if self.added.len() > 3 || !self.added.is_empty() && self.rng.bool() {
            let (table, column) = self.added.swap_remove(self.rng.usize(..self.added.len()));
            return self.alter(&format!("ALTER TABLE {table} DROP COLUMN {column}"));
        }
        let table = *self.rng.choice(&["item", "part", "entry", "account"]).unwrap();
        let ty = *self
            .rng
            .choice(&["int", "text DEFAULT 'x'", "int DEFAULT 7"])
            .unwrap();
        // Of a table that logs whole rows it would have updates fail.
        let ty = match table {
            "entry" if self.shape.with_generated && self.rng.bool() => {
                "bigint GENERATED ALWAYS AS (n * 2) VIRTUAL"
            }
            _ => ty,
        };
        self.names += 1;
        let column = format!("extra{}", self.names);
        self.alter(&format!("ALTER TABLE {table} ADD COLUMN {column} {ty}"));
        self.added.push((table, column));
    }

    /// Partitions come and go, and their identities change.
    fn change_partitions(&mut self) {
        let change = self.partitions.change(&mut self.rng, &self.mishaps);
        eprintln!("{}", change.sql);
        self.alter(&change.sql);
        self.partitions.note(change.after);
    }

    /// Columns or labels change places. walcast finds that within seconds, but not at once: somebody waits for it.
    fn swap_columns(&mut self) {
        self.await_witness();
        self.settle_walcast();
        let address = self.address();
        let witness = eventually("somebody subscribes to the table", || {
            let mut witness = Client::try_connect(*address.lock().unwrap(), "/v1/stream", &[]).ok()?;
            let until = Instant::now() + DEADLINE;
            let sent = witness.try_send(&json!({"type": "subscribe", "id": "witness", "table": "person"}));
            // Lost on the way, or refused for now, it is somebody else.
            match witness.next_by(until) {
                Incoming::Message(message) if sent && message["type"] == "subscribed" => {
                    Some((witness, message["position"].clone()))
                }
                _ => None,
            }
        });
        self.witness = Some(witness);
        let (sql, swapped) = person::swap(&mut self.rng);
        eprintln!("{sql}");
        swapped
            .iter()
            .for_each(|forgiven| self.mishaps.forgive(*forgiven));
        self.swapped.extend(swapped);
        self.alter(&sql);
    }

    /// Waits until it was told, if it is there. Where its connection is lost, it comes back with its position, and is told
    /// then.
    fn await_witness(&mut self) {
        let Some((mut witness, position)) = self.witness.take() else {
            return;
        };
        let until = Instant::now() + DEADLINE;
        let mut subscribe =
            json!({"type": "subscribe", "id": "witness", "table": "person", "from": position});
        subscribe["epoch"] = witness.hello["epoch"].clone();
        loop {
            match witness.next_by(until) {
                Incoming::Message(message) if message["code"] == "internal" => {
                    thread::sleep(Duration::from_millis(100));
                    witness.try_send(&subscribe);
                }
                Incoming::Message(message) if message["type"] == "error" => {
                    let code = message["code"].as_str().unwrap();
                    let of_a_break = ["resume_invalid", "resume_expired"].contains(&code) && self.broken;
                    assert!(of_a_break || code == "schema_changed", "{message}");
                    return;
                }
                Incoming::Message(message) => {
                    if let Some(position) = message["position"].as_str() {
                        subscribe["from"] = json!(position);
                    }
                }
                Incoming::End(_) => {
                    witness = eventually("it comes back", || {
                        Client::try_connect(*self.address().lock().unwrap(), "/v1/stream", &[]).ok()
                    });
                    witness.try_send(&subscribe);
                }
                Incoming::Nothing => panic!("nobody was told that columns changed places"),
            }
        }
    }

    /// Changes a table while it is written, as soon as it gets the lock.
    fn alter(&self, sql: &str) {
        let mut connection = self.database.connect();
        connection.query("SET lock_timeout = '1s'").unwrap();
        eventually("the table can be changed", || {
            let Err(error) = connection.query(sql) else {
                return Some(());
            };
            // Of a lock, or of a row that came in the meantime.
            let passes = error
                .sqlstate()
                .is_some_and(|code| ["55P03", "40P01", "23514"].contains(&code));
            assert!(passes, "{error}: {sql}");
            connection.query("ROLLBACK").unwrap();
            None
        });
    }

    /// Ends walcast, does something to the journal's newest segment, and starts it again. What was confirmed and is not
    /// there any more is a gap, which clients have to be told of.
    fn restart(&mut self, end: impl FnOnce(Walcast), damage: impl FnOnce(&Path, &mut Rng)) {
        end(self.walcast.take().unwrap());
        let segment = newest(&self.setup.data());
        let before = fs::read(&segment).unwrap();
        damage(&segment, &mut self.rng);
        if fs::read(&segment).unwrap() != before {
            self.mishaps.may_break.store(true, Ordering::SeqCst);
            self.broken = true;
        }
        let walcast = self.setup.start_unready();
        self.walcast = Some(walcast);
    }
}

/// The distance from its end at which a journal is damaged: in what was not confirmed yet, mostly.
fn far(rng: &mut Rng) -> usize {
    match rng.u32(0..3) {
        0 => rng.usize(1..200_000),
        _ => rng.usize(1..200),
    }
}

/// The newest segment of a journal.
fn newest(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("segments"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.max().unwrap()
}
