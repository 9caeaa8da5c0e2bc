//! [`FileText`]: the text of a file, and places in it.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::spanned::Spanned;
use super::string;

/// A file's path and its text, which may hold passwords and is never shown.
#[derive(Clone, Default)]
pub struct FileText {
    path: PathBuf,
    text: String,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
}

impl FileText {
    pub(super) fn new(path: &Path, text: &str) -> FileText {
        FileText {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The path of the file, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The place of a byte of the file.
    pub fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        // A byte order mark is no character of the first line.
        let before = before.strip_prefix('\u{FEFF}').unwrap_or(before);
        let line = before.rsplit('\n').next().unwrap_or(before);
        Place {
            line: 1 + before.matches('\n').count(),
            column: 1 + line.chars().count(),
        }
    }

    /// The place of a byte of a string's value, such as the one at which a predicate cannot be read. Escapes and
    /// strings of several lines are counted as they are written.
    pub fn place_in(&self, string: &Spanned<String>, offset: usize) -> Place {
        self.place(string.at.start + string::written_offset(self.written(&string.at), offset))
    }

    /// The text of a section's value as it is written, quotes included. (Sections hold no secrets; flags may.)
    pub fn written(&self, at: &Range<usize>) -> &str {
        self.text.get(at.clone()).unwrap_or_default()
    }

    /// A path of the file: relative ones are so to its directory.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        match self.path.parent() {
            Some(directory) => directory.join(path),
            None => PathBuf::from(path),
        }
    }
}

impl fmt::Debug for FileText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileText").field(&self.path).finish()
    }
}
