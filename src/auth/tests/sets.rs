//! Sets of public keys.

use super::signers::*;
use super::*;

#[test]
fn a_set_chooses_by_name_and_leaves_out_what_is_not_for_it() {
    let (a, b) = (ed_signer(), ed_signer());
    let named = |signer: &Signer, kid: &str| {
        let mut jwk = signer.jwk.clone();
        jwk["kid"] = kid.into();
        jwk
    };
    let set = |keys: Value| {
        KeySet::jwks(
            json!({ "keys": keys }).to_string().as_bytes(),
            &[Algorithm::EdDSA],
        )
    };
    let (keys, left_out) = set(json!([named(&a, "a"), named(&b, "b")])).unwrap();
    assert!(left_out.is_empty());
    let verifier = Verifier::new(rules(&[Algorithm::EdDSA]));
    let verify = |token: String, keys: &KeySet| verifier.verify(&token, keys, now()).err();
    assert_eq!(verify(a.token(Some("a")), &keys), None);
    assert_eq!(verify(b.token(Some("b")), &keys), None);
    assert_eq!(verify(a.token(Some("b")), &keys), Some(Rejection::Signature));
    assert_eq!(verify(a.token(Some("c")), &keys), Some(Rejection::UnknownKey));
    assert_eq!(verify(a.token(None), &keys), Some(Rejection::AmbiguousKey));
    // For encryption, for signing alone, a secret, of another algorithm, nonsense, and one that is good.
    let with = |name: &str, value: Value| {
        let mut jwk = a.jwk.clone();
        jwk[name] = value;
        jwk
    };
    let (keys, left_out) = set(json!([
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        {"kty": "oct", "k": base64(SECRET), "alg": "EdDSA"},
        rsa_signer(Algorithm::RS256, &RSA_PKCS1_SHA256).jwk,
        with("x", json!("AAAA")),
        with("kid", json!(5)),
        17,
        {"kty": "RSA", "n": base64([0xff; 128]), "e": "AQAB"},
        with("use", json!("sig")),
    ]))
    .unwrap();
    assert_eq!((keys.len(), left_out.len()), (1, 8), "{left_out:?}");
    assert!(left_out[7].contains("1024 bits"), "{left_out:?}");
    for nothing in [json!([]), json!([{"kty": "oct", "k": base64(SECRET)}])] {
        assert!(matches!(set(nothing), Err(JwksError::NoneFits { .. })));
    }
    assert!(matches!(
        set(json!(vec![a.jwk.clone(); MAX_KEYS + 1])),
        Err(JwksError::TooMany(_))
    ));
    assert!(matches!(
        KeySet::jwks(b"<html>", &[Algorithm::EdDSA]),
        Err(JwksError::NoSet(_))
    ));
}
