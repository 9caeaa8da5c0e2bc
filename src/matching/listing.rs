//! [`QueryListing`]: the queries of a registry, some at a time, so that nobody waits for those who look at them.

use std::sync::Arc;

use super::{Query, SubscriptionRegistry};

/// A place among the queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryPlace {
    table: usize,
    entry: usize,
    /// The first group of the entry that has not been counted.
    group: usize,
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
    /// The queries. The last one may be the first of the next listing again, with the rest of its subscriptions.
    queries: Vec<ListedQuery>,
    /// The place to go on from; `None` at the end.
    pub next: Option<QueryPlace>,
}

impl QueryListing {
    /// Adds the queries to those of the listings before.
    pub fn add_to(&mut self, all: &mut Vec<ListedQuery>) {
        for one in self.queries.drain(..) {
            match all.last_mut() {
                Some(last) if Arc::ptr_eq(&last.query, &one.query) => {
                    last.subscribers += one.subscribers;
                    last.matches = one.matches;
                }
                _ => all.push(one),
            }
        }
    }
}

/// The places and groups that are looked at in one go: a fraction of a millisecond.
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
                    ..QueryPlace::default()
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
                    let rest = groups.get(at.group..).unwrap_or_default();
                    let (counted, later) = rest.split_at(rest.len().min(left));
                    let members = counted.iter().filter_map(|group| self.groups.get(*group));
                    queries.push(ListedQuery {
                        query: Arc::clone(query),
                        subscribers: members.map(|group| group.members.len()).sum(),
                        matches,
                    });
                    left -= counted.len();
                    if !later.is_empty() {
                        at.group += counted.len();
                        return QueryListing {
                            queries,
                            next: Some(at),
                        };
                    }
                }
                at.entry += 1;
                at.group = 0;
            }
            at = QueryPlace {
                table: at.table + 1,
                ..QueryPlace::default()
            };
        }
        QueryListing { queries, next: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{START, subscription};
    use super::*;

    #[test]
    fn a_query_of_very_many_groups_is_listed_a_part_at_a_time() {
        let mut registry = SubscriptionRegistry::new(65_536);
        let first = registry.connect();
        let second = registry.connect();
        registry.subscribe(first, &subscription("one", Some("a = 1")), START);
        for number in 0..2_500 {
            registry.subscribe(first, &subscription(&format!("many{number}"), None), START);
        }
        registry.subscribe(second, &subscription("many7", None), START);
        registry.subscribe(second, &subscription("two", Some("a = 2")), START);
        let mut all = Vec::new();
        let mut listings = 0;
        let mut from = Some(QueryPlace::default());
        while let Some(place) = from {
            let mut listing = registry.list(place);
            listings += 1;
            from = listing.next;
            listing.add_to(&mut all);
        }
        let subscribers: Vec<usize> = all.iter().map(|listed| listed.subscribers).collect();
        assert_eq!(subscribers, [1, 2_501, 1]);
        assert_eq!(listings, 3);
    }
}
