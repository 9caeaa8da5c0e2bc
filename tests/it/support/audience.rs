//! [`Audience`]: everybody who follows a workload, and the judgement at its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use walcast::lsn::Lsn;

use super::follower::{Goal, VIEW_DEADLINE};
use super::server::Address;
use super::workload::MONEY;
use super::{At, Database, Follower, View};

/// The live queries on the workload's tables, each with an id of its own.
pub fn queries() -> Vec<Value> {
    vec![
        json!({"id": "items", "table": "item", "old": true}),
        json!({"id": "mine", "table": "public.item", "where": "owner = 1"}),
        json!({"id": "open", "table": "item", "where": "state = 'open' AND n > 0", "columns": ["state", "n"]}),
        json!({"id": "some", "table": "item", "where": "owner IN (2, 3) AND NOT state = 'gone'",
               "columns": ["owner", "note"]}),
        json!({"id": "dear", "table": "item", "where": "price > 99.5 OR price IS NULL OR note IS NULL",
               "old": true, "columns": ["price"]}),
        json!({"id": "parts", "table": "part", "old": true}),
        json!({"id": "middle", "table": "part", "where": "v BETWEEN -10 AND 30"}),
        json!({"id": "low", "table": "part", "where": "a < 40 AND b <> 'b3'", "columns": ["v"]}),
        json!({"id": "entries", "table": "entry"}),
        json!({"id": "first", "table": "entry", "where": "worker = 1 AND n > 0"}),
        json!({"id": "again", "table": "entry", "where": "tag LIKE 'again%' OR tag IS NULL", "undecided": "send"}),
        json!({"id": "tagged", "table": "entry", "where": "NOT tag = 'again' AND n > 0", "undecided": "send",
               "columns": ["worker"]}),
        json!({"id": "turned", "table": "entry", "where": "n < 0"}),
        json!({"id": "accounts", "table": "account", "undecided": "refuse"}),
    ]
}

/// Views of these queries that start where everything is empty.
pub fn views(queries: &[Value]) -> Vec<View> {
    views_from(queries, &Value::Null)
}

/// The same, each beginning with the rows that are there.
pub fn snapshot_views(queries: &[Value]) -> Vec<View> {
    let mut queries = queries.to_vec();
    for query in &mut queries {
        query["snapshot"] = json!(true);
    }
    views(&queries)
}

/// The same from a position, or `earliest`, where everything is still empty.
pub fn views_from(queries: &[Value], from: &Value) -> Vec<View> {
    let view = |query: &Value| {
        let view = View::new(query.clone(), from.clone(), true);
        if view.id == "accounts" {
            view.invariant(nothing_is_lost_between_accounts)
        } else {
            view
        }
    };
    queries.iter().map(view).collect()
}

fn nothing_is_lost_between_accounts(view: &View) {
    let balances = view.rows.values().map(|row| row["balance"].as_i64().unwrap());
    let sum: i64 = balances.sum();
    assert!(
        view.rows.is_empty() || sum == MONEY,
        "a transaction came in parts: {sum}"
    );
}

/// Everybody who follows a workload.
pub struct Audience {
    address: Address,
    goal: Goal,
    /// The number of those that have been in force with all of their views.
    joined: Arc<AtomicUsize>,
    /// Up to where each has everything.
    reached: Vec<Arc<AtomicU64>>,
    followers: Vec<JoinHandle<Follower>>,
    /// The reason why each failed, if it did.
    failures: Vec<Arc<OnceLock<String>>>,
}

impl Audience {
    pub fn new(address: Address) -> Audience {
        Audience {
            address,
            goal: Goal::default(),
            joined: Arc::default(),
            reached: Vec::new(),
            followers: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// One client more.
    pub fn join(&mut self, follower: Follower) {
        self.reached.push(Arc::clone(&follower.reached));
        self.failures.push(Arc::clone(&follower.failure));
        self.followers.push(follower.follow(&self.goal, &self.joined));
    }

    /// One client more, with these views on one connection.
    pub fn join_with(&mut self, views: Vec<View>) {
        self.join(Follower::new(self.address.clone(), views));
    }

    /// Up to where everybody has everything.
    pub fn reached(&self) -> Lsn {
        let reached = self.reached.iter().map(|reached| reached.load(Ordering::Relaxed));
        Lsn(reached.min().unwrap_or(0))
    }

    /// Waits until everybody who joined is live with every view.
    pub fn everybody_has_joined(&self) {
        let began = Instant::now();
        let joined = || self.joined.load(Ordering::Relaxed);
        while joined() < self.followers.len() {
            // A follower that hears nothing for too long fails.
            self.assert_following();
            assert!(
                began.elapsed() < VIEW_DEADLINE,
                "{} of {} have joined after {VIEW_DEADLINE:?}",
                joined(),
                self.followers.len()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// True if everybody is still there.
    pub fn assert_following(&self) {
        assert!(
            !self.followers.iter().any(JoinHandle::is_finished),
            "somebody has failed: {:?}",
            self.failures()
        );
    }

    fn failures(&self) -> Vec<&String> {
        self.failures.iter().filter_map(|failure| failure.get()).collect()
    }

    /// Waits until everybody has come to the goal.
    fn come_to_goal(&mut self) -> Vec<Follower> {
        let joined: Vec<_> = self.followers.drain(..).map(JoinHandle::join).collect();
        let followers: Option<Vec<Follower>> = joined.into_iter().map(Result::ok).collect();
        followers.unwrap_or_else(|| panic!("followers failed: {:?}", self.failures()))
    }

    /// Waits, once the writers have finished, until everybody has everything, and judges by the tables alone: where no
    /// server has the whole history any more. Each view has to be complete.
    pub fn judge_by_the_tables(mut self, database: &Database) -> Vec<Follower> {
        self.goal.set(At::after(database.written())).unwrap();
        let followers = self.come_to_goal();
        for view in followers.iter().flat_map(|follower| &follower.views) {
            assert!(view.is_complete(), "{}", view.id);
            view.assert_is_result(database);
        }
        followers
    }

    /// Waits, once the writers have finished, until everybody has everything; then judges. Each complete view has to be
    /// its query's result, and each view, however it came about, has to have got change for change what a client gets
    /// that reads the whole history at once.
    pub fn judge(mut self, database: &Database) -> Vec<Follower> {
        let goal = At::after(database.written());
        self.goal.set(goal).unwrap();
        let followers = self.come_to_goal();
        let mut reader = Follower::new(self.address, views_from(&queries(), &json!("earliest")));
        reader.until(|reader| reader.has_come_to(goal));
        let whole: HashMap<&str, &View> = reader.views.iter().map(|view| (&*view.id, view)).collect();
        for view in &reader.views {
            view.assert_is_result(database);
        }
        for view in followers.iter().flat_map(|follower| &follower.views) {
            // `mine`, `mine.2` and so on are of one query.
            let query = view.id.split('.').next().unwrap();
            view.assert_is_tail_of(whole[query]);
            if view.is_complete() {
                view.assert_is_result(database);
            }
        }
        followers
    }
}
