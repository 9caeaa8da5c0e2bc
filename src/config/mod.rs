//! The configuration file: from its text to typed values, each of which knows its place in the text.
//!
//! Nothing here opens a file or asks a database: the text comes in, and out comes a [`File`], or all that is wrong with
//! it, each with line and column. Secrets never stand in the file; where a [`Flag`]'s value may hold one, no error and
//! no `Debug` shows it.

mod auth;
mod error;
mod fields;
mod file_text;
mod flag;
mod named_source;
mod policy;
mod section;
mod spanned;
mod string;
mod time;

use std::path::Path;
use std::sync::Arc;

pub use self::auth::{Auth, ClaimPath, Keys};
pub use self::error::{Error, Errors};
pub use self::file_text::{FileText, Place};
pub use self::flag::{Flag, Kind, Value};
pub use self::named_source::{NamedSource, SourceName};
pub use self::policy::{Grant, Policy, Rows, TableGrant, Tables};
pub use self::section::Section;
pub use self::spanned::Spanned;
pub use self::time::{time, time_or_none};

use self::error::Faults;
use self::fields::Fields;

/// A configuration file that was understood. The default is that of no file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// The values of flags, in the order of the file.
    pub values: Vec<Value>,
    /// Each `[[source]]`. Without any, [`values`](File::values) has those of the one database.
    pub sources: Vec<NamedSource>,
    /// The other sections as they are written: `[auth]`, if there is one, and each `[[policy]]`.
    pub sections: Vec<Section>,
    /// The access that callers have.
    pub access: Arc<Access>,
}

impl File {
    /// The value of a flag that holds for all; `None` if the file does not have it.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.iter().find(|value| value.key == key)
    }

    /// The texts of that value.
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        self.value(key).map(|value| &*value.texts)
    }

    /// The source of a name.
    pub fn source(&self, name: &SourceName) -> Option<&NamedSource> {
        self.sources.iter().find(|source| source.name.value == *name)
    }
}

/// The part of a configuration that says who may see what. The default is that of no file: everything is open.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The text that the places below lie in.
    pub text: FileText,
    /// `[auth]`; `None`: everything that is published is open.
    pub auth: Option<Auth>,
    /// Each `[[policy]]`, in the order of the file. There are none without [`auth`](Access::auth).
    pub policies: Vec<Policy>,
}

impl Access {
    /// The same for one source: the policies that are for it.
    pub fn of_source(&self, source: Option<&SourceName>) -> Access {
        let policies = self.policies.iter().filter(|policy| policy.is_for(source));
        Access {
            text: self.text.clone(),
            auth: self.auth.clone(),
            policies: policies.cloned().collect(),
        }
    }

    /// A fault of the file at a place.
    pub fn error(&self, place: Place, what: impl Into<String>) -> Error {
        Error {
            path: self.text.path().to_owned(),
            place,
            what: what.into(),
        }
    }
}

/// The flags that hold for one database alone: of those before the sections, no `[[source]]` takes them.
pub const OF_ONE_DATABASE: [&str; 2] = ["database_url", "snapshot_url"];

/// Reads a file's text. Its top level holds `flags`; a value that is of a flag's [`Kind`] is given to `check`, as it
/// would stand on the command line, which says what is wrong with it. Paths are taken from the directory of `path`.
///
/// # Errors
/// All that is wrong with it, in the order of the file. If it is no TOML, that alone.
pub fn read(
    path: &Path,
    text: &str,
    flags: &[Flag],
    check: impl Fn(&Flag, &str) -> Result<(), String>,
) -> Result<File, Errors> {
    let file = FileText::new(path, text);
    let (document, unreadable) = toml::de::DeTable::parse_recoverable(text);
    if !unreadable.is_empty() {
        return Err(Errors::of_toml(&file, &unreadable));
    }
    let mut faults = Faults::default();
    let mut values = Vec::new();
    let mut top = Fields::top(document.get_ref(), &mut faults);
    for flag in flags {
        values.extend(flag::read(flag, &mut top, &file, &check));
    }
    let auth = top.table("auth");
    let policies = top.tables("policy");
    let sources = top.tables("source");
    top.end(|key| {
        if auth::KEYS.contains(&key) {
            return Some("it belongs into [auth]");
        }
        let is_policys = policy::KEYS.contains(&key);
        is_policys.then_some("it belongs into a [[policy]]")
    });
    let is_flag = |key: &str| {
        let is_flag = flags.iter().any(|flag| flag.key == key);
        is_flag.then_some("flags stand before the first [section]")
    };
    let of_source: Vec<Flag> = flags.iter().filter(|flag| flag.is_of_source).cloned().collect();
    let sources = named_source::read_all(sources, &of_source, &file, &mut faults, &check, |key| {
        is_flag(key).map(|_| "it is for all sources: it stands before the first [section]")
    });
    if let Some(first) = sources.first() {
        for value in &values {
            if OF_ONE_DATABASE.contains(&&*value.key) {
                let what = format!(
                    "{}: it belongs into a [[source]], such as {}",
                    value.key, first.name.value
                );
                faults.add(&value.at, what);
            }
        }
    }
    let auth_section = auth
        .as_ref()
        .map(|table| Section::of("[auth]", table, &auth::KEYS));
    let policy_sections = policies
        .iter()
        .map(|table| Section::of("[[policy]]", table, &policy::KEYS));
    let sections = auth_section.into_iter().chain(policy_sections).collect();
    if let (None, Some(policy)) = (&auth, policies.first()) {
        let without = "policies need [auth]: without it everything that is published is open";
        faults.add(policy.at(), without);
    }
    let auth = auth.and_then(|table| auth::read(table, &file, &mut faults, is_flag));
    let policies = policies
        .into_iter()
        .filter_map(|table| policy::read(table, &sources, &mut faults, is_flag));
    let policies = policies.collect();
    faults.none(&file)?;
    values.sort_by_key(|value| value.at.start);
    Ok(File {
        values,
        sources,
        sections,
        access: Arc::new(Access {
            text: file,
            auth,
            policies,
        }),
    })
}

/// The keys of `[auth]` that have defaults, with these.
pub const AUTH_DEFAULTS: [(&str, &str); 3] = auth::DEFAULTS;

/// The names of the keys that sections have.
pub fn keys_of_sections() -> impl Iterator<Item = &'static str> {
    auth::KEYS.into_iter().chain(policy::KEYS)
}

#[cfg(test)]
mod tests;
