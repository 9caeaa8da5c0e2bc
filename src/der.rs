//! Values of DER (X.690, section 8), read one after another. Pure.

/// `INTEGER`.
pub(crate) const INTEGER: u8 = 0x02;
/// `BIT STRING`.
pub(crate) const BIT_STRING: u8 = 0x03;
/// `OBJECT IDENTIFIER`.
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
/// `UTCTime`.
pub(crate) const UTC_TIME: u8 = 0x17;
/// `GeneralizedTime`.
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
/// `SEQUENCE`, constructed.
pub(crate) const SEQUENCE: u8 = 0x30;

/// The contents of the value at the front, if it has this tag, and the rest after it. Lengths of more than
/// `LENGTH_BYTES` bytes, four at most, are refused.
pub(crate) fn value<const LENGTH_BYTES: u8>(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    const { assert!(LENGTH_BYTES <= 4, "lengths have to fit into usize") };
    let (&first, rest) = der.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let bytes = first & 0x7f;
        if !(1..=LENGTH_BYTES).contains(&bytes) {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(usize::from(bytes))?;
        let add = |length, digit: &u8| length << 8 | usize::from(*digit);
        (digits.iter().fold(0, add), rest)
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_is_read_with_lengths_of_any_form_up_to_the_bound() {
        let long = [&[SEQUENCE, 0x81, 0x80][..], &[7; 0x80], b"rest"].concat();
        assert_eq!(value::<3>(&long, SEQUENCE), Some((&[7; 0x80][..], &b"rest"[..])));
        let longer = [&[SEQUENCE, 0x84, 0, 0, 0, 1, 7][..], b"rest"].concat();
        assert_eq!(value::<4>(&longer, SEQUENCE), Some((&[7][..], &b"rest"[..])));
        assert_eq!(value::<3>(&longer, SEQUENCE), None);
        assert_eq!(value::<3>(&[INTEGER, 1, 7], SEQUENCE), None);
        // An indefinite length, and contents that are cut off.
        assert_eq!(value::<4>(&[SEQUENCE, 0x80, 0, 0], SEQUENCE), None);
        assert_eq!(value::<4>(&[SEQUENCE, 2, 7], SEQUENCE), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes: Vec<u8>) {
            let _short = value::<3>(&bytes, SEQUENCE);
            let _long = value::<4>(&[&[SEQUENCE, 0x84][..], &bytes].concat(), SEQUENCE);
        }
    }
}
