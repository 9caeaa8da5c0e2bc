//! TLS on the clients' listener.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::support::{
    Authority, Client, Database, Line, Setup, Walcast, eventually, eventually_equal, http, refused,
};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, note text);
    CREATE PUBLICATION pub FOR TABLE t;
";

fn refusals(walcast: &Walcast, reason: &str) -> f64 {
    walcast.metric(&format!("connections_refused_total{{reason=\"{reason}\"}}"))
}

#[test]
fn clients_connect_by_tls_of_either_version_and_by_nothing_else() {
    let database = Database::new(SCHEMA);
    let authority = Authority::new(2030);
    let walcast = authority.shown_by(Setup::new(&database)).start();
    let alpn: &[&str] = &["h2", "http/1.1"];
    for (id, config, alpn) in [
        (1, authority.clients(&[&TLS12], alpn), true),
        (2, authority.clients(&[&TLS13], alpn), true),
        (3, authority.clients(&[&TLS13], &[]), false),
    ] {
        let line = Line::tls(walcast.listen(), &config).unwrap();
        let expected = alpn.then_some(&b"http/1.1"[..]);
        assert_eq!(line.session().alpn_protocol(), expected);
        let mut client = Client::over(line, &[]).unwrap();
        client.subscribe_live(json!({"id": "a", "table": "t"}));
        database.sql(&format!("INSERT INTO t VALUES ({id}, 'x')"));
        assert_eq!(client.change()["row"]["id"], id);
    }
    // Whoever wants another protocol inside is told so by TLS.
    let h2 = Line::tls(walcast.listen(), &authority.clients(&[&TLS13], &["h2"]));
    assert!(h2.err().unwrap().to_string().contains("NoApplicationProtocol"));
    let unbelieving = Line::tls(walcast.listen(), &Authority::new(2030).believers());
    assert!(
        unbelieving
            .err()
            .unwrap()
            .to_string()
            .contains("invalid peer certificate")
    );
    eventually_equal("both are counted", 2.0, || refusals(&walcast, "tls"));
    // Without TLS one is told what is spoken here.
    let answer = http(walcast.listen(), "GET /v1/stream HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("wss://"),
        "{answer}"
    );
    // Whatever else it says, and however much.
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(10_000));
    let answer = http(walcast.listen(), &long).unwrap();
    assert!(answer.contains("wss://"), "{answer}");
    eventually_equal("both are counted", 2.0, || refusals(&walcast, "plaintext"));
    eventually_equal("only the one that asks is left", 1.0, || {
        walcast.metric("handshakes")
    });
}

#[test]
fn large_results_and_slow_clients_are_served_by_tls_as_without() {
    let database = Database::new(SCHEMA);
    let authority = Authority::new(2030);
    database.sql("INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 10000) g");
    let walcast = authority.shown_by(Setup::new(&database)).start();
    let connect = || Client::over(Line::tls(walcast.listen(), &authority.believers()).unwrap(), &[]).unwrap();
    let mut slow = connect();
    slow.subscribe_live(json!({"id": "s", "table": "t"}));
    let mut client = connect();
    let rows = client.snapshot(json!({"id": "a", "table": "t"}));
    assert_eq!(rows.len(), 10_000);
    database.sql("UPDATE t SET note = repeat('y', 1000)");
    let count = |client: &mut Client| {
        let mut count = 0;
        while count < 10_000 {
            count += client.tx()["changes"].as_array().unwrap().len();
        }
    };
    count(&mut client);
    eventually("the slow one fell behind", || {
        (walcast.metric("fell_behind_total") > 0.0).then_some(())
    });
    count(&mut slow);
}

#[test]
fn a_new_certificate_is_shown_to_new_clients_while_the_others_stay() {
    let database = Database::new(SCHEMA);
    let authority = Authority::new(2030);
    let walcast = authority.shown_by(Setup::new(&database)).start();
    let connect = || Line::tls(walcast.listen(), &authority.believers()).unwrap();
    let shown = || connect().session().peer_certificates().unwrap()[0].clone();
    let year = || walcast.metric("tls_certificate_expiration_timestamp_seconds");
    let in_2030 = 1_893_456_000.0;
    let in_2031 = 1_924_992_000.0;
    assert_eq!(year(), in_2030);
    let mut client = Client::over(connect(), &[]).unwrap();
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    let first = shown();
    // A pair that does not fit is not used, and said.
    let (chain, key) = authority.pair(2031);
    authority.write("chain.pem", &chain);
    eventually_equal("it is counted", 1.0, || {
        walcast.metric("tls_reload_failures_total")
    });
    walcast.logs("the previous one stays in use");
    assert_eq!((shown(), year()), (first.clone(), in_2030));
    authority.write("key.pem", &key);
    eventually_equal("the new one is used", in_2031, year);
    assert_ne!(shown(), first);
    eventually_equal("it is counted", 1.0, || walcast.metric("tls_reloads_total"));
    // One that ends before it began is said to.
    authority.issue(2020);
    walcast.logs("the certificate has expired");
    eventually_equal("it is used", 2.0, || walcast.metric("tls_reloads_total"));
    walcast.hang_up();
    eventually_equal("it is read again at once", 3.0, || {
        walcast.metric("tls_reloads_total")
    });
    database.sql("INSERT INTO t VALUES (1, 'x')");
    assert_eq!(client.change()["row"]["id"], 1);
}

#[test]
fn a_tls_handshake_that_is_never_done_does_not_keep_its_place() {
    let database = Database::new(SCHEMA);
    let authority = Authority::new(2030);
    let setup = authority
        .shown_by(Setup::new(&database))
        .flag("--handshake-timeout", "500ms")
        .flag("--max-connections", "3");
    let walcast = setup.start();
    // The head of a record that does not come, and one that tells of a request that does not.
    for begun in [&b""[..], &[0x16], &[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]] {
        let held: Vec<TcpStream> = (0..3)
            .map(|_| {
                let mut socket = TcpStream::connect(walcast.listen()).unwrap();
                socket.write_all(begun).unwrap();
                socket
            })
            .collect();
        let silent = Line::tls(walcast.listen(), &authority.believers());
        let client = || {
            let line = Line::tls(walcast.listen(), &authority.believers()).ok()?;
            Client::over(line, &[]).ok()
        };
        drop(eventually("there is a place again", client));
        for mut socket in held {
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut answer = Vec::new();
            drop(socket.read_to_end(&mut answer));
        }
        drop(silent);
    }
    assert!(refusals(&walcast, "timeout") >= 6.0);
    // Whoever comes when there is no place is told so, by TLS.
    let connect = || Line::tls(walcast.listen(), &authority.believers()).unwrap();
    let held: Vec<Client> = (0..3)
        .map(|_| eventually("a place", || Client::over(connect(), &[]).ok()))
        .collect();
    let refused = Client::over(connect(), &[]).err().unwrap();
    assert_eq!(refused.status, 503, "{}", refused.body);
    drop(held);
}

#[test]
fn what_cannot_be_shown_is_refused_at_the_start_in_words() {
    let database = Database::new(SCHEMA);
    let authority = Authority::new(2030);
    let setup = authority.shown_by(Setup::new(&database));
    let key = std::fs::read_to_string(authority.path("key.pem")).unwrap();
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(authority.path("key.pem"), readable).unwrap();
    let says = |words: &str| {
        let said = refused(setup.command());
        assert!(said.contains("--tls-key") && said.contains(words), "{said}");
    };
    says("every user of this machine may read it");
    authority.write("key.pem", "nothing");
    says("no private key");
    authority.write("key.pem", &authority.pair(2030).1);
    says("KeyMismatch");
    authority.write("key.pem", &key);
    drop(setup.start());
}
