//! Postgres, asked for what policies admit.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use walcast::postgres::Connection;

use super::client::Seen;
use super::fold::Folded;
use super::policies::Admitted;
use super::{Ground, TABLES, Totals, role_of};

/// All columns that there may be, but those of keys.
pub(super) const COLUMNS: [&str; 10] = [
    "level", "owner", "title", "body", "sealed", "extra", "topic", "notes", "content", "tenant",
];

/// Checks that a connection received nothing that no policy of its time admitted by its claims.
///
/// # Errors
/// It did.
pub(super) fn judge(ground: &Ground, database: &mut Connection, seen: &Seen) -> Result<(), String> {
    let sets = ground.sets.lock().unwrap()[seen.sets.0..=seen.sets.1].to_vec();
    let mut leaked: BTreeSet<&str> = seen.markers.keys().map(String::as_str).collect();
    let mut unknown: BTreeSet<&str> = seen.columns.iter().map(String::as_str).collect();
    let judged = sets
        .iter()
        .rev()
        .flat_map(|set| seen.claims.iter().rev().map(move |claims| (set, claims)));
    for (set, claims) in judged {
        for admitted in TABLES.iter().flat_map(|table| set.of(table, role_of(claims))) {
            unknown.retain(|name| !admitted.shows(name));
            if leaked.is_empty() {
                continue;
            }
            let visible: Vec<&str> = COLUMNS.into_iter().filter(|name| admitted.shows(name)).collect();
            let markers: Vec<&str> = leaked.iter().copied().collect();
            let sql = format!(
                "SELECT DISTINCT versions_marker \
                 FROM versions, jsonb_populate_record(NULL::{table}_then, versions_row) \
                 WHERE versions_marker = ANY ('{{{}}}') AND versions_of = '{table}' \
                     AND versions_column = ANY ('{{{}}}') AND ({})",
                markers.join(","),
                visible.join(","),
                admitted.sql(claims),
                table = admitted.table,
            );
            for row in database.query(&sql).unwrap() {
                leaked.remove(row.get(0).unwrap());
            }
        }
    }
    let Some(first) = leaked.first() else {
        if unknown.is_empty() {
            return Ok(());
        }
        return Err(format!(
            "{:?} heard of the columns {unknown:?} under {sets:?}",
            seen.claims
        ));
    };
    let versions = format!("SELECT to_json(v)::text FROM versions v WHERE versions_marker = '{first}'");
    let versions = database.query(&versions).unwrap();
    let versions: Vec<&str> = versions.iter().filter_map(|row| row.get(0)).collect();
    Err(format!(
        "{:?} received {leaked:?} under {sets:?}\n{first} came in {}\nand was in {versions:?}",
        seen.claims, seen.markers[*first]
    ))
}

/// Checks that what a subscription holds is what Postgres selects under the policies, unless these do not tell of all
/// changes.
pub(super) fn compare(
    ground: &Ground,
    database: &mut Connection,
    claims: &Value,
    folded: &Folded,
    totals: &mut Totals,
) {
    let set = ground.sets.lock().unwrap().last().unwrap().clone();
    let policies = set.of(folded.table, role_of(claims));
    if policies.iter().any(|policy| !policy.is_whole) {
        return;
    }
    let sql = format!(
        "SELECT row_to_json(t)::text FROM {} t WHERE {}",
        folded.table,
        folded.predicate.unwrap_or("true")
    );
    let whole = keyed(database, &sql, folded.table);
    let has_extra = !whole.is_empty() && whole.values().all(|row| row.contains_key("extra"));
    let named = folded
        .predicate
        .map(|predicate| predicate.split(' ').next().unwrap());
    // The columns of each row that some policy shows.
    let mut visible: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for policy in &policies {
        for (key, row) in admitted(database, policy, claims) {
            visible.entry(key).or_default().extend(row.keys().cloned());
        }
    }
    let mut expected: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (key, mut row) in whole {
        let Some(columns) = visible.get(&key) else {
            continue;
        };
        if named.is_none_or(|named| columns.contains(named)) {
            row.retain(|name, _| columns.contains(name));
            expected.insert(key, row);
        }
    }
    // A long value that an update left as it was may never have come.
    for (key, row) in &mut expected {
        if let Some(held) = folded.rows.get(key).filter(|_| folded.table == "room") {
            row.retain(|name, value| {
                held.contains_key(name) || value.as_str().is_none_or(|text| text.len() < 100)
            });
        }
    }
    // A row that came before the column did, or before it went, has the shape of then.
    let mut held = folded.rows.clone();
    for row in held.values_mut().chain(expected.values_mut()) {
        row.retain(|name, value| name != "extra" || has_extra && !value.is_null());
    }
    assert_eq!(held, expected, "{folded:?} of {claims} under {policies:?}");
    totals.compared += 1;
    totals.compared_by_database += usize::from(policies.iter().any(|policy| policy.is_by_database));
    totals.rows += held.len();
}

/// The rows that a policy admits, each with the columns that it shows: where the database's own policies decide, those
/// that a session with the role and the claims may select.
fn admitted(
    database: &mut Connection,
    policy: &Admitted,
    claims: &Value,
) -> BTreeMap<String, Map<String, Value>> {
    let table = policy.table;
    let columns = match &policy.columns {
        None => "*".to_owned(),
        Some(columns) => columns.iter().copied().collect::<Vec<_>>().join(", "),
    };
    if !policy.is_by_database {
        let sql = format!(
            "SELECT row_to_json(t)::text FROM (SELECT {columns} FROM {table} WHERE ({}) IS TRUE) t",
            policy.sql(claims)
        );
        return keyed(database, &sql, table);
    }
    let begin = format!(
        "BEGIN; SELECT set_config('request.jwt.claims', '{claims}', true); SET LOCAL ROLE {}",
        claims["role"].as_str().unwrap()
    );
    database.query(&begin).unwrap();
    let sql = format!("SELECT row_to_json(t)::text FROM (SELECT {columns} FROM {table}) t");
    let rows = keyed(database, &sql, table);
    database.query("ROLLBACK").unwrap();
    rows
}

/// Rows as JSON, by their keys.
fn keyed(database: &mut Connection, sql: &str, table: &str) -> BTreeMap<String, Map<String, Value>> {
    let rows = database.query(sql).unwrap().into_iter().map(|row| {
        let row: Map<String, Value> = serde_json::from_str(row.get(0).unwrap()).unwrap();
        let key = match table {
            "doc" => serde_json::json!([row["id"]]),
            _ => serde_json::json!([row["tenant"], row["id"]]),
        };
        (key.to_string(), row)
    });
    rows.collect()
}
