//! [`Admission`]: the part of a table that a caller may see, in any version of the table.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::{Policy, RowSecurity, Rows};
use crate::auth::Claims;
use crate::event::{Column, Relation, View, Visible};
use crate::filter::{DatabaseSession, Predicate, Pushed};
use crate::protocol::Ops;
use crate::types::{Attnum, CollationQuestion};

/// The part of a table that a caller may see. Equal admissions admit the same. Callers whose claims are equal, as far
/// as policies read them, have equal admissions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Admission {
    /// The grants, of which one has to admit a row. Sorted, without duplicates.
    grants: Box<[Grant]>,
    /// The columns that the conditions read, as they were when the caller was judged; `None` before that.
    pins: Option<Box<[Pin]>>,
}

/// An admission that was judged by a version of its table.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The admission. In versions where a column that a condition reads is another one, or has another type, the
    /// condition admits nothing.
    pub admission: Admission,
    /// The question that the database has to answer before all conditions can be bound to this version.
    pub question: Option<CollationQuestion>,
    /// The texts of conditions that cannot be bound to this version, and so admit nothing: a claim is not a value of the
    /// type that it is cast to, or the condition does not fit the columns.
    pub unbound: Vec<Arc<str>>,
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
    /// All of a table, without a policy.
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

    /// The admission by these grants; `None` if there are none.
    pub fn of(grants: impl IntoIterator<Item = Grant>) -> Option<Admission> {
        let mut grants: Vec<Grant> = grants.into_iter().collect();
        grants.sort_by(|one, other| one.sort_key().cmp(&other.sort_key()));
        grants.dedup();
        (!grants.is_empty()).then(|| Admission {
            grants: grants.into(),
            pins: None,
        })
    }

    /// The admission, judged by a version of the table, which binds each condition to it once.
    pub fn judged_by(&self, relation: &Relation) -> Judged {
        let mut pins = Vec::new();
        let mut unbound = Vec::new();
        let mut question = None;
        for condition in self.grants.iter().filter_map(|grant| grant.rows.as_ref()) {
            let bound = match condition.predicate.bind(View::whole(relation), &[]) {
                Ok(bound) => bound,
                Err(error) => {
                    question = question.or_else(|| error.collation_question());
                    unbound.push(Arc::clone(&condition.text));
                    continue;
                }
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
        let admission = Admission {
            grants: self.grants.clone(),
            pins: Some(pins.into()),
        };
        Judged {
            admission,
            question,
            unbound,
        }
    }

    /// True if a column is the same in this version as in the one by which the admission was judged.
    pub(super) fn is_as_judged(&self, column: &Column) -> bool {
        let Some(pins) = &self.pins else {
            return true;
        };
        let mut pins = pins.iter();
        let pin = pins.find(|pin| *pin.name == *column.name);
        pin.is_some_and(|pin| pin.is(column))
    }

    /// True if the columns that the conditions read are the same in this version as in the one by which the admission
    /// was judged.
    pub fn fits(&self, relation: &Relation) -> bool {
        let mut pins = self.pins.iter().flatten();
        pins.all(|pin| {
            relation
                .column(&pin.name)
                .is_some_and(|(_, column)| pin.is(column))
        })
    }

    /// Appends, as SQL, a condition that holds for every admitted row, and for as few others as possible without parts
    /// that Postgres may fail to evaluate. True if it holds for no others.
    pub fn append_sql(&self, relation: &Relation, pushed: &mut Pushed) -> bool {
        let before = (pushed.sql.len(), pushed.values.len());
        pushed.sql.push_str("(FALSE");
        for grant in &self.grants {
            let appended = match &grant.rows {
                None => false,
                Some(condition) if condition.predicate.may_fail() => false,
                Some(condition) => {
                    let start = (pushed.sql.len(), pushed.values.len());
                    pushed.sql.push_str(" OR ");
                    let view = View::whole(relation);
                    // The database would fail on a claim that is not a value of the type that it is cast to.
                    let appended = condition
                        .predicate
                        .bind(view, &[])
                        .and_then(|_| condition.predicate.append_sql(view, &[], pushed));
                    if appended.is_err() {
                        // It admits nothing.
                        pushed.sql.truncate(start.0);
                        pushed.values.truncate(start.1);
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

    /// True if it admits the same as another one, whichever versions they were judged by.
    pub fn admits_as(&self, other: &Admission) -> bool {
        self.grants == other.grants
    }

    /// True if a condition orders by the bytes of the database's encoding.
    pub fn collates(&self) -> bool {
        self.predicates().any(Predicate::collates)
    }

    /// The texts that have to be checked against the database's encoding: those of conditions and claims that are not
    /// ASCII.
    pub fn texts(&self) -> String {
        let rows = self.grants.iter().filter_map(|grant| grant.rows.as_ref());
        let texts = rows.flat_map(|rows| {
            let claims = rows.claims.iter().flatten().map(|claim| &**claim);
            claims.chain([&*rows.text])
        });
        texts.filter(|text| !text.is_ascii()).collect()
    }

    fn predicates(&self) -> impl Iterator<Item = &Predicate> {
        let rows = self.grants.iter().filter_map(|grant| grant.rows.as_ref());
        rows.map(RowCondition::predicate)
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
    /// The grant of a policy to a bearer of claims; `None` if it grants nothing.
    pub(super) fn of(
        policy: &Policy,
        claims: &Claims,
        security: Option<(&RowSecurity, &DatabaseSession)>,
    ) -> Option<Grant> {
        Some(Grant {
            rows: match &policy.rows {
                Rows::All => None,
                Rows::RowSecurity => {
                    let (security, session) = security?;
                    return Some(security.grant(session, policy.ops));
                }
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
        })
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
/// It is determined by its text and the values of its claims, which are what is compared.
#[derive(Clone, Debug)]
pub struct RowCondition {
    text: Arc<str>,
    /// The values of its claims as JSON, in the order of their paths; `None` for a claim that the token lacks.
    claims: Box<[Option<Box<str>>]>,
    predicate: Arc<Predicate>,
}

impl RowCondition {
    /// A condition of this text with these values of a caller's claims, from which alone the predicate must be made.
    pub(super) fn new(text: Arc<str>, claims: Box<[Option<Box<str>>]>, predicate: Predicate) -> RowCondition {
        RowCondition {
            text,
            claims,
            predicate: Arc::new(predicate),
        }
    }

    /// The condition as a predicate without claims.
    pub fn predicate(&self) -> &Predicate {
        &self.predicate
    }

    /// The text of the policy.
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
