//! `[auth]`: whose tokens are taken, and what they say of their bearer.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Faults;
use super::fields::{Fields, Table, shown};
use super::file_text::FileText;
use super::spanned::Spanned;
use super::time::{time, time_or_none};
use crate::auth::{ALGORITHMS, Algorithm, AlgorithmFamily, JwksAddress};
use crate::filter::nearest;

/// The keys of the section.
pub(super) const KEYS: [&str; 12] = [
    "algorithms",
    "secret_file",
    "secret_env",
    "public_key_file",
    "jwks_file",
    "jwks_url",
    "jwks_refresh",
    "issuer",
    "audience",
    "leeway",
    "role_claim",
    "anonymous_role",
];

/// The keys that have defaults, with these as they would be written.
pub(super) const DEFAULTS: [(&str, &str); 3] = [
    ("jwks_refresh", "10min"),
    ("leeway", "5s"),
    ("role_claim", "role"),
];

/// The keys of which there is exactly one.
const SOURCES: [&str; 5] = [
    "secret_file",
    "secret_env",
    "public_key_file",
    "jwks_file",
    "jwks_url",
];

/// The most that clocks may differ. More would make expiry mean little.
const MAX_LEEWAY: Duration = Duration::from_secs(3600);

/// The rules for tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// The bytes of the section's header.
    pub at: Range<usize>,
    /// The algorithms that are accepted, all of which fit [`keys`](Auth::keys). At least one.
    pub algorithms: Vec<Spanned<Algorithm>>,
    /// The keys that signatures are verified with.
    pub keys: Spanned<Keys>,
    /// The `iss` that tokens must have; `None`: it is not looked at.
    pub issuer: Option<Spanned<String>>,
    /// The audiences of which tokens must have one in `aud`; empty: it is not looked at.
    pub audience: Vec<Spanned<String>>,
    /// The time by which clocks may differ.
    pub leeway: Duration,
    /// The claim whose value is the caller's role.
    pub role_claim: ClaimPath,
    /// The role of callers without a token; `None`: there are none.
    pub anonymous_role: Option<Spanned<String>>,
}

/// A place of keys. What is in it is read by those who use it, and never kept here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// A file with the secret that HMAC takes.
    SecretFile(PathBuf),
    /// The environment variable with that secret.
    SecretEnv(String),
    /// A file with one public key, in PEM.
    PublicKeyFile(PathBuf),
    /// A file with a set of public keys (RFC 7517).
    JwksFile(PathBuf),
    /// The same, fetched.
    JwksUrl {
        /// The address.
        url: JwksAddress,
        /// The time after which it is fetched again.
        refresh: Duration,
    },
}

/// The way to a claim inside a token's claims: `realm.role` is the member `role` of the member `realm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// Reads a dotted path; `None` if a name in it is empty.
    pub fn parse(text: &str) -> Option<ClaimPath> {
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        let is_empty = names.iter().any(String::is_empty);
        (!is_empty).then_some(ClaimPath(names))
    }

    /// The names, from the outermost. At least one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// The section, if nothing that it needs is missing or wrong.
pub(super) fn read(
    table: Table<'_>,
    file: &FileText,
    faults: &mut Faults,
    elsewhere: impl Fn(&str) -> Option<&'static str>,
) -> Option<Auth> {
    let mut fields = Fields::of(table, " in [auth]", faults);
    let at = fields.at().clone();
    let keys = keys(&mut fields, file);
    let algorithms = algorithms(&mut fields, keys.as_ref().map(|keys| &keys.value));
    let issuer = fields.text("issuer");
    let audience = fields.text_or_texts("audience");
    let leeway = duration(&mut fields, "leeway", time_or_none).unwrap_or(Duration::from_secs(5));
    if leeway > MAX_LEEWAY
        && let Some(at) = fields.place("leeway")
    {
        fields.fault(
            &at,
            "leeway: write at most 1h, the clocks of servers differ by seconds",
        );
    }
    let role_claim = fields.text("role_claim");
    let path = role_claim.as_ref().map_or("role", |text| &text.value);
    let path = ClaimPath::parse(path);
    if let (None, Some(text)) = (&path, &role_claim) {
        fields.fault(
            &text.at,
            "role_claim: a name is empty: write a path as in realm.role",
        );
    }
    let anonymous_role = fields.text("anonymous_role");
    fields.end(|key| match key {
        "secret" | "jwt_secret" | "public_key" | "jwks" | "key" => {
            Some("keys do not stand in this file: name a file (secret_file, public_key_file, jwks_file) or a variable (secret_env)")
        }
        "algorithm" => Some("write a list, as in algorithms = [\"RS256\"]"),
        other => elsewhere(other),
    });
    Some(Auth {
        at,
        algorithms: algorithms?,
        keys: keys?,
        issuer,
        audience,
        leeway,
        role_claim: path?,
        anonymous_role,
    })
}

/// The one place of keys.
fn keys(fields: &mut Fields<'_, '_>, file: &FileText) -> Option<Spanned<Keys>> {
    let given: Vec<&str> = SOURCES
        .into_iter()
        .filter(|key| fields.place(key).is_some())
        .collect();
    let refresh = duration(fields, "jwks_refresh", time);
    if let (Some(at), false) = (fields.place("jwks_refresh"), given.contains(&"jwks_url")) {
        fields.fault(&at, "jwks_refresh goes with jwks_url alone");
    }
    let (key, more) = match given.split_first() {
        Some((key, more)) => (*key, more),
        None => {
            let at = fields.at().clone();
            fields.fault(&at, format!("[auth] needs one of {}", SOURCES.join(", ")));
            return None;
        }
    };
    for other in more {
        if let Some(at) = fields.place(other) {
            fields.fault(&at, format!("{other}: there is {key} already: leave one of them"));
        }
    }
    let text = fields.text(key)?;
    let at = text.at.clone();
    let path = || file.resolve(&text.value);
    let value = match key {
        "secret_file" => Keys::SecretFile(path()),
        "secret_env" => {
            if text.value.contains(['=', '\0']) {
                fields.fault(&at, "secret_env: write the name of a variable, not its value");
            }
            Keys::SecretEnv(text.value)
        }
        "public_key_file" => Keys::PublicKeyFile(path()),
        "jwks_file" => Keys::JwksFile(path()),
        _ => {
            let Ok(url) = JwksAddress::parse(&text.value) else {
                fields.fault(&at, "jwks_url: write an address that begins with https://");
                return None;
            };
            Keys::JwksUrl {
                url,
                refresh: refresh.unwrap_or(Duration::from_secs(600)),
            }
        }
    };
    Some(Spanned { value, at })
}

fn algorithms(fields: &mut Fields<'_, '_>, keys: Option<&Keys>) -> Option<Vec<Spanned<Algorithm>>> {
    if fields.place("algorithms").is_none() {
        let at = fields.at().clone();
        fields.fault(&at, "[auth] needs algorithms, the only ones that tokens may be signed with, as in algorithms = [\"RS256\"]");
        return None;
    }
    let mut algorithms: Vec<Spanned<Algorithm>> = Vec::new();
    for name in fields.texts("algorithms")? {
        let Some((_, algorithm)) = ALGORITHMS.iter().find(|(known, _)| *known == name.value) else {
            let what = unknown(&name.value);
            fields.fault(&name.at, what);
            continue;
        };
        let first = algorithms.first().map_or(*algorithm, |first| first.value);
        if let Some(why) = keys.and_then(|keys| unfit(*algorithm, first, keys)) {
            fields.fault(&name.at, format!("{}: {why}", name.value));
        }
        algorithms.push(name.map(|_| *algorithm));
    }
    Some(algorithms)
}

fn unknown(name: &str) -> String {
    if name.eq_ignore_ascii_case("none") {
        return "a token without a signature is never accepted: name an algorithm, as in \"RS256\"".into();
    }
    let names = || ALGORITHMS.iter().map(|(known, _)| *known);
    let same = names().find(|known| known.eq_ignore_ascii_case(name));
    match same.or_else(|| nearest(name, names())) {
        Some(near) => format!("unknown algorithm {}: did you mean {near}?", shown(name)),
        None => format!(
            "unknown algorithm {}: there are {}",
            shown(name),
            names().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The reason why keys of such a place are none for the algorithm, of which `first` is the first.
fn unfit(algorithm: Algorithm, first: Algorithm, keys: &Keys) -> Option<&'static str> {
    let is_hmac = algorithm.family() == AlgorithmFamily::Hmac;
    match keys {
        Keys::SecretFile(_) | Keys::SecretEnv(_) if !is_hmac => {
            Some("a secret is for HS256, HS384 and HS512 alone: name a public key, or another algorithm")
        }
        Keys::SecretFile(_) | Keys::SecretEnv(_) => None,
        _ if is_hmac => Some(
            "it needs a secret (secret_file, secret_env): with a public key, everybody could sign tokens",
        ),
        Keys::PublicKeyFile(_) if algorithm.family() != first.family() => {
            Some("one public key is for one kind of algorithms alone: RS and PS, or ES, or EdDSA")
        }
        Keys::PublicKeyFile(_) | Keys::JwksFile(_) | Keys::JwksUrl { .. } => None,
    }
}

/// A time.
fn duration(
    fields: &mut Fields<'_, '_>,
    key: &str,
    read: impl Fn(&str) -> Result<Duration, String>,
) -> Option<Duration> {
    let text = fields.text(key)?;
    match read(&text.value) {
        Ok(time) => Some(time),
        Err(why) => {
            fields.fault(&text.at, format!("{key}: {why}"));
            None
        }
    }
}
