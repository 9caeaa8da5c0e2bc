//! The few fields of an X.509 certificate (RFC 5280) that are needed here, read by their places in its DER. Pure.

use std::time::SystemTime;

use rustls::crypto::ring;

use crate::der::{self, GENERALIZED_TIME, INTEGER, OBJECT_IDENTIFIER, SEQUENCE, UTC_TIME};

/// `[0] EXPLICIT`, in which the version stands.
const VERSION: u8 = 0xa0;

/// The time at which a certificate expires; `None` if it cannot be read.
///
/// It is the end of the validity of `Certificate ::= SEQUENCE { TBSCertificate ::= SEQUENCE { version [0] DEFAULT,
/// serialNumber INTEGER, signature SEQUENCE, issuer SEQUENCE, validity SEQUENCE { notBefore, notAfter } …`.
pub fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    let (certificate, _) = value(certificate, SEQUENCE)?;
    let (fields, _) = value(certificate, SEQUENCE)?;
    let fields = value(fields, VERSION).map_or(fields, |(_, rest)| rest);
    let (_, fields) = value(fields, INTEGER)?;
    let (_, fields) = value(fields, SEQUENCE)?;
    let (_, fields) = value(fields, SEQUENCE)?;
    let (validity, _) = value(fields, SEQUENCE)?;
    let (_, validity) = time(validity)?;
    time(validity)?.0
}

/// The time at the front, `None` if it does not exist, and the rest: `YYMMDDHHMMSSZ`, from 1950 to 2049, or
/// `YYYYMMDDHHMMSSZ`.
fn time(bytes: &[u8]) -> Option<(Option<SystemTime>, &[u8])> {
    let (text, century, rest) = match value(bytes, UTC_TIME) {
        Some((text, rest)) => {
            let century = if text.first()? < &b'5' { "20" } else { "19" };
            (text, century, rest)
        }
        None => {
            let (text, rest) = value(bytes, GENERALIZED_TIME)?;
            (text, "", rest)
        }
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
    let digits = text.strip_suffix('Z').filter(|digits| digits.len() == 14)?;
    let part = |from, to| digits.get(from..to);
    let rfc3339 = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?
    );
    Some((humantime::parse_rfc3339(&rfc3339).ok(), rest))
}

/// The `tls-server-end-point` binding of a certificate (RFC 5929, section 4.1): its hash by the hash function of its
/// own signature, SHA-256 in place of older ones. `None` for signatures without one hash function, or with one that
/// we do not have.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let suite = match signature_hash(certificate)? {
        Hash::Sha256 => ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        Hash::Sha384 => ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
    };
    let rustls::SupportedCipherSuite::Tls13(suite) = suite else {
        return None;
    };
    Some(suite.common.hash_provider.hash(certificate).as_ref().to_vec())
}

#[derive(Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
}

/// Reads the signature algorithm of `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID …`.
fn signature_hash(certificate: &[u8]) -> Option<Hash> {
    let (certificate, _) = value(certificate, SEQUENCE)?;
    let (_, rest) = value(certificate, SEQUENCE)?;
    let (algorithm, _) = value(rest, SEQUENCE)?;
    let (oid, _) = value(algorithm, OBJECT_IDENTIFIER)?;
    Some(match oid {
        // PKCS 1: MD5, SHA-1 and SHA-256 with RSA.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04 | 0x05 | 0x0b] => Hash::Sha256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c] => Hash::Sha384,
        // ANSI X9.62: ECDSA with SHA-1, SHA-256 and SHA-384.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => Hash::Sha256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => Hash::Sha256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => Hash::Sha384,
        _ => return None,
    })
}

/// The value at the front of some DER. Certificates have lengths of up to four bytes.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    der::value::<4>(bytes, tag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_whichever_way_it_is_written() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        // Years up to 2049 are written with two digits.
        for (year, end) in [
            (2031, "2031-02-03T00:00:00Z"),
            (2049, "2049-02-03T00:00:00Z"),
            (2050, "2050-02-03T00:00:00Z"),
            (4096, "4096-02-03T00:00:00Z"),
        ] {
            parameters.not_after = rcgen::date_time_ymd(year, 2, 3);
            let certificate = parameters.self_signed(&key).unwrap();
            let found = not_after(certificate.der()).map(|time| humantime::format_rfc3339(time).to_string());
            assert_eq!(found.as_deref(), Some(end));
        }
    }

    #[test]
    fn a_certificate_is_hashed_as_its_signature_was() {
        for (algorithm, hash) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(Hash::Sha256)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(Hash::Sha384)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let parameters = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            let length = match hash {
                Some(Hash::Sha256) => Some(32),
                Some(Hash::Sha384) => Some(48),
                None => None,
            };
            assert_eq!(signature_hash(certificate.der()), hash);
            assert_eq!(end_point(certificate.der()).map(|hash| hash.len()), length);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(bytes: Vec<u8>) {
            let _end = not_after(&bytes);
            drop(end_point(&bytes));
            drop(end_point(&[&[0x30, 0x84][..], &bytes].concat()));
            let _end = not_after(&[&[0x30, 0x82, 0x01, 0x00, 0x30, 0x7f][..], &bytes].concat());
            let _time = time(&[&[UTC_TIME, 13][..], &bytes].concat());
            let _time = time(&[&[GENERALIZED_TIME, 15][..], &bytes].concat());
        }
    }
}
