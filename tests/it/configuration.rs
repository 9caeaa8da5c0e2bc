//! The configuration file with the real program: `serve` and `check` by `--config`, and SIGHUP.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Authority, Database, PROGRAM, Setup, Walcast};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t";
const AUTH: &str = "[auth]\nalgorithms = [\"HS256\"]\nsecret_env = \"SECRET\"\n";

/// A directory with a file for `--config`.
struct Configured(tempfile::TempDir);

impl Configured {
    fn new(text: &str) -> Configured {
        let configured = Configured(tempfile::tempdir().unwrap());
        configured.write(text);
        configured
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("walcast.toml")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    /// The place of something in the file, as errors begin with it.
    fn at(&self, place: &str) -> String {
        format!("{}:{place}: ", self.path().display())
    }
}

/// All that `serve` needs, in eight lines.
fn needed(database: &Database) -> String {
    format!(
        "database_url = \"{}\"\nslot = \"{}\"\npublication = [\"pub\"]\ncreate_slot = true\ndata_dir = \"data\"\n\
         listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nlog_format = \"json\"\n",
        database.url(),
        database.name
    )
}

/// The exit code of a command, and everything that it said.
fn said(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn check(config: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["check", "--config"]).arg(config);
    command
}

/// The number of subscriptions that a connection may have.
fn max_subscriptions(walcast: &Walcast) -> u64 {
    let mut client = walcast.connect();
    for n in 0..100 {
        client.send(&json!({"type": "subscribe", "id": n.to_string(), "table": "t"}));
        loop {
            let message = client.next();
            match message["type"].as_str() {
                Some("error") => {
                    assert_eq!(message["code"], "limit_exceeded", "{message}");
                    return n;
                }
                Some("subscribed") => break,
                _ => {}
            }
        }
    }
    panic!("no limit")
}

#[test]
fn a_file_is_all_that_serve_needs_and_its_paths_begin_where_it_lies() {
    let database = Database::new(TABLE);
    let configured = Configured::new(&needed(&database));
    let walcast = Setup::new(&database).configured(&configured.path()).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1)");
    client.expect("tx");
    assert!(configured.0.path().join("data/journal.json").exists());
    assert!(walcast.stop().success());
    let (code, found) = said(check(&configured.path()));
    assert_eq!(code, Some(0), "{found}");
    assert!(found.contains("ok: walcast serve would work"), "{found}");
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default() {
    let database = Database::new(TABLE);
    let configured = Configured::new(&format!("{}max_subscriptions = 2\n", needed(&database)));
    let setup = || Setup::new(&database).configured(&configured.path());
    assert_eq!(max_subscriptions(&setup().start()), 2);
    let variable = || setup().variable("WALCAST_MAX_SUBSCRIPTIONS", "3");
    assert_eq!(max_subscriptions(&variable().start()), 3);
    let flag = variable().flag("--max-subscriptions", "4");
    assert_eq!(max_subscriptions(&flag.start()), 4);
    // The file itself by its variable; a switch that it turns on is turned off by its own.
    let mut command = Command::new(PROGRAM);
    command.arg("serve").env("WALCAST_CONFIG", configured.path());
    command
        .env("WALCAST_CREATE_SLOT", "false")
        .env("WALCAST_SLOT", "nowhere");
    let (code, refused) = said(command);
    assert_eq!(code, Some(1), "{refused}");
    assert!(refused.contains("there is no slot nowhere"), "{refused}");
}

#[test]
fn a_file_that_is_wrong_is_refused_with_places_by_serve_and_check() {
    let database = Database::new(TABLE);
    let text = format!(
        "{}max_connection = 5\nretention_age = \"soon\"\n{AUTH}[[policy]]\ntables = []\n",
        needed(&database)
    );
    let configured = Configured::new(&text);
    let serve = Setup::new(&database).configured(&configured.path()).command();
    for command in [serve, check(&configured.path())] {
        let (code, refused) = said(command);
        assert_eq!(code, Some(2), "{refused}");
        let told = [
            configured.at("9:1") + "unknown key \"max_connection\": did you mean max_connections?",
            configured.at("10:17") + "retention_age: write a time as in 500ms, 5s, 10min or 7days",
            configured.at("15:10") + "tables is an empty list: name what is meant, or leave tables out",
        ];
        assert_eq!(refused, format!("error: {}\n", told.join("\nerror: ")));
    }
    assert!(!configured.0.path().join("data").exists());
}

#[test]
fn a_listener_that_others_reach_is_refused_unless_it_is_asked_for() {
    let database = Database::new(TABLE);
    let setup = || Setup::new(&database).listen_on(([0, 0, 0, 0], 0).into());
    let (code, refused) = said(setup().command());
    assert_eq!(code, Some(2), "{refused}");
    assert!(
        refused.contains("--listen 0.0.0.0:0 is no loopback address"),
        "{refused}"
    );
    assert!(refused.contains("--insecure"), "{refused}");
    let walcast = setup().switch("--insecure").start();
    walcast.logs("clients are served WITHOUT TLS on an address that other machines reach");
    assert!(walcast.stop().success());
    // With TLS, and on an address of this machine alone, there is nothing to warn of.
    let authority = Authority::new(2030);
    let by_tls = authority.shown_by(setup().switch("--insecure"));
    for setup in [by_tls, setup().listen_on(([127, 0, 0, 1], 0).into())] {
        let walcast = setup.start();
        assert!(!walcast.log().contains("WITHOUT TLS"), "{}", walcast.log());
        assert!(walcast.stop().success());
    }
    let by_variable = setup().variable("WALCAST_INSECURE", "true");
    assert!(by_variable.start().stop().success());
}

#[test]
fn a_hangup_reads_the_file_again_and_says_which_flags_take_a_restart() {
    let database = Database::new(TABLE);
    let before = needed(&database) + "max_subscriptions = 2\nping_interval = \"7s\"\n";
    let configured = Configured::new(&before);
    let setup = Setup::new(&database).configured(&configured.path());
    let walcast = setup.flag("--progress-interval", "50ms").start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));

    walcast.hang_up();
    walcast.logs("SIGHUP: configuration read again\"");

    // Of what changed the command line has one; one is left out, and one is new.
    let after = before.replace(
        "ping_interval = \"7s\"",
        "progress_interval = \"9s\"\nsnapshot_timeout = \"1s\"",
    );
    configured.write(&after.replace("max_subscriptions = 2", "max_subscriptions = 3"));
    walcast.hang_up();
    walcast.logs("\"changed\":\"max_subscriptions, ping_interval, snapshot_timeout\"");

    configured.write("max_subscription = 3\nslot = 5\n");
    walcast.hang_up();
    walcast.logs("SIGHUP: the configuration is wrong: all stays as it was");
    let log = walcast.log();
    assert!(log.contains("1:1: unknown key \\\"max_subscription\\\""), "{log}");
    assert!(
        log.contains("2:8: slot: write a text in quotes instead of a number"),
        "{log}"
    );

    configured.write(&(before.clone() + AUTH));
    walcast.hang_up();
    walcast.logs("[auth] takes a restart: until then everybody still sees everything");

    std::fs::remove_file(configured.path()).unwrap();
    walcast.hang_up();
    walcast.logs("cannot read");

    // It serves as before.
    database.sql("INSERT INTO t VALUES (1)");
    client.expect("tx");
    drop(client);
    assert_eq!(max_subscriptions(&walcast), 2);
    assert!(walcast.stop().success());
}
