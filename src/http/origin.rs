//! [`Origins`]: which web pages may connect.
//!
//! A browser lets any page open a websocket to any address that it reaches, this one's included, and says in `Origin`
//! which page it was (RFC 6455, section 10.2). Other programs send no `Origin`, and are not what this is about.

use std::collections::HashSet;
use std::net::Ipv6Addr;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;

/// The web pages that may connect, besides those that are served from this very address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<Allowed>);

/// A page's origin as `--allow-origin` takes it, or `*` for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every page of every site.
    Any,
    /// The pages of one site.
    One(Origin),
}

/// A web origin (RFC 6454): scheme, host and port, in lower case; a scheme's own port is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    authority: String,
}

/// The text that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: write a scheme and a host, as in https://app.example.com, or * for any")]
pub struct BadOrigin(String);

/// A page that may not connect, in words for those who run it or walcast.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// Its origin is not on the list.
    #[error(
        "pages of {0} may not connect: start walcast with --allow-origin {0} (WALCAST_ALLOW_ORIGIN) to let them"
    )]
    NotAllowed(String),
    /// It has none, as a sandboxed frame or a file.
    #[error(
        "a page without an origin of its own may not connect: serve it by HTTP, and name it by --allow-origin"
    )]
    Opaque,
}

/// The pages that were refused, so that each is logged as a warning once.
#[derive(Debug, Default)]
pub struct Noted(Mutex<HashSet<Refused>>);

/// The number of pages that are remembered. A client that makes up more of them does not fill the log.
const MAX_NOTED: usize = 100;
/// The longest origin that is remembered, in bytes.
const MAX_NOTED_BYTES: usize = 300;

impl Noted {
    /// True if the page was not refused before, as far as that is remembered.
    pub fn is_new(&self, refused: &Refused) -> bool {
        let is_long = matches!(refused, Refused::NotAllowed(origin) if origin.len() > MAX_NOTED_BYTES);
        let mut noted = self.0.lock();
        !is_long && noted.len() < MAX_NOTED && noted.insert(refused.clone())
    }
}

impl Origins {
    /// These, and those that are served from the address that is connected to.
    pub fn new(allowed: Vec<Allowed>) -> Origins {
        Origins(allowed)
    }

    /// True if a request with these headers may connect.
    ///
    /// A page from the same host and port may, but only by an IP address or as localhost: any site can have its own
    /// name lead to this address for a moment ("DNS rebinding"), and is then the same host by its name.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let mut sent = headers.get_all(header::ORIGIN).into_iter();
        let (Some(origin), None) = (sent.next(), sent.next()) else {
            return match headers.contains_key(header::ORIGIN) {
                true => Err(Refused::Opaque),
                false => Ok(()),
            };
        };
        if self.0.contains(&Allowed::Any) {
            return Ok(());
        }
        let origin = read(origin).ok_or(Refused::Opaque)?;
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let same = host.is_some_and(|host| origin.is_at(host)) && origin.is_unnamed();
        if same || self.0.contains(&Allowed::One(origin.clone())) {
            return Ok(());
        }
        Err(Refused::NotAllowed(origin.to_string()))
    }
}

fn read(value: &HeaderValue) -> Option<Origin> {
    value.to_str().ok()?.parse().ok()
}

impl Origin {
    /// True if its pages come from where the request went to, as `Host` has it.
    fn is_at(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.authority == without_usual_port(&self.scheme, &host)
    }

    /// True if its host is an address or this machine, which no name server has a say in.
    fn is_unnamed(&self) -> bool {
        let host = match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.authority,
        };
        let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        host == "localhost"
            || host.parse::<std::net::Ipv4Addr>().is_ok()
            || ipv6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
    }
}

impl FromStr for Origin {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Origin, BadOrigin> {
        let bad = || BadOrigin(text.to_owned());
        let (scheme, authority) = text.split_once("://").ok_or_else(bad)?;
        let fits = |text: &str, also: &[u8]| {
            let mut bytes = text.bytes();
            !text.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
        };
        if !fits(scheme, b"+-.") || !fits(authority, b"-._:[]") {
            return Err(bad());
        }
        let scheme = scheme.to_ascii_lowercase();
        let authority = authority.to_ascii_lowercase();
        Ok(Origin {
            authority: without_usual_port(&scheme, &authority).to_owned(),
            scheme,
        })
    }
}

fn without_usual_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return authority,
    };
    authority.strip_suffix(usual).unwrap_or(authority)
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl FromStr for Allowed {
    type Err = BadOrigin;

    fn from_str(text: &str) -> Result<Allowed, BadOrigin> {
        match text {
            "*" => Ok(Allowed::Any),
            origin => Ok(Allowed::One(origin.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &str, origin: &str, host: &str) -> Result<(), Refused> {
        let allowed = allowed.split(',').filter(|text| !text.is_empty());
        let origins = Origins::new(allowed.map(|text| text.parse().unwrap()).collect());
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if !origin.is_empty() {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        origins.check(&headers)
    }

    #[test]
    fn programs_and_pages_from_the_same_address_may_connect_and_other_pages_may_not() {
        for (origin, host) in [
            ("", "anything"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://127.0.0.1", "127.0.0.1:80"),
            ("https://10.0.0.1", "10.0.0.1"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://localhost:8080", "LocalHost:8080"),
        ] {
            assert_eq!(check("", origin, host), Ok(()), "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://evil.example", "127.0.0.1:8080"),
            ("http://127.0.0.1:8081", "127.0.0.1:8080"),
            ("http://localhost:8080", "127.0.0.1:8080"),
            // Its own name leads here now.
            ("http://evil.example:8080", "evil.example:8080"),
            (
                "http://127.0.0.1.evil.example:8080",
                "127.0.0.1.evil.example:8080",
            ),
            ("http://localhost.evil.example", "localhost.evil.example"),
        ] {
            let refused = Refused::NotAllowed(origin.into());
            assert_eq!(check("", origin, host), Err(refused), "{origin} at {host}");
        }
        for opaque in ["null", "file://", "http://a b", "\u{e4}"] {
            assert_eq!(check("", opaque, "127.0.0.1"), Err(Refused::Opaque), "{opaque}");
        }
    }

    #[test]
    fn listed_pages_may_connect_from_wherever_they_are_served() {
        let list = "https://app.example.com,http://Dev:3000,capacitor://localhost";
        for origin in [
            "https://app.example.com",
            "https://app.example.com:443",
            "http://dev:3000",
            "capacitor://localhost",
            "http://127.0.0.1:8080",
        ] {
            assert_eq!(check(list, origin, "127.0.0.1:8080"), Ok(()), "{origin}");
        }
        for origin in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "http://dev",
        ] {
            assert!(check(list, origin, "127.0.0.1:8080").is_err(), "{origin}");
        }
        assert_eq!(check("*", "https://anything.example", "x"), Ok(()));
        assert_eq!(check("*", "null", "x"), Ok(()));
    }

    #[test]
    fn each_refused_page_is_new_once_and_only_so_many_are() {
        let (noted, page) = (Noted::default(), |name: &str| {
            Refused::NotAllowed(format!("https://{name}"))
        });
        assert!(noted.is_new(&page("a")) && noted.is_new(&page("b")) && noted.is_new(&Refused::Opaque));
        assert!(!noted.is_new(&page("a")) && !noted.is_new(&Refused::Opaque));
        assert!(!noted.is_new(&page(&"x".repeat(1000))));
        let more = (0..1000).filter(|number| noted.is_new(&page(&number.to_string())));
        assert_eq!(more.count(), MAX_NOTED - 3);
    }

    #[test]
    fn what_is_no_origin_is_not_taken_for_one() {
        for text in [
            "",
            "app.example.com",
            "https://",
            "https://a/",
            "https://a/b",
            "://a",
        ] {
            let error = text.parse::<Allowed>().unwrap_err();
            assert!(error.to_string().contains("https://app.example.com"), "{error}");
        }
    }
}
