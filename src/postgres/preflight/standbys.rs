//! Settings by which the server holds changes back from a slot, or gives the slot up because nobody reads it.

use super::{Code, Inspection, listed};
use crate::postgres::error::Error;
use crate::postgres::standby_slots::Absent;

impl Inspection<'_> {
    /// Standbys that the slot has to wait for (since 17), and that do not follow the server.
    pub(super) fn synchronized_standby_slots(&mut self) -> Result<(), Error> {
        let slot = self.sql.slot(&self.wanted.slot)?;
        // One that is made has copies on standbys wherever it can.
        if !slot.map_or(self.wanted.create_slot, |slot| slot.failover) {
            return Ok(());
        }
        let Some(Absent { names, others }) = self.sql.absent_standbys()? else {
            return Ok(());
        };
        self.warns(
            Code::StandbySlots,
            format!(
                "the server sends no change before the standbys of synchronized_standby_slots have it, and of these {}: \
                 walcast receives nothing meanwhile",
                listed(&names)
            ),
            format!(
                "Start the standby, or make its slot if that is missing. If the standby is gone for good, wait for it no more:\n\
                 ALTER SYSTEM SET synchronized_standby_slots = '{others}';\nSELECT pg_reload_conf();"
            ),
        );
        Ok(())
    }

    /// A slot that nobody reads is given up after a time (since 18).
    pub(super) fn idle_replication_slot_timeout(&mut self) -> Result<(), Error> {
        if self.sql.server_version_num() < 180_000 {
            return Ok(());
        }
        let row = self.sql.select_one(
            "preflight",
            "SELECT setting::int > 0, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
             WHERE name = 'idle_replication_slot_timeout'",
            &[],
        )?;
        if row.get(0, "idle_replication_slot_timeout")? {
            let time: &str = row.get(1, "idle_replication_slot_timeout")?;
            self.warns(
                Code::IdleSlotTimeout,
                format!(
                    "the server gives up a slot that nobody has read for {time} (idle_replication_slot_timeout): if walcast is \
                     away for so long, changes are lost"
                ),
                "If walcast may be away for longer, bound the log by its size instead (max_slot_wal_keep_size), and:\n\
                 ALTER SYSTEM SET idle_replication_slot_timeout = 0;\nSELECT pg_reload_conf();",
            );
        }
        Ok(())
    }
}
