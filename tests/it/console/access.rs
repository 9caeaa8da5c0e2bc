//! Access to the console: callers that it answers, and those that it shows rows.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{SCHEMA, TOKEN, ask, get, get_with, operator, refusal, token_file};
use crate::support::guarded::{Guarded, auth};
use crate::support::{Client, Database, End, Setup, Walcast, eventually, http};

const APIS: [&str; 7] = [
    "GET /api/status",
    "GET /api/series",
    "GET /api/tables",
    "GET /api/check",
    "GET /api/queries",
    "GET /api/connections",
    "POST /api/parse",
];

/// The access with which the page comes to a requester.
fn access_of_page(walcast: &Walcast, headers: &str) -> Value {
    let (_, _, page) = ask(walcast.admin(), "GET /", headers, "");
    let (_, rest) = page
        .split_once("<meta name=\"walcast-access\" content=\"")
        .unwrap();
    let (access, _) = rest.split_once("\">").unwrap();
    serde_json::from_str(&access.replace("&quot;", "\"")).unwrap()
}

/// The origin of pages that the clients' listener serves.
fn own_page(walcast: &Walcast) -> String {
    format!("http://{}", walcast.listen())
}

/// A client of ann's on such a page.
fn from_a_page(guarded: &Guarded, walcast: &Walcast) -> Client {
    let bearer = format!("Bearer {}", guarded.token_with("ann", &json!({})));
    let headers = [("authorization", &*bearer), ("origin", &own_page(walcast))];
    walcast.try_connect("/v1/stream", &headers).unwrap()
}

#[test]
fn the_page_is_served_and_pages_of_others_get_nothing() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let admin = walcast.admin();
    for (path, kind, cache) in [
        ("/", "text/html; charset=utf-8", "no-store"),
        ("/console/app.js", "text/javascript; charset=utf-8", "no-cache"),
        ("/console/app.css", "text/css; charset=utf-8", "no-cache"),
    ] {
        let (status, head, body) = ask(admin, &format!("GET {path}"), "", "");
        assert!(status == 200 && !body.is_empty(), "{path}: {head}");
        for field in [
            format!("content-type: {kind}"),
            format!("cache-control: {cache}"),
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
                .to_owned(),
            "cross-origin-opener-policy: same-origin".to_owned(),
            "cross-origin-embedder-policy: require-corp".to_owned(),
            "cross-origin-resource-policy: same-origin".to_owned(),
            "x-content-type-options: nosniff".to_owned(),
            "referrer-policy: no-referrer".to_owned(),
        ] {
            assert!(head.contains(&field), "{path}: {field}: {head}");
        }
        let tag = head.split("etag: ").nth(1).unwrap().lines().next().unwrap();
        let known = format!("if-none-match: {tag}\r\n");
        assert_eq!(ask(admin, &format!("GET {path}"), &known, "").0, 304, "{path}");
    }
    // The page itself asks as a browser says it.
    let own = format!("origin: http://{admin}\r\nsec-fetch-site: same-origin\r\n");
    let access = get_with(&walcast, "/api/access", &own);
    assert_eq!(access["rows"], true);
    // It comes with the answer, so that it need not ask first.
    assert_eq!(access_of_page(&walcast, &own), access);
    let body = json!({"table": "orders"}).to_string();
    for request in APIS {
        let body = if request.starts_with("POST") { &*body } else { "" };
        for foreign in [
            "origin: http://evil.example\r\n".to_owned(),
            format!("origin: http://127.0.0.1:{}\r\n", walcast.listen().port()),
            "origin: null\r\n".to_owned(),
            "sec-fetch-site: cross-site\r\n".to_owned(),
            "sec-fetch-site: same-site\r\n".to_owned(),
        ] {
            let refused = refusal(&walcast, request, &foreign, body);
            assert_eq!(refused, (403, "origin".to_owned()), "{request} {foreign}");
        }
        let (status, head, _) = ask(admin, request, &own, body);
        assert_eq!(status, 200, "{request}: {head}");
        assert!(
            head.contains("cache-control: no-store") && !head.contains("access-control"),
            "{request}: {head}"
        );
        let rebound = request.replacen(' ', " http://evil.example", 1);
        let asked = format!("{rebound} HTTP/1.1\r\nhost: evil.example\r\n\r\n");
        assert!(
            http(admin, &asked).unwrap().starts_with("HTTP/1.1 403"),
            "{asked}"
        );
    }
    let stream =
        |headers: &[(&'static str, &str)]| operator(&walcast, headers).map(drop).map_err(|r| r.status);
    assert_eq!(stream(&[("origin", &format!("http://{admin}"))]), Ok(()));
    for foreign in ["http://evil.example", "null", "http://localhost:1"] {
        assert_eq!(stream(&[("origin", foreign)]), Err(403), "{foreign}");
    }
    assert_eq!(stream(&[("host", "evil.example")]), Err(403));
    assert_eq!(stream(&[("sec-fetch-site", "cross-site")]), Err(403));
    // Through a proxy the requester may be on another machine.
    let access = get_with(&walcast, "/api/access", "x-forwarded-for: 192.0.2.1\r\n");
    assert!(
        access["rows"] == false && access["rows_refused"].as_str().unwrap().contains("proxy"),
        "{access}"
    );
    assert_eq!(access_of_page(&walcast, "x-forwarded-for: 192.0.2.1\r\n"), access);
    assert_eq!(stream(&[("x-forwarded-for", "192.0.2.1")]), Err(403));
    assert_eq!(
        refusal(&walcast, "GET /api/none", "", ""),
        (404, "not_found".to_owned())
    );
    assert_eq!(ask(admin, "GET /api/parse", "", "").0, 405);
    assert_eq!(
        refusal(&walcast, "GET /api/tables?source=x", "", ""),
        (404, "unknown_source".to_owned())
    );
    let (_, _, body) = ask(admin, "GET /api/tables?source=x", "", "");
    assert!(body.contains("has no name: leave source out"), "{body}");
    assert_eq!(
        refusal(&walcast, "GET /api/types?table=nosuch", "", ""),
        (404, "not_found".to_owned())
    );
    // A body that cannot be read, and one that is too long.
    let chunked = "transfer-encoding: chunked\r\n";
    assert_eq!(
        refusal(&walcast, "POST /api/parse", chunked, "no number\r\n"),
        (400, "bad_request".to_owned())
    );
    let large = json!({"table": "orders", "where": "x".repeat(64 * 1024)}).to_string();
    assert_eq!(
        refusal(&walcast, "POST /api/parse", "", &large),
        (413, "too_large".to_owned())
    );
}

#[test]
fn rows_that_policies_hide_are_shown_to_those_who_have_the_token() {
    let guarded = Guarded::new(SCHEMA);
    let policies = "[[policy]]\ntables = [\"orders\"]\nwhere = \"status = 'public'\"\n\
                    [[policy]]\ntables = [\"keyed\"]\nwhere = \"kind = 'internal'\"\n";
    guarded
        .database
        .sql("INSERT INTO orders (id, status) VALUES (1, 'public'), (2, 'hidden')");
    // Row filters came with 15.
    let has_filters = guarded.database.version() >= 150_000;
    if has_filters {
        guarded.database.sql(
            "ALTER PUBLICATION pub DROP TABLE keyed; ALTER PUBLICATION pub ADD TABLE keyed WHERE (id <> 7)",
        );
    }
    let row_filters = |walcast: &Walcast, headers: &str| {
        let tables = get_with(walcast, "/api/tables", headers);
        let keyed = tables["tables"].as_array().unwrap().iter();
        let mut keyed = keyed.filter(|table| table["table"] == "public.keyed");
        keyed.next().unwrap()["row_filters"].clone()
    };
    let walcast = guarded.setup("", policies).start();
    // Without one, nobody is an operator.
    let access = get(&walcast, "/api/access");
    assert!(
        access["rows"] == false
            && access["rows_refused"]
                .as_str()
                .unwrap()
                .contains("--admin-token-file"),
        "{access}"
    );
    let refused = operator(&walcast, &[]).err().unwrap();
    assert!(
        refused.status == 403 && refused.body.contains("rows_refused"),
        "{refused:?}"
    );
    let mut client = from_a_page(&guarded, &walcast);
    client.subscribe_live(json!({"id": "o", "table": "orders", "where": "amount = 5"}));
    let queries = get(&walcast, "/api/queries");
    let query = &queries["queries"][0];
    assert!(
        query["where"].is_null() && query["table"] == "public.orders",
        "{queries}"
    );
    assert!(!queries.to_string().contains("'public'"), "{queries}");
    let connections = get(&walcast, "/api/connections");
    let connection = &connections["connections"][0];
    assert!(
        connection["subject"].is_null() && connection["origin"].is_null(),
        "{connections}"
    );
    if has_filters {
        assert_eq!(row_filters(&walcast, ""), json!([null]));
    }
    // A policy that does not fit is named by its place, and what it says is not told.
    let misfit = |walcast: &Walcast, headers: &str| {
        let checked = get_with(walcast, "/api/check", headers);
        let findings = checked["findings"].as_array().unwrap().iter();
        let mut findings = findings.filter(|finding| finding["message"].as_str().unwrap().contains(".toml:"));
        let finding = findings.next().unwrap();
        assert!(
            finding["severity"] == "error" && finding["table"].is_null(),
            "{finding}"
        );
        finding["message"].as_str().unwrap().to_owned()
    };
    let message = misfit(&walcast, "");
    let words = ": a policy does not fit the tables: walcast check --config says why";
    assert!(message.ends_with(words) && !message.contains("kind"), "{message}");
    drop(walcast);

    let directory = TempDir::new().unwrap();
    let walcast = guarded
        .setup("", policies)
        .flag("--admin-token-file", &token_file(&directory))
        .start();
    assert_eq!(
        get(&walcast, "/api/access"),
        json!({
            "version": env!("CARGO_PKG_VERSION"), "token": "needed", "rows": false,
            "rows_refused": "rows are shown once the token of --admin-token-file is given", "sources": [],
            "stream": "/v1/stream", "public": format!("ws://{}/v1/stream", walcast.listen()), "metrics": "/metrics",
        })
    );
    let known = format!("authorization: Bearer {TOKEN}\r\n");
    if has_filters {
        assert_eq!(row_filters(&walcast, &known), json!(["(id <> 7)"]));
    }
    let message = misfit(&walcast, &known);
    assert!(
        message.contains("it admits nothing of public.keyed") && message.contains("kind"),
        "{message}"
    );
    let access = get_with(&walcast, "/api/access", &known);
    assert_eq!(
        (&access["token"], &access["rows"]),
        (&json!("given"), &json!(true))
    );
    for request in APIS {
        for wrong in ["", "authorization: Bearer 0123456789abcdeg\r\n"] {
            let (status, head, body) = ask(walcast.admin(), request, wrong, "");
            assert!(
                status == 401 && head.contains("www-authenticate: bearer") && body.contains("\"token\""),
                "{request}: {head}{body}"
            );
        }
    }
    // Those who have not sent the token yet have few places, and take none of those who send it at once.
    let open = || Client::open(walcast.admin(), "/v1/stream", &[]);
    let waiting: Vec<Client> = (0..8).map(|_| open().unwrap()).collect();
    let refused = open().err().unwrap();
    let words = "there are 8 such connections already that have not sent the token: try again later, or send it as \
                 Authorization: Bearer";
    assert!(
        refused.status == 503
            && refused.body.contains("\"too_many_streams\"")
            && refused.body.contains(words),
        "{refused:?}"
    );
    // In the header, or as the first message.
    let bearer = format!("Bearer {TOKEN}");
    let mut first = operator(&walcast, &[("authorization", &bearer)]).unwrap();
    drop(waiting);
    let mut second = eventually("a place is free", || open().ok());
    second.send(&auth(TOKEN));
    assert_eq!(second.next()["type"], "hello");
    for operator in [&mut first, &mut second] {
        let rows = operator.snapshot(json!({"id": "o", "table": "orders"}));
        assert_eq!(rows.len(), 2, "{rows:?}");
    }
    let refused = operator(&walcast, &[("authorization", "Bearer 0123456789abcdeg")]).err();
    assert_eq!(refused.unwrap().status, 401);
    for wrong in [TOKEN.replace('f', "e"), guarded.token("ann", "customer")] {
        let mut other = Client::open(walcast.admin(), "/v1/stream", &[]).unwrap();
        other.send(&auth(&wrong));
        assert_eq!(other.error()["code"], "unauthenticated");
        assert!(matches!(other.end(), End::Closed(4500, _)));
    }
    // Each of the seven requests was refused twice, and three websockets, two of them by their first message.
    let (_, _, metrics) = ask(walcast.admin(), "GET /metrics", &known, "");
    let refused = "walcast_admin_requests_refused_total{reason=\"token\"} 17\n";
    assert!(metrics.contains(refused), "{metrics}");
    // The clients' listener knows no operators.
    let public = walcast.try_connect("/v1/stream", &[("authorization", &bearer)]);
    assert_eq!(public.err().unwrap().status, 401);
    // Words of clients are told to those who may see rows.
    let mut client = from_a_page(&guarded, &walcast);
    client.subscribe_live(json!({"id": "o", "table": "orders", "where": "amount = 5"}));
    let connections = get_with(&walcast, "/api/connections", &known);
    let connections = connections["connections"].as_array().unwrap();
    assert!(
        connections
            .iter()
            .any(|one| one["subject"] == "ann" && one["origin"] == own_page(&walcast)),
        "{connections:?}"
    );
    eventually("the query is listed", || {
        let queries = get_with(&walcast, "/api/queries", &known);
        let queries = queries["queries"].as_array().unwrap().clone();
        queries
            .iter()
            .any(|query| query["where"] == "amount = 5")
            .then_some(())
    });
}

#[test]
fn rows_are_not_shown_without_a_token_where_other_machines_ask() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database)
        .admin_on("0.0.0.0:0".parse().unwrap())
        .start();
    let admin = SocketAddr::from(([127, 0, 0, 1], walcast.admin().port()));
    let (_, _, body) = ask(admin, "GET /api/access", "", "");
    let access: Value = serde_json::from_str(&body).unwrap();
    assert!(
        access["rows"] == false
            && access["rows_refused"]
                .as_str()
                .unwrap()
                .contains("other machines"),
        "{access}"
    );
    let refused = Client::try_connect(admin, "/v1/stream", &[]).err().unwrap();
    assert_eq!(refused.status, 403);
    // Health and tables work.
    for path in ["GET /api/series", "GET /api/tables", "GET /api/status"] {
        assert_eq!(ask(admin, path, "", "").0, 200, "{path}");
    }
}
