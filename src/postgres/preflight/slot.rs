//! The slot: whether it is there, or can be made, and can be read.

use super::{Code, Inspection};
use crate::postgres::error::Error;
use crate::postgres::slot::Plugin;

impl Inspection<'_> {
    pub(super) fn slot(&mut self) -> Result<(), Error> {
        let name = &self.wanted.slot;
        let drop_it = format!("SELECT pg_drop_replication_slot('{name}');");
        let Some(slot) = self.sql.slot(name)? else {
            return self.missing_slot();
        };
        let row = self
            .sql
            .select_one("preflight", "SELECT pg_catalog.current_database()", &[])?;
        let database: &str = row.get(0, "database")?;
        let other_name = format!("Name another slot, or drop this one if nobody needs it:\n{drop_it}");
        match (&slot.plugin, &slot.database) {
            (Some(plugin), Some(of)) => {
                if of != database {
                    let what = format!("the slot {name} belongs to the database {of}");
                    self.blocks(Code::SlotOfOtherDatabase, what, other_name.clone());
                }
                if *plugin != self.wanted.plugin.as_str() {
                    let what = format!(
                        "the slot {name} decodes by {plugin}, not by {}",
                        self.wanted.plugin
                    );
                    self.blocks(Code::SlotOfOtherPlugin, what, other_name);
                }
            }
            _ => {
                let what = format!("the slot {name} is a physical one, for a standby");
                self.blocks(Code::SlotPhysical, what, "Name another slot.");
            }
        }
        if let Some(reason) = slot.loss() {
            let what = format!("the server has given up the slot {name} ({reason}): changes were lost");
            if self.wanted.recreate_slot {
                let cure = "None is needed: serve creates it again (--recreate-slot), and clients resubscribe with new snapshots.";
                self.warns(Code::SlotLost, what, cure);
            } else {
                let create = self.sql.slot_creation(name, self.wanted.plugin.as_str())?;
                let cure = format!(
                    "Start with --recreate-slot, or create it again; either way clients resubscribe with new snapshots:\n{drop_it}\n{create};"
                );
                self.blocks(Code::SlotLost, what, cure);
            }
        }
        if slot.two_phase && self.wanted.plugin == Plugin::Pgoutput {
            self.blocks(
                Code::SlotTwoPhase,
                format!(
                    "the slot {name} was created with two_phase: pgoutput sends transactions when they are prepared, \
                     not knowing whether they will commit"
                ),
                format!("Name another slot, or create it again without two_phase; prepared transactions come when they commit:\n{drop_it}"),
            );
        }
        // By the time of the second question it may be free.
        if let Some(reader) = self.sql.slot_reader(name)? {
            let who = match reader.mark {
                Some(_) => "another walcast",
                None => "somebody else",
            };
            self.warns(
                Code::SlotActive,
                format!("the slot {name} is read by {who} now, by the server {}", reader.description),
                format!(
                    "None is needed if that is to be so: a serve that is started beside it waits as a standby, and takes over \
                     when the slot is free. To free it, stop the other reader, or: SELECT pg_terminate_backend({});",
                    reader.pid
                ),
            );
        }
        Ok(())
    }

    fn missing_slot(&mut self) -> Result<(), Error> {
        let name = &self.wanted.slot;
        if !self.wanted.create_slot {
            let create = self.sql.slot_creation(name, self.wanted.plugin.as_str())?;
            self.blocks(
                Code::SlotMissing,
                format!("there is no slot {name}"),
                format!("{create};  -- or start with --create-slot"),
            );
            return Ok(());
        }
        let row = self.sql.select_one(
            "preflight",
            "SELECT pg_catalog.count(*) >= pg_catalog.current_setting('max_replication_slots')::int, \
             pg_catalog.count(*), pg_catalog.string_agg(slot_name, ', ') FILTER (WHERE NOT active) \
             FROM pg_catalog.pg_replication_slots",
            &[],
        )?;
        if row.get(0, "slots")? {
            let used: i64 = row.get(1, "slots")?;
            let idle: Option<&str> = row.get(2, "slots")?;
            let idle = idle.unwrap_or("none");
            self.blocks(
                Code::SlotsUsedUp,
                format!(
                    "all {used} replication slots (max_replication_slots) are in use; not read now: {idle}"
                ),
                format!(
                    "Drop one that nobody needs (SELECT pg_drop_replication_slot(…);), or:\n\
                     ALTER SYSTEM SET max_replication_slots = {};  -- then restart the server",
                    used.saturating_add(5)
                ),
            );
        }
        Ok(())
    }
}
