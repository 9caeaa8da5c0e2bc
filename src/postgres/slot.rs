//! Replication slots and what belongs to them: names, state, creation, the history they are part of.

use std::fmt;

use super::connection::{Connection, Row};
use super::error::Error;
use crate::event::{quote_identifier, quote_literal};
use crate::lsn::Lsn;

/// A name that Postgres would not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a slot's name.
    #[error("{0:?} cannot name a replication slot: use 1 to 63 of the characters a-z, 0-9 and _")]
    Slot(String),
    /// Not an identifier.
    #[error("{0:?} cannot name a publication: use 1 to 63 bytes")]
    Publication(String),
}

/// Asks how far the server has written.
pub(super) const WRITTEN: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
    THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END";

/// As [`WRITTEN`], with what is not on disk yet.
const INSERTED: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
     THEN GREATEST(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()) \
     ELSE pg_catalog.pg_current_wal_insert_lsn() END";

/// The longest identifier, in bytes (`NAMEDATALEN` less one).
const MAX_NAME: usize = 63;

/// The name of a replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlotName(String);

impl SlotName {
    /// Checks that the server would take the name.
    pub fn new(name: impl Into<String>) -> Result<SlotName, NameError> {
        let name = name.into();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain) {
            Ok(SlotName(name))
        } else {
            Err(NameError::Slot(name))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for SlotName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<SlotName, NameError> {
        SlotName::new(name)
    }
}

/// The name of a publication, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Publication(String);

impl Publication {
    /// Checks that it can be an identifier.
    pub fn new(name: impl Into<String>) -> Result<Publication, NameError> {
        let name = name.into();
        if (1..=MAX_NAME).contains(&name.len()) && !name.contains('\0') {
            Ok(Publication(name))
        } else {
            Err(NameError::Publication(name))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Publication {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Publication, NameError> {
        Publication::new(name)
    }
}

/// An output plugin: the part of the server that writes a slot's changes as messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plugin {
    /// Postgres' own, there in every server.
    #[default]
    Pgoutput,
    /// A plugin that writes JSON, of a package of its own.
    Wal2json,
}

impl Plugin {
    /// The plugin's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Plugin::Pgoutput => "pgoutput",
            Plugin::Wal2json => "wal2json",
        }
    }
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The history that a session looks at (`IDENTIFY_SYSTEM`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The cluster's identifier, given by `initdb`; a copy of the cluster keeps it.
    pub system_id: u64,
    /// The timeline, which changes at every promotion.
    pub timeline: u32,
    /// Up to where WAL is flushed.
    pub wal_position: Lsn,
    /// The database.
    pub database: String,
}

/// The point where a timeline ended and the next one began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline that ended.
    pub timeline: u32,
    /// That point: what lay beyond is lost.
    pub at: Lsn,
}

/// A slot as `pg_replication_slots` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// The output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// The database; `None` for a physical slot.
    pub database: Option<String>,
    /// True if it goes with the session that made it.
    pub temporary: bool,
    /// The server process that reads it, if one does.
    pub active_pid: Option<u32>,
    /// The oldest WAL that it keeps; `None` once it is lost.
    pub restart_lsn: Option<Lsn>,
    /// Up to where its reader has confirmed.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// The amount of WAL that can still be written before it may be lost, in bytes; `None` if there is no such limit.
    pub safe_wal_size: Option<i64>,
    /// The reason why it was invalidated (version 17 and later), `wal_removed` or `idle_timeout` for example.
    pub invalidation_reason: Option<String>,
    /// True if a standby holds a copy of it to fail over to (version 17 and later).
    pub failover: bool,
    /// True if transactions are decoded when they are prepared rather than when they commit.
    pub two_phase: bool,
}

impl SlotState {
    /// True if the server has given the slot up: it can only be dropped.
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation_reason.is_some()
    }

    /// The reason why the server has given the slot up, if it has.
    pub fn loss(&self) -> Option<&str> {
        let reason = self.invalidation_reason.as_deref();
        self.is_lost()
            .then(|| reason.unwrap_or("max_slot_wal_keep_size was exceeded"))
    }

    /// The amount of WAL that a server that has written so far keeps for the slot, in bytes.
    pub fn retained(&self, written: Lsn) -> Option<u64> {
        self.restart_lsn.map(|lsn| written.bytes_since(lsn))
    }

    fn read(row: &Row) -> Result<SlotState, Error> {
        let text = |index| row.get(index).map(str::to_owned);
        Ok(SlotState {
            plugin: text(0),
            database: text(1),
            temporary: row.is_true(2),
            active_pid: row.optional(3, "active_pid")?,
            restart_lsn: row.optional(4, "restart_lsn")?,
            confirmed_flush_lsn: row.optional(5, "confirmed_flush_lsn")?,
            wal_status: text(6),
            safe_wal_size: row.optional(7, "safe_wal_size")?,
            invalidation_reason: text(8),
            failover: row.is_true(9),
            two_phase: row.is_true(10),
        })
    }
}

impl Connection {
    /// The history that this session, one for replication, looks at.
    pub fn identify_system(&mut self) -> Result<SystemIdentity, Error> {
        let row = self.query_one("IDENTIFY_SYSTEM", "IDENTIFY_SYSTEM")?;
        Ok(SystemIdentity {
            system_id: row.parse(0, "systemid")?,
            timeline: row.parse(1, "timeline")?,
            wal_position: row.parse(2, "xlogpos")?,
            database: row.parse(3, "dbname")?,
        })
    }

    /// The switches that led to `timeline`, oldest first; for a session for replication.
    pub fn timeline_history(&mut self, timeline: u32) -> Result<Vec<TimelineSwitch>, Error> {
        if timeline <= 1 {
            return Ok(Vec::new());
        }
        let row = self.query_one("TIMELINE_HISTORY", &format!("TIMELINE_HISTORY {timeline}"))?;
        parse_history(row.text(1, "the timeline's history file")?)
    }

    /// The position up to which the server has written its WAL; a standby, how far it has replayed it.
    pub fn written(&mut self) -> Result<Lsn, Error> {
        self.query_one("the server's position", WRITTEN)?
            .parse(0, "position")
    }

    /// The position up to which the server's log has been inserted into, whether it is on disk or not; of a standby,
    /// how far it has received or replayed it. What an application reads from `pg_current_wal_insert_lsn()` never lies
    /// beyond.
    pub fn inserted(&mut self) -> Result<Lsn, Error> {
        self.query_one("the server's insert position", INSERTED)?
            .parse(0, "position")
    }

    /// True if the server is a standby.
    pub fn is_in_recovery(&mut self) -> Result<bool, Error> {
        let row = self.query_one("the server's role", "SELECT pg_catalog.pg_is_in_recovery()")?;
        Ok(row.is_true(0))
    }

    /// The slot's state, or `None` if there is no such slot.
    pub fn slot(&mut self, name: &SlotName) -> Result<Option<SlotState>, Error> {
        let version = self.server_version_num();
        let since_17 = if version >= 170_000 {
            "invalidation_reason, failover"
        } else {
            "NULL, false"
        };
        let rows = self.query(&format!(
            "SELECT plugin, database, temporary, active_pid, restart_lsn, confirmed_flush_lsn, wal_status, \
             safe_wal_size, {since_17}, two_phase FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
            quote_literal(name.as_str())
        ))?;
        rows.first().map(SlotState::read).transpose()
    }

    /// Creates a logical slot, in a session for replication, and returns its starting point.
    ///
    /// From version 17 on a primary's slot is made so that a standby can hold a copy of it to fail over to
    /// (`FAILOVER`). The server waits for every older write transaction to end (see
    /// [`Connection::slot_creation_blockers`]). `go_on` is asked five times a second; once it says no, creation is
    /// cancelled (SQLSTATE 57014), so that no slot is left behind; just dropping the connection would leave one.
    pub fn create_slot(
        &mut self,
        name: &SlotName,
        plugin: &str,
        go_on: impl FnMut() -> bool,
    ) -> Result<Lsn, Error> {
        let options = if self.can_have_copies()? {
            "(SNAPSHOT 'nothing', FAILOVER true)"
        } else {
            "NOEXPORT_SNAPSHOT"
        };
        let command = format!(
            "CREATE_REPLICATION_SLOT {} LOGICAL {} {options}",
            quote_identifier(name.as_str()),
            quote_identifier(plugin)
        );
        let rows = self.query_while(&command, go_on)?;
        let row = rows.first().ok_or_else(|| Error::Answer {
            question: "CREATE_REPLICATION_SLOT",
            problem: "it is empty".into(),
        })?;
        row.parse(1, "consistent_point")
    }

    /// Creates a slot that goes with the session, to see whether the server can load the plugin and allows it
    /// (SQLSTATE 58P01 and 42501 if not). `go_on` as for [`Connection::create_slot`].
    pub(super) fn probe_plugin(
        &mut self,
        name: &SlotName,
        plugin: &str,
        go_on: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let command = format!(
            "CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL {} NOEXPORT_SNAPSHOT",
            quote_identifier(name.as_str()),
            quote_identifier(plugin)
        );
        self.query_while(&command, go_on).map(drop)
    }

    /// Drops a slot. SQLSTATE 42704: there is none; 55006: somebody reads it.
    pub fn drop_slot(&mut self, name: &SlotName) -> Result<(), Error> {
        let name = quote_literal(name.as_str());
        self.query(&format!("SELECT pg_catalog.pg_drop_replication_slot({name})"))
            .map(drop)
    }

    /// Those of the publications that do not exist in this database.
    pub fn missing_publications(&mut self, names: &[Publication]) -> Result<Vec<Publication>, Error> {
        let rows = self.query("SELECT pubname FROM pg_catalog.pg_publication")?;
        let exists = |name: &&Publication| rows.iter().any(|row| row.get(0) == Some(name.as_str()));
        Ok(names.iter().filter(|name| !exists(name)).cloned().collect())
    }

    /// Creates a publication of all tables, which takes a superuser. Where [`check`](super::check) finds tables that
    /// could not be updated any more, it is not to be done.
    pub fn create_publication(&mut self, name: &Publication) -> Result<(), Error> {
        let sql = publication_of_all_tables(name, self.server_version_num());
        // The role's transactions may be read-only by default.
        self.query(&format!("SET TRANSACTION READ WRITE; {sql}"))
            .map(drop)
    }

    /// The SQL that makes a slot as [`Connection::create_slot`] does, for people to run.
    pub fn slot_creation(&mut self, name: &SlotName, plugin: &str) -> Result<String, Error> {
        let failover = if self.can_have_copies()? {
            ", failover => true"
        } else {
            ""
        };
        Ok(format!(
            "SELECT pg_create_logical_replication_slot('{name}', '{plugin}'{failover})"
        ))
    }

    /// True if a slot that is made here can be one that standbys hold copies of.
    fn can_have_copies(&mut self) -> Result<bool, Error> {
        Ok(self.server_version_num() >= 170_000 && !self.is_in_recovery()?)
    }
}

/// The SQL that publishes all tables. As by `sql/setup.sql`, partitions are published as the table that they are
/// partitions of, and stored generated columns, where they can be, with the others: a replica identity may hold some.
pub(super) fn publication_of_all_tables(name: &Publication, version: u32) -> String {
    let generated = match version {
        180_000.. => ", publish_generated_columns = stored",
        _ => "",
    };
    format!(
        "CREATE PUBLICATION {} FOR ALL TABLES WITH (publish_via_partition_root = true{generated});",
        quote_identifier(name.as_str())
    )
}

/// Reads a timeline history file: lines of timeline, switch point and reason, with comments.
fn parse_history(text: &str) -> Result<Vec<TimelineSwitch>, Error> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut fields = line.split_whitespace();
            let timeline = fields.next().and_then(|field| field.parse().ok());
            let at = fields.next().and_then(|field| field.parse().ok());
            match (timeline, at) {
                (Some(timeline), Some(at)) => Ok(TimelineSwitch { timeline, at }),
                _ => Err(Error::Answer {
                    question: "TIMELINE_HISTORY",
                    problem: format!("cannot read the line {line:?}"),
                }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_are_checked_as_the_server_checks_them() {
        for good in ["a", "walcast_1", &"x".repeat(63)] {
            assert_eq!(SlotName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "Walcast", "wal-cast", "wal cast", "ä", &"x".repeat(64)] {
            assert_eq!(SlotName::new(bad), Err(NameError::Slot(bad.into())));
        }
    }

    #[test]
    fn a_timeline_history_reads_line_by_line() {
        let text = "1\t0/2000060\tno recovery target specified\n\n# comment\n2\t0/3000000\tbefore 2026\n";
        let switch = |timeline, at: &str| TimelineSwitch {
            timeline,
            at: at.parse().unwrap(),
        };
        let history = parse_history(text).unwrap();
        assert_eq!(history, [switch(1, "0/2000060"), switch(2, "0/3000000")]);
        assert!(parse_history("one 0/0").is_err());
    }
}
