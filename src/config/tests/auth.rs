//! `[auth]`.

use std::path::PathBuf;
use std::time::Duration;

use super::super::Keys;
use super::{AUTH, auth, error, read};
use crate::auth::ALGORITHMS;

#[test]
fn what_auth_leaves_out_has_a_default() {
    let file = read(AUTH).unwrap();
    let auth = file.access.auth.as_ref().unwrap();
    assert_eq!(auth.keys.value, Keys::SecretEnv("SECRET".into()));
    assert_eq!(auth.leeway, Duration::from_secs(5));
    assert_eq!(auth.role_claim.to_string(), "role");
    assert!(auth.issuer.is_none() && auth.audience.is_empty() && auth.anonymous_role.is_none());
    let several = read(&super::auth("audience = ['a', 'b']\nleeway = '0s'")).unwrap();
    let auth = several.access.auth.as_ref().unwrap();
    assert_eq!((auth.audience.len(), auth.leeway), (2, Duration::ZERO));
}

#[test]
fn there_is_exactly_one_place_of_keys() {
    let missing = error("[auth]\nalgorithms = ['HS256']\n");
    assert_eq!(
        missing,
        "1:1: [auth] needs one of secret_file, secret_env, public_key_file, jwks_file, jwks_url"
    );
    let two = error(&auth("secret_file = 'key'"));
    assert_eq!(
        two,
        "3:14: secret_env: there is secret_file already: leave one of them"
    );
    let file = read("[auth]\nalgorithms = ['HS512']\nsecret_file = 'key'").unwrap();
    let keys = &file.access.auth.as_ref().unwrap().keys.value;
    assert_eq!(*keys, Keys::SecretFile(PathBuf::from("/etc/walcast/key")));
}

#[test]
fn algorithms_are_known_and_fit_the_keys() {
    let with = |algorithms: &str, keys: &str| format!("[auth]\nalgorithms = {algorithms}\n{keys}\n");
    let secret = "secret_env = 'A'";
    let public = "public_key_file = 'a'";
    let set = "jwks_file = 'a'";
    for (algorithms, keys, told) in [
        ("[]", secret, "2:14: algorithms is an empty list"),
        (
            "'HS256'",
            secret,
            "2:14: algorithms: write a list, as in algorithms = [\"…\"], instead of a text",
        ),
        (
            "['none']",
            secret,
            "2:15: a token without a signature is never accepted",
        ),
        (
            "['RS255']",
            public,
            "2:15: unknown algorithm \"RS255\": did you mean RS256?",
        ),
        ("['ES512x']", public, "2:15: unknown algorithm \"ES512x\""),
        (
            "['hs256']",
            secret,
            "2:15: unknown algorithm \"hs256\": did you mean HS256?",
        ),
        (
            "['HS256', 'HS256']",
            secret,
            "2:24: algorithms has \"HS256\" twice",
        ),
        (
            "['HS256', 'RS256']",
            secret,
            "2:24: RS256: a secret is for HS256, HS384 and HS512 alone",
        ),
        ("['RS256', 'HS256']", public, "2:24: HS256: it needs a secret"),
        ("['HS256']", set, "2:15: HS256: it needs a secret"),
        (
            "['RS256', 'ES256']",
            public,
            "2:24: ES256: one public key is for one kind of algorithms alone",
        ),
    ] {
        let refused = error(&with(algorithms, keys));
        assert!(refused.starts_with(told), "{algorithms} {keys}: {refused}");
    }
    for (algorithms, keys) in [
        ("['HS256', 'HS384', 'HS512']", secret),
        ("['RS256', 'PS512']", public),
        ("['EdDSA']", public),
        ("['RS256', 'ES384', 'EdDSA']", set),
    ] {
        assert!(read(&with(algorithms, keys)).is_ok(), "{algorithms} {keys}");
    }
    assert!(ALGORITHMS.iter().all(|(name, _)| !name.is_empty()));
}

#[test]
fn key_sets_are_fetched_only_where_nobody_can_change_them_on_the_way() {
    let with =
        |url: &str| format!("[auth]\nalgorithms = ['RS256']\njwks_url = '{url}'\njwks_refresh = '1min'\n");
    assert!(read(&with("https://a.example/jwks")).is_ok());
    for url in ["http://a.example/jwks", "https://", "jwks"] {
        let refused = error(&with(url));
        assert_eq!(
            refused, "3:12: jwks_url: write an address that begins with https://",
            "{url}"
        );
    }
    let stray = error(&auth("jwks_refresh = '1min'"));
    assert_eq!(stray, "4:16: jwks_refresh goes with jwks_url alone");
}

#[test]
fn values_of_auth_that_are_wrong_are_told_with_their_place() {
    for (line, told) in [
        (
            "issuer = 5",
            "4:10: issuer: write a text in quotes instead of a number",
        ),
        ("issuer = ''", "4:10: issuer is empty"),
        ("audience = []", "4:12: audience is an empty list"),
        (
            "audience = ['a', true]",
            "4:18: audience: write a text in quotes instead of true or false",
        ),
        (
            "leeway = 5",
            "4:10: leeway: write a text in quotes instead of a number",
        ),
        ("leeway = 'soon'", "4:10: leeway: write a time as in"),
        ("leeway = '2h'", "4:10: leeway: write at most 1h"),
        ("role_claim = 'a.'", "4:14: role_claim: a name is empty"),
        ("anonymous_role = ''", "4:18: anonymous_role is empty"),
        (
            "algorithm = 'HS256'",
            "4:1: unknown key \"algorithm\" in [auth]: write a list",
        ),
    ] {
        let refused = error(&auth(line));
        assert!(refused.starts_with(told), "{line}: {refused}");
    }
    assert_eq!(
        error("auth = 5"),
        "1:8: auth is a section: write it once, as [auth]"
    );
    assert_eq!(
        error("[[auth]]"),
        "1:1: auth is a section: write it once, as [auth]"
    );
    let variable = error("[auth]\nalgorithms = ['HS256']\nsecret_env = 'A=SECRET'");
    assert_eq!(
        variable,
        "3:14: secret_env: write the name of a variable, not its value"
    );
}
