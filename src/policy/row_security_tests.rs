use serde_json::{Value as Json, json};

use super::*;
use crate::event::{Collation, Column, ReplicaIdentity, TableName};
use crate::policy::{Admission, BoundAdmission};
use crate::types::{Ctype, Kind, Type};

fn relation() -> Relation {
    let mut attnum = 0;
    let columns = [("id", Kind::Int4), ("owner", Kind::Text), ("secret", Kind::Bytea)].map(|(name, kind)| {
        attnum += 1;
        Column {
            name: name.into(),
            attnum: crate::types::Attnum::new(attnum),
            ty: Type {
                oid: 0,
                name: kind.name().into(),
                kind,
            },
            typmod: -1,
            identity: true,
            collation: Collation::Deterministic,
            ctype: Ctype::Unknown,
        }
    });
    Relation {
        oid: 1,
        table: TableName::new("public", "t"),
        replica_identity: ReplicaIdentity::Full,
        columns: columns.into(),
        key: vec![0],
        logging: Default::default(),
    }
}

fn access(policies: &[(&str, bool, Option<&str>)]) -> RoleAccess {
    let policy = |&(name, is_permissive, using): &(&str, bool, Option<&str>)| DatabasePolicy {
        name: name.into(),
        is_permissive,
        using: using.map(str::to_owned),
    };
    RoleAccess {
        columns: Visible::All,
        policies: Some(policies.iter().map(policy).collect()),
        functions: vec![uid()],
        types: Vec::new(),
    }
}

fn uid() -> DatabaseFunction {
    DatabaseFunction {
        name: "auth.uid".into(),
        body: Some("select current_setting('request.jwt.claims', true)::json ->> 'sub'".into()),
        result: "text".into(),
        may_execute: true,
    }
}

fn session(claims: &Json) -> DatabaseSession {
    DatabaseSession::new("customer", claims.as_object().unwrap().clone())
}

/// The condition as SQL, for a caller with these claims.
fn sql(access: &RoleAccess, claims: &Json) -> String {
    let security = RowSecurity::new(access, &relation()).unwrap();
    let admission = Admission::of([security.grant(&session(claims), Ops::ALL)]).unwrap();
    let mut pushed = crate::filter::Pushed::default();
    admission.append_sql(&relation(), &mut pushed);
    let values = pushed.values.iter();
    let values: Vec<String> = values.map(|value| format!("{value:?}")).collect();
    format!("{} {}", pushed.sql, values.join(" "))
}

fn refusal(access: &RoleAccess) -> Refusal {
    RowSecurity::new(access, &relation()).unwrap_err()
}

#[test]
fn a_policy_without_using_adds_nothing_and_takes_nothing_away() {
    let claims = json!({});
    let none = sql(&access(&[]), &claims);
    assert_eq!(none, sql(&access(&[("a", true, None)]), &claims));
    assert_eq!(none, sql(&access(&[("a", false, None)]), &claims));
    let one = [("a", true, Some("(id = 1)")), ("b", false, None)];
    assert_eq!(sql(&access(&one), &claims), sql(&access(&one[..1]), &claims));
}

#[test]
fn every_row_is_seen_where_row_security_is_not_for_the_role_or_a_policy_says_so() {
    let rows = |access: &RoleAccess| {
        let security = RowSecurity::new(access, &relation()).unwrap();
        security.grant(&session(&json!({})), Ops::ALL).rows
    };
    let mut free = access(&[("a", true, Some("false"))]);
    assert!(rows(&free).is_some());
    free.policies = None;
    assert!(rows(&free).is_none());
    let all = [("a", true, Some("(id = 1)")), ("b", true, Some("true"))];
    assert!(rows(&access(&all)).is_none());
    let mut restricted = all.to_vec();
    restricted.push(("c", false, Some("(id = 2)")));
    assert!(rows(&access(&restricted)).is_some());
}

#[test]
fn callers_share_it_if_what_the_policies_read_of_them_is_equal() {
    let access = access(&[("a", true, Some("(owner = auth.uid())"))]);
    let security = RowSecurity::new(&access, &relation()).unwrap();
    let of = |claims: Json| security.grant(&session(&claims), Ops::ALL);
    assert_eq!(
        of(json!({"sub": "a", "jti": 1})),
        of(json!({"sub": "a", "jti": 2}))
    );
    assert_ne!(of(json!({"sub": "a"})), of(json!({"sub": "b"})));
    // The same text with another function is another condition.
    let mut other = access.clone();
    other.functions[0].body = Some("select current_setting('request.jwt.claims', true)::json ->> 'x'".into());
    let other = RowSecurity::new(&other, &relation()).unwrap();
    assert_ne!(
        of(json!({"sub": "a"})),
        other.grant(&session(&json!({"x": "a"})), Ops::ALL)
    );
}

#[test]
fn a_refusal_names_the_policy_and_the_part_and_no_column() {
    for (using, part) in [
        ("(id IN ( SELECT u.id\n   FROM public.u))", "a subquery"),
        ("(public.mine(secret))", "the function public.mine"),
        ("(owner ~ 'x'::text)", "the operator ~"),
        ("(hidden = 1)", "a column that is not published"),
        (
            "((secret)::text = 'x'::text)",
            "a cast or comparison of these types",
        ),
        ("(owner < 'x'::text)", "a comparison by rules of its language"),
    ] {
        let refusal = refusal(&access(&[
            ("one", true, Some("true")),
            ("other", false, Some(using)),
        ]));
        assert_eq!(refusal.policy, "other");
        assert!(refusal.part.starts_with(part), "{using}: {}", refusal.part);
        for column in ["secret", "hidden", "owner"] {
            assert!(!refusal.part.contains(column), "{}", refusal.part);
        }
        assert!(refusal.detail.contains(using), "{}", refusal.detail);
    }
}

#[test]
fn a_function_counts_only_if_it_is_plain_and_may_be_executed() {
    let of = |change: &dyn Fn(&mut DatabaseFunction)| {
        let mut access = access(&[("a", true, Some("(owner = auth.uid())"))]);
        change(&mut access.functions[0]);
        access
    };
    for (change, why) in [
        (
            &(|f: &mut DatabaseFunction| f.body = None) as &dyn Fn(&mut DatabaseFunction),
            "plain",
        ),
        (&|f| f.may_execute = false, "may not execute"),
        (
            &|f| f.body = Some("select owner from t".into()),
            "select owner from t",
        ),
        (&|f| f.result = "uuid".into(), "another type"),
    ] {
        let refusal = refusal(&of(change));
        assert!(
            refusal.part.starts_with("the function auth.uid"),
            "{}",
            refusal.part
        );
        assert!(refusal.detail.contains(why), "{}", refusal.detail);
    }
}

#[test]
fn a_value_that_does_not_fit_admits_nothing_and_refuses_nobody() {
    let access = access(&[("a", true, Some("(id = (auth.uid())::integer)"))]);
    let security = RowSecurity::new(&access, &relation()).unwrap();
    for (sub, is_decided) in [("7", true), ("seven", true)] {
        let grant = security.grant(&session(&json!({"sub": sub})), Ops::ALL);
        let bound = BoundAdmission::new(&Admission::of([grant]).unwrap(), &relation());
        assert_eq!(bound.is_decided(&relation()), is_decided);
        assert_eq!(bound.columns().is_empty(), sub == "seven");
    }
}
