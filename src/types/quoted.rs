//! [`Quoted`]: somebody's own text in an error about it.

use std::fmt;

/// The number of characters of a text that are repeated.
const MOST: usize = 60;

/// A text in quotes, escaped as by [`fmt::Debug`], and not the whole of it if it is long: an error must not be as large
/// as what it is about.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MOST) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}…", self.0.split_at(end).0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(Quoted("a\"b").to_string(), r#""a\"b""#);
        let most = "é".repeat(MOST);
        assert_eq!(Quoted(&most).to_string(), format!("\"{most}\""));
        assert_eq!(Quoted(&"é".repeat(50_000)).to_string(), format!("\"{most}\"…"));
    }
}
