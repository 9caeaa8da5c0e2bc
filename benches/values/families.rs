//! The families of types that differ in how their text becomes JSON, with typical values.

use walcast::event::{Collation, Column, Relation, ReplicaIdentity, TableName, Value, encode_values};
use walcast::types::{Attribute, Kind, Type};

/// A family's name, its kind, and texts as the server prints them.
pub(super) type Family = (&'static str, Kind, &'static [&'static str]);

pub(super) fn families() -> Vec<Family> {
    let array = |kind: &Kind| Kind::Array(Box::new(kind.clone()));
    let composite = |attributes: &[(&str, &Kind)]| Kind::Composite {
        attributes: attributes
            .iter()
            .map(|(name, kind)| Attribute {
                name: (*name).to_owned(),
                attnum: Default::default(),
                kind: (*kind).clone(),
            })
            .collect(),
        only_grew: true,
    };
    let pair = composite(&[("number", &Kind::Int8), ("label", &Kind::Text)]);
    let nested = composite(&[("pair", &pair), ("pairs", &array(&pair))]);
    vec![
        ("bool", Kind::Bool, &["t", "f"]),
        ("integer", Kind::Int8, &["7", "1234567890123"]),
        ("numeric", Kind::Numeric, &["1234.50", "-0.000001234567"]),
        ("float", Kind::Float8, &["3.141592653589793", "1e+20", "NaN"]),
        (
            "text",
            Kind::Text,
            &["a line of plain text", "shipped \"express\"\n"],
        ),
        ("long text", Kind::Text, &[LONG]),
        ("bytea", Kind::Bytea, &["\\x00112233445566778899aabbccddeeff"]),
        ("date", Kind::Date, &["2024-02-29"]),
        (
            "timestamptz",
            Kind::TimestampTz,
            &["2024-02-29 12:00:00.123456+00"],
        ),
        ("uuid", Kind::Uuid, &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        (
            "jsonb",
            Kind::Jsonb,
            &[r#"{"a": [1, 2, {"b": null}], "name": "x \"y\"", "on": true}"#],
        ),
        ("range", Kind::Other, &["[2024-01-01,2025-01-01)"]),
        (
            "box[]",
            array(&Kind::Separated(b';')),
            &["{(3,4),(1,2);(1,1),(0,0)}"],
        ),
        ("int[]", array(&Kind::Int4), &["{1,2,3,4,5,6,7,8}"]),
        (
            "text[]",
            array(&Kind::Text),
            &[r#"{plain,"with blanks","a \"quote\"",NULL}"#],
        ),
        ("int2vector", Kind::Vector(Box::new(Kind::Int2)), &["1 2 3"]),
        ("hstore", Kind::Hstore, &[r#""a"=>"1", "b \"c\""=>NULL"#]),
        ("composite", pair, &["(7,label)", r#"(7,"a ""label"", quoted")"#]),
        (
            "nested composites",
            nested,
            &[r#"("(7,""a b"")","{""(7,\\""a b\\"")"",""(8,c)""}")"#],
        ),
    ]
}

const LONG: &str = "A paragraph of the kind that people write into the comments of orders: it has some commas, a few \
    full stops, an \"occasional quotation\", and a line's end here\nand there, so that a writer that looks at every \
    byte by itself shows. It goes on for about four hundred bytes, which is what a comment has that somebody took the \
    trouble to write, and it says nothing at all that would be worth reading.";

/// A table with these columns.
pub(super) fn relation(kinds: impl Iterator<Item = Kind>) -> Relation {
    let columns = kinds.enumerate().map(|(index, kind)| Column {
        name: format!("column_{index}"),
        ty: Type {
            oid: 25,
            name: "text".into(),
            kind,
        },
        typmod: -1,
        identity: false,
        collation: Collation::None,
        ctype: Default::default(),
        attnum: Default::default(),
    });
    Relation {
        oid: OID,
        table: TableName::new("public", "t"),
        replica_identity: ReplicaIdentity::Default,
        columns: columns.collect(),
        key: Vec::new(),
        logging: Default::default(),
    }
}

pub(super) const OID: u32 = 16384;

/// An Insert message of pgoutput's with these values.
pub(super) fn insert<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> Vec<u8> {
    let mut message = [&b"I"[..], &OID.to_be_bytes(), b"N"].concat();
    encode_values(texts.map(|text| Value::Text(text.as_bytes())), &mut message);
    message
}
