//! The table that the tests fill and query, in its definition's terms and in ours.

use std::fmt::Write;

use walcast::cluster::Cluster;
use walcast::event::Relation;
use walcast::postgres::{Catalog, ConnInfo, Publication};
use walcast::types::Kind;

pub(crate) const ROWS: usize = 60;

/// A column of the test's table, with texts of values and of literals for it. A few are no values of the type.
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) ty: &'static str,
    pub(crate) oid: u32,
    pub(crate) pool: &'static [&'static str],
}

const fn spec(name: &'static str, ty: &'static str, oid: u32, pool: &'static [&'static str]) -> Spec {
    Spec { name, ty, oid, pool }
}

const INT2: &[&str] = &["0", "1", "-1", "2", "100", "32767", "-32768"];
const INT4: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "32768",
    "16777217",
    "2147483647",
    "-2147483648",
];
#[rustfmt::skip]
const INT8: &[&str] = &[
    "0", "1", "-1", "2147483648", "9007199254740993", "9223372036854775807", "-9223372036854775808",
];
#[rustfmt::skip]
const NUMERIC: &[&str] = &[
    "0", "1", "-1", "1.0", "1.10", "1.1", "0.1", "-0.5", "2.5", "100", "9007199254740993",
    "9223372036854775808", "12345678901234567890123456789.123456789", "0.000000000000000000000001",
    "-99999999999999999999.9", "0.1000000000000000055511151231257827", "NaN", "Infinity", "-Infinity",
    "16777217", "1e20", "1.5e-7",
];
#[rustfmt::skip]
const FLOAT4: &[&str] = &[
    "0", "-0", "1", "-1", "0.1", "1.1", "2.5", "16777216", "1e-40", "3.4028235e38", "NaN", "Infinity",
    "-Infinity",
];
#[rustfmt::skip]
const FLOAT8: &[&str] = &[
    "0", "-0", "1", "-1", "0.1", "0.10000000149011612", "1.1", "2.5", "16777217", "5e-324",
    "1.7976931348623157e308", "9007199254740992", "1e20", "NaN", "Infinity", "-Infinity",
];
#[rustfmt::skip]
const TEXT: &[&str] = &[
    "", "a", "a ", "A", "b", "ab", "é", "日本", "it''s", "back\\slash", "q\"uote", "1", "true", "null",
];
/// Letters that differ by more than a bit from their lower case, or look at what stands around them in some libraries.
#[rustfmt::skip]
pub(crate) const LETTERS: &[&str] = &[
    "", "a", "A", "a ", "ab", "AB", "aB", "é", "É", "İ", "i", "I", "ı", "k", "K", "\u{212a}", "ß", "ẞ", "SS", "Σ", "ς", "σ",
    "ΑΣ", "ας", "ασ", "Ǆ", "ǅ", "ǆ", "\u{212b}", "å", "Å", "日本", "it''s", "1", "ÉCOLE des Ponts", "école DES ponts", "Ⱥ",
    "ⱥ", "𐐀", "𐐨", "null",
];
/// Texts that are values of other types, or nearly so.
#[rustfmt::skip]
const NUMBERS: &[&str] = &[
    "1", "1", "2", "-5", " 7 ", "007", "2147483648", "32768", "1.5", "1.50", "1e2", "abc", "", "NaN", "inf", "0x1F", "t", "yes", "off",
    "2024-01-31", "2024-01-31 10:00:00+02", "infinity", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "1e400", "99999999999999999999",
];
#[rustfmt::skip]
const UUID: &[&str] = &[
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
    "00000000-0000-0000-0000-000000000000", "{ffffffffffffffffffffffffffffffff}",
    "a0eebc999c0b4ef8bb6d6bb9bd380a12",
];
#[rustfmt::skip]
const DATE: &[&str] = &[
    "2024-01-31", "2024-02-29", "1999-12-31", "2000-01-01", "0001-01-01", "0044-03-15 BC", "4714-11-24 BC",
    "5874897-12-31", "infinity", "-infinity",
];
#[rustfmt::skip]
const TIME: &[&str] = &[
    "00:00:00", "10:00", "10:00:00.000001", "23:59:59.999999", "24:00:00", "10:00:00.5",
];
#[rustfmt::skip]
const TIMESTAMP: &[&str] = &[
    "2024-01-31", "2024-01-31 00:00:00", "2024-01-31 10:00", "2024-01-31T10:00:00.123456",
    "1999-12-31 23:59:59.9", "0044-03-15 10:00:00 BC", "294276-12-31 23:59:59.999999", "4714-11-24 00:00:00 BC",
    "infinity", "-infinity",
];
#[rustfmt::skip]
const TIMESTAMPTZ: &[&str] = &[
    "2024-01-31", "2024-01-31 00:00:00+00", "2024-01-31 10:00+02", "2024-01-31T10:00:00.123456Z",
    "1999-12-31 18:29:59.9-0530", "0044-03-15 10:00:00+00 BC", "infinity", "-infinity", "2024-01-31 08:00+00",
];

#[rustfmt::skip]
/// Columns of which literals are made, too.
pub(crate) const SCALARS: &[Spec] = &[
    spec("id", "int8", 20, &[]),
    spec("b", "bool", 16, &["t", "f", "true", "no", "on", "1"]),
    spec("b2", "bool", 16, &["t", "f"]),
    spec("i2", "int2", 21, INT2),
    spec("i4", "int4", 23, INT4),
    spec("i8", "int8", 20, INT8),
    spec("n", "numeric", 1700, NUMERIC),
    spec("n2", "numeric", 1700, NUMERIC),
    spec("f4", "float4", 700, FLOAT4),
    spec("f8", "float8", 701, FLOAT8),
    spec("tx", "text", 25, TEXT),
    spec("tc", "text COLLATE \"C\"", 25, TEXT),
    spec("vc", "varchar COLLATE \"C\"", 1043, TEXT),
    spec("nm", "name", 19, TEXT),
    spec("bp", "char(6) COLLATE \"C\"", 1042, &["", "a", "a ", "A", "b", "ab", "é", "null"]),
    spec("ct", "citext", 0, LETTERS),
    spec("ct2", "citext COLLATE \"C\"", 0, LETTERS),
    spec("ctd", "insensitive", 0, LETTERS),
    spec("tl", "text COLLATE \"C.utf8\"", 25, LETTERS),
    spec("tn", "text", 25, NUMBERS),
    spec("u", "uuid", 2950, UUID),
    spec("d", "date", 1082, DATE),
    spec("tm", "time", 1083, TIME),
    spec("ts", "timestamp", 1114, TIMESTAMP),
    spec("tz", "timestamptz", 1184, TIMESTAMPTZ),
    spec("en", "mood", 0, MOOD),
    spec("en2", "mood", 0, MOOD),
    spec("by", "bytea", 17, BYTEA),
    spec("by2", "bytea", 17, BYTEA),
    spec("iv", "interval", 1186, INTERVAL),
    spec("iv2", "interval", 1186, INTERVAL),
    spec("tt", "timetz", 1266, TIMETZ),
    spec("tt2", "timetz", 1266, TIMETZ),
    spec("ip", "inet", 869, INET),
    spec("ci", "cidr", 650, INET),
    spec("mac", "macaddr", 829, MAC),
    spec("mac2", "macaddr", 829, MAC),
    spec("mac8", "macaddr8", 774, &["08:00:2b:01:02:03:04:05", "ff:ff:ff:ff:ff:ff:ff:ff", "08:00:2b:ff:fe:01:02:03"]),
    spec("bits", "varbit", 1562, BITS),
    spec("bit8", "bit(8)", 1560, &["00000000", "11111111", "10101010"]),
    spec("lsn", "pg_lsn", 3220, LSN),
    spec("lsn2", "pg_lsn", 3220, LSN),
];

#[rustfmt::skip]
const JSONB: &[&str] = &[
    "{\"a\": [1, {\"b\": \"\\\"\\\\\"}]}", "null", "1e5", "\"é\"", "{\"a\": {\"b\": 1.0, \"c\": [1, 2, \"x\"]}, \"x\": null}",
    "[1, \"a\", null, {\"a\": 1}]", "{\"a\": 1.50, \"b\": \"x\", \"0\": true}", "\"a\"", "[]", "{}", "[[1, 2], [3]]", "100000",
    "true", "{\"é\": \"日本\", \"a\": \"1\"}", "[1.0, \"a\"]", "{\"a\": {\"b\": 1}}", "[\"a\", \"b\", \"a\"]", "{\"a\": [1, 2]}",
    "[1, 2.0, 3, 4, 5, 6, 7, 8, {\"a\": [1, 2, 3, 4, 5.0, 6]}, \"a\", null, 9]", "[{\"a\": [1, 2]}, {\"a\": [2, 3], \"b\": 1}, [1, 2, [2]]]",
    "{\"a\": [8, 7, 6, 5, 4, 3, 2, 1, \"x\", true, null], \"b\": {\"a\": 1}}",
];
#[rustfmt::skip]
const JSON: &[&str] = &[
    "{\"a\" : [1,2, null ]}", " 1 ", "\"\\ud83d\\ude00\"", "[]", "{\"a\":1,\"a\":{\"b\" :2}}", "{\"a\": {\"b\": \"x\\u00e9\"}}",
    "[ 1 , [ 2 ], {\"a\":3} ]", "null", "{ }", "\"a\"", "{\"b\": 1.50, \"a\": \"1\"}",
    "{\"a\":{\"b\":1,\"b\":{\"c\":2}},\"a\":{\"c\":[3]},\"\\u0061\":{\"b\":4,\"b\": {\"c\":5,\"c\":6}},\"x\":1,\"x\":[2]}",
];

/// Documents.
pub(crate) const DOCUMENTS: &[Spec] = &[
    spec("js", "json", 114, JSON),
    spec("jb", "jsonb", 3802, JSONB),
    spec("jb2", "jsonb", 3802, JSONB),
];

/// Arrays of the types above.
#[rustfmt::skip]
pub(crate) const ARRAYS: &[Spec] = &[
    spec("ia", "int4[]", 1007, &["{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[2:3]={7,8}", "{1,2}", "{1}", "{2,1}", "{NULL}", "{100,32768}", "{7,7,6,5,4,3,2,1,0,-1,8,9,10,80,81}"]),
    spec("ia2", "int4[]", 1007, &["{}", "{1}", "{1,2}", "[0:1]={1,2}", "{NULL,1}"]),
    spec("i8a", "int8[]", 1016, &["{9223372036854775807}", "{}", "{1,2}", "{-1,NULL}"]),
    spec("na", "numeric[]", 1231, &["{1,1.0,2.50,2.5,7,6,5.000,4,3,2,0,-1,70}", "{1.50,NaN,-Infinity,NULL}", "{{{1}}}", "{1.0,1.10}", "{}", "{0.1}"]),
    spec("fa", "float8[]", 1022, &["{1e300,0.1,NaN,-0}", "{}", "{0,1}", "{1.1,NULL}"]),
    spec("ba", "bool[]", 1000, &["{t,f,NULL}", "{t}", "{}"]),
    spec("ta", "text[]", 1009, &["{}", "{\"\",\"a b\",\"NULL\",NULL,\"q\\\"\\\\\",\"{x}\",é,\"a,b\"}", "[0:1]={a,b}", "{\"\u{1}\t\"}", "{a,b}", "{a}", "{NULL}", "{b,a,é}"]),
    spec("ta2", "text[]", 1009, &["{}", "{a}", "{b,a}", "{a,NULL}"]),
    spec("tca", "text[] COLLATE \"C\"", 1009, &["{}", "{a,b}", "{B,a,\"a \"}", "{é,日本}", "{NULL,a}"]),
    spec("bpa", "char(3)[]", 1014, &["{a,\"b \"}", "{}", "{ab}"]),
    spec("cta", "citext[]", 0, &["{}", "{A,b}", "{a,B}", "{É,NULL,\u{212a}}", "{ας,k}", "{ǅ}", "{NULL}", "{é}"]),
    spec("cta2", "citext[] COLLATE \"C\"", 0, &["{}", "{a,b}", "{É,İ}", "{é,i}", "{B}"]),
    spec("ua", "uuid[]", 2951, &["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}", "{}", "{00000000-0000-0000-0000-000000000000}"]),
    spec("da", "date[]", 1182, &["{2024-01-31,infinity,\"0044-03-15 BC\"}", "{}", "{2024-01-31}"]),
    spec("tza", "timestamptz[]", 1185, &["{\"2024-01-31 10:00:00.5+02\",-infinity}", "{\"2024-01-31 00:00:00+00\"}"]),
    spec("iva", "interval[]", 1187, &["{\"1 mon\",\"30 days\"}", "{}", "{NULL,\"1 day\"}"]),
    spec("bya", "bytea[]", 1001, &["{\"\\\\xdead\",\"\\\\x\"}", "{}"]),
    spec("ea", "mood[]", 0, &["{ok}", "{sad,\"Odd 'label'\"}", "{happy,NULL}", "{}"]),
];

#[rustfmt::skip]
const BYTEA: &[&str] = &["\\x", "\\xdeadbeef", "\\xDEAD", "\\x00", "\\xdeadbe", "\\xff", "a", "\\000a"];
#[rustfmt::skip]
const INTERVAL: &[&str] = &[
    "1 day -02:03:04.5", "1 year 2 mons", "0", "1 mon", "30 days", "29 days 24:00:00", "720:00:00", "-1 mons +30 days",
    "00:00:00.000001", "P1Y2M", "-1 year", "178000000 years", "1 day",
];
#[rustfmt::skip]
const INET: &[&str] = &["10.0.0.0/8", "10.0.0.0/16", "::/0", "2001:db8::/32", "0.0.0.0/0", "10.0.0.0", "::1", "::ffff:1.2.3.4"];
#[rustfmt::skip]
const MAC: &[&str] = &["08:00:2b:01:02:03", "08:00:2b:01:02:04", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"];
#[rustfmt::skip]
const BITS: &[&str] = &["", "0", "1", "10", "101", "1010", "00", "B101", "xA"];
#[rustfmt::skip]
const LSN: &[&str] = &["0/0", "16/B374D848", "16/b374d849", "FFFFFFFF/FFFFFFFF"];
#[rustfmt::skip]
const TIMETZ: &[&str] = &[
    "10:00:00+02", "24:00:00-15:59:59", "08:00:00+00", "08:00:00Z", "09:30:00+01:30", "00:00:00+00", "23:59:59.999999-01",
];
const MOOD: &[&str] = &["ok", "happy", "sad", "Odd ''label''"];

/// Columns that are only written as JSON.
#[rustfmt::skip]
const OTHERS: &[Spec] = &[
    spec("Odd \"name\"\\", "text", 25, &["", "\u{1}\t\n\r\u{7f}\"\\", "x"]),
    spec("jba", "jsonb[]", 3807, &["{\"{\\\"a\\\": \\\"x\\\\\\\\y\\\"}\",1,NULL,\"[1, 2]\"}"]),
];

pub(crate) fn columns() -> impl Iterator<Item = &'static Spec> {
    SCALARS.iter().chain(DOCUMENTS).chain(ARRAYS).chain(OTHERS)
}

/// The query by which walcast asks the database.
pub(crate) fn catalog(cluster: &Cluster) -> Catalog {
    let url = cluster.url("postgres");
    let info = ConnInfo::parse_with(&url, |name| (name == "USER").then(|| "postgres".into()));
    Catalog::new(info.unwrap()).with_publications(vec![publication()])
}

fn publication() -> Publication {
    Publication::new("pub").unwrap()
}

/// The table as walcast finds it.
pub(crate) fn relation(cluster: &Cluster) -> Relation {
    let mut catalog = catalog(cluster);
    let relation = catalog.tables(&[publication()]).unwrap().pop().unwrap();
    // All that predicates may depend on.
    for column in &relation.columns {
        let of_type = match &column.ty.kind {
            Kind::Citext(ctype) => ctype.collation_question(),
            _ => None,
        };
        for question in [
            of_type,
            column.ctype.collation_question(),
            column.collation.collation_question(),
        ]
        .iter()
        .flatten()
        {
            catalog.learn(question).unwrap();
        }
    }
    relation
}

pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace("''", "'").replace('\'', "''"))
}

/// The table's definition and random rows.
pub(crate) fn table(rng: &mut fastrand::Rng) -> String {
    let definitions: Vec<String> = columns()
        .map(|spec| format!("\"{}\" {}", spec.name.replace('"', "\"\""), spec.ty))
        .collect();
    let mut sql = format!(
        "DROP TABLE IF EXISTS t; DROP TYPE IF EXISTS mood; DROP PUBLICATION IF EXISTS pub;
         CREATE EXTENSION IF NOT EXISTS citext; DROP DOMAIN IF EXISTS insensitive; CREATE DOMAIN insensitive AS citext;
         CREATE TYPE mood AS ENUM ('ok', 'sad', 'Odd ''label'''); ALTER TYPE mood ADD VALUE 'happy' BEFORE 'sad';
         CREATE TABLE t ({}); CREATE PUBLICATION pub FOR TABLE t;\n",
        definitions.join(", ")
    );
    for id in 0..ROWS {
        let values: Vec<String> = columns()
            .map(|spec| match spec.name {
                "id" => id.to_string(),
                name => literal(rng, name),
            })
            .collect();
        writeln!(sql, "INSERT INTO t VALUES ({});", values.join(", ")).unwrap();
    }
    sql
}

/// A random value of a column, now and then a null, but not in those that a unique index has.
pub(crate) fn literal(rng: &mut fastrand::Rng, name: &str) -> String {
    let spec = columns()
        .find(|spec| spec.name == name)
        .expect("the column exists");
    let is_indexed = matches!(name, "i4" | "tc" | "en");
    if !is_indexed && rng.u8(..8) == 0 {
        return "NULL".into();
    }
    quote(rng.choice(spec.pool).copied().unwrap_or("0"))
}
