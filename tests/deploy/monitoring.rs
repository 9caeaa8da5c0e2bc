//! Rules for Prometheus, their runbook, and the dashboard for Grafana.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Authority, Database, Setup, block, eventually, eventually_equal};
use crate::tools::{command, read, run};

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const RECORDING: &str = "deploy/prometheus/recording.yml";
const TESTS: &str = "deploy/prometheus/tests.yml";
const DASHBOARD: &str = "deploy/grafana/walcast.json";
const RUNBOOK: &str = "docs/alerts.md";
const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t";

fn promtool() -> Option<Command> {
    command("promtool")
}

/// The names behind `key` at the beginnings of lines.
fn named<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix(key)?.split_whitespace().next())
        .collect()
}

#[test]
fn the_rules_are_valid_and_pass_their_tests() {
    let Some(mut check) = promtool() else { return };
    run(check.args(["check", "rules", ALERTS, RECORDING]));
    run(promtool().unwrap().args(["test", "rules", TESTS]));
    // Prometheus' own configuration names the rules by where they are in its image.
    let directory = TempDir::new().unwrap();
    for file in ["deploy/docker/prometheus.yml", ALERTS, RECORDING] {
        fs::copy(file, directory.path().join(Path::new(file).file_name().unwrap())).unwrap();
    }
    let config = directory.path().join("prometheus.yml");
    run(promtool().unwrap().args(["check", "config"]).arg(config));
}

#[test]
fn the_configurations_that_the_pages_print_are_prometheus_own() {
    let directory = TempDir::new().unwrap();
    for file in [ALERTS, RECORDING] {
        fs::copy(file, directory.path().join(Path::new(file).file_name().unwrap())).unwrap();
    }
    let token = directory.path().join("walcast.token");
    fs::write(&token, "0123456789abcdef").unwrap();
    for (page, beginning) in [
        ("docs/deploy.md", "# prometheus.yml"),
        ("docs/operations.md", "scrape_configs:"),
    ] {
        let Some(mut check) = promtool() else { return };
        let text = block(page, beginning);
        let text = text.replace("/etc/prometheus/walcast.token", token.to_str().unwrap());
        let config = directory.path().join("prometheus.yml");
        fs::write(&config, text).unwrap();
        run(check.args(["check", "config"]).arg(config));
    }
}

#[test]
fn each_alert_has_a_test_and_a_runbook_that_link_to_each_other() {
    let alerts = read(ALERTS);
    let tests = read(TESTS);
    let runbook = read(RUNBOOK);
    let names = named(&alerts, "- alert: ");
    assert!(names.len() > 20, "{names:?}");
    assert_eq!(
        named(&runbook, "### "),
        names,
        "the runbook has them in the same order"
    );
    for name in &names {
        let anchor = format!("runbook: {RUNBOOK}#{}\n", name.to_lowercase());
        assert!(alerts.contains(&anchor), "{anchor}");
    }
    let fires: BTreeSet<&str> = tests
        .split("alertname: ")
        .skip(1)
        .filter(|test| test.contains("exp_labels: "))
        .filter_map(|test| test.split_whitespace().next())
        .collect();
    assert_eq!(
        fires,
        names.iter().copied().collect(),
        "alerts that a test has fire"
    );
    for record in named(&read(RECORDING), "- record: ") {
        assert!(tests.contains(record), "{record} has no test");
    }
}

/// Metrics that docs/operations.md has; a unit test holds them to the code.
fn documented() -> BTreeSet<String> {
    let operations = read("docs/operations.md");
    let rows = operations
        .lines()
        .filter_map(|line| line.strip_prefix("| `walcast_"));
    rows.map(|row| format!("walcast_{}", row.split('`').next().unwrap()))
        .collect()
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    let known = documented();
    for file in [ALERTS, RECORDING, TESTS, DASHBOARD] {
        let text = read(file);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        for word in words.filter(|word| word.starts_with("walcast_")) {
            let metric = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|suffix| word.strip_suffix(suffix))
                .filter(|metric| known.contains(*metric))
                .unwrap_or(word);
            assert!(known.contains(metric), "{file} names {word}");
        }
    }
}

/// Each query of the dashboard.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| queries(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_one_source_what_prometheus_understands() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeMap::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        let before = ids.insert(panel["id"].as_u64().unwrap(), title);
        assert_eq!(before, None, "{title} has another panel's number");
        let grid = &panel["gridPos"];
        let right = grid["x"].as_u64().unwrap() + grid["w"].as_u64().unwrap();
        assert!(right <= 24, "{title} does not fit");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<&Value> = variables.iter().map(|variable| &variable["name"]).collect();
    assert_eq!(names, ["datasource", "job", "instance", "source"]);
    let mut asked = Vec::new();
    queries(&dashboard, &mut asked);
    assert!(asked.len() > 50, "{}", asked.len());
    // As rules, in JSON, which is YAML, too.
    let rules = asked.iter().enumerate().map(|(number, query)| {
        let query = query.replace("$__rate_interval", "5m").replace("$job", "walcast");
        let query = query.replace("$instance", ".+").replace("$source", ".*");
        assert!(!query.contains('$'), "an unknown variable: {query}");
        json!({"record": format!("query:{number}"), "expr": query})
    });
    let rules: Vec<Value> = rules.collect();
    let Some(mut check) = promtool() else { return };
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("queries.json");
    fs::write(
        &file,
        json!({"groups": [{"name": "queries", "rules": rules}]}).to_string(),
    )
    .unwrap();
    run(check.args(["check", "rules"]).arg(file));
}

#[test]
fn the_metrics_of_a_server_at_work_follow_the_conventions() {
    let Some(mut check) = promtool() else { return };
    let database = Database::new(SCHEMA);
    let authority = Authority::new(2100);
    let walcast = authority.shown_by(Setup::new(&database)).start();
    // So that labels have values.
    let refused = walcast.try_connect("/v1/stream", &[]).err().unwrap();
    assert_eq!(refused.status, 400, "{refused:?}");
    database.sql("INSERT INTO t VALUES (1)");
    eventually("it is counted", || {
        (walcast.metric("transactions_total") > 0.0).then_some(())
    });
    let (_, metrics) = walcast.get("/metrics");
    let mut child = check
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_server_tells_its_version_its_start_its_disk_and_how_near_its_journal_is_to_its_bound() {
    let database = Database::new("CREATE TABLE t (note text); CREATE PUBLICATION pub FOR TABLE t");
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as f64;
    let setup = Setup::new(&database)
        .flag("--retention-bytes", "4MiB")
        .flag("--segment-bytes", "1MiB");
    let walcast = setup.start();
    let version = format!("build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(walcast.metric(&version), 1.0);
    assert!(walcast.metric("start_time_seconds") >= before);
    let [available, size] = ["disk_available_bytes", "disk_size_bytes"]
        .map(|name| eventually(name, || Some(walcast.metric(name)).filter(|&bytes| bytes > 0.0)));
    assert!(available <= size, "{available} {size}");
    let lsn = |name: &str| walcast.metric(name);
    eventually("nothing is replayed: the place is the end", || {
        (lsn("replay_oldest_lsn") > 0.0 && lsn("replay_oldest_lsn") >= lsn("journal_earliest_lsn"))
            .then_some(())
    });
    assert!(walcast.metric("journal_retention_used_ratio") < 0.5);
    for _ in 0..8 {
        database.sql("INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 1000)");
    }
    eventually("the journal is full", || {
        let used = walcast.metric("journal_retention_used_ratio");
        (used > 0.6 && used <= 1.0).then_some(())
    });
}

#[test]
fn what_a_client_missed_while_it_was_away_is_not_counted_as_late() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    let position = client.subscribe_live(json!({"id": "t", "table": "t"}))["position"].clone();
    let epoch = client.hello["epoch"].clone();
    drop(client);
    database.sql("INSERT INTO t VALUES (1)");
    walcast.comes_up_to(&database);
    let late = || walcast.metric("commit_to_send_duration_seconds_count");
    let mut client = walcast.connect();
    client.subscribe(json!({"id": "t", "table": "t", "from": position, "epoch": epoch}));
    assert_eq!(client.change()["row"]["id"], 1);
    client.expect("live");
    assert_eq!(late(), 0.0);
    database.sql("INSERT INTO t VALUES (2)");
    assert_eq!(client.change()["row"]["id"], 2);
    eventually_equal("it is counted", 1.0, late);
}
