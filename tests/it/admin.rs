//! The admin listener: whom it answers, and what it tells without a token.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use walcast::cluster::Shutdown;
use walcast::lsn::Lsn;

use crate::support::{Database, PROGRAM, Setup, Walcast, eventually, http, refused};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY);
    CREATE PUBLICATION pub FOR TABLE t;
";
const PATHS: [&str; 4] = ["/metrics", "/health/live", "/health/ready", "/api/status"];

/// The answer to a request with these headers, and the status in it.
fn ask(walcast: &Walcast, path: &str, headers: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
    let answer = http(walcast.admin(), &request).unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

fn refusals(walcast: &Walcast, reason: &str) -> f64 {
    walcast.metric(&format!("admin_requests_refused_total{{reason=\"{reason}\"}}"))
}

/// Writes a file that nobody else may read, in place of the one there is.
fn write(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(draft, path).unwrap();
}

#[test]
fn operators_are_answered_by_addresses_and_names_that_were_given_and_pages_of_others_never() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .flag("--admin-host", "walcast.monitoring.svc,Metrics")
        .start();
    for host in [
        "127.0.0.1",
        "10.0.0.1:9090",
        "[::1]:9090",
        "localhost:1",
        "walcast.monitoring.svc:9090",
        "metrics",
    ] {
        for path in PATHS {
            let (status, answer) = ask(&walcast, path, &format!("host: {host}\r\n"));
            assert_eq!(status, 200, "{host} {path}: {answer}");
        }
    }
    // Before there was a Host, there were no browsers that matter here.
    let answer = http(walcast.admin(), "GET /health/live HTTP/1.0\r\n\r\n").unwrap();
    assert!(answer.contains(" 200 "), "{answer}");
    let before = refusals(&walcast, "host");
    for host in [
        "evil.example",
        "walcast",
        "127.0.0.1.evil.example:9090",
        "evil.example:127.0.0.1",
        "walcast.monitoring.svc.evil.example",
    ] {
        for path in PATHS {
            let (status, answer) = ask(&walcast, path, &format!("host: {host}\r\n"));
            assert!(
                status == 403 && answer.contains("(--admin-host)"),
                "{host} {path}: {answer}"
            );
        }
    }
    assert_eq!(refusals(&walcast, "host"), before + 20.0);
    walcast.logs("give it by --admin-host");
    // None and two are no request at all.
    assert_eq!(ask(&walcast, "/metrics", "").0, 400);
    let two = "host: localhost\r\nhost: evil.example\r\n";
    assert_eq!(ask(&walcast, "/metrics", two).0, 400);
    for origin in ["http://localhost:9091", "null", "http://evil.example"] {
        for path in PATHS {
            let headers = format!("host: localhost:9090\r\norigin: {origin}\r\n");
            let (status, answer) = ask(&walcast, path, &headers);
            assert!(
                status == 403 && !answer.contains("access-control"),
                "{origin} {path}: {answer}"
            );
        }
    }
    assert_eq!(refusals(&walcast, "origin"), 12.0);
}

#[test]
fn a_token_is_needed_for_all_but_the_state_that_probes_ask_for() {
    let database = Database::new(SCHEMA);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("admin.token");
    write(&file, "0123456789abcdef\n");
    let first = Setup::new(&database);
    let _first = first.start();
    // A second one on the same slot waits for its turn, and says so to those who may know.
    let second = Setup::new(&database).flag("--admin-token-file", file.to_str().unwrap());
    let walcast = second.start_unready();
    let with = |path: &str, token: &str| {
        let headers = format!("host: localhost\r\nauthorization: {token}\r\n");
        ask(&walcast, path, &headers)
    };
    let known = "bearer 0123456789abcdef";
    eventually("it waits", || {
        let (status, answer) = with("/health/ready", known);
        (status == 503 && answer.contains("standby: ")).then_some(())
    });
    let (status, answer) = ask(&walcast, "/health/ready", "host: localhost\r\n");
    assert!(
        status == 503 && answer.ends_with("\r\n\r\nnot ready\n"),
        "{answer}"
    );
    let (_, answer) = with("/health/ready", "Bearer 0123456789abcdeg");
    assert!(answer.ends_with("\r\n\r\nnot ready\n"), "{answer}");
    assert_eq!(ask(&walcast, "/health/live", "host: localhost\r\n").0, 200);
    assert_eq!(with("/metrics", known).0, 200);
    let (status, answer) = ask(&walcast, "/metrics", "host: localhost\r\n");
    assert!(
        status == 401 && answer.contains("www-authenticate: Bearer\r\n"),
        "{answer}"
    );
    for wrong in [
        "Bearer",
        "Bearer ",
        "Bearer 0123456789abcde",
        "Bearer 0123456789abcdef0",
        "Bearer 0123456789abcdeg",
        "Basic 0123456789abcdef",
        "Bearer 0123456789abcdef\r\nauthorization: Bearer x",
    ] {
        let (status, answer) = with("/metrics", wrong);
        assert!(status == 401 && !answer.contains("walcast_"), "{wrong}: {answer}");
    }
    let (status, answer) = ask(&walcast, "/api/status", "host: localhost\r\n");
    assert!(status == 401 && !answer.contains("version"), "{answer}");
    let (_, metrics) = with("/metrics", known);
    assert!(
        metrics.contains("walcast_admin_requests_refused_total{reason=\"token\"} 9\n"),
        "{metrics}"
    );
    // It is read again when that is asked for; one that cannot be used changes nothing.
    write(&file, "short");
    walcast.hang_up();
    walcast.logs("the admin listener's old token stays");
    assert_eq!(with("/metrics", known).0, 200);
    write(&file, "fedcba9876543210");
    walcast.hang_up();
    eventually("the new one is known", || {
        (with("/metrics", "Bearer fedcba9876543210").0 == 200).then_some(())
    });
    assert_eq!(with("/metrics", known).0, 401);
    assert!(!walcast.log().contains("0123456789abcdef"), "{}", walcast.log());
}

#[test]
fn a_token_that_can_be_guessed_or_read_by_all_is_refused_and_none_is_warned_of() {
    let database = Database::new(SCHEMA);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("admin.token");
    let setup = Setup::new(&database).flag("--admin-token-file", file.to_str().unwrap());
    let says = |words: &str| {
        let said = refused(setup.command());
        assert!(
            said.contains("--admin-token-file") && said.contains(words),
            "{said}"
        );
    };
    says("No such file");
    for text in ["", "\n", "short", "0123456789abcdef 0123456789abcdef"] {
        write(&file, text);
        says("openssl rand -hex 32");
    }
    fs::write(&file, "0123456789abcdef").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    says("every user of this machine may read it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let everywhere = setup.admin_on(([0, 0, 0, 0], 0).into());
    let walcast = everywhere.start();
    assert!(!walcast.log().contains("WITHOUT a token"), "{}", walcast.log());
    drop(walcast);
    let without = Setup::new(&database).admin_on(([0, 0, 0, 0], 0).into());
    let walcast = without.start_unready();
    walcast.logs("operators are answered WITHOUT a token on an address that other machines reach");
}

/// The end of `walcast status`.
struct Asked {
    code: i32,
    /// Its output.
    text: String,
    error: String,
}

fn status(arguments: &[&str]) -> Asked {
    let output = Command::new(PROGRAM).arg("status").args(arguments).output();
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Asked {
        code: output.status.code().unwrap(),
        text: text(output.stdout),
        error: text(output.stderr),
    }
}

#[test]
fn the_state_of_a_server_is_printed_for_people_and_for_scripts() {
    let database = Database::new(SCHEMA);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("admin.token");
    write(&file, "0123456789abcdef\n");
    let file = file.to_str().unwrap();
    let setup = Setup::new(&database).flag("--admin-token-file", file);
    let walcast = setup.start();
    let admin = walcast.admin().to_string();
    let known = ["--admin-listen", &admin, "--admin-token-file", file];
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1)");
    let position = client.tx()["position"].clone();
    let position = position.as_str().unwrap().split('+').next().unwrap().to_owned();
    let Asked { code, text, .. } = status(&known);
    assert_eq!(code, 0, "{text}");
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with(concat!("walcast ", env!("CARGO_PKG_VERSION"), ", up ")),
        "{text}"
    );
    assert!(first.ends_with(": ready"), "{text}");
    assert!(text.contains("connected; received "), "{text}");
    assert!(
        text.contains("clients      connections 1 (stalled 0), subscriptions 1, queries 1, catching up 0\n"),
        "{text}"
    );
    assert!(!text.contains("certificate"), "{text}");
    let Asked { code, text, .. } = status(&[&known[..], &["--json"]].concat());
    assert_eq!(code, 0, "{text}");
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(state["ready"], true, "{state}");
    // The server writes for itself, too.
    let journaled: Lsn = state["positions"]["journaled"].as_str().unwrap().parse().unwrap();
    assert!(journaled >= position.parse().unwrap(), "{state}");
    assert_eq!(state["clients"]["subscriptions"], 1, "{state}");

    let Asked { code, error, .. } = status(&known[..2]);
    assert!(
        code == 3 && error.contains("401") && error.contains("--admin-token-file"),
        "{error}"
    );
    let Asked { code, error, .. } = status(&["--admin-listen", &walcast.listen().to_string()]);
    assert!(
        code == 3 && error.contains("404") && error.contains("--admin-listen"),
        "{error}"
    );
    // A slot is told of once Postgres was asked about it.
    let stopped = Database::on_its_own_server(SCHEMA, &[]);
    let waits = Setup::new(&stopped);
    stopped.server().stop(Shutdown::Fast).unwrap();
    let waits = waits.start_unready();
    let Asked { code, text, .. } = status(&["--admin-listen", &waits.admin().to_string()]);
    assert!(
        code == 1 && text.contains("\nslot         not read yet\n"),
        "{text}"
    );
    // One that stands by is not ready.
    let second = Setup::new(&database).flag("--admin-token-file", file);
    let second = second.start_unready();
    let admin = second.admin().to_string();
    let Asked { code, text, .. } = eventually("it stands by", || {
        let answer = status(&["--admin-listen", &admin, "--admin-token-file", file]);
        answer.text.contains(": standby: ").then_some(answer)
    });
    assert_eq!(code, 1, "{text}");
    walcast.kill();
    let Asked { code, error, .. } = status(&known);
    assert!(code == 3 && error.contains("cannot connect"), "{error}");
}
