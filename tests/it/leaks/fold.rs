//! [`Folded`]: a subscription, and what it holds.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::support::At;

/// The errors that a subscription may end with: what it asked for may be hidden, or may be another table by now.
const ENDINGS: [&str; 9] = [
    "forbidden",
    "unknown_table",
    "schema_changed",
    "bad_predicate",
    "unknown_column",
    "rate_limited",
    "resume_expired",
    "resume_invalid",
    "replica_identity",
];

/// A subscription, folded.
#[derive(Debug)]
pub(super) struct Folded {
    pub(super) table: &'static str,
    pub(super) predicate: Option<&'static str>,
    pub(super) rows: BTreeMap<String, Map<String, Value>>,
    pub(super) is_over: bool,
    /// It ended because its table was altered.
    pub(super) was_altered: bool,
    /// It is told of everything from its first row on: what leaves it was in it.
    is_exact: bool,
    /// The subscribe message as it was sent first.
    pub(super) query: Value,
    key: Vec<String>,
    is_live: bool,
    /// The place up to which it has everything, once all of its snapshot has come.
    at: Option<Value>,
}

impl Folded {
    pub(super) fn new(
        table: &'static str,
        predicate: Option<&'static str>,
        query: Value,
        is_exact: bool,
    ) -> Folded {
        Folded {
            table,
            predicate,
            rows: BTreeMap::new(),
            is_over: false,
            was_altered: false,
            is_exact: is_exact && predicate.is_none(),
            query,
            key: Vec::new(),
            is_live: false,
            at: None,
        }
    }

    /// The same query under another id, from its beginning.
    pub(super) fn anew(mut self, id: &str) -> Folded {
        self.query["id"] = json!(id);
        let is_exact = self.is_exact;
        Folded::new(self.table, self.predicate, self.query, is_exact)
    }

    /// The subscribe message by which it goes on over another connection.
    pub(super) fn resume(&mut self) -> Value {
        self.is_live = false;
        let mut query = self.query.clone();
        match &self.at {
            Some(at) => {
                query.as_object_mut().unwrap().remove("snapshot");
                query["from"] = at.clone();
            }
            // What came of it is not all of it.
            None => self.rows.clear(),
        }
        query
    }

    /// True if it has everything up to there.
    pub(super) fn has_come_to(&self, goal: At) -> bool {
        self.is_live && self.at.as_ref().is_some_and(|at| At::read(at) >= goal)
    }

    fn key_of(&self, row: &Value) -> String {
        let key: Vec<&Value> = self.key.iter().map(|name| &row[name]).collect();
        json!(key).to_string()
    }

    fn change(&mut self, change: &Value) {
        let op = change["op"].as_str().unwrap();
        if op == "truncate" {
            self.rows.clear();
            return;
        }
        let old_key = match &change["key"] {
            Value::Null => self.key_of(&change["row"]),
            key => self.key_of(key),
        };
        let before = self.rows.remove(&old_key);
        assert!(
            !self.is_exact || op == "insert" || before.is_some(),
            "a row that it never saw is mentioned: {change}"
        );
        if op == "delete" {
            return;
        }
        let mut row = change["row"].as_object().unwrap().clone();
        for name in change["unchanged"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap();
            if let Some(value) = before.as_ref().and_then(|before| before.get(name)) {
                row.insert(name.to_owned(), value.clone());
            }
        }
        self.rows.insert(self.key_of(&change["row"]), row);
    }
}

/// Takes a message.
pub(super) fn fold(message: &Value, all: &mut BTreeMap<String, Folded>) {
    let named = message["id"].as_str().map(str::to_owned);
    let position = || message["position"].clone();
    match message["type"].as_str().unwrap() {
        "subscribed" => {
            let folded = all.get_mut(&named.unwrap()).unwrap();
            folded.key = message["key"]
                .as_array()
                .unwrap()
                .iter()
                .map(|name| name.as_str().unwrap().to_owned())
                .collect();
            if folded.query["snapshot"] != true {
                folded.at = Some(position());
            }
        }
        "snapshot" => {
            let folded = all.get_mut(&named.unwrap()).unwrap();
            for row in message["rows"].as_array().unwrap() {
                let key = folded.key_of(row);
                folded.rows.insert(key, row.as_object().unwrap().clone());
            }
        }
        "live" => {
            let folded = all.get_mut(&named.unwrap()).unwrap();
            folded.is_live = true;
            folded.at = Some(position());
        }
        "progress" => {
            for folded in all.values_mut().filter(|folded| folded.is_live) {
                folded.at = Some(position());
            }
        }
        "tx" => {
            for change in message["changes"].as_array().unwrap() {
                let id = change["id"].as_str().or(named.as_deref()).unwrap();
                all.get_mut(id).unwrap().change(change);
            }
            let concerned = all.iter_mut().filter(|(id, folded)| match &named {
                Some(named) => *id == named,
                None => folded.is_live,
            });
            // Between the rows of a snapshot and `live` there is no place to go on from.
            for (_, folded) in concerned.filter(|(_, folded)| folded.at.is_some()) {
                folded.at = Some(position());
            }
        }
        "error" => {
            if let Some(folded) = named.and_then(|id| all.get_mut(&id)) {
                let code = message["code"].as_str().unwrap();
                assert!(ENDINGS.contains(&code), "{message}");
                folded.is_over = true;
                folded.was_altered = code == "schema_changed";
                folded.is_live = false;
            }
        }
        _ => {}
    }
}
