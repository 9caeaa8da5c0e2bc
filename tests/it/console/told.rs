//! Answers of the console about tables, queries and connections.

use serde_json::{Value, json};

use super::{SCHEMA, ask, get, operator, parse};
use crate::support::{Database, Setup, eventually};

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
fn a_connection_that_reads_nothing_is_told_first_with_how_far_it_is_behind() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).flag("--send-buffer-bytes", "8KiB").start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "o", "table": "orders"}));
    let mut other = walcast.connect();
    other.subscribe_live(json!({"id": "o", "table": "keyed"}));
    // More than the buffers on the way to it hold.
    let mut connection = database.connect();
    for from in (0..40_000).step_by(1000) {
        let rows = format!(
            "SELECT g, repeat('x', 1000) FROM generate_series({}, {}) g",
            from + 1,
            from + 1000
        );
        connection
            .query(&format!("INSERT INTO orders (id, status) {rows}"))
            .unwrap();
    }
    let first = || get(&walcast, "/api/connections")["connections"][0].clone();
    eventually("it is behind", || {
        let first = first();
        let behind = first["behind_bytes"].as_u64().unwrap();
        // Of 40 MB a part has gone out.
        (first["state"] == "stalled" && (1_000_000..100_000_000).contains(&behind)).then_some(())
    });
    let mut last = 0;
    while last < 40_000 {
        let tx = client.tx();
        last += tx["changes"].as_array().unwrap().len();
    }
    eventually("it has caught up", || {
        let told = get(&walcast, "/api/connections");
        let connections = told["connections"].as_array().unwrap();
        let is_there = |one: &Value| one["state"] == "live" && one["behind_bytes"] == 0;
        connections.iter().all(is_there).then_some(())
    });
}
