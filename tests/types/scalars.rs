//! Types of single values: how they are printed, what their literals mean, and how they compare.

use walcast::types::{Datum, Kind, LiteralError, Reading, literal};

use crate::{Answer, answers, pieces, quote, random, shared};

const PAIRS: usize = 4_000;

/// A type whose values are compared, with what makes its literals.
struct Scalar {
    ty: &'static str,
    kind: Kind,
    reading: Reading,
    literal: fn(&mut fastrand::Rng) -> String,
    /// Of the pairs, the least part in percent that is neither refused here nor there.
    least_taken: usize,
}

fn choose(rng: &mut fastrand::Rng, pool: &[&'static str]) -> &'static str {
    rng.choice(pool).unwrap()
}

fn interval(rng: &mut fastrand::Rng) -> String {
    let number = |rng: &mut fastrand::Rng| {
        choose(
            rng,
            &["0", "1", "1", "-1", "2", "12", "30", "-24", "+1", "1.5", "4000"],
        )
    };
    if rng.u8(..3) == 0 {
        let same = [
            "1 mon",
            "30 days",
            "4 weeks 2 days",
            "720:00",
            "P30D",
            "PT720H",
            "1 mon 1 day -24:00:00",
            "29 days 24:00",
        ];
        return choose(rng, &same).to_owned();
    }
    let mut text = String::new();
    if rng.u8(..3) == 0 {
        text.push('P');
        for designator in ["Y", "M", "W", "D", "T", "H", "M", "S"] {
            if designator == "T" {
                text.push_str(if rng.u8(..4) == 0 { "" } else { "T" });
            } else if rng.u8(..3) == 0 {
                text.push_str(number(rng));
                text.push_str(designator);
            }
        }
        return text;
    }
    const UNITS: [&str; 12] = [
        "year", "years", "mon", "months", "week", "day", "days", "DAYS", "hour", "min", "seconds", "decade",
    ];
    let mut units: Vec<usize> = (0..rng.usize(..4)).map(|_| rng.usize(..UNITS.len())).collect();
    if rng.u8(..5) > 0 {
        units.sort();
    }
    for unit in units {
        text.push_str(&format!("{} {} ", number(rng), UNITS[unit]));
    }
    text.push_str(choose(
        rng,
        &[
            "",
            "",
            "",
            "04:05",
            "-04:05:06",
            "+24:00:00",
            "00:00:00.000001",
            "1:60",
            "12",
            "ago",
            "730:00",
            "2562047788:00:54.775807",
        ],
    ));
    text.trim_end().to_owned()
}

fn timetz(rng: &mut fastrand::Rng) -> String {
    let time = choose(
        rng,
        &[
            "00:00",
            "10:00",
            "12:00:00",
            "10:00:00.5",
            "23:59:59.999999",
            "24:00:00",
            "24:00:01",
            "9:00",
            "11:00",
        ],
    );
    let zone = choose(
        rng,
        &[
            "+00",
            "Z",
            "+02",
            "-02",
            "+01:00",
            "-0330",
            "+15:59:59",
            "-15:59:59",
            "+16",
            "",
            " UTC",
            "+00:00:01",
        ],
    );
    format!("{time}{zone}")
}

fn bytea(rng: &mut fastrand::Rng) -> String {
    let hex = ["00", "ff", "0F", "7f", "80", " ", "a", "61"];
    let escape = ["a", "b", "\\\\", "\\000", "\\141", "\\377", "~", "\\", "\\4", " "];
    if rng.bool() {
        format!("\\x{}", pieces(rng, &hex, 3))
    } else {
        pieces(rng, &escape, 3)
    }
}

fn inet(rng: &mut fastrand::Rng) -> String {
    let address = choose(
        rng,
        &[
            "10.0.0.1",
            "10.0.0.0",
            "10.1.0.0",
            "255.255.255.255",
            "0.0.0.0",
            "::",
            "::1",
            "1:2:3:4:5:6:7:8",
            "2001:db8::",
            "::ffff:1.2.3.4",
            "::1.2.3.4",
            "::FFFF:0:0",
            "10.1",
            "010.0.0.1",
            "1::2::3",
            "10.0.0.256",
            " 10.0.0.1",
            "",
        ],
    );
    let bits = choose(
        rng,
        &[
            "", "", "/0", "/8", "/9", "/16", "/32", "/33", "/64", "/128", "/129", "/08", "/+8", "/",
        ],
    );
    format!("{address}{bits}")
}

fn mac(rng: &mut fastrand::Rng) -> String {
    let pairs: Vec<&str> = (0..choose(rng, &["6", "6", "6", "8", "8", "5"]).parse().unwrap())
        .map(|_| choose(rng, &["00", "00", "00", "ff", "7f", "80", "0A"]))
        .collect();
    pairs.join(choose(rng, &[":", ":", ":", "-", "", ".", ":0"]))
}

fn bit(rng: &mut fastrand::Rng) -> String {
    let prefix = choose(rng, &["", "", "", "b", "B", "x", "X", " "]);
    let digits = ["0", "1", "0", "1", "00000000", "1111", "2", "f"];
    let most = rng.usize(..6);
    format!("{prefix}{}", pieces(rng, &digits, most))
}

fn pg_lsn(rng: &mut fastrand::Rng) -> String {
    let part = |rng: &mut fastrand::Rng| {
        choose(
            rng,
            &[
                "0",
                "0",
                "1",
                "16",
                "B374D848",
                "ffffffff",
                "00000001",
                "000000001",
                "",
                "g",
                "+1",
            ],
        )
    };
    let separator = choose(rng, &["/", "/", "/", "/", "/", "", " /"]);
    format!("{}{separator}{}", part(rng), part(rng))
}

const SCALARS: &[Scalar] = &[
    Scalar {
        ty: "interval",
        kind: Kind::Interval,
        reading: Reading::Interval,
        literal: interval,
        least_taken: 10,
    },
    Scalar {
        ty: "timetz",
        kind: Kind::TimeTz,
        reading: Reading::TimeTz,
        literal: timetz,
        least_taken: 25,
    },
    Scalar {
        ty: "bytea",
        kind: Kind::Bytea,
        reading: Reading::Bytea,
        literal: bytea,
        least_taken: 25,
    },
    Scalar {
        ty: "inet",
        kind: Kind::Inet,
        reading: Reading::Inet,
        literal: inet,
        least_taken: 15,
    },
    Scalar {
        ty: "cidr",
        kind: Kind::Cidr,
        reading: Reading::Inet,
        literal: inet,
        least_taken: 2,
    },
    Scalar {
        ty: "macaddr",
        kind: Kind::MacAddr,
        reading: Reading::MacAddr,
        literal: mac,
        least_taken: 5,
    },
    Scalar {
        ty: "macaddr8",
        kind: Kind::MacAddr8,
        reading: Reading::MacAddr8,
        literal: mac,
        least_taken: 2,
    },
    Scalar {
        ty: "varbit",
        kind: Kind::Bit,
        reading: Reading::Bit,
        literal: bit,
        least_taken: 20,
    },
    Scalar {
        ty: "pg_lsn",
        kind: Kind::PgLsn,
        reading: Reading::PgLsn,
        literal: pg_lsn,
        least_taken: 5,
    },
];

/// Checks a literal against what the server makes of it; its value if it has one on both sides.
fn value(scalar: &Scalar, text: &str, answer: &Answer) -> Option<Datum<'static>> {
    let printed = match answer {
        Answer::Text(printed) => {
            let datum = scalar.reading.read(printed.as_bytes());
            Some(
                datum
                    .unwrap_or_else(|| panic!("{printed:?} is not read"))
                    .into_owned(),
            )
        }
        _ => None,
    };
    match literal(&scalar.kind, text) {
        Ok(value) => {
            let printed = printed.unwrap_or_else(|| panic!("{} {text:?}: {answer:?}", scalar.ty));
            assert_eq!(value, printed, "{} {text:?}", scalar.ty);
            Some(value)
        }
        Err(LiteralError::Invalid { .. } | LiteralError::OutOfRange { .. }) => {
            assert_eq!(printed, None, "{} {text:?} is refused here", scalar.ty);
            None
        }
        Err(_) => None,
    }
}

#[test]
fn values_are_read_and_compared_as_they_are_there() {
    let cluster = shared();
    let mut rng = random();
    for scalar in SCALARS {
        let pairs: Vec<(String, String)> = (0..PAIRS)
            .map(|_| {
                let left = (scalar.literal)(&mut rng);
                let right = match rng.u8(..8) {
                    0 => left.clone(),
                    _ => (scalar.literal)(&mut rng),
                };
                (left, right)
            })
            .collect();
        let mut expressions = Vec::new();
        for (left, right) in &pairs {
            let [left, right] = [left, right].map(|text| format!("{}::{}", quote(text), scalar.ty));
            let comparisons = ["=", "<"].map(|operator| format!("{left} {operator} {right}"));
            expressions.extend([left, right]);
            expressions.extend(comparisons);
        }
        let answers = answers(&cluster, &expressions);
        let mut taken = 0;
        let mut equal = 0;
        for ((left, right), answers) in pairs.iter().zip(answers.chunks(4)) {
            let both = [(left, &answers[0]), (right, &answers[1])];
            let literals = both.map(|(text, answer)| value(scalar, text, answer));
            let what = format!("{} {left:?} {right:?}", scalar.ty);
            if let [Answer::Text(left), Answer::Text(right), ..] = answers {
                let [left, right] = [left, right].map(|text| scalar.reading.read(text.as_bytes()).unwrap());
                let ours = [left == right, left < right].map(Answer::is);
                assert_eq!(ours, answers[2..], "{what}");
                equal += usize::from(left == right);
            }
            taken += usize::from(literals.iter().all(Option::is_some));
        }
        eprintln!("{}: {taken} of {PAIRS} pairs taken, {equal} equal", scalar.ty);
        assert!(taken * 100 >= PAIRS * scalar.least_taken && equal > 0);
    }
}

#[test]
fn an_interval_means_the_same_under_every_style() {
    let cluster = shared();
    let mut rng = random();
    cluster.psql(
        "CREATE FUNCTION styled_interval(literal text) RETURNS interval LANGUAGE plpgsql
         SET intervalstyle = 'sql_standard' AS $$ BEGIN RETURN literal::interval; END $$;",
    );
    let texts: Vec<String> = (0..PAIRS).map(|_| interval(&mut rng)).collect();
    let expressions: Vec<String> = texts
        .iter()
        .map(|text| format!("styled_interval({})", quote(text)))
        .collect();
    for (text, answer) in texts.iter().zip(answers(&cluster, &expressions)) {
        if let Ok(value) = literal(&Kind::Interval, text) {
            let Answer::Text(printed) = answer else {
                panic!("{text:?}: {answer:?}");
            };
            assert_eq!(
                Reading::Interval.read(printed.as_bytes()),
                Some(value),
                "{text:?}"
            );
        }
    }
}
