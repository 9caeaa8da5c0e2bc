//! [`Query`]: what a subscription asks for, apart from its name and its place in the history.

use std::sync::Arc;

use super::binding::{Bindings, Selection};
use super::key::QueryKey;
use super::meter::Meter;
use super::shown::Shown;
use crate::event::{Column, ColumnChange, Relation, TableName, Timestamp, View, Visible};
use crate::filter::{self, Matcher, Predicate, Pushed};
use crate::policy::{Admission, BoundAdmission};
use crate::protocol::{Caller, ErrorMessage, Subscribe};
use crate::types::CollationQuestion;

/// A live query: one table, a predicate, a set of columns. Queries with equal keys are matched and encoded once.
#[derive(Clone, Debug)]
pub struct Query {
    key: Arc<QueryKey>,
    /// The key's predicate, parsed.
    predicate: Option<Predicate>,
    /// The key's parameters.
    params: Vec<serde_json::Value>,
    /// The table as it was when the client was told of it. It ends this client's subscription and nobody else's.
    told: Option<Arc<Relation>>,
    /// The predicate, bound: made of the key and a version of the table alone, and dropped when the key changes.
    bindings: Arc<Bindings>,
    /// Columns that rows showed besides those that the client was told of.
    shown: Arc<Shown>,
    /// The work that it takes.
    pub meter: Arc<Meter>,
}

/// So many bytes of predicate and parameters take long to be bound, a few hundred microseconds.
const LONG: usize = 4 * 1024;

/// A column that is not in a version of the table what the client was told.
pub struct ChangedColumn<'r> {
    /// The column as the client was told.
    pub told: &'r Column,
    /// The column as it is in that version.
    pub here: &'r Column,
    /// The difference between them.
    pub change: ColumnChange,
}

impl Query {
    /// The query of a `subscribe` message.
    ///
    /// # Errors
    /// The predicate does not parse.
    pub fn new(subscribe: &Subscribe, caller: &Caller) -> Result<Query, ErrorMessage> {
        let text = subscribe.predicate.as_deref();
        let predicate = text.map(Predicate::parse).transpose()?;
        let mut columns = subscribe.columns.clone();
        if let Some(columns) = &mut columns {
            columns.sort_unstable();
            columns.dedup();
        }
        let params = serde_json::Value::from(subscribe.params.clone()).to_string();
        let key = QueryKey {
            table: subscribe.table.clone(),
            predicate: text.map(Into::into),
            params: params.into(),
            now: None,
            columns,
            visible: Visible::All,
            admission: None,
            ops: subscribe.ops,
            old: subscribe.old,
            undecided: subscribe.undecided,
            numbers: caller.numbers,
            row_key: None,
        };
        Ok(Query {
            key: Arc::new(key),
            predicate,
            params: subscribe.params.clone(),
            told: None,
            bindings: Arc::default(),
            shown: Arc::default(),
            meter: Arc::default(),
        })
    }

    /// Everything that shapes what its subscribers are sent.
    pub fn key(&self) -> &Arc<QueryKey> {
        &self.key
    }

    /// The table's name.
    pub fn table(&self) -> &TableName {
        &self.key.table
    }

    /// The predicate, if it has one.
    pub fn predicate(&self) -> Option<&Predicate> {
        self.predicate.as_ref()
    }

    /// The values of the predicate's parameters.
    pub fn params(&self) -> &[serde_json::Value] {
        &self.params
    }

    /// A version of the table as the client sees it.
    pub fn view<'r>(&'r self, relation: &'r Relation) -> View<'r> {
        self.key.view(relation)
    }

    /// Restricts the query to what its caller may see of the table, of which this is the version that it is judged by.
    pub fn admit(&mut self, admission: &Admission, relation: &Relation) {
        let key = Arc::make_mut(&mut self.key);
        key.visible = admission.visible();
        key.admission = Some(Arc::new(admission.judged_by(relation)));
        self.bindings = Arc::default();
    }

    /// Holds the query to the key that the client is told: it ends when the table's key is another one.
    pub fn hold_to_key(&mut self, relation: &Arc<Relation>) {
        let names = relation.key_names().into_iter();
        Arc::make_mut(&mut self.key).row_key = Some(names.map(str::to_owned).collect());
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
            Arc::make_mut(&mut self.key).now = Some(now);
            self.bindings = Arc::default();
        }
    }

    /// The value of `now()` in the predicate, if that was said.
    pub fn now(&self) -> Option<Timestamp> {
        self.key.now
    }

    /// Its rows in a version of its table. They are bound once for all versions that are the same to it.
    ///
    /// # Errors
    /// The predicate does not fit.
    pub fn selection(&self, relation: &Arc<Relation>) -> Result<Arc<Selection>, filter::Error> {
        if self.predicate.is_none() && self.key.admission.is_none() {
            return Ok(Arc::new(Selection::new(relation, Matcher::all(), None)));
        }
        self.bindings.get(relation, || self.select(relation))
    }

    /// The same for a version that no other rows are of.
    ///
    /// # Errors
    /// The predicate does not fit.
    pub fn select(&self, relation: &Relation) -> Result<Selection, filter::Error> {
        let predicate = match &self.predicate {
            Some(predicate) => predicate.bind(self.view(relation), &self.params)?,
            None => Matcher::all(),
        };
        Ok(Selection::new(relation, predicate, self.admission(relation)))
    }

    /// The condition on its rows as SQL, as far as Postgres may be asked: it holds for every row of the result. The
    /// client's predicate is not evaluated for rows that policies hide if it may fail for them, since it would tell.
    ///
    /// # Errors
    /// The predicate does not fit.
    pub fn condition(&self, relation: &Relation) -> Result<Option<Pushed>, filter::Error> {
        let Some(admission) = &self.key.admission else {
            let predicate = self.predicate.as_ref();
            let pushed = predicate.map(|predicate| predicate.to_sql(self.view(relation), &self.params));
            return pushed.transpose();
        };
        let mut pushed = Pushed::default();
        let is_whole = admission.append_sql(relation, &mut pushed);
        let Some(predicate) = &self.predicate else {
            return Ok(Some(pushed));
        };
        match (predicate.may_fail(), is_whole) {
            (false, _) => {
                pushed.sql.push_str(" AND ");
                predicate.append_sql(self.view(relation), &self.params, &mut pushed)?;
            }
            (true, true) => {
                let admitted = pushed.sql.clone();
                pushed.sql.push_str(&format!(" AND CASE WHEN {admitted} THEN "));
                predicate.append_sql(self.view(relation), &self.params, &mut pushed)?;
                pushed.sql.push_str(" ELSE FALSE END");
            }
            // It is evaluated here alone.
            (true, false) => {}
        }
        Ok(Some(pushed))
    }

    /// The part of the rows of a version of its table that its caller may see, where there are policies.
    fn admission(&self, relation: &Relation) -> Option<BoundAdmission> {
        let admission = self.key.admission.as_ref()?;
        Some(BoundAdmission::new(admission, relation))
    }

    /// The question that the database is to be asked before the predicate can be bound to this version of its table.
    pub fn collation_question(&self, relation: &Arc<Relation>) -> Option<CollationQuestion> {
        self.selection(relation).err()?.collation_question()
    }

    /// True if [`Query::selection`] takes longer than many rows do.
    pub fn binds_long(&self, relation: &Relation) -> bool {
        let bytes = self.key.predicate.as_deref().map_or(0, str::len) + self.key.params.len();
        bytes > LONG && self.bindings.known(relation).is_none()
    }

    /// The table as it was when the client was told of it, once it was.
    pub fn relation(&self) -> Option<&Arc<Relation>> {
        self.told.as_ref()
    }

    /// The first column that it needs, and that is not in this version of the table what the client was told.
    ///
    /// Its values are read otherwise if its type is another one, or letters fold otherwise, which matters where the
    /// query names it. They are other ones if another column has its name, or a label or attribute of its type was
    /// renamed: then clients hold values that are not there any more.
    pub fn changed_in<'r>(&'r self, relation: &'r Relation) -> Option<ChangedColumn<'r>> {
        // Mostly it is the same one.
        let differs = |told: &Relation| !std::ptr::eq(told, relation) && told != relation;
        let told = self.told.as_ref().filter(|told| differs(told))?;
        let changed = self.view(told).columns().filter_map(|(_, told)| {
            let (_, here) = relation.column(&told.name)?;
            let change = ColumnChange::of(told, here)?;
            Some(ChangedColumn { told, here, change })
        });
        let mut changed = changed.peekable();
        // Most are as they were, and to bind the predicate costs more.
        changed.peek()?;
        let named = self.columns_named(told);
        let key = told.key_names();
        changed.find(|ChangedColumn { told, change, .. }| {
            let name = &told.name.as_str();
            let is_named = named.listed.contains(name) || named.predicate.contains(name);
            match change {
                ColumnChange::Type => is_named,
                ColumnChange::Letters => named.predicate.contains(name),
                ColumnChange::Column | ColumnChange::Uncertain | ColumnChange::Parts(_) => {
                    is_named || self.key.columns.is_none() || key.contains(name)
                }
            }
        })
    }

    /// Notes that rows of this version of the table are sent: without `columns`, they show columns that were added or
    /// renamed since the client was told of the table.
    pub fn note_shown(&self, relation: &Relation) {
        if let Some(told) = self.told.as_ref().filter(|_| self.key.columns.is_none()) {
            self.shown.note(told, self.view(relation));
        }
    }

    /// True if rows of this version show columns that were not noted.
    pub fn shows_more(&self, relation: &Relation) -> bool {
        let told = self.told.as_ref().filter(|_| self.key.columns.is_none());
        told.is_some_and(|told| self.shown.lacks(told, self.view(relation)))
    }

    /// The first column of this version whose name rows showed another column by, which the client was not told of.
    pub fn shown_otherwise<'r>(&self, relation: &'r Relation) -> Option<(&'r Column, ColumnChange)> {
        self.shown.changed_in(relation)
    }

    /// The first column that it names or that is of its key, and that this version of the table does not have.
    pub fn gone_in(&self, relation: &Relation) -> Option<&Column> {
        let told = self.told.as_ref()?;
        let seen = self.view(told).columns().map(|(_, column)| column);
        let is_gone = |column: &&Column| relation.column(&column.name).is_none();
        let mut gone = seen.filter(is_gone).peekable();
        gone.peek()?;
        let named = self.columns_named(told);
        let key = told.key_names();
        gone.find(|column| {
            let name = &column.name.as_str();
            named.listed.contains(name) || named.predicate.contains(name) || key.contains(name)
        })
    }

    /// The columns that it names. It fits this version of the table.
    fn columns_named<'q>(&'q self, relation: &'q Arc<Relation>) -> Named<'q> {
        let selection = self.selection(relation);
        let mut named = Named {
            listed: self.key.columns.iter().flatten().map(String::as_str).collect(),
            predicate: Vec::new(),
        };
        if let Ok(selection) = &selection {
            let columns = selection.predicate().columns().iter();
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
