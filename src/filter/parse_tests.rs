use proptest::prelude::*;

use super::*;

#[test]
fn no_chain_or_nesting_overflows_the_stack() {
    let units = [
        "a+",
        "a or ",
        "a and ",
        "a=",
        "not ",
        "(",
        "-",
        "a::int",
        "f(a,b)=",
        "a is true ",
        "a between b and ",
        "a in (",
        "cast(a as ",
        "case when ",
        "a notnull ",
        "((a or a) and ",
        "a.",
        "f(",
        "not (a = ",
        "a.b(",
        "a->",
        "a @> ",
        "a like ",
        "a like b escape ",
        "a=any(",
    ];
    let small_stack = std::thread::Builder::new().stack_size(1 << 20);
    let check = move || {
        for unit in units {
            for end in ["", "a", "a)", ")"] {
                for closing in ["", ")"] {
                    let count = 8_000 / unit.len();
                    let text = format!("{}{end}{}", unit.repeat(count), closing.repeat(count));
                    assert!(Predicate::parse(&text).is_err(), "{unit}");
                }
            }
        }
        // The deepest trees that the limits let through to the parser.
        for (open, close) in [("a + ", ""), ("a IS TRUE ", ""), ("(a + a + a + ", ")")] {
            let inner = format!("{}a{}", open.repeat(31), close.repeat(31));
            let text = format!("{}a", format!("{inner} OR ").repeat(16_000 / (inner.len() + 4)));
            drop(Predicate::parse(&text));
        }
        let level = format!("({}a OR ", "a+".repeat(31));
        let text = format!("{}a{}", level.repeat(32), ")".repeat(32));
        assert!(Predicate::parse(&text).is_err());
        let ors = "a OR ".repeat(255);
        assert!(Predicate::parse(&format!("{ors} {}a{}", "(".repeat(32), ")".repeat(32))).is_err());
    };
    small_stack.spawn(check).unwrap().join().unwrap();
}

/// The part of the text that begins where the error is, and the error's message.
fn refusal(text: &str) -> (&str, String) {
    let error = Predicate::parse(text).expect_err(text);
    (&text[error.offset()..], error.to_string())
}

#[test]
fn what_is_not_supported_is_named_with_its_place() {
    for (text, place, message) in [
        (
            "é = 1 AND b SIMILAR TO 'x%'",
            "b SIMILAR",
            "SIMILAR TO is not supported in a predicate",
        ),
        (
            "a #- 'x' = 1",
            "#- 'x'",
            "the operator #- is not supported in a predicate",
        ),
        (
            "a = 1 AND\n  initcap(ü) = 'x'",
            "initcap",
            "the function initcap (there are lower, upper, coalesce and now()) is not supported in a predicate",
        ),
        (
            "a = b ^ 1",
            "^ 1",
            "the operator ^ is not supported in a predicate",
        ),
        (
            "a ~ 'x'",
            "~ 'x'",
            "the operator ~ is not supported in a predicate",
        ),
        (
            "id = 1 AND a IN (SELECT 1)",
            "a IN",
            "a subquery is not supported in a predicate",
        ),
        ("a = ALL(b)", "a = ALL", "= ALL is not supported in a predicate"),
        (
            "a = (b LIKE 'x')",
            "b LIKE",
            "a condition as an operand is not supported in a predicate",
        ),
        (
            "a = (b = 1)",
            "b = 1",
            "a condition as an operand is not supported in a predicate",
        ),
        (
            "a = b = c",
            "a = b",
            "a condition as an operand is not supported in a predicate",
        ),
        (
            "a = +b",
            "b",
            "a plus sign before what is no number is not supported in a predicate",
        ),
        (
            "a = count(*)",
            "count",
            "the function count (there are lower, upper, coalesce and now()) is not supported in a predicate",
        ),
        (
            "a = lower(DISTINCT b)",
            "lower",
            "the function lower is not supported in a predicate",
        ),
        (
            "a = s.lower(b)",
            "s.lower",
            "the function s.lower is not supported in a predicate",
        ),
        (
            "a < '1'::numeric(5,2)",
            "'1'",
            "the type NUMERIC(5,2) is not supported in a predicate",
        ),
        (
            "a = E'\\n'",
            "E'",
            "this notation of a literal is not supported in a predicate",
        ),
        (
            "a = 0x1F",
            "0x1F",
            "this notation of a literal is not supported in a predicate",
        ),
        (
            "a = 1_000",
            "1_000",
            "the number 1_000 is not supported in a predicate",
        ),
        (
            "a = 'x' 'y'",
            "'y'",
            "a string in several parts is not supported in a predicate",
        ),
        (
            "a == 1",
            "== 1",
            "the operator == (write =) is not supported in a predicate",
        ),
        (
            "b AND NOT NOT a::text COLLATE \"C\" LIKE ''",
            "COLLATE",
            "COLLATE behind a cast or operator (put that in parentheses: (a::text) COLLATE \"C\") is not supported in a predicate",
        ),
        (
            "a COLLATE \"de_DE\" < 'x'",
            "a COLLATE",
            "COLLATE \"de_DE\" (COLLATE \"C\" is, in double quotes) is not supported in a predicate",
        ),
    ] {
        let (found, said) = refusal(text);
        assert!(found.starts_with(place), "{text}: at {found:?}");
        assert_eq!(said, message, "{text}");
    }
}

#[test]
fn what_is_no_expression_is_a_syntax_error_with_its_place() {
    for (text, place) in [
        ("", ""),
        ("a BETWEEN b COLLATE \"C\" AND 'c'", "b COLLATE"),
        ("a =", ""),
        ("a = 1 b", "b"),
        ("a = 1; DROP TABLE t", "; DROP"),
        ("(a = 1", ""),
        ("a = 1)", ")"),
        ("ü = 'open", "'open"),
        ("a IN ()", ")"),
        ("a NOT NULL", "NULL"),
        ("a = end", "end"),
        ("a = $0", "$0"),
        ("a = $x", "$x"),
        ("a = 'x\0'", "\0"),
        ("a = 1 AND AND b", "b"),
    ] {
        let error = Predicate::parse(text).expect_err(text);
        assert!(matches!(error, Error::Syntax { .. }), "{text}: {error:?}");
        let found = &text[error.offset()..];
        assert!(found.starts_with(place), "{text}: at {found:?}, {error}");
    }
}

#[test]
fn precedence_is_that_of_postgres() {
    for (text, same) in [
        ("NOT a = 1 AND b", "(NOT (a = 1)) AND b"),
        ("a OR b AND c", "a OR (b AND c)"),
        ("NOT a IS NULL", "NOT (a IS NULL)"),
        ("a = 1 IS TRUE", "(a = 1) IS TRUE"),
        ("a BETWEEN 1 AND 2 AND b", "(a BETWEEN 1 AND 2) AND b"),
        ("a IS DISTINCT FROM 1 OR b", "(a IS DISTINCT FROM 1) OR b"),
        ("a IN (1) IS NOT UNKNOWN", "(a IN (1)) IS NOT UNKNOWN"),
        ("a<-1", "a < (-1)"),
        ("a -> 'x' ->> 'y' = 'z'", "((a -> 'x') ->> 'y') = 'z'"),
        ("a ->> 'x' LIKE 'y' OR b", "((a ->> 'x') LIKE 'y') OR b"),
        ("NOT a @> '{}' AND b ? 'x'", "(NOT (a @> '{}')) AND (b ? 'x')"),
        ("a -> 'x' @> '{}'", "(a -> 'x') @> '{}'"),
        ("a #>> '{x}' IS NULL", "(a #>> '{x}') IS NULL"),
        ("a LIKE 'x' ESCAPE 'y' IS TRUE", "(a LIKE 'x' ESCAPE 'y') IS TRUE"),
        ("a = ANY (b) IS TRUE", "(a = ANY (b)) IS TRUE"),
        ("a ->> 'x'::text = 'y'", "(a ->> ('x'::text)) = 'y'"),
        ("a + b * c % d = 1", "(a + ((b * c) % d)) = 1"),
        ("a - b - c = 1", "((a - b) - c) = 1"),
        ("- a * b = 1", "((- a) * b) = 1"),
        ("a / b::int > 1 IS TRUE", "((a / (b::int)) > 1) IS TRUE"),
        ("a ->> 'x' = b + 1", "(a ->> 'x') = (b + 1)"),
        (
            "a BETWEEN b + 1 AND c * 2 OR d",
            "(a BETWEEN (b + 1) AND (c * 2)) OR d",
        ),
        ("lower(a) LIKE 'x' AND b", "(lower(a) LIKE 'x') AND b"),
    ] {
        let structure = |text: &str| without_offsets(&format!("{:?}", Predicate::parse(text).unwrap()));
        assert_eq!(structure(text), structure(same), "{text}");
    }
}

fn without_offsets(debug: &str) -> String {
    let parts = debug.split("offset: ");
    parts
        .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()))
        .collect()
}

#[test]
fn limits_are_kept_and_named() {
    let too_large = |text: String| match Predicate::parse(&text) {
        Err(Error::TooLarge { of, limit, .. }) => format!("{limit} {of}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(too_large("a".repeat(16_385)), "16384 bytes");
    assert_eq!(
        too_large(vec!["a = 1"; 300].join(" AND ")),
        "256 comparisons and logical operators"
    );
    assert_eq!(
        too_large(format!("{}a{}", "(".repeat(33), ")".repeat(33))),
        "32 levels of nesting"
    );
    assert_eq!(
        too_large(format!("a IN (0{})", ",1".repeat(1_000))),
        "1000 values in an IN list"
    );
    assert!(Predicate::parse(&vec!["a = 1"; 255].join(" OR ")).is_ok());
    assert!(Predicate::parse(&format!("{}a{}", "(".repeat(32), ")".repeat(32))).is_ok());
    assert!(Predicate::parse(&format!("{}a", "NOT ".repeat(31))).is_ok());
    assert!(Predicate::parse(&format!("a IN (-1{})", ",'x'::uuid".repeat(999))).is_ok());
}

fn any_predicate_text() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "a",
        "\"B\"",
        "t",
        ".",
        "=",
        "<>",
        "<=",
        "'x'",
        "'",
        "1",
        "1.5e3",
        "$1",
        "$",
        "(",
        ")",
        ",",
        "AND",
        "OR",
        "NOT",
        "IS",
        "NULL",
        "TRUE",
        "UNKNOWN",
        "DISTINCT FROM",
        "IN",
        "BETWEEN",
        "::",
        "int",
        "DATE",
        "CAST",
        "AS",
        "-",
        "é",
        "\n",
        "--",
        "/*",
        "timestamp with time zone",
        "CASE",
        "END",
        "[",
        "]",
        "ANY",
        "SELECT",
        ";",
    ]);
    prop_oneof![
        any::<String>(),
        prop::collection::vec(token, 0..20).prop_map(|tokens| tokens.join(" ")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_text_panics_and_every_error_has_a_place_in_it(text in any_predicate_text()) {
        if let Err(error) = Predicate::parse(&text) {
            prop_assert!(text.is_char_boundary(error.offset()), "{:?}", error);
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }
}
