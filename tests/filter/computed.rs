//! Random values that functions, casts and arithmetic make of columns, and conditions on them.

use crate::predicates::Generator;
use crate::table::quote;

const NUMBERS: &[&str] = &["i2", "i4", "i8", "n", "f8", "i4", "i2"];
const TEXTS: &[&str] = &["tx", "ct", "tn"];

impl Generator<'_> {
    /// A condition on what is computed.
    pub(crate) fn computed(&mut self) {
        match self.rng.u32(..12) {
            // Two collations that are neither the database's are an error there.
            11 => {
                let text = self.pick(&["lower(tl)", "upper(tl)", "coalesce(tl, 'É')", "upper(lower(tl))"]);
                self.out.push(text);
                self.compare(
                    &["tl", "tx"],
                    &[" = ", " <> ", " IS DISTINCT FROM ", " LIKE ", " = "],
                );
            }
            0..3 => {
                let text = self.text_value(2);
                self.out.push(&text);
                self.compare(TEXTS, &[" = ", " <> ", " IS DISTINCT FROM ", " LIKE ", " = "]);
            }
            3..6 => {
                let number = self.number(2);
                self.out.push(&number);
                self.compare(NUMBERS, &["=", "<", ">=", "<>", " IS NOT DISTINCT FROM "]);
            }
            6 if self.one_in(2) => {
                let (column, constant) = self.pick(&[
                    ("tz", "now() - interval '2 mons'"),
                    ("tz", "now() - '60 days'::interval"),
                    ("ts", "now() - interval 'P59DT10H30M0.5S'"),
                    ("d", "current_date - 60"),
                    ("d", "now() - interval '1 mon'"),
                    ("ts", "current_date - interval '2 mons'"),
                    ("tz", "date_trunc('month', now() - interval '2 mons')"),
                    ("d", "date_trunc('month', current_date) - interval '1 day'"),
                    ("tz", "(now()::date - 60)"),
                    ("ts", "localtimestamp"),
                    ("tm", "localtime"),
                    ("tt", "current_time"),
                    ("iv", "now() - '2024-03-30'"),
                    ("i4", "current_date - '2024-03-30'::date"),
                    ("d", "coalesce(d, current_date - 60)"),
                    ("ts::date", "current_date - 60"),
                ]);
                let operator = self.pick(&[" = ", " < ", " >= ", " IS DISTINCT FROM ", " > "]);
                if self.one_in(2) {
                    self.out.clock(&format!("{column}{operator}{constant}"))
                } else {
                    self.out.clock(&format!("{constant}{operator}{column}"))
                }
            }
            6 => {
                let (value, family) = self.pick(&[
                    ("ts::date", &["d", "ts"][..]),
                    ("tz::date", &["d", "tz"]),
                    ("d::timestamp", &["ts", "d"]),
                    ("d::timestamptz", &["tz"]),
                    ("tz::timestamp", &["ts"]),
                    ("coalesce(d, ts)", &["ts", "tz"]),
                    ("coalesce(d, '2024-01-31')", &["d", "ts"]),
                    ("coalesce(ts, tz, d)", &["tz"]),
                    ("tn::date", &["d"]),
                    ("tn::timestamptz", &["tz"]),
                    ("tn::uuid", &["u"]),
                    ("coalesce(u, '00000000-0000-0000-0000-000000000000')", &["u"]),
                    ("coalesce(en, 'ok')", &["en"]),
                    ("coalesce(en, en2)", &["en"]),
                    ("coalesce(tm, '10:00')", &["tm"]),
                    ("coalesce(iv, iv2, '1 day')", &["iv"]),
                ]);
                self.out.push(value);
                self.compare(family, &["=", "<", ">=", "<>", " IS DISTINCT FROM "]);
            }
            7 => {
                let truth = self.pick(&[
                    "coalesce(b, false)",
                    "coalesce(b, b2)",
                    "coalesce(b, b2, true) IS NOT TRUE",
                    "i4::bool",
                    "tn::boolean",
                    "(jb->'a')::bool",
                    "(js->>'a')::bool",
                    "NOT coalesce(b2, false)",
                    "coalesce(b, 't') = b2",
                ]);
                self.out.push(truth);
            }
            8 => {
                let value = if self.one_in(2) {
                    self.number(1)
                } else {
                    self.text_value(1)
                };
                let test = self.pick(&[" IS NULL", " IS NOT NULL"]);
                self.out.push(&format!("({value}){test}"));
            }
            9 => {
                let text = self.text_value(1);
                let array = self.pick(&[
                    "ta",
                    "ARRAY['a', 'b']",
                    "ARRAY['É', NULL]",
                    "ARRAY['a'::text, 'x']",
                ]);
                self.out.push(&format!("{text} = ANY ({array})"));
            }
            _ => {
                let condition = self.pick(&[
                    "ta && ARRAY['a', 'x']",
                    "ta @> ARRAY['a']",
                    "ia @> ARRAY[1, -3]",
                    "i8a && ARRAY[1, 2]::int8[]",
                    "id = ANY (ARRAY[1, 2, 30])",
                    "ua && ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']::uuid[]",
                    "i4 = ANY (ARRAY[1, 2.5])",
                    "vc = ANY (ARRAY['a', 'b'])",
                    "ct = ANY (ARRAY['A', 'b'])",
                    "na = ARRAY[1.50, 'NaN']",
                    "i8a @> ARRAY[1, 2]",
                    "u = ANY (ARRAY['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'])",
                    "ta @> ARRAY[]::text[]",
                    "cta @> ARRAY['a']",
                    "tca = ARRAY['a', 'b']",
                ]);
                self.out.push(condition);
            }
        }
    }

    fn compare(&mut self, family: &[&'static str], operators: &[&str]) {
        let operator = self.pick(operators);
        self.out.push(operator);
        self.out.push(" ");
        match self.rng.u32(..4) {
            0 if operator != " LIKE " => {
                let other = match family {
                    NUMBERS => self.number(1),
                    TEXTS => self.text_value(1),
                    family => self.pick(family).to_owned(),
                };
                self.out.push(&other);
            }
            1 if operator == " LIKE " => self.out.push("'%a%'"),
            _ => {
                let name = self.pick(family);
                let text = match operator {
                    " LIKE " => "a%",
                    _ => self.literal_of(name),
                };
                if self.one_in(3) {
                    self.out.parameter(text)
                } else {
                    self.out.push(&quote(text))
                }
            }
        }
    }

    /// A value of a text.
    fn text_value(&mut self, depth: u32) -> String {
        if depth == 0 || self.one_in(6) {
            let texts = [
                "tx",
                "tc",
                "vc",
                "nm",
                "ct::text",
                "js->>'a'",
                "(jb->>'b')",
                "'É'",
                "jb #>> '{a,b}'",
            ];
            return self.pick(&texts).to_owned();
        }
        match self.rng.u32(..8) {
            0..2 => format!("lower({})", self.letters()),
            2..4 => format!("upper({})", self.letters()),
            4 => {
                let last = self.pick(&["a", "É", "", "1"]);
                format!("coalesce({}, {})", self.text_value(depth - 1), quote(last))
            }
            5 => "coalesce(tx, tn, 'none')".to_owned(),
            6 => format!("lower({})", self.text_value(depth - 1)),
            _ => format!("pg_catalog.upper( {} )", self.text_value(depth - 1)),
        }
    }

    /// The operands whose letters are folded.
    fn letters(&mut self) -> &'static str {
        self.pick(&[
            "tx", "tc", "vc", "nm", "bp", "ct", "ct2", "ctd", "en::text", "'ÀÉ'", "i4", "en",
        ])
    }

    /// A value of a number, most of them integers.
    fn number(&mut self, depth: u32) -> String {
        if depth == 0 {
            let numbers = ["i2", "i4", "i8", "id", "1", "2", "-3", "7", "i2", "NULL", "'5'"];
            return self.pick(&numbers).to_owned();
        }
        match self.rng.u32(..14) {
            0..5 => {
                let operator = self.pick(&["+", "-", "*", "/", "%", " % ", "*"]);
                let left = self.number(depth - 1);
                let right = self.number(depth - 1);
                // Without parentheses precedence decides; `--` would begin a comment, and `*-` is one operator.
                let right = if right.starts_with('-') {
                    format!("({right})")
                } else {
                    right
                };
                if self.one_in(3) {
                    format!("({left}){operator}({right})")
                } else {
                    format!("{left}{operator}{right}")
                }
            }
            5 => format!("- ({})", self.number(depth - 1)),
            6 => format!("coalesce({}, {})", self.number(depth - 1), self.number(depth - 1)),
            7 => {
                let of = self.pick(&["n", "f4", "f8", "i8", "n2"]);
                let to = self.pick(&[
                    "int",
                    "int2",
                    "bigint",
                    "real",
                    "float8",
                    "numeric",
                    "double precision",
                ]);
                format!("{of}::{to}")
            }
            8 | 9 => {
                let of = self.pick(&[
                    "tn",
                    "js->>'a'",
                    "jb->>'a'",
                    "(jb #>> '{a,b}')",
                    "tx",
                    "jb->>'b'",
                    "lower(tn)",
                    "coalesce(tn, '1')",
                ]);
                let to = self.pick(&["int", "bigint", "numeric", "smallint", "float8", "real"]);
                format!("({of})::{to}")
            }
            10 => {
                let to = self.pick(&["int", "numeric", "bigint", "float8"]);
                let of = self.pick(&["jb->'a'", "jb", "jb->0", "jb->'b'"]);
                format!("({of})::{to}")
            }
            11 => {
                let to = self.pick(&["int2", "bigint", "numeric", "float8"]);
                format!("({})::{to}", self.number(depth - 1))
            }
            12 => {
                let mixed = [
                    "b::int",
                    "coalesce(i4, 2.5)",
                    "coalesce(f4, n)",
                    "coalesce(i2, i8, 0)",
                    "coalesce(f8, i4)",
                ];
                self.pick(&mixed).to_owned()
            }
            _ => self.number(0),
        }
    }
}
