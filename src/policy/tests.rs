use serde_json::json;

use super::*;

fn table(name: &str) -> TableName {
    TableName::new("public", name)
}

fn claims(json: serde_json::Value) -> Claims {
    match json {
        serde_json::Value::Object(claims) => Claims::new(claims),
        other => panic!("no claims: {other}"),
    }
}

fn policy(tables: &str, roles: &[&str], condition: &str) -> Policy {
    let pattern = match tables.strip_suffix(".*") {
        Some(schema) => TablePattern::Schema(schema.into()),
        None => TablePattern::Table(table(tables)),
    };
    Policy {
        tables: vec![pattern],
        roles: (!roles.is_empty()).then(|| roles.iter().map(|role| (*role).to_owned()).collect()),
        ops: Ops::ALL,
        columns: Visible::All,
        rows: Rows::Where(Arc::new(Condition::parse(condition).unwrap())),
    }
}

#[test]
fn a_table_without_a_policy_for_the_role_does_not_exist() {
    let policies = Policies {
        tables: vec![
            policy("orders", &["customer"], "true"),
            policy("public.*", &["clerk"], "true"),
        ],
        messages: vec![MessagePolicy {
            prefixes: vec!["chat.".into()],
            roles: Some(vec!["customer".into()]),
        }],
    };
    let none = Claims::default();
    let may = |table: &TableName, role: &str| policies.admission(table, Some(role), &none, None).is_some();
    assert!(may(&table("orders"), "customer"));
    assert!(!may(&table("orders"), "Customer"));
    assert!(!may(&table("items"), "customer"));
    assert!(!may(&TableName::new("other", "orders"), "customer"));
    assert!(may(&table("items"), "clerk"));
    assert!(!may(&TableName::new("other", "items"), "clerk"));
    let message = |prefix: &str| TableName::of_messages(prefix);
    assert!(may(&message("chat.room"), "customer"));
    assert!(!may(&message("chat"), "customer"));
    assert!(!may(&message("audit.chat."), "customer"));
    assert!(
        !may(&message("chat.room"), "clerk"),
        "a schema's tables are no messages"
    );
}

#[test]
fn callers_share_an_admission_if_the_claims_that_policies_ask_for_are_equal() {
    let policies = Policies {
        tables: vec![
            policy("orders", &[], "a = claim('tenant')::int"),
            policy("orders", &[], "b = claim('sub')"),
        ],
        messages: Vec::new(),
    };
    let of = |json| {
        policies
            .admission(&table("orders"), Some("x"), &claims(json), None)
            .unwrap()
    };
    let ann = of(json!({"tenant": 1, "sub": "ann", "jti": "1"}));
    assert_eq!(ann, of(json!({"tenant": 1, "sub": "ann", "jti": "2"})));
    for other in [
        json!({"tenant": 2, "sub": "ann"}),
        json!({"tenant": "1", "sub": "ann"}),
        json!({"tenant": null, "sub": "ann"}),
        json!({"sub": "ann"}),
        json!({"tenant": 1, "sub": "bob"}),
    ] {
        assert_ne!(ann, of(other.clone()), "{other}");
    }
    // In any order.
    let mut turned = policies.clone();
    turned.tables.reverse();
    let turned = turned.admission(
        &table("orders"),
        Some("x"),
        &claims(json!({"tenant": 1, "sub": "ann"})),
        None,
    );
    assert_eq!(Some(ann), turned);
}

#[test]
fn a_claim_is_found_by_its_path_and_never_printed() {
    let claims =
        claims(json!({"a": {"b": {"c": 1}}, "https://x.example/roles": ["r"], "a.d": 2, "list": [7]}));
    assert_eq!(claims.get("a.b.c"), Some(&json!(1)));
    assert_eq!(claims.get("https://x.example/roles"), Some(&json!(["r"])));
    assert_eq!(claims.get("a.d"), Some(&json!(2)));
    for missing in ["a.c", "", ".", "a..b", "list.0", "b"] {
        assert_eq!(claims.get(missing), None, "{missing}");
    }
    assert_eq!(format!("{claims:?}"), "Claims(…)");
}
