//! Keys of each public kind, and what signs by them.

use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::{base64, claims, signed};
use crate::auth::{Algorithm, JwksError, KeySet};

/// Signs a message.
type Sign = dyn Fn(&[u8]) -> Vec<u8>;

/// A key of each public kind, as a set has it, and what signs by it.
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    pub(super) jwk: Value,
    pub(super) sign: Box<Sign>,
}

pub(super) fn rsa_signer(algorithm: Algorithm, encoding: &'static dyn RsaEncoding) -> Signer {
    let key =
        PrivatePkcs8KeyDer::from_pem_slice(include_bytes!("../../../tests/data/tokens/rsa.pem")).unwrap();
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let public = rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
    let jwk = json!({"kty": "RSA", "n": base64(public.n), "e": base64(public.e)});
    let sign = move |message: &[u8]| {
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(encoding, &SystemRandom::new(), message, &mut signature)
            .unwrap();
        signature
    };
    Signer {
        algorithm,
        jwk,
        sign: Box::new(sign),
    }
}

fn ec_signer(algorithm: Algorithm, curve: &str, scheme: &'static EcdsaSigningAlgorithm) -> Signer {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(scheme, pkcs8.as_ref(), &random).unwrap();
    let point = key.public_key().as_ref();
    let (x, y) = point[1..].split_at(point.len() / 2);
    Signer {
        algorithm,
        jwk: json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)}),
        sign: Box::new(move |message| key.sign(&random, message).unwrap().as_ref().to_vec()),
    }
}

pub(super) fn ed_signer() -> Signer {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    Signer {
        algorithm: Algorithm::EdDSA,
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": base64(key.public_key())}),
        sign: Box::new(move |message| key.sign(message).as_ref().to_vec()),
    }
}

pub(super) fn signers() -> Vec<Signer> {
    vec![
        rsa_signer(Algorithm::RS256, &RSA_PKCS1_SHA256),
        rsa_signer(Algorithm::PS256, &RSA_PSS_SHA256),
        ec_signer(Algorithm::ES256, "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
        ec_signer(Algorithm::ES384, "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
        ed_signer(),
    ]
}

impl Signer {
    pub(super) fn token(&self, kid: Option<&str>) -> String {
        let header = json!({"alg": format!("{:?}", self.algorithm), "kid": kid});
        signed(&header.to_string(), &claims().to_string(), &self.sign)
    }

    pub(super) fn set(&self, more: &[(&str, Value)]) -> Result<(KeySet, Vec<String>), JwksError> {
        let mut jwk = self.jwk.clone();
        for (name, value) in more {
            jwk[*name] = value.clone();
        }
        KeySet::jwks(json!({"keys": [jwk]}).to_string().as_bytes(), &[self.algorithm])
    }
}
