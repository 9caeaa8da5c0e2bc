//! [`Options`]: how one database is read and served.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::journal::Retention;
use crate::keys::Authenticator;
use crate::policy::Policies;
use crate::postgres::Requirements;
use crate::{ingest, journal, session, snapshot};

/// The options of a bridge, which are those of its parts.
#[derive(Clone)]
pub struct Options {
    /// The database, its slot and its publications, and how they are read.
    pub ingest: Arc<ingest::Options>,
    /// True if missing publications are created, of all tables.
    pub create_publication: bool,
    /// The directory of the journal.
    pub data_dir: PathBuf,
    /// Options of the journal's writer. Its observer is the bridge's.
    pub journal: journal::Options,
    /// The history that the journal keeps.
    pub retention: Retention,
    /// The server that snapshots are read from, and bounds on them.
    pub snapshots: snapshot::Options,
    /// Bounds and habits of the sessions that use it.
    pub session: session::Options,
    /// Says who its clients are.
    pub auth: Option<Arc<Authenticator>>,
    /// The policies by which they see something. They may change at any time.
    pub policies: watch::Receiver<Arc<Policies>>,
}

impl Options {
    /// The setup that is to work.
    pub fn requirements(&self) -> Requirements {
        let source = &self.ingest;
        Requirements {
            slot: source.slot.clone(),
            publications: source.publications.clone(),
            plugin: source.plugin,
            create_slot: source.create_slot,
            recreate_slot: source.recreate_slot,
            create_publication: self.create_publication,
        }
    }
}
