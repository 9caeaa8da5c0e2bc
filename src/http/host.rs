//! [`HostName`]: a name by which a request may ask for this machine. Pure.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A name of a host, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

/// The text that is not a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a host: write it without a scheme and a port, as in walcast.monitoring.svc")]
pub struct BadHostName(String);

impl HostName {
    /// True if it is the name in an authority, whatever the port.
    pub(super) fn is_of(&self, authority: &str) -> bool {
        host_of(authority).eq_ignore_ascii_case(&self.0)
    }
}

impl FromStr for HostName {
    type Err = BadHostName;

    fn from_str(text: &str) -> Result<HostName, BadHostName> {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_of_name) {
            return Err(BadHostName(text.to_owned()));
        }
        Ok(HostName(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// True if the host of an authority is an IP address or localhost, which do not depend on a name server.
pub(super) fn is_unnamed(authority: &str) -> bool {
    let host = host_of(authority);
    let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok()
        || ipv6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
}

/// The host of `host:port`; an IPv6 address keeps its brackets.
pub(crate) fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_this_machine_have_no_name() {
        for authority in [
            "127.0.0.1",
            "10.0.0.1:9090",
            "[::1]",
            "[fd00::1]:9090",
            "localhost",
            "LocalHost:9090",
        ] {
            assert!(is_unnamed(authority), "{authority}");
        }
        for authority in [
            "",
            ":9090",
            "walcast",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9090",
            "evil.example:127.0.0.1",
            "a@127.0.0.1:9090",
            "[::1].evil.example",
            "::1",
        ] {
            assert!(!is_unnamed(authority), "{authority}");
        }
    }

    #[test]
    fn a_name_is_the_same_in_either_case_and_at_every_port() {
        let name: HostName = "Walcast.Monitoring.svc".parse().unwrap();
        for authority in ["walcast.monitoring.svc", "walcast.monitoring.SVC:9090"] {
            assert!(name.is_of(authority), "{authority}");
        }
        for authority in [
            "walcast",
            "walcast.monitoring.svc.evil.example",
            "evil.example:walcast.monitoring.svc",
            "",
        ] {
            assert!(!name.is_of(authority), "{authority}");
        }
        for text in ["", "http://walcast", "walcast:9090", "a b", "*", "[::1]"] {
            let refused = text.parse::<HostName>().unwrap_err().to_string();
            assert!(refused.contains("without a scheme and a port"), "{refused}");
        }
    }
}
