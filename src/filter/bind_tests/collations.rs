//! Comparisons of texts, by the collation that they need.

use super::*;
use crate::types::CollationQuestion;

#[test]
fn texts_are_ordered_by_code_points_with_collate_c_whatever_their_collation_is() {
    // Beyond the BMP, and the last of it: UTF-16 has them the other way round.
    let private = "\u{ffff}";
    let astral = "\u{10000}";
    for column in ["name", "fold", "code", "library"] {
        let holds = |condition: &str, value: &str| {
            let text = format!("{column} COLLATE \"C\" {condition}");
            matches(&text, &[(column, value), ("name", value), ("id", "7")])
        };
        assert!(holds(&format!("< '{astral}'"), private) && !holds(&format!("< '{private}'"), astral));
        assert!(holds("< 'a'", "Z") && holds("BETWEEN '' AND 'a'", "") && holds("> 'a'", "a "));
        assert!(
            holds("= 'é'", "é")
                && !holds("= 'É'", "é")
                && holds("ILIKE 'aé%'", "Aéx")
                && !holds("ILIKE 'É'", "é")
        );
        assert!(
            holds(">= name", "x") && !holds("< name", "x"),
            "it outweighs the other's"
        );
        assert!(holds("IS NOT NULL", "x"));
    }
    assert!(matches(
        "(doc ->> 'a') COLLATE \"C\" < 'a'",
        &[("doc", "{\"a\": \"Z\"}")]
    ));
    assert!(matches(
        "tags COLLATE pg_catalog.\"C\" < '{a}'",
        &[("tags", "{Z}")]
    ));
    assert!(!matches("(id::text) COLLATE \"C\" > '9'", &[("id", "10")]));
}

#[test]
fn what_the_server_was_not_asked_yet_is_said_where_a_predicate_needs_it() {
    let unasked = |text: &str| bind(text, &[]).unwrap_err().collation_question();
    let letters = Some(CollationQuestion::Letters("never asked".into()));
    for text in [
        "unasked = 'x'",
        "unasked = unasked",
        "id = 7 OR unasked LIKE 'x'",
        "lower(unasked) = 'x'",
    ] {
        assert_eq!(unasked(text), letters, "{text}");
    }
    assert_eq!(unasked("library >= 'x'"), Some(CollationQuestion::Order));
    for text in [
        "name ILIKE 'x'",
        "name < 'x'",
        "fold = 'x'",
        "lower(name) = 'x'",
        "id = 'x'",
    ] {
        assert_eq!(unasked(text), None, "{text}");
    }
    assert!(bind("library = 'x' AND unasked::text = 'x' AND unasked IS NULL", &[]).is_ok());
}

#[test]
fn citext_compares_in_lower_case_and_as_text_with_text() {
    let row = [("nick", "Ann"), ("name", "ann"), ("nicks", "{BOB,Ann}")];
    for text in [
        "nick = 'aNN'",
        "nick IN ('x', 'ANN')",
        "nick LIKE 'A_N'",
        "nick < 'ANNA'",
        "nick IS NOT DISTINCT FROM 'ANN'",
        "nick = ANY ('{ANN}')",
        "'bob' = ANY (nicks)",
        "nick = ANY (nicks)",
        "nicks && '{bob}'",
        "nicks = '{bob,ann}'",
        "nick::text = 'Ann'",
        "nick IN ('Ann'::text, 'x')",
    ] {
        assert!(matches(text, &row), "{text}");
    }
    for text in [
        "nick <> 'ANN'",
        "nick = 'ANN'::text",
        "nick = name",
        "nick IN ('ANN'::text, 'ann')",
        "nick::text LIKE 'ANN'",
        "nick = ANY ('{ANN}'::text[])",
    ] {
        assert!(!matches(text, &row), "{text}");
    }
    assert_eq!(
        bind("nick = 'ANN'", &[]),
        bind("nick = 'ann'", &[]),
        "they can share a matcher"
    );
    assert_eq!(verdict("nick = $1", &[json!("ANN")], &row), Verdict::Matches);
}

#[test]
fn names_fold_as_sql_folds_them() {
    for text in [
        "ID = 7",
        "\"id\" = 7",
        "t.Id = 7",
        "T.id = 7",
        "public.t.id = 7",
        "id=7",
    ] {
        assert!(matches(text, &[("id", "7")]), "{text}");
    }
    assert!(matches("\"Odd\" = 7", &[("Odd", "7")]));
    for (text, name, offset) in [
        ("id = 1 AND Odd = 7", "odd", 11),
        ("\"ID\" = 1", "ID", 0),
        ("u.id = 1", "u.id", 0),
        ("é.id = 1 OR x", "é.id", 0),
        ("ctid = 'x'", "ctid", 0),
    ] {
        let name = name.to_owned();
        match bind(text, &[]) {
            Err(Error::UnknownColumn {
                name: found,
                offset: at,
                ..
            }) => assert_eq!((found, at), (name, offset), "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}
