//! A data directory of a later version.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::kept::{manifest, manifest_path};
use crate::support::{Database, Setup, refused};

/// Every file and directory, with mode, time of change and contents.
fn state(directory: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let contents = if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        let state = (metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), contents);
        found.insert(path, state);
    }
    found
}

#[test]
fn a_later_format_is_refused_with_both_versions_and_stays_as_it_is() {
    let database = Database::new("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t");
    let setup = Setup::new(&database);
    assert!(setup.start().stop().success());
    let data = setup.data();
    let ours = manifest(&data);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(ours["format"], 2);
    assert_eq!(ours["walcast"], version);
    // A later version may keep other things in other places, and read rights of its own.
    fs::remove_file(data.join("LOCK")).unwrap();
    fs::write(data.join("index"), "later").unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
    for (writer, able) in [
        (
            json!("7.1.0"),
            "Start walcast 7.1.0, which wrote it, or a later version",
        ),
        (json!(null), "Start the version that wrote it, or a later one"),
    ] {
        let later =
            json!({"format": 3, "walcast": writer, "whose": "a later version says it in its own way"});
        fs::write(manifest_path(&data), later.to_string()).unwrap();
        let before = state(&data);
        let words = refused(setup.command());
        for part in [
            "is of format 3",
            &format!("walcast {version}, which knows the formats up to 2"),
            able,
            "--data-dir",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert_eq!(state(&data), before);
    }
    fs::write(manifest_path(&data), ours.to_string()).unwrap();
    let walcast = setup.start();
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}
