//! The distinct queries of a source, and where each is filed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::rates::{LEAST, Rates};
use crate::delivery;
use crate::event::TableName;
use crate::filter::{self, Filed, FiledKind};
use crate::log::Log;
use crate::matching::{ListedQuery, QueryPlace};
use crate::session::Services;

/// The most queries that are told of.
const MAX_TOLD: usize = 200;
/// The most that are looked at to find those.
const MAX_FILED: usize = 2_000;

/// The queries as they were found last, and how much they did by then.
#[derive(Debug, Default)]
pub(super) struct Queries {
    found: Mutex<Arc<Found>>,
    /// Held by the one who looks; the others wait for what is found.
    looked: Arc<tokio::sync::Mutex<Looked>>,
}

/// The counters at the last look.
#[derive(Debug, Default)]
struct Looked {
    matches: Rates,
    work: Rates,
    /// The time at which it ended.
    at: Option<Instant>,
}

/// The queries that a look has found.
#[derive(Debug, Default)]
struct Found {
    total: usize,
    by_table: HashMap<TableName, usize>,
    told: Vec<Told>,
}

#[derive(Clone, Debug)]
struct Told {
    listed: ListedQuery,
    matches: Option<f64>,
    work: Option<f64>,
    filed: Vec<Filed>,
}

impl Told {
    fn is_for_every_change(&self) -> bool {
        self.filed
            .iter()
            .any(|filed| filed.kind == FiledKind::EveryChange)
    }
}

impl Queries {
    /// The answer of `/api/queries`. Of a query's predicate only `shows` tells.
    pub(super) async fn answer<H: Log>(
        self: &Arc<Self>,
        services: &Services<H>,
        shows: bool,
    ) -> Option<Value> {
        self.renew(services).await?;
        let found = Arc::clone(&self.found.lock());
        let told: Vec<Value> = found.told.iter().map(|told| in_json(told, shows)).collect();
        Some(json!({"total": found.total, "queries": told}))
    }

    /// The number of live subscriptions to each table that has some.
    pub(super) async fn by_table<H: Log>(
        self: &Arc<Self>,
        services: &Services<H>,
    ) -> HashMap<TableName, usize> {
        // Without a router there are none.
        let _stopped = self.renew(services).await;
        let found = Arc::clone(&self.found.lock());
        found.by_table.clone()
    }

    /// Looks, unless that was done a moment ago. `None` if the source is not served any more.
    async fn renew<H: Log>(self: &Arc<Self>, services: &Services<H>) -> Option<()> {
        let mut looked = Arc::clone(&self.looked).lock_owned().await;
        if looked.at.is_some_and(|at| at.elapsed() < LEAST) {
            return Some(());
        }
        let queries = Arc::clone(self);
        let router = services.router.clone();
        let background = services.background.clone();
        // A task of its own, so that nobody looks again before this look is over, even if the requester leaves.
        let looking = tokio::spawn(async move {
            let listed = list(&router).await?;
            // Away from the threads that serve clients: there may be a hundred thousand of them.
            let look = background.spawn_blocking(move || {
                let found = Arc::new(look(listed, &mut looked));
                *queries.found.lock() = found;
                looked.at = Some(Instant::now());
            });
            look.await.ok()
        });
        looking.await.ok()?
    }
}

/// Makes of all queries what is told of them.
fn look(listed: Vec<ListedQuery>, looked: &mut Looked) -> Found {
    let now = Instant::now();
    let number = |listed: &ListedQuery| Arc::as_ptr(&listed.query).addr() as u64;
    let matches: Vec<(u64, u64)> = listed.iter().map(|one| (number(one), one.matches)).collect();
    let work: Vec<(u64, u64)> = listed
        .iter()
        .map(|one| (number(one), one.query.meter.total()))
        .collect();
    let matches = looked.matches.look(&matches, now);
    let works = looked.work.look(&work, now);
    let total = listed.len();
    let mut by_table: HashMap<TableName, usize> = HashMap::new();
    for one in &listed {
        let table = one.query.table();
        match by_table.get_mut(table) {
            Some(subscribers) => *subscribers += one.subscribers,
            None => drop(by_table.insert(table.clone(), one.subscribers)),
        }
    }
    let rates = matches.into_iter().zip(works).zip(work);
    let mut told: Vec<Told> = listed
        .into_iter()
        .zip(rates)
        .map(|(listed, ((matches, work), (_, worked)))| Told {
            listed,
            matches,
            // One that was never counted takes too little to be.
            work: work.filter(|_| worked > 0),
            filed: Vec::new(),
        })
        .collect();
    costliest(&mut told);
    told.truncate(MAX_FILED);
    for told in &mut told {
        told.filed = filed(&told.listed);
    }
    costliest(&mut told);
    told.truncate(MAX_TOLD);
    Found {
        total,
        by_table,
        told,
    }
}

/// Sorts queries by the work that they take, then those first that are looked at for every change, then by matches, then
/// by subscribers.
fn costliest(told: &mut [Told]) {
    let cost = |told: &Told| {
        (
            told.work.unwrap_or(0.0),
            told.is_for_every_change(),
            told.matches.unwrap_or(0.0),
            told.listed.subscribers,
        )
    };
    told.sort_by(|a, b| cost(b).partial_cmp(&cost(a)).unwrap_or(std::cmp::Ordering::Equal));
}

/// All queries. `None` if the router has stopped.
async fn list(router: &delivery::Handle) -> Option<Vec<ListedQuery>> {
    let mut all = Vec::new();
    let mut from = QueryPlace::default();
    loop {
        let mut listing = router.list(from).await.ok()?;
        listing.add_to(&mut all);
        match listing.next {
            Some(next) => from = next,
            None => return Some(all),
        }
    }
}

fn filed(listed: &ListedQuery) -> Vec<Filed> {
    let Some(relation) = listed.query.told() else {
        return Vec::new();
    };
    match listed.query.selection(relation) {
        Ok(selection) => filter::filed(selection.rows(), relation),
        Err(_) => Vec::new(),
    }
}

fn in_json(told: &Told, shows: bool) -> Value {
    let key = told.listed.query.key();
    json!({
        "table": key.table.to_string(),
        "where": key.predicate.as_deref().filter(|_| shows),
        "columns": key.columns,
        "subscribers": told.listed.subscribers,
        "filed": in_one(&told.filed),
        "matches_per_second": told.matches,
        "work_per_second": told.work,
    })
}

/// The place of a query as a whole: its kind is that of the alternative which is looked at most often.
fn in_one(filed: &[Filed]) -> Value {
    let often = |filed: &&Filed| match filed.kind {
        FiledKind::EveryChange => 5,
        FiledKind::Range => 4,
        FiledKind::Null => 3,
        FiledKind::List => 2,
        FiledKind::Equality => 1,
        FiledKind::Never => 0,
    };
    let kind = filed.iter().max_by_key(often).map(|filed| filed.kind.as_str());
    const SHOWN: usize = 3;
    let mut texts: Vec<&str> = filed.iter().take(SHOWN).map(|filed| &*filed.text).collect();
    if filed.len() > SHOWN {
        texts.push("…");
    }
    json!({"kind": kind, "text": texts.join(" or ")})
}
