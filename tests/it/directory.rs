//! The data directory holds every row that is published: it is walcast's alone, and walcast takes none that is not.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{Database, Setup, Walcast, eventually, refused};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE PUBLICATION pub FOR TABLE t";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A directory and all that is in it.
fn all_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_in(&path))
        } else {
            found.push(path)
        }
    }
    found
}

/// The rights of others to the directory, or with the files in it that walcast has open, also without a name.
fn open_to_others(walcast: &Walcast, directory: &Path) -> Vec<String> {
    let named = all_in(directory).into_iter();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", walcast.pid())).unwrap();
    let open = descriptors.map(|entry| entry.unwrap().path());
    let open = open.filter(|fd| fs::read_link(fd).is_ok_and(|target| target.starts_with(directory)));
    let all = named.chain(open);
    // Some may be gone by now.
    let modes = all.filter_map(|path| Some((fs::metadata(&path).ok()?.mode() & 0o7777, path)));
    let wrong = modes.filter(|(mode, path)| *mode != if path.is_dir() { 0o700 } else { 0o600 });
    wrong
        .map(|(mode, path)| format!("{mode:o} {}", path.display()))
        .collect()
}

#[test]
fn the_data_directory_is_ours_alone_whatever_the_umask_is() {
    for umask in ["000", "022", "777"] {
        let database = Database::on_its_own_server(SCHEMA, &["logical_decoding_work_mem = 64kB"]);
        let setup = Setup::new(&database)
            .after(&format!("umask {umask}"))
            .flag("--segment-bytes", "1MiB");
        let walcast = setup.start();
        let mut client = walcast.connect();
        client.subscribe_live(json!({"id": "t", "table": "t"}));
        database.sql("INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 3000) g");
        // One that still runs, and a snapshot that waits for its client.
        let mut open = database.connect();
        open.query("BEGIN; INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(5001, 8000) g")
            .unwrap();
        eventually("a part of it has come", || {
            (walcast.metric("spooled_bytes") > 0.0).then_some(())
        });
        let mut reads = walcast.connect();
        reads.subscribe(json!({"id": "s", "table": "t", "snapshot": true}));
        eventually("rows wait", || {
            (walcast.metric("snapshot_rows_total") >= 3000.0).then_some(())
        });
        let data = setup.data();
        assert!(data.join("spool").is_dir() && data.join("snapshots").is_dir());
        assert_eq!(
            open_to_others(&walcast, &data),
            Vec::<String>::new(),
            "umask {umask}"
        );
        open.query("COMMIT").unwrap();
        assert!(walcast.stop().success());
        // As a version before left it.
        for path in all_in(&data) {
            set_mode(&path, if path.is_dir() { 0o755 } else { 0o644 });
        }
        let walcast = setup.start();
        let mut client = walcast.connect();
        client.subscribe_live(json!({"id": "t", "table": "t", "from": "earliest"}));
        assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
        assert_eq!(
            fs::metadata(&data).unwrap().mode() & 0o777,
            0o700,
            "nobody else enters, whatever the files' modes are"
        );
        assert_eq!(
            fs::metadata(data.join("journal.json")).unwrap().mode() & 0o777,
            0o600
        );
    }
}

#[test]
fn a_directory_that_others_may_write_or_that_holds_something_else_is_refused_and_left_as_it_is() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let data = setup.data();
    fs::create_dir(&data).unwrap();
    set_mode(&data, 0o777);
    let words = refused(setup.command());
    assert!(
        words.contains("others may write it (mode 777): chmod 700"),
        "{words}"
    );
    set_mode(&data, 0o755);
    fs::write(data.join("letters.txt"), "dear Ann").unwrap();
    let words = refused(setup.command());
    assert!(
        words.contains("is not empty") && words.contains("letters.txt"),
        "{words}"
    );
    let left: Vec<PathBuf> = all_in(&data);
    assert_eq!(left, [data.clone(), data.join("letters.txt")]);
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o777, 0o755);
    // One below it is made.
    setup_below(&setup, &data);
    fs::remove_file(data.join("letters.txt")).unwrap();
    fs::remove_dir_all(data.join("below")).unwrap();
    setup.start();
}

fn setup_below(setup: &Setup, data: &Path) {
    let below = data.join("below");
    let mut serve = setup.command_on(&below).spawn().unwrap();
    eventually("it is made", || below.join("journal.json").exists().then_some(()));
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert_eq!(fs::metadata(&below).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn links_in_the_data_directory_lead_nowhere() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    assert!(setup.start().stop().success());
    let data = setup.data();
    let victim = data.with_file_name("victim");
    let precious = || fs::write(&victim, "precious").unwrap();
    precious();
    // Files that are written anew take the link's place.
    for name in ["journal.json.new", "segments/0000000000000002.seg.new"] {
        symlink(&victim, data.join(name)).unwrap();
    }
    assert!(setup.start().stop().success());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    // Those that are opened are refused.
    let segments = all_in(&data.join("segments"));
    let newest = segments.iter().max().unwrap().strip_prefix(&data).unwrap();
    let names = ["LOCK", "journal.json"].map(Path::new);
    for name in names.into_iter().chain([newest]) {
        let path = data.join(name);
        let aside = data.with_file_name("aside");
        fs::rename(&path, &aside).unwrap();
        symlink(&victim, &path).unwrap();
        let words = refused(setup.command());
        assert!(words.contains("symbolic link"), "{name:?}: {words}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{name:?}");
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    }
    assert!(setup.start().stop().success());
}
