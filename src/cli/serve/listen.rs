//! [`Listen`]: the flags of the listeners.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};

use crate::cli::values;
use crate::config::Access;
use crate::http;
use crate::limit::Rate;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Listeners")]
pub(super) struct Listen {
    /// Address for clients: ws://ADDR/v1/stream, or wss:// with --tls-cert.
    #[arg(
        long,
        env = "WALCAST_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080",
        value_parser = values::address
    )]
    pub(super) listen: SocketAddr,
    /// Let everybody who reaches --listen read everything that is published. Needed where that is another address than
    /// this machine's own (127.0.0.1, ::1) and the configuration file has no auth section.
    #[arg(long, env = "WALCAST_INSECURE")]
    insecure: bool,
    /// Address for operators and Prometheus: /metrics, /health/live, /health/ready, /api/status.
    #[arg(
        long,
        env = "WALCAST_ADMIN_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:9090",
        value_parser = values::address
    )]
    pub(super) admin_listen: SocketAddr,
    /// Names of hosts by which --admin-listen may be asked, as in walcast.monitoring.svc. IP addresses and localhost always
    /// may: a web page cannot make them its own.
    #[arg(
        long,
        env = "WALCAST_ADMIN_HOST",
        value_name = "HOST[,HOST]",
        value_delimiter = ','
    )]
    admin_host: Vec<http::HostName>,
    /// The file with the token that is needed for /metrics and /api/status, and for the reason in /health/ready. It is read again at
    /// SIGHUP.
    #[arg(long, env = "WALCAST_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// The web pages that may connect, as in `https://app.example.com`, those below a name, as in
    /// `https://*.preview.example.com`, or `*` for any. Without it only pages that are
    /// served from the same address, by its IP address or as localhost. Programs that are no browsers are not asked.
    #[arg(
        long,
        env = "WALCAST_ALLOW_ORIGIN",
        value_name = "ORIGIN[,ORIGIN]",
        value_delimiter = ','
    )]
    pub(super) allow_origin: Vec<http::Allowed>,
    /// Certificate that clients are shown, followed by those that lead to an authority (PEM): clients connect by TLS, 1.2
    /// or 1.3, alone. The file is read again when it changes, and at SIGHUP.
    #[arg(long, env = "WALCAST_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM, without a passphrase).
    #[arg(long, env = "WALCAST_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Websockets at once, as far as the system's limit on open files allows; further ones are answered 503.
    #[arg(
        long,
        env = "WALCAST_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = 10_000,
        value_parser = values::count
    )]
    max_connections: usize,
    /// Connections at once that are in their handshake, TLS included, or are answered in HTTP. Beyond it one of the address
    /// that has the most of them, or one that has taken more than a second, makes room; else further ones are answered 503.
    /// [default: a tenth of --max-connections, and 64 at least]
    #[arg(long, env = "WALCAST_MAX_HANDSHAKES", value_name = "N", value_parser = values::count)]
    max_handshakes: Option<usize>,
    /// Connections at once from one address, IPv6 addresses by their first 64 bits; further ones are answered 429.
    /// [default: 256; for loopback addresses none]
    #[arg(long, env = "WALCAST_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", value_parser = values::count)]
    max_connections_per_address: Option<usize>,
    /// New connections a second from one address (IPv6: from one /64), after a burst of --max-connections-per-address;
    /// further ones are answered 429. [default: 20; for loopback addresses none]
    #[arg(long, env = "WALCAST_MAX_CONNECTION_RATE_PER_ADDRESS", value_name = "N", value_parser = values::rate)]
    max_connection_rate_per_address: Option<u32>,
    /// Connections at once that have not sent their token yet, where the configuration has an auth section; further ones
    /// without one in the header are answered 503. [default: a tenth of --max-connections]
    #[arg(long, env = "WALCAST_MAX_UNAUTHENTICATED_CONNECTIONS", value_name = "N", value_parser = values::count)]
    max_unauthenticated_connections: Option<usize>,
    /// Proxies that are believed when they say whose connection they pass on, by their addresses or networks, as in
    /// 10.0.0.0/8. The client's address is the last one in the header that none of them has.
    #[arg(
        long,
        env = "WALCAST_TRUSTED_PROXIES",
        value_name = "CIDR[,CIDR]",
        value_delimiter = ','
    )]
    trusted_proxies: Vec<http::Network>,
    /// The header in which they say it. The other one is not read: a client may have written it.
    #[arg(
        long,
        env = "WALCAST_FORWARDED_HEADER",
        value_enum,
        default_value = "x-forwarded-for"
    )]
    forwarded_header: http::ForwardedHeader,
    /// Connections from trusted proxies begin with a header of the PROXY protocol, version 1 or 2.
    #[arg(long, env = "WALCAST_PROXY_PROTOCOL")]
    proxy_protocol: bool,
    /// Time that a client may take for its handshake, TLS included, and to read the answer.
    #[arg(long, env = "WALCAST_HANDSHAKE_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = values::time)]
    handshake_timeout: Duration,
}

/// Amount that the kernel may buffer for one client: the backlog of a slow one belongs into the journal.
const SOCKET_SEND_BUFFER: usize = 64 * 1024;
/// Connections that may be in their handshake at once, where it is not said: clients that come together share it.
const MIN_HANDSHAKES: usize = 64;
/// Connections at once from an address of another machine, and new ones a second.
const MAX_PER_REMOTE_ADDRESS: usize = 256;
const MAX_RATE_PER_REMOTE_ADDRESS: u32 = 20;

impl Listen {
    /// Fails if everybody on a network could read everything, and that was not asked for.
    pub(super) fn is_allowed(&self, access: &Access) -> anyhow::Result<()> {
        let is_own = self.listen.ip().to_canonical().is_loopback();
        ensure!(
            is_own || access.auth.is_some() || self.insecure,
            "--listen {} is no loopback address, and without [auth] in the configuration file everybody who reaches it \
             reads everything that is published: listen on 127.0.0.1 or [::1], or say --insecure (insecure = true)",
            self.listen
        );
        Ok(())
    }

    pub(super) fn options(&self) -> anyhow::Result<http::Options> {
        ensure!(
            !self.proxy_protocol || !self.trusted_proxies.is_empty(),
            "--proxy-protocol needs --trusted-proxies: whoever may say whose connection it is has to be named"
        );
        Ok(http::Options {
            max_connections: self.max_connections,
            max_handshakes: self.max_handshakes(),
            address_limits: self.address_limits(),
            proxies: http::Proxies {
                trusted: self.trusted_proxies.clone(),
                header: self.forwarded_header,
                protocol: self.proxy_protocol,
            },
            handshake_timeout: self.handshake_timeout,
            send_buffer_bytes: SOCKET_SEND_BUFFER,
        })
    }

    fn address_limits(&self) -> http::AddressLimits {
        let connections = self.max_connections_per_address;
        let remote = connections.unwrap_or(MAX_PER_REMOTE_ADDRESS);
        // All that an address has may come back at once.
        let burst = u32::try_from(remote).unwrap_or(u32::MAX);
        let rate = |per_second| Rate { per_second, burst };
        let given = self.max_connection_rate_per_address;
        http::AddressLimits {
            remote: http::AddressLimit {
                connections: remote,
                rate: Some(rate(given.unwrap_or(MAX_RATE_PER_REMOTE_ADDRESS))),
            },
            loopback: http::AddressLimit {
                connections: connections.unwrap_or(usize::MAX),
                rate: given.map(rate),
            },
        }
    }

    /// Connections that may be in their handshake at once.
    fn max_handshakes(&self) -> usize {
        let tenth = self.max_connections.div_ceil(10);
        self.max_handshakes.unwrap_or(tenth.max(MIN_HANDSHAKES))
    }

    /// Clients that may be waited for at once to say who they are.
    pub(super) fn max_unauthenticated(&self) -> usize {
        let given = self.max_unauthenticated_connections;
        given.unwrap_or(self.max_connections.div_ceil(10))
    }

    pub(super) fn admin(&self) -> http::AdminOptions {
        http::AdminOptions {
            hosts: self.admin_host.clone(),
            token_file: self.admin_token_file.clone(),
            shows_rows: false,
        }
    }

    pub(super) fn certificate(&self) -> anyhow::Result<Option<http::CertificateFiles>> {
        match (self.tls_cert.clone(), self.tls_key.clone()) {
            (Some(chain), Some(key)) => Ok(Some(http::CertificateFiles { chain, key })),
            (None, None) => Ok(None),
            (Some(_), None) => bail!("--tls-cert needs --tls-key, the file of its private key"),
            (None, Some(_)) => bail!("--tls-key needs --tls-cert, the file of its certificate"),
        }
    }
}
