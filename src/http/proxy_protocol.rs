//! The header of the PROXY protocol (haproxy.org, "The PROXY protocol", versions 1 and 2), in which a proxy names its
//! client at the start of a connection. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The beginning of a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The beginning of a header of version 1.
const LINE_BEGINS: &[u8] = b"PROXY ";
/// The bytes of a header of version 2 before the addresses.
const FIXED_BYTES: usize = 16;
/// The most that may follow them, in bytes: addresses, and other fields, which are skipped.
const MAX_FOLLOWING_BYTES: usize = 4096;
/// The longest header of version 1, with its end of line.
const MAX_LINE_BYTES: usize = 107;

/// The state of a header of which some bytes have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// At least this many more bytes belong to it.
    More(usize),
    /// It is complete: the client's address, or `None` for a connection of the proxy itself, or of a client without an
    /// address.
    Whole(Option<SocketAddr>),
}

/// The reason why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no header of the PROXY protocol: {0}")]
pub(super) struct Malformed(&'static str);

/// Reads a header of either version from its first bytes. It never asks for bytes beyond the header.
pub(super) fn read(bytes: &[u8]) -> Result<Header, Malformed> {
    if bytes.starts_with(LINE_BEGINS) {
        version_1(bytes)
    } else if bytes.starts_with(SIGNATURE) {
        version_2(bytes)
    } else if LINE_BEGINS.starts_with(bytes) || SIGNATURE.starts_with(bytes) {
        // The shortest header is longer.
        Ok(Header::More(SIGNATURE.len() - bytes.len()))
    } else {
        Err(Malformed("it begins otherwise"))
    }
}

/// `PROXY TCP4 client here port port\r\n`, or `TCP6`, or `UNKNOWN` and anything.
fn version_1(bytes: &[u8]) -> Result<Header, Malformed> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        return match bytes.len() {
            ..MAX_LINE_BYTES => Ok(Header::More(1)),
            _ => Err(Malformed("its line does not end")),
        };
    };
    let line = std::str::from_utf8(line).map_err(|_| Malformed("its line is not ASCII"))?;
    let words: Vec<&str> = line.split(' ').collect();
    let malformed = Malformed("its line is not a protocol, two addresses and two ports");
    let port = |text: &str| text.parse::<u16>().map_err(|_| malformed);
    let client: IpAddr = match *words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => return Ok(Header::Whole(None)),
        ["PROXY", "TCP4", client, here, _, _] => {
            here.parse::<Ipv4Addr>().map_err(|_| malformed)?;
            client.parse::<Ipv4Addr>().map_err(|_| malformed)?.into()
        }
        ["PROXY", "TCP6", client, here, _, _] => {
            here.parse::<Ipv6Addr>().map_err(|_| malformed)?;
            client.parse::<Ipv6Addr>().map_err(|_| malformed)?.into()
        }
        _ => return Err(malformed),
    };
    let [.., from, to] = *words.as_slice() else {
        return Err(malformed);
    };
    port(to)?;
    Ok(Header::Whole(Some(SocketAddr::new(client, port(from)?))))
}

/// The signature, version and command, family and transport, the number of bytes that follow, and these.
fn version_2(bytes: &[u8]) -> Result<Header, Malformed> {
    let (Some((fixed, following)), Some(&[.., command, family, high, low])) = (
        bytes.split_at_checked(FIXED_BYTES),
        bytes.first_chunk::<FIXED_BYTES>(),
    ) else {
        return Ok(Header::More(FIXED_BYTES - bytes.len()));
    };
    debug_assert_eq!(fixed.len(), FIXED_BYTES);
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_FOLLOWING_BYTES {
        return Err(Malformed("it is too long"));
    }
    // The addresses of a proxy's own connection, such as a health check, mean nothing.
    let is_own = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("neither version 2's PROXY nor its LOCAL")),
    };
    if following.len() < length {
        return Ok(Header::More(length - following.len()));
    }
    let following = following.get(..length).unwrap_or_default();
    let short = Malformed("its addresses are cut off");
    let client = match family {
        _ if is_own => None,
        0x11 | 0x12 => Some(address::<4>(following).ok_or(short)?),
        0x21 | 0x22 => Some(address::<16>(following).ok_or(short)?),
        // No family, or unix sockets.
        0x00 | 0x31 | 0x32 => None,
        _ => return Err(Malformed("a family or transport that does not exist")),
    };
    Ok(Header::Whole(client))
}

/// The client's address: both addresses stand first, then both ports.
fn address<const BYTES: usize>(following: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; BYTES]>,
{
    let client: [u8; BYTES] = *following.first_chunk()?;
    let ports: &[u8; 4] = following.get(2 * BYTES..)?.first_chunk()?;
    let &[high, low, ..] = ports;
    Some(SocketAddr::new(
        IpAddr::from(client),
        u16::from_be_bytes([high, low]),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, following: &[u8]) -> Vec<u8> {
        let length = u16::try_from(following.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, following].concat()
    }

    /// Reads a header like from a socket, with no more bytes than asked for. Returns it with the number of bytes.
    fn read_all(bytes: &[u8]) -> (Result<Header, Malformed>, usize) {
        let mut taken = 0;
        loop {
            match read(&bytes[..taken]) {
                Ok(Header::More(more)) if taken + more <= bytes.len() => {
                    assert!(more > 0);
                    taken += more;
                }
                end => return (end, taken),
            }
        }
    }

    #[test]
    fn both_versions_name_the_client_and_leave_what_follows() {
        let v4 = [203, 0, 113, 9, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];
        let v6 = [&Ipv6Addr::LOCALHOST.octets()[..], &[0; 16], &[0, 7, 0, 80]].concat();
        let more = [&v4[..], &[0x04, 0, 1, b'x']].concat();
        for (header, client) in [
            (
                b"PROXY TCP4 203.0.113.9 10.0.0.1 8080 80\r\n".to_vec(),
                Some("203.0.113.9:8080"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 65535 443\r\n".to_vec(),
                Some("[2001:db8::1]:65535"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN anything at all\r\n".to_vec(), None),
            (v2(0x21, 0x11, &v4), Some("203.0.113.9:8080")),
            (v2(0x21, 0x11, &more), Some("203.0.113.9:8080")),
            (v2(0x21, 0x21, &v6), Some("[::1]:7")),
            (v2(0x21, 0x31, &[0; 216]), None),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x20, 0x11, &v4), None),
            (v2(0x20, 0x00, &[]), None),
        ] {
            let followed = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
            let client = client.map(|client| client.parse().unwrap());
            assert_eq!(read_all(&followed), (Ok(Header::Whole(client)), header.len()));
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for header in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 10.0.0.1 8080\r\n".to_vec(),
            b"PROXY TCP4 ::1 10.0.0.1 8080 80\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 10.0.0.1 80800 80\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 10.0.0.1 8080 80 \r\n".to_vec(),
            b"PROXY TCP9 203.0.113.9 10.0.0.1 8080 80\r\n".to_vec(),
            [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x41, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x11, &[0; 5000]),
            b"\r\n\r\n\0\r\nQUIX\n".to_vec(),
        ] {
            assert!(
                read_all(&header).0.is_err(),
                "{:?}",
                String::from_utf8_lossy(&header)
            );
        }
    }

    fn headers() -> impl Strategy<Value = Vec<u8>> {
        let lines = "PROXY (TCP4|TCP6|UNKNOWN) [0-9a-f.: ]{0,100}\r\n".prop_map(String::into_bytes);
        let binary = (
            0x1f_u8..0x23,
            any::<u8>(),
            proptest::collection::vec(any::<u8>(), 0..300),
        )
            .prop_map(|(command, family, following)| v2(command, family, &following));
        let any = proptest::collection::vec(any::<u8>(), 0..200);
        prop_oneof![lines, binary, any]
    }

    proptest! {
        #[test]
        fn a_header_is_read_to_its_end_and_no_further_however_it_comes(header in headers(), rest: Vec<u8>) {
            let (end, taken) = read_all(&[&header[..], &rest].concat());
            if let Ok(Header::Whole(_)) = end {
                // A header is complete without the bytes after it.
                let (alone, bytes) = read_all(&header[..taken.min(header.len())]);
                prop_assert!(taken > header.len() || (alone, bytes) == (end, taken));
                // Each prefix of it asks for more.
                for cut in 0..taken.min(header.len()) {
                    let more = matches!(read(&header[..cut]), Ok(Header::More(more)) if cut + more <= taken);
                    prop_assert!(more, "{cut} of {taken}");
                }
            }
        }
    }
}
