//! [`Admission`]: what a caller may see of a table, whatever its version.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::{Policy, Rows};
use crate::auth::Claims;
use crate::event::{Column, Relation, View, Visible};
use crate::filter::{Predicate, Pushed};
use crate::protocol::Ops;
use crate::types::Attnum;

/// The part of a table that a caller may see. Equal ones admit the same: callers with equal claims, as far as policies
/// ask for them, have equal ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Admission {
    /// A row that one of these admits is admitted. Sorted, each once.
    grants: Box<[Grant]>,
    /// The columns that the conditions read, as they were when the caller was let in; `None` before.
    pins: Option<Box<[Pin]>>,
}

/// A column that a condition reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pin {
    name: Box<str>,
    attnum: Attnum,
    type_oid: u32,
}

impl Pin {
    fn is(&self, column: &Column) -> bool {
        !self.attnum.may_differ(column.attnum) && self.type_oid == column.ty.oid
    }
}

impl Admission {
    /// Everything of a table, by no policy's leave.
    pub fn everything() -> Admission {
        Admission {
            grants: Box::new([Grant {
                rows: None,
                columns: Visible::All,
                ops: Ops::ALL,
            }]),
            pins: None,
        }
    }

    /// The rows that any of these grants admits; `None` if there are none.
    pub fn of(grants: impl IntoIterator<Item = Grant>) -> Option<Admission> {
        let mut grants: Vec<Grant> = grants.into_iter().collect();
        grants.sort_by(|one, other| one.sort_key().cmp(&other.sort_key()));
        grants.dedup();
        (!grants.is_empty()).then(|| Admission {
            grants: grants.into(),
            pins: None,
        })
    }

    /// The same, judged by that version of the table: in a version in which a column that a condition reads is another
    /// one, or of another type, the condition admits nothing.
    #[must_use]
    pub fn judged_by(&self, relation: &Relation) -> Admission {
        let mut pins = Vec::new();
        for condition in self.grants.iter().filter_map(|grant| grant.rows.as_ref()) {
            let Ok(bound) = condition.predicate.bind(View::whole(relation), &[]) else {
                continue;
            };
            let columns = bound.columns().iter();
            let columns = columns.filter_map(|&index| relation.columns.get(index));
            pins.extend(columns.map(|column| Pin {
                name: column.name.as_str().into(),
                attnum: column.attnum,
                type_oid: column.ty.oid,
            }));
        }
        pins.sort_unstable();
        pins.dedup();
        Admission {
            grants: self.grants.clone(),
            pins: Some(pins.into()),
        }
    }

    /// True if a column of a version is what it was in the one that the admission was judged by.
    pub(super) fn is_as_judged(&self, column: &Column) -> bool {
        let Some(pins) = &self.pins else {
            return true;
        };
        let mut pins = pins.iter();
        let pin = pins.find(|pin| *pin.name == *column.name);
        pin.is_some_and(|pin| pin.is(column))
    }

    /// True if the columns that the conditions read are in a version what they were in the one that the admission was
    /// judged by.
    pub fn fits(&self, relation: &Relation) -> bool {
        let mut pins = self.pins.iter().flatten();
        pins.all(|pin| {
            relation
                .column(&pin.name)
                .is_some_and(|(_, column)| pin.is(column))
        })
    }

    /// Appends a condition that holds for every row that is admitted, as SQL, and for as few others as can be without
    /// one that Postgres may fail to evaluate; true if it holds for no others.
    pub fn append_sql(&self, relation: &Relation, pushed: &mut Pushed) -> bool {
        let before = (pushed.sql.len(), pushed.values.len());
        pushed.sql.push_str("(FALSE");
        for grant in &self.grants {
            let appended = match &grant.rows {
                None => false,
                Some(condition) if condition.predicate.may_fail() => false,
                Some(condition) => {
                    let start = pushed.sql.len();
                    pushed.sql.push_str(" OR ");
                    let view = View::whole(relation);
                    if condition.predicate.append_sql(view, &[], pushed).is_err() {
                        // It admits nothing.
                        pushed.sql.truncate(start);
                    }
                    true
                }
            };
            if !appended {
                pushed.sql.truncate(before.0);
                pushed.values.truncate(before.1);
                pushed.sql.push_str("TRUE");
                return grant.rows.is_none();
            }
        }
        pushed.sql.push(')');
        true
    }

    /// The grants.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// The columns that any of them shows.
    pub fn visible(&self) -> Visible {
        Visible::any_of(self.grants.iter().map(|grant| &grant.columns))
    }
}

/// The part of a table that one policy lets one caller see.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The condition on its rows; `None` for all.
    pub rows: Option<RowCondition>,
    /// The columns.
    pub columns: Visible,
    /// The operations.
    pub ops: Ops,
}

impl Grant {
    pub(super) fn of(policy: &Policy, claims: &Claims) -> Grant {
        Grant {
            rows: match &policy.rows {
                Rows::All => None,
                Rows::Where(condition) => {
                    let value = |path: &String| claims.get(path).map(|claim| claim.to_string().into());
                    Some(RowCondition {
                        text: Arc::clone(&condition.text),
                        claims: condition.claims.iter().map(value).collect(),
                        predicate: Arc::new(condition.predicate.with_claims(&|path| claims.get(path))),
                    })
                }
            },
            columns: policy.columns.clone(),
            ops: policy.ops,
        }
    }

    fn sort_key(&self) -> impl Ord {
        let rows = self.rows.as_ref();
        let columns = match &self.columns {
            Visible::All => None,
            Visible::Only(columns) => Some(columns.clone()),
        };
        let Ops {
            insert,
            update,
            delete,
            truncate,
        } = self.ops;
        (
            columns,
            [insert, update, delete, truncate],
            rows.map(|rows| (Arc::clone(&rows.text), rows.claims.clone())),
        )
    }
}

/// A condition on rows with a caller's claims in it.
///
/// It is what its text and the values of its claims say: by these it is compared, and the predicate is made of them
/// alone.
#[derive(Clone, Debug)]
pub struct RowCondition {
    text: Arc<str>,
    /// The values of its claims as JSON, in the order of their paths; `None` where the token has none.
    claims: Box<[Option<Box<str>>]>,
    predicate: Arc<Predicate>,
}

impl RowCondition {
    /// The condition as a predicate without claims.
    pub fn predicate(&self) -> &Predicate {
        &self.predicate
    }

    /// The text as it stands in the policy.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for RowCondition {
    fn eq(&self, other: &RowCondition) -> bool {
        self.text == other.text && self.claims == other.claims
    }
}

impl Eq for RowCondition {}

impl Hash for RowCondition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
        self.claims.hash(state);
    }
}
