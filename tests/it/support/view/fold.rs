//! The effect of a change on the rows that a [`View`] holds.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{UNKNOWN, View, place_in};

/// A row as it is held: with what did not change from `old`.
fn filled(row: &Map<String, Value>, change: &Value, old: Option<&Map<String, Value>>) -> Map<String, Value> {
    let mut row = row.clone();
    for column in change["unchanged"].as_array().into_iter().flatten() {
        let name = column.as_str().unwrap();
        let held = old.map_or_else(|| json!(UNKNOWN), |old| old[name].clone());
        row.insert(name.to_owned(), held);
    }
    row
}

impl View {
    /// Folds a change, strictly as the protocol says.
    pub(super) fn fold(&mut self, change: &Value) {
        let row = change["row"].as_object();
        match change["op"].as_str().unwrap() {
            "insert" => {
                let row = row.unwrap();
                assert!(
                    change.get("unchanged").is_none() || change["cause"] == "update",
                    "{change}"
                );
                assert!(change.get("undecided").is_none(), "{change}");
                let place = self.place_of(row);
                self.open_rows.remove(&place);
                let was = self.rows.insert(place, filled(row, change, None));
                assert!(
                    !self.is_told_once() || was.is_none(),
                    "{}: inserted twice: {change}",
                    self.id
                );
            }
            "update" => self.update(row.unwrap(), change),
            "delete" => {
                assert!(row.is_none(), "{change}");
                let was = self.old_place(change).and_then(|place| {
                    self.open_rows.remove(&place);
                    self.rows.remove(&place)
                });
                assert!(
                    !self.is_told_of_its_own() || was.is_some(),
                    "{}: not held: {change}",
                    self.id
                );
            }
            "truncate" => {
                let fields: Vec<&String> = change.as_object().unwrap().keys().collect();
                assert_eq!(fields, ["id", "op", "seq"], "{change}");
                self.rows.clear();
                self.open_rows.clear();
            }
            // Of these nothing is held but that they came.
            "message" => assert!(self.table().is_none(), "{change}"),
            other => panic!("{other}: {change}"),
        }
    }

    fn update(&mut self, row: &Map<String, Value>, change: &Value) {
        let changed_key = change["key"].as_object();
        assert!(
            changed_key.is_none_or(|key| self.key_of(key) != self.key_of(row)),
            "a key that did not change: {change}"
        );
        let undecided = change.get("undecided").is_some();
        let as_before = change.get("as_before").is_some();
        assert!(undecided || !as_before, "{change}");
        assert!(!(self.decided && undecided), "{change}");
        let old_place = self.old_place(change);
        let was_open = old_place
            .as_ref()
            .is_some_and(|place| self.open_rows.remove(place));
        let old = old_place.and_then(|place| self.rows.remove(&place));
        if as_before && old.is_none() {
            return;
        }
        assert!(
            !self.is_told_of_its_own() || old.is_some(),
            "{}: not held: {change}",
            self.id
        );
        if let (Some(said), Some(held), true) = (change.get("old"), &old, self.is_told_of_its_own()) {
            // Columns may have come and gone since.
            let said = said.as_object().unwrap();
            let known = said.iter().filter(|(name, _)| held.contains_key(*name));
            let known: Vec<_> = known.collect();
            assert!(!known.is_empty() && said.keys().eq(row.keys()), "{change}");
            for (name, value) in known {
                assert_eq!(
                    Some(value),
                    held.get(name),
                    "{}: another old row: {change}",
                    self.id
                );
            }
        }
        let place = self.place_of(row);
        if undecided && (was_open || !as_before) {
            self.open_rows.insert(place.clone())
        } else {
            self.open_rows.remove(&place)
        };
        // One that left without a word may have changed before it came back.
        let old = old.filter(|_| !self.may_keep || change.get("old").is_some());
        let there = self.rows.insert(place, filled(row, change, old.as_ref()));
        assert!(
            !self.is_told_once() || there.is_none(),
            "{}: two rows of a key: {change}",
            self.id
        );
    }

    /// The place of the row that a change is of, as it was before.
    fn old_place(&self, change: &Value) -> Option<String> {
        if self.key.is_empty() {
            // One of those that are equal to it is as good as another.
            let old = serde_json::to_string(&change["old"].as_object().unwrap()).unwrap();
            let (place, _) = self.rows.range(..format!("{old}~")).next_back()?;
            return place.starts_with(&old).then(|| place.clone());
        }
        let key = change["key"].as_object().or(change["row"].as_object());
        Some(self.key_of(key.unwrap()))
    }

    /// The place of a row: under its key, or, in a table without one, under all of its values and its number among
    /// equal rows.
    pub(super) fn place_of(&self, row: &Map<String, Value>) -> String {
        if !self.key.is_empty() {
            return self.key_of(row);
        }
        place_in(&self.rows, row)
    }

    pub(super) fn key_of(&self, row: &Map<String, Value>) -> String {
        let key: Vec<&Value> = self.key.iter().map(|name| &row[name]).collect();
        serde_json::to_string(&key).unwrap()
    }
}
