//! The client's address behind proxies, by the header that they add. Pure.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, header};

use super::network::Network;

/// The proxies that are trusted to name their clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Their addresses.
    pub trusted: Vec<Network>,
    /// The header in which they name them.
    pub header: ForwardedHeader,
    /// True if each of their connections begins with the PROXY protocol's header.
    pub protocol: bool,
}

/// The header in which proxies name their clients. Only one is read, since a proxy that writes one of them passes the
/// other on as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239).
    Forwarded,
}

impl Proxies {
    /// True if a connection from this address may come from a proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// The client's address: the last one in the header that is not a trusted proxy's. Each proxy appends the address
    /// that connected to it, so everything before that comes from an untrusted client.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let mut said = self.said(headers);
        while self.trusts(client) {
            // A hidden or invalid address ends the chain.
            let Some(Some(before)) = said.pop() else { break };
            client = before;
        }
        client
    }

    /// The addresses in the header, in its order.
    fn said(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let name: HeaderName = match self.header {
            ForwardedHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let mut said = Vec::new();
        for line in headers.get_all(name) {
            let Ok(line) = line.to_str() else {
                said.push(None);
                continue;
            };
            // Quotes are ignored, since one that a client opens would hide what the proxy appends.
            said.extend(line.split(',').map(|element| match self.header {
                ForwardedHeader::XForwardedFor => address(element),
                ForwardedHeader::Forwarded => forwarded_for(element),
            }));
        }
        said
    }
}

/// The address in `for=192.0.2.43;proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';');
    let value = pairs.find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    address(
        value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value),
    )
}

/// An address as proxies write it: with or without a port, an IPv6 address with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']');
    let address = IpAddr::from_str(in_brackets().unwrap_or(text)).ok();
    let address = address.or_else(|| Some(SocketAddr::from_str(text).ok()?.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(header: ForwardedHeader, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let proxies = Proxies {
            trusted: ["10.0.0.0/8", "fd00::/8"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            header,
            protocol: false,
        };
        let mut headers = HeaderMap::new();
        for &(name, value) in lines {
            headers.append(name, value.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_proxy_has() {
        let from = |peer, lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|&line| ("x-forwarded-for", line)).collect();
            client(ForwardedHeader::XForwardedFor, peer, &lines)
        };
        for (peer, lines, expected) in [
            ("10.0.0.1", &["203.0.113.9"][..], "203.0.113.9"),
            // Whatever a client writes itself stands before that.
            ("10.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            (
                "10.0.0.1",
                &["198.51.100.1", "203.0.113.9, 10.0.0.2"],
                "203.0.113.9",
            ),
            ("10.0.0.1", &["nonsense, 203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("fd00::1", &["[2001:db8::1]:443,fd00::2"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            // No client is named, or none that can be read.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // The header of an untrusted peer is ignored.
            ("203.0.113.7", &["198.51.100.1"], "203.0.113.7"),
        ] {
            assert_eq!(from(peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn one_header_alone_is_read() {
        let both = [
            ("x-forwarded-for", "203.0.113.9"),
            ("forwarded", "for=198.51.100.1"),
        ];
        assert_eq!(
            client(ForwardedHeader::XForwardedFor, "10.0.0.1", &both),
            "203.0.113.9"
        );
        assert_eq!(
            client(ForwardedHeader::Forwarded, "10.0.0.1", &both),
            "198.51.100.1"
        );
        for (line, expected) in [
            ("for=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            (
                "for=198.51.100.1, proto=https; FOR=203.0.113.9, for=10.1.1.1",
                "203.0.113.9",
            ),
            ("for=_hidden", "10.0.0.1"),
            ("for=unknown, for=10.0.0.2", "10.0.0.2"),
        ] {
            let found = client(ForwardedHeader::Forwarded, "10.0.0.1", &[("forwarded", line)]);
            assert_eq!(found, expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_a_client_adds_in_front_changes_nothing(forged in "[ -~]{0,60}") {
            for (header, name, client_of_proxy) in [
                (ForwardedHeader::XForwardedFor, "x-forwarded-for", "203.0.113.9"),
                (ForwardedHeader::Forwarded, "forwarded", "for=203.0.113.9;proto=https"),
            ] {
                let line = format!("{forged}, {client_of_proxy}");
                prop_assert_eq!(client(header, "10.0.0.1", &[(name, &line)]), "203.0.113.9");
            }
        }
    }
}
