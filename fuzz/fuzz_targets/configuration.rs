//! Text as a configuration file: errors whose places lie in it, or values that keep their promises; no secret is shown.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use walcast::config::{self, Flag, Grant, Keys, Kind, Place, Rows};

/// One flag of each kind, with and without a list.
fn flags() -> Vec<Flag> {
    let flag = |key: &str, kind, is_list| Flag {
        key: key.into(),
        kind,
        is_list,
        is_secret: key == "database_url",
    };
    vec![
        flag("database_url", Kind::Text, false),
        flag("listen", Kind::Text, false),
        flag("allow_origin", Kind::Text, true),
        flag("max_connections", Kind::Number, false),
        flag("retention_bytes", Kind::Size, false),
        flag("insecure", Kind::Switch, false),
        flag("data_dir", Kind::Path, false),
    ]
}

/// True if the text has such a place, or ends there.
fn has(text: &str, place: Place) -> bool {
    let line = text.split('\n').nth(place.line - 1);
    line.is_some_and(|line| (1..=line.chars().count() + 1).contains(&place.column))
}

fuzz_target!(|text: &str| {
    let taken = |_: &Flag, value: &str| match value {
        "refuse" => Err("refused".into()),
        _ => Ok(()),
    };
    let file = match config::read(Path::new("w.toml"), text, &flags(), taken) {
        Ok(file) => file,
        Err(errors) => {
            assert!(!errors.0.is_empty());
            assert!(errors.0.is_sorted_by_key(|error| error.place));
            for error in &errors.0 {
                assert!(has(text, error.place), "{error}");
                assert!(error.what.len() < 1_000, "{error}");
            }
            return;
        }
    };
    let known = flags();
    for value in &file.values {
        let flag = known.iter().find(|flag| flag.key == value.key).unwrap();
        assert!(!value.texts.is_empty() && (flag.is_list || value.texts.len() == 1));
        assert!(!value.texts.iter().any(|text| text == "refuse"));
    }
    if let Some(url) = file.texts("database_url").filter(|url| url[0].len() > 12) {
        assert!(!format!("{file:?}").contains(&url[0]));
    }
    let access = &file.access;
    assert!(access.policies.is_empty() || access.auth.is_some());
    if let Some(auth) = &access.auth {
        assert!(!auth.algorithms.is_empty() && auth.role_claim.names().all(|name| !name.is_empty()));
        if let Keys::JwksUrl { url, .. } = &auth.keys.value {
            let url = url.to_string();
            assert!(url.starts_with("https://") || url.starts_with("http://"));
        }
    }
    for policy in &access.policies {
        match &policy.grant {
            Grant::Messages(prefixes) => assert!(!prefixes.is_empty()),
            Grant::Tables(grant) => {
                assert!(!grant.tables.is_empty());
                let Rows::Where(predicate) = &grant.rows else {
                    continue;
                };
                // Each character of the predicate is found where it is written, as itself or as an escape.
                for (offset, c) in predicate.value.char_indices() {
                    let place = access.source.place_in(predicate, offset);
                    let line = text.split('\n').nth(place.line - 1).unwrap();
                    let line = line
                        .strip_prefix('\u{FEFF}')
                        .filter(|_| place.line == 1)
                        .unwrap_or(line);
                    let written = line.chars().nth(place.column - 1);
                    let is_break = c == '\n' && written.is_none();
                    assert!(
                        written == Some(c) || written == Some('\\') || is_break,
                        "{predicate:?} {offset}"
                    );
                }
            }
        }
    }
});
