//! [`QueryListing`]: the queries of a registry, some at a time, so that nobody waits for those who look at them.

use std::sync::Arc;

use super::{Query, SubscriptionRegistry};

/// A place among the queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryPlace {
    table: usize,
    entry: usize,
}

/// A query of a registry.
#[derive(Clone, Debug)]
pub struct ListedQuery {
    /// The query.
    pub query: Arc<Query>,
    /// The number of its subscriptions.
    pub subscribers: usize,
    /// The number of changes that concerned it since it came.
    pub matches: u64,
}

/// Some of the queries.
#[derive(Clone, Debug)]
pub struct QueryListing {
    /// The queries.
    pub queries: Vec<ListedQuery>,
    /// The place to go on from; `None` at the end.
    pub next: Option<QueryPlace>,
}

/// The places that are looked at in one go: a fraction of a millisecond.
const AT_ONCE: usize = 1_000;

impl SubscriptionRegistry {
    /// The queries from a place on. One that comes or goes between two calls may be left out.
    pub fn list(&self, from: QueryPlace) -> QueryListing {
        let mut queries = Vec::new();
        let mut left = AT_ONCE;
        let mut at = from;
        while at.table < self.tables.capacity() {
            let Some(table) = self.tables.get(at.table) else {
                at = QueryPlace {
                    table: at.table + 1,
                    entry: 0,
                };
                continue;
            };
            while at.entry < table.places() {
                if left == 0 {
                    return QueryListing {
                        queries,
                        next: Some(at),
                    };
                }
                left -= 1;
                if let Some((query, groups, matches)) = table.at(at.entry) {
                    let members = groups.iter().filter_map(|group| self.groups.get(*group));
                    queries.push(ListedQuery {
                        query: Arc::clone(query),
                        subscribers: members.map(|group| group.members.len()).sum(),
                        matches,
                    });
                }
                at.entry += 1;
            }
            at = QueryPlace {
                table: at.table + 1,
                entry: 0,
            };
        }
        QueryListing { queries, next: None }
    }
}
