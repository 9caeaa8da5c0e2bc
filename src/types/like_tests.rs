use proptest::prelude::*;

use super::*;

fn like(text: &str, pattern: &str) -> bool {
    Pattern::new(pattern, Pattern::ESCAPE, Case::Sensitive)
        .unwrap()
        .matches(text.as_bytes())
}

#[test]
fn wildcards_match_texts_and_characters() {
    for (text, pattern) in [
        ("", ""),
        ("", "%"),
        ("", "%%"),
        ("abc", "abc"),
        ("abc", "a%"),
        ("abc", "%c"),
        ("abc", "%b%"),
        ("abc", "a%c"),
        ("abc", "___"),
        ("abc", "%_"),
        ("日本語", "_本_"),
        ("日本語", "%_語"),
        ("é", "_"),
        ("a%b", "a\\%b"),
        ("a_b", "a\\_b"),
        ("a\\b", "a\\\\b"),
        ("é", "\\é"),
        ("abab", "%ab"),
        ("aXbXc", "a%X%c"),
    ] {
        assert!(like(text, pattern), "{text:?} LIKE {pattern:?}");
    }
    for (text, pattern) in [
        ("a", ""),
        ("", "_"),
        ("abc", "ab"),
        ("abc", "bc"),
        ("abc", "____"),
        ("aba", "ab%ba"),
        ("é", "__"),
        ("axb", "a\\%b"),
        ("ab ", "ab"),
        ("A", "a"),
        ("abc", "%b%b%"),
    ] {
        assert!(!like(text, pattern), "{text:?} NOT LIKE {pattern:?}");
    }
}

#[test]
fn any_character_can_escape_or_none() {
    let with = |text: &str, pattern: &str, escape: &str| {
        let escape = Pattern::escape(escape).unwrap();
        Pattern::new(pattern, escape, Case::Sensitive)
            .unwrap()
            .matches(text.as_bytes())
    };
    assert!(with("a%", "ax%", "x") && !with("ab", "ax%", "x"));
    assert!(with("ax", "axx", "x"));
    assert!(with("a\\b", "a\\_", "") && !with("a_", "a\\_", ""));
    assert!(with("é%", "ééé%", "é"));
    assert!(with("%a", "%%a", "%") && !with("ba", "%%a", "%"));
    assert!(with("\\", "\\", "x"));
    assert_eq!(Pattern::escape("xy"), Err(PatternError::EscapeTooLong));
    assert_eq!(
        Pattern::new("a\\", Pattern::ESCAPE, Case::Sensitive),
        Err(PatternError::EndsInEscape)
    );
    assert_eq!(
        Pattern::new("a\\\\x", Some('x'), Case::Sensitive),
        Err(PatternError::EndsInEscape)
    );
}

#[test]
fn ascii_letters_match_in_both_cases_if_case_does_not_count() {
    let ilike = |text: &str, pattern: &str| {
        Pattern::new(pattern, Pattern::ESCAPE, Case::Insensitive(CaseMap::ascii()))
            .unwrap()
            .matches(text.as_bytes())
    };
    assert!(ilike("ABC", "a%C") && ilike("abc", "%B%") && ilike("É", "É"));
    assert!(!ilike("É", "é") && !ilike("[", "{"));
    let escaped = Pattern::new("AX%", Some('X'), Case::Insensitive(CaseMap::ascii())).unwrap();
    assert!(escaped.matches(b"a%") && !escaped.matches(b"ax"));
    let other = Pattern::new("AX%", Some('x'), Case::Insensitive(CaseMap::ascii())).unwrap();
    assert!(other.matches(b"axb"), "the escape character is one case only");
}

/// The meaning of matching, without a care for time.
fn reference(text: &[char], pattern: &[char]) -> bool {
    match (pattern, text) {
        ([], text) => text.is_empty(),
        (['%', rest @ ..], text) => (0..=text.len()).any(|at| reference(&text[at..], rest)),
        (['\\', literal, rest @ ..], [first, text @ ..]) => literal == first && reference(text, rest),
        (['_', rest @ ..], [_, text @ ..]) => reference(text, rest),
        ([literal, rest @ ..], [first, text @ ..]) => literal == first && reference(text, rest),
        _ => false,
    }
}

#[test]
fn a_piece_that_every_place_looks_like_takes_time_linear_in_the_text() {
    // The slow way would compare half a thousand million bytes for each.
    let text = "a".repeat(1_000_000);
    for piece in [
        "a".repeat(499) + "b",
        "a_".repeat(200) + "b",
        "A".repeat(300) + "_b",
    ] {
        for (case, found) in [
            (Case::Sensitive, false),
            (Case::Insensitive(CaseMap::ascii()), false),
        ] {
            let pattern = Pattern::new(&format!("%{piece}%"), Pattern::ESCAPE, case).unwrap();
            assert_eq!(pattern.matches(text.as_bytes()), found);
        }
    }
}

/// All places are followed at once as soon as it is asked for.
fn at_once(text: &str, pattern: &str) -> Option<usize> {
    let piece: Vec<u8> = pattern
        .chars()
        .flat_map(|c| match c {
            '_' => vec![ANY],
            c => c.to_string().into_bytes(),
        })
        .collect();
    behind_first_at_once::<true>(&piece, text.as_bytes()).map(<[u8]>::len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Pieces longer than a word too.
    #[test]
    fn following_all_places_at_once_finds_the_first(
        text in "[abAé日]{0,90}",
        piece in "[abé日_]{1,4}|(a_{1,3}){20,40}|(ab){33,40}",
    ) {
        let mut rest = text.as_str();
        let expected = loop {
            if let Ok(behind) = behind::<true>(
                &piece.replace('_', "\0").bytes().map(|b| if b == 0 { ANY } else { b }).collect::<Vec<_>>(),
                rest.as_bytes(),
            ) {
                break Some(behind.len());
            }
            let mut chars = rest.chars();
            if chars.next().is_none() {
                break None;
            }
            rest = chars.as_str();
        };
        prop_assert_eq!(at_once(&text, &piece), expected);
    }

    #[test]
    fn matches_what_the_slow_way_matches(
        text in "[abé日%_]{0,10}",
        pattern in "([abé日]|%|_|\\\\[%_ab\\\\é]){0,7}",
    ) {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(like(&text, &pattern), reference(&chars(&text), &chars(&pattern)));
    }

    #[test]
    fn any_bytes_get_an_answer(text in prop::collection::vec(any::<u8>(), 0..20), pattern in "[a%_é]{0,6}") {
        let pattern = Pattern::new(&pattern, Pattern::ESCAPE, Case::Insensitive(CaseMap::ascii())).unwrap();
        pattern.matches(&text);
    }
}
