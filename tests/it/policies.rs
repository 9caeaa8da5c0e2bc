//! The view that policies give callers, with the real program: rows, columns, operations, tables and messages, at the start,
//! later, and once policies or tokens have changed.

mod check;

use serde_json::{Value, json};

use walcast::cluster::Shutdown;

use crate::support::guarded::{Guarded, auth, client};
use crate::support::{Client, Walcast, eventually};

const ORDERS: &str = "CREATE TABLE orders (id int, tenant int, status text, secret text, PRIMARY KEY (id)); \
     ALTER TABLE orders REPLICA IDENTITY FULL; \
     CREATE TABLE hidden (id int PRIMARY KEY, tenant int); \
     CREATE PUBLICATION pub FOR ALL TABLES";

const TENANTS: &str = r#"
[[policy]]
tables = ["orders"]
columns = ["id", "tenant", "status"]
where = "tenant = claim('tenant')::int"
"#;

fn of_tenant(guarded: &Guarded, walcast: &Walcast, tenant: u32) -> Client {
    guarded.client(walcast, "ann", &json!({ "tenant": tenant }))
}

fn orders() -> Value {
    json!({"id": "o", "table": "orders"})
}

/// The operation and the key of each change of the next transaction.
fn told(client: &mut Client) -> Vec<(String, Value)> {
    let changes = client.changes();
    let told = changes.iter().map(|change| {
        let id = match &change["row"] {
            Value::Null => &change["key"]["id"],
            row => &row["id"],
        };
        (change["op"].as_str().unwrap().to_owned(), id.clone())
    });
    told.collect()
}

fn op(op: &str, id: i32) -> (String, Value) {
    (op.to_owned(), json!(id))
}

#[test]
fn each_tenant_sees_its_rows_and_their_visible_columns_alone() {
    let guarded = Guarded::new(ORDERS);
    guarded
        .database
        .sql("INSERT INTO orders VALUES (1, 1, 'new', 's'), (2, 2, 'new', 's')");
    let walcast = guarded.setup("", TENANTS).start();
    // In the same words, at the same time.
    let [mut one, mut two] = [1, 2].map(|tenant| of_tenant(&guarded, &walcast, tenant));
    let rows = |client: &mut Client| client.snapshot(json!({"id": "s", "table": "orders", "snapshot": true}));
    assert_eq!(rows(&mut one), [json!({"id": 1, "tenant": 1, "status": "new"})]);
    assert_eq!(rows(&mut two), [json!({"id": 2, "tenant": 2, "status": "new"})]);
    let subscribed = one.subscribe_live(json!({"id": "o", "table": "orders", "old": true}));
    let names: Vec<&Value> = subscribed["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["id", "tenant", "status"]);
    two.subscribe_live(json!({"id": "o", "table": "orders", "old": true}));
    let sql = |sql: &str| guarded.database.sql(sql);
    sql("INSERT INTO orders VALUES (3, 2, 'new', 's')");
    // Only what it does not see changes: nothing is told of it.
    sql("UPDATE orders SET secret = 't' WHERE id = 1");
    sql("UPDATE orders SET status = 'paid' WHERE id = 1");
    sql("UPDATE orders SET tenant = 1 WHERE id = 3");
    sql("DELETE FROM orders WHERE id = 2");
    sql("UPDATE orders SET tenant = 2 WHERE id = 1");
    sql("INSERT INTO orders VALUES (4, 1, 'end', 's'), (5, 2, 'end', 's')");
    let texts = |client: &mut Client| {
        let mut texts = Vec::new();
        while !texts.last().is_some_and(|text: &String| text.contains("\"end\"")) {
            texts.push(client.tx_text());
        }
        texts
    };
    for text in texts(&mut one).iter().chain(&texts(&mut two)) {
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_row_that_moves_comes_and_goes_and_what_was_never_seen_is_never_mentioned() {
    let guarded = Guarded::new(ORDERS);
    let walcast = guarded.setup("", TENANTS).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    one.subscribe_live(orders());
    let sql = |sql: &str| guarded.database.sql(sql);
    sql("INSERT INTO orders VALUES (1, 2, 'HIDDEN', 's')");
    sql("UPDATE orders SET status = 'HIDDEN2' WHERE id = 1");
    sql("DELETE FROM orders WHERE id = 1");
    sql("INSERT INTO orders VALUES (2, 2, 'new', 's')");
    sql("UPDATE orders SET tenant = 1 WHERE id = 2");
    assert_eq!(told(&mut one), [op("insert", 2)]);
    sql("UPDATE orders SET tenant = 2, status = 'HIDDEN' WHERE id = 2");
    let text = one.tx_text();
    assert!(text.contains("\"delete\"") && !text.contains("HIDDEN"), "{text}");
    sql("BEGIN; INSERT INTO orders VALUES (3, 2, 'HIDDEN', 's'), (4, 1, 'new', 's'); COMMIT");
    assert_eq!(told(&mut one), [op("insert", 4)]);
}

#[test]
fn a_hidden_table_answers_as_one_that_is_not_there() {
    let guarded = Guarded::new(ORDERS);
    let walcast = guarded.setup("", TENANTS).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    let mut refusal = |table: &str| {
        let error = one.subscribe_refused(json!({"id": "x", "table": table}));
        assert_eq!(error["code"], "unknown_table", "{error}");
        error["message"].as_str().unwrap().replace(table, "TABLE")
    };
    let hidden = refusal("hidden");
    assert_eq!(hidden, refusal("nowhere"));
    // The hint is the same for both, and names what there is for the caller.
    assert!(
        hidden.contains("they have public.orders") && !hidden.contains("hidden"),
        "{hidden}"
    );
    let near = refusal("hiden");
    assert!(!near.contains("did you mean"), "{near}");
    assert_eq!(
        refusal("pg_catalog.pg_class"),
        hidden.replace("public.TABLE", "TABLE")
    );
}

#[test]
fn a_hidden_table_costs_the_database_no_question_that_an_unknown_one_does_not() {
    let guarded = Guarded::on_its_own_server(&format!("CREATE ROLE customer; {ORDERS}"));
    guarded.database.sql("GRANT SELECT ON orders TO customer");
    for (policies, asks) in [
        (TENANTS, false),
        ("[[policy]]\ntables = [\"public.*\"]\nrls = true\n", true),
    ] {
        let walcast = guarded.setup("", policies).start();
        let mut one = of_tenant(&guarded, &walcast, 1);
        let mut refusals = || {
            ["hidden", "nowhere"].map(|table| {
                let error = one.subscribe_refused(json!({"id": "x", "table": table}));
                error["code"].as_str().unwrap().to_owned()
            })
        };
        assert_eq!(refusals(), ["unknown_table"; 2]);
        // Nobody can be asked now: who had to ask says so.
        guarded.database.server().stop(Shutdown::Fast).unwrap();
        let code = if asks { "internal" } else { "unknown_table" };
        eventually("the answers are the same", || {
            let refusals = refusals();
            assert_eq!(refusals[0], refusals[1]);
            (refusals == [code; 2]).then_some(())
        });
        guarded.database.server().resume().unwrap();
        drop(walcast);
    }
}

#[test]
fn rows_of_a_snapshot_are_judged_here_whatever_the_database_was_asked_for() {
    let guarded = Guarded::new(ORDERS);
    // Postgres would fail for some row, so it is not asked for this condition.
    let policies = "[[policy]]\ntables = [\"orders\"]\nwhere = \"10 / tenant > 4\"\n";
    let sql = |sql: &str| guarded.database.sql(sql);
    sql(
        "INSERT INTO orders VALUES (1, 1, '5', 'a'), (2, 2, '5', 'b'), (3, 5, 'no number', 'HIDDEN'), (4, 0, '', 'HIDDEN')",
    );
    let walcast = guarded.setup("", policies).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    let ids = |rows: Vec<Value>| -> Vec<Value> { rows.iter().map(|row| row["id"].clone()).collect() };
    let all = one.snapshot(json!({"id": "all", "table": "orders"}));
    assert_eq!(ids(all), [1, 2]);
    // Nor does a client's predicate fail for rows that it may not see.
    let fails_for_hidden = json!({"id": "some", "table": "orders", "where": "status::int > 4"});
    assert_eq!(ids(one.snapshot(fails_for_hidden)), [1, 2]);
    sql("UPDATE orders SET status = 'no number either' WHERE id = 1");
    let fails_for_visible =
        json!({"id": "x", "table": "orders", "where": "status::int > 4", "snapshot": true});
    assert_eq!(one.subscribe_refused(fails_for_visible)["code"], "bad_predicate");
}

#[test]
fn a_row_too_large_to_be_kept_is_withheld_where_what_its_policy_reads_was_cut() {
    let guarded = Guarded::new(ORDERS);
    let policies = "[[policy]]\ntables = [\"orders\"]\nwhere = \"status LIKE 'shown%'\"\n";
    let walcast = guarded
        .setup("", policies)
        .flag("--max-row-bytes", "100kB")
        .start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    one.subscribe_live(orders());
    let sql = |sql: &str| guarded.database.sql(sql);
    // Of a large row, values of more than 1 KiB are cut, and short ones are known.
    let large = "repeat('x', 200000)";
    sql(&format!("INSERT INTO orders VALUES (1, 1, 'shown', {large})"));
    let change = one.change();
    assert_eq!(
        (&change["op"], &change["oversize"]),
        (&json!("insert"), &json!(true))
    );
    for (id, status) in [(2, "hidden"), (3, "shown")] {
        sql(&format!(
            "INSERT INTO orders VALUES ({id}, 1, '{status}' || repeat('y', 2000), {large});
             UPDATE orders SET id = {id} + 100 WHERE id = {id}; DELETE FROM orders WHERE id = {id} + 100"
        ));
    }
    sql("INSERT INTO orders VALUES (4, 1, 'shown', 's')");
    assert_eq!(told(&mut one), [op("insert", 4)]);
}

#[test]
fn a_hidden_column_answers_as_one_that_is_not_there() {
    let guarded = Guarded::new(ORDERS);
    let walcast = guarded.setup("", TENANTS).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    let mut refusal = |name: &str, subscribe: Value| {
        let mut subscribe = subscribe;
        subscribe["id"] = json!("x");
        subscribe["table"] = json!("orders");
        let error = one.subscribe_refused(subscribe);
        let message = error["message"].as_str().unwrap().replace(name, "COLUMN");
        (error["code"].clone(), message)
    };
    let by_predicate = |name: &str| json!({"where": format!("{name} = 'x'")});
    let hidden = refusal("secret", by_predicate("secret"));
    assert_eq!(hidden, refusal("absent", by_predicate("absent")));
    // No hint leads to it.
    assert_eq!(refusal("secre", by_predicate("secre")), hidden);
    let by_list = |name: &str| json!({"columns": [name]});
    let hidden = refusal("secret", by_list("secret"));
    assert_eq!(hidden, refusal("absent", by_list("absent")));
}

#[test]
fn operations_that_no_policy_tells_are_not_told() {
    let guarded = Guarded::new(ORDERS);
    let policies = r#"
[[policy]]
tables = ["orders"]
ops = ["insert", "update"]
where = "tenant = claim('tenant')::int"
"#;
    let walcast = guarded.setup("", policies).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    one.subscribe_live(orders());
    let sql = |sql: &str| guarded.database.sql(sql);
    sql("INSERT INTO orders VALUES (1, 1, 'new', 's')");
    assert_eq!(told(&mut one), [op("insert", 1)]);
    sql("DELETE FROM orders");
    sql("INSERT INTO orders VALUES (2, 1, 'new', 's')");
    assert_eq!(told(&mut one), [op("insert", 2)]);
    sql("TRUNCATE orders");
    sql("INSERT INTO orders VALUES (3, 1, 'new', 's')");
    assert_eq!(told(&mut one), [op("insert", 3)]);
}

#[test]
fn policies_of_one_role_add_up_each_with_its_own_columns() {
    let guarded = Guarded::new(ORDERS);
    let policies = format!(
        "{TENANTS}{}",
        r#"
[[policy]]
tables = ["orders"]
columns = ["id", "secret"]
where = "status = 'public'"

[[policy]]
tables = ["hidden"]
roles = ["clerk"]
"#
    );
    let walcast = guarded.setup("", &policies).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    one.subscribe_live(orders());
    let sql = |sql: &str| guarded.database.sql(sql);
    sql("INSERT INTO orders VALUES (1, 1, 'new', 's'), (2, 2, 'public', 't'), (3, 1, 'public', 'u')");
    let changes = one.changes();
    let rows: Vec<&Value> = changes.iter().map(|change| &change["row"]).collect();
    assert_eq!(
        rows,
        [
            &json!({"id": 1, "tenant": 1, "status": "new"}),
            &json!({"id": 2, "secret": "t"}),
            &json!({"id": 3, "tenant": 1, "status": "public", "secret": "u"}),
        ]
    );
    assert_eq!(
        one.subscribe_refused(json!({"id": "h", "table": "hidden"}))["code"],
        "unknown_table"
    );
    let mut clerk = client(&walcast, &guarded.token("bob", "clerk"));
    clerk.subscribe(json!({"id": "h", "table": "hidden"}));
}

#[test]
fn claims_are_what_their_casts_make_of_them() {
    let guarded = Guarded::new(ORDERS);
    let policies = r#"
[[policy]]
tables = ["orders"]
where = "tenant = ANY (claim('app.tenants')::int[]) OR status = claim('sub')"
"#;
    let walcast = guarded.setup("", policies).start();
    let with = |claims: Value| guarded.client(&walcast, "ann", &claims);
    let mut clients = [
        (with(json!({"app": {"tenants": [1, 3]}})), vec![1, 3, 4, 9]),
        (with(json!({"app": {"tenants": [2]}})), vec![2, 4, 9]),
        // Neither a number nor a missing claim is a list; its own rows come all the same.
        (with(json!({"app": {"tenants": null}})), vec![4, 9]),
        (with(json!({})), vec![4, 9]),
    ];
    // A cast that fails makes the policy admit nothing, whatever else it says.
    let mut failing = with(json!({"app": {"tenants": ["MARKED"]}}));
    failing.subscribe_live(orders());
    walcast.logs("a policy admits nothing of the table to some callers");
    assert!(!walcast.log().contains("MARKED"));
    for (client, _) in &mut clients {
        client.subscribe_live(orders());
    }
    guarded.database.sql(
        "INSERT INTO orders VALUES (1, 1, 'x', 's'), (2, 2, 'x', 's'), (3, 3, 'x', 's'), (4, 4, 'ann', 's'), (9, 9, 'ann', 's')",
    );
    for (client, expected) in &mut clients {
        let ids: Vec<Value> = told(client).into_iter().map(|(_, id)| id).collect();
        assert_eq!(ids, expected.iter().map(|id| json!(id)).collect::<Vec<_>>());
    }
    failing.send(&json!({"type": "ping", "ref": 1}));
    assert_eq!(failing.next()["type"], "pong");
}

#[test]
fn the_first_client_of_a_policy_on_letters_sees_its_rows() {
    let guarded = Guarded::new(
        "CREATE TABLE orders (id int PRIMARY KEY, owner text COLLATE \"C.utf8\"); \
         ALTER TABLE orders REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR ALL TABLES",
    );
    let policies = "[[policy]]\ntables = [\"orders\"]\nwhere = \"lower(owner) = claim('sub')\"\n";
    let walcast = guarded.setup("", policies).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    one.subscribe_live(orders());
    guarded
        .database
        .sql("INSERT INTO orders VALUES (1, 'Bob'), (2, 'ANN')");
    assert_eq!(told(&mut one), [op("insert", 2)]);
    assert!(!walcast.log().contains("admits nothing of the table"));
}

#[test]
fn messages_are_for_whom_policies_name_their_prefixes() {
    let guarded = Guarded::new(ORDERS);
    let policies = r#"
[[policy]]
messages = ["chat."]
roles = ["customer"]
"#;
    let walcast = guarded
        .setup("", policies)
        .flag("--messages", "chat.room,audit")
        .start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    one.subscribe_live(json!({"id": "m", "messages": "chat.room"}));
    for prefix in ["audit", "chat.other"] {
        let error = one.subscribe_refused(json!({"id": "x", "messages": prefix}));
        assert_eq!(error["code"], "unknown_table", "{error}");
    }
    guarded
        .database
        .sql("SELECT pg_logical_emit_message(true, 'audit', 'HIDDEN'), pg_logical_emit_message(true, 'chat.room', 'hi')");
    let text = one.tx_text();
    assert!(text.contains("hi") && !text.contains("HIDDEN"), "{text}");
    let mut clerk = client(&walcast, &guarded.token("bob", "clerk"));
    assert_eq!(
        clerk.subscribe_refused(json!({"id": "x", "messages": "chat.room"}))["code"],
        "unknown_table"
    );
}

#[test]
fn what_the_log_does_not_decide_is_refused_and_names_no_column() {
    let guarded = Guarded::new(
        "CREATE TABLE orders (id int PRIMARY KEY, tenant int); CREATE PUBLICATION pub FOR ALL TABLES",
    );
    let policies = TENANTS
        .replace("\"tenant\", \"status\"", "\"tenant\"")
        .replace("\"id\", \"tenant\"", "\"id\"");
    let walcast = guarded.setup("", &policies).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    let error = one.subscribe_refused(orders());
    assert_eq!(error["code"], "replica_identity", "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("ALTER TABLE public.orders REPLICA IDENTITY FULL"),
        "{message}"
    );
    assert!(!message.contains("tenant"), "{message}");
    // Whoever runs the server mends it, and it takes effect.
    guarded.database.sql("ALTER TABLE orders REPLICA IDENTITY FULL");
    one.subscribe_live(orders());
    // And it is judged again once it is undone.
    guarded
        .database
        .sql("ALTER TABLE orders REPLICA IDENTITY DEFAULT");
    guarded.database.sql("INSERT INTO orders VALUES (1, 1)");
    let error = one.error();
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("replica_identity"), &json!("o")),
        "{error}"
    );
}

#[test]
fn the_past_is_judged_by_the_policies_of_today() {
    let guarded = Guarded::new(ORDERS);
    let walcast = guarded.setup("", TENANTS).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    let begin = one.subscribe_live(orders())["position"].clone();
    guarded
        .database
        .sql("INSERT INTO orders VALUES (1, 1, 'new', 's'), (2, 2, 'new', 's')");
    assert_eq!(told(&mut one), [op("insert", 1)]);
    let mut two = of_tenant(&guarded, &walcast, 2);
    two.subscribe(json!({"id": "o", "table": "orders", "from": begin}));
    assert_eq!(told(&mut two), [op("insert", 2)]);
    // Rows that were written when the policies were others.
    guarded.write(
        "",
        &TENANTS.replace("tenant = claim('tenant')::int", "status = 'shown'"),
    );
    guarded
        .database
        .sql("INSERT INTO orders VALUES (3, 1, 'shown', 's')");
    walcast.hang_up();
    walcast.logs("the policies have changed");
    let mut again = of_tenant(&guarded, &walcast, 1);
    again.subscribe(json!({"id": "o", "table": "orders", "from": begin}));
    assert_eq!(told(&mut again), [op("insert", 3)]);
}

#[test]
fn a_reload_ends_what_is_allowed_differently_and_nothing_else() {
    let guarded = Guarded::new(ORDERS);
    let both = format!("{TENANTS}\n[[policy]]\ntables = [\"hidden\"]\n");
    let walcast = guarded.setup("", &both).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    one.subscribe_live(orders());
    one.subscribe_live(json!({"id": "h", "table": "hidden"}));
    let hang_up = |policies: &str| {
        guarded.write("", policies);
        walcast.hang_up();
    };
    // The same policies in other words of the file, with one more for somebody else.
    hang_up(&format!(
        "{both}\n[[policy]]\ntables = [\"hidden\"]\nroles = [\"clerk\"]\ncolumns = [\"id\"]\n"
    ));
    walcast.logs("the policies have changed");
    let sql = |sql: &str| guarded.database.sql(sql);
    sql("INSERT INTO orders VALUES (1, 1, 'new', 's')");
    assert_eq!(told(&mut one), [op("insert", 1)]);
    // A file that is wrong changes nothing.
    hang_up("[[policy]]\ntables = [\"orders\"]\nwhere = \"tenant = \"\n");
    walcast.logs("all stays as it was");
    sql("INSERT INTO orders VALUES (2, 1, 'new', 's')");
    assert_eq!(told(&mut one), [op("insert", 2)]);
    hang_up(&both.replace("\"id\", \"tenant\", \"status\"", "\"id\", \"tenant\""));
    let error = one.error();
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("forbidden"), &json!("o")),
        "{error}"
    );
    sql("INSERT INTO orders VALUES (3, 1, 'new', 's'); INSERT INTO hidden VALUES (7, 1)");
    assert_eq!(told(&mut one), [op("insert", 7)]);
    one.subscribe_live(orders());
    sql("INSERT INTO orders VALUES (4, 1, 'new', 's')");
    assert_eq!(one.change()["row"], json!({"id": 4, "tenant": 1}));
    hang_up(TENANTS);
    for _ in 0..2 {
        assert_eq!(one.error()["code"], "forbidden");
    }
    assert_eq!(
        one.subscribe_refused(json!({"id": "h", "table": "hidden"}))["code"],
        "unknown_table"
    );
}

#[test]
fn another_token_ends_what_it_allows_differently_and_nothing_else() {
    let guarded = Guarded::new(ORDERS);
    let policies = format!("{TENANTS}\n[[policy]]\ntables = [\"hidden\"]\n");
    let walcast = guarded.setup("", &policies).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    one.subscribe_live(orders());
    one.subscribe_live(json!({"id": "h", "table": "hidden"}));
    let sql = |sql: &str| guarded.database.sql(sql);
    let anew = |claims: Value| auth(&guarded.token_with("ann", &claims));
    // What policies do not ask for may be another.
    one.send(&anew(json!({"tenant": 1, "jti": "2", "mood": "good"})));
    sql("INSERT INTO orders VALUES (1, 1, 'new', 's')");
    assert_eq!(told(&mut one), [op("insert", 1)]);
    one.send(&anew(json!({"tenant": 2})));
    let error = one.error();
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("forbidden"), &json!("o")),
        "{error}"
    );
    sql("INSERT INTO orders VALUES (2, 1, 'new', 's'); INSERT INTO hidden VALUES (7, 1)");
    assert_eq!(told(&mut one), [op("insert", 7)]);
    one.subscribe_live(orders());
    sql("INSERT INTO orders VALUES (3, 1, 'new', 's'), (4, 2, 'new', 's')");
    assert_eq!(told(&mut one), [op("insert", 4)]);
}

#[test]
fn what_waits_for_a_client_is_dropped_when_policies_hide_it() {
    let guarded = Guarded::new(ORDERS);
    let policies = format!("{TENANTS}\n[[policy]]\ntables = [\"hidden\"]\n");
    let walcast = guarded.setup("", &policies).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    one.subscribe_live(orders());
    one.subscribe_live(json!({"id": "h", "table": "hidden"}));
    let _little = one.takes_little();
    // More than goes into its socket waits for it.
    guarded.database.sql(
        "INSERT INTO orders SELECT n, 1, repeat('x', 1000), 's' FROM generate_series(1, 20000) n; \
         INSERT INTO orders VALUES (100000, 1, 'MARKED', 's'); INSERT INTO hidden VALUES (1, 1)",
    );
    // The router has had all of it.
    let mut other = of_tenant(&guarded, &walcast, 1);
    other.subscribe(json!({"id": "o", "table": "orders", "from": "earliest", "where": "status = 'MARKED'"}));
    assert_eq!(told(&mut other), [op("insert", 100_000)]);
    guarded.write("", "[[policy]]\ntables = [\"hidden\"]\n");
    walcast.hang_up();
    walcast.logs("the policies have changed");
    loop {
        let message = one.next();
        let text = message.to_string();
        assert!(!text.contains("MARKED"), "{message}");
        if message["code"] == "forbidden" {
            break;
        }
    }
    // What it may see comes in full.
    assert_eq!(told(&mut one), [op("insert", 1)]);
}

#[test]
fn a_renamed_table_does_not_tell_its_new_name() {
    let guarded = Guarded::new(ORDERS);
    let walcast = guarded.setup("", TENANTS).start();
    let mut one = of_tenant(&guarded, &walcast, 1);
    one.subscribe_live(orders());
    guarded.database.sql(
        "ALTER TABLE orders RENAME TO new_secret_name; INSERT INTO new_secret_name VALUES (1, 1, 'x', 's')",
    );
    let error = one.error();
    assert_eq!(error["code"], "schema_changed", "{error}");
    assert!(!error.to_string().contains("new_secret_name"), "{error}");
}
