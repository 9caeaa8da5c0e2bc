//! [`Manifest`]: `journal.json`, which says whose history a data directory holds.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::files::{Files, read_up_to, write_all_at};
use super::header::Header;
use crate::log::Identity;
use crate::lsn::{Epoch, Lsn};

/// The version of `journal.json` and of the directory's layout.
pub(super) const FORMAT: u32 = 2;
/// The version in which names and columns of tables were in files of their own.
const WITHOUT_TABLES: u32 = 1;

/// The version of the program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The contents of `journal.json`. It is the one place that says which history is the current one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// The version of the program that wrote the file, which is the one that chose the format. `None` in files of
    /// versions that did not say.
    #[serde(default)]
    walcast: Option<String>,
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
            walcast: Some(VERSION.to_owned()),
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

    /// Has it say that this version wrote it, in the format of today.
    pub(super) fn raise(&mut self) {
        self.format = FORMAT;
        self.walcast = Some(VERSION.to_owned());
    }

    /// Checks that the directory's manifest, if it has one, is of a format that this version knows. Changes nothing.
    pub(super) fn check_format(files: &dyn Files, dir: &Path) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
            #[serde(default)]
            walcast: Option<String>,
        }
        let Some(text) = text(files, dir)? else {
            return Ok(());
        };
        let Format { format, walcast } = parse(dir, &text)?;
        match format {
            WITHOUT_TABLES..=FORMAT => Ok(()),
            _ => Err(Error::Format {
                path: path(dir),
                format,
                writer: walcast,
                version: VERSION,
                known: FORMAT,
            }),
        }
    }

    /// Reads the directory's manifest, if it has one, and checks that it is `wanted`'s, or, if that will do, that of
    /// the database in whose place `wanted`'s is.
    pub(super) fn read(
        files: &dyn Files,
        dir: &Path,
        wanted: &Identity,
        accepts_recreated: bool,
    ) -> Result<Option<Manifest>, Error> {
        Manifest::check_format(files, dir)?;
        let Some(text) = text(files, dir)? else {
            return Ok(None);
        };
        let manifest: Manifest = parse(dir, &text)?;
        manifest.check(dir, wanted, accepts_recreated)?;
        Ok(Some(manifest))
    }

    /// True if the history is `wanted`'s, or, if that will do, that of the database in whose place `wanted`'s is.
    pub(super) fn check(&self, dir: &Path, wanted: &Identity, accepts_recreated: bool) -> Result<(), Error> {
        if self.identity.is_of(wanted) {
            return Ok(());
        }
        if wanted.succeeds(&self.identity) {
            return if accepts_recreated {
                Ok(())
            } else {
                Err(Error::DatabaseRecreated {
                    dir: dir.to_owned(),
                    database: wanted.database.clone(),
                })
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

/// The file's text, if there is one.
fn text(files: &dyn Files, dir: &Path) -> Result<Option<Vec<u8>>, Error> {
    let path = path(dir);
    match files
        .open(&path)
        .and_then(|file| read_up_to(&*file, 0, MAX_BYTES))
    {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", &path)(e)),
    }
}

fn parse<'a, T: Deserialize<'a>>(dir: &Path, text: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|e| Error::Identity {
        path: path(dir),
        reason: e.to_string(),
    })
}

fn path(dir: &Path) -> PathBuf {
    dir.join("journal.json")
}
