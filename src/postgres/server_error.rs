//! [`ServerError`]: an error or a notice in the server's own words.

use std::fmt;

/// An error or a notice in the server's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`, or `WARNING`, `NOTICE` and so on; untranslated.
    pub severity: String,
    /// The SQLSTATE (documentation, appendix "PostgreSQL Error Codes"), `42704` for example.
    pub code: String,
    /// The problem.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// The cure.
    pub hint: Option<String>,
    /// The place where it happened, for example in which callback of the output plugin.
    pub context: Option<String>,
    /// The server's function that says so, where the code leaves open which error it is. Unlike the words it is the
    /// same under every `lc_messages`.
    pub routine: Option<String>,
}

impl ServerError {
    /// The error in words that hold no value of a row: without detail and context, and, where the message itself is about
    /// a value, without that. For errors of statements that read rows.
    pub fn without_values(&self) -> String {
        let class = self.code.get(..2).unwrap_or_default();
        // Data exceptions, violated constraints, and what functions of others say.
        if matches!(class, "22" | "23" | "38" | "39" | "44" | "P0") {
            let routine = self.routine.as_deref().unwrap_or("an unknown routine");
            format!(
                "{} {} in {routine}; its words may hold a row's values",
                self.severity, self.code
            )
        } else {
            format!("{} {}: {}", self.severity, self.code, one_line(&self.message))
        }
    }
}

impl std::error::Error for ServerError {}

impl fmt::Display for ServerError {
    /// Prints one line: the message with its code, then detail, hint and context if there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [severity, code, message] =
            [&self.severity, &self.code, &self.message].map(|part| one_line(part));
        write!(f, "{severity} {code}: {message}")?;
        let parts = [
            ("detail", &self.detail),
            ("hint", &self.hint),
            ("context", &self.context),
        ];
        for (name, text) in parts {
            if let Some(text) = text {
                write!(f, "; {name}: {}", one_line(text))?;
            }
        }
        Ok(())
    }
}

/// The most characters of a part of it that are told.
const MOST_CHARS: usize = 2_000;

/// A part of it on one line, without characters that a terminal acts upon, and cut if it is long.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut letters = text.chars();
    for letter in letters.by_ref().take(MOST_CHARS) {
        match letter {
            '\n' | '\r' | '\t' => line.push(' '),
            letter if letter.is_control() => line.extend(letter.escape_default()),
            letter => line.push(letter),
        }
    }
    if letters.next().is_some() {
        line.push_str(&format!("… ({} bytes)", text.len()));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_server_says_is_one_line_of_bounded_length_that_no_terminal_acts_upon() {
        let error = ServerError {
            severity: "FATAL".to_owned(),
            code: "XX000".to_owned(),
            message: "a\r\nb\u{1b}[2Jc\u{9b}d\u{7}".to_owned(),
            detail: Some("é".repeat(8_000_000)),
            ..ServerError::default()
        };
        let told = error.to_string();
        assert!(
            told.starts_with("FATAL XX000: a  b\\u{1b}[2Jc\\u{9b}d\\u{7}; detail: éé"),
            "{told:.100}"
        );
        assert!(told.ends_with("é… (16000000 bytes)"));
        assert!(told.chars().count() < MOST_CHARS + 200);
    }

    #[test]
    fn an_error_is_told_without_a_value_of_a_row() {
        let error = |code: &str, message: &str| ServerError {
            severity: "ERROR".to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            detail: Some("SECRET".to_owned()),
            hint: Some("SECRET".to_owned()),
            context: Some("JSON data, line 1: SECRET".to_owned()),
            routine: Some("json_ereport_error".to_owned()),
        };
        let told = error("22P02", "invalid input syntax for type integer: \"SECRET\"").without_values();
        assert!(
            told.contains("22P02 in json_ereport_error") && !told.contains("SECRET"),
            "{told}"
        );
        let told = error("42501", "permission denied for table t").without_values();
        assert_eq!(told, "ERROR 42501: permission denied for table t");
        for code in ["23505", "P0001", "38000", ""] {
            assert!(!error(code, "m").without_values().contains("SECRET"));
        }
    }
}
