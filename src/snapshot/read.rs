//! [`Read`]: one read of a query's rows, shared by all clients that ask at the same time; [`Cursor`]: one client's
//! place in it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Error;
use super::spool::{Chunk, Kept};
use crate::log::SnapshotBoundary;
use crate::lsn::Epoch;

/// The age up to which a read may be joined, which adds as much history to read afterwards.
const JOIN_AGE: Duration = Duration::from_secs(10);

/// A read that is under way, or from which clients still take rows.
#[derive(Debug)]
pub(super) struct Read {
    state: Mutex<State>,
    /// Notified whenever there is something new.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    boundary: Option<Arc<SnapshotBoundary>>,
    began: Option<Instant>,
    kept: Kept,
    /// The number of chunks so far.
    chunks: u64,
    end: Option<Result<(), Arc<Error>>>,
    /// The next chunk of each cursor.
    cursors: BTreeMap<u64, u64>,
    next_cursor: u64,
    /// True if all clients left before the end, or its rows have given way.
    abandoned: bool,
    /// True once its turn has come.
    started: bool,
}

impl Read {
    /// A read that has not begun, and the cursor of the first client.
    pub(super) fn new() -> (Arc<Read>, Cursor) {
        let read = Arc::new(Read {
            state: Mutex::new(State {
                boundary: None,
                began: None,
                kept: Kept::default(),
                chunks: 0,
                end: None,
                cursors: BTreeMap::from([(0, 0)]),
                next_cursor: 1,
                abandoned: false,
                started: false,
            }),
            changed: watch::channel(()).0,
        });
        let cursor = read.cursor(0);
        (read, cursor)
    }

    fn cursor(self: &Arc<Read>, id: u64) -> Cursor {
        Cursor {
            read: Arc::clone(self),
            id,
            changes: self.changed.subscribe(),
        }
    }

    /// Another cursor at its beginning; `None` if it is too old or of another history, has failed, or part of it was
    /// dropped.
    pub(super) fn join(self: &Arc<Read>, epoch: &Epoch) -> Option<Cursor> {
        let mut state = self.state.lock();
        let is_of_another = state
            .boundary
            .as_ref()
            .is_some_and(|boundary| boundary.epoch != *epoch);
        if is_of_another
            || state.abandoned
            || !state.kept.is_whole()
            || !state.is_joinable()
            || is_failure(&state.end)
        {
            return None;
        }
        let id = state.next_cursor;
        state.next_cursor += 1;
        state.cursors.insert(id, 0);
        drop(state);
        Some(self.cursor(id))
    }

    /// True if a client still waits for it.
    pub(super) fn is_wanted(&self) -> bool {
        !self.state.lock().abandoned
    }

    /// True if a client waits for it to begin.
    pub(super) fn is_waiting(&self) -> bool {
        let state = self.state.lock();
        !state.abandoned && !state.started
    }

    /// Begins its turn. True if it is the first time, and a client still waits for it.
    pub(super) fn start(&self) -> bool {
        let mut state = self.state.lock();
        !std::mem::replace(&mut state.started, true) && !state.abandoned
    }

    /// Notes that the snapshot was taken.
    pub(super) fn begin(&self, boundary: SnapshotBoundary) {
        let mut state = self.state.lock();
        state.boundary = Some(Arc::new(boundary));
        state.began = Some(Instant::now());
        drop(state);
        self.changed.send_replace(());
    }

    /// The number of bytes of it that are kept.
    pub(super) fn kept(&self) -> u64 {
        self.state.lock().kept.bytes()
    }

    /// Adds rows.
    pub(super) fn push(&self, chunk: Chunk) {
        let mut state = self.state.lock();
        state.kept.push(chunk);
        state.chunks += 1;
        drop(state);
        self.changed.send_replace(());
    }

    /// Ends the read, unless it has given way.
    pub(super) fn end(&self, end: Result<(), Error>) {
        self.state.lock().end.get_or_insert(end.map_err(Arc::new));
        self.changed.send_replace(());
    }

    /// Drops all rows that clients have not taken yet. They are told `why`.
    pub(super) fn give_way(&self, why: Error) {
        let mut state = self.state.lock();
        state.end = Some(Err(Arc::new(why)));
        state.abandoned = true;
        state.kept = Kept::default();
        drop(state);
        self.changed.send_replace(());
    }
}

/// A read's turn, which has a time limit.
pub(super) struct Turn<'a> {
    pub(super) read: &'a Read,
    until: Instant,
    is_asked_for: &'a dyn Fn() -> bool,
    given_way: Cell<bool>,
}

impl<'a> Turn<'a> {
    /// A turn that begins now, and lasts for `timeout` or until its place is asked for.
    pub(super) fn new(read: &'a Read, timeout: Duration, is_asked_for: &'a dyn Fn() -> bool) -> Turn<'a> {
        // A timeout beyond the clock's range is for ever.
        let now = Instant::now();
        let until = now.checked_add(timeout).unwrap_or(now + FOR_EVER);
        Turn {
            read,
            until,
            is_asked_for,
            given_way: Cell::new(false),
        }
    }

    /// True if its time is over.
    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// True if it ended early, because its place was asked for.
    pub(super) fn has_given_way(&self) -> bool {
        self.given_way.get()
    }

    /// True if it may go on.
    pub(super) fn is_on(&self) -> bool {
        if !self.given_way.get() && (self.is_asked_for)() {
            self.given_way.set(true);
        }
        self.read.is_wanted() && !self.is_late() && !self.given_way.get()
    }
}

const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);

fn is_failure(end: &Option<Result<(), Arc<Error>>>) -> bool {
    matches!(end, Some(Err(_)))
}

impl State {
    fn is_joinable(&self) -> bool {
        self.began.is_none_or(|began| began.elapsed() < JOIN_AGE)
    }

    /// Drops the chunks that no cursor needs any more.
    fn forget_taken(&mut self) {
        if self.is_joinable() {
            return;
        }
        let first = self.cursors.values().copied().min();
        self.kept.drop_before(first.unwrap_or(self.chunks));
    }
}

/// The next item of a cursor.
#[derive(Debug)]
pub enum Next {
    /// The snapshot is taken, and its rows will follow.
    Begun(Arc<SnapshotBoundary>),
    /// Some rows.
    Rows(Rows),
    /// There are no more rows.
    End,
}

/// Some rows of a snapshot.
#[derive(Debug)]
pub struct Rows(Chunk);

impl Rows {
    /// The rows as a JSON array, with some text before and after it. Blocking.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, before: &str, after: &str) -> std::io::Result<String> {
        self.0.read(before, after)
    }
}

/// A client's place in a read. Once all of them are dropped, the read is cancelled at the server.
#[derive(Debug)]
pub struct Cursor {
    read: Arc<Read>,
    id: u64,
    changes: watch::Receiver<()>,
}

impl Cursor {
    /// Waits for the next item. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The read failed.
    pub async fn next(&mut self, has_begun: bool) -> Result<Next, Arc<Error>> {
        loop {
            self.changes.mark_unchanged();
            if let Some(next) = self.take(has_begun)? {
                return Ok(next);
            }
            // The sender lives as long as the read, which we hold.
            if self.changes.changed().await.is_err() {
                return Ok(Next::End);
            }
        }
    }

    fn take(&self, has_begun: bool) -> Result<Option<Next>, Arc<Error>> {
        let mut state = self.read.state.lock();
        if let Some(Err(error)) = &state.end {
            return Err(Arc::clone(error));
        }
        let Some(boundary) = state.boundary.as_ref().map(Arc::clone) else {
            return Ok(None);
        };
        if !has_begun {
            return Ok(Some(Next::Begun(boundary)));
        }
        let at = state.cursors.get(&self.id).copied().unwrap_or_default();
        if let Some(chunk) = state.kept.get(at).cloned() {
            state.cursors.insert(self.id, at + 1);
            state.forget_taken();
            return Ok(Some(Next::Rows(Rows(chunk))));
        }
        // Chunks that were kept for clients that might join may have used up the space.
        state.forget_taken();
        Ok(state.end.is_some().then_some(Next::End))
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let mut state = self.read.state.lock();
        state.cursors.remove(&self.id);
        state.abandoned |= state.cursors.is_empty();
        state.forget_taken();
    }
}

#[cfg(test)]
mod tests {
    use super::super::spool::{Budget, Spool};
    use super::*;
    use crate::lsn::Lsn;

    fn epoch() -> Epoch {
        Epoch("e".into())
    }

    fn boundary() -> SnapshotBoundary {
        SnapshotBoundary {
            epoch: epoch(),
            after: Lsn(1),
            until: Lsn(2),
            view: "1:1:".parse().unwrap(),
        }
    }

    async fn rows(cursor: &mut Cursor) -> Option<String> {
        match cursor.next(true).await.unwrap() {
            Next::Rows(rows) => Some(rows.read("", "").unwrap()),
            Next::End => None,
            Next::Begun(_) => panic!("it had begun"),
        }
    }

    #[tokio::test]
    async fn all_who_ask_at_the_same_time_get_the_same_rows_each_at_its_own_pace() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(dir.path(), &Budget::new(1 << 20, dir.path()));
        let (read, mut first) = Read::new();
        let mut second = read.join(&epoch()).unwrap();
        read.begin(boundary());
        assert!(matches!(first.next(false).await, Ok(Next::Begun(boundary)) if boundary.after == Lsn(1)));
        read.push(spool.write(b"[1]", || 0, || true).unwrap().unwrap());
        assert_eq!(rows(&mut first).await.as_deref(), Some("[1]"));
        read.push(spool.write(b"[2]", || 0, || true).unwrap().unwrap());
        let mut third = read.join(&epoch()).unwrap();
        assert!(read.join(&Epoch("another".into())).is_none());
        read.end(Ok(()));
        assert_eq!(rows(&mut first).await.as_deref(), Some("[2]"));
        assert_eq!(rows(&mut first).await, None);
        for late in [&mut second, &mut third] {
            assert_eq!(rows(late).await.as_deref(), Some("[1]"));
            assert_eq!(rows(late).await.as_deref(), Some("[2]"));
            assert_eq!(rows(late).await, None);
        }
        drop((first, second));
        assert!(read.is_wanted());
        drop(third);
        assert!(!read.is_wanted() && read.join(&epoch()).is_none());
    }

    #[tokio::test]
    async fn a_failure_is_everyones_and_nobody_joins_it() {
        let (read, mut cursor) = Read::new();
        read.end(Err(Error::TableChanged));
        let failed = cursor.next(false).await;
        assert!(matches!(failed, Err(error) if matches!(*error, Error::TableChanged)));
        assert!(read.join(&epoch()).is_none());
    }

    #[tokio::test]
    async fn rows_that_give_way_are_gone_and_their_clients_are_told_why() {
        let dir = tempfile::tempdir().unwrap();
        let budget = Budget::new(1 << 20, dir.path());
        let mut spool = Spool::new(dir.path(), &budget);
        let (read, mut cursor) = Read::new();
        read.begin(boundary());
        read.push(spool.write(b"[1]", || 0, || true).unwrap().unwrap());
        assert_eq!((read.kept(), budget.used()), (3, 3));
        read.give_way(Error::Unsettled);
        drop(spool);
        assert_eq!((read.kept(), budget.used()), (0, 0));
        assert!(!read.is_wanted() && read.join(&epoch()).is_none());
        // What the reading makes of it does not count any more.
        read.end(Err(Error::Abandoned));
        let told = cursor.next(true).await;
        assert!(matches!(told, Err(error) if matches!(*error, Error::Unsettled)));
    }
}
