//! The demo's tenants: who may see what of the shop, by a configuration file as `walcast serve` takes it, and tokens for
//! two of its callers.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use serde_json::{Value, json};

use crate::config::{self, Access};

/// The demo's part of a configuration file.
pub(super) const CONFIG: &str = include_str!("walcast.toml");
/// The name of the file with the secret, as [`CONFIG`] has it.
const SECRET: &str = "secret";
/// The bytes of the secret: as many as the digest has (RFC 7518, section 3.2).
const SECRET_BYTES: usize = 32;
/// The time that a token is good for: short, so that one sees how it is replaced.
const LIFETIME: Duration = Duration::from_secs(60);

/// The callers that get tokens, each with the tenant that it belongs to.
const CALLERS: [(&str, &str); 2] = [("ada", "acme"), ("gil", "globex")];

/// Signs the tokens of the demo's callers.
#[derive(Debug)]
pub(super) struct Issuer(hmac::Key);

impl Issuer {
    /// Makes a secret and puts it into a directory, where [`access`] finds it.
    pub(super) fn new(directory: &Path) -> anyhow::Result<Issuer> {
        let random: [u8; SECRET_BYTES] = ring::rand::generate(&SystemRandom::new())
            .ok()
            .context("there are no random numbers for a secret")?
            .expose();
        let secret = URL_SAFE_NO_PAD.encode(random);
        let path = directory.join(SECRET);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(secret.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Issuer(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())))
    }

    /// A new token of the caller of a tenant; `None` if there is no such tenant.
    pub(super) fn token(&self, tenant: &str) -> Option<String> {
        let (caller, tenant) = CALLERS.into_iter().find(|(_, its)| *its == tenant)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(self.sign(&json!({
            "sub": caller,
            "role": "agent",
            "tenant": tenant,
            "iat": now.as_secs(),
            "exp": (now + LIFETIME).as_secs(),
        })))
    }

    /// A JWS in compact serialization (RFC 7515, section 3.1).
    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "HS256", "typ": "JWT"});
        let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = hmac::sign(&self.0, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The access of callers by [`CONFIG`], with the secret in a directory.
pub(super) fn access(directory: &Path) -> anyhow::Result<Arc<Access>> {
    let path = directory.join("walcast.toml");
    Ok(config::read(&path, CONFIG, &[], |_, _| Ok(()))?.access)
}
