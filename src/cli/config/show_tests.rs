//! `walcast config` shows and checks what `serve` would use.

use std::path::PathBuf;

use serde_json::Value;

use super::tests::{NEEDED, OnDisk, documented, file};
use super::{ConfigFlag, Given, check, schema, show};

pub(super) fn given(file: &OnDisk, flags: &[&str]) -> Given {
    Given {
        file: ConfigFlag {
            config: Some(file.path.clone()),
        },
        flags: flags.iter().map(Into::into).collect(),
    }
}

pub(super) fn shown(file: &OnDisk, flags: &[&str]) -> String {
    show(&given(file, flags)).unwrap()
}

#[test]
fn each_value_is_shown_with_its_origin_and_what_may_be_a_password_is_not() {
    let on_disk = file(&format!(
        "{NEEDED}max_connections = 7\ncreate_slot = true\nmessages = [\"a,b\", 'c\"d']\n\
         [auth]\nalgorithms = [\n  \"RS256\", # why\n]\njwks_url = 'https://a.example/jwks'\nleeway = '1s'\n\
         [[policy]]\ntables = [\"public.t\"]\nwhere = '''a = 1\n  AND b = 2'''\n"
    ));
    let text = shown(&on_disk, &["--max-connections", "9", "--insecure"]);
    let path = on_disk.path.display();
    for line in [
        format!("#database_url is hidden  # {path}:1"),
        format!("slot = \"s\"  # {path}:2"),
        "max_connections = 9  # command line".to_owned(),
        format!("create_slot = true  # {path}:6"),
        "insecure = true  # command line".to_owned(),
        "recreate_slot = false  # default".to_owned(),
        "retention_bytes = \"10GiB\"  # default".to_owned(),
        "#max_slot_lag is not set".to_owned(),
        format!("\n[auth]  # {path}:8"),
        format!("leeway = '1s'  # {path}:13"),
        "jwks_refresh = \"10min\"  # default".to_owned(),
        "role_claim = \"role\"  # default".to_owned(),
        format!("\n[[policy]]  # {path}:14"),
        format!("where = '''a = 1\n  AND b = 2'''  # {path}:16"),
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is not in:\n{text}");
    }
    assert!(!text.contains("SECRET"), "{text}");
}

#[test]
fn what_is_shown_is_a_file_of_the_same_meaning() {
    let once = shown(&file(&documented()), &[]);
    let again = shown(&file(&once), &[]);
    // What differs are the places, and what is hidden is not set any more.
    let values = |text: &str| -> Vec<String> {
        let value = |line: &str| line.split("  # ").next().unwrap_or_default().to_owned();
        let is_set = |line: &String| !line.starts_with('#');
        text.lines().map(value).filter(is_set).collect()
    };
    let [once, again] = [once, again].map(|text| values(&text));
    assert_eq!(once, again);
    assert!(
        once.contains(&"publication = \"shop,audit\"".to_owned()),
        "{once:?}"
    );
}

#[test]
fn a_configuration_is_checked_without_a_database() {
    let complete = file(NEEDED);
    assert!(check(&given(&complete, &[])).is_ok());
    let told = |text: &str, flags: &[&str]| check(&given(&file(text), flags)).unwrap_err().to_string();
    let missing = told("slot = \"s\"\npublication = \"p\"\n", &["--data-dir", "d"]);
    assert!(
        missing.starts_with("there is no value for database_url: "),
        "{missing}"
    );
    let several = told("max_connection = 7\nlisten = \"8080\"\n", &[]);
    assert_eq!(several.lines().count(), 2, "{several}");
    assert!(several.contains("did you mean max_connections?"), "{several}");
    let together = told(&format!("{NEEDED}ping_interval = \"1min\"\n"), &[]);
    assert!(together.contains("--ping-interval must be below"), "{together}");
    let flags = told(NEEDED, &["--max-connections", "none"]);
    assert!(flags.contains("invalid value 'none'"), "{flags}");
}

#[test]
fn the_committed_schema_is_that_of_the_program_and_knows_every_key() {
    let committed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/walcast.schema.json");
    let committed = std::fs::read_to_string(committed).unwrap();
    assert!(
        committed == schema::text(),
        "docs/walcast.schema.json is stale: run walcast config schema > docs/walcast.schema.json"
    );
    let schema: Value = serde_json::from_str(&committed).unwrap();
    let properties = &schema["properties"];
    for flag in super::file::flags() {
        assert!(properties.get(&flag.key).is_some(), "{}", flag.key);
    }
    let sections = [&properties["auth"], &properties["policy"]["items"]];
    let keys = sections.map(|section| section["properties"].as_object().unwrap().keys());
    let mut keys: Vec<&str> = keys.into_iter().flatten().map(String::as_str).collect();
    let mut known: Vec<&str> = crate::config::keys_of_sections().collect();
    keys.sort_unstable();
    known.sort_unstable();
    assert_eq!(keys, known);
}
