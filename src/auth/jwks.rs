//! Sets of public keys as JSON (RFC 7517).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::key::{Key, KeyError, KeySet, Shape, check_rsa};

/// The most keys of a set. Issuers have a handful.
pub const MAX_KEYS: usize = 100;

/// The reason why a set of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// It is not a set of keys.
    #[error("it is no set of keys in JSON ({{\"keys\": […]}}): {0}")]
    NoSet(serde_json::Error),
    /// It has too many keys.
    #[error("it has {0} keys, and {MAX_KEYS} are allowed")]
    TooMany(usize),
    /// None of its keys can be used.
    #[error("none of its {keys} keys can be used for the configured algorithms{}", why(.first))]
    NoneFits {
        /// The number of its keys.
        keys: usize,
        /// The reason why the first is left out.
        first: Option<String>,
    },
}

fn why(first: &Option<String>) -> String {
    first.as_ref().map_or(String::new(), |why| format!(": {why}"))
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a set. Keys for other purposes, such as encryption, or that cannot be used for any of the `algorithms`,
    /// are left out; the second result has the reason for each.
    ///
    /// Secrets are left out too, since a set is public.
    ///
    /// # Errors
    /// It is not a set, is too large, or has no key that can be used.
    pub fn jwks(json: &[u8], algorithms: &[Algorithm]) -> Result<(KeySet, Vec<String>), JwksError> {
        let set: Set = serde_json::from_slice(json).map_err(JwksError::NoSet)?;
        let count = set.keys.len();
        if count > MAX_KEYS {
            return Err(JwksError::TooMany(count));
        }
        let mut keys = Vec::new();
        let mut left_out = Vec::new();
        for (number, value) in set.keys.iter().enumerate() {
            match key(value, algorithms) {
                Ok(key) => keys.push(key),
                Err(why) => left_out.push(format!("key {}: {why}", number + 1)),
            }
        }
        if keys.is_empty() {
            return Err(JwksError::NoneFits {
                keys: count,
                first: left_out.into_iter().next(),
            });
        }
        Ok((KeySet::named(keys), left_out))
    }
}

/// The reason why a key of a set is left out.
#[derive(Debug, thiserror::Error)]
enum LeftOut {
    #[error("it cannot be read")]
    Unreadable,
    #[error("it is a secret, which does not belong into a set that everybody may read")]
    Secret,
    #[error("it is not for verifying signatures")]
    OtherUse,
    #[error("it is for an algorithm that is not configured")]
    OtherAlgorithm,
    #[error(transparent)]
    Key(#[from] KeyError),
}

fn key(value: &Value, algorithms: &[Algorithm]) -> Result<Key, LeftOut> {
    let jwk = Jwk::deserialize(value).map_err(|_| LeftOut::Unreadable)?;
    let shape = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Shape::Rsa,
        AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
            EllipticCurve::P256 => Shape::P256,
            EllipticCurve::P384 => Shape::P384,
            _ => return Err(KeyError::UnknownKind.into()),
        },
        AlgorithmParameters::OctetKeyPair(parameters) if parameters.curve == EllipticCurve::Ed25519 => {
            Shape::Ed25519
        }
        AlgorithmParameters::OctetKey(_) => return Err(LeftOut::Secret),
        _ => return Err(KeyError::UnknownKind.into()),
    };
    let is_other_use = |used: &PublicKeyUse| *used != PublicKeyUse::Signature;
    let operations = jwk.common.key_operations.as_deref();
    let verifies = |operations: &[KeyOperations]| operations.contains(&KeyOperations::Verify);
    if jwk.common.public_key_use.as_ref().is_some_and(is_other_use)
        || operations.is_some_and(|operations| !verifies(operations))
    {
        return Err(LeftOut::OtherUse);
    }
    let only = match jwk.common.key_algorithm {
        Some(algorithm) => Some(Algorithm::try_from(algorithm).map_err(|_| LeftOut::OtherAlgorithm)?),
        None => None,
    };
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| LeftOut::Unreadable)?;
    match shape {
        Shape::Rsa => check_rsa(&decoding)?,
        Shape::P256 => check_length(&decoding, 65)?,
        Shape::P384 => check_length(&decoding, 97)?,
        Shape::Ed25519 => check_length(&decoding, 32)?,
        Shape::Secret(_) => return Err(LeftOut::Secret),
    }
    let key = Key {
        id: jwk.common.key_id,
        shape,
        only,
        key: decoding,
    };
    if algorithms.iter().any(|algorithm| key.check(*algorithm).is_ok()) {
        Ok(key)
    } else {
        Err(LeftOut::OtherAlgorithm)
    }
}

fn check_length(key: &DecodingKey, bytes: usize) -> Result<(), LeftOut> {
    let key = key.try_get_as_bytes().map_err(|_| LeftOut::Unreadable)?;
    if key.len() == bytes {
        Ok(())
    } else {
        Err(LeftOut::Unreadable)
    }
}
