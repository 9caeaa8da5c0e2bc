//! [`Identity`]: whose history a log holds.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The origin of a history. The journal continues only what the same server, database and slot began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster's system identifier, as `IDENTIFY_SYSTEM` gives it.
    #[serde(with = "as_text")]
    pub system_id: u64,
    /// The database's OID.
    pub database_oid: u32,
    /// The database's name, for people: a database that was renamed is still the same.
    pub database: String,
    /// The replication slot.
    pub slot: String,
    /// The timeline that the history was last continued on. Not compared: a history may go on across a failover, which
    /// is the caller's to decide.
    pub timeline: u32,
}

impl Identity {
    /// True if both are of the same cluster, database and slot.
    pub fn is_of(&self, other: &Identity) -> bool {
        (self.system_id, self.database_oid, &self.slot) == (other.system_id, other.database_oid, &other.slot)
    }

    /// True if this is of the database that took the other's place: of its name and on its server, but another.
    pub fn succeeds(&self, other: &Identity) -> bool {
        let place = |identity: &Identity| {
            (
                identity.system_id,
                identity.database.clone(),
                identity.slot.clone(),
            )
        };
        place(self) == place(other) && self.database_oid != other.database_oid
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "slot {:?} of database {:?} (oid {}) of system {}",
            self.slot, self.database, self.database_oid, self.system_id
        )
    }
}

/// System identifiers exceed what JSON readers keep of a number.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}
