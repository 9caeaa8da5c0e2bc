//! Whole files: what is understood, and each mistake with its place and its words.

mod auth;
mod named_source;
mod policy;

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::auth::{Algorithm, JwksAddress};
use crate::event::Ops;
use crate::event::TableName;

fn flag(key: &str, kind: Kind, is_list: bool) -> Flag {
    Flag {
        key: key.to_owned(),
        kind,
        is_list,
        is_secret: key == "database_url",
        is_of_source: matches!(key, "retention_bytes" | "data_dir" | "database_url"),
    }
}

fn flags() -> Vec<Flag> {
    vec![
        flag("listen", Kind::Text, false),
        flag("allow_origin", Kind::Text, true),
        flag("max_connections", Kind::Number, false),
        flag("retention_bytes", Kind::Size, false),
        flag("insecure", Kind::Switch, false),
        flag("data_dir", Kind::Path, false),
        flag("database_url", Kind::Text, false),
    ]
}

fn read(text: &str) -> Result<File, Errors> {
    super::read(Path::new("/etc/walcast/w.toml"), text, &flags(), |flag, text| {
        if flag.key == "listen" && !text.contains(':') {
            return Err("write an address and a port".into());
        }
        Ok(())
    })
}

/// The errors of a file, without its path.
fn wrong(text: &str) -> Vec<String> {
    let errors = read(text).expect_err(text).to_string();
    let lines = errors.lines().map(|line| {
        let line = line.strip_prefix("/etc/walcast/w.toml:").expect(line);
        line.to_owned()
    });
    lines.collect()
}

/// The one error of a file.
fn error(text: &str) -> String {
    let mut errors = wrong(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

const AUTH: &str = "[auth]\nalgorithms = [\"HS256\"]\nsecret_env = \"SECRET\"\n";

fn auth(line: &str) -> String {
    format!("{AUTH}{line}\n")
}

/// A policy on lines 4 and following.
fn policy(lines: &str) -> String {
    format!("{AUTH}[[policy]]\n{lines}\n")
}

#[test]
fn an_empty_file_says_nothing() {
    let file = read("").unwrap();
    assert!(file.values.is_empty());
    assert!(file.access.auth.is_none() && file.access.policies.is_empty());
}

#[test]
fn values_of_flags_are_what_the_command_line_would_have() {
    let file = read(
        "listen = \"0.0.0.0:8443\"\nallow_origin = [\"https://a.example\", 'a,\"b']\nmax_connections = 5_000\n\
         retention_bytes = 0x400\ninsecure = true\ndata_dir = \"data\"\n",
    )
    .unwrap();
    let texts: Vec<(&str, Vec<&str>)> = file
        .values
        .iter()
        .map(|value| (&*value.key, value.texts.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(
        texts,
        [
            ("listen", vec!["0.0.0.0:8443"]),
            ("allow_origin", vec!["https://a.example", "\"a,\"\"b\""]),
            ("max_connections", vec!["5000"]),
            ("retention_bytes", vec!["1024"]),
            ("insecure", vec!["true"]),
            ("data_dir", vec!["/etc/walcast/data"]),
        ]
    );
    let absolute = read("data_dir = '/data'\nretention_bytes = \"1GiB\"\nallow_origin = \"a,b\"").unwrap();
    assert_eq!(absolute.texts("data_dir").unwrap(), ["/data"]);
    assert_eq!(absolute.texts("retention_bytes").unwrap(), ["1GiB"]);
    assert_eq!(absolute.texts("allow_origin").unwrap(), ["a,b"]);
    assert_eq!(absolute.texts("listen"), None);
}

#[test]
fn values_of_flags_that_are_wrong_are_told_with_their_place() {
    for (text, told) in [
        (
            "\n  listen = \"8443\"",
            "2:12: listen: write an address and a port",
        ),
        (
            "listen = 8443",
            "1:10: listen: write a text in quotes instead of a number",
        ),
        ("listen = [\"a:1\"]", "1:10: listen takes one value, not a list"),
        (
            "max_connections = \"5\"",
            "1:19: max_connections: write a number, without quotes, instead of a text",
        ),
        (
            "max_connections = 5.5",
            "1:19: max_connections: write a number, without quotes, instead of a number with a fraction",
        ),
        (
            "max_connections = 99999999999999999999",
            "1:19: max_connections: the number is too large",
        ),
        (
            "insecure = \"yes\"",
            "1:12: insecure: write true or false instead of a text",
        ),
        (
            "insecure = 1",
            "1:12: insecure: write true or false instead of a number",
        ),
        (
            "retention_bytes = true",
            "1:19: retention_bytes: write a size, as in \"64MiB\", instead of true or false",
        ),
        ("data_dir = ''", "1:12: data_dir: write a path"),
        (
            "data_dir = 2024-01-01",
            "1:12: data_dir: write a path in quotes instead of a date or time",
        ),
        (
            "allow_origin = [\"a\", 5]",
            "1:22: allow_origin: write a text in quotes instead of a number",
        ),
        (
            "allow_origin = []",
            "1:16: allow_origin is an empty list: leave allow_origin out",
        ),
        (
            "[listen]",
            "1:1: listen: write a text in quotes instead of a section",
        ),
    ] {
        assert_eq!(error(text), told, "{text}");
    }
}

#[test]
fn unknown_keys_are_told_with_the_nearest_known_name() {
    for (text, told) in [
        ("lisen = 1", "1:1: unknown key \"lisen\": did you mean listen?"),
        (
            "max-connections = 1",
            "1:1: unknown key \"max-connections\": did you mean max_connections?",
        ),
        ("Listen = 1", "1:1: unknown key \"Listen\": did you mean listen?"),
        ("something_else = 1", "1:1: unknown key \"something_else\""),
        ("[polices]", "1:2: unknown key \"polices\": did you mean policy?"),
        ("[limits]\nx = 1", "1:2: unknown key \"limits\""),
        (
            "issuer = \"a\"",
            "1:1: unknown key \"issuer\": it belongs into [auth]",
        ),
        (
            "where = \"a\"",
            "1:1: unknown key \"where\": it belongs into a [[policy]]",
        ),
    ] {
        assert_eq!(error(text), told, "{text}");
    }
    for (text, told) in [
        (
            auth("isuer = 'a'"),
            "4:1: unknown key \"isuer\" in [auth]: did you mean issuer?",
        ),
        (
            auth("listen = 'a:1'"),
            "4:1: unknown key \"listen\" in [auth]: flags stand before the first [section]",
        ),
        (
            policy("tables = ['a']\ncolumn = ['a']"),
            "6:1: unknown key \"column\" in [[policy]]: did you mean columns?",
        ),
        (
            policy("table = 'a'\ntables = ['a']"),
            "5:1: unknown key \"table\" in [[policy]]: write a list, as in tables = [\"public.orders\"]",
        ),
    ] {
        assert_eq!(error(&text), told, "{text}");
    }
    let long = "x".repeat(10_000);
    assert!(error(&format!("{long} = 1")).len() < 100);
}

#[test]
fn a_text_that_is_no_toml_is_told_without_being_repeated() {
    for (text, told) in [
        (
            "database_url = postgres://u:SECRET@h/d",
            "1:16: no valid TOML: string values must be quoted, expected literal string",
        ),
        ("a = 1\na = 2", "2:1: no valid TOML: duplicate key"),
        (
            "# ä\nlisten = \"ä\\q\"",
            "2:13: no valid TOML: missing escaped value, expected `b`, `e`, `f`, `n`, `r`, `\\`, `\"`, `x`, `u`, `U`",
        ),
        ("[auth]\n[auth]", "2:2: no valid TOML: duplicate key"),
    ] {
        assert_eq!(error(text), told, "{text}");
    }
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(read(&deep).is_err());
}

#[test]
fn all_errors_are_told_in_the_order_of_the_file() {
    let text = "lisen = 1\n[[policy]]\ntables = []\n[auth]\nrole_claim = 'a..b'\nsecret_file = 'a'\n";
    assert_eq!(
        wrong(text),
        [
            "1:1: unknown key \"lisen\": did you mean listen?",
            "3:10: tables is an empty list: name what is meant, or leave tables out",
            "4:1: [auth] needs algorithms, the only ones that tokens may be signed with, as in algorithms = [\"RS256\"]",
            "5:14: role_claim: a name is empty: write a path as in realm.role",
        ]
    );
}

#[test]
fn a_value_that_may_be_secret_is_in_no_error_and_not_shown() {
    let file = read("database_url = \"postgres://u:SECRET@h/d\"").unwrap();
    assert_eq!(file.texts("database_url").unwrap(), ["postgres://u:SECRET@h/d"]);
    assert!(!format!("{file:?}").contains("SECRET"));
    let refused = error("[auth]\nsecret = \"SECRET\"\nalgorithms = ['HS256']\nsecret_env = 'A'");
    assert_eq!(
        refused,
        "2:1: unknown key \"secret\" in [auth]: keys do not stand in this file: name a file (secret_file, \
         public_key_file, jwks_file) or a variable (secret_env)"
    );
}

#[test]
fn the_contracts_example_is_understood() {
    let file = read(
        r#"
        listen = "0.0.0.0:8443"
        allow_origin = ["https://app.example.com", "https://*.preview.example.com"]
        [auth]
        algorithms = ["RS256", "ES256"]
        jwks_url = "https://issuer.example.com/jwks.json"
        issuer = "https://issuer.example.com"
        audience = "walcast"
        leeway = "7s"
        role_claim = "realm.role"
        anonymous_role = "anon"
        [[policy]]
        tables = ["public.orders", "shop.*", '"A.b".*']
        roles = ["customer"]
        ops = ["insert", "truncate"]
        columns = ["id", "status"]
        where = "tenant_id = claim('tenant_id')::int AND NOT deleted"
        [[policy]]
        tables = ["documents"]
        rls = true
        [[policy]]
        messages = ["chat."]
        roles = ["customer"]
        "#,
    )
    .unwrap();
    let auth = file.access.auth.as_ref().unwrap();
    let algorithms: Vec<Algorithm> = auth.algorithms.iter().map(|algorithm| algorithm.value).collect();
    assert_eq!(algorithms, [Algorithm::RS256, Algorithm::ES256]);
    let url = JwksAddress::parse("https://issuer.example.com/jwks.json").unwrap();
    let refresh = Duration::from_secs(600);
    assert_eq!(auth.keys.value, Keys::JwksUrl { url, refresh });
    assert_eq!(auth.issuer.as_ref().unwrap().value, "https://issuer.example.com");
    assert_eq!(auth.audience.len(), 1);
    assert_eq!(auth.leeway, Duration::from_secs(7));
    assert_eq!(auth.role_claim.names().collect::<Vec<_>>(), ["realm", "role"]);
    assert_eq!(auth.anonymous_role.as_ref().unwrap().value, "anon");

    let [orders, documents, chat] = &*file.access.policies else {
        panic!("{:?}", file.access.policies)
    };
    let Grant::Tables(grant) = &orders.grant else {
        panic!()
    };
    let tables: Vec<&Tables> = grant.tables.iter().map(|tables| &tables.value).collect();
    assert_eq!(
        tables,
        [
            &Tables::One(TableName::new("public", "orders")),
            &Tables::Schema("shop".into()),
            &Tables::Schema("A.b".into()),
        ]
    );
    assert!(tables[1].contains(&TableName::new("shop", "x")));
    assert!(!tables[1].contains(&TableName::new("public", "shop")));
    assert!(grant.ops.insert && grant.ops.truncate && !grant.ops.update && !grant.ops.delete);
    assert_eq!(grant.columns.as_ref().unwrap().len(), 2);
    let Rows::Where(predicate) = &grant.rows else {
        panic!()
    };
    let claim = predicate.value.find("claim").unwrap();
    let place = file.access.text.place_in(predicate, claim);
    assert_eq!(place, Place { line: 17, column: 30 });

    let Grant::Tables(grant) = &documents.grant else {
        panic!()
    };
    assert_eq!(
        (&documents.roles, &grant.rows, grant.ops),
        (&None, &Rows::RowSecurity, Ops::ALL)
    );
    assert!(matches!(&chat.grant, Grant::Messages(prefixes) if prefixes[0].value == "chat."));
    assert_eq!(chat.roles.as_ref().unwrap()[0].value, "customer");
}

#[test]
fn places_are_lines_and_characters() {
    let text = "listen = \"ä:1\"\r\nallow_origin = [\"ää\", 5]\r\n";
    assert_eq!(
        error(text),
        "2:23: allow_origin: write a text in quotes instead of a number"
    );
    let marked = format!("\u{FEFF}{}", "lisen = 1");
    assert_eq!(error(&marked), "1:1: unknown key \"lisen\": did you mean listen?");
    let file = read(&policy(
        "tables = ['a']\nwhere = \"\"\"\n  a = 'ä' AND\n  b\\u003D\\\n  x\"\"\"",
    ))
    .unwrap();
    let Grant::Tables(grant) = &file.access.policies[0].grant else {
        panic!()
    };
    let Rows::Where(predicate) = &grant.rows else {
        panic!()
    };
    let place = |of: &str| {
        let place = file
            .access
            .text
            .place_in(predicate, predicate.value.find(of).unwrap());
        (place.line, place.column)
    };
    assert_eq!(
        (place("a ="), place("AND"), place("b")),
        ((7, 3), (7, 11), (8, 3))
    );
    assert_eq!(place("x"), (9, 3));
    assert_eq!(predicate.value, "  a = 'ä' AND\n  b=x");
    let end = file.access.text.place_in(predicate, 1000);
    assert_eq!(end, Place { line: 9, column: 4 });
    // A mark that does not begin the file is a character like others.
    let file = read(&policy("tables = ['a']\nwhere = '''\n\u{FEFF}b'''")).unwrap();
    let Grant::Tables(grant) = &file.access.policies[0].grant else {
        panic!()
    };
    let Rows::Where(predicate) = &grant.rows else {
        panic!()
    };
    let place = file.access.text.place_in(predicate, '\u{FEFF}'.len_utf8());
    assert_eq!(place, Place { line: 7, column: 2 });
}
