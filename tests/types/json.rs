//! `json` and `jsonb`: `->`, `->>`, `#>`, `#>>`, `@>`, `<@`, `?`, `=`.

use walcast::types::{Document, JsonError, JsonForm, Jsonb, LiteralError, Path, Work};

use crate::{Answer, answers, quote, random, shared};

const DOCUMENTS: usize = 3_000;

const KEYS: [&str; 7] = ["a", "b", "bb", "", "é", "\\u0061", "x\\\"y\\n"];
const SCALARS: [&str; 16] = [
    "1",
    "1.0",
    "-0",
    "2.50",
    "1e2",
    "100",
    "null",
    "true",
    "false",
    "\"a\"",
    "\"\\u0061\"",
    "\"\"",
    "\"\\n\\/é\"",
    "\"1\"",
    "\"\\ud83d\\ude00\"",
    "12345678901234567890.123",
];
const STEPS: [&str; 14] = [
    "a", "b", "bb", "", "é", "x\"y\n", "0", "1", "-1", "-2", " 1", "1 ", "+0", "x",
];

fn blank(rng: &mut fastrand::Rng) -> &'static str {
    rng.choice(&["", "", "", " ", "\n"]).unwrap()
}

fn value(rng: &mut fastrand::Rng, depth: usize) -> String {
    let before = blank(rng);
    let after = blank(rng);
    let text = match rng.u8(..if depth == 0 { 1 } else { 4 }) {
        0 => (*rng.choice(&SCALARS).unwrap()).to_owned(),
        1 => {
            let items: Vec<String> = (0..rng.usize(..4)).map(|_| value(rng, depth - 1)).collect();
            format!("[{before}{}]", items.join(","))
        }
        _ => {
            let members: Vec<String> = (0..rng.usize(..4))
                .map(|_| {
                    format!(
                        "\"{}\"{}:{}",
                        rng.choice(&KEYS).unwrap(),
                        blank(rng),
                        value(rng, depth - 1)
                    )
                })
                .collect();
            format!("{{{before}{}}}", members.join(&format!(",{}", blank(rng))))
        }
    };
    format!("{before}{text}{after}")
}

/// A text that is JSON, or one that is not, or not to a `jsonb`.
fn document(rng: &mut fastrand::Rng) -> String {
    let text = value(rng, 3);
    match rng.u8(..30) {
        0 => text.replacen(*rng.choice(&["\"", "}", "]", ":", ",", "1", "u"]).unwrap(), "", 1),
        1 => text.replace(
            "\\u0061",
            rng.choice(&["\\u0000", "\\ud83d", "\\udc00", "\\u00g1", "\\x"])
                .unwrap(),
        ),
        2 => text.replace(
            "1",
            rng.choice(&["01", "1.", ".1", "1e", "+1", "1e200000", "1e-20000"])
                .unwrap(),
        ),
        _ => text,
    }
}

/// Part of a document, as likely contained as not.
fn part(rng: &mut fastrand::Rng, of: &str) -> String {
    let text = value(rng, 2);
    let Ok(json) = serde_json::from_str::<serde_json::Value>(of) else {
        return text;
    };
    fn prune(rng: &mut fastrand::Rng, json: &mut serde_json::Value) {
        match json {
            serde_json::Value::Array(items) => {
                items.retain(|_| rng.u8(..4) > 0);
                rng.shuffle(items);
                items.iter_mut().for_each(|item| prune(rng, item));
            }
            serde_json::Value::Object(members) => {
                members.retain(|_, _| rng.u8(..4) > 0);
                members.values_mut().for_each(|member| prune(rng, member));
            }
            _ => {}
        }
    }
    match rng.u8(..3) {
        0 => text,
        _ => {
            let mut json = json;
            prune(rng, &mut json);
            json.to_string()
        }
    }
}

#[test]
fn operators_of_json_give_here_what_they_give_there() {
    let cluster = shared();
    let mut rng = random();
    let mut cases = Vec::new();
    let mut expressions = Vec::new();
    for _ in 0..DOCUMENTS {
        let text = document(&mut rng);
        let other = part(&mut rng, &text);
        let key = *rng.choice(&STEPS).unwrap();
        let index = *rng.choice(&[0, 1, 2, -1, -2, -4, i32::MIN, i32::MAX]).unwrap();
        let steps: Vec<&str> = (0..rng.usize(..4))
            .map(|_| *rng.choice(&STEPS).unwrap())
            .collect();
        let array: Vec<String> = steps.iter().map(|step| quote(step)).collect();
        let array = format!("ARRAY[{}]::text[]", array.join(", "));
        for ty in ["json", "jsonb"] {
            let this = format!("{}::{ty}", quote(&text));
            expressions.extend([
                this.clone(),
                format!("{this} -> {}", quote(key)),
                format!("{this} ->> {}", quote(key)),
                format!("{this} -> ({index})::int"),
                format!("{this} ->> ({index})::int"),
                format!("{this} #> {array}"),
                format!("{this} #>> {array}"),
            ]);
        }
        let this = format!("{}::jsonb", quote(&text));
        let other_constant = format!("{}::jsonb", quote(&other));
        expressions.extend([
            other_constant.clone(),
            format!("{this} @> {other_constant}"),
            format!("{this} <@ {other_constant}"),
            format!("{this} = {other_constant}"),
            format!("{this} ? {}", quote(key)),
            format!("{this} -> {} @> {other_constant}", quote(key)),
        ]);
        cases.push((text, other, key, index, steps));
    }
    let answers = answers(&cluster, &expressions);
    let mut compared = 0;
    let mut refused = 0;
    let mut contained = 0;
    for ((text, other, key, index, steps), answers) in cases.iter().zip(answers.chunks(20)) {
        let what = format!("{text:?} {other:?} {key:?} {index} {steps:?}");
        let path = Path::new(steps.iter().copied()).unwrap();
        for (answers, form) in [
            (&answers[..7], JsonForm::Json),
            (&answers[7..14], JsonForm::Jsonb),
        ] {
            let Answer::Text(printed) = &answers[0] else {
                refused += 1;
                continue;
            };
            let document = Document::new(printed.as_bytes(), form);
            let found = [
                document.field(key),
                document.element(*index),
                document.path(&path),
            ];
            for (found, answers) in found.into_iter().zip(answers[1..].chunks(2)) {
                if found == Err(JsonError::NegativeStep) {
                    assert!(form == JsonForm::Json && !path.is_exact(form), "{what}");
                    continue;
                }
                if matches!(answers[0], Answer::Error(_)) {
                    // An escape without a character, which the server minds wherever it stands.
                    assert!(printed.contains("\\u"), "{what}");
                    continue;
                }
                let found = found.unwrap();
                let as_is = found.map_or(Answer::Null, |found| {
                    let path_text = found.raw();
                    Answer::Text(String::from_utf8(path_text.into()).unwrap())
                });
                assert_eq!(as_is, answers[0], "{what}");
                let text = found.and_then(|found| found.text().unwrap());
                let text = text.map_or(Answer::Null, |text| {
                    Answer::Text(String::from_utf8(text.into()).unwrap())
                });
                assert_eq!(text, answers[1], "{what}");
                compared += 2;
            }
        }
        let literals = [(text, &answers[7]), (other, &answers[14])].map(|(literal, answer)| {
            let is_error = matches!(answer, Answer::Error(_));
            match Jsonb::literal(literal) {
                Ok(_) => assert!(!is_error, "{literal:?} is refused there: {answer:?}"),
                Err(LiteralError::Invalid { .. } | LiteralError::OutOfRange { .. }) => {
                    assert!(is_error, "{literal:?} is refused here");
                }
                Err(error) => panic!("{literal:?}: {error}"),
            }
            Jsonb::literal(literal).ok()
        });
        let (Answer::Text(this), Answer::Text(that)) = (&answers[7], &answers[14]) else {
            continue;
        };
        let row = |text| Document::new(str::as_bytes(text), JsonForm::Jsonb);
        let this = row(this);
        let that = row(that);
        let [constant, other] = literals
            .each_ref()
            .map(|constant| constant.as_ref().unwrap().document());
        for this in [this, constant] {
            for that in [that, other] {
                let ours = [
                    this.contains(that, &Work::unlimited()),
                    that.contains(this, &Work::unlimited()),
                    this.equals(that),
                    this.has(key),
                ];
                assert_eq!(
                    ours.map(|ours| Answer::is(ours.unwrap())),
                    answers[15..19],
                    "{what}"
                );
                let field = this
                    .field(key)
                    .unwrap()
                    .map(|field| field.contains(that, &Work::unlimited()).unwrap());
                assert_eq!(field.map_or(Answer::Null, Answer::is), answers[19], "{what}");
                compared += 5;
                contained += usize::from(answers[15] == Answer::is(true));
            }
        }
    }
    eprintln!(
        "{compared} answers compared, {contained} of containment; {refused} documents are refused there"
    );
    assert!(compared > DOCUMENTS * 20 && contained > DOCUMENTS / 4 && refused < DOCUMENTS / 2);
}
