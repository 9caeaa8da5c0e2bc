use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use ring::hmac;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256};
use serde_json::{Value, json};

use super::*;
use signers::{ed_signer, rsa_signer, signers};

mod sets;
mod signers;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of at least 64 bytes, as HS512 needs it to be, and not fewer";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn rules(algorithms: &[Algorithm]) -> Rules {
    Rules {
        algorithms: algorithms.to_vec(),
        issuer: None,
        audience: Vec::new(),
        leeway: Duration::from_secs(5),
        role_claim: "role".to_owned(),
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A signed token of a header and claims in any text.
fn signed(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", base64(header), base64(claims));
    let signature = base64(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256(message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    hmac::sign(&key, message).as_ref().to_vec()
}

fn secret(algorithms: &[Algorithm]) -> KeySet {
    KeySet::one(Key::secret(SECRET).unwrap(), algorithms).unwrap()
}

fn claims() -> Value {
    json!({"sub": "ann", "role": "customer", "exp": NOW + 60, "tenant_id": 7})
}

/// The outcome for well-signed claims.
fn of_claims(rules: Rules, claims: &Value) -> Result<Subject, Rejection> {
    let token = signed(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string(), hs256);
    Verifier::new(rules).verify(&token, &secret(&[Algorithm::HS256]), now())
}

/// The outcome for good claims under this header.
fn of_header(algorithms: &[Algorithm], header: &str) -> Result<Subject, Rejection> {
    let token = signed(header, &claims().to_string(), hs256);
    Verifier::new(rules(algorithms)).verify(&token, &secret(&[Algorithm::HS256]), now())
}

#[test]
fn a_good_token_names_its_subject_role_claims_and_expiry() {
    let subject = of_claims(rules(&[Algorithm::HS256]), &claims()).unwrap();
    assert_eq!(subject.subject.as_deref(), Some("ann"));
    assert_eq!(subject.role.as_deref(), Some("customer"));
    assert_eq!(subject.claims.get("tenant_id"), Some(&json!(7)));
    assert_eq!(subject.expires, Some(now() + Duration::from_secs(65)));
    assert!(!subject.is_anonymous() && Subject::anonymous("anon").is_anonymous());
    // Neither the name nor a claim is shown, only the name's hash: `printf ann | sha256sum`.
    assert_eq!(subject.fingerprint(), "49915e0d7d4b402e");
    let shown = format!("{subject:?}");
    assert!(!shown.contains("ann") && !shown.contains("customer"), "{shown}");
}

#[test]
fn each_hmac_is_verified_and_needs_a_secret_as_long_as_its_hash() {
    for (algorithm, hash, least) in [
        (Algorithm::HS256, hmac::HMAC_SHA256, 32),
        (Algorithm::HS384, hmac::HMAC_SHA384, 48),
        (Algorithm::HS512, hmac::HMAC_SHA512, 64),
    ] {
        let sign = |message: &[u8]| {
            hmac::sign(&hmac::Key::new(hash, SECRET), message)
                .as_ref()
                .to_vec()
        };
        let token = signed(
            &format!(r#"{{"alg":"{algorithm:?}"}}"#),
            &claims().to_string(),
            sign,
        );
        let verifier = Verifier::new(rules(&[algorithm]));
        assert!(
            verifier.verify(&token, &secret(&[algorithm]), now()).is_ok(),
            "{algorithm:?}"
        );
        let of = |bytes: usize| KeySet::one(Key::secret(&SECRET[..bytes]).unwrap(), &[algorithm]);
        assert!(of(least).is_ok(), "{algorithm:?}");
        let short = of(least - 1).unwrap_err().to_string();
        assert!(short.contains(&format!("{} bytes", least - 1)), "{short}");
    }
    assert!(Key::secret(b"").is_err());
}

#[test]
fn each_public_key_verifies_what_its_own_private_key_signed_alone() {
    let signers = signers();
    let all: Vec<Algorithm> = signers.iter().map(|signer| signer.algorithm).collect();
    for signer in &signers {
        let (keys, _) = signer.set(&[]).unwrap();
        let verifier = Verifier::new(rules(&all));
        let algorithm = signer.algorithm;
        assert!(
            verifier.verify(&signer.token(None), &keys, now()).is_ok(),
            "{algorithm:?}"
        );
        for other in &signers {
            let taken = verifier.verify(&other.token(None), &keys, now()).is_ok();
            // RS256 and PS256 share a key here, which does not name an algorithm.
            let same_key = other.jwk == signer.jwk;
            assert_eq!(
                taken, same_key,
                "{:?} by the key of {algorithm:?}",
                other.algorithm
            );
        }
    }
    // Another key of the same kind.
    let (keys, _) = ed_signer().set(&[]).unwrap();
    let verified = Verifier::new(rules(&all)).verify(&ed_signer().token(None), &keys, now());
    assert_eq!(verified, Err(Rejection::Signature));
}

#[test]
fn a_key_that_says_its_algorithm_is_used_for_no_other() {
    let rs = rsa_signer(Algorithm::RS256, &RSA_PKCS1_SHA256);
    let ps = rsa_signer(Algorithm::PS256, &RSA_PSS_SHA256);
    let (keys, _) = rs.set(&[("alg", json!("RS256"))]).unwrap();
    let verifier = Verifier::new(rules(&[Algorithm::RS256, Algorithm::PS256]));
    assert!(verifier.verify(&rs.token(None), &keys, now()).is_ok());
    assert_eq!(
        verifier.verify(&ps.token(None), &keys, now()),
        Err(Rejection::UnknownKey)
    );
}

#[test]
fn the_algorithm_is_the_configurations() {
    // `none`, in every spelling, with and without a signature.
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256"] {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        assert_eq!(
            of_header(&[Algorithm::HS256], &header),
            Err(Rejection::Malformed),
            "{alg}"
        );
        let bare = format!("{}.{}.", base64(&header), base64(claims().to_string()));
        let verified = Verifier::new(rules(&[Algorithm::HS256])).verify(&bare, &secret(&[]), now());
        assert_eq!(verified, Err(Rejection::Malformed), "{alg}");
    }
    // Without a signature, under an algorithm that is accepted.
    let bare = format!(
        "{}.{}.",
        base64(r#"{"alg":"HS256"}"#),
        base64(claims().to_string())
    );
    let verified = Verifier::new(rules(&[Algorithm::HS256])).verify(&bare, &secret(&[]), now());
    assert_eq!(verified, Err(Rejection::Signature));
    // A known algorithm that is not configured.
    let refused = of_header(&[Algorithm::HS512], r#"{"alg":"HS256"}"#);
    assert_eq!(refused, Err(Rejection::Algorithm));
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let pem = include_bytes!("../../tests/data/tokens/rsa.pub.pem");
    let sign = |message: &[u8]| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pem), message)
            .as_ref()
            .to_vec()
    };
    let token = signed(r#"{"alg":"HS256"}"#, &claims().to_string(), sign);
    let key = Key::pem(pem).unwrap();
    let keys = KeySet::one(key.clone(), &[Algorithm::RS256]).unwrap();
    let refused = Verifier::new(rules(&[Algorithm::RS256])).verify(&token, &keys, now());
    assert_eq!(refused, Err(Rejection::Algorithm));
    // Even if both were configured, the key would be for one of them only.
    let refused = Verifier::new(rules(&[Algorithm::RS256, Algorithm::HS256])).verify(&token, &keys, now());
    assert_eq!(refused, Err(Rejection::UnknownKey));
    assert!(matches!(
        KeySet::one(key, &[Algorithm::HS256]),
        Err(KeyError::Unfit(_))
    ));
    // Nor is a secret for a signature by a key pair.
    assert!(matches!(
        KeySet::one(Key::secret(SECRET).unwrap(), &[Algorithm::RS256]),
        Err(KeyError::Unfit(_))
    ));
}

#[test]
fn public_keys_in_pem_are_read_and_weak_or_odd_ones_refused() {
    let rs = rsa_signer(Algorithm::RS256, &RSA_PKCS1_SHA256);
    let key = Key::pem(include_bytes!("../../tests/data/tokens/rsa.pub.pem")).unwrap();
    let keys = KeySet::one(key, &[Algorithm::RS256, Algorithm::PS512]).unwrap();
    let verifier = Verifier::new(rules(&[Algorithm::RS256]));
    // One key needs no name.
    assert!(verifier.verify(&rs.token(Some("whatever")), &keys, now()).is_ok());
    let p384 = Key::pem(include_bytes!("../../tests/data/tokens/p384.pub.pem")).unwrap();
    assert!(KeySet::one(p384.clone(), &[Algorithm::ES384]).is_ok());
    assert!(KeySet::one(p384, &[Algorithm::ES256]).is_err());
    let weak = Key::pem(include_bytes!("../../tests/data/tokens/rsa1024.pub.pem")).unwrap_err();
    assert_eq!(weak, KeyError::RsaBits { bits: 1024 });
    let odd = Key::pem(include_bytes!("../../tests/data/tokens/secp256k1.pub.pem")).unwrap_err();
    assert_eq!(odd, KeyError::UnknownKind);
    // A private key is not taken for its public one.
    let private = Key::pem(include_bytes!("../../tests/data/tokens/rsa.pem")).unwrap_err();
    assert_eq!(private, KeyError::NoPublicKey);
}

#[test]
fn headers_that_are_not_understood_are_refused() {
    for header in [
        r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","b64":false}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"typ":"JWT"}"#,
        r#"["HS256"]"#,
        "",
    ] {
        assert_eq!(
            of_header(&[Algorithm::HS256], header),
            Err(Rejection::Malformed),
            "{header}"
        );
    }
    // Tokens for something else, which the same key may sign.
    for typ in ["logout+jwt", "dpop+jwt", "text/JWT"] {
        let header = format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#);
        assert_eq!(
            of_header(&[Algorithm::HS256], &header),
            Err(Rejection::Type),
            "{typ}"
        );
    }
    for typ in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        let header = format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#);
        assert!(of_header(&[Algorithm::HS256], &header).is_ok(), "{typ}");
    }
    // Keys inside a token are ignored.
    let header = r#"{"alg":"HS256","jku":"https://evil.example/keys","x5u":"https://evil.example/x"}"#;
    assert!(of_header(&[Algorithm::HS256], header).is_ok());
}

#[test]
fn times_are_required_and_judged_with_leeway() {
    let of = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        of_claims(rules(&[Algorithm::HS256]), &claims).err()
    };
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    assert_eq!(
        of_claims(rules(&[Algorithm::HS256]), &endless).err(),
        Some(Rejection::NoExpiry)
    );
    for (name, value, expected) in [
        ("exp", json!(NOW - 4), None),
        ("exp", json!(NOW - 5), Some(Rejection::Expired)),
        ("exp", json!(0), Some(Rejection::Expired)),
        ("exp", json!(-1), Some(Rejection::Expired)),
        ("exp", json!(NOW as f64 + 0.5), None),
        ("exp", json!(1e300), None),
        ("exp", json!("2100000000"), Some(Rejection::Claims)),
        ("exp", json!([NOW + 60]), Some(Rejection::Claims)),
        ("exp", Value::Null, Some(Rejection::Claims)),
        ("nbf", json!(NOW + 5), None),
        ("nbf", json!(NOW + 6), Some(Rejection::NotYet)),
        ("nbf", json!("0"), Some(Rejection::Claims)),
        ("iat", json!(NOW + 5), None),
        ("iat", json!(NOW + 6), Some(Rejection::IssuedInFuture)),
        ("iat", json!({}), Some(Rejection::Claims)),
    ] {
        assert_eq!(of(name, value.clone()), expected, "{name} = {value}");
    }
}

#[test]
fn issuer_and_audience_are_checked_where_they_are_configured() {
    let mut rules = rules(&[Algorithm::HS256]);
    rules.issuer = Some("https://issuer.example".into());
    let of = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    assert_eq!(of_claims(rules.clone(), &claims()).err(), Some(Rejection::Issuer));
    for issuer in [json!("https://issuer.example/"), json!("https://evil.example")] {
        assert_eq!(
            of_claims(rules.clone(), &of("iss", issuer)).err(),
            Some(Rejection::Issuer)
        );
    }
    // A list of issuers is refused.
    let several = of("iss", json!(["https://issuer.example"]));
    assert_eq!(of_claims(rules.clone(), &several).err(), Some(Rejection::Claims));
    assert!(of_claims(rules.clone(), &of("iss", json!("https://issuer.example"))).is_ok());
    rules.issuer = None;
    rules.audience = vec!["walcast".into(), "other".into()];
    assert_eq!(
        of_claims(rules.clone(), &claims()).err(),
        Some(Rejection::Audience)
    );
    for audience in [
        json!("walcas"),
        json!([]),
        json!(["x", 1]),
        json!({"walcast": 1}),
        Value::Null,
    ] {
        let claims = of("aud", audience);
        assert_eq!(
            of_claims(rules.clone(), &claims).err(),
            Some(Rejection::Audience),
            "{claims}"
        );
    }
    for audience in [json!("walcast"), json!(["x", "other"])] {
        assert!(of_claims(rules.clone(), &of("aud", audience)).is_ok());
    }
}

#[test]
fn the_role_is_the_text_at_its_path() {
    let of = |path: &str, claims: Value| {
        let mut all = self::claims();
        all.as_object_mut().unwrap().remove("role");
        all.as_object_mut()
            .unwrap()
            .extend(claims.as_object().unwrap().clone());
        let mut rules = rules(&[Algorithm::HS256]);
        rules.role_claim = path.to_owned();
        of_claims(rules, &all).map(|subject| subject.role)
    };
    assert_eq!(of("role", json!({})), Ok(None));
    assert_eq!(of("role", json!({"role": null})), Ok(None));
    assert_eq!(of("role", json!({"role": "a"})), Ok(Some("a".into())));
    assert_eq!(
        of("app.meta.role", json!({"app": {"meta": {"role": "b"}}})),
        Ok(Some("b".into()))
    );
    assert_eq!(of("app.role", json!({"app": "role"})), Ok(None));
    // A name with dots in it, as issuers give to claims of their own.
    let url = "https://app.example.com/role";
    assert_eq!(of(url, json!({url: "c"})), Ok(Some("c".into())));
    for value in [json!(1), json!(["admin"]), json!({"name": "admin"}), json!(true)] {
        assert_eq!(of("role", json!({"role": value})), Err(Rejection::Role));
    }
}

#[test]
fn integers_that_would_lose_digits_are_refused() {
    for (number, refused) in [
        ("18446744073709551615", false),
        ("-9223372036854775808", false),
        ("18446744073709551616", true),
        ("100000000000000000001", true),
        ("-9223372036854775809", true),
        ("1e30", false),
        ("1700000000.1234567", false),
        (r#""100000000000000000001""#, false),
        (r#""a\"100000000000000000001""#, false),
    ] {
        let text = format!(r#"{{"exp":{},"tenant_id":[{number}]}}"#, NOW + 60);
        let token = signed(r#"{"alg":"HS256"}"#, &text, hs256);
        let verifier = Verifier::new(rules(&[Algorithm::HS256]));
        let verified = verifier.verify(&token, &secret(&[Algorithm::HS256]), now()).err();
        assert_eq!(verified, refused.then_some(Rejection::Number), "{number}");
    }
}

#[test]
fn a_token_is_bounded_and_whole() {
    let verifier = Verifier::new(rules(&[Algorithm::HS256]));
    let keys = secret(&[Algorithm::HS256]);
    let mut claims = claims();
    claims["padding"] = "x".repeat(MAX_TOKEN_BYTES).into();
    let token = signed(r#"{"alg":"HS256"}"#, &claims.to_string(), hs256);
    assert_eq!(verifier.verify(&token, &keys, now()), Err(Rejection::TooLong));
    let good = signed(r#"{"alg":"HS256"}"#, &self::claims().to_string(), hs256);
    for odd in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "e30.e30.",
        &format!("{good}="),
        &format!("{good}.x"),
        &format!(" {good}"),
    ] {
        assert!(verifier.verify(odd, &keys, now()).is_err(), "{odd}");
    }
    for not_claims in ["", "[]", "1", "\"x\"", "{", "null"] {
        let token = signed(r#"{"alg":"HS256"}"#, not_claims, hs256);
        assert_eq!(
            verifier.verify(&token, &keys, now()),
            Err(Rejection::Claims),
            "{not_claims}"
        );
    }
}

#[test]
fn nothing_of_a_token_stands_in_the_reason_against_it() {
    let token = signed(
        r#"{"alg":"HS256","kid":"KIDMARK"}"#,
        r#"{"sub":"SUBMARK"}"#,
        hs256,
    );
    let keys = secret(&[Algorithm::HS256]);
    let refused = Verifier::new(rules(&[Algorithm::HS256]))
        .verify(&token, &keys, now())
        .unwrap_err();
    let words = format!("{refused} {refused:?} {keys:?}");
    assert!(
        !words.contains("MARK") && !words.contains(std::str::from_utf8(SECRET).unwrap()),
        "{words}"
    );
}

proptest! {
    /// A token is refused after any change.
    #[test]
    fn a_changed_token_is_refused(place in 0usize..400, byte in 0u8..128) {
        let good = signed(r#"{"alg":"HS256"}"#, &claims().to_string(), hs256);
        let mut changed = good.clone().into_bytes();
        let place = place % changed.len();
        changed[place] = byte;
        let changed = String::from_utf8(changed).unwrap();
        prop_assume!(changed != good);
        let verifier = Verifier::new(rules(&[Algorithm::HS256]));
        prop_assert!(verifier.verify(&changed, &secret(&[Algorithm::HS256]), now()).is_err());
    }

    /// Any text gives a rejection.
    #[test]
    fn any_text_is_refused_in_words(text in "[A-Za-z0-9_.=-]{0,200}|.{0,50}") {
        let verifier = Verifier::new(rules(&[Algorithm::HS256]));
        prop_assert!(verifier.verify(&text, &secret(&[Algorithm::HS256]), now()).is_err());
    }

    /// Any well-signed claims give a subject or a rejection.
    #[test]
    fn any_claims_are_judged(claims in ".{0,100}|\\{(\"(exp|nbf|iat|aud|role)\":(-?[0-9]{1,25}|\"x\"|null|\\[\\]),?)*\\}") {
        let token = signed(r#"{"alg":"HS256"}"#, &claims, hs256);
        let verified = Verifier::new(rules(&[Algorithm::HS256])).verify(&token, &secret(&[Algorithm::HS256]), now());
        if let Ok(subject) = verified {
            prop_assert!(subject.expires.is_some_and(|expires| expires > now()));
        }
    }
}
