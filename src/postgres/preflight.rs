//! [`check`]: everything that would keep `serve` from working, each with what mends it.
//!
//! It only looks, and it looks at all of it: one visit to the database administrator should be enough.

mod all_tables;
mod identities;
mod publications;
mod rights;
mod slot;
mod standbys;
mod wal2json;

use std::fmt;

use super::Purpose;
use super::connection::Connection;
use super::conninfo::ConnInfo;
use super::error::Error;
use super::publication_tables::publication_tables;
use super::select::{PgType, TypedRow};
use super::slot::{Plugin, Publication, SlotName};
use crate::event::{TableName, quote_identifier};

/// The setup that is to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// The slot to read.
    pub slot: SlotName,
    /// The publications to read.
    pub publications: Vec<Publication>,
    /// The output plugin.
    pub plugin: Plugin,
    /// True if a missing slot will be created.
    pub create_slot: bool,
    /// True if a slot that is lost will be created again.
    pub recreate_slot: bool,
    /// True if missing publications will be created, of all tables.
    pub create_publication: bool,
}

/// The severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, but not as one might expect.
    Warns,
    /// It cannot work.
    Blocks,
}

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names say it; `Finding::what` says it at length.
pub enum Code {
    ServerTooOld,
    InRecovery,
    WalLevel,
    Encoding,
    NoReplicationRight,
    WalSendersUsedUp,
    NoReplicationSession,
    Pooler,
    SlotsUsedUp,
    SlotMissing,
    SlotPhysical,
    SlotOfOtherDatabase,
    SlotOfOtherPlugin,
    SlotLost,
    SlotTwoPhase,
    PluginMissing,
    PluginNotAllowed,
    RowFilter,
    SlotActive,
    PublicationMissing,
    CannotCreatePublication,
    PublicationEndangersWrites,
    PublicationEmpty,
    PublicationPartial,
    PublicationFiltered,
    PublicationYoungerThanSlot,
    ColumnListsConflict,
    NoReplicaIdentity,
    WritesFail,
    RowsUnnamed,
    RowsLeftOut,
    RowFiltersDiffer,
    PartitionIdentities,
    WholePartitions,
    NoSelectRight,
    Synchronous,
    StandbySlots,
    IdleSlotTimeout,
    RowSecurity,
}

/// Something that is not as it should be. `Display` is what `walcast check` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub code: Code,
    /// The severity.
    pub severity: Severity,
    /// The problem, in a sentence.
    pub what: String,
    /// The SQL or the setting that mends it; of a finding about several tables it may be that of the first.
    pub cure: String,
    /// The published tables that it is about, all of them, also those that [`Finding::what`] has no room for. Empty if it
    /// is about something else.
    pub tables: Vec<FoundTable>,
}

/// A table that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTable {
    /// Its name, or that of the root by which it is published.
    pub table: TableName,
    /// The problem of this table alone, in a sentence.
    pub what: String,
    /// The SQL or the setting that mends it for this table.
    pub cure: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Blocks => "error",
            Severity::Warns => "warning",
        };
        write!(f, "{severity}: {}", self.in_words())
    }
}

impl Finding {
    /// The problem, and the cure below it.
    pub fn in_words(&self) -> String {
        format!("{}\n    {}", self.what, self.cure.replace('\n', "\n    "))
    }
}

/// Looks for everything that would keep `serve` from working, the worst first. An error means that not even this could
/// be asked.
pub fn check(info: &ConnInfo, wanted: &Requirements) -> Result<Vec<Finding>, Error> {
    let mut inspection = Inspection {
        sql: Connection::connect(info, Purpose::Query)?,
        wanted,
        publications: wanted.publications.iter().map(Publication::as_str).collect(),
        findings: Vec::new(),
    };
    inspection.server()?;
    // Publications first: a slot that is made before them may never pass what is written in between.
    inspection.missing_publications()?;
    inspection.what_is_published()?;
    inspection.lists_and_filters()?;
    inspection.slot()?;
    inspection.publications_younger_than_the_slot()?;
    inspection.synchronized_standby_slots()?;
    inspection.idle_replication_slot_timeout()?;
    inspection.rights()?;
    inspection.identities(info)?;
    if wanted.plugin == Plugin::Wal2json {
        inspection.wal2json()?;
    }
    inspection.replication_session(info);
    inspection.sql.close();
    let mut findings = inspection.findings;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(findings)
}

/// The number of names that a sentence lists.
const LISTED: usize = 5;

struct Inspection<'a> {
    sql: Connection,
    wanted: &'a Requirements,
    /// The names of the publications.
    publications: Vec<&'a str>,
    findings: Vec<Finding>,
}

impl Inspection<'_> {
    fn blocks(&mut self, code: Code, what: impl Into<String>, cure: impl Into<String>) {
        self.find(Severity::Blocks, code, what.into(), cure.into(), Vec::new());
    }

    fn warns(&mut self, code: Code, what: impl Into<String>, cure: impl Into<String>) {
        self.find(Severity::Warns, code, what.into(), cure.into(), Vec::new());
    }

    fn find(&mut self, severity: Severity, code: Code, what: String, cure: String, tables: Vec<FoundTable>) {
        self.findings.push(Finding {
            code,
            severity,
            what,
            cure,
            tables,
        });
    }

    fn server(&mut self) -> Result<(), Error> {
        let version = self.sql.server_version_num();
        if version < 140_000 {
            let name = self
                .sql
                .parameter("server_version")
                .unwrap_or("unknown")
                .to_owned();
            self.blocks(
                Code::ServerTooOld,
                format!("the server's version is {name}; walcast needs 14 or later"),
                "Upgrade Postgres.",
            );
        }
        let row = self.sql.select_one(
            "preflight",
            "SELECT pg_catalog.current_setting('wal_level'), pg_catalog.pg_is_in_recovery(), \
             pg_catalog.getdatabaseencoding()",
            &[],
        )?;
        // Since 19 `replica` will do: logical decoding is switched on by the first slot.
        let level: &str = row.get(0, "wal_level")?;
        if level != "logical" && (version < 190_000 || level == "minimal") {
            self.blocks(
                Code::WalLevel,
                format!("wal_level is {level}: the log does not hold what changes mean"),
                "ALTER SYSTEM SET wal_level = logical;  -- then restart the server",
            );
        }
        let in_recovery: bool = row.get(1, "pg_is_in_recovery")?;
        if in_recovery && version < 160_000 {
            self.blocks(
                Code::InRecovery,
                "the server is a standby, and before version 16 a standby cannot decode its log",
                "Connect to the primary; with several hosts add target_session_attrs=primary.",
            );
        } else if in_recovery {
            self.warns(
                Code::InRecovery,
                "the server is a standby: changes arrive later, and slots and publications are made on the primary's terms",
                "Connect to the primary, or set hot_standby_feedback = on here, so that the slot is not lost to a conflict. While a \
                 slot is made here, have the primary say what runs there: SELECT pg_log_standby_snapshot();",
            );
        }
        if let Some(setting) = self.sql.synchronous_by()? {
            self.warns(
                Code::Synchronous,
                format!(
                    "walcast is among the synchronous standbys (synchronous_standby_names = '{setting}'): commits wait until \
                     it has received them and synced them to its disk, and stand still while it is away if no other \
                     standby will do"
                ),
                "If that is not wanted, name the standbys that commits are to wait for, and walcast (application_name) not \
                 among them:\nALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (standby1)';\n\
                 SELECT pg_reload_conf();",
            );
        }
        if row.get::<&str>(2, "encoding")? == "SQL_ASCII" {
            self.blocks(
                Code::Encoding,
                "the database's encoding is SQL_ASCII: nobody can tell which characters its bytes are",
                "Move the data to a database with ENCODING 'UTF8' (pg_dump, then restore there).",
            );
        }
        Ok(())
    }

    /// Publications without tables, or of some operations only.
    fn what_is_published(&mut self) -> Result<(), Error> {
        let rows = self.of_publications(&format!(
            "SELECT p.pubname, \
                 EXISTS (SELECT 1 FROM {} t WHERE t.pubname = p.pubname), \
                 pg_catalog.concat_ws(', ', CASE WHEN NOT pubinsert THEN 'insert' END, \
                     CASE WHEN NOT pubupdate THEN 'update' END, CASE WHEN NOT pubdelete THEN 'delete' END, \
                     CASE WHEN NOT pubtruncate THEN 'truncate' END) \
             FROM pg_catalog.pg_publication p WHERE p.pubname = ANY ($1) ORDER BY 1",
            self.publication_tables(),
        ))?;
        for row in &rows {
            let name: &str = row.get(0, "publication")?;
            let sql = quote_identifier(name);
            if !row.get(1, "tables")? {
                self.warns(
                    Code::PublicationEmpty,
                    format!("the publication {name} has no tables: there is nothing to stream"),
                    format!(
                        "ALTER PUBLICATION {sql} ADD TABLE …;  -- UPDATE and DELETE would fail on one that has neither a \
                         primary key nor another replica identity"
                    ),
                );
            }
            let left_out: &str = row.get(2, "operations")?;
            if !left_out.is_empty() {
                let cure = self.completion(name)?;
                self.warns(
                    Code::PublicationPartial,
                    format!("the publication {name} leaves out {left_out}: live queries will grow stale"),
                    cure,
                );
            }
        }
        Ok(())
    }

    /// Opens a session for replication: what the server says to that is the truth about rights and limits, whatever a
    /// hosted server's attributes look like.
    fn replication_session(&mut self, info: &ConnInfo) {
        let error = match Connection::connect(info, Purpose::Replication) {
            Ok(mut session) => {
                // One that passes over what it was asked for has an ordinary session, which does not know the command.
                let is_for_replication = session.identify_system().map(drop);
                match is_for_replication.and_then(|()| session.check_settings()) {
                    Ok(()) if self.wanted.plugin != Plugin::Pgoutput => self.can_load_plugin(&mut session),
                    Ok(()) => {}
                    Err(error) => self.is_pooled(&error),
                }
                return session.close();
            }
            Err(error) => error,
        };
        match error.sqlstate() {
            Some("42501") => {
                let role = quote_identifier(&info.user);
                self.blocks(
                    Code::NoReplicationRight,
                    format!("the role {} has no right to replication", info.user),
                    format!("ALTER ROLE {role} REPLICATION;  -- on RDS: GRANT rds_replication TO {role};"),
                );
            }
            Some("53300") => self.blocks(
                Code::WalSendersUsedUp,
                "all sessions for replication (max_wal_senders), or all connections, are in use",
                "Stop a standby or another reader, or:\nALTER SYSTEM SET max_wal_senders = 20;  -- then restart the server",
            ),
            Some("08P01") => self.is_pooled(&error),
            _ => self.blocks(
                Code::NoReplicationSession,
                format!("SQL works, but a session for replication is refused: {error}"),
                "Let the role connect to this database directly (pg_hba.conf), not through a pooler.",
            ),
        }
    }

    /// A pooler stands in between, and is no way to replication.
    fn is_pooled(&mut self, error: &Error) {
        self.blocks(
            Code::Pooler,
            format!("a pooler stands before the server, and a session for replication cannot be had through it: {error}"),
            "Name the server's own host and port in --database-url. Snapshots may come through the pooler (--snapshot-url). \
             PgBouncer has sessions for replication from version 1.23 on.",
        );
    }

    fn publication_tables(&self) -> String {
        publication_tables(self.sql.server_version_num())
    }

    /// Runs a statement of which `$1` are the publications' names.
    fn of_publications(&mut self, sql: &str) -> Result<Vec<TypedRow>, Error> {
        self.sql.select(sql, &[(&self.publications, PgType::TEXT_ARRAY)])
    }
}

/// The different names in a column.
fn names(rows: &[TypedRow], column: usize) -> Result<Vec<String>, Error> {
    let names = rows.iter().map(|row| row.get(column, "name"));
    Ok(distinct(names.collect::<Result<Vec<String>, Error>>()?))
}

/// The different ones of the names, in order.
fn distinct(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}

/// `a, b, c, d, e and 7 more`
fn listed(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
    match names.len().checked_sub(LISTED).filter(|&more| more > 0) {
        Some(more) => format!("{} and {more} more", shown.join(", ")),
        None => shown.join(", "),
    }
}
