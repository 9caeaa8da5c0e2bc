//! Text as a token, also signed well: a subject whose time is not over, or a reason that tells nothing of it.

#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use walcast::auth::{Algorithm, Key, KeySet, Rules, Verifier};

const SECRET: &[u8] = b"a secret of at least 32 bytes, as HS256 needs it";

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    Verifier::new(Rules {
        algorithms: vec![Algorithm::HS256, Algorithm::EdDSA],
        issuer: None,
        audience: vec!["walcast".into()],
        leeway: Duration::from_secs(5),
        role_claim: "app.role".into(),
    })
});

// The first line is a header, the rest are claims; both are signed. The whole is a token and a set of keys, too.
fuzz_target!(|text: &str| {
    let key = Key::secret(SECRET).unwrap();
    let keys = KeySet::one(key, &[Algorithm::HS256]).unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    assert!(
        VERIFIER.verify(text, &keys, now).is_err(),
        "nobody guesses a signature"
    );
    let (header, claims) = text.split_once('\n').unwrap_or((r#"{"alg":"HS256"}"#, text));
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    if let Ok(subject) = VERIFIER.verify(&token, &keys, now) {
        assert!(subject.expires.is_some_and(|expires| expires > now));
        assert!(header.contains("HS256"));
    }
    if let Ok((keys, _)) = KeySet::jwks(text.as_bytes(), &[Algorithm::EdDSA, Algorithm::RS256]) {
        assert!(!keys.is_empty());
        assert!(
            VERIFIER.verify(&token, &keys, now).is_err(),
            "public keys verify no HMAC"
        );
    }
    let _none = Key::pem(text.as_bytes());
});
