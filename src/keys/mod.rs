//! [`Authenticator`]: verifies tokens by keys from a file, from the environment, or from an address that is fetched
//! periodically.
//!
//! Fetched keys may change at any time. They are fetched on a schedule, and also when a token names an unknown key, but
//! for that reason at most every 30 seconds. While fetching fails, the old keys stay.

mod fetch;
mod refresh;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{env, io};

use parking_lot::Mutex;

use crate::auth::{Algorithm, JwksError, Key, KeyError, KeySet, Rejection, Rules, Subject, Verifier};
use crate::config;
use crate::private_files::{read_given, read_secret};
use crate::telemetry::Metrics;

pub use fetch::{FetchError, MAX_JWKS_BYTES};
pub use refresh::Refresh;

use refresh::Cache;

/// The rules by which callers are identified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The rules for tokens.
    pub rules: Rules,
    /// The keys that they are signed with.
    pub keys: config::Keys,
    /// The role of callers without a token. If `None`, everybody needs a token.
    pub anonymous_role: Option<String>,
    /// The time that a client has from its connection to its token.
    pub timeout: Duration,
}

impl Options {
    /// The rules of a configuration's `[auth]`.
    pub fn of(auth: &config::Auth, timeout: Duration) -> Options {
        let algorithms = auth.algorithms.iter();
        Options {
            rules: Rules {
                algorithms: algorithms.map(|named| named.value).collect(),
                issuer: auth.issuer.as_ref().map(|issuer| issuer.value.clone()),
                audience: auth.audience.iter().map(|name| name.value.clone()).collect(),
                leeway: auth.leeway,
                role_claim: auth.role_claim.to_string(),
            },
            keys: auth.keys.value.clone(),
            anonymous_role: auth.anonymous_role.as_ref().map(|role| role.value.clone()),
            timeout,
        }
    }
}

/// The reason why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, or can be read by others.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: io::Error,
    },
    /// A file holds no key that can be used.
    #[error("{}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: KeyError,
    },
    /// A file holds no set of keys that can be used.
    #[error("{}: {reason}", path.display())]
    Set {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: JwksError,
    },
    /// A variable of the environment holds no secret that can be used.
    #[error("the environment variable {name}: {problem}")]
    Variable {
        /// Its name.
        name: String,
        /// The problem, without the value.
        problem: String,
    },
    /// The address can never be fetched.
    #[error("jwks_url: {0}")]
    Address(FetchError),
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Authenticator {
    verifier: Verifier,
    keys: Held,
    /// Callers without a token.
    anonymous: Option<Arc<Subject>>,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
enum Held {
    /// From a file or variable that is read at the start, and again on request.
    Read(config::Keys, Mutex<Arc<KeySet>>),
    Fetched(Arc<Cache>),
}

impl Authenticator {
    /// Reads the keys, or prepares to fetch them; in that case the second result is the loop that does.
    ///
    /// # Errors
    /// There are no usable keys.
    pub fn open(options: Options, metrics: &Arc<Metrics>) -> Result<(Authenticator, Option<Refresh>), Error> {
        let algorithms = &options.rules.algorithms;
        let mut refresh = None;
        let keys = match &options.keys {
            config::Keys::JwksUrl { url, refresh: every } => {
                let cache = Arc::new(Cache::default());
                let client = fetch::Client::new(url.clone()).map_err(Error::Address)?;
                refresh = Some(Refresh {
                    client,
                    every: *every,
                    algorithms: algorithms.clone(),
                    cache: Arc::clone(&cache),
                    metrics: Arc::clone(metrics),
                });
                Held::Fetched(cache)
            }
            place => Held::Read(place.clone(), Mutex::new(Arc::new(read(place, algorithms)?))),
        };
        let authenticator = Authenticator {
            verifier: Verifier::new(options.rules),
            keys,
            anonymous: options
                .anonymous_role
                .map(|role| Arc::new(Subject::anonymous(role))),
            timeout: options.timeout,
            metrics: Arc::clone(metrics),
        };
        Ok((authenticator, refresh))
    }

    /// Reads the keys of a file again. Fetched keys are left to their loop.
    ///
    /// # Errors
    /// There are no usable keys; the old ones stay.
    pub fn reread(&self) -> Result<(), Error> {
        if let Held::Read(place, keys) = &self.keys {
            let found = read(place, &self.verifier.rules().algorithms)?;
            *keys.lock() = Arc::new(found);
        }
        Ok(())
    }

    /// True if there are keys to verify tokens with.
    pub fn is_ready(&self) -> bool {
        match &self.keys {
            Held::Read(..) => true,
            Held::Fetched(cache) => cache.current().is_some(),
        }
    }

    /// The subject of callers without a token, if there are any.
    pub fn anonymous(&self) -> Option<Arc<Subject>> {
        self.anonymous.clone()
    }

    /// The time that a client has from its connection to its token.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The subject of a token. If the token names an unknown key, and the keys may be fetched again now, it waits for
    /// that.
    ///
    /// # Errors
    /// The reason against the token, which is counted.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Subject>, Rejection> {
        let verified = match &self.keys {
            Held::Read(_, keys) => {
                let keys = Arc::clone(&keys.lock());
                self.by(&Some(keys), token)
            }
            Held::Fetched(cache) => match self.by(&cache.current(), token) {
                Err(Rejection::UnknownKey) if cache.newer().await => self.by(&cache.current(), token),
                verified => verified,
            },
        };
        verified
            .map(Arc::new)
            .inspect_err(|reason| self.metrics.token_refused(reason.label()))
    }

    fn by(&self, keys: &Option<Arc<KeySet>>, token: &str) -> Result<Subject, Rejection> {
        let none = KeySet::default();
        let keys = keys.as_deref().unwrap_or(&none);
        self.verifier.verify(token, keys, SystemTime::now())
    }
}

/// The keys of a file or of the environment.
fn read(place: &config::Keys, algorithms: &[Algorithm]) -> Result<KeySet, Error> {
    match place {
        config::Keys::SecretFile(path) => {
            let secret = read_secret(path).map_err(|reason| of_file(path, reason))?;
            let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
            let keys = Key::secret(secret).and_then(|key| KeySet::one(key, algorithms));
            keys.map_err(|reason| of_key(path, reason))
        }
        config::Keys::SecretEnv(name) => of_variable(name, algorithms),
        config::Keys::PublicKeyFile(path) => {
            let pem = read_given(path).map_err(|reason| of_file(path, reason))?;
            let keys = Key::pem(&pem).and_then(|key| KeySet::one(key, algorithms));
            keys.map_err(|reason| of_key(path, reason))
        }
        config::Keys::JwksFile(path) => {
            let json = read_given(path).map_err(|reason| of_file(path, reason))?;
            let set = KeySet::jwks(&json, algorithms);
            let (keys, left_out) = set.map_err(|reason| Error::Set {
                path: path.clone(),
                reason,
            })?;
            for why in left_out {
                tracing::info!(
                    event = "token_key_ignored", file = %path.display(), %why,
                    "a key of the set is not used"
                );
            }
            Ok(keys)
        }
        config::Keys::JwksUrl { .. } => Ok(KeySet::default()),
    }
}

fn of_file(path: &Path, reason: io::Error) -> Error {
    Error::File {
        path: path.to_owned(),
        reason,
    }
}

fn of_key(path: &Path, reason: KeyError) -> Error {
    Error::Key {
        path: path.to_owned(),
        reason,
    }
}

fn of_variable(name: &str, algorithms: &[Algorithm]) -> Result<KeySet, Error> {
    let problem = |problem: String| Error::Variable {
        name: name.to_owned(),
        problem,
    };
    let secret = env::var_os(name).ok_or_else(|| problem("it is not set".into()))?;
    let key = Key::secret(secret.as_encoded_bytes());
    key.and_then(|key| KeySet::one(key, algorithms))
        .map_err(|error| problem(error.to_string()))
}

#[cfg(test)]
mod tests;
