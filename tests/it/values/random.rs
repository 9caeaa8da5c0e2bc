//! [`Ty`]: a type, and SQL for random values of it.

use fastrand::Rng;

/// A type as the tests' schema has it.
#[derive(Clone)]
pub(super) enum Ty {
    /// One with values of these texts.
    Of(&'static str, &'static [&'static str]),
    /// One that any text of so many characters is a value of.
    Text(&'static str, usize),
    Numeric,
    /// `real` or `double precision`
    Float(&'static str),
    Array(Box<Ty>),
    /// A composite with these attributes.
    Composite(&'static str, Vec<Ty>),
    /// A domain over this.
    Domain(&'static str, Box<Ty>),
}

use Ty::{Array, Composite, Domain, Float, Numeric, Of, Text};

pub(super) fn array(element: Ty) -> Ty {
    Array(Box::new(element))
}

/// The alphabet of strings: whatever some level of quoting takes for its own.
const PIECES: [&str; 26] = [
    "a", "Z", "0", " ", ",", ";", "\"", "\\", "'", "{", "}", "(", ")", "[", "=>", "NULL", "\n", "\t", "\r",
    "\u{1}", "\u{8}", "\u{7f}", "é", "漢", "😀", "\u{2028}",
];

impl Ty {
    /// The type's name in SQL.
    pub(super) fn name(&self) -> String {
        match self {
            Of(name, _) | Text(name, _) | Float(name) | Composite(name, _) | Domain(name, _) => {
                (*name).to_owned()
            }
            Numeric => "numeric".to_owned(),
            Array(element) => format!("{}[]", element.name()),
        }
    }

    /// An expression for a random value, null now and then.
    pub(super) fn sql(&self, rng: &mut Rng) -> String {
        let name = self.name();
        if rng.u8(..8) == 0 {
            return format!("NULL::{name}");
        }
        match self {
            Of(_, texts) => {
                let text = rng.choice(*texts).copied().unwrap_or_default();
                format!("{}::{name}", quoted(text))
            }
            Text(_, longest) => format!("{}::{name}", quoted(&text(*longest, rng))),
            Numeric => format!("'{}'::numeric", numeric(rng)),
            Float(_) => format!("'{}'::{name}", float(name == "real", rng)),
            Array(element) => elements(element, &name, rng),
            Composite(_, attributes) => {
                let values: Vec<String> = attributes.iter().map(|ty| ty.sql(rng)).collect();
                format!("ROW({})::{name}", values.join(", "))
            }
            Domain(_, base) => format!("({})::{name}", base.sql(rng)),
        }
    }
}

/// An array: of one or two dimensions, with bounds from anywhere, or empty.
fn elements(element: &Ty, name: &str, rng: &mut Rng) -> String {
    let list = |rng: &mut Rng, count: usize| {
        let values: Vec<String> = (0..count).map(|_| element.sql(rng)).collect();
        format!("ARRAY[{}]::{name}", values.join(", "))
    };
    match rng.u8(..8) {
        0 => format!("'{{}}'::{name}"),
        1 => {
            let count = rng.usize(1..3);
            format!("ARRAY[{}, {}]", list(rng, count), list(rng, count))
        }
        2 => {
            let length = rng.i32(1..4);
            let bound = rng.i32(-3..4);
            let value = element.sql(rng);
            format!("pg_catalog.array_fill({value}, ARRAY[{length}, 1], ARRAY[{bound}, 7])::{name}")
        }
        _ => {
            let count = rng.usize(1..5);
            list(rng, count)
        }
    }
}

fn text(longest: usize, rng: &mut Rng) -> String {
    let count = rng.usize(..=longest.min(8));
    let mut text = String::new();
    for _ in 0..count {
        text += rng.choice(PIECES).unwrap_or_default();
    }
    text.chars().take(longest).collect()
}

fn numeric(rng: &mut Rng) -> String {
    let digits = |count: usize, rng: &mut Rng| -> String { (0..count).map(|_| rng.digit(10)).collect() };
    match rng.u8(..8) {
        0 => ["NaN", "Infinity", "-Infinity", "0", "-0.00"][rng.usize(..5)].to_owned(),
        1 => format!("{}e{}", rng.i64(..), rng.i32(-300..300)),
        _ => {
            let whole = rng.usize(1..60);
            let fraction = rng.usize(..60);
            let sign = if rng.bool() { "-" } else { "" };
            format!("{sign}{}.{}0", digits(whole, rng), digits(fraction, rng))
        }
    }
}

fn float(is_real: bool, rng: &mut Rng) -> String {
    match (rng.u8(..8), is_real) {
        (0, _) => ["NaN", "Infinity", "-Infinity", "-0", "1e-37", "123456789"][rng.usize(..6)].to_owned(),
        (_, true) => format!("{:e}", f32::from_bits(rng.u32(..0x7f00_0000))),
        (_, false) => format!("{:e}", f64::from_bits(rng.u64(..0x7fe0_0000_0000_0000))),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
