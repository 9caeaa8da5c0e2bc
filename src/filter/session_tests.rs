use super::*;

#[test]
fn a_number_of_a_jsonb_is_printed_without_an_exponent() {
    for (number, printed) in [
        ("1e3", "1000"),
        ("1.5e3", "1500"),
        ("1.5e1", "15"),
        ("1.25e1", "12.5"),
        ("1.5e-3", "0.0015"),
        ("-2.5e-1", "-0.25"),
        ("1e-7", "0.0000001"),
        ("-0.0", "0.0"),
        ("-0", "0"),
    ] {
        assert_eq!(digits(number).as_deref(), Some(printed), "{number}");
    }
    assert_eq!(digits("1e1000"), None);
}
