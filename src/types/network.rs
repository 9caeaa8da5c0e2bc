//! [`Inet`], and the addresses of `macaddr` and `macaddr8`.

use core::net::IpAddr;
use std::cmp::Ordering;

/// An `inet` or `cidr`: an address and how many bits of it are the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inet {
    is_v6: bool,
    /// From the greatest bit on.
    address: u128,
    bits: u8,
}

impl Inet {
    /// Reads `10.0.0.1`, `10.0.0.0/8`, `::1`; what the server prints, and of literals those that are complete.
    pub(super) fn parse(text: &[u8]) -> Option<Inet> {
        let text = std::str::from_utf8(text).ok()?;
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits)),
        };
        let (is_v6, address, most) = match address.parse().ok()? {
            IpAddr::V4(address) => (false, u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (true, address.to_bits(), 128),
        };
        let bits = match bits {
            None => most,
            Some(bits) => {
                let is_plain =
                    bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
                is_plain.then(|| bits.parse().ok()).flatten()?
            }
        };
        (bits <= most).then_some(Inet { is_v6, address, bits })
    }

    /// True if all bits behind the network's are zero, as those of a `cidr` are.
    pub(super) fn is_network(self) -> bool {
        self.address.checked_shl(self.bits.into()).unwrap_or(0) == 0
    }

    /// The first bits of the address.
    fn prefix(self, bits: u8) -> u128 {
        self.address.checked_shr(128 - u32::from(bits)).unwrap_or(0)
    }
}

impl Ord for Inet {
    /// As `network_cmp`: networks before what is in them.
    fn cmp(&self, other: &Inet) -> Ordering {
        let common = self.bits.min(other.bits);
        self.is_v6
            .cmp(&other.is_v6)
            .then_with(|| self.prefix(common).cmp(&other.prefix(common)))
            .then_with(|| self.bits.cmp(&other.bits))
            .then_with(|| self.address.cmp(&other.address))
    }
}

impl PartialOrd for Inet {
    fn partial_cmp(&self, other: &Inet) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A `macaddr` of six bytes or `macaddr8` of eight, in pairs of digits with colons or hyphens between.
pub(super) fn mac(text: &[u8], bytes: usize) -> Option<u64> {
    let separator = *text.get(2)?;
    if text.len() != bytes * 3 - 1 || !matches!(separator, b':' | b'-') {
        return None;
    }
    text.chunks(3).try_fold(0, |address, pair| {
        let (high, low) = match pair {
            [high, low] => (high, low),
            [high, low, after] if *after == separator => (high, low),
            _ => return None,
        };
        let digit = |byte: &u8| char::from(*byte).to_digit(16).map(u64::from);
        Some(address << 8 | digit(high)? << 4 | digit(low)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_order_before_what_is_in_them() {
        let ordered = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.1/8",
            "10.0.0.0/16",
            "10.0.0.0",
            "10.0.0.1",
            "10.1.0.0/16",
            "11.0.0.0/8",
            "::/0",
            "::1/0",
            "::",
            "::1",
            "1::/16",
            "1::2",
            "ffff::",
        ];
        let ordered = ordered.map(|text| Inet::parse(text.as_bytes()).unwrap());
        for (i, a) in ordered.iter().enumerate() {
            for (j, b) in ordered.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a:?} and {b:?}");
            }
        }
        assert_eq!(Inet::parse(b"10.0.0.1/32"), Inet::parse(b"10.0.0.1"));
    }

    #[test]
    fn what_is_no_address_is_not_read() {
        for text in [
            "",
            "10",
            "10.0",
            "10.0.0.1/33",
            "10.0.0.1/",
            "10.0.0.1/08",
            "::/129",
            "::/+1",
            "1::2::3",
            "::1%x",
            " ::1",
            "010.0.0.1",
        ] {
            assert_eq!(Inet::parse(text.as_bytes()), None, "{text}");
        }
        assert!(Inet::parse(b"10.0.0.0/8").is_some_and(Inet::is_network));
        assert!(!Inet::parse(b"10.0.0.1/8").is_some_and(Inet::is_network));
        assert!(Inet::parse(b"::1").is_some_and(Inet::is_network));
        assert!(Inet::parse(b"0.0.0.0/0").is_some_and(Inet::is_network));
    }

    #[test]
    fn macs_are_pairs_of_digits() {
        assert_eq!(mac(b"08:00:2b:01:02:03", 6), Some(0x0800_2b01_0203));
        assert_eq!(mac(b"08-00-2B-01-02-03", 6), Some(0x0800_2b01_0203));
        assert_eq!(mac(b"08:00:2b:01:02:03:04:05", 8), Some(0x0800_2b01_0203_0405));
        for text in [
            "",
            "08:00:2b:01:02",
            "08:00:2b:01:02:03:",
            "08:00-2b:01:02:03",
            "08002b010203",
            "08:00:2b:01:02:0g",
            "0:000:2b:01:02:03",
        ] {
            assert_eq!(mac(text.as_bytes(), 6), None, "{text}");
        }
    }
}
