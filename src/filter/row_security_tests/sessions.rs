//! Expressions of the caller's role and claims.

use super::*;

#[test]
fn a_session_has_the_role_and_the_claims() {
    let claims = json!({
        "sub": UID, "tenant": 7, "big": 1e21, "role": "customer", "yes": true, "nothing": null, "a.b": "dotted",
        "app_metadata": {"tenant": "8", "roles": ["admin", "clerk"], "b": [1.0, {"long": 1, "k": "é\n"}]},
    });
    for (policy, values) in [
        ("(owner = CURRENT_USER)", vec![("owner", "customer")]),
        ("(owner = (CURRENT_USER)::text)", vec![("owner", "customer")]),
        ("(owner = CURRENT_ROLE)", vec![("owner", "customer")]),
        ("(owner = USER)", vec![("owner", "customer")]),
        (
            "(owner = ANY (ARRAY['a'::text, (CURRENT_USER)::text]))",
            vec![("owner", "customer")],
        ),
        (
            "(tenant = (((current_setting('request.jwt.claims'::text, true))::json ->> 'tenant'::text))::integer)",
            vec![("tenant", "7")],
        ),
        (
            "((((current_setting('request.jwt.claims'::text, true))::jsonb -> 'app_metadata'::text) ->> \
             'tenant'::text) = owner)",
            vec![("owner", "8")],
        ),
        (
            "(owner = ((NULLIF(current_setting('request.jwt.claims'::text, true), ''::text))::json ->> 'a.b'::text))",
            vec![("owner", "dotted")],
        ),
        (
            "(owner = ((current_setting('request.jwt.claims'::text, true))::json #>> '{app_metadata,roles,1}'::text[]))",
            vec![("owner", "clerk")],
        ),
        (
            "(owner = ((((auth.jwt() -> 'app_metadata'::text) -> 'roles'::text)) ->> '-2'::integer))",
            vec![("owner", "admin")],
        ),
        (
            "(owner = current_setting('request.jwt.claim.tenant'::text, true))",
            vec![("owner", "7")],
        ),
        (
            "(owner = current_setting('request.jwt.claim.Nothing'::text, true))",
            vec![("owner", "null")],
        ),
        ("(uid = auth.uid())", vec![("uid", UID)]),
        ("(uid = ( SELECT auth.uid() AS uid))", vec![("uid", UID)]),
        ("((uid)::text = (auth.jwt() ->> 'sub'::text))", vec![("uid", UID)]),
        (
            "((( SELECT auth.uid() AS uid))::text = owner)",
            vec![("owner", UID)],
        ),
        (
            "(owner = ((((auth.jwt() ->> 'tenant'::text))::integer))::text)",
            vec![("owner", "7")],
        ),
        ("(auth.role() = 'customer'::text)", vec![]),
        ("((( SELECT auth.jwt() AS jwt) ->> 'yes'::text))::boolean", vec![]),
        (
            "(owner IN ( SELECT (auth.jwt() ->> 'role'::text)))",
            vec![("owner", "customer")],
        ),
        ("((auth.jwt() ->> 'nothing'::text) IS NULL)", vec![]),
        ("((auth.jwt() -> 'nothing'::text) IS NOT NULL)", vec![]),
        ("((auth.jwt() -> 'missing'::text) IS NULL)", vec![]),
        (
            "(owner = (auth.jwt() ->> 'big'::text))",
            vec![("owner", "1000000000000000000000")],
        ),
        (
            "(owner = (auth.jwt() -> 'app_metadata'::text ->> 'b'::text))",
            vec![("owner", r#"[1.0, {"k": "é\n", "long": 1}]"#)],
        ),
        (
            "(tenant = COALESCE(((auth.jwt() ->> 'missing'::text))::integer, 3))",
            vec![("tenant", "3")],
        ),
        (
            "(owner = COALESCE((auth.jwt() ->> 'missing'::text), 'none'::text))",
            vec![("owner", "none")],
        ),
    ] {
        assert!(admits(policy, &claims, &values), "{policy}");
        let negated = format!("(NOT {policy})");
        assert!(!admits(&negated, &claims, &values), "{negated}");
    }
}

#[test]
fn what_is_not_in_the_session_is_null() {
    let claims = json!({"app": "text"});
    for policy in [
        "(uid = auth.uid())",
        "(owner = (auth.jwt() ->> 'sub'::text))",
        "(owner = ((auth.jwt() -> 'app'::text) ->> 'x'::text))",
        "(owner = current_setting('request.jwt.claim.sub'::text, true))",
        "(owner = (auth.jwt() ->> NULL::text))",
    ] {
        let values = [("owner", "null"), ("uid", UID)];
        for policy in [policy.to_owned(), format!("(NOT {policy})")] {
            // A key that is null is none that can be given.
            if parse(&policy).is_ok_and(|predicate| {
                predicate
                    .in_session(&session(&claims))
                    .0
                    .bind(View::whole(&relation()), &[])
                    .is_ok()
            }) {
                assert!(!admits(&policy, &claims, &values), "{policy}");
            }
        }
    }
    assert!(admits("(auth.uid() IS NULL)", &claims, &[]));
    // No member is looked for behind a dot, nor a key in an array.
    let nested = json!({"a": {"b": "x"}, "list": ["x"]});
    assert!(!admits(
        "(owner = (auth.jwt() ->> 'a.b'::text))",
        &nested,
        &[("owner", "x")]
    ));
    assert!(!admits(
        "(owner = ((auth.jwt() -> 'list'::text) ->> '0'::text))",
        &nested,
        &[("owner", "x")]
    ));
}

#[test]
fn sessions_with_equal_values_have_equal_predicates() {
    let policy = parse("(owner = (auth.jwt() ->> 'sub'::text))").unwrap();
    let of = |claims: Json| policy.in_session(&session(&claims));
    let ann = of(json!({"sub": "ann", "exp": 1}));
    assert_eq!(ann, of(json!({"sub": "ann", "exp": 2})));
    for other in [
        json!({"sub": "bob"}),
        json!({}),
        json!({"sub": "a\u{0}"}),
        json!({"sub": "!"}),
    ] {
        assert_ne!(ann.1, of(other.clone()).1, "{other}");
    }
    assert_ne!(of(json!({"sub": "!"})).1, of(json!({"sub": "a\u{0}"})).1);
}
