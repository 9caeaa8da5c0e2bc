//! [`Excerpt`]: what somebody else wrote, as a log line may have it.

use std::fmt::{self, Write};

/// The most characters of a client's text that a log line has.
pub const CLIENT_CHARS: usize = 200;

/// A text of a client's, or of the server about one, in a log line: on one line, whatever is in it, and not longer
/// than that.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a> {
    text: &'a str,
    most: usize,
}

impl<'a> Excerpt<'a> {
    /// The first [`CLIENT_CHARS`] of a client's text.
    pub fn new(text: &'a str) -> Excerpt<'a> {
        Excerpt::of(text, CLIENT_CHARS)
    }

    /// The first `most` characters.
    pub fn of(text: &'a str, most: usize) -> Excerpt<'a> {
        Excerpt { text, most }
    }
}

impl fmt::Display for Excerpt<'_> {
    /// Writes characters as they are, but for those that end a line, move the cursor or change the direction of what
    /// follows, which are written as in `\n`, `\u{1b}`. Of a text that is cut it says how long it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.text.chars();
        for letter in rest.by_ref().take(self.most) {
            if is_unsafe(letter) {
                write!(f, "{}", letter.escape_default())?
            } else {
                f.write_char(letter)?
            }
        }
        match rest.next() {
            Some(_) => write!(f, "… ({} bytes)", self.text.len()),
            None => Ok(()),
        }
    }
}

fn is_unsafe(letter: char) -> bool {
    // Line and paragraph separators, marks of direction, and what is not there to be seen.
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_its_line_and_within_its_bound() {
        for (text, shown) in [
            ("public.orders", "public.orders"),
            ("Bücher 📚", "Bücher 📚"),
            ("a\nERROR b\r\t\u{1b}[31m\0", "a\\nERROR b\\r\\t\\u{1b}[31m\\u{0}"),
            ("x\u{202e}y\u{2028}z\u{85}", "x\\u{202e}y\\u{2028}z\\u{85}"),
            ("x\u{61c}1", "x\\u{61c}1"),
            ("", ""),
        ] {
            assert_eq!(Excerpt::new(text).to_string(), shown);
        }
        let long = "é".repeat(CLIENT_CHARS);
        assert_eq!(Excerpt::new(&long).to_string(), long);
        let longer = long.clone() + "é";
        assert_eq!(Excerpt::new(&longer).to_string(), format!("{long}… (402 bytes)"));
    }
}
