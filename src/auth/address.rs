//! [`JwksAddress`]: an address from which keys may be fetched. Pure.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use rustls::pki_types::ServerName;

/// An address of a set of keys that nobody on the way can change: by https, or by http within this machine. Printing it
/// leaves out its query, which may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksAddress {
    uri: Uri,
    host: String,
    tls_name: Option<ServerName<'static>>,
}

/// The reason why keys are not fetched from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksAddressError {
    /// It is not an address, or holds a password, which would be shown wherever the address is.
    #[error("it is not an address of a server, without a user and a password")]
    Malformed,
    /// Others could change the keys on the way.
    #[error("only https is allowed, and http to an address of this machine, such as 127.0.0.1")]
    Insecure,
}

impl JwksAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// Keys are not fetched from there.
    pub fn parse(url: &str) -> Result<JwksAddress, JwksAddressError> {
        let malformed = JwksAddressError::Malformed;
        let uri: Uri = url.parse().map_err(|_| malformed)?;
        let authority = uri.authority().ok_or(malformed)?;
        if authority.as_str().contains('@') {
            return Err(malformed);
        }
        let host = authority.host();
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
            .to_owned();
        let tls_name = match uri.scheme_str() {
            Some("https") => Some(ServerName::try_from(host.clone()).map_err(|_| malformed)?),
            Some("http") if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) => None,
            _ => return Err(JwksAddressError::Insecure),
        };
        Ok(JwksAddress { uri, host, tls_name })
    }

    /// The host's name or IP address, the latter without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        let default = if self.tls_name.is_some() { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(default)
    }

    /// The name that the server's certificate has to be for; `None` without TLS.
    pub fn tls_name(&self) -> Option<&ServerName<'static>> {
        self.tls_name.as_ref()
    }

    /// The host and the port, as `Host` has them.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// The target of a request.
    pub fn path_and_query(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }
}

impl fmt::Display for JwksAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}{}", self.authority(), self.uri.path())
    }
}

impl fmt::Debug for JwksAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwksAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_others_could_change_are_refused() {
        for url in [
            "http://issuer.example/jwks.json",
            "http://localhost/jwks.json",
            "http://127.0.0.1.example/jwks.json",
            "http://127.0.0.1@issuer.example/jwks.json",
            "ftp://127.0.0.1/jwks.json",
            "ftp://issuer.example",
            "file:///etc/passwd",
            "https://user:SECRET@issuer.example/jwks.json",
            "https://",
            "https:///jwks.json",
            "jwks.json",
            "",
        ] {
            let error = JwksAddress::parse(url).expect_err(url).to_string();
            assert!(!error.contains("SECRET"), "{error}");
        }
        for (url, host, port, is_tls) in [
            ("http://127.0.0.1:8000/k", "127.0.0.1", 8000, false),
            ("http://[::1]/k", "::1", 80, false),
            ("https://issuer.example/k?a=b", "issuer.example", 443, true),
            ("https://[2001:db8::1]:8443/k", "2001:db8::1", 8443, true),
        ] {
            let address = JwksAddress::parse(url).expect(url);
            let parts = (address.host(), address.port(), address.tls_name().is_some());
            assert_eq!(parts, (host, port, is_tls));
        }
    }

    #[test]
    fn an_address_is_shown_without_its_query() {
        let address = JwksAddress::parse("https://issuer.example/k?key=SECRET").unwrap();
        assert_eq!(address.to_string(), "https://issuer.example/k");
        assert_eq!(format!("{address:?}"), "JwksAddress(https://issuer.example/k)");
        assert_eq!(address.path_and_query(), "/k?key=SECRET");
    }
}
