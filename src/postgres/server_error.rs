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

impl std::error::Error for ServerError {}

impl fmt::Display for ServerError {
    /// Prints one line: the message with its code, then detail, hint and context if there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity, self.code, one_line(&self.message))?;
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

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r', '\t'], " ")
}
