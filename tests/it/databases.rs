//! Several databases in one program: each has its own stream, journal, metrics and policies, and none touches another.

use std::path::PathBuf;

use serde_json::{Value, json};
use walcast::cluster::Shutdown;

use crate::support::guarded::auth;
use crate::support::issuer::{Answer, Issuer, SigningKey, claims, set};
use crate::support::{Client, Database, End, Refused, Setup, Walcast, eventually, eventually_equal};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION pub FOR TABLE t";

/// The flags that hold for all.
const TOP: &str = "publication = [\"pub\"]\ncreate_slot = true\ndata_dir = \"data\"\nlisten = \"127.0.0.1:0\"\n\
                   admin_listen = \"127.0.0.1:0\"\nlog_format = \"json\"\nprogress_interval = \"50ms\"\n\
                   reconnect_spread = \"0s\"\n";

/// Two databases, and the file that names them.
struct Two {
    left: Database,
    right: Database,
    directory: tempfile::TempDir,
}

impl Two {
    fn new(left: Database, right: Database) -> Two {
        Two {
            left,
            right,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("walcast.toml")
    }

    /// The file with more lines for the second database, and sections behind them.
    fn write(&self, of_right: &str, sections: &str) {
        let source = |name: &str, database: &Database| {
            let (url, slot) = (database.url(), &database.name);
            format!("[[source]]\nname = {name:?}\ndatabase_url = {url:?}\nslot = {slot:?}\n")
        };
        let (left, right) = (source("left", &self.left), source("right", &self.right));
        std::fs::write(self.file(), format!("{TOP}{left}{right}{of_right}{sections}")).unwrap();
    }

    fn setup(&self) -> Setup {
        Setup::new(&self.left).configured(&self.file())
    }
}

fn two() -> Two {
    let two = Two::new(Database::new(TABLE), Database::new(TABLE));
    two.write("", "");
    two
}

fn connect(walcast: &Walcast, source: &str) -> Client {
    let client = walcast.try_connect(&format!("/v1/stream/{source}"), &[]);
    client.unwrap_or_else(|_| panic!("no client of {source}"))
}

fn status_of(walcast: &Walcast, path: &str) -> u16 {
    match walcast.try_connect(path, &[]) {
        Err(Refused { status, .. }) => status,
        _ => panic!("{path} was not refused"),
    }
}

/// Waits until this source is ready.
fn is_ready(walcast: &Walcast, source: &str) {
    eventually(source, || {
        (walcast.get(&format!("/health/ready/{source}")).0 == 200).then_some(())
    });
}

#[test]
fn each_has_its_own_stream_journal_and_metrics() {
    let two = two();
    let walcast = two.setup().start();
    let sides = [("left", &two.left), ("right", &two.right)];
    let mut clients = sides.map(|(name, database)| {
        is_ready(&walcast, name);
        let mut client = connect(&walcast, name);
        assert_eq!(client.hello["database"], json!(database.name), "{}", client.hello);
        client.subscribe_live(json!({"id": "t", "table": "t"}));
        client
    });
    for (name, database) in sides {
        database.sql(&format!("INSERT INTO t VALUES (1, '{name}')"));
    }
    for (client, (name, _)) in clients.iter_mut().zip(sides) {
        assert_eq!(client.change()["row"], json!({"id": 1, "v": name}));
    }
    assert_eq!(status_of(&walcast, "/v1/stream"), 404);
    assert_eq!(status_of(&walcast, "/v1/stream/middle"), 404);
    assert_eq!(
        walcast.get("/health/ready"),
        (200, "left: ready\nright: ready\n".into())
    );
    assert_eq!(walcast.get("/health/ready/middle").0, 404);
    for (name, _) in sides {
        assert!(two.directory.path().join("data").join(name).is_dir());
        let of = |metric: &str| walcast.metric(&format!("{metric}{{source={name:?}}}"));
        assert_eq!((of("connections"), of("replication_up")), (1.0, 1.0), "{name}");
        let changes = format!("changes_total{{op=\"insert\",schema=\"public\",table=\"t\",source={name:?}}}");
        eventually_equal("it is counted", 1.0, || walcast.metric(&changes));
    }
    let (_, metrics) = walcast.get("/metrics");
    assert_eq!(metrics.matches("\nwalcast_start_time_seconds").count(), 1);
    assert!(!metrics.contains("\nwalcast_replication_up "), "{metrics}");
    let status: Value = serde_json::from_str(&walcast.get("/api/status").1).unwrap();
    let names = [0, 1].map(|place| &status["sources"][place]["name"]);
    assert_eq!(
        (&status["ready"], names),
        (&json!(true), [&json!("left"), &json!("right")])
    );
    assert_eq!(status["sources"][1]["clients"]["subscriptions"], 1);

    // So has the console.
    let asked = |path: &str| {
        let (code, body) = walcast.get(path);
        let body: Value = serde_json::from_str(&body).unwrap();
        (code, body)
    };
    assert_eq!(asked("/api/access").1["sources"], json!(["left", "right"]));
    for path in ["/api/tables", "/api/tables?source=middle"] {
        let (code, refused) = asked(path);
        assert_eq!((code, &refused["error"]["code"]), (404, &json!("unknown_source")));
    }
    for (name, database) in sides {
        let (_, connections) = asked(&format!("/api/connections?source={name}"));
        assert_eq!(connections["total"], 1, "{connections}");
        let operator = Client::try_connect(walcast.admin(), &format!("/v1/stream/{name}"), &[]);
        let operator = operator.unwrap_or_else(|refused| panic!("{refused:?}"));
        assert_eq!(operator.hello["database"], json!(database.name));
    }

    // A line of the log says which of them it is about.
    for (name, database) in sides {
        let streaming = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            let fields = &line["fields"];
            let is_it = fields["message"] == "streaming" && fields["slot"] == *database.name;
            is_it.then(|| line["span"]["source"].clone())
        };
        assert_eq!(walcast.log().lines().find_map(streaming), Some(json!(name)));
    }

    // Each goes on where its client was, whatever happens to the program.
    let places = clients.map(|client| client.hello["position"].clone());
    walcast.kill();
    let walcast = two.setup().start();
    for ((name, _), place) in sides.into_iter().zip(places) {
        is_ready(&walcast, name);
        let mut client = connect(&walcast, name);
        client.send(&json!({"type": "subscribe", "id": "t", "table": "t", "from": place}));
        client.expect("subscribed");
        assert_eq!(client.change()["row"], json!({"id": 1, "v": name}));
    }
    assert_eq!(walcast.stop().code(), Some(0));
}

#[test]
fn one_that_cannot_be_opened_keeps_no_other_from_being_served_and_is_served_once_it_can() {
    let two = two();
    two.right.sql("DROP PUBLICATION pub");
    let walcast = two.setup().start();
    is_ready(&walcast, "left");
    let mut client = connect(&walcast, "left");
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    walcast.logs("the source failed and will be opened again");
    let (code, reason) = walcast.get("/health/ready/right");
    assert_eq!(code, 503);
    assert!(reason.starts_with("right: not ready: failed: "), "{reason}");
    assert!(reason.contains("pub"), "{reason}");
    assert_eq!(status_of(&walcast, "/v1/stream/right"), 503);
    // One that is ready is enough for a load balancer.
    assert_eq!(walcast.get("/health/ready").0, 200);
    two.left.sql("INSERT INTO t VALUES (1)");
    client.change();
    two.right.sql("CREATE PUBLICATION pub FOR TABLE t");
    is_ready(&walcast, "right");
    assert!(walcast.metric("source_failures_total{source=\"right\"}") >= 1.0);
    assert_eq!(walcast.metric("source_failures_total{source=\"left\"}"), 0.0);
    connect(&walcast, "right");
    two.left.sql("INSERT INTO t VALUES (2)");
    client.change();
}

#[test]
fn one_that_fails_at_work_closes_its_own_clients_alone() {
    let two = two();
    let walcast = two.setup().start();
    let mut clients = ["left", "right"].map(|name| {
        is_ready(&walcast, name);
        let mut client = connect(&walcast, name);
        client.subscribe_live(json!({"id": "t", "table": "t"}));
        client
    });
    two.right.drop_slot(&two.right.name);
    let [left, right] = &mut clients;
    let End::Closed(code, _) = right.end() else {
        panic!("lost")
    };
    assert_eq!(code, 1001);
    let reason = eventually("the source has failed", || {
        let (code, reason) = walcast.get("/health/ready/right");
        (code == 503 && reason.contains("failed: ")).then_some(reason)
    });
    assert!(reason.contains("slot"), "{reason}");
    assert_eq!(status_of(&walcast, "/v1/stream/right"), 503);
    for id in 1..4 {
        two.left.sql(&format!("INSERT INTO t VALUES ({id})"));
        assert_eq!(left.change()["row"]["id"], id);
    }
    assert_eq!(walcast.stop().code(), Some(0));
}

#[test]
fn a_client_that_reads_nothing_keeps_no_source_from_being_opened_again() {
    let two = two();
    let setup = two
        .setup()
        .flag("--stall-timeout", "1h")
        .flag("--drain-timeout", "30s");
    let walcast = setup.start();
    is_ready(&walcast, "right");
    let mut deaf = connect(&walcast, "right");
    deaf.subscribe_live(json!({"id": "t", "table": "t"}));
    two.right
        .sql("INSERT INTO t SELECT g, repeat(md5(g::text), 60) FROM generate_series(1, 20000) g");
    let stalled = "stalled{source=\"right\"}";
    eventually("the client has stalled", || {
        (walcast.metric(stalled) == 1.0).then_some(())
    });
    let slot = &two.right.name;
    two.right.drop_slot(slot);
    let failures = "source_failures_total{source=\"right\"}";
    eventually("the source has failed", || {
        (walcast.metric(failures) >= 1.0).then_some(())
    });
    eventually_equal("it is counted", 1.0, || {
        walcast.metric("slot_lost{source=\"right\"}")
    });
    assert_eq!(walcast.metric(stalled), 0.0);
    two.right.sql(&format!(
        "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    is_ready(&walcast, "right");
    eventually("the slot is looked at", || {
        (walcast.metric("slot_lost{source=\"right\"}") == 0.0).then_some(())
    });
    connect(&walcast, "right");
    drop(deaf);
}

#[test]
fn a_server_that_is_away_is_waited_for_while_the_other_one_is_served() {
    let two = Two::new(Database::new(TABLE), Database::on_its_own_server(TABLE, &[]));
    two.write("", "");
    two.right.server().stop(Shutdown::Fast).unwrap();
    let walcast = two.setup().start();
    is_ready(&walcast, "left");
    let (_, reason) = walcast.get("/health/ready/right");
    assert!(reason.contains("waiting for the database server"), "{reason}");
    let mut client = connect(&walcast, "left");
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    two.left.sql("INSERT INTO t VALUES (1)");
    client.change();
    two.right.server().resume().unwrap();
    is_ready(&walcast, "right");
    assert_eq!(walcast.metric("source_failures_total{source=\"right\"}"), 0.0);
}

#[test]
fn a_policy_is_for_the_sources_that_it_names_also_after_it_was_read_again() {
    let two = two();
    let key = SigningKey::new("one");
    let issuer = Issuer::new(Answer::Keys(set(&[&key])));
    let write = |policies: &str| {
        let auth = format!(
            "[auth]\nalgorithms = [\"EdDSA\"]\njwks_url = {:?}\n",
            issuer.url()
        );
        two.write("", &format!("{auth}{policies}"));
    };
    write("[[policy]]\nsources = [\"left\"]\ntables = [\"public.t\"]\n");
    let walcast = two.setup().start();
    let token = key.token(&claims("ann", "customer"));
    let mut clients = ["left", "right"].map(|name| {
        is_ready(&walcast, name);
        let mut client = Client::open(walcast.listen(), &format!("/v1/stream/{name}"), &[]).unwrap();
        client.send(&auth(&token));
        assert_eq!(client.next_of_any_type()["type"], "hello");
        client
    });
    let [left, right] = &mut clients;
    left.subscribe_live(json!({"id": "t", "table": "t"}));
    right.send(&json!({"type": "subscribe", "id": "t", "table": "t"}));
    assert_eq!(right.error()["code"], "unknown_table");
    // What is opened in one is closed in the other, without a restart.
    write("[[policy]]\nsources = [\"right\"]\ntables = [\"public.t\"]\n");
    walcast.hang_up();
    walcast.logs("the policies have changed");
    assert_eq!(left.error()["code"], "forbidden");
    right.subscribe_live(json!({"id": "t", "table": "t"}));
    two.right.sql("INSERT INTO t VALUES (1)");
    right.change();
    // Nor does a file that has one of the two alone open the other, although its policies need not say for which.
    let text = std::fs::read_to_string(two.file()).unwrap();
    let (top, right_section) = text.split_once("[[source]]\nname = \"right\"").unwrap();
    let (_, auth) = right_section.split_once("[auth]").unwrap();
    let one = format!("{top}[auth]{auth}").replace("sources = [\"right\"]\n", "");
    std::fs::write(two.file(), one).unwrap();
    walcast.hang_up();
    assert_eq!(right.error()["code"], "forbidden");
    right.send(&json!({"type": "subscribe", "id": "again", "table": "t"}));
    assert_eq!(right.error()["code"], "unknown_table");
    left.subscribe_live(json!({"id": "again", "table": "t"}));
}

#[test]
fn all_are_checked_and_one_command_tells_their_state() {
    let two = two();
    two.right.sql("DROP PUBLICATION pub");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(crate::support::PROGRAM)
            .args(arguments)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let path = two.file();
    let file = path.to_str().unwrap();
    let (code, checked) = run(&["check", "--config", file]);
    assert_eq!(code, Some(1), "{checked}");
    let (left, right) = checked.split_once("[[source]] right").unwrap();
    assert!(
        left.starts_with("[[source]] left\n") && !left.contains("error"),
        "{checked}"
    );
    assert!(right.contains("pub"), "{checked}");
    let away = path.with_file_name("away.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace(two.right.url(), "postgresql://postgres@127.0.0.1:1/x");
    std::fs::write(&away, text).unwrap();
    let (code, checked) = run(&["check", "--config", away.to_str().unwrap()]);
    assert_eq!(code, Some(3), "{checked}");
    assert!(
        checked.contains("error: [[source]] right: cannot ask the database: "),
        "{checked}"
    );
    let walcast = two.setup().start();
    is_ready(&walcast, "left");
    let admin = walcast.admin().to_string();
    let (code, status) = run(&["status", "--admin-listen", &admin]);
    assert_eq!(code, Some(0));
    assert!(
        status.contains("\n\nleft: ready\nstream       connected"),
        "{status}"
    );
    assert!(status.contains("\n\nright: not ready"), "{status}");
}
