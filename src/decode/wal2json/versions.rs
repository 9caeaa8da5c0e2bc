//! [`Known`]: a table as the catalogs had it, now and before rows that may still come.

use std::sync::Arc;

use super::record::{Action, Record};
use super::shape;
use crate::event::{Lookup, Published, StreamRelation};
use crate::lsn::Lsn;
use crate::types::Attnum;

/// A table as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The position up to which it holds, whatever was committed.
    as_of: Lsn,
    /// `None` if it is not published.
    published: Option<Arc<Published>>,
    /// Earlier answers that rows may still be written under, the oldest first.
    former: Vec<Former>,
}

/// An earlier answer.
#[derive(Debug)]
struct Former {
    published: Arc<Published>,
    /// Transactions that commit from here on are of a later version.
    until: Lsn,
}

/// A relation as it was described last.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) relation: StreamRelation,
    /// The version that it is of, if one can be told.
    version: Option<Arc<Published>>,
}

/// The number of earlier versions that are kept, at most.
const MAX_FORMER: usize = 8;

impl Known {
    /// The position up to which it holds.
    pub(super) fn as_of(&self) -> Lsn {
        self.as_of
    }

    /// The table as the publications have it; `None` if it is not published.
    pub(super) fn published(&self) -> Option<&Published> {
        self.published.as_deref()
    }

    /// Learns what the catalogs say, asked for a row that commits at `commit`. Returns false if there is no such
    /// table, and none was known.
    pub(super) fn update(&mut self, as_of: Lsn, found: Lookup, commit: Lsn) -> bool {
        self.as_of = as_of;
        self.former.retain(|former| former.until > commit);
        let before = self.published.take();
        let is_known = !(found == Lookup::Gone && before.is_none());
        self.published = match (found, before) {
            (Lookup::Published(now), Some(before)) if is_same(&before, &now) => Some(before),
            (Lookup::Published(now), before) => {
                // A row of another table, which had the name before, is told by the name alone.
                let before = before.filter(|before| before.relation.oid == now.relation.oid);
                match before {
                    Some(published) => self.former.push(Former {
                        published,
                        until: now.seen,
                    }),
                    None => self.former.clear(),
                }
                if self.former.len() > MAX_FORMER {
                    self.former.remove(0);
                }
                Some(Arc::new(now))
            }
            (Lookup::Unpublished, _) => None,
            (Lookup::Gone, before) => before,
        };
        is_known
    }

    /// The description that has to go before a row that commits at `commit`, if the last one is not it.
    pub(super) fn describe(
        &self,
        last: Option<&Described>,
        record: &Record<'_>,
        action: Action,
        commit: Lsn,
    ) -> Option<Described> {
        let now = self.published.as_ref()?;
        let is_settled = commit >= now.seen || self.former.is_empty() && now.renamed.is_empty();
        let described_now = last.filter(|last| last.is_of(now));
        if let Some(last) = described_now
            && (action == Action::Truncate || is_settled && shape::fits(&last.relation, now, record, action))
        {
            return None;
        }
        let (version, columns) = match self.version(record, action, commit) {
            Found::Version(version) => (Some(version), version.relation.columns.clone()),
            Found::Shown(columns) => (None, columns),
        };
        // An insert says nothing of the identity: what the last row showed holds until the catalogs say something else.
        let same = |last: &&Described| {
            record.identity.is_empty()
                && last
                    .version
                    .as_deref()
                    .zip(version.map(|v| &**v))
                    .is_some_and(|(last, version)| {
                        last.relation == version.relation && last.numbers == version.numbers
                    })
        };
        let relation = match last.filter(same) {
            Some(last) => last.relation.clone(),
            None => shape::with_identity(columns, now, record),
        };
        let described = Described {
            relation,
            version: version.cloned(),
        };
        (!last.is_some_and(|last| last.says(&described))).then_some(described)
    }

    /// The version that a row was written under.
    fn version(&self, record: &Record<'_>, action: Action, commit: Lsn) -> Found<'_> {
        let Some(now) = &self.published else {
            return Found::Shown(Vec::new());
        };
        let fits = |version: &&Arc<Published>| shape::fits_columns(version, record, action);
        let former = self.former.iter().rev().filter(|former| former.until > commit);
        let mut fitting = std::iter::once(now)
            .chain(former.map(|former| &former.published))
            .filter(fits);
        let Some(first) = fitting.next() else {
            return Found::Shown(shape::of_row(now, record));
        };
        let is_told = if self.former.is_empty() {
            commit >= now.seen || shape::tells_renamed(first, record)
        } else {
            fitting.all(|other| shape::agree(first, other, record))
        };
        if is_told {
            Found::Version(first)
        } else {
            Found::Shown(shape::shown(first, record))
        }
    }
}

/// The outcome of looking for a row's version.
enum Found<'k> {
    /// The version that it is of, or as good as that.
    Version(&'k Arc<Published>),
    /// The columns that it shows itself. The catalogs may tell more, by what they know of the table's past.
    Shown(Vec<crate::event::StreamColumn>),
}

impl Described {
    fn is_of(&self, version: &Arc<Published>) -> bool {
        self.version
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, version))
    }

    /// True if it says all that the other one says, which is newer.
    fn says(&self, other: &Described) -> bool {
        let numbers = |described: &Described| -> Option<Vec<Attnum>> {
            described.version.as_ref().map(|version| version.numbers.clone())
        };
        self.relation == other.relation && numbers(self) == numbers(other)
    }
}

/// True if two answers differ in nothing that matters to rows.
fn is_same(before: &Published, now: &Published) -> bool {
    let now = Published {
        seen: before.seen,
        renamed: before.renamed.clone(),
        ..now.clone()
    };
    *before == now
}
