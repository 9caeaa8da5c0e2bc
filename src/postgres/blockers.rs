//! The reader of a slot, and what keeps the server from letting go of WAL: open transactions, prepared ones.

use std::time::Duration;

use super::connection::Connection;
use super::error::Error;
use super::select::PgType;
use super::slot::{SlotName, WRITTEN};
use crate::event::quote_literal;
use crate::lsn::Lsn;

/// A transaction that a slot being created waits for: it needs a moment without older write transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The server process; `None` for a prepared transaction.
    pub pid: Option<u32>,
    /// A description for people: `pid 4711 (ann, app): idle in transaction for 00:10:03`.
    pub description: String,
    /// The SQL that ends it.
    pub cure: String,
}

/// The first half of the advisory locks by which standbys say that they wait: `walc` in ASCII.
const WAITING: i32 = i32::from_be_bytes(*b"walc");

/// The session that reads a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotReader {
    /// Its server process.
    pub pid: u32,
    /// Its description for people: `pid 4711 (walcast, from 10.0.0.7)`.
    pub description: String,
    /// The mark that it carries, see [`Connection::mark_session`].
    pub mark: Option<u64>,
    /// The position up to which the server had written when it was seen.
    pub written: Lsn,
}

impl Connection {
    /// The transactions that a slot which is being created right now may be waiting for, the oldest first; also what
    /// keeps the server from moving a slot's `restart_lsn`. A role without `pg_read_all_stats` sees its own sessions
    /// only.
    pub fn slot_creation_blockers(&mut self) -> Result<Vec<Blocker>, Error> {
        let sessions = self.select(
            "SELECT pid, pg_catalog.format('pid %s (%s, %s): %s for %s', pid, coalesce(usename, '?'), \
             coalesce(nullif(application_name, ''), 'no application_name'), coalesce(state, '?'), \
             pg_catalog.date_trunc('second', pg_catalog.now() - xact_start)), wait_event = 'SyncRep' \
             FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() \
             ORDER BY xact_start",
            &[],
        )?;
        let prepared = self.select(
            "SELECT gid, pg_catalog.format('prepared transaction %L (%s, %s): since %s', gid, owner, database, prepared) \
             FROM pg_catalog.pg_prepared_xacts ORDER BY prepared",
            &[],
        )?;
        let mut blockers = Vec::new();
        for row in &prepared {
            blockers.push(Blocker {
                pid: None,
                description: row.get(1, "prepared transaction")?,
                cure: format!(
                    "ROLLBACK PREPARED {};",
                    quote_literal(row.get(0, "gid")?).trim_start()
                ),
            });
        }
        for row in &sessions {
            let pid = row.get::<i32>(0, "pid")?.cast_unsigned();
            let description: &str = row.get(1, "session")?;
            blockers.push(match row.get(2, "wait_event")? {
                // If it waits for ourselves, it does so until the slot is there, which waits for it.
                Some(true) => Blocker {
                    pid: Some(pid),
                    description: format!("{description}, its commit waiting for a synchronous standby"),
                    cure: format!("SELECT pg_cancel_backend({pid}); which lets it commit without waiting"),
                },
                _ => Blocker {
                    pid: Some(pid),
                    description: description.to_owned(),
                    cure: format!("SELECT pg_terminate_backend({pid});"),
                },
            });
        }
        Ok(blockers)
    }

    /// For how long the oldest transaction that has written, or is prepared, has been open.
    pub fn oldest_transaction(&mut self) -> Result<Duration, Error> {
        let row = self.select_one(
            "the oldest transaction",
            "SELECT pg_catalog.floor(extract(epoch FROM pg_catalog.now() - pg_catalog.min(began)))::int8 FROM ( \
             SELECT xact_start FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL \
             UNION ALL SELECT prepared FROM pg_catalog.pg_prepared_xacts) open (began)",
            &[],
        )?;
        let seconds: Option<i64> = row.get(0, "age")?;
        Ok(Duration::from_secs(
            seconds.unwrap_or(0).try_into().unwrap_or_default(),
        ))
    }

    /// Marks the session by a number, which [`Connection::slot_reader`] tells whoever asks who reads the slot: by a
    /// shared advisory lock, which every role sees, and which goes with the session.
    pub fn mark_session(&mut self, mark: u64) -> Result<(), Error> {
        let lock = format!(
            "SELECT pg_catalog.pg_try_advisory_lock_shared({}::int8)",
            mark.cast_signed()
        );
        let taken = self.query_one("the session's mark", &lock)?.is_true(0);
        if !taken {
            tracing::warn!(
                event = "advisory_lock_taken",
                "somebody holds the advisory lock {mark}: a standby cannot tell which history this is"
            );
        }
        Ok(())
    }

    /// Tells [`Connection::standbys`], as long as the session lives, that it waits for the slot.
    pub fn announce_standby(&mut self, name: &SlotName) -> Result<(), Error> {
        let lock = format!(
            "SELECT pg_catalog.pg_try_advisory_lock_shared({WAITING}, pg_catalog.hashtext({}))",
            quote_literal(name.as_str())
        );
        self.query(&lock).map(drop)
    }

    /// The number of sessions that wait for the slot to be free.
    pub fn standbys(&mut self, name: &SlotName) -> Result<i64, Error> {
        let sql = format!(
            "SELECT pg_catalog.count(DISTINCT l.pid) FROM pg_catalog.pg_locks l \
             WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = {WAITING} AND l.granted \
             AND l.objid::int8 = pg_catalog.hashtext($1)::int8 & 4294967295 \
             AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
             AND l.pid IS DISTINCT FROM \
             (SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = $1)"
        );
        let row = self.select_one("the slot's standbys", &sql, &[(&name.as_str(), PgType::TEXT)])?;
        row.get(0, "count")
    }

    /// The reader of the slot now; `None` if nobody does, or if there is no such slot.
    pub fn slot_reader(&mut self, name: &SlotName) -> Result<Option<SlotReader>, Error> {
        let rows = self.query(&format!(
            "SELECT s.active_pid, pg_catalog.format('process %s (%s, from %s)', s.active_pid, \
             coalesce(nullif(a.application_name, ''), 'no application_name'), \
             coalesce(pg_catalog.host(a.client_addr), 'the same machine')), ({WRITTEN}), \
             l.classid::int8 << 32 | l.objid::int8 \
             FROM pg_catalog.pg_replication_slots s \
             LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid \
             LEFT JOIN pg_catalog.pg_locks l ON l.pid = s.active_pid AND l.locktype = 'advisory' AND l.objsubid = 1 \
             AND l.mode = 'ShareLock' AND l.granted \
             WHERE s.slot_name = {} AND s.active_pid IS NOT NULL LIMIT 1",
            quote_literal(name.as_str())
        ))?;
        let Some(row) = rows.first() else { return Ok(None) };
        let mark: Option<i64> = row.optional(3, "mark")?;
        Ok(Some(SlotReader {
            pid: row.parse(0, "active_pid")?,
            description: row.text(1, "the slot's reader")?.to_owned(),
            mark: mark.map(i64::cast_unsigned),
            written: row.parse(2, "position")?,
        }))
    }
}
