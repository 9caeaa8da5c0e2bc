//! [`Tls`]: the server's certificate, which is read again when its files change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;
use crate::tls;

/// The interval at which the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The time before its end from which on a certificate is warned of when it is read.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// The files that hold what clients are shown, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by those that lead to an authority.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The reason why a certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the files cannot be used.
    #[error(transparent)]
    File(#[from] tls::FileError),
    /// Each of them can, but they do not go together.
    #[error("the certificate {} with the key {}: {error}", chain.display(), key.display())]
    Pair {
        /// The certificate's file.
        chain: PathBuf,
        /// The key's.
        key: PathBuf,
        /// The problem.
        error: rustls::Error,
    },
}

/// TLS with the certificate of two files, which may change while it is used.
#[derive(Debug)]
pub struct Tls {
    files: CertificateFiles,
    shown: Mutex<Shown>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Shown {
    pair: Pair,
    config: Arc<ServerConfig>,
}

/// The contents of the files.
#[derive(Debug, PartialEq, Eq)]
struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The way in which the files cannot be used, if they could not at the last look.
#[derive(Debug, Default)]
struct Failure {
    error: Option<String>,
    is_told: bool,
}

impl Tls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn open(files: CertificateFiles, metrics: Arc<Metrics>) -> Result<Tls, TlsError> {
        let (pair, config) = read(&files)?;
        pair.tell_its_end(&metrics);
        let config = Arc::new(config);
        Ok(Tls {
            files,
            shown: Mutex::new(Shown { pair, config }),
            metrics,
        })
    }

    /// Shows another certificate once the files have one, until `stop`. Connections that are open keep theirs. Files that
    /// cannot be used change nothing: that is logged and counted. With each change of `reload` they are read at once.
    pub async fn follow<T>(&self, mut reload: watch::Receiver<T>, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failure = Failure::default();
        loop {
            let is_asked = tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => false,
                () = changed(&mut reload) => true,
            };
            let files = self.files.clone();
            // Fails only if the runtime ends.
            let Ok(found) = spawn_blocking(move || read(&files)).await else {
                return;
            };
            match found {
                Ok((pair, config)) => {
                    let is_new = self.shown.lock().pair != pair;
                    if is_new || is_asked || failure.is_told {
                        self.show(pair, config);
                    }
                    failure = Failure::default();
                }
                Err(error) => self.failed(&mut failure, error.to_string(), is_asked),
            }
        }
    }

    fn show(&self, pair: Pair, config: ServerConfig) {
        pair.tell_its_end(&self.metrics);
        self.metrics.tls_reloads.inc();
        tracing::info!(
            event = "certificate_reloaded", chain = %self.files.chain.display(),
            "the certificate was read again"
        );
        let config = Arc::new(config);
        *self.shown.lock() = Shown { pair, config };
    }

    /// Tells of a failure once, and unless it was asked for, only of one that stays: files are written one after the
    /// other.
    fn failed(&self, failure: &mut Failure, error: String, is_asked: bool) {
        let stays = failure.error.as_ref() == Some(&error);
        let is_told = stays && failure.is_told;
        if is_asked || stays && !is_told {
            self.metrics.tls_reload_failures.inc();
            tracing::error!(
                event = "certificate_reload_failed", %error,
                "the new certificate cannot be used: the previous one stays in use"
            );
        }
        *failure = Failure {
            error: Some(error),
            is_told: is_asked || stays,
        };
    }

    /// Shakes hands with those that come from now on.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.shown.lock().config))
    }
}

/// Waits for a change; for ever if nobody makes any.
pub(super) async fn changed<T>(reload: &mut watch::Receiver<T>) {
    if reload.changed().await.is_err() {
        std::future::pending().await
    }
}

fn read(files: &CertificateFiles) -> Result<(Pair, ServerConfig), TlsError> {
    let pair = Pair {
        chain: tls::certificates(&files.chain)?,
        key: tls::private_key(&files.key)?,
    };
    let config = pair.config().map_err(|error| TlsError::Pair {
        chain: files.chain.clone(),
        key: files.key.clone(),
        error,
    })?;
    Ok((pair, config))
}

impl Pair {
    fn config(&self) -> Result<ServerConfig, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![tls::HTTP_1.to_vec()];
        // Those who come back after an outage, all at once, need no signature.
        config.ticketer = Ticketer::new()?;
        Ok(config)
    }

    /// Shows when the first of the certificates ends, and warns of one that does soon.
    fn tell_its_end(&self, metrics: &Metrics) {
        let ends = self
            .chain
            .iter()
            .filter_map(|certificate| tls::not_after(certificate));
        let Some(end) = ends.min() else { return };
        let seconds = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        metrics
            .tls_certificate_end
            .set(i64::try_from(seconds).unwrap_or(i64::MAX));
        let until = humantime::format_rfc3339_seconds(end);
        match end.duration_since(SystemTime::now()) {
            Err(_) => tracing::error!(
                event = "certificate_expired", %until,
                "the certificate has expired: clients will refuse it"
            ),
            Ok(left) if left < ENDS_SOON => tracing::warn!(
                event = "certificate_expires_soon", %until,
                "the certificate expires soon"
            ),
            Ok(_) => {}
        }
    }
}
