//! Reading a query's rows under a snapshot, and encoding them for clients.

use std::thread;
use std::time::{Duration, Instant};

use super::read::Turn;
use super::shown::Shown;
use super::spool::Spool;
use super::take::take;
use super::{Error, Snapshots, statement};
use crate::event::{Column, Relation, Tuple};
use crate::log::{Log, SnapshotBoundary};
use crate::matching::Query;
use crate::postgres::{self, Connection, Fetched, Field, PgType, Publication};
use crate::protocol::v1::Rows;
use crate::telemetry::traces::Span;
use crate::types::Kind;

/// The number of rows that are fetched at a time.
const ROWS: u32 = 2_000;
/// The total time that a read waits for the locks of others.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two attempts to take all of them.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// SQLSTATE: a lock was not available in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// SQLSTATE: the statement was cancelled.
const CANCELLED: &str = "57014";

impl<H: Log> Snapshots<H> {
    pub(super) fn read_on(
        &self,
        turn: &Turn<'_>,
        query: &Query,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        let is_wanted = || turn.is_on();
        let Some(relation) = query.relation() else {
            return Err(Error::TableChanged);
        };
        let sent = query.key().columns_of(relation);
        let sent = sent.map_err(|_| Error::TableChanged)?;
        let columns = columns_read(query, relation, &sent)?;
        let places = columns.iter().enumerate();
        let places = places.filter(|(_, column)| sent.contains(column));
        let places = places.map(|(place, _)| place).collect();
        let shown = Shown::new(query, narrowed(relation, &columns), places)?;
        let taking = Span::here("snapshot take");
        let mut waited = Duration::ZERO;
        let boundary = loop {
            match self.begin(query, relation, &columns, connection, is_wanted) {
                Err(Error::Postgres(error)) if error.sqlstate() == Some(LOCK_NOT_AVAILABLE) => {
                    waited +=
                        wait_for_locks(connection, relation, PATIENCE.saturating_sub(waited), is_wanted)?;
                }
                begun => break begun?,
            }
        };
        drop(taking);
        turn.read.begin(boundary);
        let most = query.key().first.as_ref().map(|(_, limit)| *limit);
        self.write_rows(turn, connection, shown, most)
    }

    /// Begins the transaction that reads the rows, up to its first row. It waits for no lock.
    ///
    /// # Errors
    /// That of the server with [`LOCK_NOT_AVAILABLE`] if another session has or wants a lock that excludes reading.
    fn begin(
        &self,
        query: &Query,
        relation: &Relation,
        columns: &[usize],
        connection: &mut Connection,
        is_wanted: impl Fn() -> bool,
    ) -> Result<SnapshotBoundary, Error> {
        let boundary = take(
            connection,
            relation,
            &self.history,
            &self.pending_visibility,
            &is_wanted,
        )?;
        self.check_table(relation)?;
        let version = connection.server_version_num();
        let publications: Vec<&str> = self
            .options
            .publications
            .iter()
            .map(Publication::as_str)
            .collect();
        let row = connection.select_one(
            "the table's publications",
            &statement::facts(version),
            &[(&relation.oid, PgType::OID), (&publications, PgType::TEXT_ARRAY)],
        )?;
        let facts = statement::Facts::read(&row)?;
        let citext = citext(relation, connection)?;
        let pushed = query.condition(relation, citext).map_err(Error::Predicate)?;
        let order = query.key().first.as_ref().map_or(&[][..], |(by, _)| by);
        let sql = statement::select(relation, columns, &facts, pushed.as_ref(), order);
        let values = pushed.map(|pushed| pushed.values).unwrap_or_default();
        connection.query(statement::OWN_TIMEOUT)?;
        let fields = connection
            .open_portal(&sql, &values, is_wanted)
            .map_err(of_values)?;
        if !fits(&fields, relation, columns, &facts) {
            return Err(Error::TableChanged);
        }
        connection.query(statement::WAIT_BRIEFLY)?;
        // All names in the statement have been resolved.
        connection.query(&statement::names_in_values())?;
        Ok(boundary)
    }

    /// Checks that the table, which the transaction has locked, is the one that the client was told.
    fn check_table(&self, told: &Relation) -> Result<(), Error> {
        let mut catalog = self.catalog.lock();
        let found = catalog.table(&self.options.publications, &told.table)?;
        let Some(now) = found else {
            return Err(Error::Unpublished);
        };
        let is_same_column = |(now, told): (&Column, &Column)| {
            (&now.name, now.attnum, now.typmod) == (&told.name, told.attnum, told.typmod)
                && (now.ty.oid, &now.ty.kind) == (told.ty.oid, &told.ty.kind)
        };
        let is_same = (now.oid, &now.key) == (told.oid, &told.key)
            && now.columns.len() == told.columns.len()
            && now.columns.iter().zip(&told.columns).all(is_same_column);
        is_same.then_some(()).ok_or(Error::TableChanged)
    }

    /// Reads all rows, or at `most` so many.
    fn write_rows(
        &self,
        turn: &Turn<'_>,
        connection: &mut Connection,
        shown: Shown,
        most: Option<u32>,
    ) -> Result<(), Error> {
        let span = Span::here("snapshot rows");
        let mut total = 0;
        let is_wanted = || turn.is_on();
        let mut writer = Writer {
            shown,
            spool: Spool::new(&self.options.dir, &self.budget),
            turn,
            rows: Rows::default(),
            max_bytes: self.options.max_frame_bytes,
            max_row_bytes: self.options.max_row_bytes,
            failure: None,
            left: most,
        };
        loop {
            let mut count = 0;
            let fetched = connection.fetch(ROWS, is_wanted, |tuple| {
                count += 1;
                writer.row(tuple);
            });
            let fetched = fetched.map_err(|error| {
                if error.is_too_long() {
                    Error::RowTooLarge(self.options.max_row_bytes)
                } else {
                    error.into()
                }
            })?;
            self.metrics.snapshot_rows.inc_by(count);
            total += count;
            self.metrics.snapshot_bytes.set(self.budget.used());
            if let Some(failure) = writer.failure.take() {
                return Err(failure);
            }
            if !turn.is_on() {
                return Err(Error::Abandoned);
            }
            if fetched == Fetched::All || writer.left == Some(0) {
                span.note("walcast.rows", i64::try_from(total).unwrap_or(i64::MAX));
                return writer.write();
            }
        }
    }
}

/// The schema of the extension `citext`, quoted, if a column is of its type.
fn citext(relation: &Relation, connection: &mut Connection) -> Result<Option<String>, Error> {
    if !relation
        .columns
        .iter()
        .any(|column| is_of_citext(&column.ty.kind))
    {
        return Ok(None);
    }
    let rows = connection.select(statement::CITEXT, &[])?;
    let row = rows.first().ok_or(Error::TableChanged)?;
    Ok(Some(row.get(0, "the schema of citext")?))
}

fn is_of_citext(kind: &Kind) -> bool {
    match kind {
        Kind::Citext(_) => true,
        Kind::Array(element) => is_of_citext(element),
        _ => false,
    }
}

/// Waits, without holding any, until the locks that were not available can be taken, for `patience` at most. Returns
/// the time that it took.
fn wait_for_locks(
    connection: &mut Connection,
    relation: &Relation,
    patience: Duration,
    is_wanted: impl Fn() -> bool,
) -> Result<Duration, Error> {
    connection.query("ROLLBACK")?;
    let began = Instant::now();
    if patience.is_zero() {
        return Err(Error::Locked);
    }
    // A session that takes the lock briefly, again and again, gives others a chance in between.
    thread::sleep(LOCK_PAUSE);
    let is_patient = || is_wanted() && began.elapsed() < patience;
    match connection.query_while(&statement::wait(relation.oid, patience), is_patient) {
        Err(error) if is_wanted() && matches!(error.sqlstate(), Some(LOCK_NOT_AVAILABLE | CANCELLED)) => {
            Err(Error::Locked)
        }
        waited => waited.map(|_| began.elapsed()).map_err(Error::from),
    }
}

/// The error for the predicate's values, which the server checks before any row.
fn of_values(error: postgres::Error) -> Error {
    match error.sqlstate() {
        Some(code) if code.starts_with("22") => Error::Values(error),
        _ => error.into(),
    }
}

/// True if the rows that the server is about to send are of the table that the client was told. (Their types were
/// compared before; here domains appear as their base types.)
fn fits(fields: &[Field], relation: &Relation, columns: &[usize], facts: &statement::Facts) -> bool {
    // Partitions were resolved when the facts were asked for.
    let is_its = |field: &Field| field.table_oid == relation.oid || facts.is_read_by_parts();
    fields.len() == columns.len() && fields.iter().all(is_its)
}

/// The indexes of the columns that are read: those that are sent, and those that policies need.
fn columns_read(query: &Query, relation: &Relation, sent: &[usize]) -> Result<Vec<usize>, Error> {
    let mut columns = sent.to_vec();
    if query.key().admission.is_none() {
        return Ok(columns);
    }
    let selection = query.select(relation).map_err(Error::Predicate)?;
    if let Some(admission) = selection.admission() {
        columns.extend(admission.columns());
        columns.extend(selection.predicate().columns());
        columns.sort_unstable();
        columns.dedup();
    }
    Ok(columns)
}

/// The relation with these columns alone, as the rows have them.
fn narrowed(relation: &Relation, columns: &[usize]) -> Relation {
    let columns = columns.iter().filter_map(|&index| relation.columns.get(index));
    Relation {
        columns: columns.cloned().collect(),
        key: Vec::new(),
        ..relation.clone()
    }
}

/// Collects rows until there are enough for a message.
struct Writer<'a> {
    shown: Shown,
    spool: Spool,
    turn: &'a Turn<'a>,
    rows: Rows,
    max_bytes: usize,
    max_row_bytes: usize,
    failure: Option<Error>,
    /// The number of rows that are still wanted; `None` for all.
    left: Option<u32>,
}

impl Writer<'_> {
    fn row(&mut self, tuple: &[u8]) {
        if self.failure.is_some() || self.left == Some(0) {
            return;
        }
        let Ok((tuple, _)) = Tuple::parse(tuple) else {
            self.failure = Some(Error::TableChanged);
            return;
        };
        let projection = match self.shown.projection(tuple) {
            Ok(Some(projection)) => projection,
            Ok(None) => return,
            Err(error) => {
                self.failure = Some(error);
                return;
            }
        };
        // Measured like rows of the stream.
        if tuple.encoded_len() > self.max_row_bytes {
            self.failure = Some(Error::RowTooLarge(self.max_row_bytes));
            return;
        }
        self.rows.push(tuple, projection);
        self.left = self.left.map(|left| left - 1);
        if self.rows.len() >= self.max_bytes {
            self.failure = self.write().err();
        }
    }

    /// Writes the collected rows as the rows of a message.
    fn write(&mut self) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let kept = || self.turn.read.kept();
        let is_wanted = || self.turn.is_on();
        let written = self.spool.write(self.rows.close(), kept, is_wanted);
        let chunk = written.map_err(Error::Spool)?.ok_or(Error::Abandoned)?;
        self.rows.clear(4 * self.max_bytes);
        self.turn.read.push(chunk);
        Ok(())
    }
}
