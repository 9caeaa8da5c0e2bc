//! Certificates and keys for TLS from files, and the trust in servers.
//!
//! All cryptography is that of ring, by [`provider`]. Reading files blocks.

mod certificate;
mod trust;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::private_files::{read_given, read_secret};

pub use certificate::{end_point, not_after};
pub use trust::{Roots, Trust};

/// The cryptography of all TLS sessions.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The protocol's name in TLS' own negotiation (ALPN).
pub const HTTP_1: &[u8] = b"http/1.1";

/// TLS for a client of HTTP/1.1, including websockets, which trusts servers whose certificates lead to `roots` and are
/// for the name that it connects to.
///
/// # Errors
/// The provider lacks what TLS needs.
pub fn http_client(roots: Roots) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trust::new(Some(roots), true)))
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1.to_vec()];
    Ok(config)
}

/// The reason why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct FileError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Io(io::Error),
    #[error("it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    #[error("it holds no private key in PEM without a passphrase (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    #[error("it cannot be read as PEM: {0}")]
    Pem(rustls::pki_types::pem::Error),
}

impl Problem {
    fn of(self, path: &Path) -> FileError {
        FileError {
            path: path.to_owned(),
            problem: self,
        }
    }
}

/// Reads the certificates of a file in PEM, in its order.
///
/// # Errors
/// The file cannot be read, or holds none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let pem = read_given(path).map_err(|error| Problem::Io(error).of(path))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found.map_err(|error| Problem::Pem(error).of(path))? {
        none if none.is_empty() => Err(Problem::NoCertificate.of(path)),
        found => Ok(found),
    }
}

/// Reads the private key of a file in PEM.
///
/// # Errors
/// The file cannot be read, holds none, or everybody on this machine may read it.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    use rustls::pki_types::pem::Error;
    let pem = read_secret(path).map_err(|error| Problem::Io(error).of(path))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        Error::NoItemsFound => Problem::NoKey.of(path),
        error => Problem::Pem(error).of(path),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_path() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f.pem");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let says = |error: FileError, words: &str| {
            let error = error.to_string();
            assert!(error.contains("f.pem: ") && error.contains(words), "{error}");
        };
        says(certificates(&path).unwrap_err(), "No such file");
        write(&key.serialize_pem());
        says(certificates(&path).unwrap_err(), "no certificate");
        assert!(private_key(&path).is_ok());
        write(&certificate.pem());
        says(private_key(&path).unwrap_err(), "no private key");
        assert_eq!(certificates(&path).unwrap(), [certificate.der().clone()]);
        write("-----BEGIN CERTIFICATE-----\nAAAA\n");
        says(certificates(&path).unwrap_err(), "PEM");
    }
}
