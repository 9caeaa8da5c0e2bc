//! [`Catalog`]: what the replication stream leaves out of a table, asked of the system catalogs.
//!
//! The one thing to know: the stream describes a table as it was when the rows were written, the catalogs as it is
//! now. Columns, types and the replica identity's columns are therefore the stream's; the catalogs add names of types,
//! what their text means, collations and the order of the key, wherever both still agree.

mod alignment;
mod answers;
mod ctypes;
mod facts;
mod identity;
mod layout;
mod not_null;
mod published;
mod row_security;
mod tables;
mod types;
mod unpublished;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Purpose;
use super::connection::Connection;
use super::conninfo::ConnInfo;
use super::error::Error;
use super::select::{Parameter, PgType, TypedRow};
use super::slot::Publication;
use super::synchronous;
use crate::event::{Collation, Column, Logging, Relation, StreamColumn, StreamRelation, TableName};
use crate::log::{Horizon, PgSnapshot};
use crate::lsn::Lsn;
use crate::types::{Attnum, Ctype, Kind, Type};
use answers::Answers;
pub use answers::Moment;
use facts::{Facts, Writers};
use layout::Layout;
pub(crate) use layout::Layouts;
use tables::{Scope, Table, TableColumn};
use types::Types;
pub use unpublished::Unpublished;

/// Asks for the snapshot of the questions that follow.
const SNAPSHOT: &str = "SELECT pg_catalog.pg_current_snapshot()::text";

/// Answers from the system catalogs, on a connection of its own that is opened when it is needed.
#[derive(Debug)]
pub struct Catalog {
    session: Session,
    types: Types,
    layouts: Layouts,
    /// The publications that the stream is of.
    publications: Vec<Publication>,
    /// The logging of tables' partitions, by these tables' OIDs, and when it was asked.
    writers: HashMap<u32, (Instant, Option<Vec<Writers>>)>,
    answers: Answers,
    /// A position that lies behind all of the tables that were read last.
    read_at: Lsn,
}

/// The time that an answer about the partitions of a table holds. They are many, and the stream describes their root
/// again with each that it comes to.
const WRITERS_AGE: Duration = Duration::from_secs(1);

/// A table as the stream describes it, completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Described {
    /// The table exists.
    Known(Relation),
    /// The table was dropped meanwhile: its key is what the stream flags, and what is not known of its types and
    /// collations is taken to be the least.
    Dropped(Relation),
    /// The table is a partition whose changes are published as an ancestor's: none comes under its own name.
    AsRoot(Relation),
}

impl Described {
    /// The relation, whether the table still exists or not.
    pub fn into_relation(self) -> Relation {
        match self {
            Described::Known(relation) | Described::Dropped(relation) | Described::AsRoot(relation) => {
                relation
            }
        }
    }
}

impl Catalog {
    /// A catalog of that database. Nothing is opened yet.
    pub fn new(info: ConnInfo) -> Catalog {
        Catalog {
            session: Session {
                info,
                connection: None,
                asked: 0,
            },
            types: Types::default(),
            layouts: Layouts::default(),
            publications: Vec::new(),
            writers: HashMap::new(),
            answers: Answers::default(),
            read_at: Lsn::ZERO,
        }
    }

    /// The same, sharing what is known of the tables' columns with others.
    pub(crate) fn sharing(info: ConnInfo, layouts: &Layouts) -> Catalog {
        Catalog {
            layouts: layouts.clone(),
            ..Catalog::new(info)
        }
    }

    /// Has [`Catalog::describe`] know the publications that the stream is of.
    #[must_use]
    pub fn with_publications(self, publications: Vec<Publication>) -> Catalog {
        Catalog { publications, ..self }
    }

    /// The snapshot of the questions that follow.
    pub fn snapshot(&mut self) -> Result<PgSnapshot, Error> {
        self.session.ask_one("snapshot", SNAPSHOT)?.parse(0, "snapshot")
    }

    /// True if commits may wait for what is confirmed here, see [`Connection::synchronous_by`].
    pub fn names_us_synchronous(&mut self) -> Result<bool, Error> {
        let question = "synchronous_standby_names";
        let row = self.session.ask_one(question, synchronous::SQL)?;
        let setting = synchronous::naming(
            row.get(0, question)?,
            row.get(1, question)?,
            row.get(2, question)?,
        );
        Ok(setting.is_some())
    }

    /// The transactions that may be written by now and not visible yet; `None` where no commit waits for a standby.
    pub fn horizon(&mut self) -> Result<Option<Horizon>, Error> {
        const WAITS: &str = "SELECT pg_catalog.current_setting('synchronous_standby_names') <> '' \
            AND NOT pg_catalog.pg_is_in_recovery()";
        // An ID of our own: all that were given before are smaller.
        const NEXT: &str = "SELECT pg_catalog.pg_current_xact_id()::text::int8 \
            FROM pg_catalog.set_config('synchronous_commit', 'off', true)";
        if !self
            .session
            .ask_one("synchronous_standby_names", WAITS)?
            .get(0, "setting")?
        {
            return Ok(None);
        }
        let next: i64 = self
            .session
            .ask_one("transaction ID", NEXT)?
            .get(0, "transaction ID")?;
        let next = next.cast_unsigned();
        let view = self.snapshot()?;
        Ok(Some(Horizon { view, next }))
    }

    /// Completes what the stream says of a table in a transaction that commits at `commit`, and that can be seen.
    pub fn describe(&mut self, stream: &StreamRelation, commit: Lsn) -> Result<Described, Error> {
        self.describe_at(stream, commit, None)
    }

    /// The same with what was asked at that moment, at which the transaction could be seen.
    pub fn describe_at(
        &mut self,
        stream: &StreamRelation,
        commit: Lsn,
        moment: Option<Moment>,
    ) -> Result<Described, Error> {
        self.answers.keep(moment);
        let before = self.layouts.before(stream.oid, commit);
        let now = self.answer(stream.oid)?;
        if let Some(now) = &now {
            self.layouts.note(stream.oid, now.written, &now.layout);
        }
        let layout = now.as_ref().map(|now| &now.layout);
        let numbers = alignment::numbers(&stream.columns, before.as_ref(), layout);
        if let (Some(before), Some(layout)) = (&before, layout)
            && before != layout
            && let Some(then) = Layout::of_row(&stream.columns, &numbers, before)
        {
            self.layouts.note(stream.oid, commit, &then);
        }
        let named: Vec<(u32, i32)> = stream.columns.iter().map(|c| (c.type_oid, c.typmod)).collect();
        let names = self.type_names(&named)?;
        self.load_types(stream.columns.iter().map(|c| c.type_oid))?;
        let mut columns = Vec::with_capacity(stream.columns.len());
        for ((column, name), attnum) in stream.columns.iter().zip(names).zip(&numbers) {
            let same = |c: &&TableColumn| Some(c.attnum) == attnum.number() && c.type_oid == column.type_oid;
            let now = now.as_ref().and_then(|table| table.columns.iter().find(same));
            let (collation, ctype) = match now {
                Some(now) => (now.collation, now.ctype.clone()),
                None => {
                    let exists = &mut self.answers.nondeterministic;
                    let collation =
                        self.types
                            .unknown_collation(&mut self.session, column.type_oid, exists)?;
                    (collation, Ctype::Unknown)
                }
            };
            columns.push(Column {
                name: column.name.clone(),
                attnum: *attnum,
                ty: Type {
                    oid: column.type_oid,
                    name,
                    kind: self.types.kind(column.type_oid),
                },
                typmod: column.typmod,
                identity: column.identity,
                collation,
                ctype,
            });
        }
        // By the names that the columns have now: so does the rest of the answer.
        let name = |(column, number): (&StreamColumn, &Attnum)| {
            let columns = now.as_ref().map_or(&[][..], |table| &table.columns);
            let now = columns.iter().find(|now| Some(now.attnum) == number.number());
            now.map_or_else(|| column.name.clone(), |now| now.name.clone())
        };
        let names: Vec<String> = stream.columns.iter().zip(&numbers).map(name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let flagged: Vec<bool> = stream.columns.iter().map(|column| column.identity).collect();
        let unknown = Facts::default();
        let own = stream.replica_identity;
        let keys = now.as_ref().map(|table| table.keys(own));
        let facts = now.as_ref().map_or(&unknown, |table| &table.facts);
        let told = if facts.partitioned {
            identity::of(own, &names, &keys.unwrap_or_default(), facts)
        } else {
            identity::of_streamed(own, &names, &flagged, keys, facts)
        };
        for (column, identity) in columns.iter_mut().zip(told.columns) {
            column.identity = identity;
        }
        let relation = Relation {
            oid: stream.oid,
            table: stream.table.clone(),
            replica_identity: told.replica_identity,
            key: told.key,
            logging: told.logging,
            columns,
        };
        Ok(match now {
            Some(now) if now.facts.as_root => Described::AsRoot(relation),
            Some(_) => Described::Known(relation),
            None => {
                let logging = Logging {
                    dropped: true,
                    ..relation.logging
                };
                Described::Dropped(Relation { logging, ..relation })
            }
        })
    }

    /// The relation with the numbers that columns of these names have now, where it could not be told which they had;
    /// and from where on rows are surely of those, unless the stream describes the table again.
    pub(crate) fn settled(&self, relation: &Relation) -> (Lsn, Relation) {
        let mut settled = relation.clone();
        let Some((written, layout)) = self.layouts.newest(relation.oid) else {
            return (Lsn(u64::MAX), settled);
        };
        for column in &mut settled.columns {
            if column.attnum == Attnum::UNCERTAIN {
                // One that is gone by now is told apart by its name for as long as rows have it.
                let now = layout.named(&column.name);
                column.attnum = now.map_or(Attnum::UNKNOWN, |now| Attnum::new(now.number));
            }
        }
        (written, settled)
    }

    /// Looks whether the attributes of a composite type changed that was met in a table so far, and returns a number
    /// that grows when they did: tables described before are to be described again. Postgres sends no word of it.
    pub fn generation(&mut self) -> Result<u64, Error> {
        self.types.generation(&mut self.session)
    }

    /// The number of questions that were asked of the database since this was called last.
    pub fn take_questions(&mut self) -> u64 {
        std::mem::take(&mut self.session.asked)
    }

    /// A position that lies behind all of the tables that were read last, as far as their columns go.
    pub(crate) fn read_at(&self) -> Lsn {
        self.read_at
    }

    /// The number as of the last question.
    pub(crate) fn last_generation(&self) -> u64 {
        self.types.last_generation()
    }

    /// A position that lies behind all that could be seen so far.
    pub(crate) fn seen(&mut self) -> Result<Lsn, Error> {
        self.session
            .ask_one("position", tables::WRITTEN)?
            .get(0, "position")
    }

    /// The tables of the publications, as the stream will describe them if nothing changes.
    pub fn tables(&mut self, publications: &[Publication]) -> Result<Vec<Relation>, Error> {
        let tables = self.published(&Scope::Published(publications, None))?;
        self.layouts.retain(tables.iter().map(|table| table.oid));
        Ok(tables)
    }

    /// The table of that name, as [`Catalog::tables`] has it; `None` if none of the publications has it.
    pub fn table(
        &mut self,
        publications: &[Publication],
        name: &TableName,
    ) -> Result<Option<Relation>, Error> {
        let mut tables = self.published(&Scope::Published(publications, Some(name)))?;
        Ok(tables.pop())
    }

    fn published(&mut self, scope: &Scope<'_>) -> Result<Vec<Relation>, Error> {
        let tables = tables::read(&mut self.session, scope)?;
        for table in &tables {
            self.read_at = table.written;
            self.layouts.note(table.oid(), table.written, &table.layout);
        }
        let columns = tables.iter().flat_map(|table| &table.columns);
        self.types
            .load(&mut self.session, columns.map(|column| column.type_oid))?;
        Ok(tables
            .into_iter()
            .map(|table| table.into_relation(|oid| self.types.kind(oid)))
            .collect())
    }
}

/// A connection that is opened when it is needed, and once more if it turns out to have died in between.
#[derive(Debug)]
struct Session {
    info: ConnInfo,
    connection: Option<Connection>,
    /// The number of questions that were asked.
    asked: u64,
}

impl Session {
    /// Asks what `sql` makes of the server's version.
    fn ask(
        &mut self,
        sql: impl Fn(u32) -> String,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<TypedRow>, Error> {
        self.asked += 1;
        if let Some(mut connection) = self.connection.take() {
            match connection.select(&sql(connection.server_version_num()), parameters) {
                // It died while it was idle.
                Err(error) if error.is_fatal() => {}
                answer => {
                    self.connection = Some(connection);
                    return answer;
                }
            }
        }
        let mut connection = Connection::connect(&self.info, Purpose::Query)?;
        let answer = connection.select(&sql(connection.server_version_num()), parameters);
        if !answer.as_ref().is_err_and(Error::is_fatal) {
            self.connection = Some(connection);
        }
        answer
    }

    /// Asks what has exactly one row.
    fn ask_one(&mut self, question: &'static str, sql: &str) -> Result<TypedRow, Error> {
        let mut rows = self.ask(|_| sql.to_owned(), &[])?;
        rows.pop().ok_or_else(|| Error::Answer {
            question,
            problem: "expected one row".into(),
        })
    }
}
