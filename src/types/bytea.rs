//! `bytea` as its hexadecimal digits: they order as the bytes do, and are read in place.

/// The digits of a `bytea` as the server prints it under `bytea_output = hex`.
pub(super) fn printed(text: &[u8]) -> Option<&[u8]> {
    let digits = text.strip_prefix(b"\\x")?;
    let are_digits = digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (digits.len().is_multiple_of(2) && are_digits).then_some(digits)
}

/// The digits of a literal in ASCII, in the hex or the escape format, as `byteain` reads it. `None` if Postgres
/// refuses it. (What other characters are as bytes depends on the server's encoding.)
pub(super) fn literal(text: &str) -> Option<Vec<u8>> {
    let digit = |value: u8| char::from_digit(value.into(), 16).map_or(b'0', |digit| digit as u8);
    let mut digits = Vec::with_capacity(text.len() * 2);
    if let Some(hex) = text.strip_prefix("\\x") {
        let mut rest = hex.bytes();
        while let Some(byte) = rest.next() {
            if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                continue;
            }
            for byte in [byte, rest.next()?] {
                digits.push(byte.is_ascii_hexdigit().then_some(byte.to_ascii_lowercase())?);
            }
        }
        return Some(digits);
    }
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let (value, after) = match (byte, after) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            (b'\\', _) => return None,
            (byte, after) => (*byte, after),
        };
        digits.extend([digit(value >> 4), digit(value & 15)]);
        rest = after;
    }
    Some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_in_both_formats() {
        let same =
            |literal, digits: &str| assert_eq!(self::literal(literal), Some(digits.into()), "{literal}");
        same("", "");
        same("\\x", "");
        same("\\xDEad beEF\n", "deadbeef");
        same("ab", "6162");
        same("\\\\\\000\\377~", "5c00ff7e");
        for invalid in [
            "\\x1", "\\xg0", "\\x1 0", "\\", "\\4", "\\400", "\\18", "\\n", "\\X00",
        ] {
            assert_eq!(literal(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn what_the_server_prints_is_read_in_place() {
        assert_eq!(printed(b"\\x00ff"), Some(&b"00ff"[..]));
        assert_eq!(printed(b"\\x"), Some(&b""[..]));
        for invalid in [&b""[..], b"x", b"\\x0", b"\\x0g", b"\\xFF", b"abc"] {
            assert_eq!(printed(invalid), None, "{invalid:?}");
        }
    }
}
