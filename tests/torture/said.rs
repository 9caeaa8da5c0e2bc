//! Messages of transactions and savepoints, some of them rolled back, in transactions that are sent while they run.
//!
//! Each message that is to stay comes with a row which says the same and shares its fate: what a client hears under the
//! prefix is what the table holds, and each message stands right before its row.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::json;

use crate::support::{Database, Follower, View};

pub(crate) const SCHEMA: &str = "
    CREATE TABLE said (n bigint PRIMARY KEY);
    CREATE SEQUENCE said_n;
    CREATE PUBLICATION said FOR TABLE said;
";
/// The prefix that clients hear.
pub(crate) const PREFIX: &str = "app";

/// Something said, or taken back.
pub(crate) fn statement(rng: &mut Rng) -> String {
    let say = format!(
        "SELECT pg_logical_emit_message(true, '{PREFIX}', 'said ' || nextval('said_n')); INSERT INTO said VALUES (currval('said_n'))"
    );
    let aborted = format!("SELECT pg_logical_emit_message(true, '{PREFIX}', 'ABORTED')");
    // So much that the server sends what it has: of a prefix that nobody reads, or rows.
    let more = match rng.u32(0..3) {
        0 => "SELECT pg_logical_emit_message(true, 'other', repeat('not this', 12000))".to_owned(),
        1 => "INSERT INTO item SELECT nextval('item_id'), 3, 'sent', g, g, now(), repeat('n', 400) \
              FROM generate_series(1, 200) g"
            .to_owned(),
        _ => "SELECT 1".to_owned(),
    };
    let taken_back = match rng.u32(0..4) {
        0 => format!("{aborted}; {more}"),
        1 => format!("{aborted}; SAVEPOINT inner; {aborted}; RELEASE inner; {more}"),
        2 => format!("{more}; SAVEPOINT inner; {aborted}; ROLLBACK TO inner; {aborted}"),
        _ => format!(
            "{aborted}; INSERT INTO item (id, owner, note) VALUES (nextval('item_id'), 1, 'ABORTED'); {more}"
        ),
    };
    let taken_back = format!("SAVEPOINT outer_one; {taken_back}; ROLLBACK TO outer_one");
    match rng.u32(0..6) {
        0 => say,
        1 => format!("{taken_back}; {say}"),
        2 => format!("{more}; {taken_back}; {say}; {more}"),
        3 => format!("SAVEPOINT kept; {say}; {more}; RELEASE kept; {taken_back}"),
        4 => format!("{say}; {taken_back}; {more}; SAVEPOINT kept; {say}"),
        _ => format!("{taken_back}; SAVEPOINT kept; {say}; {taken_back}; {more}"),
    }
}

/// A view of the messages and one of the rows, for one client.
pub(crate) fn views(number: usize, from: &serde_json::Value, epoch: &serde_json::Value) -> Vec<View> {
    let heard = json!({"id": format!("heard{number}"), "messages": PREFIX});
    let rows = json!({"id": format!("rows{number}"), "table": "said"});
    let is_whole = !from.is_null();
    [heard, rows]
        .into_iter()
        .map(|query| {
            if is_whole {
                View::new(query, from.clone(), true).in_epoch(epoch)
            } else if query["table"].is_null() {
                View::new(query, from.clone(), false)
            } else {
                let mut query = query;
                query["snapshot"] = json!(true);
                View::new(query, from.clone(), true)
            }
        })
        .collect()
}

/// Checks that a client heard what is there, and nothing else.
pub(crate) fn judge(follower: &Follower, database: &Database) {
    let Some(heard) = follower.views.iter().find(|view| view.table().is_none()) else {
        return;
    };
    let contents = |view: &View| -> BTreeMap<(u64, u64), String> {
        let said = view.came.iter().map(|came| {
            let content = match came.change["content"].as_str() {
                Some(content) => content.to_owned(),
                None => format!("said {}", came.change["row"]["n"]),
            };
            ((came.end, came.seq), content)
        });
        said.collect()
    };
    let messages = contents(heard);
    if heard.is_complete() {
        let mut found: Vec<&str> = messages.values().map(String::as_str).collect();
        let there = database.sql("SELECT 'said ' || n FROM said");
        let mut there: Vec<&str> = there.iter().filter_map(|row| row.get(0)).collect();
        found.sort_unstable();
        there.sort_unstable();
        assert_eq!(found, there, "{}: what was heard is not what is there", heard.id);
    }
    let rows = follower
        .views
        .iter()
        .find(|view| view.table() == Some("said"))
        .unwrap();
    let since = heard.start.max(rows.start).unwrap();
    let is_news = |&(&(end, _), _): &(&(u64, u64), &String)| end > since.end;
    let rows = contents(rows);
    let rows = rows.iter().filter(is_news);
    let before_rows: BTreeMap<(u64, u64), &String> = rows
        .map(|(&(end, seq), content)| ((end, seq - 1), content))
        .collect();
    let messages: BTreeMap<(u64, u64), &String> = messages
        .iter()
        .filter(is_news)
        .map(|(place, content)| (*place, content))
        .collect();
    assert_eq!(
        messages, before_rows,
        "{}: messages and their rows since {since}",
        heard.id
    );
}
