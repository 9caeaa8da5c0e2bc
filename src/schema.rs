//! [`Tables`]: the published tables as they are now, for subscriptions.
//!
//! Rows come with the version of their table under which they were written. The versions here are the newest ones,
//! against which a new subscription is checked before any row of its table has come.

mod current;
mod describe;
mod found;
mod questions;
mod renames;
mod roots;
mod row_security;
mod typescript;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};

use crate::event::{Lookup, Relation, TableName};
use crate::log::{Horizon, PgSnapshot, TableHistory, TableRecord, TableVersion};
use crate::lsn::{Lsn, Position};
use crate::postgres::{Catalog, ConnInfo, Error, Layouts, Publication};
use crate::telemetry::traces::Span;

use current::Current;
pub use describe::Learnt;
use found::Found;
pub use questions::AskError;
use questions::{ANSWER_TIMEOUT, LastWritten, Learning};
use renames::Renames;
use roots::Roots;
pub use row_security::RoleAnswer;
use row_security::Secured;
pub use typescript::{TypeScriptNumbers, Typed, typescript};

/// The published tables. Its blocking methods ask the database; the others answer from memory.
#[derive(Debug)]
pub struct Tables {
    conninfo: ConnInfo,
    publications: Vec<Publication>,
    /// The logical messages that can be subscribed to, as if they were tables.
    messages: Vec<Arc<Relation>>,
    current: RwLock<Current>,
    /// The catalog for ingest, which must not wait for questions of clients.
    described: Mutex<Catalog>,
    /// Everything that the log says of tables.
    noted: watch::Receiver<TableHistory>,
    found: Mutex<Found>,
    layouts: Layouts,
    changes_found: AtomicU64,
    renames: Mutex<Renames>,
    roots: Mutex<Roots>,
    /// Tables that are gone, by name and OID, until they are acknowledged.
    missed: Mutex<Vec<(TableName, u32)>>,
    asked: Mutex<Asked>,
    secured: Secured,
    types_changed: AtomicU64,
    /// The number of times that the database was asked for all tables.
    refreshed: AtomicU64,
    /// The end of the server's log when it was last asked. One asks, the others wait for the answer.
    written: tokio::sync::Mutex<LastWritten>,
    /// The time at which the database was last asked for all tables because a client was refused. One asks, the others
    /// wait.
    renewed: tokio::sync::Mutex<LastRenewed>,
    /// True if the database's encoding is known to be UTF-8. It never changes, but another database may take the
    /// database's place.
    is_utf8: AtomicBool,
    /// The time at which it was last logged why a table is not published.
    explained: Mutex<Option<Instant>>,
    /// The outcomes of questions about collations. One asks, the others wait.
    learning: tokio::sync::Mutex<Learning>,
    /// Held by the thread that asks, until the answer is there.
    learner: Arc<Mutex<()>>,
    /// Permits for clients' questions, each of which takes a thread: a database that does not answer must not take the
    /// threads that read the journal.
    questions: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct LastRenewed {
    tried: Option<Instant>,
    answered: Option<Instant>,
}

#[derive(Debug)]
struct Asked {
    catalog: Catalog,
}

/// The least time between two questions to the database because clients asked for unknown tables.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// The most questions of clients that may be under way.
const MAX_QUESTIONS: usize = 2;
/// The interval at which it is checked whether the stream has started again.
pub const RENAME_POLL: Duration = Duration::from_millis(20);

impl Tables {
    /// The tables of these publications, which are known only from the log so far, and the logical messages of these
    /// prefixes.
    pub fn new(
        conninfo: ConnInfo,
        publications: Vec<Publication>,
        messages: &[String],
        noted: watch::Receiver<TableHistory>,
    ) -> Arc<Tables> {
        let layouts = Layouts::default();
        for version in noted.borrow().versions() {
            layouts.remember(&version.relation, version.highest, version.seen);
        }
        let asked = Asked {
            catalog: Catalog::sharing(conninfo.clone(), &layouts),
        };
        Arc::new(Tables {
            described: Mutex::new(
                Catalog::sharing(conninfo.clone(), &layouts).with_publications(publications.clone()),
            ),
            noted,
            found: Mutex::default(),
            layouts,
            changes_found: AtomicU64::new(0),
            asked: Mutex::new(asked),
            secured: Secured::new(Catalog::new(conninfo.clone())),
            types_changed: AtomicU64::new(0),
            refreshed: AtomicU64::new(0),
            written: tokio::sync::Mutex::default(),
            renewed: tokio::sync::Mutex::default(),
            is_utf8: AtomicBool::new(false),
            explained: Mutex::default(),
            learning: tokio::sync::Mutex::default(),
            learner: Arc::default(),
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            current: RwLock::default(),
            renames: Mutex::default(),
            roots: Mutex::default(),
            missed: Mutex::default(),
            publications,
            messages: messages
                .iter()
                .map(|prefix| Arc::new(Relation::of_messages(prefix, true)))
                .collect(),
            conninfo,
        })
    }

    /// The snapshot for the next questions of ingest. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn snapshot(&self) -> Result<PgSnapshot, Error> {
        self.described.lock().snapshot()
    }

    /// True if the server's `synchronous_standby_names` includes us. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn are_commits_waiting_for_us(&self) -> Result<bool, Error> {
        self.described.lock().names_us_synchronous()
    }

    /// The transactions that may be written but not visible yet. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn horizon(&self) -> Result<Option<Horizon>, Error> {
        self.described.lock().horizon()
    }

    /// The names that the tables have, with their OIDs, as far as is known.
    pub fn current_names(&self) -> Vec<(TableName, u32)> {
        self.current.read().names()
    }

    /// Forgets what is known of types, collations and the encoding, since another database has taken the place of the
    /// old one.
    pub fn forget_database(&self) {
        self.layouts.forget();
        *self.found.lock() = Found::default();
        self.is_utf8.store(false, Ordering::Release);
        let anew = || Catalog::sharing(self.conninfo.clone(), &self.layouts);
        *self.described.lock() = anew().with_publications(self.publications.clone());
        self.asked.lock().catalog = anew();
        self.secured.forget(Catalog::new(self.conninfo.clone()));
    }

    /// Notes that a stream begins, whose descriptions will name the tables.
    pub fn stream_begins(&self) {
        self.renames.lock().begin();
        self.roots.lock().begin();
        self.described.lock().forget_answers();
    }

    /// True if the stream, which has come to `head`, has to start again: it uses a former name of a table, or reads
    /// less of a root's old rows than its partitions log, and would go on doing so.
    pub fn is_outdated(&self, head: Lsn) -> bool {
        self.renames.lock().is_due(head) || self.roots.lock().is_due(head)
    }

    /// Notes the relation by which the rows of a partitioned table are read from now on.
    pub fn read_by(&self, root: &Relation) {
        self.roots.lock().read_by(root);
    }

    /// Waits until the stream uses the table's name in the database. True if it did not before, so that rows may be on
    /// their way under the former name.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn settled(&self, oid: u32) -> Result<bool, AskError> {
        let is_renamed = || self.renames.lock().is_renamed(oid);
        if !is_renamed() {
            return Ok(false);
        }
        let settled = async {
            while is_renamed() {
                tokio::time::sleep(RENAME_POLL).await;
            }
        };
        let waited = tokio::time::timeout(ANSWER_TIMEOUT, settled).await;
        waited.map(|()| true).map_err(|_| AskError::Timeout)
    }

    /// The names of the tables that can be subscribed to, as far as is known, in order.
    pub fn names(&self) -> Vec<TableName> {
        let mut names: Vec<TableName> = self.current_names().into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    /// True if the table of that OID has the name, as far as is known.
    pub fn has(&self, name: &TableName, oid: u32) -> bool {
        name.messages().is_some() || self.known(name).is_some_and(|relation| relation.oid == oid)
    }

    /// Asks the database for all tables, and returns those that are gone: dropped, renamed or no longer published. They
    /// are returned until [`Tables::acknowledge_gone`]. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn refresh_and_report_gone(&self) -> Result<Vec<(TableName, u32)>, Error> {
        let mut asked = self.asked.lock();
        self.refresh_by(&mut asked)?;
        if !self.missed.lock().is_empty() {
            // What the stream described meanwhile may be newer than this answer; the next one has it.
            self.refresh_by(&mut asked)?;
        }
        let seen = self.missed.lock().clone();
        let (back, missed): (Vec<_>, Vec<_>) = seen.into_iter().partition(|(name, oid)| self.has(name, *oid));
        self.acknowledge_gone(&back);
        Ok(missed)
    }

    /// Notes that the subscribers of these tables were told that they are gone.
    pub fn acknowledge_gone(&self, missed: &[(TableName, u32)]) {
        self.missed.lock().retain(|table| !missed.contains(table));
    }

    /// The part of the table of that name that the publications have now, and a position up to which that holds; asked
    /// because of a row that commits at `commit`. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn published_as(&self, name: &TableName, commit: Lsn) -> Result<(Lsn, Lookup), Error> {
        self.described
            .lock()
            .published_as(&self.publications, name, commit)
    }

    /// A number that grows when composite types have changed that [`Tables::describe`] met. Tables with composites have
    /// to be asked for again then. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn generation(&self) -> Result<u64, Error> {
        self.described.lock().generation()
    }

    /// A position after which rows certainly have the types of this version of a table, which was just described.
    /// Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn types_since(&self, relation: &Relation) -> Result<Lsn, Error> {
        let since = self.current.read().types_since(relation);
        match since {
            Some(since) => Ok(since),
            None => self.described.lock().seen(),
        }
    }

    /// A number that changes when any question finds that labels or attributes of types have changed.
    pub fn types_changed(&self) -> u64 {
        self.types_changed.load(Ordering::Acquire)
    }

    /// Asks the database for all tables. Blocking.
    ///
    /// # Errors
    /// The database does not answer.
    pub fn refresh(&self) -> Result<(), Error> {
        self.refresh_by(&mut self.asked.lock())
    }

    /// Asks the database for all tables, on another thread.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn renew(self: &Arc<Self>) -> Result<(), AskError> {
        let tables = Arc::clone(self);
        self.ask(move || tables.refresh()).await
    }

    /// Makes sure that the tables are known as of `moment` or later, by asking the database on another thread if
    /// necessary. Clients that come again and again wait.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn renew_since(self: &Arc<Self>, moment: Instant) -> Result<(), AskError> {
        let renewed = async {
            let mut last = self.renewed.lock().await;
            if last.answered.is_some_and(|asked| asked >= moment) {
                return Ok(());
            }
            if let Some(tried) = last.tried {
                tokio::time::sleep(REFRESH_INTERVAL.saturating_sub(tried.elapsed())).await;
            }
            let asked = Instant::now();
            last.tried = Some(asked);
            self.renew().await?;
            last.answered = Some(asked);
            Ok(())
        };
        let renewed = tokio::time::timeout(ANSWER_TIMEOUT, renewed).await;
        renewed.unwrap_or(Err(AskError::Timeout))
    }

    /// The table of that name, for which the database is asked if it is not known. Clients that ask for unknown tables
    /// again and again wait for that.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn find(self: &Arc<Self>, name: &TableName) -> Result<Option<Arc<Relation>>, AskError> {
        if let Some(relation) = self.known(name) {
            return Ok(Some(relation));
        }
        if name.messages().is_some() {
            return Ok(self.messages.iter().find(|known| known.table == *name).cloned());
        }
        self.renew_since(Instant::now()).await?;
        let known = self.known(name);
        if known.is_none() {
            self.explain(name);
        }
        Ok(known)
    }

    fn known(&self, name: &TableName) -> Option<Arc<Relation>> {
        self.current.read().get(name)
    }

    fn refresh_by(&self, asked: &mut Asked) -> Result<(), Error> {
        let span = Span::here("catalog tables");
        let before = self.current.read().descriptions();
        let tables = asked.catalog.tables(&self.publications)?;
        span.note("walcast.tables", i64::try_from(tables.len()).unwrap_or(i64::MAX));
        let seen = asked.catalog.seen()?;
        // Before anybody learns of them, since rows are read by them from here on.
        let generation = asked.catalog.last_generation();
        let types_before = self.types_changed.swap(generation, Ordering::AcqRel);
        // Types are read after the columns.
        let read_at = if types_before == generation {
            asked.catalog.read_at()
        } else {
            seen
        };
        self.find_renames(asked, &tables)?;
        let replaced = self.current.write().replace(tables, before, seen);
        self.refreshed.fetch_add(1, Ordering::AcqRel);
        self.missed.lock().extend(replaced.missed);
        self.take_versions(replaced.taken, read_at);
        Ok(())
    }
}

impl Tables {
    fn take_versions(&self, relations: Vec<Arc<Relation>>, read_at: Lsn) {
        let published = relations.iter().map(|relation| relation.oid).collect();
        let mut found = self.found.lock();
        let noted = self.noted.borrow();
        let mut any = false;
        for relation in relations {
            let highest = self.layouts.highest(relation.oid);
            let version = TableVersion {
                seen: read_at,
                highest,
                relation,
            };
            any |= found.take(&noted, version);
        }
        found.take_published(published);
        if any {
            self.changes_found.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Has subscribers be told of a version that the stream showed.
    fn tell_changed(&self, version: &Arc<Relation>) {
        self.found.lock().has_changed(version, None);
        self.changes_found.fetch_add(1, Ordering::AcqRel);
    }

    /// Records of what the database showed of tables and the log does not hold yet, for the writer of the log. See
    /// [`Tables::acknowledge_noted`].
    pub fn found(&self) -> Vec<TableRecord> {
        self.found.lock().records()
    }

    /// Notes that the log holds these records.
    pub fn acknowledge_noted(&self, records: &[TableRecord]) {
        self.found.lock().noted(records);
    }

    /// The published tables, if the database was asked since the last call.
    pub fn take_published(&self) -> Option<HashSet<u32>> {
        self.found.lock().published()
    }

    /// The versions of a table that a client with the state at `from` may have been told, and all later ones; `None` if
    /// they are not known any more.
    pub fn versions_since(&self, oid: u32, from: Position) -> Option<Vec<Arc<Relation>>> {
        let found = self.found.lock();
        found.versions_since(&self.noted.borrow(), oid, from)
    }

    /// The newest version of a table that was found.
    pub fn newest_version(&self, oid: u32) -> Option<Arc<Relation>> {
        self.ask_known(oid, |known| known.newest_version(oid).cloned())
    }

    /// Asks what the log says of a table, and what the database has shown beside that.
    fn ask_known<T>(&self, oid: u32, ask: impl FnOnce(&TableHistory) -> T) -> T {
        let found = self.found.lock();
        found.with(&self.noted.borrow(), oid, ask)
    }

    /// The tables whose columns were found to have changed, until [`Tables::acknowledge_changed`].
    pub fn changed(&self) -> Vec<Arc<Relation>> {
        self.found.lock().changed()
    }

    /// The number of times that the columns of tables were found to have changed.
    pub fn changes_found(&self) -> u64 {
        self.changes_found.load(Ordering::Acquire)
    }

    /// Notes that the subscribers of these tables are about to be told that they changed.
    pub fn acknowledge_changed(&self, telling: &[Arc<Relation>]) {
        self.found.lock().telling(telling);
    }

    /// Notes that the subscribers of these tables were told that they changed, behind everything that ends at `at` or
    /// before.
    pub fn told_changed(&self, told: &[Arc<Relation>], at: Lsn) {
        self.found.lock().told(told, at);
    }

    /// Before subscriptions know the names, since they would wait for rows under another name.
    fn find_renames(&self, asked: &mut Asked, tables: &[Relation]) -> Result<(), Error> {
        let is_renamed = |relation: &&Relation| self.renames.lock().differs(relation.oid, &relation.table);
        let renamed: Vec<&Relation> = tables.iter().filter(is_renamed).collect();
        let is_outdated =
            |relation: &&Relation| relation.logging.partitioned && self.roots.lock().differs(relation);
        let outdated: Vec<&Relation> = tables.iter().filter(is_outdated).collect();
        if renamed.is_empty() && outdated.is_empty() {
            return Ok(());
        }
        let written = asked.catalog.written()?;
        for relation in renamed {
            self.renames.lock().find(relation.oid, &relation.table, written);
        }
        for relation in outdated {
            self.roots.lock().find(relation, written);
        }
        Ok(())
    }
}
