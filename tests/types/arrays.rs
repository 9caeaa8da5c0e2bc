//! Arrays: their text, literals, `=`, `<`, `@>`, `<@`, `&&` and ANY.

use std::cmp::Ordering;

use walcast::types::{Array, ArrayRef, ArraySet, ArrayText, Datum, Kind, LiteralError, Reading};

use crate::{Answer, answers, quote, random, shared};

const PAIRS: usize = 2_000;

struct Elements {
    ty: &'static str,
    kind: Kind,
    reading: Reading,
    pool: &'static [&'static str],
}

const ELEMENTS: [Elements; 4] = [
    Elements {
        ty: "int4",
        kind: Kind::Int4,
        reading: Reading::Int,
        pool: &["1", "2", "3", "-7", "NULL", "null", " 4 ", "\"1\""],
    },
    Elements {
        ty: "text COLLATE \"C\"",
        kind: Kind::Text,
        reading: Reading::Text,
        pool: &[
            "a",
            "b",
            "NULL",
            "\"NULL\"",
            "\"\"",
            "\" \"",
            "é",
            "\"a\\\"b\"",
            "\"\\\\\"",
            "\"{,}\"",
            " x y ",
            "A",
            "\"\\a\"",
        ],
    },
    Elements {
        ty: "numeric",
        kind: Kind::Numeric,
        reading: Reading::Numeric,
        pool: &["1", "1.0", "1.00", "-0.5", "NaN", "NULL", "1e3", "1000"],
    },
    Elements {
        ty: "timestamptz",
        kind: Kind::TimestampTz,
        reading: Reading::TimestampTz,
        pool: &[
            "2024-01-01 00:00:00+00",
            "\"2024-01-01 02:00:00+02\"",
            "infinity",
            "NULL",
        ],
    },
];

fn elements(rng: &mut fastrand::Rng, pool: &[&str], count: usize) -> String {
    let list: Vec<&str> = (0..count).map(|_| *rng.choice(pool).unwrap()).collect();
    format!("{{{}}}", list.join(","))
}

fn array(rng: &mut fastrand::Rng, pool: &[&str]) -> String {
    match rng.u8(..10) {
        0 => "{}".into(),
        1 | 2 => {
            let rows = rng.usize(1..3);
            let columns = rng.usize(1..3);
            let rows: Vec<String> = (0..rows).map(|_| elements(rng, pool, columns)).collect();
            format!("{{ {} }}", rows.join(" , "))
        }
        3 => {
            let lower = rng.i32(-1..3);
            let count = rng.usize(1..4);
            format!(
                "[{lower}:{}]={}",
                lower + count as i32 - 1,
                elements(rng, pool, count)
            )
        }
        // What is no array, or not to all servers.
        4 if rng.bool() => (*rng
            .choice(&[
                "{{}}",
                "{1,}",
                "{1",
                "{1}x",
                "{1,{1}}",
                "{1\\2}",
                "x",
                "[1:3]={1}",
            ])
            .unwrap())
        .into(),
        _ => {
            let count = rng.usize(1..4);
            elements(rng, pool, count)
        }
    }
}

#[test]
fn arrays_are_to_each_other_here_what_they_are_there() {
    let cluster = shared();
    let mut rng = random();
    let mut cases = Vec::new();
    let mut expressions = Vec::new();
    for _ in 0..PAIRS {
        let of = rng.choice(&ELEMENTS).unwrap();
        let left = array(&mut rng, of.pool);
        let right = array(&mut rng, of.pool);
        let needle = rng.choice(of.pool).unwrap().trim_matches('"').replace('\\', "");
        let (ty, collation) = of.ty.split_once(' ').unwrap_or((of.ty, ""));
        let a = format!("{}::{ty}[] {collation}", quote(&left));
        let b = format!("{}::{ty}[] {collation}", quote(&right));
        expressions.extend([
            a.clone(),
            b.clone(),
            format!("{a} = {b}"),
            format!("{a} < {b}"),
            format!("{a} @> {b}"),
            format!("{a} <@ {b}"),
            format!("{a} && {b}"),
            format!("{}::{ty} = ANY ({a})", quote(&needle)),
        ]);
        cases.push((of, left, right, needle));
    }
    let answers = answers(&cluster, &expressions);
    let mut compared = 0;
    let mut refused = 0;
    for ((of, left, right, needle), answers) in cases.iter().zip(answers.chunks(8)) {
        let what = format!("{} {left} {right} {needle}", of.ty);
        let [Answer::Text(a), Answer::Text(b), ..] = answers else {
            let is_error = |at: usize| matches!(answers[at], Answer::Error(_));
            assert!(Array::literal(&of.kind, left).is_err() || !is_error(0), "{what}");
            assert!(Array::literal(&of.kind, right).is_err() || !is_error(1), "{what}");
            refused += 1;
            continue;
        };
        let text = |text| ArrayRef::Text(ArrayText::new(str::as_bytes(text), b','), of.reading);
        let constants = [left, right].map(|literal| match Array::literal(&of.kind, literal) {
            Ok(array) => Some(array),
            Err(LiteralError::NotPlain { .. }) => None,
            Err(error) => panic!("{what}: {error}"),
        });
        let constant = |at: usize| constants[at].as_ref().map(ArrayRef::Constant);
        let needle = walcast::types::literal(&of.kind, needle);
        for a in [Some(text(a)), constant(0)].into_iter().flatten() {
            for b in [Some(text(b)), constant(1)].into_iter().flatten() {
                let ours = [
                    a.equals(b).unwrap(),
                    a.compare(b).unwrap() == Ordering::Less,
                    a.contains(b).unwrap(),
                    b.contains(a).unwrap(),
                    a.overlaps(b).unwrap(),
                ];
                assert_eq!(ours.map(Answer::is), answers[2..7], "{what}");
                assert_eq!(a.equals(b).unwrap(), a.compare(b).unwrap().is_eq(), "{what}");
                compared += ours.len();
            }
            if let Some(b) = &constants[1] {
                let set = ArraySet::from(b.clone());
                let ours = [a.contains_set(&set), a.is_within_set(&set), a.overlaps_set(&set)];
                let ours = ours.map(|holds| Answer::is(holds.unwrap()));
                assert_eq!(ours, answers[4..7], "{what}");
                compared += ours.len();
            }
            if let Ok(needle) = &needle {
                let found = a.any(|element: &Datum<'_>| element == needle).unwrap();
                assert_eq!(found.map_or(Answer::Null, Answer::is), answers[7], "{what}");
            } else {
                assert!(matches!(answers[7], Answer::Error(_)), "{what}");
            }
        }
    }
    eprintln!("{compared} answers compared; {refused} pairs are refused there");
    assert!(compared > PAIRS * 10 && refused < PAIRS / 5);
}
