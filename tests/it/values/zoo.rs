//! Every type that there is: the SQL that makes the odd ones, and the columns of a table of all.

use super::random::Ty::{self, Composite, Domain, Float, Numeric, Of, Text};
use super::random::array;

/// The context of the types below. The type `unheard` stands for any extension's.
pub(super) const SCHEMA: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'so "so"', 'back\slash', '', 'ü');
    CREATE TYPE nothing AS ();
    CREATE TYPE single AS (v text);
    CREATE TYPE pair AS (gone int, n bigint, "odd ""näme\" text, also_gone text, at timestamptz, doc jsonb);
    ALTER TYPE pair DROP ATTRIBUTE gone, DROP ATTRIBUTE also_gone;
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN more_positive AS positive;
    CREATE DOMAIN numbers AS numeric[];
    CREATE DOMAIN shape AS box;
    CREATE DOMAIN shapes AS box[];
    CREATE DOMAIN pair_domain AS pair;
    CREATE TYPE deep AS (p pair, ps pair[], m mood, n numbers, s single, z nothing, d pair_domain, b box[]);
    CREATE TYPE deeper AS (d deep[], t text, f float8);
    CREATE TYPE pair_range AS RANGE (SUBTYPE = single);
    CREATE TABLE other_table (id int, gone int, note text, tags text[]);
    ALTER TABLE other_table DROP COLUMN gone;
    CREATE TYPE unheard;
    CREATE FUNCTION unheard_in(cstring) RETURNS unheard LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION unheard_out(unheard) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE unheard (INPUT = unheard_in, OUTPUT = unheard_out, LIKE = text, DELIMITER = '|');
"#;

/// Types that a server may lack, and what makes them.
pub(super) const OPTIONAL: [(&str, &str); 6] = [
    ("citext", "CREATE EXTENSION citext"),
    ("hstore", "CREATE EXTENSION hstore"),
    ("ltree", "CREATE EXTENSION ltree"),
    ("cube", "CREATE EXTENSION cube"),
    ("xml", "SELECT '<a/>'::xml"),
    ("int4multirange", "SELECT '{}'::int4multirange"),
];

const DOCUMENTS: &[&str] = &[
    "null",
    "true",
    r#""x\"\\\u00e9""#,
    "-1.50e3",
    "[]",
    "{}",
    r#"{"a": [1, {"b \\ \"": null}], "": "é漢"}"#,
    "[1,\n\t 2 ]",
];

/// The types with values of some texts.
const PLAIN: &[(&str, &[&str])] = &[
    ("bool", &["t", "f"]),
    ("int2", &["0", "-32768", "32767"]),
    ("int4", &["7", "-2147483648", "2147483647"]),
    ("int8", &["1", "-9223372036854775808", "9223372036854775807"]),
    ("numeric(8,3)", &["-12345.678", "0", "NaN"]),
    ("money", &["0", "12.50", "-1234567.89"]),
    ("\"char\"", &["a", "", "\\", "\""]),
    ("bytea", &["", "\\x00ff", "\\x5c22"]),
    (
        "date",
        &[
            "2024-02-29",
            "0044-03-15 BC",
            "infinity",
            "-infinity",
            "5874897-12-31",
        ],
    ),
    ("time", &["00:00", "23:59:59.999999", "24:00"]),
    ("timetz", &["12:00+02", "00:00:00.5-15:59:59", "24:00Z"]),
    (
        "timestamp",
        &[
            "2024-02-29 23:59:59.000001",
            "0044-03-15 12:00 BC",
            "infinity",
            "-infinity",
            "294276-12-31",
        ],
    ),
    (
        "timestamptz",
        &[
            "2024-02-29 23:59:59.1+05:30",
            "0044-03-15 12:00Z BC",
            "infinity",
            "1800-01-01 00:00+00:19:32",
        ],
    ),
    (
        "interval",
        &[
            "0",
            "-1 year 2 mons -3 days 04:05:06.789",
            "1000 hours",
            "1 mon -00:00:00.000001",
        ],
    ),
    ("uuid", &["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
    ("json", DOCUMENTS),
    ("jsonb", DOCUMENTS),
    ("xml", &["<a b=\"1\">&lt;\\</a>", "x", "<!-- ' -->"]),
    ("inet", &["10.0.0.1", "10.1.2.3/8", "::1", "2001:db8::/32"]),
    ("cidr", &["10.0.0.0/8", "::/0"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("bit(3)", &["101", "000"]),
    ("varbit", &["", "10110"]),
    ("int4range", &["empty", "[1,5)", "(,)", "[3,]"]),
    ("int8range", &["[1,9223372036854775807)"]),
    ("numrange", &["(1.50,2.5]", "[-infinity,infinity]"]),
    ("daterange", &["[2024-01-01,infinity)", "(,2024-01-01)"]),
    ("tsrange", &["[\"2024-01-01 10:00\",\"2024-01-02 10:00\")"]),
    ("tstzrange", &["[\"2024-01-01 10:00+03\",)"]),
    (
        "pair_range",
        &["[\"(\"\"a b\"\")\",\"(c)\"]", "[\"(a)\",\"(x)\"]"],
    ),
    ("int4multirange", &["{}", "{[1,3),[5,)}"]),
    ("tstzmultirange", &["{[2024-01-01 10:00+03,2024-01-02)}"]),
    ("point", &["(1,2)", "(NaN,-Infinity)", "(1e300,0.1)"]),
    ("line", &["{1,-1,0}"]),
    ("lseg", &["[(0,0),(1,1)]"]),
    ("box", &["(1,2),(3,4)"]),
    ("path", &["[(0,0),(1,1)]", "((0,0),(1,1))"]),
    ("polygon", &["((0,0),(1,1),(1,0))"]),
    ("circle", &["<(1,2),3>"]),
    ("tsvector", &["", "a:1A 'b ''c\\\\':2", "'\"'"]),
    ("tsquery", &["'a' & !'b c'", "'\\\\' <-> 'x'"]),
    ("oid", &["0", "4294967295"]),
    ("xid", &["7"]),
    ("xid8", &["18446744073709551615"]),
    ("tid", &["(1,2)"]),
    ("regclass", &["pg_catalog.pg_class", "other_table", "-"]),
    (
        "regtype",
        &["pair", "deep[]", "pg_catalog.int4", "double precision"],
    ),
    ("regproc", &["pg_catalog.textin"]),
    ("regprocedure", &["pg_catalog.abs(pg_catalog.int4)"]),
    ("regoperator", &["pg_catalog.+(pg_catalog.int4, pg_catalog.int4)"]),
    ("regrole", &["postgres"]),
    ("regnamespace", &["pg_catalog", "public"]),
    ("regconfig", &["english"]),
    ("pg_lsn", &["16/B374D848", "0/0"]),
    ("pg_snapshot", &["10:20:10,14,15"]),
    ("jsonpath", &["$.\"a b\"[*] ? (@ > 1)"]),
    ("int2vector", &["", "1", "3 -4 5"]),
    ("oidvector", &["", "1", "3 4"]),
    ("mood", &["sad", "so \"so\"", "back\\slash", "", "ü"]),
    ("positive", &["1", "7"]),
    ("more_positive", &["2147483647"]),
    ("shape", &["(1,2),(3,4)"]),
    ("shapes", &["{(1,2),(3,4);NULL}", "{}"]),
    ("numbers[]", &["{\"{1.50,NULL}\",NULL,\"{{1},{NaN}}\"}"]),
    ("shapes[]", &["{\"{(1,2),(3,4);NULL}\";NULL}"]),
    ("other_table", &["(1,\"a b\",\"{x,NULL}\")", "(,,)"]),
    (
        "hstore",
        &["", "a=>1, \"b \\\"\\\\ é\"=>NULL, \"\"=>\"\"", "n=>007, t=>true"],
    ),
    ("ltree", &["", "a.b_c.d"]),
    ("cube", &["(1, 2),(3, 4)", "(0)"]),
];

/// The types of the table's columns, without those that the server lacks.
pub(super) fn columns(lacking: &[&str]) -> Vec<Ty> {
    let of = |name: &str| {
        PLAIN
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(name, texts)| Of(name, texts))
    };
    let of = |name: &str| of(name).expect("it is listed");
    let mut scalars: Vec<Ty> = PLAIN.iter().map(|(name, texts)| Of(name, texts)).collect();
    scalars.extend([
        Numeric,
        Float("real"),
        Float("double precision"),
        Text("text", 40),
        Text("varchar(20)", 20),
        Text("char(12)", 12),
        Text("name", 15),
        Text("citext", 20),
        Text("unheard", 20),
    ]);
    let pair = Composite(
        "pair",
        vec![of("int8"), Text("text", 20), of("timestamptz"), of("jsonb")],
    );
    let single = Composite("single", vec![Text("text", 20)]);
    let deep = Composite(
        "deep",
        vec![
            pair.clone(),
            array(pair.clone()),
            of("mood"),
            Domain("numbers", Box::new(array(Numeric))),
            single.clone(),
            Composite("nothing", vec![]),
            Domain("pair_domain", Box::new(pair.clone())),
            array(of("box")),
        ],
    );
    let deeper = Composite(
        "deeper",
        vec![array(deep.clone()), Text("text", 20), Float("double precision")],
    );
    let composites = [
        pair.clone(),
        single.clone(),
        Composite("nothing", vec![]),
        Domain("pair_domain", Box::new(pair)),
        Domain("numbers", Box::new(array(Numeric))),
        deep,
        deeper,
    ];
    scalars.retain(|ty| {
        !lacking
            .iter()
            .any(|name| ty.name().contains(name.trim_start_matches("int4")))
    });
    let arrays = scalars.iter().chain(&composites[..4]).cloned();
    let arrays: Vec<Ty> = arrays
        .filter(|ty| !ty.name().ends_with("[]") && ty.name() != "shapes")
        .map(array)
        .collect();
    scalars.into_iter().chain(arrays).chain(composites).collect()
}
