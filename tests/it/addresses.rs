//! Limits for each client's address, and proxies that say whose it is.

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};

use serde_json::json;

use crate::support::{Client, Database, Line, Setup, Walcast, eventually, eventually_equal};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY);
    CREATE PUBLICATION pub FOR TABLE t;
";
const UPGRADE: &str = "GET /v1/stream HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn refusals(walcast: &Walcast, reason: &str) -> f64 {
    walcast.metric(&format!("connections_refused_total{{reason=\"{reason}\"}}"))
}

/// From 127.0.0.`host`.
fn from(walcast: &Walcast, host: u8) -> Line {
    Line::from(Ipv4Addr::new(127, 0, 0, host), walcast.listen()).unwrap()
}

#[test]
fn an_address_that_takes_too_many_connections_leaves_the_others_theirs() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .flag("--max-connections-per-address", "2")
        .flag("--max-connections", "8")
        .start();
    let mut greedy: Vec<Client> = (0..2)
        .map(|_| Client::over(from(&walcast, 2), &[]).unwrap())
        .collect();
    let answer = from(&walcast, 2).ask("GET /v1/stream HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nretry-after: "), "{answer}");
    assert_eq!(refusals(&walcast, "address"), 1.0);
    walcast.logs("--max-connections-per-address");
    // However many more it tries, and whether or not it reads what it is told.
    let deaf: Vec<Line> = (0..200).map(|_| from(&walcast, 2)).collect();
    let mut good: Vec<Client> = (3..6)
        .map(|host| Client::over(from(&walcast, host), &[]).unwrap())
        .collect();
    good[0].subscribe_live(json!({"id": "a", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1)");
    assert_eq!(good[0].change()["row"]["id"], 1);
    drop(deaf);
    greedy.pop();
    eventually("it has a place again", || {
        Client::over(from(&walcast, 2), &[]).ok()
    });
    assert_eq!(refusals(&walcast, "limit"), 0.0);
}

#[test]
fn an_address_that_connects_too_fast_is_told_when_to_come_again_and_the_others_are_let_in() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .flag("--max-connection-rate-per-address", "1")
        .flag("--max-connections-per-address", "3")
        .start();
    let refused = eventually("it has come too fast", || {
        // Each is gone at once, so there never are more than it may have.
        Client::over(from(&walcast, 2), &[])
            .err()
            .filter(|refused| refused.body.contains("too fast"))
    });
    assert_eq!(refused.status, 429, "{}", refused.body);
    let answer = eventually("it comes too fast again", || {
        let answer = from(&walcast, 2).ask(&format!("{UPGRADE}\r\n"));
        answer.starts_with("HTTP/1.1 429 ").then_some(answer)
    });
    assert!(
        answer.to_lowercase().contains("\r\nretry-after: 5\r\n"),
        "{answer}"
    );
    assert!(refusals(&walcast, "address_connection_rate") >= 2.0);
    let reached = walcast.metric("limits_reached_total{limit=\"address_connection_rate\"}");
    assert!(reached >= 2.0, "{reached}");
    walcast.logs("--max-connection-rate-per-address");
    let mut other = Client::over(from(&walcast, 3), &[]).unwrap();
    other.subscribe_live(json!({"id": "a", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1)");
    assert_eq!(other.change()["row"]["id"], 1);
    eventually("it is let in again", || Client::over(from(&walcast, 2), &[]).ok());
}

#[test]
fn the_address_that_a_trusted_proxy_forwards_is_the_one_that_counts() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .flag("--max-connections-per-address", "1")
        .flag("--trusted-proxies", "127.0.0.2,10.0.0.0/8")
        .flag("--log", "walcast=debug")
        .start();
    let by =
        |proxy: u8, forwarded: &str| Client::over(from(&walcast, proxy), &[("x-forwarded-for", forwarded)]);
    let first = by(2, "203.0.113.9").unwrap();
    walcast.logs("\"client\":\"203.0.113.9\"");
    let refused = by(2, "203.0.113.9").err().unwrap();
    assert_eq!(refused.status, 429, "{}", refused.body);
    // What the client itself says before that, or in the other header, is not believed.
    assert_eq!(
        by(2, "198.51.100.1, 203.0.113.9, 10.1.1.1").err().unwrap().status,
        429
    );
    let both = [
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=198.51.100.1"),
    ];
    assert_eq!(Client::over(from(&walcast, 2), &both).err().unwrap().status, 429);
    assert_eq!(refusals(&walcast, "address"), 3.0);
    let _others = (by(2, "203.0.113.10").unwrap(), by(2, "2001:db8::1").unwrap());
    assert_eq!(by(2, "2001:db8::ffff").err().unwrap().status, 429);
    // Nor is whoever is not a proxy.
    let _direct = by(3, "203.0.113.77").unwrap();
    assert_eq!(by(3, "203.0.113.78").err().unwrap().status, 429);
    drop(first);
    eventually("it has a place again", || by(2, "203.0.113.9").ok());
}

#[test]
fn trusted_proxies_name_clients_by_either_version_of_the_proxy_protocol() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .flag("--max-connections-per-address", "1")
        .flag("--trusted-proxies", "127.0.0.2")
        .switch("--proxy-protocol")
        .flag("--log", "walcast=debug")
        .start();
    let by = |header: &[u8]| {
        let mut line = from(&walcast, 2);
        line.write_all(header).unwrap();
        Client::over(line, &[])
    };
    let v2 = |client: [u8; 4]| {
        [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
            &client,
            &[127, 0, 0, 1, 0x12, 0x34, 0, 80],
        ]
        .concat()
    };
    let first = by(b"PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\n").unwrap();
    walcast.logs("\"client\":\"203.0.113.9\"");
    assert_eq!(by(&v2([203, 0, 113, 9])).err().unwrap().status, 429);
    let _second = by(&v2([203, 0, 113, 10])).unwrap();
    let _ipv6 = by(b"PROXY TCP6 2001:db8::1 ::1 4660 80\r\n").unwrap();
    assert_eq!(refusals(&walcast, "address"), 1.0);
    // A proxy that only looks whether we are there.
    let own = by(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0").unwrap();
    drop((own, first));
    eventually("it has a place again", || by(&v2([203, 0, 113, 9])).ok());
    // One without a header is cut off, and so is one that is not a proxy and sends one.
    assert_eq!(by(b"").err().unwrap().status, 0);
    eventually_equal("it is counted", 1.0, || refusals(&walcast, "proxy"));
    walcast.logs("does not speak the PROXY protocol");
    let answer = from(&walcast, 3).ask(&format!("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n{UPGRADE}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    eventually("it has a place again", || {
        Client::over(from(&walcast, 3), &[]).ok()
    });
}

#[test]
fn a_proxy_that_never_says_whom_it_passes_on_does_not_keep_its_place() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .flag("--handshake-timeout", "500ms")
        .flag("--max-connections", "2")
        .flag("--trusted-proxies", "127.0.0.0/8")
        .switch("--proxy-protocol")
        .start();
    let held: Vec<TcpStream> = [&b""[..], b"PROXY TCP4 "]
        .iter()
        .map(|begun| {
            let mut socket = TcpStream::connect(walcast.listen()).unwrap();
            socket.write_all(begun).unwrap();
            socket
        })
        .collect();
    eventually("there is a place again", || {
        let mut line = from(&walcast, 1);
        line.write_all(b"PROXY UNKNOWN\r\n").ok()?;
        Client::over(line, &[]).ok()
    });
    drop(held);
}
