//! Values of flags: numbers, sizes, times and addresses within the bounds in which they mean something.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use bytesize::ByteSize;

pub(super) use crate::config::{time, time_or_none};
use crate::postgres::Publication;

/// The address of a database, with which a password may come: it is not shown.
#[derive(Clone)]
pub(crate) struct DatabaseUrl(pub(crate) String);

impl FromStr for DatabaseUrl {
    type Err = std::convert::Infallible;

    /// Takes any text: an error of a flag's parser would repeat it.
    fn from_str(text: &str) -> Result<DatabaseUrl, Self::Err> {
        Ok(DatabaseUrl(text.to_owned()))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

/// Names, separated by commas. One with a comma in it is quoted as an SQL identifier is: `"a,b"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl FromStr for Names {
    type Err = String;

    fn from_str(text: &str) -> Result<Names, String> {
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            let (name, after) = name(rest)?;
            names.push(name);
            match after {
                Some(more) => rest = more,
                None => return Ok(Names(names)),
            }
        }
    }
}

/// Publications, separated as [`Names`] are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Publications(pub(crate) Vec<Publication>);

impl FromStr for Publications {
    type Err = String;

    fn from_str(text: &str) -> Result<Publications, String> {
        let Names(names) = text.parse()?;
        let publications: Result<_, _> = names.into_iter().map(Publication::new).collect();
        publications.map(Publications).map_err(|error| error.to_string())
    }
}

/// The first name of a list, and what comes after its comma.
fn name(list: &str) -> Result<(String, Option<&str>), String> {
    let example = r#"write names as in a,b; one with a comma in it in quotes, as in '"a,b",c'"#;
    let list = list.trim_start();
    let Some(mut quoted) = list.strip_prefix('"') else {
        let (name, after) = list
            .split_once(',')
            .map_or((list, None), |(name, after)| (name, Some(after)));
        return match name.trim_end() {
            "" => Err(format!("a name is empty: {example}")),
            name => Ok((name.to_owned(), after)),
        };
    };
    let mut name = String::new();
    loop {
        let (part, after) = quoted
            .split_once('"')
            .ok_or_else(|| format!("a quote is not closed: {example}"))?;
        name.push_str(part);
        if let Some(more) = after.strip_prefix('"') {
            name.push('"');
            quoted = more;
            continue;
        }
        let after = after.trim_start();
        return match after.strip_prefix(',') {
            Some(more) => Ok((name, Some(more))),
            None if after.is_empty() => Ok((name, None)),
            None => Err(format!("there is something behind a quoted name: {example}")),
        };
    }
}

/// A number of something: at least one.
pub(super) fn count(text: &str) -> Result<usize, String> {
    let number = text.trim().parse::<u32>().ok().filter(|&number| number > 0);
    number
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| format!("write a number from 1 to {}", u32::MAX))
}

/// So many of something in a second: at least one.
pub(super) fn rate(text: &str) -> Result<u32, String> {
    const MOST: u32 = 1_000_000;
    let number = text.trim().parse::<u32>().ok();
    number
        .filter(|number| (1..=MOST).contains(number))
        .ok_or_else(|| format!("write a number a second, from 1 to {MOST}"))
}

/// A size that is not zero.
pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    at_least(ByteSize::b(1), "one byte", text)
}

/// A size that is worth a file.
pub(super) fn file_size(text: &str) -> Result<ByteSize, String> {
    at_least(ByteSize::mib(1), "1MiB", text)
}

/// A number of bytes a second: less would keep a client waiting for a single message.
pub(super) fn send_rate(text: &str) -> Result<ByteSize, String> {
    at_least(ByteSize::kib(16), "16KiB", text)
}

fn at_least(least: ByteSize, name: &str, text: &str) -> Result<ByteSize, String> {
    let size = text.parse::<ByteSize>();
    let size =
        size.map_err(|_| "write a number of bytes, or one with KiB, MiB, GiB, KB, MB or GB, as in 64MiB")?;
    if size >= least {
        Ok(size)
    } else {
        Err(format!("write a size of at least {name}, as in 64MiB"))
    }
}

/// An address to listen on. A name is looked up; it stands for the first of its IPv4 addresses if it has one.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let example =
        "write an address and a port, as in 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080 for all of them";
    let looked_up = text.to_socket_addrs();
    let all: Vec<SocketAddr> = looked_up
        .map_err(|error| format!("{error}: {example}"))?
        .collect();
    let first = all.iter().find(|address| address.is_ipv4()).or(all.first());
    first
        .copied()
        .ok_or_else(|| format!("the name has no address: {example}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_means_nothing_is_refused_with_an_example() {
        for text in ["0", "-1", "many", "", "18446744073709551615"] {
            assert!(count(text).unwrap_err().contains("from 1 to"), "{text}");
        }
        for text in ["0s", "5", "", "soon", "200years", "99999999999999years"] {
            assert!(time(text).unwrap_err().contains("10min"), "{text}");
        }
        for text in ["0", "10XB", "", "-1MiB"] {
            assert!(size(text).unwrap_err().contains("64MiB"), "{text}");
        }
        assert!(file_size("1000KiB").unwrap_err().contains("at least 1MiB"));
        for text in ["8080", "127.0.0.1", "127.0.0.1:x", "", "no such name:1"] {
            assert!(address(text).unwrap_err().contains("127.0.0.1:8080"), "{text}");
        }
    }

    #[test]
    fn names_are_separated_by_commas_unless_they_are_quoted() {
        for (text, names) in [
            ("a", &["a"][..]),
            ("a,B c , d", &["a", "B c", "d"]),
            (r#""a,b""#, &["a,b"]),
            (r#" "a,""b""" ,c,"","d" "#, &["a,\"b\"", "c", "", "d"]),
            (r#"od"d,x"#, &["od\"d", "x"]),
        ] {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(text.parse(), Ok(Names(names)), "{text}");
        }
        for text in ["", " ", "a,", ",a", r#""a"#, r#""a"b"#, r#"a,"b"c,d"#] {
            let refused = text.parse::<Names>().unwrap_err();
            assert!(refused.contains(r#"'"a,b",c'"#), "{text}: {refused}");
        }
    }

    #[test]
    fn what_means_something_is_taken() {
        assert_eq!((count("1"), count("10000")), (Ok(1), Ok(10_000)));
        assert_eq!(time("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(time_or_none("0s"), Ok(Duration::ZERO));
        assert_eq!(size("300B"), Ok(ByteSize::b(300)));
        assert_eq!(file_size("64MiB"), Ok(ByteSize::mib(64)));
        assert_eq!(address("127.0.0.1:80"), Ok(([127, 0, 0, 1], 80).into()));
        assert!(address("localhost:8099").unwrap().ip().is_loopback());
    }
}
