use super::*;

fn value(kind: Kind, text: &str) -> Option<Datum<'static>> {
    literal(&kind, text).ok()
}

#[test]
fn integers_are_read_within_their_range() {
    assert_eq!(value(Kind::Int4, " +42\n"), Some(Datum::Int(42)));
    assert_eq!(value(Kind::Int2, "-32768"), Some(Datum::Int(-32768)));
    assert_eq!(
        value(Kind::Int8, "-9223372036854775808"),
        Some(Datum::Int(i64::MIN))
    );
    let error = literal(&Kind::Int2, "32768").unwrap_err();
    assert_eq!(error.to_string(), "\"32768\" is out of range for type smallint");
    for text in [
        "",
        "abc",
        "1.0",
        "1e3",
        "0x10",
        "1_000",
        "+-1",
        "- 1",
        "9223372036854775808x",
    ] {
        let error = literal(&Kind::Int8, text).unwrap_err();
        assert!(matches!(error, LiteralError::Invalid { .. }), "{text:?}: {error}");
    }
}

#[test]
fn numerics_take_exponents_and_the_specials() {
    for (text, same) in [
        ("1e3", "1000"),
        ("12.5E-1", "1.25"),
        ("+.5", "0.5"),
        ("5.", "5"),
        ("-0", "0"),
        (" 1 ", "1"),
        ("-inf", "-Infinity"),
        ("INFINITY", "Infinity"),
        ("+inf", "Infinity"),
        ("nan", "NaN"),
        ("0e100", "0"),
    ] {
        assert_eq!(value(Kind::Numeric, text), value(Kind::Numeric, same), "{text}");
        assert!(value(Kind::Numeric, text).is_some(), "{text}");
    }
    for text in [
        "",
        ".",
        "e5",
        "1e",
        "1e+",
        "1e5.5",
        "+nan",
        "-nan",
        "+-1",
        "--1",
        "1 2",
        "0x1f",
        "1e999999999999",
    ] {
        assert_eq!(value(Kind::Numeric, text), None, "{text:?}");
    }
    assert!(value(Kind::Numeric, "9e131071").is_some());
    assert!(value(Kind::Numeric, "9e131072").is_none());
    assert!(value(Kind::Numeric, "1e-16383").is_some());
    assert!(value(Kind::Numeric, "1e-16384").is_none());
}

#[test]
fn floats_out_of_range_are_refused_rather_than_rounded_to_infinity_or_zero() {
    let float = |text: &str| value(Kind::Float8, text);
    assert_eq!(float("1e308"), Some(Datum::Float(Float::new(1e308))));
    assert_eq!(
        float(" -Infinity "),
        Some(Datum::Float(Float::new(f64::NEG_INFINITY)))
    );
    assert_eq!(float("5e-324"), Some(Datum::Float(Float::new(5e-324))));
    assert_eq!(float("0.00e5"), Some(Datum::Float(Float::new(0.0))));
    for text in ["1e400", "-1e400", "1e-400", "", "x", "0x1p3", "1e"] {
        assert_eq!(float(text), None, "{text:?}");
    }
    assert_eq!(
        value(Kind::Float4, "0.1"),
        Some(Datum::Float(Float::new(0.1f32.into())))
    );
    assert_eq!(value(Kind::Float4, "1e39"), None);
}

#[test]
fn booleans_are_read_as_boolin_reads_them() {
    for text in ["t", "TRUE", "tru", "y", "yes", "on", "1", " true "] {
        assert_eq!(value(Kind::Bool, text), Some(Datum::Bool(true)), "{text}");
    }
    for text in ["f", "false", "n", "no", "of", "off", "0"] {
        assert_eq!(value(Kind::Bool, text), Some(Datum::Bool(false)), "{text}");
    }
    for text in ["", "o", "truee", "2", "01", "nope"] {
        assert_eq!(value(Kind::Bool, text), None, "{text:?}");
    }
}

#[test]
fn uuids_are_read_in_every_spelling_of_postgres() {
    let expected = Some(Datum::Uuid(0xa0eebc99_9c0b_4ef8_bb6d_6bb9bd380a11));
    for text in [
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
    ] {
        assert_eq!(value(Kind::Uuid, text), expected, "{text}");
    }
    for text in [
        "",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
        "a0e-ebc999c0b4ef8bb6d6bb9bd380a11",
        "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
        " a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "g0eebc999c0b4ef8bb6d6bb9bd380a11",
    ] {
        assert_eq!(value(Kind::Uuid, text), None, "{text:?}");
    }
}

#[test]
fn dates_that_are_not_iso_are_refused_with_an_example() {
    let error = literal(&Kind::TimestampTz, "yesterday").unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"yesterday\" is not an ISO 8601 timestamp with time zone, such as '2024-01-31 10:00:00+02'"
    );
    assert_eq!(value(Kind::Date, " 2000-01-02 "), Some(Datum::Date(1)));
}

#[test]
fn trailing_blanks_of_bpchar_do_not_count() {
    assert_eq!(Reading::Bpchar.read(b"ab   "), Reading::Bpchar.read(b"ab"));
    assert_ne!(Reading::Text.read(b"ab "), Reading::Text.read(b"ab"));
    assert_eq!(value(Kind::Bpchar, "ab  "), Reading::Bpchar.read(b"ab   "));
}

#[test]
fn constants_cast_as_postgres_casts_them_implicitly() {
    let to = |kind: Kind, datum: Datum<'static>, from: Kind| cast(&datum, &from, &kind);
    assert_eq!(
        to(Kind::Numeric, Datum::Int(5), Kind::Int4),
        literal(&Kind::Numeric, "5.0")
    );
    assert_eq!(
        to(
            Kind::Float8,
            literal(&Kind::Numeric, "-0.001").unwrap(),
            Kind::Numeric
        ),
        literal(&Kind::Float8, "-0.001")
    );
    assert!(
        to(
            Kind::Float8,
            literal(&Kind::Numeric, "1e400").unwrap(),
            Kind::Numeric
        )
        .is_err()
    );
    assert!(to(Kind::Int2, Datum::Int(40_000), Kind::Int4).is_err());
    assert!(to(Kind::Int4, literal(&Kind::Numeric, "1").unwrap(), Kind::Numeric).is_err());
    assert_eq!(
        to(Kind::Timestamp, Datum::Date(1), Kind::Date),
        Ok(Datum::Timestamp(86_400_000_000))
    );
    assert!(to(Kind::Timestamp, Datum::Date(2_000_000_000), Kind::Date).is_err());
}

#[test]
fn a_row_value_that_is_not_of_its_type_is_not_read() {
    use Reading::{Bool, Date, Float4, Float8, Int, Numeric, Time, Timestamp, TimestampTz, Uuid};
    for reading in [
        Bool,
        Int,
        Numeric,
        Float4,
        Float8,
        Uuid,
        Date,
        Time,
        Timestamp,
        TimestampTz,
    ] {
        for text in [&b""[..], b"x", b"\xff", b"1-", b"-"] {
            assert_eq!(reading.read(text), None, "{reading:?} {text:?}");
        }
    }
}
