//! [`Key`] and [`KeySet`]: the keys that signatures are verified with, each for certain algorithms.

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

use crate::der::{self, BIT_STRING, INTEGER, SEQUENCE};

/// A key that signatures are verified with. Printing it for debugging does not show it.
#[derive(Clone, Debug)]
pub struct Key {
    /// The name by which tokens refer to it (`kid`).
    pub(super) id: Option<String>,
    pub(super) shape: Shape,
    /// The only algorithm that it is for, if it names one (`alg`).
    pub(super) only: Option<Algorithm>,
    pub(super) key: DecodingKey,
}

/// The kind of a key, which decides the algorithms that it may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A secret of so many bytes.
    Secret(usize),
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// The reason why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not a public key in PEM.
    #[error("it holds no public key in PEM (-----BEGIN PUBLIC KEY-----)")]
    NoPublicKey,
    /// It is of an unknown kind.
    #[error("its public key is of a kind that is not known: RSA, P-256, P-384 and Ed25519 are")]
    UnknownKind,
    /// The modulus is too short or too long.
    #[error("its RSA key has {bits} bits: from 2048 to 8192 are allowed")]
    RsaBits {
        /// The modulus, in bits.
        bits: usize,
    },
    /// A secret is shorter than the hash of its algorithm (RFC 7518, section 3.2).
    #[error("the secret has {bytes} bytes, and {algorithm:?} needs {least} or more")]
    ShortSecret {
        /// The secret, in bytes.
        bytes: usize,
        /// The algorithm.
        algorithm: Algorithm,
        /// The bytes that it needs.
        least: usize,
    },
    /// The key cannot be used for a configured algorithm.
    #[error("the key is none for {0:?}")]
    Unfit(Algorithm),
}

/// The bits that an RSA modulus may have: shorter ones can be factored, longer ones are costly to verify.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The bytes that a secret needs for an algorithm: as many as its hash has (RFC 7518, section 3.2).
fn least_secret(algorithm: Algorithm) -> Option<usize> {
    match algorithm {
        Algorithm::HS256 => Some(32),
        Algorithm::HS384 => Some(48),
        Algorithm::HS512 => Some(64),
        _ => None,
    }
}

impl Key {
    /// A secret, for HMAC.
    ///
    /// # Errors
    /// It is empty.
    pub fn secret(secret: &[u8]) -> Result<Key, KeyError> {
        let short = KeyError::ShortSecret {
            bytes: 0,
            algorithm: Algorithm::HS256,
            least: 32,
        };
        let key = DecodingKey::from_secret(secret).map_err(|_| short)?;
        Ok(Key::of(Shape::Secret(secret.len()), key))
    }

    /// A public key in PEM, as `openssl pkey -pubout` writes it (RFC 5280, `SubjectPublicKeyInfo`).
    ///
    /// # Errors
    /// It is not a public key, or its kind or size is not allowed.
    pub fn pem(pem: &[u8]) -> Result<Key, KeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| KeyError::NoPublicKey)?;
        let (algorithm, key) = public_key(&der).ok_or(KeyError::UnknownKind)?;
        match (algorithm, key.len()) {
            (RSA_ENCRYPTION, _) => {
                let modulus = rsa_modulus(key).ok_or(KeyError::UnknownKind)?;
                check_modulus(modulus)?;
                Ok(Key::of(Shape::Rsa, DecodingKey::from_rsa_der(key)))
            }
            (EC_P256, 65) => Ok(Key::of(Shape::P256, DecodingKey::from_ec_der(key))),
            (EC_P384, 97) => Ok(Key::of(Shape::P384, DecodingKey::from_ec_der(key))),
            (ED25519, 32) => Ok(Key::of(Shape::Ed25519, DecodingKey::from_ed_der(key))),
            _ => Err(KeyError::UnknownKind),
        }
    }

    fn of(shape: Shape, key: DecodingKey) -> Key {
        Key {
            id: None,
            shape,
            only: None,
            key,
        }
    }

    /// Checks that the key may be used for an algorithm.
    pub(super) fn check(&self, algorithm: Algorithm) -> Result<(), KeyError> {
        if self.only.is_some_and(|only| only != algorithm) {
            return Err(KeyError::Unfit(algorithm));
        }
        let fits = match self.shape {
            Shape::Secret(bytes) => match least_secret(algorithm) {
                Some(least) if bytes < least => {
                    return Err(KeyError::ShortSecret {
                        bytes,
                        algorithm,
                        least,
                    });
                }
                least => least.is_some(),
            },
            Shape::Rsa => algorithm.family() == AlgorithmFamily::Rsa,
            Shape::P256 => algorithm == Algorithm::ES256,
            Shape::P384 => algorithm == Algorithm::ES384,
            Shape::Ed25519 => algorithm == Algorithm::EdDSA,
        };
        if fits {
            Ok(())
        } else {
            Err(KeyError::Unfit(algorithm))
        }
    }
}

/// Checks the size of an RSA key.
pub(super) fn check_modulus(modulus: &[u8]) -> Result<(), KeyError> {
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let significant = modulus.get(zeros..).unwrap_or_default();
    let leading = significant
        .first()
        .map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = significant.len() * 8 - leading;
    if RSA_BITS.contains(&bits) {
        Ok(())
    } else {
        Err(KeyError::RsaBits { bits })
    }
}

/// Checks the size of the RSA key that `jsonwebtoken` read.
pub(super) fn check_rsa(key: &DecodingKey) -> Result<(), KeyError> {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, .. } => check_modulus(n),
        DecodingKeyKind::SecretOrDer(_) => Err(KeyError::UnknownKind),
    }
}

/// The keys that tokens may be signed with.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    pub(super) keys: Vec<Key>,
    /// True if a token's `kid` is ignored: there is one key, without a name.
    is_nameless: bool,
}

/// The reason why a set has no key for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// No key has this name and is for this algorithm. A newer set may have one.
    Unknown,
    /// The token names none, and there are several for its algorithm.
    Ambiguous,
}

impl KeySet {
    /// A set of one key, whatever tokens call it.
    ///
    /// # Errors
    /// It cannot be used for one of the `algorithms`.
    pub fn one(key: Key, algorithms: &[Algorithm]) -> Result<KeySet, KeyError> {
        for algorithm in algorithms {
            key.check(*algorithm)?;
        }
        Ok(KeySet {
            keys: vec![key],
            is_nameless: true,
        })
    }

    pub(super) fn named(keys: Vec<Key>) -> KeySet {
        KeySet {
            keys,
            is_nameless: false,
        }
    }

    /// The names of the keys, in their order.
    pub fn ids(&self) -> Vec<Option<String>> {
        self.keys.iter().map(|key| key.id.clone()).collect()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key for a token by its `kid` and `alg`.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, NoKey> {
        let id = id.filter(|_| !self.is_nameless);
        let is_named = |key: &&Key| id.is_none() || key.id.as_deref() == id;
        let fitting = self.keys.iter().filter(is_named);
        let mut fitting = fitting.filter(|key| key.check(algorithm).is_ok());
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
            (None, _) => Err(NoKey::Unknown),
        }
    }
}

/// `rsaEncryption` with NULL (RFC 3279, section 2.3.1).
const RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// `id-ecPublicKey` with the curve's name (RFC 5480, section 2.1.1).
const EC_P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const EC_P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
/// `id-Ed25519` (RFC 8410, section 3).
const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

/// The algorithm and the key of `SubjectPublicKeyInfo ::= SEQUENCE { algorithm SEQUENCE, subjectPublicKey BIT STRING
/// }`.
fn public_key(info: &[u8]) -> Option<(&[u8], &[u8])> {
    let (info, _) = value(info, SEQUENCE)?;
    let (algorithm, rest) = value(info, SEQUENCE)?;
    let (bits, _) = value(rest, BIT_STRING)?;
    // No unused bits.
    Some((algorithm, bits.strip_prefix(&[0])?))
}

/// The modulus of `RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }` (RFC 8017, A.1.1).
fn rsa_modulus(key: &[u8]) -> Option<&[u8]> {
    let (key, _) = value(key, SEQUENCE)?;
    Some(value(key, INTEGER)?.0)
}

/// The value at the front of some DER. Keys have lengths of up to three bytes.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    der::value::<3>(der, tag)
}
