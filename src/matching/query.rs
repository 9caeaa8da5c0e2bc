//! [`Query`]: what a subscription asks for, apart from its name and its place in the history.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::binding::Bindings;
use super::meter::Meter;
use super::shown::Shown;
use crate::event::{Column, Relation, TableName, Timestamp};
use crate::filter::{self, Matcher, Predicate};
use crate::protocol::{Caller, ErrorCode, ErrorMessage, Ops, Subscribe, Undecided};
use crate::types::json::Numbers;
use crate::types::{Altered, CollationQuestion};

/// A live query: one table, a predicate, a set of columns. Equal queries are matched and encoded once.
#[derive(Clone, Debug)]
pub struct Query {
    /// The table.
    pub table: TableName,
    /// The rows, all of them if there is none.
    pub predicate: Option<Predicate>,
    /// The values of the predicate's parameters.
    pub params: Vec<serde_json::Value>,
    /// The columns, all of them if `None`; the key's are always included.
    pub columns: Option<Vec<String>>,
    /// The operations.
    pub ops: Ops,
    /// True if old rows are wanted where they are known.
    pub old: bool,
    /// The way in which numbers beyond a double's precision are sent.
    pub numbers: Numbers,
    /// The names of the key's columns, as the client was told; `None` until they are known.
    pub key: Option<Vec<String>>,
    /// The table as it was when the client was told of it.
    told: Option<Arc<Relation>>,
    /// The way in which it treats changes of which the log does not tell whether they concern it.
    pub undecided: Undecided,
    /// The value of `now()` in the predicate, if that asks for it and it was said.
    now: Option<Timestamp>,
    /// The text that tells queries apart: the above as the client wrote it.
    identity: Box<str>,
    bindings: Arc<Bindings>,
    /// Columns that rows showed besides those that the client was told of.
    shown: Arc<Shown>,
    /// The work that it takes.
    pub meter: Arc<Meter>,
}

/// So many bytes of predicate and parameters take long to be bound, a few hundred microseconds.
const LONG: usize = 4 * 1024;

impl Query {
    /// The query of a `subscribe` message.
    ///
    /// # Errors
    /// The predicate does not parse.
    pub fn new(subscribe: &Subscribe, caller: &Caller) -> Result<Query, ErrorMessage> {
        let text = subscribe.predicate.as_deref();
        let predicate = text.map(Predicate::parse).transpose()?;
        if predicate.is_none() && !subscribe.params.is_empty() {
            return Err(ErrorMessage::new(
                ErrorCode::BadPredicate,
                "there are params, but no where to use them",
            ));
        }
        let mut columns = subscribe.columns.clone();
        if let Some(columns) = &mut columns {
            columns.sort_unstable();
            columns.dedup();
        }
        let params = serde_json::Value::from(subscribe.params.clone()).to_string();
        Ok(Query {
            identity: format!("{text:?} {params} {columns:?}").into_boxed_str(),
            table: subscribe.table.clone(),
            predicate,
            params: subscribe.params.clone(),
            columns,
            ops: subscribe.ops,
            old: subscribe.old,
            numbers: caller.numbers,
            key: None,
            told: None,
            undecided: subscribe.undecided,
            now: None,
            bindings: Arc::default(),
            shown: Arc::default(),
            meter: Arc::default(),
        })
    }
}

impl Query {
    /// Holds the query to the key that the client is told: it ends when the table's key is another one.
    pub fn hold_to_key(&mut self, relation: &Arc<Relation>) {
        let names = relation.key_names().into_iter();
        self.key = Some(names.map(str::to_owned).collect());
        self.told = Some(Arc::clone(relation));
    }

    /// True if what it asks for depends on when it does: it has to be told by [`Query::set_now`].
    pub fn asks_the_clock(&self) -> bool {
        self.predicate.as_ref().is_some_and(Predicate::asks_the_clock)
    }

    /// Says what `now()` is in the predicate, for as long as the query lasts: it is another query at another time.
    pub fn set_now(&mut self, now: Timestamp) {
        if let Some(predicate) = &mut self.predicate {
            predicate.set_now(now);
            self.now = Some(now);
            self.identity = format!("{} {}", self.identity, now.0).into_boxed_str();
        }
    }

    /// The value of `now()` in the predicate, if that was said.
    pub fn now(&self) -> Option<Timestamp> {
        self.now
    }

    /// The predicate, bound to a version of its table. It is bound once for all versions that are the same to it.
    ///
    /// # Errors
    /// It does not fit.
    pub fn matcher(&self, relation: &Arc<Relation>) -> Result<Arc<Matcher>, filter::Error> {
        match &self.predicate {
            Some(predicate) => self
                .bindings
                .get(relation, || predicate.bind(relation, &self.params)),
            None => Ok(Arc::new(Matcher::all())),
        }
    }

    /// The question that the database is to be asked before the predicate can be bound to this version of its table.
    pub fn collation_question(&self, relation: &Arc<Relation>) -> Option<CollationQuestion> {
        self.matcher(relation).err()?.collation_question()
    }

    /// True if [`Query::matcher`] takes longer than many rows do.
    pub fn binds_long(&self, relation: &Relation) -> bool {
        self.identity.len() > LONG && self.bindings.known(relation).is_none()
    }

    /// The table as it was when the client was told of it, once it was.
    pub fn relation(&self) -> Option<&Arc<Relation>> {
        self.told.as_ref()
    }

    /// The indexes of the columns that are sent, in the relation's order: all, or those of its list and the key's.
    ///
    /// # Errors
    /// A column of its list is unknown.
    pub fn columns_of(&self, relation: &Relation) -> Result<Vec<usize>, ErrorMessage> {
        let Some(names) = &self.columns else {
            return Ok((0..relation.columns.len()).collect());
        };
        let mut columns = relation.key.clone();
        for name in names {
            let found = relation.column(name);
            let (index, _) = found.ok_or_else(|| {
                let names = relation.columns.iter().map(|column| column.name.as_str());
                let hint = filter::nearest(name, names).map(|near| format!(": did you mean {near}?"));
                let hint = hint.unwrap_or_default();
                let message = format!("{} has no column {name:?}{hint}", relation.table);
                ErrorMessage::new(ErrorCode::UnknownColumn, message)
            })?;
            columns.push(index);
        }
        columns.sort_unstable();
        columns.dedup();
        Ok(columns)
    }

    /// The first column that it needs, and that is not in this version of the table what the client was told: as it was
    /// told, as it is here, and in what they differ.
    ///
    /// Its values are read otherwise if its type is another one, or letters fold otherwise, which matters where the
    /// query names it. They are other ones if another column has its name, or a label or attribute of its type was
    /// renamed: then whoever was sent them holds what is not there any more.
    pub fn changed_in<'r>(&'r self, relation: &'r Relation) -> Option<(&'r Column, &'r Column, Change)> {
        // Mostly it is the same one.
        let differs = |told: &Relation| !std::ptr::eq(told, relation) && told != relation;
        let told = self.told.as_ref().filter(|told| differs(told))?;
        let changed = told.columns.iter().filter_map(|told| {
            let (_, here) = relation.column(&told.name)?;
            Some((told, here, Change::of(told, here)?))
        });
        let mut changed = changed.peekable();
        // Most are as they were, and to bind the predicate costs more.
        changed.peek()?;
        let named = self.columns_named(told);
        let key = told.key_names();
        changed.find(|(column, _, change)| {
            let name = &column.name.as_str();
            let is_named = named.listed.contains(name) || named.predicate.contains(name);
            match change {
                Change::Type => is_named,
                Change::Letters => named.predicate.contains(name),
                Change::Column | Change::Uncertain | Change::Parts(_) => {
                    is_named || self.columns.is_none() || key.contains(name)
                }
            }
        })
    }

    /// Notes that rows of this version of the table are sent: without `columns`, they show columns that were added or
    /// renamed since the client was told of the table.
    pub fn note_shown(&self, relation: &Relation) {
        if let Some(told) = self.told.as_ref().filter(|_| self.columns.is_none()) {
            self.shown.note(told, relation);
        }
    }

    /// True if rows of this version show columns that were not noted.
    pub fn shows_more(&self, relation: &Relation) -> bool {
        let told = self.told.as_ref().filter(|_| self.columns.is_none());
        told.is_some_and(|told| self.shown.lacks(told, relation))
    }

    /// The first column of this version whose name rows showed another column by, which the client was not told of.
    pub fn shown_otherwise<'r>(&self, relation: &'r Relation) -> Option<(&'r Column, Change)> {
        self.shown.changed_in(relation)
    }

    /// The first column that it names or that is of its key, and that this version of the table does not have.
    pub fn gone_in(&self, relation: &Relation) -> Option<&Column> {
        let told = self.told.as_ref()?;
        let is_gone = |column: &&Column| relation.column(&column.name).is_none();
        let mut gone = told.columns.iter().filter(is_gone).peekable();
        gone.peek()?;
        let (named, key) = (self.columns_named(told), told.key_names());
        gone.find(|column| {
            let name = &column.name.as_str();
            named.listed.contains(name) || named.predicate.contains(name) || key.contains(name)
        })
    }

    /// The columns that it names. It fits this version of the table.
    fn columns_named<'q>(&'q self, relation: &'q Arc<Relation>) -> Named<'q> {
        let matcher = self.matcher(relation);
        let mut named = Named {
            listed: self.columns.iter().flatten().map(String::as_str).collect(),
            predicate: Vec::new(),
        };
        if let Ok(matcher) = &matcher {
            let columns = matcher.columns().iter();
            let columns = columns.filter_map(|&index| relation.columns.get(index));
            named.predicate.extend(columns.map(|column| column.name.as_str()));
        }
        named
    }
}

/// The columns that a query names.
struct Named<'q> {
    listed: Vec<&'q str>,
    predicate: Vec<&'q str>,
}

/// In what a column differs from the one of its name that a client was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is another column.
    Column,
    /// It cannot be told whether it is another column.
    Uncertain,
    /// Its type is another one.
    Type,
    /// A label or an attribute of its type.
    Parts(Altered),
    /// Its collation folds other letters.
    Letters,
}

impl Change {
    /// In what two columns of the same name differ.
    pub fn of(told: &Column, here: &Column) -> Option<Change> {
        if told.attnum.may_differ(here.attnum) {
            let are_known = told.attnum.number().is_some() && here.attnum.number().is_some();
            return Some(if are_known {
                Change::Column
            } else {
                Change::Uncertain
            });
        }
        if told.ty.oid != here.ty.oid {
            return Some(Change::Type);
        }
        if let Some(altered) = told.ty.kind.altered_in(&here.ty.kind) {
            return Some(Change::Parts(altered));
        }
        let are_known = !told.ctype.is_unknown() && !here.ctype.is_unknown();
        (are_known && told.ctype != here.ctype).then_some(Change::Letters)
    }
}

impl PartialEq for Query {
    fn eq(&self, other: &Query) -> bool {
        self.identity == other.identity
            && self.table == other.table
            && self.key == other.key
            && (self.ops, self.old, self.numbers, self.undecided)
                == (other.ops, other.old, other.numbers, other.undecided)
    }
}

impl Eq for Query {}

impl Hash for Query {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity.hash(state);
        self.table.hash(state);
    }
}

/// A query under the name that one client gave it.
#[derive(Debug)]
pub struct Subscription {
    /// The client's name for it.
    pub id: Arc<str>,
    /// The query.
    pub query: Arc<Query>,
    /// The OID of the table that it is of: another one may take its name.
    pub oid: u32,
}
