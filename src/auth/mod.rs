//! Tokens (JWT, RFC 7519), which identify callers, verified by the rules of RFC 8725. Pure: the time and the keys are
//! arguments.
//!
//! A [`Verifier`] has the rules, a [`KeySet`] the keys, and a token that both accept names a [`Subject`]. The one
//! thing to know: nothing of a token decides how it is verified. Its `alg` and `kid` choose among the algorithms and
//! the keys that the configuration names, and a key is only ever used for the algorithms that it is for.

mod address;
mod claims;
mod jwks;
mod key;
mod signature;
mod verify;

use std::fmt;
use std::time::SystemTime;

pub use address::{JwksAddress, JwksAddressError};
pub use claims::Claims;
pub use jsonwebtoken::{Algorithm, AlgorithmFamily};
pub use jwks::{JwksError, MAX_KEYS};
pub use key::{Key, KeyError, KeySet};
pub use verify::{MAX_TOKEN_BYTES, Rejection, Rules, Verifier};

/// The algorithms that a token may be signed with, and their names in `alg` (RFC 7518, section 3.1; RFC 8037, section
/// 3.1).
pub const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// The bearer of a verified token, or a caller without one where that is allowed.
#[derive(Clone, PartialEq, Eq)]
pub struct Subject {
    /// The token's `sub`.
    pub subject: Option<String>,
    /// The role, by which policies are chosen.
    pub role: Option<String>,
    /// All claims of the token.
    pub claims: Claims,
    /// The time at which the token expires. `None` for a caller without a token.
    pub expires: Option<SystemTime>,
}

impl Subject {
    /// A caller without a token, in the given role.
    pub fn anonymous(role: impl Into<String>) -> Subject {
        Subject {
            subject: None,
            role: Some(role.into()),
            claims: Claims::default(),
            expires: None,
        }
    }

    /// True if there is no token.
    pub fn is_anonymous(&self) -> bool {
        self.expires.is_none()
    }

    /// The name of the subject in logs: the first 16 hexadecimal digits of its SHA-256, or `-` without one.
    pub fn fingerprint(&self) -> String {
        match &self.subject {
            Some(subject) => signature::fingerprint(subject),
            None => "-".to_owned(),
        }
    }
}

// Not derived, so that names of people do not get into logs.
impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("subject", &self.fingerprint())
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
