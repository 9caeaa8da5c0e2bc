//! Handshakes that are slow, or never done: they take no client's place, and end in an answer.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;

use crate::support::{Authority, Client, Database, Line, Setup, Walcast, eventually, eventually_equal};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY);
    CREATE PUBLICATION pub FOR TABLE t;
";
/// The beginning of a request that never ends.
const HALF: &str = "GET /v1/stream HTTP/1.1\r\nhost: x\r\n";

fn refusals(walcast: &Walcast, reason: &str) -> f64 {
    walcast.metric(&format!("connections_refused_total{{reason=\"{reason}\"}}"))
}

/// A connection from 127.0.0.`host` that begins with `begun` and says no more.
fn slow(walcast: &Walcast, host: u8, begun: &str) -> Line {
    let mut line = Line::from(Ipv4Addr::new(127, 0, 0, host), walcast.listen()).unwrap();
    line.write_all(begun.as_bytes()).unwrap();
    line
}

fn client(walcast: &Walcast, host: u8) -> Option<Client> {
    Client::over(
        Line::from(Ipv4Addr::new(127, 0, 0, host), walcast.listen()).ok()?,
        &[],
    )
    .ok()
}

/// All that a connection is answered until it ends.
fn answer(line: &mut Line) -> String {
    let mut answer = Vec::new();
    // What it said and nobody read resets it, behind the answer.
    drop(line.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).to_lowercase()
}

#[test]
fn those_who_say_nothing_take_no_places_of_clients() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .flag("--handshake-timeout", "1h")
        .flag("--max-connections", "3")
        .flag("--max-handshakes", "20")
        .start();
    let silent: Vec<Line> = ["", HALF, "x"]
        .into_iter()
        .cycle()
        .take(18)
        .map(|begun| slow(&walcast, 2, begun))
        .collect();
    let mut clients: Vec<Client> = (0..3).map(|_| walcast.connect()).collect();
    let refused = walcast.try_connect("/v1/stream", &[]).err().unwrap();
    assert_eq!(refused.status, 503, "{refused:?}");
    clients[2].subscribe_live(json!({"id": "a", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1)");
    assert_eq!(clients[2].change()["row"]["id"], 1);
    // Those are all there still, and the one that asks.
    eventually_equal("the silent are there, and the one that asks", 19.0, || {
        walcast.metric("handshakes")
    });
    assert_eq!(refusals(&walcast, "handshakes"), 0.0);
    drop(silent);
    eventually_equal("they are gone", 1.0, || walcast.metric("handshakes"));
}

#[test]
fn an_address_with_all_the_handshakes_makes_room_for_the_others() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .flag("--handshake-timeout", "1h")
        .flag("--max-handshakes", "8")
        .start();
    let mut silent: Vec<Line> = (0..8).map(|_| slow(&walcast, 2, HALF)).collect();
    eventually_equal("all places are taken", 9.0, || walcast.metric("handshakes"));
    let _clients: Vec<Client> = (3..6)
        .map(|host| {
            let client = client(&walcast, host).expect("a place");
            // Its own is free a moment after its answer.
            eventually("the handshake is over", || {
                (walcast.metric("handshakes") <= 8.0).then_some(())
            });
            client
        })
        .collect();
    assert_eq!(
        refusals(&walcast, "handshakes"),
        1.0,
        "one place is enough for them, one by one"
    );
    // The first that came is told to come again.
    let heard = answer(&mut silent[0]);
    assert!(
        heard.starts_with("http/1.1 503 ") && heard.contains("\r\nretry-after: "),
        "{heard}"
    );
    walcast.logs("--max-handshakes");
}

#[test]
fn handshakes_of_many_addresses_make_room_once_they_have_had_their_time() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .flag("--handshake-timeout", "1h")
        .flag("--max-handshakes", "4")
        .start();
    let mut silent: Vec<Line> = (2..6).map(|host| slow(&walcast, host, "")).collect();
    eventually_equal("all places are taken", 5.0, || walcast.metric("handshakes"));
    let client = eventually("there is a place", || client(&walcast, 6));
    assert!(answer(&mut silent[0]).starts_with("http/1.1 503 "));
    drop(client);
}

#[test]
fn connections_beyond_the_handshakes_are_all_answered_whatever_they_say() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .flag("--handshake-timeout", "2s")
        .flag("--max-handshakes", "1")
        .start();
    // More than are refused at a time, from one address.
    let lines = ["", HALF].into_iter().cycle().take(300);
    let lines: Vec<Line> = lines.map(|begun| slow(&walcast, 2, begun)).collect();
    let mut refused = 0;
    for mut line in lines {
        let heard = answer(&mut line);
        let is_refused = heard.starts_with("http/1.1 503 ") && heard.contains("\r\nretry-after: ");
        assert!(is_refused || heard.starts_with("http/1.1 408 "), "{heard}");
        refused += u32::from(is_refused);
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn a_handshake_that_takes_too_long_is_told_so_with_and_without_tls() {
    let database = Database::new(SCHEMA);
    let authority = Authority::new(2030);
    for by_tls in [false, true] {
        let setup = Setup::new(&database).on_slot(if by_tls { "tls" } else { "plain" });
        let setup = if by_tls { authority.shown_by(setup) } else { setup };
        let walcast = setup.flag("--handshake-timeout", "500ms").start();
        for begun in ["", HALF] {
            let mut line = if by_tls {
                Line::tls(walcast.listen(), &authority.believers()).unwrap()
            } else {
                Line::plain(walcast.listen()).unwrap()
            };
            line.write_all(begun.as_bytes()).unwrap();
            line.socket()
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            let heard = answer(&mut line);
            assert!(heard.starts_with("http/1.1 408 "), "{by_tls} {begun:?}: {heard}");
        }
        assert_eq!(refusals(&walcast, "timeout"), 2.0);
    }
}
