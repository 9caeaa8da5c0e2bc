//! [`Database`]: a database of a test's own, on a throwaway server that tests share or on one of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use walcast::cluster::{Cluster, Options};
use walcast::lsn::Lsn;
use walcast::postgres::{ConnInfo, Connection, Purpose, Row};

use super::failure::Running;

/// A database, and the server it is on.
pub struct Database {
    server: Arc<Mutex<Cluster>>,
    pub name: String,
    url: String,
    socket: std::path::PathBuf,
    _running: Running,
}

/// The server that tests share, there as long as one of them uses it, and the number of tests that it was given to.
static SHARED: Mutex<(Weak<Mutex<Cluster>>, usize)> = Mutex::new((Weak::new(), 0));
/// The number of tests after which another server is started: their slots stay, and keep the log, until their server goes.
const MOST_ON_A_SERVER: usize = 100;
static NUMBER: AtomicUsize = AtomicUsize::new(0);

impl Database {
    /// A new database on the shared server, with `schema`.
    pub fn new(schema: &str) -> Database {
        Database::on(Database::shared(), schema)
    }

    fn shared() -> Arc<Mutex<Cluster>> {
        let mut shared = SHARED.lock();
        let (server, count) = &mut *shared;
        *count += 1;
        server
            .upgrade()
            .filter(|_| *count <= MOST_ON_A_SERVER)
            .unwrap_or_else(|| {
                let started = Arc::new(Mutex::new(start(&[])));
                *server = Arc::downgrade(&started);
                *count = 1;
                started
            })
    }

    /// A new database on the shared server, in another encoding than UTF-8.
    pub fn encoded(encoding: &str, schema: &str) -> Database {
        let shared = Database::shared();
        Database::made(
            shared,
            &format!("TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"),
            schema,
        )
    }

    /// A new database on a server of its own, which the test may stop.
    pub fn on_its_own_server(schema: &str, settings: &[&str]) -> Database {
        Database::on(Arc::new(Mutex::new(start(settings))), schema)
    }

    fn on(server: Arc<Mutex<Cluster>>, schema: &str) -> Database {
        Database::made(server, "", schema)
    }

    /// A further database on the same server, empty.
    pub fn another(&self) -> Database {
        Database::on(Arc::clone(&self.server), "")
    }

    fn made(server: Arc<Mutex<Cluster>>, options: &str, schema: &str) -> Database {
        super::failure::remember();
        let name = format!("it{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let (url, socket) = {
            let cluster = server.lock();
            let file = format!(".s.PGSQL.{}", cluster.port());
            (cluster.url(&name), cluster.socket_directory().join(file))
        };
        let database = Database {
            server,
            name,
            url,
            socket,
            _running: Running::begins(),
        };
        let admin = database.server.lock().url("postgres");
        let mut connection = connect(&admin).unwrap();
        connection
            .query(&format!("CREATE DATABASE {} {options}", database.name))
            .unwrap();
        connection.close();
        database.sql(schema);
        database
    }

    /// The URL, for walcast and for workers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's unix socket, for a proxy.
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    pub fn connect(&self) -> Connection {
        connect(&self.url).unwrap()
    }

    /// Runs SQL: one transaction, unless the text says otherwise.
    pub fn sql(&self, sql: &str) -> Vec<Row> {
        let mut connection = self.connect();
        let rows = connection.query(sql).unwrap_or_else(|e| panic!("{e}: {sql}"));
        connection.close();
        rows
    }

    /// The one value that a query answers with; empty for NULL.
    pub fn value(&self, sql: &str) -> String {
        self.sql(sql)[0].get(0).unwrap_or_default().to_owned()
    }

    /// The rows of a query, as `row_to_json` prints them.
    pub fn rows(&self, query: &str) -> Vec<Value> {
        let rows = self.sql(&format!("SELECT row_to_json(q) FROM ({query}) q"));
        rows.iter()
            .map(|row| serde_json::from_str(row.get(0).unwrap()).unwrap())
            .collect()
    }

    /// The position up to which the server has written.
    pub fn written(&self) -> Lsn {
        self.value("SELECT pg_current_wal_lsn()").parse().unwrap()
    }

    /// The position up to which a slot is confirmed.
    pub fn confirmed(&self, slot: &str) -> Lsn {
        let sql = format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'");
        self.value(&sql).parse().unwrap()
    }

    /// Drops a slot, whoever is using it.
    pub fn drop_slot(&self, slot: &str) {
        let terminate = format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
             WHERE slot_name = '{slot}' AND active_pid IS NOT NULL"
        );
        super::eventually("the slot can be dropped", || {
            let mut connection = self.connect();
            connection.query(&terminate).ok()?;
            let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
            connection.query(&drop).ok()
        });
    }

    /// Gives up what a slot has not sent yet, as soon as nobody reads it.
    pub fn advance(&self, slot: &str) {
        super::eventually("the slot can be advanced", || {
            let mut connection = self.connect();
            let advance = format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())");
            connection.query(&advance).ok()
        });
    }

    /// The server's version, by its number.
    pub fn version(&self) -> u32 {
        self.connect().server_version_num()
    }

    /// Makes a role that has the right to replication and no other, named for the database. Returns its URL.
    pub fn limited_role(&self) -> String {
        let role = format!("limited_{}", self.name);
        self.sql(&format!("CREATE ROLE {role} LOGIN REPLICATION"));
        self.url.replace("postgres@", &format!("{role}@"))
    }

    /// The server, to stop and to start.
    pub fn server(&self) -> MutexGuard<'_, Cluster> {
        self.server.lock()
    }
}

/// A connection to a database, for workers that outlive it.
pub fn connect(url: &str) -> Result<Connection, walcast::postgres::Error> {
    Connection::connect(&ConnInfo::parse(url).unwrap(), Purpose::Application)
}

fn start(settings: &[&str]) -> Cluster {
    let mut lines = vec![
        "max_connections = 200".to_owned(),
        "deadlock_timeout = 20ms".to_owned(),
        "max_wal_senders = 60".to_owned(),
        "max_replication_slots = 200".to_owned(),
    ];
    lines.extend(settings.iter().map(|&line| line.to_owned()));
    let cluster = Cluster::start(&Options {
        settings: lines,
        ..Options::default()
    })
    .unwrap();
    // The minor versions since August 2026 load only the output plugins that are named; earlier ones do not know the
    // setting.
    let allows_some = "SELECT 1 FROM pg_settings WHERE name = 'output_plugin_libraries'";
    if cluster.psql(allows_some) == "1" {
        cluster.psql("ALTER SYSTEM SET output_plugin_libraries = 'pgoutput', 'test_decoding', 'wal2json'");
        cluster.psql("SELECT pg_reload_conf()");
    }
    cluster
}
