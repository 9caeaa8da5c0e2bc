//! The Debian package: made from the program of this build, and installed, upgraded and removed as dpkg does it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use walcast::cluster::{Cluster, Options};

use crate::root::Root;
use crate::support::{Client, PROGRAM, eventually, left_out};
use crate::tools::{Running, command, outcome, program, read, replaced, run};

/// A user of those that systemd takes for `DynamicUser=`.
const USER: &str = "61184:61184";
/// systemd's command, which notes what it is asked for.
const SYSTEMCTL: &str = "#!/bin/sh\necho \"$@\" >>/var/log/systemctl\n";

/// Makes the package of the program, by the script that makes the one that is released. `None`, and a word about it,
/// without its tools.
fn package(directory: &Path, version: &str) -> Option<PathBuf> {
    let built = Path::new(PROGRAM).ancestors().nth(2).unwrap();
    if !built.join("release-tools/bin/cargo-deb").exists() && program("cargo-deb").is_none() {
        left_out("cargo-deb", "it is not installed (scripts/install.sh package)");
        return None;
    }
    // By it cargo-deb finds the libraries that the program needs.
    command("dpkg-shlibdeps")?;
    let said = run(Command::new("scripts/deb.sh")
        .arg(PROGRAM)
        .arg(directory)
        .args([version, "--fast"])
        .env("CARGO_TARGET_DIR", built)
        .env("DEBEMAIL", "walcast@packages.test"));
    Some(said.lines().last().unwrap().into())
}

/// Settings of the unit, with systemd's directories in place of its specifiers.
fn settings(unit: &str, key: &str) -> Vec<String> {
    let values = unit
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let meant = |value: &str| {
        let value = value.replace("%S", "/var/lib");
        value.replace("%d", "/run/credentials/walcast.service")
    };
    values.map(meant).collect()
}

/// walcast as its unit starts it, but for the sandbox; the addresses for clients and for operators.
struct Service {
    _process: Running,
    clients: SocketAddr,
    operators: String,
}

impl Service {
    fn start(root: &Root) -> Service {
        let unit = root.read("/usr/lib/systemd/system/walcast.service");
        let start = settings(&unit, "ExecStart").remove(0);
        let mut command = root.inside_as(USER, start.split(' '));
        for setting in settings(&unit, "Environment") {
            let (name, value) = setting.split_once('=').unwrap();
            command.env(name, value);
        }
        let log = TempDir::new().unwrap();
        let log = log.path().join("log");
        let errors = fs::File::create(&log).unwrap();
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn();
        let process = Running(process.unwrap());
        let listening = eventually("walcast listens", || {
            let log = fs::read_to_string(&log).unwrap();
            let mut lines = log
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["fields"]["message"] == "listening")
        });
        let address = |name: &str| listening["fields"][name].as_str().unwrap().to_owned();
        Service {
            _process: process,
            clients: address("listen").parse().unwrap(),
            operators: address("admin_listen"),
        }
    }

    /// The output of `walcast status` once it is ready.
    fn status(&self, root: &Root) -> Value {
        eventually("walcast is ready", || {
            let ask = ["walcast", "status", "--json", "--admin-listen", &self.operators];
            let (ready, said) = outcome(&mut root.inside(ask));
            ready.then(|| serde_json::from_str(&said).unwrap())
        })
    }
}

/// The requests to systemd since the last time.
fn asked(root: &Root) -> String {
    let asked = root.read("/var/log/systemctl");
    run(&mut root.inside(["rm", "-f", "/var/log/systemctl"]));
    asked
}

#[test]
fn the_debian_package_installs_serves_upgrades_and_leaves_nothing() {
    let packages = TempDir::new().unwrap();
    let Some(first) = package(packages.path(), "") else {
        return;
    };
    let second = package(packages.path(), "9.0.0-1").unwrap();
    let lint = command("lintian").map(|mut lintian| {
        let lintian = lintian
            .args(["--allow-root", "--fail-on", "error,warning"])
            .arg(&first);
        lintian
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    });
    if let Some(root) = Root::new() {
        in_a_root(&root, &first, &second);
    }
    if let Some(lint) = lint {
        let output = lint.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
    }
}

fn in_a_root(root: &Root, first: &Path, second: &Path) {
    for (package, name) in [(first, "first.deb"), (second, "second.deb")] {
        run(root.outside("cp").arg(package).arg(root.path(name)));
    }
    root.write("usr/bin/systemctl", "755", SYSTEMCTL);
    run(&mut root.inside(["mkdir", "-p", "/run/systemd/system"]));
    let before = root.files();

    run(&mut root.inside(["dpkg", "--install", "/first.deb"]));
    let version = run(&mut root.inside(["walcast", "--version"]));
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    // It starts when it was configured, not before.
    let asked_by_install = asked(root);
    assert!(!asked_by_install.contains("start"), "{asked_by_install}");
    let mode = run(&mut root.inside(["stat", "--format=%a %U", "/etc/walcast/pgpass"]));
    assert_eq!(mode, "600 root\n");
    // As it comes, the configuration lacks nothing but the database.
    let check = [
        "walcast",
        "config",
        "check",
        "--config",
        "/etc/walcast/walcast.toml",
        "--",
        "--data-dir=/var/lib/walcast",
    ];
    let (complete, lacks) = outcome(&mut root.inside(check));
    assert!(
        !complete && lacks.contains("database_url") && lacks.lines().count() == 1,
        "{lacks}"
    );

    let database = Cluster::start(&Options {
        tcp: true,
        hba: vec!["host all walcast 127.0.0.1/32 scram-sha-256".to_owned()],
        ..Options::default()
    })
    .unwrap();
    database.psql("CREATE TABLE orders (id int PRIMARY KEY)");
    let setup = root.read("/usr/share/walcast/sql/setup.sql");
    database
        .try_psql("postgres", &format!("\\set tables orders\n{setup}"))
        .unwrap();
    database.psql("ALTER ROLE walcast PASSWORD 'secret'");
    let configured = replaced(
        &read("deploy/debian/walcast.toml"),
        &[
            (
                "#database_url = \"postgresql://walcast@db.example.com/shop?sslmode=verify-full\"",
                &format!(
                    "database_url = \"postgresql://walcast@127.0.0.1:{}/postgres\"",
                    database.port()
                ),
            ),
            (
                "#listen = \"0.0.0.0:8080\"",
                "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nlog_format = \"json\"",
            ),
        ],
    );
    root.write("etc/walcast/walcast.toml", "644", &configured);
    root.write("etc/walcast/pgpass", "600", "127.0.0.1:*:*:walcast:secret\n");
    // Done by systemd: StateDirectory= and LoadCredential=.
    let prepare = format!(
        "install -d -m 700 -o {uid} -g {uid} /var/lib/walcast /run/credentials/walcast.service && \
         install -m 400 -o {uid} -g {uid} /etc/walcast/pgpass /run/credentials/walcast.service/pgpass",
        uid = USER.split(':').next().unwrap()
    );
    run(&mut root.inside(["sh", "-c", &prepare]));

    let service = Service::start(root);
    service.status(root);
    let mut client = Client::connect(service.clients);
    client.subscribe_live(json!({"id": "o", "table": "orders"}));
    database.psql("INSERT INTO orders VALUES (1)");
    assert_eq!(client.change()["row"]["id"], 1);

    // The new program takes over from the old one's journal, when systemd starts it.
    run(&mut root.inside(["dpkg", "--install", "/second.deb"]));
    let asked_by_upgrade = asked(root);
    assert!(
        asked_by_upgrade.contains("try-restart walcast.service"),
        "{asked_by_upgrade}"
    );
    assert!(!asked_by_upgrade.contains("stop"), "{asked_by_upgrade}");
    assert_eq!(root.read("/etc/walcast/walcast.toml"), configured);
    drop(service);
    database.psql("INSERT INTO orders VALUES (2)");
    let service = Service::start(root);
    assert_eq!(service.status(root)["replication_up"], true);
    let mut client = Client::connect(service.clients);
    client.subscribe(json!({"id": "o", "table": "orders", "from": "earliest"}));
    assert_eq!(client.change()["row"]["id"], 1);
    assert_eq!(client.change()["row"]["id"], 2);

    let said = run(&mut root.inside(["dpkg", "--remove", "walcast"]));
    assert!(said.contains("pg_drop_replication_slot('walcast')"), "{said}");
    let asked_by_removal = asked(root);
    assert!(
        asked_by_removal.contains("stop walcast.service"),
        "{asked_by_removal}"
    );
    drop(service);
    let left = root.files();
    assert!(!left.contains("/usr/bin/walcast"));
    assert!(
        left.contains("/var/lib/walcast/LOCK")
            || left.iter().any(|path| path.starts_with("/var/lib/walcast/"))
    );
    assert_eq!(root.read("/etc/walcast/walcast.toml"), configured);

    run(&mut root.inside(["rm", "-r", "/run/credentials"]));
    run(&mut root.inside(["dpkg", "--purge", "walcast"]));
    let after = root.files();
    let left: Vec<_> = after.difference(&before).collect();
    assert!(left.is_empty(), "{left:?}");
    let gone: Vec<_> = before.difference(&after).collect();
    assert!(gone.is_empty(), "{gone:?}");
}
