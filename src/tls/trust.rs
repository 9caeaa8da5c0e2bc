//! [`Trust`]: decides which servers are trusted.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{FileError, Problem, certificates, provider};

/// The certificates of the trusted authorities.
///
/// A server's own certificate among them is trusted too, even if it is not marked as an authority, because self-signed
/// servers are set up that way.
#[derive(Debug)]
pub struct Roots {
    store: RootCertStore,
    /// The same certificates, whole.
    certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// The authorities that the system trusts; `None` if it has none that can be used.
    pub fn system() -> Option<Roots> {
        Roots::of(rustls_native_certs::load_native_certs().certs)
    }

    /// The authorities in a file in PEM.
    ///
    /// # Errors
    /// The file cannot be read, or has none that can be used.
    pub fn file(path: &Path) -> Result<Roots, FileError> {
        Roots::of(certificates(path)?).ok_or_else(|| Problem::NoCertificate.of(path))
    }

    fn of(certificates: Vec<CertificateDer<'static>>) -> Option<Roots> {
        let mut store = RootCertStore::empty();
        let (usable, _) = store.add_parsable_certificates(certificates.iter().cloned());
        (usable > 0).then_some(Roots { store, certificates })
    }
}

/// Verifies servers by their certificates. It is always checked that a server holds its certificate's key.
pub struct Trust {
    roots: Option<Roots>,
    name: bool,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// Trusts servers whose certificates lead to `roots`, or all servers if `None`; with `name`, only those whose
    /// certificate is for the name that was connected to.
    pub fn new(roots: Option<Roots>, name: bool) -> Trust {
        Trust {
            roots,
            name,
            provider: provider(),
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        if !roots.certificates.iter().any(|root| root == end_entity) {
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &roots.store,
                intermediates,
                now,
                algorithms,
            )?;
        }
        if self.name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms).or_else(|e| self.unless_unverified(e))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms).or_else(|e| self.unless_unverified(e))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl Trust {
    /// Accepts a certificate that is too old for our parser if nothing has to be verified anyway.
    fn unless_unverified(&self, error: rustls::Error) -> Result<HandshakeSignatureValid, rustls::Error> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::BadEncoding | CertificateError::Other(_))
                if self.roots.is_none() =>
            {
                Ok(HandshakeSignatureValid::assertion())
            }
            error => Err(error),
        }
    }
}
