//! `walcast serve`: the bridge itself.

mod checked;
mod limits;
mod listen;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;

use self::limits::Limits;
use self::listen::Listen;
pub(super) use self::run::run;
use super::config::{ConfigFlag, Own};
use super::values;
use crate::postgres::SlotName;

/// Read a replication slot and serve live queries over websockets.
///
/// Checks the database first, as `walcast check` does, and says what is missing. SIGTERM and SIGINT drain: clients
/// are told to reconnect, the journal is synced and confirmed. SIGHUP reads again what can change without a restart.
#[derive(Debug, clap::Args)]
pub(crate) struct Command {
    #[command(flatten)]
    file: ConfigFlag,
    #[command(flatten)]
    pub(crate) args: Args,
}

/// The flags of `serve`, each of which may stand in the configuration file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Own<SourceArgs>,
    #[command(flatten)]
    listen: Listen,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    clients: Clients,
}

/// The flags that are about one database.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    journal: JournalArgs,
    #[command(flatten)]
    snapshots: Snapshots,
}

/// The source.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Source")]
pub(crate) struct Source {
    /// The database: postgresql://user@host:port/database?sslmode=…, or libpq's keyword=value form. Several hosts are
    /// tried in order. What is left out comes from PGHOST, PGUSER, PGPASSWORD and so on.
    #[arg(
        long,
        env = "WALCAST_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_url: values::DatabaseUrl,
    /// The logical replication slot, read by this walcast alone.
    #[arg(long, env = "WALCAST_SLOT", value_name = "NAME")]
    slot: SlotName,
    /// The publications whose tables can be subscribed to. A name with a comma in it is quoted as in SQL.
    #[arg(
        long,
        env = "WALCAST_PUBLICATION",
        value_name = "NAME[,NAME]",
        required = true
    )]
    publication: Vec<values::Publications>,
    /// The slot's output plugin.
    #[arg(long, env = "WALCAST_PLUGIN", value_enum, default_value = "pgoutput")]
    plugin: PluginName,
    /// Create the slot if there is none, and never was one for this --data-dir.
    #[arg(long, env = "WALCAST_CREATE_SLOT")]
    create_slot: bool,
    /// Create the slot again if it is lost or gone, also with its database, where serve would end otherwise: what was
    /// written meanwhile is missed, so a new epoch begins, and clients are told to resubscribe with new snapshots.
    /// Creates the first one too.
    #[arg(long, env = "WALCAST_RECREATE_SLOT")]
    recreate_slot: bool,
    /// Create missing publications, FOR ALL TABLES (needs a superuser), unless UPDATE and DELETE would then fail on a
    /// table that is there: on one without a primary key or another replica identity, and so on each that is made
    /// later.
    #[arg(long, env = "WALCAST_CREATE_PUBLICATION")]
    create_publication: bool,
}

/// The way in which it is read.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Source")]
struct Reading {
    /// Drop the slot rather than have the server keep more WAL for it than this. Then serve ends, or with
    /// --recreate-slot begins a new epoch. It holds while serve runs; max_slot_wal_keep_size holds always.
    #[arg(long, env = "WALCAST_MAX_SLOT_LAG", value_name = "SIZE", value_parser = values::size)]
    max_slot_lag: Option<ByteSize>,
    /// While a standby waits for the slot (a second serve on it), confirm transactions to Postgres only after this
    /// time: the standby gets them again when it takes over, and clients that were not further go on there.
    #[arg(long, env = "WALCAST_STANDBY_WINDOW", value_name = "TIME", default_value = "10s", value_parser = values::time_or_none)]
    standby_window: Duration,
    /// Read large transactions while they still run, and keep them in --data-dir until they commit: what commits behind
    /// them waits less. They are delivered after their commit all the same. By pgoutput only.
    #[arg(long, env = "WALCAST_STREAMING", value_enum, default_value = "on")]
    streaming: Switch,
    /// Logical messages (pg_logical_emit_message) of these prefixes can be subscribed to. Any role that may log in
    /// to the database can write some. By pgoutput only. A prefix with a comma in it is quoted as in SQL.
    #[arg(long, env = "WALCAST_MESSAGES", value_name = "PREFIX[,PREFIX]")]
    messages: Vec<values::Names>,
}

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PluginName {
    Pgoutput,
    Wal2json,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Journal")]
struct JournalArgs {
    /// The journal's directory. It belongs to one database and one slot.
    #[arg(long, env = "WALCAST_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// Remove the oldest history beyond this size. Clients can resume from what is kept.
    #[arg(
        long,
        env = "WALCAST_RETENTION_BYTES",
        value_name = "SIZE",
        default_value = "10GiB",
        value_parser = values::size
    )]
    retention_bytes: ByteSize,
    /// Remove history older than this.
    #[arg(long, env = "WALCAST_RETENTION_AGE", value_name = "TIME", default_value = "7days", value_parser = values::time)]
    retention_age: Duration,
    /// Size of a journal file; history is removed by whole files.
    #[arg(
        long,
        env = "WALCAST_SEGMENT_BYTES",
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = values::file_size
    )]
    segment_bytes: ByteSize,
    /// Rows larger than this, as text, are delivered by their key alone, as "oversize".
    #[arg(
        long,
        env = "WALCAST_MAX_ROW_BYTES",
        value_name = "SIZE",
        default_value = "128MiB",
        value_parser = values::size
    )]
    max_row_bytes: ByteSize,
    /// Amount of transactions that still run to keep, beside the journal, with --streaming on. Beyond it, or when the
    /// disk is full, they are read after their commit for ten minutes at least.
    #[arg(
        long,
        env = "WALCAST_MAX_SPOOL_BYTES",
        value_name = "SIZE",
        default_value = "16GiB",
        value_parser = values::size
    )]
    max_spool_bytes: ByteSize,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Snapshots")]
struct Snapshots {
    /// Server that the rows are read from that subscriptions begin with ("snapshot": true): a standby of the database,
    /// which is waited for until it has replayed far enough. Without it they are read from the database itself.
    #[arg(
        long,
        env = "WALCAST_SNAPSHOT_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    snapshot_url: Option<values::DatabaseUrl>,
    /// Snapshots read at once, each on a connection of its own. Further ones wait: subjects have turns, by the
    /// time that their snapshots have taken, the last free connection goes to one that has none, and subjects whose
    /// snapshots take more than a hundredth of the time have half of the connections together.
    #[arg(
        long,
        env = "WALCAST_MAX_SNAPSHOTS",
        value_name = "N",
        default_value_t = 4,
        value_parser = values::count
    )]
    max_snapshots: usize,
    /// Time that reading a snapshot may take at the server, from its snapshot to its last row; then it is cancelled,
    /// and the subscription refused (limit_exceeded). The server's own statement_timeout holds beside it.
    #[arg(long, env = "WALCAST_SNAPSHOT_TIMEOUT", value_name = "TIME", default_value = "5min", value_parser = values::time)]
    snapshot_timeout: Duration,
    /// Amount of rows to keep, in --data-dir, that clients have not taken yet. Beyond it, the database is read as
    /// slowly as they take them.
    #[arg(
        long,
        env = "WALCAST_MAX_SNAPSHOT_BYTES",
        value_name = "SIZE",
        default_value = "4GiB",
        value_parser = values::size
    )]
    max_snapshot_bytes: ByteSize,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Clients")]
struct Clients {
    /// Amount that may wait for a client in memory; one that reads slower is served from the journal.
    #[arg(
        long,
        env = "WALCAST_SEND_BUFFER_BYTES",
        value_name = "SIZE",
        default_value = "1MiB",
        value_parser = values::size
    )]
    send_buffer_bytes: ByteSize,
    /// About how large a message with changes may grow; larger transactions come in several.
    #[arg(
        long,
        env = "WALCAST_MAX_FRAME_BYTES",
        value_name = "SIZE",
        default_value = "16KiB",
        value_parser = values::size
    )]
    max_frame_bytes: ByteSize,
    /// Interval at which quiet clients hear how far the history has come.
    #[arg(long, env = "WALCAST_PROGRESS_INTERVAL", value_name = "TIME", default_value = "5s", value_parser = values::time)]
    progress_interval: Duration,
    /// Time without a word from a client until it is pinged.
    #[arg(long, env = "WALCAST_PING_INTERVAL", value_name = "TIME", default_value = "20s", value_parser = values::time)]
    ping_interval: Duration,
    /// Time without a word from a client until its connection is closed (4002).
    #[arg(long, env = "WALCAST_PONG_TIMEOUT", value_name = "TIME", default_value = "45s", value_parser = values::time)]
    pong_timeout: Duration,
    /// Time that a client may read nothing of what is sent to it, until its connection is closed (4001).
    #[arg(long, env = "WALCAST_STALL_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = values::time)]
    stall_timeout: Duration,
    /// Time that a message of a client's may take to come whole, until its connection is closed (4001). While nothing is
    /// read from the client, it does not pass.
    #[arg(long, env = "WALCAST_MESSAGE_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = values::time)]
    message_timeout: Duration,
    /// Time that a client has from its connection to its token, where the configuration has an auth section.
    #[arg(long, env = "WALCAST_AUTH_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = values::time)]
    auth_timeout: Duration,
    /// Over how long clients are told to spread their reconnects when walcast stops.
    #[arg(long, env = "WALCAST_RECONNECT_SPREAD", value_name = "TIME", default_value = "5s", value_parser = values::time_or_none)]
    reconnect_spread: Duration,
    /// Time that clients get to take their close frames when walcast stops.
    #[arg(long, env = "WALCAST_DRAIN_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = values::time_or_none)]
    drain_timeout: Duration,
}
