//! Starting while the database server is not there, and starting in vain.

use std::thread;

use rustix::process::Signal;
use serde_json::json;

use walcast::cluster::Shutdown;

use crate::support::{Database, Setup, eventually, refused};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t";

#[test]
fn a_server_that_is_stopped_is_waited_for() {
    let database = Database::on_its_own_server(TABLE, &[]);
    database.server().stop(Shutdown::Fast).unwrap();
    let setup = Setup::new(&database);
    let walcast = setup.start_unready();
    let reason = walcast.ready().unwrap_err();
    assert!(reason.contains("waiting for the database server"), "{reason}");
    assert!(reason.contains("pg_isready"), "what to do is said: {reason}");
    assert_eq!(walcast.get("/health/live").0, 200);
    let refused = walcast.try_connect("/v1/stream", &[]).err().unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    // Who cannot be let in yet is not told why.
    assert_eq!(refused.body, "not ready: try again later\n");
    database.server().resume().unwrap();
    eventually("walcast is ready", || walcast.ready().ok());
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1)");
    assert_eq!(client.change()["row"], json!({"id": 1}));
    // Once for each reason: it may have been seen starting up, too.
    assert_eq!(walcast.log().matches("nothing listens there").count(), 1);
    assert!(walcast.stop().success());
}

#[test]
fn a_server_that_shuts_down_is_waited_for_and_walcast_can_be_stopped_meanwhile() {
    let database = Database::on_its_own_server(TABLE, &[]);
    // It waits for the last session to end, and takes no others.
    let mut last = database.connect();
    last.query("SELECT 1").unwrap();
    database.server().signal(Signal::TERM).unwrap();
    eventually("the server refuses", || {
        let refusal = crate::support::connect(database.url()).err()?;
        assert_eq!(refusal.sqlstate(), Some("57P03"), "{refusal}");
        Some(())
    });
    let setup = Setup::new(&database);
    let walcast = setup.start_unready();
    walcast.logs("waiting for the database server");
    walcast.logs("57P03");
    assert!(walcast.stop().success());
    assert!(!setup.data().exists(), "nothing is begun");
    let walcast = setup.start_unready();
    walcast.logs("57P03");
    drop(last);
    let server = thread::spawn(move || {
        database.server().wait().unwrap();
        database.server().resume().unwrap();
        database
    });
    eventually("walcast is ready", || walcast.ready().ok());
    drop(server.join().unwrap());
}

#[test]
fn what_does_not_pass_by_itself_ends_it_at_once() {
    let database = Database::new(TABLE);
    let elsewhere = database.url().replace(&format!("/{}", database.name), "/nowhere");
    let nobody = database.url().replace("postgres@", "nobody@");
    for (url, words) in [
        ("postgresql://postgres@no.such.host.invalid/x", "the host's name"),
        (&elsewhere, "name another database than nowhere"),
        (&nobody, "make the role nobody by sql/setup.sql"),
    ] {
        let said = refused(Setup::new(&database).by(url.to_owned()).command());
        assert!(said.contains(words), "{said}");
    }
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_program_without_traces_says_so_where_a_collector_is_named() {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let database = Database::new(TABLE);
    let setup = || Setup::new(&database).variable(ENDPOINT, "http://127.0.0.1:4318");
    let said = refused(setup().command());
    for words in [ENDPOINT, "--features otlp", "OTEL_SDK_DISABLED=true"] {
        assert!(said.contains(words), "{said}");
    }
    let off = setup().variable("OTEL_SDK_DISABLED", "true").start();
    assert!(off.stop().success());
}
