//! `now()` in predicates: one time for as long as a subscription lasts, told to the client, which goes on with it.

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, day date);
    ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t";

/// The ids of the rows that come until it is live, and where that is.
fn snapshot(client: &mut Client) -> (Vec<i64>, Value) {
    let mut ids = Vec::new();
    loop {
        let message = client.next();
        if message["type"] == "live" {
            ids.sort_unstable();
            return (ids, message["position"].clone());
        }
        let rows = message["rows"].as_array().unwrap();
        ids.extend(rows.iter().map(|row| row["id"].as_i64().unwrap()));
    }
}

#[test]
fn now_is_the_time_of_the_subscription_and_of_all_that_goes_on_with_it() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).start();
    database.sql("INSERT INTO t VALUES (1, now()), (2, now() - interval '2 hours')");
    let query = json!({"id": "q", "table": "t", "where": "at > now() - interval '1 hour'"});
    let with = |field: &str, value: &Value| {
        let mut query = query.clone();
        query[field] = value.clone();
        query
    };
    let mut client = Client::connect(walcast.listen());
    let subscribed = client.subscribe(with("snapshot", &json!(true)));
    let now = subscribed["now"].clone();
    let text = now.as_str().unwrap().replace('T', " ").replace('Z', "+00");
    let same = database.value(&format!(
        "SELECT abs(extract(epoch FROM now() - '{text}')) < 3600"
    ));
    assert_eq!(same, "t", "{now}");
    // As Postgres writes it.
    let printed = database.value(&format!("SELECT timestamptz '{text}' AT TIME ZONE 'UTC'"));
    let warning = subscribed["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with(&format!("now() is {printed}+00 in this predicate")),
        "{warning}"
    );
    assert_eq!(subscribed["warnings"].as_array().unwrap().len(), 1);
    let (ids, position) = snapshot(&mut client);
    assert_eq!(ids, [1]);

    // The rows on both sides of the hour before it, to the microsecond.
    database.sql(&format!(
        "INSERT INTO t VALUES (3, timestamptz '{text}' - interval '1 hour'),
            (4, timestamptz '{text}' - interval '1 hour' + interval '1 microsecond');
         UPDATE t SET at = at - interval '3 hours' WHERE id = 1;
         UPDATE t SET at = at + interval '1 day' WHERE id = 2"
    ));
    let mut told = Vec::new();
    while told.len() < 3 {
        for change in client.changes() {
            let id = change["row"]["id"]
                .as_i64()
                .or(change["key"]["id"].as_i64())
                .unwrap();
            told.push((change["op"].as_str().unwrap().to_owned(), id));
        }
    }
    let expected = [("insert", 4), ("delete", 1), ("insert", 2)].map(|(op, id)| (op.to_owned(), id));
    assert_eq!(told, expected);
    drop(client);

    // From a position it goes on as of then, or not at all.
    let mut client = Client::connect(walcast.listen());
    let mut resumed = with("from", &position);
    let refused = client.subscribe_refused(resumed.clone());
    assert_eq!(refused["code"], "bad_predicate");
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("send that as \"now\""),
        "{refused}"
    );
    resumed["now"] = now.clone();
    let subscribed = client.subscribe(resumed);
    assert_eq!(subscribed["now"], now);
    let first = client.changes().remove(0);
    assert_eq!((&first["op"], &first["row"]["id"]), (&json!("insert"), &json!(4)));
}

#[test]
fn a_client_may_say_what_now_is() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).start();
    database.sql(
        "INSERT INTO t VALUES (1, '2024-02-29 10:30:00.5+00', '2024-02-29'), (2, '2024-02-29 10:30:00.500001+00', '2024-03-01'),
            (3, '2024-03-31 10:30:00.5+00', '2024-03-31'), (4, 'infinity', 'infinity'), (5, NULL, NULL)",
    );
    let mut client = Client::connect(walcast.listen());
    for (number, (predicate, expected)) in [
        ("at > now() - interval '1 mon'", vec![2, 3, 4]),
        ("at BETWEEN now() - interval '31 days' AND now()", vec![1, 2, 3]),
        ("day = current_date", vec![3]),
        ("day > current_date - $1::int", vec![2, 3, 4]),
        ("at >= date_trunc('month', now())", vec![3, 4]),
        ("day < now()", vec![1, 2, 3]),
        ("at IS DISTINCT FROM current_timestamp", vec![1, 2, 4, 5]),
    ]
    .into_iter()
    .enumerate()
    {
        let params = if predicate.contains("$1") {
            json!([31])
        } else {
            json!([])
        };
        let subscribed = client.subscribe(json!({
            "id": format!("q{number}"), "table": "t", "where": predicate, "params": params, "snapshot": true,
            "now": "2024-03-31T10:30:00.500000Z"
        }));
        assert_eq!(subscribed["now"], "2024-03-31T10:30:00.500000Z");
        assert_eq!(snapshot(&mut client).0, expected, "{predicate}");
    }
    // Where no clock is asked nothing is said of one.
    let subscribed = client.subscribe(json!({
        "id": "none", "table": "t", "where": "day = date '2024-03-01' - 1", "now": "2024-03-31T10:30:00Z"
    }));
    assert_eq!(
        (&subscribed["now"], &subscribed["warnings"]),
        (&Value::Null, &json!([]))
    );
}

#[test]
fn what_people_write_is_exact_or_says_what_to_write() {
    let database = Database::new(
        "CREATE TYPE mood AS ENUM ('sad', 'happy');
         CREATE TABLE t (id int PRIMARY KEY, name text COLLATE \"C\", j jsonb, n int, f float8, at timestamptz, state mood,
             tags text[]);
         ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t",
    );
    let walcast = Setup::new(&database).start();
    database.sql(
        "INSERT INTO t VALUES (1, 'Ann', '{\"n\": 7}', 6, 2.5, now(), 'sad', '{x}'),
            (2, 'bob', '{\"n\": 1.5}', 7, 1.5, now() - interval '2 days', 'happy', '{}'),
            (3, NULL, '{}', NULL, NULL, NULL, NULL, NULL), (4, 'zoe', '{\"n\": 12}', -8, 1e9, now() + interval '1 hour', 'sad', '{y,x}')",
    );
    let mut client = Client::connect(walcast.listen());
    for (number, predicate) in [
        "lower(name) = 'ann'",
        "upper(name) LIKE 'B%'",
        "coalesce(n, 0) = 0",
        "coalesce(name, 'none') <> 'Ann'",
        "(j -> 'n')::numeric > 5",
        "id <> 2 AND (j ->> 'n')::int > 5",
        "at > now() - interval '1 day'",
        "at > now() - '7 days'::interval",
        "at < now()",
        "at >= current_date - 7",
        "n % 2 = 0",
        "n * n > 40",
        "n % 4 = -n / 2 OR n * -1 = 8",
        "f::int = ANY ('{2,1000000000}')",
        "name < 'b'",
        "tags && ARRAY['x']",
        "state = 'sad'",
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("q{number}");
        client.subscribe(json!({"id": id, "table": "t", "where": predicate, "snapshot": true}));
        let there = database.rows(&format!("SELECT id FROM t WHERE {predicate} ORDER BY id"));
        let there: Vec<i64> = there.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        assert_eq!(snapshot(&mut client).0, there, "{predicate}");
        client.unsubscribe(&id);
    }
    for (predicate, hint) in [
        ("name = \"paid\"", "a text is written in single quotes, 'paid'"),
        ("nmae = 'x'", "did you mean name?"),
        ("state = 'hapy'", "did you mean 'happy'?"),
        ("select 1", "the condition behind WHERE alone"),
        ("tags = ARRAY[1]", "'{…}'"),
        ("f % 2 = 0", "integers alone have it here"),
        ("f * 2 > 1", "integers alone have it here"),
        ("at > now", "the time is now(), with parentheses"),
        ("at > getdate()", "the time is now()"),
        ("at > now() - '1 day'", "say what it is: interval '1 day'"),
        ("at > now() - 1", "write an interval, such as interval '7 days'"),
        ("now() - at < interval '1 day'", "keep the column by itself"),
        (
            "age(at) < interval '1 day'",
            "compare the column with now() and an interval",
        ),
        ("at > current_timestamp(3)", "write current_timestamp alone"),
        ("at > clock_timestamp()", "it tells another time for each row"),
        ("at > 'yesterday'", "write current_date - 1"),
    ] {
        let refused = client.subscribe_refused(json!({"id": "r", "table": "t", "where": predicate}));
        assert!(
            ["bad_predicate", "unknown_column"].contains(&refused["code"].as_str().unwrap()),
            "{refused}"
        );
        assert!(
            refused["message"].as_str().unwrap().contains(hint),
            "{predicate}: {refused}"
        );
    }
}
