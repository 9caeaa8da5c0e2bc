//! Connections: how they end, and that none of them takes what others need.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Database, End, Raw, Setup, Walcast, eventually, eventually_equal, http};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, note text);
    CREATE PUBLICATION pub FOR TABLE t;
";
/// Room for a process that starts, allocates and warms up.
const MUCH: u64 = 40 << 20;

fn closed(walcast: &Walcast, code: &str) -> f64 {
    walcast.metric(&format!("connections_closed_total{{code=\"{code}\"}}"))
}

#[test]
fn what_is_not_the_protocol_ends_with_a_close_frame_that_says_so() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let frame = Raw::frame;
    let too_big = [&[0x81, 0xff][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat();
    let unmasked = vec![0x81, 0x02, b'{', b'}'];
    for (what, bytes, code) in [
        ("a reserved bit", frame(0xc1, b"{}"), 1002),
        ("an unknown opcode", frame(0x83, b"{}"), 1002),
        ("an unknown control opcode", frame(0x8b, b""), 1002),
        ("no mask", unmasked, 1002),
        ("a continuation of nothing", frame(0x80, b"{}"), 1002),
        (
            "a text inside a text",
            [frame(0x01, b"{"), frame(0x81, b"}")].concat(),
            1002,
        ),
        ("a control frame in fragments", frame(0x09, b""), 1002),
        ("a long control frame", frame(0x89, &[b'x'; 126]), 1002),
        ("a close frame of one byte", frame(0x88, b"x"), 1002),
        ("a close code that is none", frame(0x88, &[0x03, 0xee]), 1002),
        ("bad UTF-8", frame(0x81, b"\"\xff\""), 1007),
        (
            "bad UTF-8 in a fragment",
            [frame(0x01, b"\""), frame(0x00, b"\xc3\x28")].concat(),
            1007,
        ),
        (
            "half a letter",
            [frame(0x01, b"\xc3"), frame(0x80, b"")].concat(),
            1007,
        ),
        ("a reason in bad UTF-8", frame(0x88, b"\x03\xe8\xff"), 1007),
        ("too big a frame", too_big, 1009),
        (
            "too many fragments",
            [frame(0x01, b"{"), frame(0x00, b"").repeat(255), frame(0x80, b"}")].concat(),
            1009,
        ),
    ] {
        let mut raw = Raw::connect(walcast.listen());
        // What follows is not read any more, and must not take the close frame with it.
        let sent = [bytes, vec![0; 100_000]].concat();
        raw.send(&sent);
        let (end, in_order) = raw.end();
        let End::Closed(found, _) = end else {
            panic!("{what}: {end:?}")
        };
        assert_eq!(found, code, "{what}");
        assert!(in_order, "{what}: the connection was reset");
    }
    for (code, count) in [("1002", 10.0), ("1007", 4.0), ("1009", 2.0), ("lost", 0.0)] {
        eventually_equal(code, count, || closed(&walcast, code));
    }
}

#[test]
fn a_client_that_closes_is_counted_by_its_code_and_one_that_vanishes_as_lost() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).flag("--log", "walcast=debug").start();
    for (payload, label) in [
        (&b"\x03\xe8"[..], "1000"),
        (b"\x03\xe9tab closed", "1001"),
        (b"", "1005"),
        (b"\x0f\xa0", "other"),
    ] {
        let mut raw = Raw::connect(walcast.listen());
        assert!(raw.send(&Raw::frame(0x88, payload)));
        let (End::Closed(code, _), true) = raw.end() else {
            panic!("the close frame was not answered")
        };
        assert_eq!(
            code.to_be_bytes(),
            *payload.first_chunk().unwrap_or(&[0x03, 0xed])
        );
        eventually_equal(label, 1.0, || closed(&walcast, label));
    }
    drop(Raw::connect(walcast.listen()));
    eventually_equal("lost", 1.0, || closed(&walcast, "lost"));
    // Each connection, subscription and end is a line.
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "watched", "table": "t"}));
    client.unsubscribe("watched");
    client.send(&json!({"type": "ping", "ref": "x".repeat(70_000)}));
    client.end();
    let log = eventually("the end is logged", || {
        let log = walcast.log();
        log.contains("message too big").then_some(log)
    });
    let has = |level: &str, parts: &[&str]| {
        log.lines()
            .any(|line| line.contains(level) && parts.iter().all(|part| line.contains(part)))
    };
    assert!(
        has(
            "DEBUG",
            &["a client connected", "\"peer\":\"127.0.0.1:", "\"connection\":"]
        ),
        "{log}"
    );
    assert!(
        has("DEBUG", &["a subscription is live", "watched", "public.t"]),
        "{log}"
    );
    assert!(
        has("DEBUG", &["a subscription ended", "watched", "unsubscribed"]),
        "{log}"
    );
    assert!(has("DEBUG", &["a client closed its connection", "1001"]), "{log}");
    assert!(has("INFO", &["closing a connection", "1009"]), "{log}");
}

#[test]
fn pings_that_are_answered_to_nobody_take_no_memory() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    walcast.connect().subscribe_live(json!({"id": "s", "table": "t"}));
    let before = walcast.peak_resident_bytes();
    let ping = Raw::frame(0x89, &[b'x'; 125]).repeat(1000);
    for _ in 0..3 {
        let mut raw = Raw::connect(walcast.listen());
        // As much as it is let: 100 MB, if nobody stops it.
        let mut sent = 0;
        while sent < 1000 && raw.send(&ping) {
            sent += 1;
        }
        assert!(sent < 1000, "nobody stopped it");
    }
    let grown = walcast.peak_resident_bytes() - before;
    assert!(grown < MUCH, "it took {grown} bytes");
    eventually_equal("they are closed", 3.0, || closed(&walcast, "4004"));
    // A client that pings as clients do is answered.
    let mut raw = Raw::connect(walcast.listen());
    for _ in 0..100 {
        assert!(raw.send(&Raw::frame(0x89, b"x")));
    }
    assert!(raw.send(&Raw::frame(0x88, b"\x03\xe8")));
    assert_eq!(raw.end(), (End::Closed(1000, String::new()), true));
}

#[test]
fn a_message_that_never_ends_ends_the_connection() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .flag("--message-timeout", "1s")
        .flag("--ping-interval", "100ms")
        .start();
    for begun in [Raw::frame(0x01, &[b' '; 5000]), vec![0x81, 0xfe, 0xff, 0xff, 0]] {
        let mut raw = Raw::connect(walcast.listen());
        assert!(raw.send(&begun));
        // Whatever else it says.
        for _ in 0..50 {
            raw.send(&Raw::frame(0x8a, b""));
        }
        let (End::Closed(code, _), _) = raw.end() else {
            panic!("lost")
        };
        assert_eq!(code, 4001);
    }
}

#[test]
fn a_handshake_that_is_never_done_does_not_keep_its_place() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database)
        .flag("--handshake-timeout", "500ms")
        .flag("--max-connections", "5");
    let walcast = setup.start();
    let hold = |request: &str| -> Vec<TcpStream> {
        let connect = |_| {
            let mut socket = TcpStream::connect(walcast.listen()).unwrap();
            socket
                .set_write_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            // It may be closed before all is sent.
            drop(socket.write_all(request.as_bytes()));
            socket
        };
        (0..5).map(connect).collect()
    };
    let nothing = "GET /v1/stream HTTP/1.1\r\nhost: x\r\n".to_owned();
    let unread = "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20_000);
    for request in [String::new(), nothing, unread] {
        let held = hold(&request);
        eventually("there is a place again", || {
            walcast.try_connect("/v1/stream", &[]).ok()
        });
        drop(held);
    }
    assert_eq!(walcast.get("/health/live").0, 200);
}

#[test]
fn those_who_take_every_place_of_the_admin_listener_keep_none() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let unread = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(20_000);
    // More than there are places for, of each kind: those who ask again and again and read nothing, and the silent.
    let held: Vec<TcpStream> = (0..140)
        .map(|number| {
            let mut socket = TcpStream::connect(walcast.admin()).unwrap();
            let patience = Duration::from_millis(100);
            socket.set_write_timeout(Some(patience)).unwrap();
            if number % 2 == 0 {
                // It may be closed before all is sent.
                drop(socket.write_all(unread.as_bytes()));
            }
            socket
        })
        .collect();
    let ask = || {
        http(
            walcast.admin(),
            "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n",
        )
    };
    eventually("probes are answered", || {
        ask().filter(|answer| answer.starts_with("HTTP/1.1 200 "))
    });
    drop(held);
}

#[test]
fn beyond_the_limit_one_is_told_to_come_back_later() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).flag("--max-connections", "3").start();
    let mut clients: Vec<Client> = (0..3).map(|_| walcast.connect()).collect();
    let refused = walcast.try_connect("/v1/stream", &[]).err().unwrap();
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.body.contains("too many connections"), "{}", refused.body);
    let answer = http(walcast.listen(), "GET /v1/stream HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(answer.to_lowercase().contains("\r\nretry-after: "), "{answer}");
    assert_eq!(
        walcast.metric(r#"connections_refused_total{reason="limit"}"#),
        2.0
    );
    walcast.logs("limit of connections");
    let log = walcast.log();
    let warned = log.lines().filter(|line| line.contains("limit of connections"));
    assert_eq!(warned.count(), 1, "{log}");
    // A client that does not read its refusal is in nobody's way.
    let deaf: Vec<TcpStream> = (0..40)
        .map(|_| TcpStream::connect(walcast.listen()).unwrap())
        .collect();
    clients.pop();
    let mut client = eventually("there is a place", || walcast.try_connect("/v1/stream", &[]).ok());
    client.subscribe_live(json!({"id": "s", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1)");
    assert_eq!(client.change()["row"]["id"], 1);
    drop(deaf);
}

#[test]
fn idle_clients_leave_the_journal_its_file_descriptors() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database)
        .after("ulimit -n 300")
        .flag("--segment-bytes", "1MiB");
    let walcast = setup.start();
    walcast.logs("LimitNOFILE");
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t", "columns": ["id"]}));
    let mut idle = Vec::new();
    let refused = loop {
        assert!(idle.len() < 300);
        match walcast.try_connect("/v1/stream", &[]) {
            Ok(client) => idle.push(client),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(idle.len() > 50, "{} clients", idle.len());
    let knocking: Vec<TcpStream> = (0..200)
        .filter_map(|_| TcpStream::connect(walcast.listen()).ok())
        .collect();
    for id in 0..10 {
        let large = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 20000) g)";
        database.sql(&format!("INSERT INTO t SELECT {id}, {large}"));
        assert_eq!(client.change()["row"]["id"], id);
    }
    // Each of those was a segment of its own.
    client.subscribe(json!({"id": "past", "table": "t", "columns": ["id"], "from": "earliest"}));
    for id in 0..10 {
        assert_eq!(client.change()["row"]["id"], id);
    }
    assert_eq!(walcast.ready(), Ok(()));
    drop(knocking);
}

#[test]
fn a_stream_that_is_cut_while_descriptors_are_wanting_goes_on_and_so_do_the_clients() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .after("ulimit -n 1600")
        .flag("--handshake-timeout", "1s")
        .flag("--pong-timeout", "1h")
        .flag("--ping-interval", "30m")
        .start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t", "columns": ["id"]}));
    let mut idle: Vec<Client> = (0..1000).map(|_| walcast.connect()).collect();
    // No more than there are now, though there are places for more clients.
    let open = std::fs::read_dir(format!("/proc/{}/fd", walcast.pid())).unwrap();
    let numbers = open.map(|entry| {
        entry
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    });
    let most = numbers.max().unwrap() + 1;
    let limited = Command::new("prlimit")
        .args([format!("--pid={}", walcast.pid()), format!("--nofile={most}:")])
        .status();
    assert!(limited.unwrap().success());
    // They take the few that are free, and whichever becomes so.
    let knock = || TcpStream::connect(walcast.listen()).ok();
    let knocking: Vec<TcpStream> = (0..60).filter_map(|_| knock()).collect();
    walcast.logs("cannot accept connections");
    database.sql("INSERT INTO t VALUES (1)");
    assert_eq!(client.change()["row"]["id"], 1);
    // Nobody can be asked for a metric now.
    let reader =
        || database.value("SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots WHERE active");
    let cut = reader();
    database.sql(&format!("SELECT pg_terminate_backend({cut})"));
    eventually("it reads again", || {
        let now = reader();
        (now != cut && now != "0").then_some(())
    });
    database.sql("INSERT INTO t VALUES (2)");
    assert_eq!(client.change()["row"]["id"], 2);
    walcast.assert_running();
    drop(knocking);
    idle.truncate(900);
    let mut late = eventually("there is a place", || walcast.try_connect("/v1/stream", &[]).ok());
    late.subscribe_live(json!({"id": "s", "table": "t", "columns": ["id"]}));
    database.sql("INSERT INTO t VALUES (3)");
    assert_eq!(late.change()["row"]["id"], 3);
    assert_eq!(client.change()["row"]["id"], 3);
    assert_eq!(walcast.ready(), Ok(()));
}

#[test]
fn a_soft_limit_on_open_files_is_raised_to_the_hard_one() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).after("ulimit -S -n 64").start();
    let clients: Vec<Client> = (0..100).map(|_| walcast.connect()).collect();
    eventually_equal("it is counted", clients.len() as f64, || {
        walcast.metric("connections")
    });
}

#[test]
fn each_connection_serves_one_request() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut socket = TcpStream::connect(walcast.listen()).unwrap();
    let request = "GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n";
    socket.write_all(request.repeat(2).as_bytes()).unwrap();
    let mut answer = String::new();
    // What was not read of the second one may reset the connection, after the answer.
    drop(socket.read_to_string(&mut answer));
    assert_eq!(answer.matches("HTTP/1.1 404").count(), 1, "{answer}");
}
