//! The console on the admin listener: whom it answers, whom it shows rows, and what it tells.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::guarded::{Guarded, auth};
use crate::support::{Client, Database, End, Refused, Setup, Walcast, eventually, http};

const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE orders (id int PRIMARY KEY, status text COLLATE \"C\", amount int, feels mood, secret text);
    ALTER TABLE orders REPLICA IDENTITY FULL;
    CREATE TABLE keyed (id int PRIMARY KEY, status text);
    CREATE TABLE plain (a int); CREATE TABLE plain2 (a int); CREATE TABLE plain3 (a int); CREATE TABLE plain4 (a int);
    CREATE TABLE plain5 (a int); CREATE TABLE plain6 (a int); CREATE TABLE \"Plain7\" (a int);
    CREATE PUBLICATION pub FOR TABLE orders, keyed, plain, plain2, plain3, plain4, plain5, plain6, \"Plain7\";
";
const TOKEN: &str = "0123456789abcdef";

/// The head, in lower case, and the body of the answer to a request.
fn ask(address: SocketAddr, request: &str, headers: &str, body: &str) -> (u16, String, String) {
    let length = match body.len() {
        _ if headers.contains("chunked") => String::new(),
        0 => String::new(),
        length => format!("content-length: {length}\r\n"),
    };
    let request = format!("{request} HTTP/1.1\r\nhost: {address}\r\n{length}{headers}\r\n{body}");
    let answer = http(address, &request).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
}

fn get(walcast: &Walcast, path: &str) -> Value {
    get_with(walcast, path, "")
}

fn get_with(walcast: &Walcast, path: &str, headers: &str) -> Value {
    let (status, _, body) = ask(walcast.admin(), &format!("GET {path}"), headers, "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The status and the error's code of a request that is refused in JSON.
fn refusal(walcast: &Walcast, request: &str, headers: &str, body: &str) -> (u16, String) {
    let (status, _, answer) = ask(walcast.admin(), request, headers, body);
    let error: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{request}: {answer}"));
    let words = error["error"]["message"].as_str().unwrap();
    assert!(words.len() > 10, "{error}");
    (status, error["error"]["code"].as_str().unwrap().to_owned())
}

fn parse(walcast: &Walcast, query: &Value) -> Value {
    let (status, _, body) = ask(walcast.admin(), "POST /api/parse", "", &query.to_string());
    assert_eq!(status, 200, "{query}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// A websocket of an operator.
fn operator(walcast: &Walcast, headers: &[(&'static str, &str)]) -> Result<Client, Refused> {
    Client::try_connect(walcast.admin(), "/v1/stream", headers)
}

/// A file with the token, and the flag's value that names it.
fn token_file(directory: &TempDir) -> String {
    let file = directory.path().join("admin.token");
    fs::write(&file, TOKEN).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.to_str().unwrap().to_owned()
}

const APIS: [&str; 7] = [
    "GET /api/status",
    "GET /api/series",
    "GET /api/tables",
    "GET /api/check",
    "GET /api/queries",
    "GET /api/connections",
    "POST /api/parse",
];

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
    assert_eq!(get_with(&walcast, "/api/access", &own)["rows"], true);
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
fn an_operator_sees_what_is_published_and_what_becomes_of_it() {
    let database = Database::new(SCHEMA);
    database.sql("INSERT INTO orders VALUES (1, 'paid', 5, 'ok', 'x')");
    let walcast = Setup::new(&database).start();
    let access = get(&walcast, "/api/access");
    assert_eq!(
        access,
        json!({
            "version": env!("CARGO_PKG_VERSION"), "token": "none", "rows": true, "rows_refused": null, "sources": [],
            "stream": "/v1/stream", "public": format!("ws://{}/v1/stream", walcast.listen()), "metrics": "/metrics",
        })
    );

    // The stream.
    let mut streams = vec![operator(&walcast, &[]).unwrap()];
    let subscribe = json!({"id": "o", "table": "orders", "where": "status = 'paid' AND amount > 1"});
    let rows = streams[0].snapshot(subscribe.clone());
    assert_eq!((rows.len(), &rows[0]["id"]), (1, &json!(1)));
    let mut client = walcast.connect();
    client.subscribe_live(subscribe);
    client.subscribe_live(json!({"id": "all", "table": "orders", "where": "status <> 'paid'"}));
    database.sql("INSERT INTO orders VALUES (2, 'paid', 7, 'sad', 'y')");
    assert_eq!(streams[0].change()["row"]["id"], 2);
    assert_eq!(client.change()["row"]["id"], 2);
    while let Ok(stream) = operator(&walcast, &[]) {
        streams.push(stream);
        assert!(streams.len() <= 16);
    }
    assert_eq!(streams.len(), 16);
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let (status, head, _) = ask(walcast.admin(), "GET /v1/stream", upgrade, "");
    assert!(status == 503 && head.contains("retry-after: 5"), "{head}");
    streams.truncate(1);
    eventually("a place is free", || operator(&walcast, &[]).ok());

    // Where queries are filed, and what they do.
    let of = |queries: &Value, predicate: &str| {
        let queries = queries["queries"].as_array().unwrap();
        let found = queries.iter().find(|query| query["where"] == predicate);
        found.cloned().unwrap_or_else(|| panic!("{queries:?}"))
    };
    let queries = get(&walcast, "/api/queries");
    assert_eq!(queries["total"], 2, "{queries}");
    let query = of(&queries, "status = 'paid' AND amount > 1");
    assert_eq!(
        query["filed"],
        json!({"kind": "equality", "text": "status =, then amount >"})
    );
    assert_eq!(
        (&query["table"], &query["subscribers"]),
        (&json!("public.orders"), &json!(2))
    );
    let query = of(&queries, "status <> 'paid'");
    assert_eq!(
        query["filed"],
        json!({"kind": "every_change", "text": "every change"})
    );
    let mut id = 2;
    eventually("matches are counted", || {
        id += 1;
        database.sql(&format!("INSERT INTO orders VALUES ({id}, 'paid', 7)"));
        let queries = get(&walcast, "/api/queries");
        let query = of(&queries, "status = 'paid' AND amount > 1");
        (query["matches_per_second"].as_f64()? > 0.0).then_some(())
    });

    // Connections, once those that were closed are gone.
    let own = eventually("two connections", || {
        let told = get(&walcast, "/api/connections");
        let connections = told["connections"].as_array().unwrap();
        let found = connections.iter().find(|one| one["operator"] == false)?;
        (told["total"] == 2 && found["bytes_per_second"].is_number()).then(|| found.clone())
    });
    assert_eq!(
        (
            &own["address"],
            &own["subscriptions"],
            &own["state"],
            &own["behind_bytes"]
        ),
        (&json!("127.0.0.1"), &json!(2), &json!("live"), &json!(0))
    );
    assert!(
        own["sent_bytes"].as_u64().unwrap() > 100 && own["subject"].is_null(),
        "{own}"
    );

    // Tables, with what is wrong with them.
    let tables = get(&walcast, "/api/tables");
    let of_table = |name: &str| {
        let tables = tables["tables"].as_array().unwrap();
        tables.iter().find(|table| table["table"] == name).unwrap()
    };
    let orders = of_table("public.orders");
    assert_eq!(
        (
            &orders["table"],
            &orders["key"],
            &orders["replica_identity"],
            &orders["publishes"]
        ),
        (
            &json!("public.orders"),
            &json!(["id"]),
            &json!("full"),
            &json!(["insert", "update", "delete", "truncate"])
        )
    );
    assert_eq!(
        orders["columns"][3],
        json!({"name": "feels", "type": "mood", "key": false, "published": true, "enum": ["sad", "ok"]})
    );
    assert_eq!(
        (&orders["problems"], &orders["subscriptions"]),
        (&json!([]), &json!(3))
    );
    assert_eq!(of_table("public.keyed")["replica_identity"], "default");
    let checked = get(&walcast, "/api/check");
    let findings = checked["findings"].as_array().unwrap();
    // A finding about several tables is told of each, with its own SQL.
    for name in [
        "public.plain",
        "public.plain2",
        "public.plain3",
        "public.plain4",
        "public.plain5",
        "public.plain6",
        "public.\"Plain7\"",
    ] {
        let problem = &of_table(name)["problems"][0];
        let fix = format!("ALTER TABLE {name} REPLICA IDENTITY FULL");
        assert!(
            problem["fix"].as_str().unwrap().contains(&fix),
            "{name}: {tables}"
        );
        let message = problem["message"].as_str().unwrap();
        assert!(
            message.starts_with(&format!("UPDATE and DELETE fail on {name},")),
            "{message}"
        );
        let found = findings.iter().find(|finding| finding["table"] == name).unwrap();
        for field in ["severity", "message", "fix"] {
            assert_eq!(found[field], problem[field], "{name}: {checked}");
        }
    }
    assert!(checked["at"].as_f64().unwrap() > 1e9);
    assert_eq!(get(&walcast, "/api/check")["findings"], checked["findings"]);
    let (_, head, types) = ask(walcast.admin(), "GET /api/types?table=orders", "", "");
    assert!(
        head.contains("text/plain")
            && types.contains("feels: 'sad' | 'ok' | null")
            && !types.contains("Plain"),
        "{types}"
    );

    // Samples of each second.
    let last = |series: &Value, name: &str| {
        let values = series["series"][name].as_array().unwrap();
        values.last().and_then(Value::as_f64)
    };
    let series = eventually("samples", || {
        let series = get(&walcast, "/api/series");
        let rates = series["series"]["changes_per_second"].as_array().unwrap();
        let has_some = rates
            .iter()
            .any(|rate| rate.as_f64().is_some_and(|rate| rate > 0.0));
        let is_quiet = last(&series, "connections") == Some(2.0);
        (rates.len() > 2 && has_some && is_quiet).then_some(series)
    });
    let (start, end) = (series["start"].as_u64().unwrap(), series["end"].as_u64().unwrap());
    for (name, values) in series["series"].as_object().unwrap() {
        assert_eq!(values.as_array().unwrap().len() as u64, end + 1 - start, "{name}");
    }
    assert!(last(&series, "journal_bytes").unwrap() > 0.0, "{series}");
    assert_eq!(last(&series, "safe_wal_bytes"), None);
    let quantiles = series["series"]["latency_p99_seconds"].as_array().unwrap();
    assert!(quantiles.iter().any(Value::is_number), "{series}");
    assert_eq!(series["events"][0]["kind"], "restart");
    assert!(!series.to_string().contains("paid"));
    let later = get(&walcast, &format!("/api/series?since={end}"));
    assert_eq!(later["start"].as_u64().unwrap(), end + 1);
    assert!(
        later["events"]
            .as_array()
            .unwrap()
            .iter()
            .all(|event| event["kind"] != "restart")
    );
}

#[test]
fn a_predicate_is_parsed_as_a_subscription_would_be() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    let accepted = json!({"table": "orders", "where": "id = $1 AND status = 'x'", "params": [7]});
    let parsed = parse(&walcast, &accepted);
    let mut subscribe = accepted;
    subscribe["id"] = json!("s");
    let subscribed = client.subscribe(subscribe);
    assert_eq!(parsed["ok"], true, "{parsed}");
    assert_eq!(
        parsed["filed"],
        json!([{"kind": "equality", "column": "id", "columns": ["id", "status"], "text": "id, status ="}])
    );
    for field in ["columns", "key", "replica_identity", "warnings"] {
        assert_eq!(parsed[field], subscribed[field], "{field}");
    }
    for refused in [
        json!({"table": "orders", "where": "status ="}),
        json!({"table": "orders", "where": "nothing = 1"}),
        json!({"table": "orders", "where": "id = 'x'"}),
        json!({"table": "orders", "where": "status = 'é' AND amount = 'y'"}),
        json!({"table": "keyed", "where": "status = 'paid'"}),
        json!({"table": "order"}),
        json!({"table": "orders", "where": 5}),
        json!({"table": "orders", "wher": "TRUE"}),
        json!({"where": "TRUE"}),
    ] {
        let parsed = parse(&walcast, &refused);
        let mut subscribe = refused.clone();
        subscribe["id"] = json!("refused");
        let error = client.subscribe_refused(subscribe);
        assert_eq!(parsed["ok"], false, "{refused}");
        for field in ["code", "message", "offset"] {
            assert_eq!(parsed["error"][field], error[field], "{refused} {field}");
        }
    }
    assert_eq!(
        parse(&walcast, &json!({"id": "x", "table": "orders"}))["error"]["code"],
        "bad_request"
    );
    let (_, _, body) = ask(walcast.admin(), "POST /api/parse", "", "{");
    assert!(body.contains("bad_request"), "{body}");
    // Nothing of it stays.
    assert_eq!(get(&walcast, "/api/queries")["total"], 1);
}

#[test]
fn rows_that_policies_hide_are_shown_to_those_who_have_the_token() {
    let guarded = Guarded::new(SCHEMA);
    let policies = "[[policy]]\ntables = [\"orders\"]\nwhere = \"status = 'public'\"\n";
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
    let mut client = guarded.client(&walcast, "ann", &json!({}));
    client.subscribe_live(json!({"id": "o", "table": "orders", "where": "amount = 5"}));
    let queries = get(&walcast, "/api/queries");
    let query = &queries["queries"][0];
    assert!(
        query["where"].is_null() && query["table"] == "public.orders",
        "{queries}"
    );
    assert!(!queries.to_string().contains("'public'"), "{queries}");
    assert!(get(&walcast, "/api/connections")["connections"][0]["subject"].is_null());
    if has_filters {
        assert_eq!(row_filters(&walcast, ""), json!([null]));
    }
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
    // In the header, or as the first message.
    let bearer = format!("Bearer {TOKEN}");
    let mut first = operator(&walcast, &[("authorization", &bearer)]).unwrap();
    let mut second = Client::open(walcast.admin(), "/v1/stream", &[]).unwrap();
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
    let mut client = guarded.client(&walcast, "ann", &json!({}));
    client.subscribe_live(json!({"id": "o", "table": "orders", "where": "amount = 5"}));
    let connections = get_with(&walcast, "/api/connections", &known);
    let connections = connections["connections"].as_array().unwrap();
    assert!(
        connections.iter().any(|one| one["subject"] == "ann"),
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
