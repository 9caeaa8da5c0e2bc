//! [`Identity`]: whose history a data directory holds, and `journal.json`, which says so.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::files::{Files, read_up_to, write_all_at};
use super::segment::Header;
use crate::lsn::{Epoch, Lsn};

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

/// The version of `journal.json` and of the directory's layout.
const FORMAT: u32 = 1;

/// The contents of `journal.json`. It is the one place that says which history is the current one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    #[serde(flatten)]
    pub(super) identity: Identity,
    pub(super) epoch: Epoch,
    /// The start of the history.
    pub(super) start: Lsn,
    /// The history's first segment; those before it are what is left of the histories before.
    pub(super) first_segment: u64,
}

impl Manifest {
    /// A new history.
    pub(super) fn new(identity: &Identity, epoch: Epoch, start: Lsn, first_segment: u64) -> Manifest {
        Manifest {
            format: FORMAT,
            identity: identity.clone(),
            epoch,
            start,
            first_segment,
        }
    }

    /// The header of the history's first segment.
    pub(super) fn first_header(&self) -> Header {
        Header {
            sequence: self.first_segment,
            epoch: self.epoch.0.clone(),
            base: self.start,
            last_transaction: self.start,
            previous_bytes: 0,
        }
    }

    /// Reads the directory's manifest, if it has one, and checks that it is `wanted`'s, or, if that will do, that of
    /// the database in whose place `wanted`'s is.
    pub(super) fn read(
        files: &dyn Files,
        dir: &Path,
        wanted: &Identity,
        made_anew_will_do: bool,
    ) -> Result<Option<Manifest>, Error> {
        let path = path(dir);
        let text = match files
            .open(&path)
            .and_then(|file| read_up_to(&*file, 0, MAX_BYTES))
        {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let unreadable = |reason: String| Error::Identity {
            path: path.clone(),
            reason,
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        match serde_json::from_slice::<Format>(&text) {
            Ok(Format { format: FORMAT }) => {}
            Ok(Format { format }) => {
                return Err(unreadable(format!(
                    "format {format} is not known to this version"
                )));
            }
            Err(e) => return Err(unreadable(e.to_string())),
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| unreadable(e.to_string()))?;
        manifest.check(dir, wanted, made_anew_will_do)?;
        Ok(Some(manifest))
    }

    /// True if the history is `wanted`'s, or, if that will do, that of the database in whose place `wanted`'s is.
    pub(super) fn check(&self, dir: &Path, wanted: &Identity, made_anew_will_do: bool) -> Result<(), Error> {
        if self.identity.is_of(wanted) {
            return Ok(());
        }
        if wanted.succeeds(&self.identity) {
            return match made_anew_will_do {
                true => Ok(()),
                false => Err(Error::MadeAnew {
                    dir: dir.to_owned(),
                    database: wanted.database.clone(),
                }),
            };
        }
        Err(Error::NotOurs {
            dir: dir.to_owned(),
            found: self.identity.to_string(),
            wanted: wanted.to_string(),
        })
    }

    /// Replaces the directory's manifest: after a crash it is the old one or the new one.
    pub(super) fn write(&self, files: &dyn Files, dir: &Path) -> Result<(), Error> {
        let path = path(dir);
        let draft = path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(self).expect("a manifest is plain JSON");
        let file = files
            .create(&draft)
            .and_then(|file| {
                write_all_at(&*file, &text, 0)?;
                Ok(file)
            })
            .map_err(|e| Error::write(&draft, e))?;
        file.sync().map_err(|e| Error::failed("sync", &draft, e))?;
        files
            .rename(&draft, &path)
            .and_then(|()| files.sync_dir(dir))
            .map_err(|e| Error::failed("replace", &path, e))
    }
}

const MAX_BYTES: usize = 64 * 1024;

fn path(dir: &Path) -> PathBuf {
    dir.join("journal.json")
}
