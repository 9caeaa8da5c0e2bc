//! Random predicates of the supported language, and some a little outside it.

use std::fmt::Write;

use serde_json::Value as Json;

use crate::table::{ARRAYS, DOCUMENTS, SCALARS, Spec, quote};

mod nested;

/// A predicate in two spellings: ours may use parameters, theirs has the same literals in their place.
#[derive(Default)]
pub(crate) struct Written {
    pub(crate) ours: String,
    pub(crate) theirs: String,
    pub(crate) parameters: Vec<Json>,
}

impl Written {
    pub(crate) fn push(&mut self, text: &str) {
        self.ours.push_str(text);
        self.theirs.push_str(text);
    }

    /// A condition that depends on the clock, and the same by the literal that the clock is at.
    pub(crate) fn clock(&mut self, ours: &str) {
        self.ours.push_str(ours);
        self.theirs.push_str(&crate::clock::at_now(ours));
    }

    /// A parameter that is a list, and the literal of the same array.
    fn list(&mut self, items: &[Option<String>]) {
        let literal = items.iter().map(|item| match item {
            None => "NULL".to_owned(),
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        });
        let literal = literal.collect::<Vec<_>>().join(",");
        self.theirs
            .push_str(&format!("'{{{}}}'", literal.replace('\'', "''")));
        self.parameters.push(items.iter().cloned().collect());
        write!(self.ours, "${}", self.parameters.len()).unwrap();
    }

    pub(crate) fn parameter(&mut self, text: &str) {
        let text = text.replace("''", "'");
        self.theirs.push_str(&quote(&text));
        self.parameters.push(Json::String(text));
        write!(self.ours, "${}", self.parameters.len()).unwrap();
    }
}

const FAMILIES: &[&[&str]] = &[
    &["b", "b2"],
    &["i2", "i4", "i8", "n", "n2", "f4", "f8", "id"],
    &["tx", "tc", "vc", "nm"],
    &["bp"],
    &["ct", "ct2", "ctd"],
    &["ct", "ctd", "tl"],
    &["tl", "tx", "ct"],
    &["u"],
    &["d", "ts", "tz"],
    &["tm"],
    &["en", "en2"],
    &["by", "by2"],
    &["iv", "iv2"],
    &["tt", "tt2"],
    &["ip", "ci"],
    &["mac", "mac2"],
    &["mac8"],
    &["bits", "bit8"],
    &["lsn", "lsn2"],
];

/// The columns of arrays that go with each family, by its first column.
const ARRAYS_OF: &[(&str, &[&str])] = &[
    // First: the other texts' arrays have a collation of their own, too.
    ("tl", &["cta", "ta"]),
    ("b", &["ba"]),
    ("i2", &["ia", "ia2", "i8a", "na", "fa"]),
    ("tx", &["ta", "ta2", "tca"]),
    ("bp", &["bpa"]),
    ("ct", &["cta", "cta2", "ta"]),
    ("u", &["ua"]),
    ("d", &["da", "tza"]),
    ("en", &["ea"]),
    ("iv", &["iva"]),
    ("by", &["bya"]),
];

const CASTS: &[&str] = &[
    "int2", "int4", "int8", "numeric", "float4", "float8", "text", "varchar", "bigint",
];

const PATTERNS: &[&str] = &[
    "a", "A", "%", "%", "_", "é", "日", "b", " ", "\\\\", "\\%", "\\_", "''", "B", "x", "ab", "É", "i", "İ",
    "K", "\u{212a}", "σ", "Σ", "ǅ", "ß", "Ⱥ", "𐐀",
];

pub(crate) struct Generator<'a> {
    pub(crate) rng: &'a mut fastrand::Rng,
    pub(crate) out: Written,
}

impl Generator<'_> {
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *self.rng.choice(from).expect("nothing to choose from")
    }

    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    fn condition(&mut self, depth: u32) {
        let parentheses = self.one_in(3);
        if parentheses {
            self.out.push("(");
        }
        match self.rng.u32(..if depth == 0 { 5 } else { 9 }) {
            0..5 => self.leaf(),
            5 | 6 => {
                for i in 0..self.rng.u32(2..4) {
                    if i > 0 {
                        let joint = self.pick(&[" AND ", " OR ", " and "]);
                        self.out.push(joint);
                    }
                    self.condition(depth - 1);
                }
            }
            7 => {
                self.out.push("NOT ");
                self.condition(depth - 1);
            }
            _ => {
                self.out.push("(");
                self.condition(depth - 1);
                let test = self.pick(&[
                    "TRUE",
                    "FALSE",
                    "UNKNOWN",
                    "NOT TRUE",
                    "NOT FALSE",
                    "NOT UNKNOWN",
                    "NULL",
                ]);
                self.out.push(&format!(") IS {test}"));
            }
        }
        if parentheses {
            self.out.push(")");
        }
    }

    fn leaf(&mut self) {
        let family = if self.one_in(40) {
            // Any two types at all: most do not go together.
            // But two collations that are neither the database's are an error there for some rows.
            let names = SCALARS.iter().map(|spec| spec.name).filter(|name| *name != "tl");
            &names.collect::<Vec<_>>()[..]
        } else {
            self.pick(FAMILIES)
        };
        let column = self.pick(family);
        match self.rng.u32(..18) {
            14..18 => return self.computed(),
            0 => return self.like(),
            1 => return self.any(family, column),
            2 => return self.arrays(),
            3 | 4 => return self.document(),
            _ => {}
        }
        let is_bool = column == "b" || column == "b2";
        match self.rng.u32(..12) {
            0 => {
                self.column(column);
                let test = self.pick(&[" IS NULL", " IS NOT NULL"]);
                self.out.push(test);
            }
            1 if is_bool => self.column(column),
            2 if is_bool => {
                self.column(column);
                let test = self.pick(&[" IS TRUE", " IS NOT TRUE", " IS UNKNOWN", " IS NOT FALSE"]);
                self.out.push(test);
            }
            1 | 2 => {
                self.column(column);
                let distinct = self.pick(&[" IS DISTINCT FROM ", " IS NOT DISTINCT FROM "]);
                self.out.push(distinct);
                self.operand(family);
            }
            3 | 4 => {
                self.operand_or_column(family, column);
                let (head, separator, tail) = self.pick(&[
                    (" IN (", ", ", ")"),
                    (" NOT IN (", ",", ")"),
                    (" BETWEEN ", " AND ", ""),
                    (" NOT BETWEEN ", " AND ", ""),
                ]);
                self.out.push(head);
                let count = if tail.is_empty() {
                    2
                } else if self.one_in(12) {
                    self.rng.u32(5..80)
                } else {
                    self.rng.u32(1..5)
                };
                for i in 0..count {
                    if i > 0 {
                        self.out.push(separator);
                    }
                    self.operand(family);
                }
                self.out.push(tail);
            }
            _ => {
                self.operand_or_column(family, column);
                let comparison = self.pick(&["=", "<>", "!=", "<", "<=", ">", ">=", " = "]);
                self.out.push(comparison);
                // `!=-1` is one operator to Postgres.
                self.out.push(" ");
                self.operand(family);
                if self.one_in(12) {
                    self.out.push(" IS NOT TRUE");
                }
            }
        }
    }

    fn like(&mut self) {
        let name = self.pick(&[
            "tx", "tc", "vc", "nm", "bp", "en", "ct", "ct2", "ctd", "tl", "ct", "tl", "ct::text",
        ]);
        self.column(name);
        let like = self.pick(&[" LIKE ", " NOT LIKE ", " like ", " ILIKE ", " NOT ILIKE "]);
        self.out.push(like);
        let pieces = if self.one_in(10) {
            self.rng.usize(5..14)
        } else {
            self.rng.usize(..5)
        };
        let mut pattern: String = (0..pieces).map(|_| self.pick(PATTERNS)).collect();
        if self.one_in(3) {
            let wild = self.pick(&["", "%", "_"]);
            pattern = format!("{}{wild}", self.pick(spec("ct").pool));
        }
        match self.rng.u32(..4) {
            0 => self.out.parameter(&pattern),
            _ => self.out.push(&quote(&pattern)),
        }
        if self.one_in(4) {
            let escape = self.pick(&["", "a", "%", "_", "é", "\\", "ab"]);
            self.out.push(&format!(" ESCAPE {}", quote(escape)));
        }
    }

    fn operand_or_column(&mut self, family: &[&'static str], column: &str) {
        if self.one_in(12) {
            self.operand(family);
        } else {
            self.column(column);
        }
    }

    fn column(&mut self, name: &str) {
        let text = match self.rng.u32(..10) {
            0 => format!("\"{name}\""),
            1 => name.to_uppercase(),
            2 => format!("t.{name}"),
            3 => format!("(public.t.{name})"),
            4 if self.one_in(2) => {
                let to = self.pick(CASTS);
                format!("{name}::{to}")
            }
            5 if self.one_in(3) => format!("{name} COLLATE \"C\""),
            _ => name.to_owned(),
        };
        self.out.push(&text);
    }

    fn operand(&mut self, family: &[&'static str]) {
        let name = self.pick(family);
        if self.one_in(5) {
            return self.column(name);
        }
        let spec = spec(name);
        let text = self.rng.choice(spec.pool).copied().unwrap_or("7");
        let ty = spec.ty.split([' ', '(']).next().unwrap_or_default();
        let is_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
            && text.parse::<f64>().is_ok_and(f64::is_finite);
        match self.rng.u32(..12) {
            0 => self.out.push(if self.rng.bool() { "NULL" } else { "null" }),
            1 if spec.ty == "bool" => self.out.push("TRUE"),
            1..5 if is_number && !matches!(spec.oid, 19 | 25 | 1043 | 16) => self.out.push(text),
            5 if !matches!(
                spec.oid,
                0 | 19 | 1042 | 650 | 774 | 829 | 869 | 1560 | 1562 | 3220
            ) =>
            {
                self.out.push(&format!("{}::{ty}", quote(text)))
            }
            6 if !matches!(
                spec.oid,
                0 | 19 | 1042 | 650 | 774 | 829 | 869 | 1560 | 1562 | 3220
            ) =>
            {
                self.out.push(&format!("CAST({} AS {ty})", quote(text)))
            }
            7 if !matches!(
                spec.oid,
                0 | 19 | 1042 | 650 | 774 | 829 | 869 | 1560 | 1562 | 3220
            ) =>
            {
                self.out.push(&format!("{ty} {}", quote(text)))
            }
            8 | 9 => self.out.parameter(text),
            10 if self.one_in(6) => {
                let bad = self.pick(&[
                    "",
                    "abc",
                    "99999999999999999999",
                    "1.5",
                    "2024-13-01",
                    "o",
                    "1e500",
                    "\u{e9}",
                ]);
                self.out.push(&quote(bad));
            }
            _ => self.out.push(&quote(text)),
        }
    }
}

impl Generator<'_> {
    /// A literal for a column, unquoted.
    pub(crate) fn literal_of(&mut self, name: &str) -> &'static str {
        self.rng.choice(spec(name).pool).copied().unwrap_or("7")
    }
}

fn spec(name: &str) -> &'static Spec {
    let spec = SCALARS.iter().find(|spec| spec.name == name);
    spec.expect("the column exists")
}

pub(crate) fn predicate(rng: &mut fastrand::Rng) -> Written {
    let mut generator = Generator {
        rng,
        out: Written::default(),
    };
    generator.condition(2);
    generator.out
}
