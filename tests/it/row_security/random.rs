//! Random policies, roles, claims, rows and changes: what a session of the database may SELECT which has the role and
//! the claims, and what a client holds that has them in its token.
//!
//! `WALCAST_ROUNDS` sets the number of sets of policies; the seed is printed, and `WALCAST_SEED` sets it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::{ANN, AUTH, BOB, RLS, Roles, of};
use crate::support::guarded::Guarded;
use crate::support::{At, Client, DEADLINE, Incoming, Walcast, eventually};

const TABLE: &str = "
    CREATE TYPE mood AS ENUM ('ok', 'bad');
    CREATE TABLE d (id int PRIMARY KEY, tenant int, owner text, uid uuid, m mood, ok bool, n numeric, tags text[], data jsonb,
        body varchar(20), big bigint, at date);
    ALTER TABLE d REPLICA IDENTITY FULL, ENABLE ROW LEVEL SECURITY;
    CREATE PUBLICATION pub FOR ALL TABLES";

struct Random(fastrand::Rng);

impl Random {
    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.0.usize(..of.len())]
    }

    fn document(&mut self) -> &'static str {
        self.one(&[
            "current_setting('request.jwt.claims', true)::json",
            "current_setting('request.jwt.claims', true)::jsonb",
            "nullif(current_setting('request.jwt.claims', true), '')::jsonb",
            "auth.jwt()",
            "(SELECT auth.jwt())",
        ])
    }

    /// A condition, and whether walcast refuses it.
    fn condition(&mut self, depth: usize) -> (String, bool) {
        if depth > 0 && self.0.u8(..3) > 0 {
            let (one, first) = self.condition(depth - 1);
            let (other, second) = self.condition(depth - 1);
            return match self.0.u8(..5) {
                0 => (format!("NOT ({one})"), first),
                1 => (format!("({one}) IS NOT TRUE"), first),
                2 | 3 => (format!("({one}) OR ({other})"), first || second),
                _ => (format!("({one}) AND ({other})"), first || second),
            };
        }
        if self.0.u8(..40) == 0 {
            let refused = self.one(&[
                "EXISTS (SELECT 1 FROM d WHERE false)",
                "owner ~ 'a'",
                "tenant = ANY (ARRAY(SELECT 1))",
                "CASE WHEN ok THEN true ELSE false END",
                "session_user = owner",
                "current_setting('app.x', true) IS NULL",
            ]);
            return (refused.to_owned(), true);
        }
        let document = self.document();
        let condition = match self.0.u8(..36) {
            0 => format!("tenant = ({document} ->> 'tenant')::int"),
            1 => format!("big = ({document} -> 'app' ->> 'tenant')::bigint"),
            2 => format!("owner = {document} ->> 'name'"),
            3 => format!("owner <> {document} ->> 'name'"),
            4 => "owner = current_setting('request.jwt.claim.name', true)".to_owned(),
            5 => "uid = auth.uid()".to_owned(),
            6 => "uid = (SELECT auth.uid())".to_owned(),
            7 => "uid::text = (auth.jwt() ->> 'sub')".to_owned(),
            8 => "owner = current_user".to_owned(),
            9 => "auth.role() = current_user".to_owned(),
            10 => format!("({document} ->> 'admin')::boolean"),
            11 => format!("({document} ->> 'name') IS NULL"),
            12 => format!("({document} -> 'name') IS NULL"),
            13 => format!("coalesce(({document} ->> 'tenant')::int, 1) = tenant"),
            14 => format!("owner IN (SELECT {document} #>> '{{app,names,0}}')"),
            15 => format!("tenant IS DISTINCT FROM ({document} ->> 'tenant')::int"),
            16 => "m = 'ok'".to_owned(),
            17 => "m IN ('ok', 'bad')".to_owned(),
            18 => "ok".to_owned(),
            19 => "ok IS NOT TRUE".to_owned(),
            20 => "n > 1.5".to_owned(),
            21 => "n BETWEEN -1 AND 2".to_owned(),
            22 => "'a' = ANY (tags)".to_owned(),
            23 => "tags && ARRAY['a', 'b']".to_owned(),
            24 => "data ->> 'k' = 'v'".to_owned(),
            25 => "data @> '{\"k\": \"v\"}'".to_owned(),
            26 => "data ? 'n'".to_owned(),
            27 => "(data ->> 'n')::int > 2".to_owned(),
            28 => "body LIKE 'a%'".to_owned(),
            29 => "body NOT LIKE '%b'".to_owned(),
            30 => "body IN ('a', 'ab')".to_owned(),
            31 => "body NOT IN ('a', 'b')".to_owned(),
            32 => "tenant NOT IN (1, 2)".to_owned(),
            33 => "at > '2024-06-01'".to_owned(),
            34 => "lower(owner) = 'ann'".to_owned(),
            _ => "true".to_owned(),
        };
        (condition, false)
    }

    fn claims(&mut self) -> Map<String, Value> {
        let mut claims = Map::new();
        let sub = self.one(&[ANN, BOB, ANN, BOB, "not-a-uuid"]);
        claims.insert("sub".into(), json!(sub));
        let tenant = [
            json!(1),
            json!(2),
            json!("1"),
            json!(null),
            json!("one"),
            json!([1]),
            json!(1.5),
        ];
        let name = [
            json!("ann"),
            json!("bob"),
            json!(null),
            json!(3),
            json!({"k": 1, "a": [true]}),
            json!(""),
        ];
        let app = [
            json!({"tenant": 2, "names": ["ann", "bob"]}),
            json!({"tenant": null, "names": "ann"}),
            json!("none"),
            json!([1]),
            json!({}),
        ];
        let admin = [
            json!(true),
            json!(false),
            json!("yes"),
            json!(null),
            json!("maybe"),
        ];
        for (claim, values) in [
            ("tenant", &tenant[..]),
            ("name", &name),
            ("app", &app),
            ("admin", &admin),
        ] {
            // Or it is missing.
            if let Some(value) = values.get(self.0.usize(..values.len() + 1)) {
                claims.insert(claim.into(), value.clone());
            }
        }
        claims
    }

    fn value(&mut self, column: &str, role: &str) -> String {
        let own = format!("'{role}'");
        let ids = [ANN, BOB].map(|id| format!("'{id}'"));
        let values: Vec<&str> = match column {
            "tenant" | "big" => vec!["1", "2", "3"],
            "owner" => vec![
                "'ann'",
                "'bob'",
                "'Ann'",
                &own,
                "'null'",
                "'3'",
                "'{\"a\": [true], \"k\": 1}'",
            ],
            "uid" => ids.iter().map(String::as_str).collect(),
            "m" => vec!["'ok'", "'bad'"],
            "ok" => vec!["true", "false"],
            "n" => vec!["1", "2.5", "-3"],
            "tags" => vec!["'{}'", "'{a}'", "'{b,NULL}'", "'{c}'"],
            "data" => vec![
                "'{}'",
                "'{\"k\": \"v\"}'",
                "'{\"n\": 3}'",
                "'{\"n\": \"2\", \"k\": null}'",
                "'{\"n\": \"x\"}'",
            ],
            "body" => vec!["'a'", "'ab'", "'b'", "''"],
            _ => vec!["'2024-01-01'", "'2024-12-31'"],
        };
        match self.0.u8(..5) {
            0 => "NULL".to_owned(),
            _ => self.one(&values).to_owned(),
        }
    }

    fn change(&mut self, role: &str) -> String {
        const COLUMNS: [&str; 11] = [
            "tenant", "owner", "uid", "m", "ok", "n", "tags", "data", "body", "big", "at",
        ];
        let id = self.0.u8(1..30);
        match self.0.u8(..10) {
            0 => format!("DELETE FROM d WHERE id = {id}"),
            1 => format!(
                "UPDATE d SET id = {} WHERE id = {id} AND NOT EXISTS (SELECT 1 FROM d WHERE id = {0})",
                self.0.u8(1..30)
            ),
            2..=5 => {
                let column = self.one(&COLUMNS);
                format!(
                    "UPDATE d SET {column} = {} WHERE id = {id}",
                    self.value(column, role)
                )
            }
            _ => {
                let values: Vec<String> = COLUMNS.iter().map(|column| self.value(column, role)).collect();
                format!(
                    "INSERT INTO d VALUES ({id}, {}) ON CONFLICT DO NOTHING",
                    values.join(", ")
                )
            }
        }
    }
}

/// A client, and what it holds of the table.
struct Caller {
    role: String,
    claims: Map<String, Value>,
    client: Client,
    rows: BTreeMap<i64, Value>,
}

impl Caller {
    /// Subscribes; `None` if a policy cannot be evaluated.
    fn new(guarded: &Guarded, walcast: &Walcast, role: &str, claims: Map<String, Value>) -> Option<Caller> {
        let mut client = of(guarded, walcast, role, Value::Object(claims.clone()));
        client.send(&json!({"type": "subscribe", "id": "d", "table": "d", "snapshot": true}));
        let answer = client.next();
        if answer["type"] == "error" {
            assert_eq!(answer["code"], "forbidden", "{answer}");
            assert!(
                answer["message"]
                    .as_str()
                    .unwrap()
                    .contains("cannot be evaluated"),
                "{answer}"
            );
            return None;
        }
        assert_eq!(answer["type"], "subscribed", "{answer}");
        Some(Caller {
            role: role.to_owned(),
            claims,
            client,
            rows: BTreeMap::new(),
        })
    }

    /// Reads until it has everything up to there.
    fn read_up_to(&mut self, end: At) {
        let id = |row: &Value| row["id"].as_i64().unwrap();
        let mut is_live = false;
        let until = Instant::now() + DEADLINE;
        loop {
            let message = match self.client.next_by(until) {
                Incoming::Message(message) => message,
                other => panic!("{other:?}"),
            };
            match message["type"].as_str().unwrap() {
                "snapshot" => {
                    let rows = message["rows"].as_array().unwrap().iter();
                    self.rows.extend(rows.map(|row| (id(row), row.clone())));
                }
                "tx" => {
                    for change in message["changes"].as_array().unwrap() {
                        self.fold(change);
                    }
                }
                "live" => is_live = true,
                "progress" => is_live = true,
                _ => panic!("{message}"),
            }
            if is_live && message["position"].is_string() && At::read(&message["position"]) >= end {
                return;
            }
        }
    }

    fn fold(&mut self, change: &Value) {
        let id = |of: &Value| of["id"].as_i64();
        let held = id(&change["key"]);
        match change["op"].as_str().unwrap() {
            "insert" => {
                let row = &change["row"];
                let was = self.rows.insert(id(row).unwrap(), row.clone());
                assert!(was.is_none(), "{change}");
            }
            "update" => {
                let row = &change["row"];
                let was = self.rows.remove(&held.or(id(row)).unwrap());
                assert!(was.is_some(), "{change}");
                self.rows.insert(id(row).unwrap(), row.clone());
            }
            "delete" => {
                let was = self.rows.remove(&held.unwrap());
                assert!(was.is_some(), "{change}");
            }
            other => panic!("{other}: {change}"),
        }
    }

    /// The rows that such a session of the database may select; the error if it fails.
    fn selected(&self, guarded: &Guarded, condition: &str) -> Result<BTreeMap<i64, Value>, String> {
        let mut claims = self.claims.clone();
        claims.insert("role".into(), json!(self.role));
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let mut sql = format!(
            "BEGIN; SET LOCAL standard_conforming_strings = on; SELECT set_config('request.jwt.claims', {}, true)",
            quoted(&Value::Object(claims.clone()).to_string())
        );
        for (name, claim) in &claims {
            let text = claim.as_str().map_or_else(|| claim.to_string(), str::to_owned);
            sql += &format!(
                ", set_config('request.jwt.claim.{name}', {}, true)",
                quoted(&text)
            );
        }
        sql += &format!("; SET LOCAL ROLE {}", self.role);
        let mut connection = guarded.database.connect();
        connection.query(&sql).unwrap();
        let rows = connection
            .query(&format!("SELECT row_to_json(d) FROM d WHERE {condition}"))
            .map_err(|error| error.to_string())?;
        let rows = rows.iter().map(|row| {
            let row: Value = serde_json::from_str(row.get(0).unwrap()).unwrap();
            (row["id"].as_i64().unwrap(), row)
        });
        Ok(rows.collect())
    }
}

#[test]
fn a_client_holds_what_a_session_of_the_database_may_select() {
    let seed = std::env::var("WALCAST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let rounds = std::env::var("WALCAST_ROUNDS").map_or(8, |rounds| rounds.parse().unwrap());
    eprintln!("seed: WALCAST_SEED={seed} WALCAST_ROUNDS={rounds}");
    let mut random = Random(fastrand::Rng::with_seed(seed));
    let guarded = Guarded::new(&format!("{AUTH}{TABLE}"));
    let mut roles = Roles::new(&guarded);
    let [one, two, group] = ["one", "two", "many"].map(|name| roles.make(name, ""));
    let free = roles.make("free", "BYPASSRLS");
    let sql = |sql: &str| guarded.database.sql(sql);
    sql(&format!(
        "GRANT {group} TO {two}; GRANT SELECT ON d TO {one}, {two}, {free}; GRANT USAGE ON SCHEMA auth TO {one}, {two}, {free}"
    ));
    let walcast = guarded.setup("", RLS).start();
    let judged_again = |walcast: &Walcast| walcast.log().matches("are judged again").count();
    let mut policies: Vec<String> = Vec::new();
    let (mut refused, mut equal, mut failed, mut held) = (0, 0, 0, 0);
    for round in 0..rounds {
        let before = judged_again(&walcast);
        let mut ddl: Vec<String> = policies
            .drain(..)
            .map(|name| format!("DROP POLICY {name} ON d"))
            .collect();
        let mut applying: Vec<(String, bool, bool)> = Vec::new();
        for number in 0..random.0.usize(1..5) {
            let (condition, is_refused) = random.condition(2);
            let is_permissive = number == 0 || random.0.u8(..3) > 0;
            let kind = if is_permissive {
                "PERMISSIVE"
            } else {
                "RESTRICTIVE"
            };
            let command = random.one(&["ALL", "SELECT", "SELECT", "UPDATE"]);
            let to = random.one(&["PUBLIC", &one, &two, &group]).to_owned();
            policies.push(format!("p{number}"));
            ddl.push(format!(
                "CREATE POLICY p{number} ON d AS {kind} FOR {command} TO {to} USING ({condition})"
            ));
            applying.push((to, command != "UPDATE", is_refused));
        }
        sql(&ddl.join("; "));
        let shown = ddl.join(";\n");
        if round > 0 {
            eventually("the policies were noticed", || {
                (judged_again(&walcast) > before).then_some(())
            });
        }
        for _ in 0..20 {
            sql(&random.change(&one));
        }
        let mut callers = Vec::new();
        for _ in 0..6 {
            let role = random.one(&[&one, &two, &one, &two, &free]).to_owned();
            let is_of = |to: &String| *to == "PUBLIC" || *to == role || *to == group && role == two;
            let is_refused = role != free
                && applying
                    .iter()
                    .any(|(to, selects, is_refused)| *selects && *is_refused && is_of(to));
            let claims = random.claims();
            let caller = Caller::new(&guarded, &walcast, &role, claims);
            assert_eq!(
                caller.is_none(),
                is_refused,
                "{role}:\n{shown}\n{}",
                walcast.log()
            );
            refused += usize::from(is_refused);
            callers.extend(caller);
        }
        for _ in 0..15 {
            sql(&random.change(&one));
        }
        let end = At::after(guarded.database.written());
        // So that there is something to come to.
        sql("CREATE TABLE IF NOT EXISTS tick (id int); INSERT INTO tick VALUES (1)");
        for caller in &mut callers {
            caller.read_up_to(end);
            let context = format!("{} with {}:\n{shown}", caller.role, json!(caller.claims));
            for (id, row) in &caller.rows {
                // As itself, whatever fails for the others.
                let seen = caller.selected(&guarded, &format!("id = {id}"));
                match seen {
                    Ok(seen) => assert_eq!(seen.get(id), Some(row), "weaker: {context}"),
                    // The database promises no order: a policy that admits the row spares it another, or does not.
                    Err(_) if row["data"]["n"] == "x" => {}
                    Err(error) => panic!("weaker: {row}: {error}: {context}"),
                }
            }
            held += caller.rows.len();
            match caller.selected(&guarded, "true") {
                Ok(selected) if selected == caller.rows => equal += 1,
                // A claim that cannot be cast fails only where it is evaluated: it admits nothing here.
                Ok(_) if fails_somewhere(caller) => failed += 1,
                Ok(selected) => panic!("{selected:?} is not {:?}: {context}", caller.rows),
                Err(_) => failed += 1,
            }
        }
    }
    eprintln!("{equal} equal, {failed} failed in the database, {refused} refused, {held} rows held");
    assert!(equal > 0 && held > 0);
}

/// True if a caller has a claim that some policy cannot cast.
fn fails_somewhere(caller: &Caller) -> bool {
    let is_int = |claim: &Value| match claim {
        Value::Number(number) => number.is_i64(),
        Value::String(text) => text.parse::<i32>().is_ok(),
        other => other.is_null(),
    };
    let claims = Value::Object(caller.claims.clone());
    let is_bool = claims["admin"] != "maybe";
    let is_uuid = claims["sub"] != "not-a-uuid";
    !(is_uuid && is_bool && is_int(&claims["tenant"]) && is_int(&claims["app"]["tenant"]))
}
