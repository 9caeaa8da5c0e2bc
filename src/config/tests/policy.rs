//! `[[policy]]`.

use super::{AUTH, error, policy, read};

#[test]
fn a_policy_is_for_tables_or_for_messages_and_by_one_rule() {
    for (lines, told) in [
        (
            "roles = ['a']",
            "4:1: [[policy]] needs tables, as in tables = [\"public.orders\"], or messages",
        ),
        (
            "tables = ['a']\nmessages = ['b']",
            "6:12: messages: a policy is for tables or for messages",
        ),
        (
            "messages = ['a']\nwhere = 'b'",
            "6:9: where: a policy for messages has prefixes and roles alone",
        ),
        (
            "messages = ['a']\nrls = true",
            "6:7: rls: a policy for messages has",
        ),
        (
            "messages = ['a']\nops = ['insert']",
            "6:7: ops: a policy for messages has",
        ),
        (
            "messages = ['a']\ncolumns = ['x']",
            "6:11: columns: a policy for messages has",
        ),
        ("messages = ['']", "5:13: messages is empty"),
        ("messages = 'a'", "5:12: messages: write a list"),
        (
            "tables = ['a']\nrls = true\nwhere = 'b'",
            "7:9: where: with rls = true, Postgres' own policies decide",
        ),
        (
            "tables = ['a']\nrls = true\ncolumns = ['b']",
            "7:11: columns: with rls = true",
        ),
        (
            "tables = ['a']\nrls = 'yes'",
            "6:7: rls: write true or false instead of a text",
        ),
        ("tables = ['a']\nwhere = ' '", "6:9: where is empty"),
        (
            "tables = ['a']\nwhere = ['b']",
            "6:9: where: write a text in quotes instead of a list",
        ),
        ("tables = ['a']\nroles = []", "6:9: roles is an empty list"),
        (
            "tables = ['a']\nroles = ['x', 'x']",
            "6:15: roles has \"x\" twice",
        ),
        ("tables = ['a']\nops = []", "6:7: ops is an empty list"),
        (
            "tables = ['a']\nops = ['inserts']",
            "6:8: ops: unknown operation \"inserts\": did you mean insert?",
        ),
        (
            "tables = ['a']\nops = ['select']",
            "6:8: ops: unknown operation \"select\": there are insert, update, delete, truncate",
        ),
        (
            "tables = ['a']\nops = ['all']",
            "6:8: ops: unknown operation \"all\": there are insert, update, delete, truncate",
        ),
        ("tables = ['a']\ncolumns = []", "6:11: columns is an empty list"),
    ] {
        let refused = error(&policy(lines));
        assert!(refused.starts_with(told), "{lines}: {refused}");
    }
    // Off is the same as left out.
    assert!(
        read(&policy(
            "tables = ['a']\nrls = false\nwhere = 'b'\ncolumns = ['c']"
        ))
        .is_ok()
    );
}

#[test]
fn tables_are_named_as_in_sql_and_once() {
    for (name, told) in [
        ("*", "tables: name the schema, as in \"public.*\""),
        ("a.b.*", "tables: write a schema as in \"public.*\""),
        (".*", "tables: write a schema as in \"public.*\""),
        ("a.b.c", "tables: more than a schema and a table"),
        ("a b", "tables: ' ' needs double quotes around its name"),
        ("", "tables is empty"),
    ] {
        let refused = error(&policy(&format!("tables = ['{name}']")));
        assert!(refused.starts_with(&format!("5:11: {told}")), "{name}: {refused}");
    }
    let twice = error(&policy("tables = ['orders', 'public.Orders']"));
    assert_eq!(twice, "5:21: tables has this table twice");
    let twice = error(&policy("tables = ['orders', 'orders']"));
    assert_eq!(twice, "5:21: tables has \"orders\" twice");
}

#[test]
fn policies_without_auth_are_refused_rather_than_forgotten() {
    let refused = error("[[policy]]\ntables = ['a']");
    assert_eq!(
        refused,
        "1:1: policies need [auth]: without it everything that is published is open"
    );
    for text in [
        "[policy]\ntables = ['a']",
        "policy = 5",
        "policy = []",
        "policy = [1]",
    ] {
        let refused = error(&format!("{text}\n{AUTH}"));
        assert!(
            refused.contains("policy is a list of sections: write each as [[policy]]"),
            "{text}: {refused}"
        );
    }
}
