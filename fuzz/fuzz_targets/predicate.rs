//! Text as a predicate, with its parameters and a row behind zero bytes: errors whose places lie in it, SQL in which all
//! that the client wrote stands in quotes, and verdicts that never become more than certain.

#![no_main]

use libfuzzer_sys::fuzz_target;
use walcast::event::{
    Collation, Column, Relation, ReplicaIdentity, TableName, Tuple, Value, View, encode_values,
};
use walcast::filter::{Error, MAX_BYTES, Predicate, Pushed, Row, Verdict};
use walcast::types::{Ctype, Kind, Type};

fn relation() -> Relation {
    let array = |kind: Kind| Kind::Array(Box::new(kind));
    let kinds = [
        ("id", Kind::Int4),
        ("n", Kind::Numeric),
        ("f", Kind::Float8),
        ("t", Kind::Text),
        ("c", Kind::Citext(Ctype::C)),
        ("ok", Kind::Bool),
        ("at", Kind::TimestampTz),
        ("j", Kind::Json),
        ("d", Kind::Jsonb),
        ("ids", array(Kind::Int4)),
        ("tags", array(Kind::Text)),
    ];
    let columns = kinds.into_iter().map(|(name, kind)| Column {
        name: name.into(),
        ty: Type {
            oid: 0,
            name: kind.name().into(),
            kind,
        },
        typmod: -1,
        identity: true,
        collation: Collation::C,
        ctype: Ctype::C,
        attnum: Default::default(),
    });
    Relation {
        oid: 1,
        table: TableName::new("public", "t"),
        replica_identity: ReplicaIdentity::Full,
        columns: columns.collect(),
        key: vec![0],
        logging: Default::default(),
    }
}

/// A row of these texts: `-` is null, `~` a value that the log lacks.
fn row<'t>(texts: impl Iterator<Item = &'t str>, columns: usize) -> Vec<u8> {
    let values = texts.map(|text| match text {
        "-" => Value::Null,
        "~" => Value::Unchanged,
        text => Value::Text(text.as_bytes()),
    });
    let all = values.chain(std::iter::repeat(Value::Null)).take(columns);
    let mut bytes = Vec::new();
    encode_values(all.collect::<Vec<_>>().into_iter(), &mut bytes);
    bytes
}

/// The SQL without what stands in quotes, in which these are doubled.
fn unquoted(sql: &str) -> String {
    let mut within = None;
    let outside = sql.chars().filter(|letter| match within {
        Some(quote) => {
            if *letter == quote {
                within = None;
            }
            false
        }
        None => {
            within = Some(*letter).filter(|letter| matches!(letter, '"' | '\''));
            within.is_none()
        }
    });
    outside.collect()
}

fn check_error(error: &Error, text: &str) {
    assert!(text.is_char_boundary(error.offset()), "{error}");
    assert!(error.to_string().len() < 2_000, "{error}");
}

fuzz_target!(|text: &str| {
    let mut parts = text.split('\0');
    let text = parts.next().unwrap_or_default();
    let parameters = parts.next().and_then(|json| serde_json::from_str(json).ok());
    let parameters: Vec<serde_json::Value> = parameters.unwrap_or_default();
    let predicate = match Predicate::parse(text) {
        Ok(predicate) => predicate,
        Err(error) => return check_error(&error, text),
    };
    let relation = relation();
    let view = View::whole(&relation);
    let matcher = match predicate.bind(view, &parameters) {
        Ok(matcher) => matcher,
        Err(error) => return check_error(&error, text),
    };
    assert!(matcher.cost().bytes <= MAX_BYTES);
    let mut pushed = Pushed {
        citext: Some("e".to_owned()),
        ..Pushed::default()
    };
    match predicate.append_sql(view, &parameters, &mut pushed) {
        Ok(()) => {
            let outside = unquoted(&pushed.sql);
            let words = [";", "--", "/*", "\\", "'", "\""];
            assert!(words.iter().all(|word| !outside.contains(word)), "{}", pushed.sql);
            let count = |letter| outside.matches(letter).count();
            assert_eq!(count('('), count(')'), "{}", pushed.sql);
        }
        Err(error) => check_error(&error, text),
    }
    let row = row(parts, relation.columns.len());
    let row = Row::new(Tuple::parse(&row).unwrap().0);
    let verdict = matcher.eval(&row);
    let is_certain = matcher.certain().eval(&row) == Verdict::Matches;
    assert_eq!(is_certain, verdict == Verdict::Matches, "{text:?} {row:?}");
});
