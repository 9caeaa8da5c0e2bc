//! LIKE and ILIKE.

use walcast::types::{Case, CaseMap, Pattern, PatternError};

use crate::{Answer, answers, pieces, quote, random, shared};

const PAIRS: usize = 10_000;

#[test]
fn a_text_is_like_a_pattern_here_exactly_when_it_is_there() {
    let cluster = shared();
    let mut rng = random();
    let alphabet = ["a", "b", "A", "B", "é", "É", "日", "😀", "%", "_", "\\", " ", "K"];
    let mut pairs = Vec::new();
    let mut expressions = Vec::new();
    for _ in 0..PAIRS {
        let mut text = pieces(&mut rng, &alphabet, 8);
        let mut pattern = pieces(&mut rng, &[&alphabet[..], &["%", "_", "\\\\"]].concat(), 6);
        if rng.bool() {
            // Made from the text, so that it matches more often.
            pattern = text
                .chars()
                .map(|c| match rng.u8(..5) {
                    0 => "%".to_owned(),
                    1 => "_".to_owned(),
                    2 => c.to_uppercase().to_string(),
                    _ => c.to_string(),
                })
                .collect();
        }
        if rng.u8(..20) == 0 {
            // Many places look like the piece, which may be longer than a word has bits.
            let unit = pieces(&mut rng, &["a", "A", "é"], 3);
            let count = rng.usize(1..60);
            text = format!("{}{text}", unit.repeat(6 * count));
            let wild = if rng.bool() { "_" } else { "" };
            pattern = format!("%{}{wild}{pattern}%", unit.repeat(count));
        }
        let escape = match rng.u8(..4) {
            0 => Some(*rng.choice(&["", "a", "é", "%", "_", "ab", "\\"]).unwrap()),
            _ => None,
        };
        let (case, operator) = if rng.bool() {
            (Case::Sensitive, "LIKE")
        } else {
            (Case::Insensitive(CaseMap::ascii()), "ILIKE")
        };
        let clause = escape.map_or(String::new(), |escape| format!(" ESCAPE {}", quote(escape)));
        expressions.push(format!(
            "{} COLLATE \"C\" {operator} {}{clause}",
            quote(&text),
            quote(&pattern)
        ));
        pairs.push((text, pattern, escape, case));
    }
    let mut matched = 0;
    let mut refused = 0;
    for (((text, pattern, escape, case), expression), answer) in pairs
        .iter()
        .zip(&expressions)
        .zip(answers(&cluster, &expressions))
    {
        let escape = escape.map_or(Ok(Pattern::ESCAPE), Pattern::escape);
        match escape.and_then(|escape| Pattern::new(pattern, escape, *case)) {
            Ok(pattern) => {
                let matches = pattern.matches(text.as_bytes());
                assert_eq!(answer, Answer::is(matches), "{expression}");
                matched += usize::from(matches);
            }
            Err(PatternError::EndsInEscape) => {
                // The server says so where it gets that far; it never matches.
                assert_ne!(answer, Answer::is(true), "{expression}");
                refused += 1;
            }
            Err(PatternError::EscapeTooLong) => {
                assert_eq!(
                    answer,
                    Answer::Error("invalid escape string".into()),
                    "{expression}"
                );
                refused += 1;
            }
        }
    }
    eprintln!("{PAIRS} pairs, {matched} of them match, {refused} are refused");
    assert!(
        matched > PAIRS / 10 && refused < PAIRS / 4,
        "{matched} match, {refused} are refused"
    );
}
