//! [`Errors`]: all that is wrong with a file.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::file_text::{FileText, Place};

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}:{}: {what}", .path.display(), .place.line, .place.column)]
pub struct Error {
    /// The file.
    pub path: PathBuf,
    /// The place.
    pub place: Place,
    /// The fault, and what to do about it. It shows no value that could be a secret.
    pub what: String,
}

/// All that is wrong with a file: at least one thing, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Error>);

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl Errors {
    /// The errors of a text that is no TOML. Their messages have nothing of the text in them.
    pub(super) fn of_toml(file: &FileText, errors: &[toml::de::Error]) -> Errors {
        let mut faults = Faults::default();
        for error in errors {
            faults.add(
                &error.span().unwrap_or_default(),
                format!("no valid TOML: {}", error.message()),
            );
        }
        faults.into_errors(file)
    }
}

/// The faults that were found so far.
#[derive(Default)]
pub(super) struct Faults(Vec<(usize, String)>);

impl Faults {
    pub(super) fn add(&mut self, at: &Range<usize>, what: impl Into<String>) {
        self.0.push((at.start, what.into()));
    }

    /// Ends the reading of a file: an error if there was a fault.
    pub(super) fn none(self, file: &FileText) -> Result<(), Errors> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(self.into_errors(file))
    }

    fn into_errors(mut self, file: &FileText) -> Errors {
        self.0.sort();
        let errors = self.0.into_iter().map(|(offset, what)| Error {
            path: file.path().to_owned(),
            place: file.place(offset),
            what,
        });
        Errors(errors.collect())
    }
}
