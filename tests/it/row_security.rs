//! `rls = true`: the rows and columns that a session of the database may see which has taken the caller's role and has
//! the caller's claims.

mod random;

use serde_json::{Value, json};

use crate::support::guarded::{Guarded, Roles, client};
use crate::support::{Client, Walcast, eventually, has_wal2json};

/// Supabase's functions, as it defines them.
const AUTH: &str = "
    CREATE SCHEMA auth;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
      select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
      )::uuid $$;
    CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $$
      select coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
      )::text $$;
    CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
      select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
      )::jsonb $$;";

const DOCUMENTS: &str = "
    CREATE TABLE documents (id int PRIMARY KEY, owner uuid, tenant int, body text, secret text);
    ALTER TABLE documents REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
    CREATE PUBLICATION pub FOR ALL TABLES";

const RLS: &str = "
[[policy]]
tables = [\"public.*\"]
rls = true
";

const ANN: &str = "11111111-1111-4111-8111-111111111111";
const BOB: &str = "22222222-2222-4222-8222-222222222222";

fn of(guarded: &Guarded, walcast: &Walcast, role: &str, claims: Value) -> Client {
    let mut claims = claims;
    claims["role"] = json!(role);
    guarded.client(
        walcast,
        claims["sub"].as_str().unwrap_or(ANN).to_owned().as_str(),
        &claims,
    )
}

fn rows(client: &mut Client, table: &str) -> Vec<Value> {
    let rows = client.snapshot(json!({"id": "s", "table": table, "snapshot": true}));
    client.unsubscribe("s");
    let mut rows = rows;
    rows.sort_by_key(|row| row["id"].as_i64());
    rows
}

fn ids(client: &mut Client, table: &str) -> Vec<i64> {
    rows(client, table)
        .iter()
        .map(|row| row["id"].as_i64().unwrap())
        .collect()
}

fn refusal(client: &mut Client, table: &str) -> (String, String) {
    let error = client.subscribe_refused(json!({"id": "x", "table": table}));
    let text = |field: &str| error[field].as_str().unwrap().to_owned();
    (text("code"), text("message"))
}

#[test]
fn policies_of_the_database_decide_by_the_role_and_the_claims() {
    let guarded = Guarded::new(&format!("{AUTH}{DOCUMENTS}"));
    let mut roles = Roles::new(&guarded);
    let [user, clerk, auditor, owner] = [
        ("user", ""),
        ("clerk", ""),
        ("auditor", "BYPASSRLS"),
        ("owner", ""),
    ]
    .map(|(name, attributes)| roles.make(name, attributes));
    let sql = |sql: &str| guarded.database.sql(sql);
    sql(&format!(
        "GRANT USAGE ON SCHEMA auth TO {user}, {clerk};
         GRANT SELECT ON documents TO {user}, {clerk}, {auditor};
         CREATE POLICY own ON documents TO {user} USING (owner = (SELECT auth.uid()));
         CREATE POLICY tenant ON documents FOR SELECT USING (
             tenant = (current_setting('request.jwt.claims', true)::json -> 'app' ->> 'tenant')::int);
         CREATE POLICY short ON documents AS RESTRICTIVE TO {user} USING (body <> 'long');
         CREATE POLICY not_read ON documents FOR DELETE USING (true);
         INSERT INTO documents VALUES (1, '{ANN}', 1, 'a', 's'), (2, '{BOB}', 2, 'b', 's'), (3, '{ANN}', 2, 'long', 's'),
             (4, NULL, 7, 'c', 's')"
    ));
    let walcast = guarded.setup("", RLS).start();
    let ann = json!({"sub": ANN, "app": {"tenant": 2}});
    let mut ann_user = of(&guarded, &walcast, &user, ann.clone());
    assert_eq!(ids(&mut ann_user, "documents"), [1, 2]);
    assert_eq!(
        ids(&mut of(&guarded, &walcast, &clerk, ann.clone()), "documents"),
        [2, 3]
    );
    assert_eq!(
        ids(&mut of(&guarded, &walcast, &auditor, ann.clone()), "documents"),
        [1, 2, 3, 4]
    );
    let no_tenant = json!({"sub": BOB, "app": null});
    assert_eq!(
        ids(&mut of(&guarded, &walcast, &user, no_tenant), "documents"),
        [2]
    );
    let wrong = json!({"sub": BOB, "app": {"tenant": "two"}});
    assert!(ids(&mut of(&guarded, &walcast, &user, wrong), "documents").is_empty());
    // An owner is free, unless row security is forced.
    sql(&format!("ALTER TABLE documents OWNER TO {owner}"));
    has_noticed(&walcast, 1);
    let mut owning = of(&guarded, &walcast, &owner, json!({}));
    assert_eq!(ids(&mut owning, "documents"), [1, 2, 3, 4]);
    sql("ALTER TABLE documents FORCE ROW LEVEL SECURITY");
    has_noticed(&walcast, 2);
    assert!(ids(&mut owning, "documents").is_empty());
    // Later rows go through the same.
    let mut ann_user = of(&guarded, &walcast, &user, ann);
    ann_user.subscribe_live(json!({"id": "d", "table": "documents"}));
    sql(&format!(
        "INSERT INTO documents VALUES (5, '{BOB}', 1, 'hidden', 's')"
    ));
    sql(&format!("UPDATE documents SET owner = '{ANN}' WHERE id = 5"));
    let changes = ann_user.changes();
    assert_eq!(
        (&changes[0]["op"], &changes[0]["row"]["id"]),
        (&json!("insert"), &json!(5))
    );
    sql("UPDATE documents SET body = 'long' WHERE id = 5");
    let text = ann_user.tx_text();
    assert!(text.contains("\"delete\"") && !text.contains("long"), "{text}");
}

#[test]
fn what_a_role_may_select_is_all_that_there_is_for_it() {
    let guarded = Guarded::new(&format!("{DOCUMENTS}; CREATE TABLE other (id int PRIMARY KEY)"));
    let mut roles = Roles::new(&guarded);
    let [user, outsider] = ["user", "outsider"].map(|name| roles.make(name, ""));
    guarded.database.sql(&format!(
        "CREATE POLICY all_of_them ON documents USING (secret = 'shown'); GRANT SELECT (id, body) ON documents TO {user};
         INSERT INTO documents VALUES (1, NULL, 1, 'a', 'shown'), (2, NULL, 1, 'b', 'hidden')"
    ));
    let walcast = guarded.setup("", RLS).start();
    let mut one = of(&guarded, &walcast, &user, json!({}));
    assert_eq!(rows(&mut one, "documents"), [json!({"id": 1, "body": "a"})]);
    let error = one.subscribe_refused(json!({"id": "x", "table": "documents", "where": "secret = 'shown'"}));
    assert_eq!(error["code"], "unknown_column", "{error}");
    let mut words = Vec::new();
    for table in ["other", "nowhere"] {
        let (code, message) = refusal(&mut one, table);
        assert_eq!(code, "unknown_table");
        words.push(message.replace(table, "TABLE"));
    }
    for role in [outsider.as_str(), "nobody_at_all", "public"] {
        let (code, message) = refusal(&mut of(&guarded, &walcast, role, json!({})), "documents");
        assert_eq!(code, "unknown_table", "{message}");
        words.push(message.replace("documents", "TABLE"));
    }
    assert!(words.iter().all(|text| *text == words[0]), "{words:?}");
}

#[test]
fn a_policy_that_cannot_be_evaluated_is_refused_by_its_name_and_part() {
    let guarded = Guarded::new(&format!(
        "{AUTH}{DOCUMENTS}; CREATE TABLE members (id int PRIMARY KEY, tenant int)"
    ));
    let mut roles = Roles::new(&guarded);
    let [user, other] = ["user", "other"].map(|name| roles.make(name, ""));
    let sql = |sql: &str| guarded.database.sql(sql);
    sql(&format!(
        "GRANT SELECT (id, body) ON documents TO {user}, {other};
         CREATE POLICY \"Their members\" ON documents TO {user} USING (tenant IN (SELECT m.tenant FROM members m));
         CREATE POLICY own ON documents TO {other} USING (owner = auth.uid());"
    ));
    let walcast = guarded.setup("", RLS).start();
    let mut one = of(&guarded, &walcast, &user, json!({}));
    let (code, message) = refusal(&mut one, "documents");
    assert_eq!(code, "forbidden");
    assert_eq!(
        message,
        "the policy \"Their members\" of public.documents in the database cannot be evaluated here: a subquery"
    );
    walcast.logs("FROM public.members m");
    // Of those that apply to it only.
    let mut two = of(&guarded, &walcast, &other, json!({"sub": ANN}));
    assert!(rows(&mut two, "documents").is_empty());
    // The database would not let it call that, either.
    sql("REVOKE EXECUTE ON FUNCTION auth.uid() FROM PUBLIC");
    eventually("the function is not its to call", || {
        let mut two = of(&guarded, &walcast, &other, json!({"sub": ANN}));
        two.send(&json!({"type": "subscribe", "id": "x", "table": "documents"}));
        let answer = two.next();
        (answer["code"] == "forbidden").then(|| {
            assert!(
                answer["message"].as_str().unwrap().contains("auth.uid"),
                "{answer}"
            );
        })
    });
    walcast.logs("the role may not execute it");
}

/// Waits until so many changes of policies and privileges were noticed.
fn has_noticed(walcast: &Walcast, changes: usize) {
    let words = "live subscriptions are judged again";
    eventually("walcast has noticed it", || {
        (walcast.log().matches(words).count() >= changes).then_some(())
    });
}

/// The next message that is about the subscription or its transactions.
fn ended(client: &mut Client) -> Value {
    let message = client.next();
    assert_eq!(message["type"], "error", "{message}");
    assert_eq!(message["code"], "forbidden", "{message}");
    message
}

/// A role that may read the documents, with a policy that shows the first tenant's.
fn of_the_first_tenant(guarded: &Guarded, roles: &mut Roles) -> String {
    let user = roles.make("user", "");
    guarded.database.sql(&format!(
        "CREATE POLICY own ON documents USING (tenant = 1); GRANT SELECT ON documents TO {user}"
    ));
    user
}

#[test]
fn what_the_stream_shows_of_policies_and_grants_holds_before_the_next_row() {
    let guarded = Guarded::new(DOCUMENTS);
    let mut roles = Roles::new(&guarded);
    let user = of_the_first_tenant(&guarded, &mut roles);
    let sql = |sql: &str| guarded.database.sql(sql);
    let walcast = guarded.setup("", RLS).start();
    let mut id = 0;
    for (change, back) in [
        (
            "ALTER POLICY own ON documents USING (tenant = 2)".to_owned(),
            "ALTER POLICY own ON documents USING (tenant = 1)".to_owned(),
        ),
        (
            "CREATE POLICY less ON documents AS RESTRICTIVE USING (body <> 'x')".to_owned(),
            "DROP POLICY less ON documents".to_owned(),
        ),
        (
            "ALTER TABLE documents DISABLE ROW LEVEL SECURITY".to_owned(),
            "ALTER TABLE documents ENABLE ROW LEVEL SECURITY".to_owned(),
        ),
        (
            format!("REVOKE SELECT ON documents FROM {user}"),
            format!("GRANT SELECT ON documents TO {user}"),
        ),
        (
            format!(
                "REVOKE SELECT ON documents FROM {user}; GRANT SELECT (id, tenant) ON documents TO {user}"
            ),
            format!("GRANT SELECT ON documents TO {user}"),
        ),
    ] {
        // The first row behind what was taken back may find it not noticed yet.
        let mut one = eventually("it gets what it got before", || {
            let mut one = of(&guarded, &walcast, &user, json!({}));
            one.send(&json!({"type": "subscribe", "id": "d", "table": "documents"}));
            if one.next()["type"] == "error" {
                return None;
            }
            id += 1;
            sql(&format!("INSERT INTO documents VALUES ({id}, NULL, 1, 'x', 's')"));
            loop {
                let message = one.next();
                match message["type"].as_str() {
                    Some("error") => return None,
                    Some("tx") if message["changes"][0]["row"]["id"] == id => return Some(one),
                    _ => {}
                }
            }
        });
        id += 1;
        sql(&change);
        // The row is written at once: nothing has looked at the catalogs meanwhile.
        sql(&format!("INSERT INTO documents VALUES ({id}, NULL, 1, 'x', 's')"));
        ended(&mut one);
        sql(&back);
    }
}

#[test]
fn what_only_the_catalogs_show_holds_within_seconds() {
    let guarded = Guarded::new(&format!("{AUTH}{DOCUMENTS}"));
    let mut roles = Roles::new(&guarded);
    let [user, group] = ["user", "group"].map(|name| roles.make(name, ""));
    let sql = |sql: &str| guarded.database.sql(sql);
    sql(&format!(
        "GRANT SELECT ON documents TO {user};
         CREATE POLICY group_s ON documents TO {group} USING (true);
         CREATE POLICY own ON documents USING (owner = auth.uid());"
    ));
    let walcast = guarded.setup("", RLS).start();
    let mut seen = 0;
    let mut noticed = || {
        seen += 1;
        has_noticed(&walcast, seen);
    };
    for (change, back) in [
        (
            format!("GRANT {group} TO {user}"),
            format!("REVOKE {group} FROM {user}"),
        ),
        (
            format!("ALTER ROLE {user} BYPASSRLS"),
            format!("ALTER ROLE {user} NOBYPASSRLS"),
        ),
        (
            "REVOKE USAGE ON SCHEMA public FROM PUBLIC".to_owned(),
            "GRANT USAGE ON SCHEMA public TO PUBLIC".to_owned(),
        ),
        (
            "CREATE OR REPLACE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS 'SELECT NULL::uuid'"
                .to_owned(),
            "REVOKE EXECUTE ON FUNCTION auth.uid() FROM PUBLIC".to_owned(),
        ),
    ] {
        let mut one = of(&guarded, &walcast, &user, json!({"sub": ANN}));
        one.subscribe_live(json!({"id": "d", "table": "documents"}));
        sql(&change);
        ended(&mut one);
        noticed();
        sql(&back);
        noticed();
    }
}

#[test]
fn with_wal2json_policies_and_grants_hold_within_seconds() {
    if !has_wal2json() {
        return;
    }
    let guarded = Guarded::new(DOCUMENTS);
    let mut roles = Roles::new(&guarded);
    let user = of_the_first_tenant(&guarded, &mut roles);
    let sql = |sql: &str| guarded.database.sql(sql);
    let walcast = guarded.setup("", RLS).flag("--plugin", "wal2json").start();
    let inserted = |id: i32, tenant: i32| {
        sql(&format!(
            "INSERT INTO documents VALUES ({id}, NULL, {tenant}, 'x', 's')"
        ));
    };
    let mut one = of(&guarded, &walcast, &user, json!({}));
    one.subscribe_live(json!({"id": "d", "table": "documents"}));
    inserted(1, 1);
    assert_eq!(one.change()["row"]["id"], 1);
    // No row follows: the look at the catalogs finds it.
    sql("ALTER POLICY own ON documents USING (tenant = 2)");
    ended(&mut one);
    one.subscribe_live(json!({"id": "d", "table": "documents"}));
    inserted(2, 1);
    inserted(3, 2);
    assert_eq!(one.change()["row"]["id"], 3);
    sql(&format!(
        "REVOKE SELECT ON documents FROM {user}; GRANT SELECT (id, tenant) ON documents TO {user}"
    ));
    ended(&mut one);
    one.subscribe_live(json!({"id": "d", "table": "documents"}));
    inserted(4, 2);
    assert_eq!(one.change()["row"], json!({"id": 4, "tenant": 2}));
}

#[test]
fn a_caller_without_a_role_of_the_database_sees_nothing_of_its_tables() {
    let guarded = Guarded::new(DOCUMENTS);
    let mut roles = Roles::new(&guarded);
    let anon = roles.make("anon", "");
    guarded.database.sql(&format!(
        "CREATE POLICY open ON documents TO {anon}
             USING (current_setting('request.jwt.claims', true)::json ->> 'role' = current_user)"
    ));
    guarded.database.sql(&format!(
        "GRANT SELECT ON documents TO {anon}; INSERT INTO documents VALUES (1, NULL, 1, 'a', 's')"
    ));
    let walcast = guarded.setup(&format!("anonymous_role = {anon:?}"), RLS).start();
    let mut nobody = walcast.connect();
    assert_eq!(ids(&mut nobody, "documents"), [1]);
    let mut customer = client(&walcast, &guarded.token("ann", "customer"));
    assert_eq!(refusal(&mut customer, "documents").0, "unknown_table");
}
