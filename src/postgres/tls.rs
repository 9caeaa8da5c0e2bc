//! TLS as libpq's `sslmode` means it: which certificates are believed, and the hash that binds a login to one.
//!
//! Documentation: libpq, "SSL Support". Two differences: host names are looked for among the certificate's alternative
//! names only, never in its common name; and a server certificate that itself lies in the root file is believed
//! whatever it says of being an authority, because self-signed servers are set up that way.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::conninfo::{Host, RootCert, Ssl, SslMode};
use super::error::Error;

/// The protocol's name in TLS' own negotiation (ALPN).
const PROTOCOL: &[u8] = b"postgresql";

/// The configuration of a TLS session with these settings. Reads the certificate files.
pub(super) fn client_config(ssl: &Ssl) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier {
        roots: roots(ssl)?,
        name: ssl.mode == SslMode::VerifyFull,
        provider: provider.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match client_certificate(ssl)? {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(tls_error)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

/// The name that the certificate must be for, and that the server is told we expect.
pub(super) fn server_name(host: &Host, mode: SslMode) -> Result<ServerName<'static>, Error> {
    match ServerName::try_from(host.name.clone()) {
        Ok(name) => Ok(name),
        Err(_) if mode != SslMode::VerifyFull => Ok(ServerName::IpAddress(
            host.address
                .unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into())
                .into(),
        )),
        Err(_) => Err(Error::Tls(format!(
            "no certificate can be for the host name {:?}",
            host.name
        ))),
    }
}

struct Roots {
    store: RootCertStore,
    /// The same certificates, whole.
    certificates: Vec<CertificateDer<'static>>,
}

/// The root certificates; `None` if there are none and the mode does not insist, as libpq decides it.
fn roots(ssl: &Ssl) -> Result<Option<Roots>, Error> {
    let certificates = match &ssl.root_cert {
        Some(RootCert::System) => rustls_native_certs::load_native_certs().certs,
        Some(RootCert::File(path)) if path.exists() => read_certificates(path)?,
        missing => {
            if ssl.mode < SslMode::VerifyCa {
                return Ok(None);
            }
            let path = match missing {
                Some(RootCert::File(path)) => format!("{} does not exist", path.display()),
                _ => "none is named".into(),
            };
            return Err(Error::Tls(format!(
                "sslmode asks to verify the server, but there is no root certificate ({path}): set sslrootcert to a \
                 file, or to \"system\""
            )));
        }
    };
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(certificates.iter().cloned());
    if usable == 0 {
        return Err(Error::Tls(
            "no usable root certificate found (sslrootcert)".into(),
        ));
    }
    Ok(Some(Roots { store, certificates }))
}

type ClientCertificate = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_certificate(ssl: &Ssl) -> Result<Option<ClientCertificate>, Error> {
    let (Some(cert), Some(key)) = (&ssl.cert, &ssl.key) else {
        return Ok(None);
    };
    if !cert.exists() {
        return Ok(None);
    }
    let problem = |what: String| Error::Tls(format!("client key {}: {what}", key.display()));
    let metadata = fs::metadata(key).map_err(|e| problem(e.to_string()))?;
    // Root's own keys may be readable for a group, as libpq has it.
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(problem("others can read it: chmod 600".into()));
    }
    let pem = fs::read(key).map_err(|e| problem(e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| problem(e.to_string()))?;
    Ok(Some((read_certificates(cert)?, key)))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let problem = |e: &dyn fmt::Display| Error::Tls(format!("certificates in {}: {e}", path.display()));
    let pem = fs::read(path).map_err(|e: io::Error| problem(&e))?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| problem(&e))
}

fn tls_error(error: rustls::Error) -> Error {
    Error::Tls(error.to_string())
}

/// Believes what the mode says is to be believed. That the server holds its certificate's key is always checked.
struct Verifier {
    roots: Option<Roots>,
    name: bool,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Verifier {
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

impl Verifier {
    /// A certificate too old for our parser proves nothing, but where nothing is to be proved it does no harm either.
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

/// The `tls-server-end-point` binding of a certificate (RFC 5929, section 4.1): its hash by the hash function of its
/// own signature, SHA-256 in place of older ones. `None` for signatures without one hash function, or with one that
/// we do not have.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let suite = match signature_hash(certificate)? {
        Hash::Sha256 => ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        Hash::Sha384 => ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
    };
    let rustls::SupportedCipherSuite::Tls13(suite) = suite else {
        return None;
    };
    Some(suite.common.hash_provider.hash(certificate).as_ref().to_vec())
}

#[derive(Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
}

/// Reads the signature algorithm of `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID …`.
fn signature_hash(certificate: &[u8]) -> Option<Hash> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let (certificate, _) = der_value(certificate, SEQUENCE)?;
    let (_, rest) = der_value(certificate, SEQUENCE)?;
    let (algorithm, _) = der_value(rest, SEQUENCE)?;
    let (oid, _) = der_value(algorithm, OBJECT_IDENTIFIER)?;
    Some(match oid {
        // PKCS 1: MD5, SHA-1 and SHA-256 with RSA.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04 | 0x05 | 0x0b] => Hash::Sha256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c] => Hash::Sha384,
        // ANSI X9.62: ECDSA with SHA-1, SHA-256 and SHA-384.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => Hash::Sha256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => Hash::Sha256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => Hash::Sha384,
        _ => return None,
    })
}

/// The contents of the DER value of that tag at the front, and what follows it.
fn der_value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = digits.iter().fold(0, |sum, &digit| sum << 8 | usize::from(digit));
            (length, rest)
        }
        0x00..=0x7f => (usize::from(length), rest),
        _ => return None,
    };
    if found == tag {
        rest.split_at_checked(length)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_certificate_is_hashed_as_its_signature_was() {
        for (algorithm, hash) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(Hash::Sha256)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(Hash::Sha384)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let parameters = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            let length = match hash {
                Some(Hash::Sha256) => Some(32),
                Some(Hash::Sha384) => Some(48),
                None => None,
            };
            assert_eq!(signature_hash(certificate.der()), hash);
            assert_eq!(end_point(certificate.der()).map(|hash| hash.len()), length);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_certificate_reader(bytes: Vec<u8>) {
            drop(end_point(&bytes));
            drop(end_point(&[&[0x30, 0x84][..], &bytes].concat()));
        }
    }
}
