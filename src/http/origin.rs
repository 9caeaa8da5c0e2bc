//! [`Origins`]: the web pages that may connect.
//!
//! A browser lets any page open a websocket to any address that it reaches, including this one, and names the page in
//! `Origin` (RFC 6455, section 10.2). Other programs send no `Origin`, and are not affected.

use std::collections::HashSet;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;

use super::host::is_unnamed;

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
    /// The pages of all sites whose hosts lie below this one's: `https://*.preview.example.com`.
    Below(Origin),
}

/// A web origin (RFC 6454): scheme, host and port, in lower case; a scheme's own port is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    authority: String,
}

/// The text that is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no origin: write a scheme and a host, as in https://app.example.com or https://*.example.com, or * for any"
)]
pub struct BadOrigin(String);

/// A page that may not connect, with the cure for its operator or walcast's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// Its origin is not on the list.
    #[error(
        "pages of {0} may not connect: start walcast with --allow-origin {0} (WALCAST_ALLOW_ORIGIN) to let them"
    )]
    NotAllowed(String),
    /// The page has no origin, such as a sandboxed frame or a file.
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
    /// True if no earlier refusal of the page is remembered.
    pub fn is_new(&self, refused: &Refused) -> bool {
        let is_long = matches!(refused, Refused::NotAllowed(origin) if origin.len() > MAX_NOTED_BYTES);
        let mut noted = self.0.lock();
        !is_long && noted.len() < MAX_NOTED && noted.insert(refused.clone())
    }
}

impl Origins {
    /// Allows these origins, and pages that were served from the address that they connect to.
    pub fn new(allowed: Vec<Allowed>) -> Origins {
        Origins(allowed)
    }

    /// True if a request with these headers may connect.
    ///
    /// A page from the same host and port may, but only if the host is an IP address or localhost: any site can make
    /// its own name lead to this address ("DNS rebinding"), and then has the same host.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let mut sent = headers.get_all(header::ORIGIN).into_iter();
        let (Some(origin), None) = (sent.next(), sent.next()) else {
            return if headers.contains_key(header::ORIGIN) {
                Err(Refused::Opaque)
            } else {
                Ok(())
            };
        };
        if self.0.contains(&Allowed::Any) {
            return Ok(());
        }
        let origin = read(origin).ok_or(Refused::Opaque)?;
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let same = host.is_some_and(|host| origin.is_at(host)) && is_unnamed(&origin.authority);
        if same || self.0.iter().any(|allowed| allowed.has(&origin)) {
            return Ok(());
        }
        Err(Refused::NotAllowed(origin.to_string()))
    }
}

impl Allowed {
    fn has(&self, origin: &Origin) -> bool {
        match self {
            Allowed::Any => true,
            Allowed::One(one) => one == origin,
            Allowed::Below(parent) => {
                let above = origin.authority.strip_suffix(&parent.authority);
                let label = above.and_then(|above| above.strip_suffix('.'));
                parent.scheme == origin.scheme && label.is_some_and(is_name)
            }
        }
    }
}

/// True for a host name of one or more labels.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        !label.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.split('.').all(is_label)
}

/// True if a request does not come from a web page, or from one of the host that it asks for. The caller has to check
/// that the host is not a name that others can make lead here.
pub(super) fn is_own(headers: &HeaderMap) -> bool {
    let mut sent = headers.get_all(header::ORIGIN).into_iter();
    let (origin, None) = (sent.next(), sent.next()) else {
        return false;
    };
    let Some(origin) = origin else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_page = |origin: &Origin| matches!(&*origin.scheme, "http" | "https");
    read(origin)
        .filter(is_page)
        .zip(host)
        .is_some_and(|(origin, host)| origin.is_at(host))
}

fn read(value: &HeaderValue) -> Option<Origin> {
    value.to_str().ok()?.parse().ok()
}

impl Origin {
    /// True if its pages come from the host that the request names in `Host`.
    fn is_at(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.authority == without_usual_port(&self.scheme, &host)
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
            origin => match origin.split_once("://*.") {
                None => Ok(Allowed::One(origin.parse()?)),
                Some((scheme, parent)) => {
                    let host = parent.split(':').next().unwrap_or_default();
                    // A pattern below a top-level domain would cover everybody's sites.
                    if !is_name(host) || !host.contains('.') && !host.eq_ignore_ascii_case("localhost") {
                        return Err(BadOrigin(text.to_owned()));
                    }
                    let parent = format!("{scheme}://{parent}").parse();
                    parent.map(Allowed::Below).map_err(|_| BadOrigin(text.to_owned()))
                }
            },
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
            // A name that was made to lead here.
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
    fn a_page_is_of_the_host_that_it_asks_for_or_foreign() {
        let is_own = |origins: &[&str], host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            for origin in origins {
                headers.append(header::ORIGIN, origin.parse().unwrap());
            }
            super::is_own(&headers)
        };
        assert!(is_own(&[], "127.0.0.1:9090"));
        for (origin, host) in [
            ("http://127.0.0.1:9090", "127.0.0.1:9090"),
            ("http://localhost", "LOCALHOST:80"),
            ("http://[::1]:9090", "[::1]:9090"),
            // A proxy that ends TLS.
            ("https://walcast.example", "walcast.example"),
        ] {
            assert!(is_own(&[origin], host), "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://evil.example", "127.0.0.1:9090"),
            ("http://127.0.0.1:9091", "127.0.0.1:9090"),
            ("http://localhost:9090", "127.0.0.1:9090"),
            ("http://127.0.0.1", "127.0.0.1:9090"),
            ("null", "127.0.0.1:9090"),
            ("file://", "127.0.0.1:9090"),
            ("chrome-extension://localhost:9090", "localhost:9090"),
        ] {
            assert!(!is_own(&[origin], host), "{origin} at {host}");
        }
        let own = "http://127.0.0.1:9090";
        assert!(!is_own(&[own, own], "127.0.0.1:9090"));
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
    fn pages_below_a_listed_name_may_connect_and_others_may_not() {
        let list = "https://*.preview.example.com,http://*.localhost:3000";
        for origin in [
            "https://a.preview.example.com",
            "https://A-1.b.Preview.example.com:443",
            "http://app.localhost:3000",
        ] {
            assert_eq!(check(list, origin, "x"), Ok(()), "{origin}");
        }
        for origin in [
            "https://preview.example.com",
            "https://.preview.example.com",
            "https://evilpreview.example.com",
            "https://a.preview.example.com.evil.example",
            "https://a.preview.example.com:8443",
            "http://a.preview.example.com",
            "https://a..preview.example.com",
            "http://app.localhost",
        ] {
            assert!(check(list, origin, "x").is_err(), "{origin}");
        }
        for text in [
            "https://*.com",
            "https://*.",
            "https://*.*.example.com",
            "https://a.*.example.com",
            "*.example.com",
        ] {
            assert!(text.parse::<Allowed>().is_err(), "{text}");
        }
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
