//! [`Shop`]: the demo's database and its traffic.

use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Options};
use crate::postgres::{self, ConnInfo, Connection, Purpose};

/// The name of role, publication and slot, as `sql/setup.sql` has it.
pub(super) const NAME: &str = "walcast";

const SCHEMA: &str = include_str!("../../../sql/demo/schema.sql");
const TRAFFIC: &str = include_str!("../../../sql/demo/traffic.sql");
/// The script that users run on their own database, run here as they would.
const SETUP: &str = include_str!("../../../sql/setup.sql");
const DATABASE: &str = "shop";

/// Pauses between transactions, in milliseconds: fifteen a second or so.
const PAUSE_MS: std::ops::Range<u64> = 20..110;
const RETRY: Duration = Duration::from_secs(1);

/// A throwaway server with the shop's database. Dropping it stops the server and removes its files, and blocks
/// meanwhile.
#[derive(Debug)]
pub(super) struct Shop(Cluster);

impl Shop {
    /// Starts the server and prepares the database: the tables are empty, the slot is there. So the journal will hold
    /// the whole history, and clients that start with the earliest change see every row. Blocking.
    pub(super) fn open() -> anyhow::Result<Shop> {
        let options = Options {
            settings: [
                "autovacuum = on",
                "autovacuum_naptime = 15s",
                "max_wal_size = 256MB",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..Options::default()
        };
        let cluster = Cluster::start(&options).context("cannot start a throwaway Postgres")?;
        cluster.try_psql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        cluster.try_psql(DATABASE, SCHEMA)?;
        cluster.try_psql(DATABASE, TRAFFIC)?;
        let setup = format!("\\set tables 'customers, orders, order_items, support.tickets'\n{SETUP}");
        cluster.try_psql(DATABASE, &setup)?;
        Ok(Shop(cluster))
    }

    /// The database's URL for walcast's own role.
    pub(super) fn url(&self) -> String {
        self.0
            .url(DATABASE)
            .replacen("://postgres@", &format!("://{NAME}@"), 1)
    }

    /// The command that opens a session in the database.
    pub(super) fn psql(&self) -> String {
        let directory = self.0.socket_directory().display();
        format!("psql -h {directory} -p {} -U postgres {DATABASE}", self.0.port())
    }

    /// Its traffic, not yet begun.
    pub(super) fn traffic(&self) -> anyhow::Result<Traffic> {
        let info = ConnInfo::parse(&self.0.url(DATABASE))?;
        Ok(Traffic { info })
    }
}

/// The events in the shop.
#[derive(Debug)]
pub(super) struct Traffic {
    info: ConnInfo,
}

impl Traffic {
    /// Fills the shop, then trades until `stop`. Blocking.
    pub(super) fn run(self, stop: &CancellationToken) -> anyhow::Result<()> {
        let mut connection = self.connect()?;
        connection
            .query("SELECT traffic.seed()")
            .context("cannot fill the shop")?;
        while !stop.is_cancelled() {
            if let Err(error) = trade(&mut connection, stop) {
                tracing::warn!(%error, "the traffic is interrupted");
                thread::sleep(RETRY);
                if let Ok(again) = self.connect() {
                    connection = again;
                }
            }
        }
        connection.close();
        Ok(())
    }

    fn connect(&self) -> Result<Connection, postgres::Error> {
        Connection::connect(&self.info, Purpose::Application)
    }
}

fn trade(connection: &mut Connection, stop: &CancellationToken) -> Result<(), postgres::Error> {
    while !stop.is_cancelled() {
        connection.query("SELECT traffic.step()")?;
        thread::sleep(Duration::from_millis(fastrand::u64(PAUSE_MS)));
    }
    Ok(())
}
