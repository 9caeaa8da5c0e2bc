//! The rows of a [`View`] held against what Postgres says, and against what somebody got who read all of it at once.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{At, Came, UNKNOWN, View, place_in};
use crate::support::Database;

impl View {
    /// Checks that it is the query's result now.
    pub fn assert_is_result(&self, database: &Database) {
        assert_eq!(self.open, None, "{}: a transaction did not end", self.id);
        assert!(self.complete);
        let table = self.query["table"].as_str().unwrap();
        let there = database.sql(&format!(
            "SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND NOT attisdropped"
        ));
        let is_there = |name: &&String| there.iter().any(|row| row.get(0) == Some(name));
        let names: Vec<&String> = self.known.iter().filter(is_there).collect();
        let columns = names.iter().map(|name| format!("\"{name}\""));
        let condition = self.condition();
        let columns = columns.collect::<Vec<_>>().join(", ");
        let select = |source: &str| format!("SELECT {columns} FROM {source} WHERE {condition}");
        let sql = select(self.source.as_deref().unwrap_or(table));
        let expected = self.placed(database, &sql);
        let must_hold = if self.may_lack {
            self.placed(database, &select(table))
        } else {
            BTreeMap::new()
        };
        let held: BTreeMap<&String, Map<String, Value>> = self
            .rows
            .iter()
            .map(|(key, row)| {
                let known = row.iter().filter(|(name, _)| names.contains(name));
                (
                    key,
                    known.map(|(name, value)| (name.clone(), value.clone())).collect(),
                )
            })
            .collect();
        let differs = |key: &&String| match (held.get(*key), expected.get(*key)) {
            // Nobody can tell but the row itself, in Postgres.
            _ if self.open_rows.contains(*key) => false,
            (Some(_), None) => !self.may_keep,
            // Who reads the past is told of columns that its oldest rows did not have.
            (Some(held), Some(expected)) => {
                let is_other =
                    |(name, value): (&String, &Value)| *value != UNKNOWN && expected.get(name) != Some(value);
                let is_whole = self.is_snapshot() && held.len() != expected.len();
                held.is_empty() || is_whole || held.iter().any(is_other)
            }
            (None, Some(_)) => !self.may_lack || must_hold.contains_key(*key),
            (None, None) => false,
        };
        let wrong: Vec<&String> = self.rows.keys().chain(expected.keys()).filter(differs).collect();
        for key in wrong.iter().take(3) {
            eprintln!(
                "{key}: {:?} instead of {:?}, after",
                self.rows.get(*key),
                expected.get(*key)
            );
            for came in self.came.iter().filter(|came| self.concerns(&came.change, key)) {
                eprintln!("    {:X}/{:X} {}", came.end >> 32, came.end as u32, came.change);
            }
        }
        assert!(
            wrong.is_empty(),
            "{} from {:?} (began at {:?}, {} changes since) to {:?}: {} rows differ from {sql}",
            self.query,
            self.start,
            self.begun,
            self.came.len(),
            self.at,
            wrong.len()
        );
    }

    /// True if a change is about the row of a key.
    fn concerns(&self, change: &Value, key: &str) -> bool {
        let rows = ["key", "row", "new_key"].map(|field| change[field].as_object());
        let has_key = |row: &&Map<String, Value>| self.key.iter().all(|name| row.contains_key(name));
        let mut rows = rows.into_iter().flatten().filter(has_key);
        rows.any(|row| self.key_of(row) == key)
    }

    /// The rows of a query, each where a view holds it.
    fn placed(&self, database: &Database, sql: &str) -> BTreeMap<String, Map<String, Value>> {
        let mut placed = BTreeMap::new();
        for row in database.rows(sql) {
            let row = row.as_object().unwrap();
            let place = if self.key.is_empty() {
                place_in(&placed, row)
            } else {
                self.key_of(row)
            };
            placed.insert(place, row.clone());
        }
        placed
    }

    /// Checks that it got exactly what `whole`, of the same query from an earlier start, got after its own start.
    pub fn assert_is_tail_of(&self, whole: &View) {
        let start = self.start.unwrap();
        let after_start = |came: &&Came| {
            let at = At {
                end: came.end,
                seq: came.seq,
            };
            at > start
        };
        let until = self.at.unwrap();
        let expected: Vec<&Came> = whole
            .came
            .iter()
            .filter(after_start)
            .filter(|came| came.end <= until.end)
            .collect();
        let id = &self.id;
        if self.may_know_less {
            return self.assert_agrees_with(&expected);
        }
        for (index, (came, expected)) in self.came.iter().zip(&expected).enumerate() {
            assert_eq!(
                (came.end, came.seq),
                (expected.end, expected.seq),
                "{id}: change {index} since {start}: {} instead of {}",
                came.change,
                expected.change
            );
            assert_eq!(came.change, expected.change, "{id}: change {index} since {start}");
        }
        assert_eq!(self.came.len(), expected.len(), "{id}: changes since {start}");
    }

    /// Checks that it got what another view of the query did, as far as what is known of old rows does not decide it.
    fn assert_agrees_with(&self, others: &[&Came]) {
        let id = &self.id;
        let by_place = |came: &[&Came]| -> BTreeMap<(u64, u64), Value> {
            let places = came
                .iter()
                .map(|came| ((came.end, came.seq), came.change.clone()));
            places.collect()
        };
        let own = by_place(&self.came.iter().collect::<Vec<_>>());
        let others = by_place(others);
        let is_open = |change: &Value| {
            change["undecided"] == true || change["op"] == "delete" && change["cause"] == "update"
        };
        for place in own.keys().chain(others.keys()) {
            let (Some(change), Some(other)) = (own.get(place), others.get(place)) else {
                let alone = own.get(place).or(others.get(place)).unwrap();
                assert!(is_open(alone), "{id}: {alone} came to one only");
                continue;
            };
            if is_open(change) || is_open(other) {
                continue;
            }
            if let (Some(old), Some(of_other)) = (change["old"].as_object(), other["old"].as_object()) {
                for (name, value) in old {
                    let same = of_other.get(name).is_none_or(|known| known == value);
                    assert!(same, "{id}: {change} instead of {other}");
                }
            }
            if change["op"] != other["op"] {
                // Where the old row does not tell, what comes into the result may have been there.
                let comes = |change: &Value| ["insert", "update"].contains(&change["op"].as_str().unwrap());
                assert!(comes(change) && comes(other), "{id}: {change} instead of {other}");
                continue;
            }
            let but_old = |change: &Value| {
                let mut change = change.clone();
                change.as_object_mut().unwrap().remove("old");
                change
            };
            assert_eq!(but_old(change), but_old(other), "{id}");
        }
    }
}
