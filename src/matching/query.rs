//! [`Query`]: the contents that a subscription asks for, apart from its name and its place in the history.

use std::sync::Arc;

use super::binding::{Bindings, Selection};
use super::key::QueryKey;
use super::meter::Meter;
use super::range;
use super::shown::Shown;
use crate::event::{Column, ColumnChange, Relation, TableName, Timestamp, View, Visible};
use crate::filter::{self, Matcher, Predicate, Pushed};
use crate::policy::{Admission, BoundAdmission};
use crate::protocol::{Caller, ErrorMessage, Ordered, Subscribe, Wanted};
use crate::types::CollationQuestion;
use crate::types::json::Numbers;

/// A live query: one table, a predicate, a set of columns. Queries with equal keys are matched and encoded once.
#[derive(Clone, Debug)]
pub struct Query {
    key: Arc<QueryKey>,
    /// The key's predicate, parsed.
    predicate: Option<Predicate>,
    /// The key's parameters.
    params: Vec<serde_json::Value>,
    /// The version of the table that the client was told. A difference from it ends only this client's subscription.
    told: Option<Arc<Relation>>,
    /// The bound predicate, which depends on the key and a version of the table only, and is dropped when the key
    /// changes.
    bindings: Arc<Bindings>,
    /// The columns that rows showed besides those that the client was told.
    shown: Arc<Shown>,
    /// Counts the work that it takes.
    pub meter: Arc<Meter>,
}

/// The size of predicate and parameters, in bytes, from which on binding takes long: a few hundred microseconds.
const LONG: usize = 4 * 1024;

/// The bytes that each query with a predicate takes, whatever that is.
const OF_EACH: usize = 1_100;
/// The bytes that an index takes for each value that a predicate is filed by.
const FILED: usize = 40;

/// A column that differs, in a version of the table, from the one that the client was told.
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
        if subscribe.order.is_some() {
            // The client's own text first: it may be wrong in ways that the whole is not.
            subscribe.predicate.as_deref().map(Predicate::parse).transpose()?;
        }
        let (text, params) = range::predicate(subscribe);
        let text = text.as_deref();
        let predicate = text.map(Predicate::parse).transpose()?;
        let mut columns = subscribe.columns.clone();
        let mut first = None;
        let mut numbers = caller.numbers;
        if let Some(Ordered {
            by,
            wanted: Wanted::First(limit),
        }) = &subscribe.order
        {
            columns = Some(by.iter().map(|by| by.column.clone()).collect());
            first = Some((by.clone(), *limit));
            // Every digit of the bound counts.
            numbers = Numbers::Strings;
        }
        if let Some(columns) = &mut columns {
            columns.sort_unstable();
            columns.dedup();
        }
        let as_text = serde_json::Value::from(params.clone()).to_string();
        let key = QueryKey {
            table: subscribe.table.clone(),
            predicate: text.map(Into::into),
            params: as_text.into(),
            now: None,
            columns,
            visible: Visible::All,
            admission: None,
            ops: subscribe.ops,
            old: subscribe.old,
            undecided: subscribe.undecided,
            numbers,
            first,
            row_key: None,
        };
        Ok(Query {
            key: Arc::new(key),
            predicate,
            params,
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

    /// Restricts the query to the part of the table that its caller may see, as it was judged.
    pub fn admit(&mut self, admission: Admission) {
        let key = Arc::make_mut(&mut self.key);
        key.visible = admission.visible();
        key.admission = Some(Arc::new(admission));
        self.bindings = Arc::default();
    }

    /// Ties the query to the key that the client is told: it ends when the table gets another key.
    pub fn hold_to_key(&mut self, relation: &Arc<Relation>) {
        let names = relation.key_names().into_iter();
        Arc::make_mut(&mut self.key).row_key = Some(names.map(str::to_owned).collect());
        self.told = Some(Arc::clone(relation));
    }

    /// The version of the table that the client was told.
    pub fn told(&self) -> Option<&Arc<Relation>> {
        self.told.as_ref()
    }

    /// True if the predicate reads the time, which has to be set by [`Query::set_now`].
    pub fn asks_the_clock(&self) -> bool {
        self.predicate.as_ref().is_some_and(Predicate::asks_the_clock)
    }

    /// Sets the value of `now()` in the predicate, for as long as the query lasts. With another value it is another
    /// query.
    pub fn set_now(&mut self, now: Timestamp) {
        if let Some(predicate) = &mut self.predicate {
            predicate.set_now(now);
            Arc::make_mut(&mut self.key).now = Some(now);
            self.bindings = Arc::default();
        }
    }

    /// The value of `now()` in the predicate, if it was set.
    pub fn now(&self) -> Option<Timestamp> {
        self.key.now
    }

    /// Its rows in a version of its table, bound once for all versions that do not differ for it.
    ///
    /// # Errors
    /// The predicate does not fit.
    pub fn selection(&self, relation: &Arc<Relation>) -> Result<Arc<Selection>, filter::Error> {
        if self.predicate.is_none() && self.key.admission.is_none() {
            return Ok(Arc::new(Selection::new(relation, Matcher::all(), None)));
        }
        self.bindings.get(relation, || self.select(relation))
    }

    /// Its rows in a version of its table, bound without being kept.
    ///
    /// # Errors
    /// The predicate does not fit.
    pub fn select(&self, relation: &Relation) -> Result<Selection, filter::Error> {
        let predicate = match (&self.predicate, relation.table.messages()) {
            (None, _) => Matcher::all(),
            (Some(predicate), None) => predicate.bind(self.view(relation), &self.params)?,
            // In a database of another encoding than UTF-8 they are bytes, but not in the form that `bytea` has as text.
            (Some(predicate), Some(prefix)) => {
                let relation = Relation::of_messages(prefix, true);
                predicate.bind(self.view(&relation), &self.params)?
            }
        };
        Ok(Selection::new(relation, predicate, self.admission(relation)))
    }

    /// About how many bytes it takes, bound to a version of its table: what was written, what that means, and its place
    /// in the index of the table. At least as many as it does, and a quarter more at most.
    pub fn bytes(&self, selection: &Selection) -> usize {
        if self.predicate.is_none() {
            return 0;
        }
        let key = &*self.key;
        let text = key.predicate.as_deref().map_or(0, str::len) + key.params.len();
        let params = self.params.iter().map(filter::json_bytes).sum::<usize>() + size_of_val(&*self.params);
        let tree = self.predicate.as_ref().map_or(0, Predicate::bytes);
        let rows = selection.rows().kept();
        let mut bytes = OF_EACH + text + params + tree + rows.shared + 2 * rows.copied + FILED * rows.values;
        if selection.admission().is_some() {
            bytes += selection.predicate().kept().copied;
        }
        // The rest is that of tables which grow by doubling.
        bytes + bytes / 16
    }

    /// The condition on its rows as SQL, as far as Postgres may evaluate it; it holds for every row of the result. If
    /// the client's predicate may fail, it is not evaluated for rows that policies hide, since the failure would reveal
    /// them. `citext` is the schema of that extension, quoted, if columns are of its type.
    ///
    /// # Errors
    /// The predicate does not fit.
    pub fn condition(
        &self,
        relation: &Relation,
        citext: Option<String>,
    ) -> Result<Option<Pushed>, filter::Error> {
        let mut pushed = Pushed {
            citext,
            ..Pushed::default()
        };
        let Some(admission) = &self.key.admission else {
            let Some(predicate) = &self.predicate else {
                return Ok(None);
            };
            predicate.append_sql(self.view(relation), &self.params, &mut pushed)?;
            return Ok(Some(pushed));
        };
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
            // It is evaluated by walcast alone.
            (true, false) => {}
        }
        Ok(Some(pushed))
    }

    /// The rows of a version of its table that its caller may see, where there are policies.
    fn admission(&self, relation: &Relation) -> Option<BoundAdmission> {
        let admission = self.key.admission.as_ref()?;
        Some(BoundAdmission::new(admission, relation))
    }

    /// The question that the database has to answer before the predicate can be bound to this version of its table.
    pub fn collation_question(&self, relation: &Arc<Relation>) -> Option<CollationQuestion> {
        self.selection(relation).err()?.collation_question()
    }

    /// True if [`Query::selection`] takes longer than many rows.
    pub fn binds_long(&self, relation: &Relation) -> bool {
        let bytes = self.key.predicate.as_deref().map_or(0, str::len) + self.key.params.len();
        bytes > LONG && self.bindings.known(relation).is_none()
    }

    /// The version of the table that the client was told, once it was.
    pub fn relation(&self) -> Option<&Arc<Relation>> {
        self.told.as_ref()
    }

    /// The first column that it needs and that differs, in this version of the table, from the one that the client was
    /// told.
    ///
    /// With another type or collation its values mean something else, which matters where the query names it. If
    /// another column has its name, or a label or attribute of its type was renamed, then clients hold values that no
    /// longer exist.
    pub fn changed_in<'r>(&'r self, relation: &'r Relation) -> Option<ChangedColumn<'r>> {
        // What messages hold is compared as they have it.
        if relation.table.messages().is_some() {
            return None;
        }
        // Mostly it is the same version.
        let differs = |told: &Relation| !std::ptr::eq(told, relation) && told != relation;
        let told = self.told.as_ref().filter(|told| differs(told))?;
        let changed = self.view(told).columns().filter_map(|(_, told)| {
            let (_, here) = relation.column(&told.name)?;
            let change = ColumnChange::of(told, here)?;
            Some(ChangedColumn { told, here, change })
        });
        let mut changed = changed.peekable();
        // Most columns are unchanged, and binding the predicate costs more.
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

    /// Notes that rows of this version of the table are sent. Without `columns` they show columns that were added or
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

    /// The first column of this version under whose name rows showed another column, which the client was not told.
    pub fn shown_otherwise<'r>(&self, relation: &'r Relation) -> Option<(&'r Column, ColumnChange)> {
        self.shown.changed_in(relation)
    }

    /// The first column that it names, or that is part of its key, and that this version of the table lacks.
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

    /// The columns that it names, in a version of the table that it fits.
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

/// A query under the name that its client gave it.
#[derive(Debug)]
pub struct Subscription {
    /// The client's name for it.
    pub id: Arc<str>,
    /// The query.
    pub query: Arc<Query>,
    /// The OID of its table: another table may take the name.
    pub oid: u32,
}
