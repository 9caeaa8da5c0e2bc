//! Conditions on arrays and documents.

use super::*;

impl Generator<'_> {
    /// `… = ANY (…)`
    pub(super) fn any(&mut self, family: &[&'static str], column: &str) {
        let arrays = ARRAYS_OF.iter().find(|(first, _)| family.contains(first));
        let comparison = self.pick(&[" = ", "=", " = ", " <> ", " < ", " >= "]);
        match (arrays, self.rng.u32(..3)) {
            (Some((_, arrays)), 0 | 1) => {
                self.operand(family);
                self.out.push(comparison);
                let array = self.pick(arrays);
                self.out.push(&format!("ANY ({array})"));
            }
            _ => {
                self.column(column);
                self.out.push(comparison);
                self.out.push("ANY (");
                let items = self.items(family);
                if self.one_in(2) {
                    self.out.list(&items)
                } else {
                    // The same literal on both sides: quoted as the server quotes it.
                    let mut literal = Written::default();
                    literal.list(&items);
                    self.out.push(&literal.theirs);
                }
                self.out.push(")");
            }
        }
    }

    pub(super) fn items(&mut self, family: &[&'static str]) -> Vec<Option<String>> {
        let name = self.pick(family);
        let pool = spec(name).pool;
        let count = if self.one_in(12) {
            self.rng.usize(4..150)
        } else {
            self.rng.usize(..4)
        };
        (0..count)
            .map(|_| match self.rng.u32(..8) {
                0 => None,
                _ => Some(self.rng.choice(pool).copied().unwrap_or("7").replace("''", "'")),
            })
            .collect()
    }

    /// An operator between arrays.
    pub(super) fn arrays(&mut self) {
        let arrays: Vec<&Spec> = ARRAYS.iter().collect();
        let left = self.pick(&arrays);
        let alike: Vec<&Spec> = arrays.iter().filter(|spec| spec.ty == left.ty).copied().collect();
        let right = if self.one_in(20) {
            self.pick(&arrays)
        } else {
            self.pick(&alike)
        };
        let literal = self.rng.choice(right.pool).copied().unwrap_or("{}");
        let operator = self.pick(&[
            "@>",
            "<@",
            "&&",
            "=",
            "<>",
            "@>",
            "&&",
            "<",
            ">=",
            "IS DISTINCT FROM",
            "IS NOT DISTINCT FROM",
        ]);
        let swapped = self.one_in(4);
        if !swapped {
            self.out.push(&format!("{} {operator} ", left.name));
        }
        match self.rng.u32(..6) {
            0 if !swapped => self.out.push(right.name),
            1 if matches!(right.name, "ia" | "ia2" | "i8a" | "na" | "fa") => {
                // More than a word has bits, the same ones again, and now and then a null.
                let count = self.rng.usize(1..200);
                let most = self.pick(&[8, 90, 300]);
                let items: Vec<Option<String>> = (0..count)
                    .map(|_| (self.rng.u32(..400) > 0).then(|| self.rng.i32(-1..most).to_string()))
                    .collect();
                self.out.list(&items);
            }
            1 => self.out.parameter(literal),
            2 if right.oid != 0 && right.oid != 1014 => {
                let ty = right.ty.split(' ').next().unwrap_or_default();
                self.out.push(&format!("{}::{ty}", quote(literal)));
            }
            3 if self.one_in(4) => self.out.push("NULL"),
            _ => self.out.push(&quote(literal)),
        }
        if swapped {
            self.out.push(&format!(" {operator} {}", left.name));
        }
    }

    /// A part of a document, or all of one; whether it is text.
    pub(super) fn part(&mut self) -> (&'static Spec, bool) {
        let spec = &DOCUMENTS[self.rng.usize(..DOCUMENTS.len())];
        let mut text = spec.name.to_owned();
        let mut as_text = false;
        for _ in 0..self.rng.u32(..3) {
            as_text = self.one_in(2);
            let arrow = if as_text { "->>" } else { "->" };
            let step = match self.rng.u32(..8) {
                0 | 1 => format!("{arrow} {}", self.pick(&["0", "1", "-1", "2", "(-2)", "1::int8"])),
                2 => {
                    let path = self.pick(&[
                        "{a}", "{a,b}", "{a,1}", "{}", "{a,c,-1}", "{1,a}", "{0,1}", "{NULL}", "{é}",
                        "{a,b,c}", "{a,-1}", "{8,a,0}",
                    ]);
                    format!("{} {}", arrow.replace('-', "#"), quote(path))
                }
                3 if self.one_in(3) => format!("{arrow} NULL"),
                _ => format!("{arrow} '{}'", self.pick(&["a", "b", "c", "x", "é", "0", "A"])),
            };
            text = format!("{text}{}{step}", if self.one_in(2) { " " } else { "" });
            if as_text {
                break;
            }
        }
        if self.one_in(3) {
            text = format!("({text})");
        }
        if self.one_in(8) {
            text = format!("({text})::text");
            as_text = true;
        }
        self.out.push(&text);
        (spec, as_text)
    }

    pub(super) fn document(&mut self) {
        let (spec, as_text) = self.part();
        if self.one_in(8) {
            let test = self.pick(&[" IS NULL", " IS NOT NULL"]);
            return self.out.push(test);
        }
        if as_text {
            let texts = [
                "1", "x", "a", "{}", "true", "null", "[1, 2]", "é", "1.50", "2", "日本",
            ];
            match self.rng.u32(..6) {
                0 => {
                    let like = self.pick(&["LIKE", "ILIKE"]);
                    let pattern = self.pick(&["%", "_", "1%", "%x%", "[%", "É", "%X%", "T%"]);
                    self.out.push(&format!(" {like} {}", quote(pattern)));
                }
                1 => {
                    let list = [self.pick(&texts), self.pick(&texts)].map(quote).join(", ");
                    self.out.push(&format!(" IN ({list}, NULL)"));
                }
                2 => self.out.push(" = ANY (ta)"),
                3 => self.out.push(" <> tx"),
                4 => {
                    self.out.push(" IS NOT DISTINCT FROM ");
                    self.part();
                }
                _ => {
                    let comparison = self.pick(&[" = ", " <> ", " IS DISTINCT FROM "]);
                    self.out.push(comparison);
                    let text = self.pick(&texts);
                    if self.one_in(3) {
                        self.out.parameter(text)
                    } else {
                        self.out.push(&quote(text))
                    }
                }
            }
            return;
        }
        let operator = self.pick(&[
            " @> ",
            " @> ",
            " <@ ",
            " = ",
            " <> ",
            " ? ",
            " IS DISTINCT FROM ",
            " IS NOT DISTINCT FROM ",
            " < ",
        ]);
        self.out.push(operator);
        if operator == " ? " {
            return self
                .out
                .push(&quote(self.rng.choice(&["a", "b", "x", "é", "0", ""]).unwrap()));
        }
        let literal = match self.rng.u32(..3) {
            0 => self.pick(&[
                "1",
                "{\"b\": 1.00}",
                "[2, 1]",
                "\"x\"",
                "[\"a\"]",
                "{\"a\": {}}",
                "[]",
                "1.5",
                "[[]]",
                "{",
                "[9, 1, 8.0, 2, 7, 3, \"a\"]",
                "[1, 2, 3, 4, 5, 6, 1, 1.00, {\"a\": [3, 1, 2, 4, 5]}]",
                "[{\"a\": []}, {\"a\": [1]}, [2]]",
                "{\"a\": [5, 4, 3, 2, 1, true, null, \"x\"], \"b\": {}}",
            ]),
            _ => self.rng.choice(spec.pool).copied().unwrap_or("{}"),
        };
        match self.rng.u32(..6) {
            0 => drop(self.part()),
            1 => self.out.parameter(literal),
            2 => self.out.push(&format!("{}::jsonb", quote(literal))),
            _ => self.out.push(&quote(literal)),
        }
    }
}
