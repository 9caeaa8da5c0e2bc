//! [`Server`]: the address of `--url`, and the way to it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tungstenite::http::Uri;

use crate::tls::{self, Roots};

/// An address as it is to be written.
const EXAMPLE_URL: &str = "ws://127.0.0.1:8080/v1/stream";
/// The time that a connection may take to be there, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection, with or without TLS.
pub(super) type Stream = Box<dyn ReadWrite>;

pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for S {}

/// A server of walcast's.
pub(super) struct Server {
    /// Its address, as it was given.
    pub(super) url: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Server {
    /// The server at an address. One by TLS is believed if its certificate leads to an authority in `ca_file`, or
    /// without it, to one that this machine believes, and is for the name in the address. Reads the certificates.
    ///
    /// # Errors
    /// The address is none, or nobody could be believed.
    pub(super) fn new(url: String, ca_file: Option<&Path>) -> anyhow::Result<Server> {
        let help = || format!("--url {url}: write it as in {EXAMPLE_URL}, or with wss:// for TLS");
        let uri: Uri = url.parse().with_context(help)?;
        let authority = uri.authority().with_context(help)?;
        ensure!(!authority.as_str().contains('@'), help());
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        ensure!(!host.is_empty(), help());
        let host = host.to_owned();
        let (port, tls) = match uri.scheme_str() {
            Some("wss") => {
                let name = ServerName::try_from(host.clone()).with_context(help)?;
                (443, Some((connector(ca_file)?, name)))
            }
            Some("ws") => {
                ensure!(
                    ca_file.is_none(),
                    "--ca-file is for servers by TLS: write --url with wss://"
                );
                (80, None)
            }
            _ => bail!(help()),
        };
        Ok(Server {
            port: authority.port_u16().unwrap_or(port),
            url,
            host,
            tls,
        })
    }

    /// True if what is sent to it can be read on the way.
    pub(super) fn is_overheard(&self) -> bool {
        let is_own = match self.host.parse::<std::net::IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        };
        self.tls.is_none() && !is_own
    }

    /// Connects to it.
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        let connecting = async {
            let socket = TcpStream::connect((self.host.as_str(), self.port)).await?;
            socket.set_nodelay(true)?;
            Ok(match &self.tls {
                None => Box::new(socket) as Stream,
                Some((tls, name)) => Box::new(tls.connect(name.clone(), socket).await?),
            })
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

fn connector(ca_file: Option<&Path>) -> anyhow::Result<TlsConnector> {
    let roots = match ca_file {
        Some(file) => Roots::file(file).context("--ca-file")?,
        None => Roots::system().context(
            "this machine has no certificates of authorities: name a file with some by --ca-file (or SSL_CERT_FILE)",
        )?,
    };
    let config = tls::http_client(roots).context("TLS cannot be set up")?;
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_scheme_s_own_port_unless_it_says_another() {
        for (url, host, port) in [
            ("ws://a.example/v1/stream", "a.example", 80),
            ("wss://a.example/v1/stream", "a.example", 443),
            ("wss://a.example:8443/v1/stream", "a.example", 8443),
            ("ws://[::1]:8080/v1/stream", "::1", 8080),
        ] {
            let server = Server::new(url.to_owned(), None).unwrap();
            assert_eq!((&*server.host, server.port), (host, port), "{url}");
        }
        for url in [
            "",
            "http://a.example/",
            "a.example:8080",
            "ws:///v1/stream",
            "/v1/stream",
            "wss://user@a.example/",
            "wss://a b/",
        ] {
            let error = Server::new(url.to_owned(), None).err().unwrap().to_string();
            assert!(
                error.contains("write it as in ws://127.0.0.1:8080/v1/stream"),
                "{error}"
            );
        }
    }

    #[test]
    fn only_this_machine_and_tls_keep_what_is_sent_to_themselves() {
        for (url, is_overheard) in [
            ("ws://127.0.0.1:8080/", false),
            ("ws://[::1]:8080/", false),
            ("ws://localhost/", false),
            ("wss://a.example/", false),
            ("ws://a.example/", true),
            ("ws://10.0.0.1/", true),
        ] {
            let server = Server::new(url.to_owned(), None).unwrap();
            assert_eq!(server.is_overheard(), is_overheard, "{url}");
        }
    }
}
