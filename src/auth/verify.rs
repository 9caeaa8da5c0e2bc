//! [`Verifier`]: from a token to the [`Subject`] that it names.

use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::key::NoKey;
use super::{Claims, KeySet, Subject, signature};

/// The largest token, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The rules for tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The only algorithms that are accepted.
    pub algorithms: Vec<Algorithm>,
    /// The `iss` that a token must have, if any.
    pub issuer: Option<String>,
    /// The audiences of which a token must name one in `aud`, which is ignored if there are none.
    pub audience: Vec<String>,
    /// The difference between clocks that is tolerated.
    pub leeway: Duration,
    /// The dotted path of the claim with the role, as [`Claims::get`] takes it.
    pub role_claim: String,
}

/// The reason why a token is not accepted. It repeats nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It is too long.
    #[error("it has more than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// It is not a signed token, its header is not understood, or it marks an unknown extension as critical.
    #[error("it is no signed token (JWS) of a kind that is understood")]
    Malformed,
    /// It is of a type that is for another purpose.
    #[error("its type (typ) is for another purpose")]
    Type,
    /// Its algorithm is not among those that are accepted.
    #[error("its algorithm is not accepted")]
    Algorithm,
    /// No key of this name and for this algorithm is known. A newer set may have it.
    #[error("its key is not known")]
    UnknownKey,
    /// It names no key, and several fit.
    #[error("it does not say which key it was signed with (kid), and there are several")]
    AmbiguousKey,
    /// Its signature does not verify.
    #[error("its signature does not fit")]
    Signature,
    /// Its claims are not an object, or one that is checked has the wrong type.
    #[error("a claim of it cannot be read")]
    Claims,
    /// A claim is a number that would lose digits.
    #[error("a claim of it is a number that is too large: such numbers are to be written as text")]
    Number,
    /// It has no `exp`.
    #[error("it does not say when it expires (exp)")]
    NoExpiry,
    /// It has expired.
    #[error("it has expired")]
    Expired,
    /// It is not valid yet.
    #[error("it is not good yet (nbf)")]
    NotYet,
    /// It was issued in the future.
    #[error("it was issued in the future (iat)")]
    IssuedInFuture,
    /// It is from another issuer.
    #[error("it is of another issuer (iss)")]
    Issuer,
    /// It is for another audience.
    #[error("it is for another audience (aud)")]
    Audience,
    /// The role claim is not a text.
    #[error("its role is no text")]
    Role,
}

impl Rejection {
    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Rejection::TooLong => "size",
            Rejection::Malformed => "malformed",
            Rejection::Type => "type",
            Rejection::Algorithm => "algorithm",
            Rejection::UnknownKey => "unknown_key",
            Rejection::AmbiguousKey => "ambiguous_key",
            Rejection::Signature => "signature",
            Rejection::Claims => "claims",
            Rejection::Number => "number",
            Rejection::NoExpiry => "no_expiry",
            Rejection::Expired => "expired",
            Rejection::NotYet => "not_yet",
            Rejection::IssuedInFuture => "issued_in_future",
            Rejection::Issuer => "issuer",
            Rejection::Audience => "audience",
            Rejection::Role => "role",
        }
    }
}

/// Verifies tokens.
#[derive(Clone, Debug)]
pub struct Verifier {
    rules: Rules,
}

impl Verifier {
    /// A verifier with these rules.
    pub fn new(rules: Rules) -> Verifier {
        signature::install();
        Verifier { rules }
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The subject of a token that one of the keys signed, and that the rules and the time allow.
    ///
    /// # Errors
    /// The first reason against the token.
    pub fn verify(&self, token: &str, keys: &KeySet, now: SystemTime) -> Result<Subject, Rejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Rejection::TooLong);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Rejection::Malformed)?;
        if !header.typ.as_deref().is_none_or(is_access) {
            return Err(Rejection::Type);
        }
        if !self.rules.algorithms.contains(&header.alg) {
            return Err(Rejection::Algorithm);
        }
        let key = keys
            .find(header.kid.as_deref(), header.alg)
            .map_err(|none| match none {
                NoKey::Unknown => Rejection::UnknownKey,
                NoKey::Ambiguous => Rejection::AmbiguousKey,
            })?;
        let verified = jsonwebtoken::decode::<Box<RawValue>>(token, &key.key, &signature_alone(header.alg));
        let claims = verified.map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => Rejection::Signature,
            ErrorKind::Json(_) => Rejection::Claims,
            _ => Rejection::Malformed,
        })?;
        let text = claims.claims.get();
        let claims: Map<String, Value> = serde_json::from_str(text).map_err(|_| Rejection::Claims)?;
        if has_long_integers(text) {
            return Err(Rejection::Number);
        }
        self.subject(claims, now)
    }

    /// The subject of claims whose signature was verified.
    fn subject(&self, claims: Map<String, Value>, now: SystemTime) -> Result<Subject, Rejection> {
        let now = seconds(now);
        let leeway = self.rules.leeway.as_secs_f64();
        let expiry = time(&claims, "exp")?.ok_or(Rejection::NoExpiry)? + leeway;
        if expiry <= now {
            return Err(Rejection::Expired);
        }
        if time(&claims, "nbf")?.is_some_and(|begin| begin > now + leeway) {
            return Err(Rejection::NotYet);
        }
        if time(&claims, "iat")?.is_some_and(|issued| issued > now + leeway) {
            return Err(Rejection::IssuedInFuture);
        }
        if let Some(issuer) = &self.rules.issuer
            && text(&claims, "iss")? != Some(issuer)
        {
            return Err(Rejection::Issuer);
        }
        if !self.rules.audience.is_empty() && !self.is_audience(claims.get("aud")) {
            return Err(Rejection::Audience);
        }
        let subject = text(&claims, "sub")?.cloned();
        let claims = Claims::new(claims);
        Ok(Subject {
            subject,
            role: self.role(&claims)?,
            expires: Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(expiry.clamp(0.0, LATEST))),
            claims,
        })
    }

    fn is_audience(&self, audience: Option<&Value>) -> bool {
        let is_ours = |name: &Value| self.rules.audience.iter().any(|ours| name.as_str() == Some(ours));
        match audience {
            Some(Value::Array(names)) => names.iter().any(is_ours),
            Some(name) => is_ours(name),
            None => false,
        }
    }

    fn role(&self, claims: &Claims) -> Result<Option<String>, Rejection> {
        match claims.get(&self.rules.role_claim) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(role)) => Ok(Some(role.clone())),
            Some(_) => Err(Rejection::Role),
        }
    }
}

/// The end of the year 9999, in seconds since 1970, which stands for all later expiries.
const LATEST: f64 = 253_402_300_799.0;

/// True for the types of tokens that identify a caller (RFC 8725, section 3.11). Others, such as logout tokens, must
/// not be accepted.
fn is_access(typ: &str) -> bool {
    let name = typ.rsplit_once('/').map_or(typ, |(kind, name)| {
        if kind.eq_ignore_ascii_case("application") {
            name
        } else {
            typ
        }
    });
    name.eq_ignore_ascii_case("JWT") || name.eq_ignore_ascii_case("at+jwt")
}

/// Makes `jsonwebtoken` verify the header and the signature only. It would read the clock itself and skip missing
/// claims, so the claims are judged here.
fn signature_alone(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn seconds(now: SystemTime) -> f64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// A claim that is a time (`NumericDate`, RFC 7519, section 2), in seconds since 1970.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, Rejection> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let time = value.as_f64().filter(|time| time.is_finite());
            time.map(Some).ok_or(Rejection::Claims)
        }
    }
}

/// A claim that is a text.
fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<Option<&'a String>, Rejection> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Rejection::Claims),
    }
}

/// True if a JSON text has an integer beyond 64 bits. Read as a double it would be another number, perhaps that of
/// another tenant.
fn has_long_integers(json: &str) -> bool {
    let mut rest = json.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        match first {
            b'"' => rest = after_text(after),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let length = rest.iter().take_while(|byte| is_part(byte)).count();
                let (number, after) = rest.split_at(length);
                let number = std::str::from_utf8(number).unwrap_or_default();
                let is_integer = !number.contains(['.', 'e', 'E']);
                if is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return true;
                }
                rest = after;
            }
            _ => rest = after,
        }
    }
    false
}

/// The text after a JSON string whose opening quote has been read.
fn after_text(json: &[u8]) -> &[u8] {
    let mut rest = json;
    loop {
        match rest {
            [b'\\', _, after @ ..] => rest = after,
            [b'"', after @ ..] => return after,
            [_, after @ ..] => rest = after,
            [] => return rest,
        }
    }
}
