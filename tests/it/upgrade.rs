//! The upgrade to a websocket, and the requests that it is refused to.

use crate::refusals::{SCHEMA, serve};
use crate::support::{Database, Setup, Walcast, eventually_equal, http};

#[test]
fn what_is_no_websocket_handshake_is_answered_in_http() {
    let (_database, walcast) = serve();
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    let handshake = |host: &str, key: &str| {
        format!(
            "GET /v1/stream HTTP/1.1\r\n{host}{upgrade}sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
        )
    };
    for (request, status) in [
        (
            "GET /v1/stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
            426,
        ),
        (
            format!("GET /v1/stream HTTP/1.1\r\nhost: x\r\n{upgrade}sec-websocket-version: 8\r\n{key}\r\n"),
            426,
        ),
        (
            format!("GET /v1/stream HTTP/1.1\r\nhost: x\r\n{upgrade}sec-websocket-version: 13\r\n\r\n"),
            400,
        ),
        (
            format!(
                "GET /v1/stream?number=string HTTP/1.1\r\nhost: x\r\n{upgrade}sec-websocket-version: 13\r\n{key}\r\n"
            ),
            400,
        ),
        // Not 16 bytes in base64: too few, too many, another alphabet, bits to spare that are not zero.
        (handshake("host: x\r\n", "dGhlIHNhbXBsZSBub25jZQ"), 400),
        (handshake("host: x\r\n", "dGhlIHNhbXBsZSBub25jZTE="), 400),
        (handshake("host: x\r\n", "dGhlIHNhbXBsZSBub25j_Q=="), 400),
        (handshake("host: x\r\n", "dGhlIHNhbXBsZSBub25jZR=="), 400),
        // No host, several, and one that is not the one that is asked for.
        (handshake("", "dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (
            handshake("host: x\r\nhost: x\r\n", "dGhlIHNhbXBsZSBub25jZQ=="),
            400,
        ),
        (
            handshake("host: x\r\nhost: y\r\n", "dGhlIHNhbXBsZSBub25jZQ=="),
            400,
        ),
        (
            "GET http://evil.example/v1/stream HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
            400,
        ),
        (
            "GET /v2/stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
            404,
        ),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let answer = http_status(&walcast, &request);
        assert_eq!(answer, status, "{request}");
    }
    assert_eq!(walcast.get("/nothing").0, 404);
    // What operators read is not for clients.
    for path in [
        "/metrics",
        "/health/live",
        "/health/ready",
        "/",
        "/debug/pprof/",
        "/v1",
    ] {
        let answer = crate::support::http_get(walcast.listen(), path).unwrap();
        assert_eq!(answer, (404, String::new()), "{path}");
    }
}

#[test]
fn pages_of_other_sites_may_not_connect_unless_they_are_named() {
    let database = Database::new(SCHEMA);
    let status = |walcast: &Walcast, headers: &[(&'static str, &str)]| {
        let refused = walcast.try_connect("/v1/stream", headers).err();
        refused.map_or((101, String::new()), |refused| (refused.status, refused.body))
    };
    let walcast = Setup::new(&database).start();
    let own = format!("http://{}", walcast.listen());
    assert_eq!(status(&walcast, &[]).0, 101);
    assert_eq!(status(&walcast, &[("origin", &own)]).0, 101);
    let (refused, words) = status(&walcast, &[("origin", "https://app.example.com")]);
    assert_eq!(refused, 403);
    assert!(
        words.contains("--allow-origin https://app.example.com"),
        "{words}"
    );
    assert_eq!(status(&walcast, &[("origin", "null")]).0, 403);
    // A name that was made to lead here.
    let rebound = [("origin", "http://evil.example"), ("host", "evil.example")];
    assert_eq!(status(&walcast, &rebound).0, 403);
    // The log names each page once, and all that were refused are counted.
    for _ in 0..3 {
        assert_eq!(status(&walcast, &[("origin", "https://app.example.com")]).0, 403);
    }
    assert_eq!(
        walcast.metric(r#"connections_refused_total{reason="origin"}"#),
        6.0
    );
    // The log comes by a pipe, in its own time.
    let warned = || {
        let log = walcast.log();
        let warned = log.lines().filter(|line| line.contains("a page was refused"));
        let warned = warned.filter(|line| line.contains("WARN"));
        warned.map(str::to_owned).collect::<Vec<_>>()
    };
    eventually_equal("each page is named", 3, || warned().len());
    let warned = warned();
    assert!(
        warned[0].contains("--allow-origin https://app.example.com"),
        "{warned:?}"
    );
    drop(walcast);
    let setup = Setup::new(&database).flag("--allow-origin", "https://app.example.com");
    let walcast = setup.on_slot("named").start();
    assert_eq!(status(&walcast, &[("origin", "https://app.example.com")]).0, 101);
    assert_eq!(
        status(&walcast, &[("origin", "https://other.example.com")]).0,
        403
    );
}

#[test]
fn a_handshake_that_takes_too_long_is_answered_and_closed() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).flag("--handshake-timeout", "200ms").start();
    assert_eq!(
        http_status(&walcast, "GET /v1/stream HTTP/1.1\r\nhost: x\r\n"),
        408
    );
}

fn http_status(walcast: &Walcast, request: &str) -> u16 {
    let answer = http(walcast.listen(), request).unwrap();
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer:?}"));
    status.parse().unwrap()
}
