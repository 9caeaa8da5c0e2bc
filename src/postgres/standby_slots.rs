//! The setting `synchronized_standby_slots` (since version 17): standbys that changes are held back for, from slots
//! with `failover`, until they have them. See `StandbySlotsHaveCaughtup` in the server's source.

use super::connection::Connection;
use super::error::Error;

/// Standbys that the server waits for, and that do not follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Their slots, with what is wrong with each: `b does not exist`.
    pub names: Vec<String>,
    /// The setting without them.
    pub others: String,
}

impl Connection {
    /// The slots named by `synchronized_standby_slots` that hold everything back, since no standby reads them; `None`
    /// if there is none.
    pub fn absent_standbys(&mut self) -> Result<Option<Absent>, Error> {
        if self.server_version_num() < 170_000 {
            return Ok(None);
        }
        let rows = self.select(
            "SELECT named.slot, CASE WHEN s.slot_name IS NULL THEN 'does not exist' \
                 WHEN s.slot_type <> 'physical' THEN 'is no physical slot' \
                 WHEN s.wal_status = 'lost' OR s.invalidation_reason IS NOT NULL THEN 'is lost' \
                 WHEN NOT s.active THEN 'is read by nobody' END \
             FROM (SELECT pg_catalog.lower(pg_catalog.btrim(name, E' \\t\\n\"')) AS slot \
                 FROM pg_catalog.unnest(pg_catalog.string_to_array( \
                     pg_catalog.current_setting('synchronized_standby_slots'), ',')) name) named \
             LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = named.slot \
             WHERE NOT pg_catalog.pg_is_in_recovery()",
            &[],
        )?;
        let mut names = Vec::new();
        let mut others = Vec::new();
        for row in &rows {
            let name: &str = row.get(0, "slot")?;
            match row.get::<Option<&str>>(1, "problem")? {
                Some(what) => names.push(format!("{name} {what}")),
                None => others.push(name.to_owned()),
            }
        }
        let others = others.join(", ");
        Ok((!names.is_empty()).then_some(Absent { names, others }))
    }
}
