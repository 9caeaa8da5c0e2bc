//! No statement is printed or documented that no test runs: those found in the sources and in the documentation are
//! these.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The beginnings of statements that we tell people to run. What we run ourselves has its functions' names qualified.
const BEGINNINGS: [&str; 13] = [
    "ALTER DATABASE ",
    "ALTER PUBLICATION ",
    "ALTER ROLE ",
    "ALTER SYSTEM ",
    "ALTER TABLE ",
    "CREATE PUBLICATION ",
    "CREATE UNIQUE INDEX ",
    "DO $cure$",
    "DROP PUBLICATION ",
    "GRANT ",
    "ROLLBACK PREPARED ",
    "SET LOCAL synchronous_commit = local",
    "SELECT pg_",
];

/// The statements, as [`heads`] has them, each with a test that runs it where it is said.
const RUN_BY: &[(&str, &str)] = &[
    (
        "ALTER DATABASE _ CONNECTION LIMIT -1",
        "a_role_that_is_not_let_in_is_once_what_is_said_is_run",
    ),
    (
        "ALTER DATABASE _ SET",
        "the_administrators_bound_on_statements_holds_for_snapshots",
    ),
    (
        "ALTER PUBLICATION %1$I ADD TABLE %2$s%3$s",
        "column_lists_and_row_filters_are_given_up_as_check_says_and_other_tables_stay",
    ),
    (
        "ALTER PUBLICATION %1$I DROP TABLE %2$s",
        "column_lists_and_row_filters_are_given_up_as_check_says_and_other_tables_stay",
    ),
    (
        "ALTER PUBLICATION _ ADD TABLE _",
        "a_publication_without_tables_is_given_one_as_check_says",
    ),
    (
        "ALTER PUBLICATION _ SET",
        "a_publication_of_some_operations_is_completed_and_the_application_goes_on_writing",
    ),
    (
        "ALTER ROLE _ BYPASSRLS",
        "what_the_role_may_not_read_is_refused_with_what_mends_it",
    ),
    (
        "ALTER ROLE _ CONNECTION LIMIT -1",
        "a_role_that_is_not_let_in_is_once_what_is_said_is_run",
    ),
    (
        "ALTER ROLE _ LOGIN",
        "a_role_that_is_not_let_in_is_once_what_is_said_is_run",
    ),
    (
        "ALTER ROLE _ REPLICATION",
        "a_role_that_loses_its_right_to_replication_is_given_it_back",
    ),
    (
        "ALTER ROLE _ SET",
        "a_role_that_is_read_only_by_default_may_create_what_serve_creates",
    ),
    (
        "ALTER SYSTEM SET idle_replication_slot_timeout = 0",
        "a_slot_that_is_given_up_when_walcast_is_away_is_warned_of",
    ),
    (
        "ALTER SYSTEM SET max_replication_slots = _",
        "settings_are_changed_as_check_says_and_serve_would_work",
    ),
    (
        "ALTER SYSTEM SET max_wal_senders = 20",
        "settings_are_changed_as_check_says_and_serve_would_work",
    ),
    (
        "ALTER SYSTEM SET output_plugin_libraries = _",
        "a_server_without_the_plugin_is_found",
    ),
    (
        "ALTER SYSTEM SET synchronized_standby_slots =",
        "standbys_that_the_slot_waits_for_in_vain_are_found_and_waited_for_no_more",
    ),
    (
        "ALTER SYSTEM SET synchronous_standby_names =",
        "commits_do_not_wait_for_walcast_once_what_check_says_is_run",
    ),
    (
        "ALTER SYSTEM SET wal_level = logical",
        "settings_are_changed_as_check_says_and_serve_would_work",
    ),
    (
        "ALTER TABLE %s REPLICA IDENTITY FULL",
        "the_cure_for_old_rows_leaves_the_application_writing_and_is_one",
    ),
    (
        "ALTER TABLE _ ADD PRIMARY KEY",
        "tables_are_logged_and_given_keys_as_check_says",
    ),
    (
        "ALTER TABLE _ REPLICA IDENTITY DEFAULT",
        "what_check_says_of_writes_that_fail_is_so_and_its_cure_has_them_work",
    ),
    (
        "ALTER TABLE _ REPLICA IDENTITY DEFAULT, ADD PRIMARY KEY",
        "a_table_with_virtual_columns_is_given_a_key_as_check_says",
    ),
    (
        "ALTER TABLE _ REPLICA IDENTITY FULL",
        "the_cure_for_old_rows_leaves_the_application_writing_and_is_one",
    ),
    (
        "ALTER TABLE _ REPLICA IDENTITY USING INDEX _",
        "the_cure_for_old_rows_leaves_the_application_writing_and_is_one",
    ),
    (
        "ALTER TABLE _ SET LOGGED",
        "tables_are_logged_and_given_keys_as_check_says",
    ),
    (
        "ALTER TABLE root REPLICA IDENTITY FULL",
        "check_tells_of_what_subscriptions_are_refused_for_and_of_rows_that_never_come",
    ),
    (
        "CREATE PUBLICATION _ FOR ALL TABLES WITH",
        "a_publication_that_is_missing_is_made_as_check_says_and_the_application_goes_on_writing",
    ),
    (
        "CREATE PUBLICATION _ FOR TABLE _",
        "a_publication_that_is_missing_is_made_as_check_says_and_the_application_goes_on_writing",
    ),
    (
        "CREATE UNIQUE INDEX _ ON _",
        "the_cure_for_old_rows_leaves_the_application_writing_and_is_one",
    ),
    (
        "DO $cure$ DECLARE t regclass",
        "the_cure_for_old_rows_leaves_the_application_writing_and_is_one",
    ),
    (
        "GRANT CONNECT ON DATABASE _ TO _",
        "a_role_that_is_not_let_in_is_once_what_is_said_is_run",
    ),
    (
        "GRANT SELECT",
        "what_the_role_may_not_read_is_refused_with_what_mends_it",
    ),
    (
        "GRANT SELECT ON _ TO _",
        "what_the_role_may_not_read_is_refused_with_what_mends_it",
    ),
    (
        "GRANT USAGE ON SCHEMA _ TO _",
        "what_the_role_may_not_read_is_refused_with_what_mends_it",
    ),
    (
        "GRANT pg_monitor TO walcast",
        "a_role_that_sees_no_transactions_of_others_sees_them_once_it_may",
    ),
    (
        "ROLLBACK PREPARED _",
        "a_first_slot_that_waits_for_a_prepared_transaction_says_so",
    ),
    (
        "SELECT pg_cancel_backend",
        "where_the_server_cannot_decode_a_commit_that_waits_it_is_said_who_holds_it_up",
    ),
    (
        "SELECT pg_create_logical_replication_slot",
        "a_slot_that_is_gone_is_made_by_the_statement_that_serve_prints",
    ),
    (
        "SELECT pg_current_wal_insert_lsn",
        "a_client_holds_its_own_write_once_its_position_is_the_insert_position",
    ),
    (
        "SELECT pg_drop_replication_slot",
        "a_slot_is_made_freed_and_dropped_as_check_says",
    ),
    (
        "SELECT pg_log_standby_snapshot",
        "a_slot_on_a_standby_is_there_once_the_primary_has_said_what_runs",
    ),
    (
        "SELECT pg_reload_conf",
        "commits_do_not_wait_for_walcast_once_what_check_says_is_run",
    ),
    (
        "SELECT pg_replication_slot_advance",
        "a_row_that_the_server_cannot_decode_is_said_with_the_way_out",
    ),
    (
        "SELECT pg_terminate_backend",
        "a_role_that_sees_no_transactions_of_others_sees_them_once_it_may",
    ),
    (
        "SET LOCAL synchronous_commit = local",
        "a_composite_type_is_altered_as_the_page_says_where_commits_wait_for_walcast",
    ),
];

/// Statements for servers that no test has.
const ELSEWHERE: [&str; 4] = [
    "ALTER ROLE walcast REPLICATION LOGIN",
    "GRANT rds_replication",
    "GRANT rds_replication TO _",
    "GRANT rds_replication TO walcast",
];

/// The beginnings of the statements in a text, up to what differs: `ALTER ROLE _ BYPASSRLS`.
fn heads(text: &str) -> Vec<String> {
    let begin = |beginning: &&str| {
        text.match_indices(*beginning)
            .map(|(at, _)| at)
            .collect::<Vec<_>>()
    };
    let starts = BEGINNINGS.iter().flat_map(begin);
    let heads = starts.filter(|at| !text[..*at].ends_with(|before: char| before.is_alphanumeric()));
    heads
        .map(|at| {
            let statement = &text[at..];
            let end = statement.find([';', '"', '\'', '(', '\n', '`', '\\']);
            let mut head = String::new();
            let mut depth = 0;
            for c in statement[..end.unwrap_or(statement.len())].chars() {
                match c {
                    '{' => depth += 1,
                    '}' => {
                        depth -= 1;
                        head.push('_');
                    }
                    '…' => head.push('_'),
                    c if depth == 0 => head.push(c),
                    _ => {}
                }
            }
            head.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .filter(|head| !head.starts_with("SELECT pg_catalog."))
        .collect()
}

/// The files below a directory.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            files.push(path);
        }
    }
    files
}

/// A source without its tests and comments, its strings on one line each.
fn strings(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut text = String::new();
    for line in lines {
        match line.strip_suffix('\\') {
            Some(line) => text.push_str(line.trim_start()),
            None => {
                text.push_str(line.trim_start());
                text.push('\n');
            }
        }
    }
    // A line that is begun in a string begins a statement.
    text.replace("\\n", "\n")
}

#[test]
fn every_statement_that_is_printed_or_documented_is_run_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    let sources = files(&root.join("src"), ".rs").into_iter();
    for path in sources.filter(|path| !path.to_str().unwrap().contains("_tests")) {
        for head in heads(&strings(&fs::read_to_string(&path).unwrap())) {
            found.entry(head).or_insert(path.clone());
        }
    }
    let mut pages = files(&root.join("docs"), ".md");
    pages.push(root.join("README.md"));
    for path in pages {
        // A statement may go on in the next line.
        for head in heads(&fs::read_to_string(&path).unwrap().replace('\n', " ")) {
            found.entry(head).or_insert(path.clone());
        }
    }
    let unknown: Vec<_> = found
        .iter()
        .filter(|(head, _)| !ELSEWHERE.contains(&head.as_str()))
        .filter(|(head, _)| !RUN_BY.iter().any(|(known, _)| known == head))
        .collect();
    assert!(
        unknown.is_empty(),
        "write a test that runs each of these where it is said, and then writes, and name it in RUN_BY: {unknown:#?}"
    );
    let tests = files(&root.join("tests"), ".rs");
    let tests: String = tests
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for (head, test) in RUN_BY {
        assert!(found.contains_key(*head), "it is not said any more: {head}");
        assert!(tests.contains(&format!("fn {test}(")), "there is no test {test}");
    }
}
