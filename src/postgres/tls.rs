//! TLS as libpq's `sslmode` means it.
//!
//! Documentation: libpq, "SSL Support". Two differences: host names are looked for among the certificate's alternative
//! names only, never in its common name; and a server certificate that itself lies in the root file is believed
//! whatever it says of being an authority, because self-signed servers are set up that way.

use std::fs;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::conninfo::{Host, RootCert, Ssl, SslMode};
use super::error::Error;
use crate::private_files::is_exposed;
use crate::tls::{FileError, Roots, Trust, certificates, provider};

/// The protocol's name in TLS' own negotiation (ALPN).
const PROTOCOL: &[u8] = b"postgresql";

/// The configuration of a TLS session with these settings. Reads the certificate files.
pub(super) fn client_config(ssl: &Ssl) -> Result<ClientConfig, Error> {
    let trust = Trust::new(roots(ssl)?, ssl.mode == SslMode::VerifyFull);
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(tls_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust));
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

/// The root certificates; `None` if there are none and the mode does not insist, as libpq decides it.
fn roots(ssl: &Ssl) -> Result<Option<Roots>, Error> {
    match &ssl.root_cert {
        Some(RootCert::System) => {
            let roots = Roots::system();
            let missing = || Error::Tls("no usable root certificate found (sslrootcert)".into());
            roots.ok_or_else(missing).map(Some)
        }
        Some(RootCert::File(path)) if path.exists() => Roots::file(path).map(Some).map_err(file_error),
        missing => {
            if ssl.mode < SslMode::VerifyCa {
                return Ok(None);
            }
            let path = match missing {
                Some(RootCert::File(path)) => format!("{} does not exist", path.display()),
                _ => "none is named".into(),
            };
            Err(Error::Tls(format!(
                "sslmode asks to verify the server, but there is no root certificate ({path}): set sslrootcert to a \
                 file, or to \"system\""
            )))
        }
    }
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
    if is_exposed(&metadata) {
        return Err(problem("others can read it: chmod 600".into()));
    }
    let pem = fs::read(key).map_err(|e| problem(e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| problem(e.to_string()))?;
    Ok(Some((certificates(cert).map_err(file_error)?, key)))
}

fn tls_error(error: rustls::Error) -> Error {
    Error::Tls(error.to_string())
}

fn file_error(error: FileError) -> Error {
    Error::Tls(error.to_string())
}
