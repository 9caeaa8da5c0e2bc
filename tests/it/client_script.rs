//! `/client.js`, which pages load without a build.

use crate::support::{Database, Setup, http};

const SCRIPT: &str = include_str!("../../client/dist/client.min.js");

#[test]
fn pages_of_all_origins_get_the_client_once() {
    let database = Database::new("CREATE PUBLICATION pub FOR ALL TABLES");
    let walcast = Setup::new(&database).start();
    let get = |headers: &str| {
        let request =
            format!("GET /client.js HTTP/1.1\r\nHost: walcast\r\nConnection: close\r\n{headers}\r\n");
        let answer = http(walcast.listen(), &request).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    };
    let (head, body) = get("Origin: https://elsewhere.example\r\n");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for field in [
        "content-type: text/javascript; charset=utf-8",
        "access-control-allow-origin: *",
        "cross-origin-resource-policy: cross-origin",
        "cache-control: no-cache",
        "x-content-type-options: nosniff",
    ] {
        assert!(head.contains(field), "{field}: {head}");
    }
    assert_eq!(body, SCRIPT);
    let tag = head.split("etag: ").nth(1).unwrap().lines().next().unwrap();
    let (head, body) = get(&format!("If-None-Match: {tag}\r\n"));
    assert!(head.starts_with("http/1.1 304") && body.is_empty(), "{head}");
    assert!(get("If-None-Match: \"0\"\r\n").0.starts_with("http/1.1 200"));
}
