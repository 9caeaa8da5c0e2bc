//! `[[source]]`: the flags of each of several databases.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::file::{is_given, key};
use crate::cli::WrongFlags;
use crate::config::{Errors, File, NamedSource, OF_ONE_DATABASE, SourceName};

/// Flags that a command needs, unless each `[[source]]` of the file has them.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Own<T>(Option<T>);

impl<T> Own<T> {
    /// The flags; `None` if the sources of the file have them.
    pub(in crate::cli) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T: FromArgMatches> FromArgMatches for Own<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Own<T>, clap::Error> {
        match T::from_arg_matches(matches) {
            Ok(flags) => Ok(Own(Some(flags))),
            // Where they are required, clap has said so before.
            Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => Ok(Own(None)),
            Err(error) => Err(error),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Own::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: Args> Args for Own<T> {
    fn augment_args(command: Command) -> Command {
        T::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

/// The flags of each source of a file: its own, and where it leaves one out that of `matches`, which holds for all.
///
/// # Errors
/// A source lacks one that it needs, or one that is about a single database was given for all.
pub(super) fn settled<T: Args>(
    file: &File,
    matches: &ArgMatches,
) -> Result<Vec<(SourceName, T)>, WrongFlags> {
    if file.sources.is_empty() {
        return Ok(Vec::new());
    }
    let definition = T::augment_args(Command::new("source"));
    for arg in definition.get_arguments().filter(|arg| !is_inherited(arg)) {
        if is_given(matches, arg) {
            return Err(WrongFlags(anyhow!(
                "--{}, or the variable of the environment, is about one database, and the file has several: each \
                 [[source]] has its own",
                arg.get_long().unwrap_or_default()
            )));
        }
    }
    let mut sources = Vec::new();
    let mut errors = Vec::new();
    for source in &file.sources {
        let needed = definition.get_arguments().filter(|arg| arg.is_required_set());
        let missing = needed.filter(|arg| texts(source, arg, matches).is_none());
        let missing: Vec<String> = missing.filter_map(key).collect();
        if !missing.is_empty() {
            let place = file.access.text.place(source.at.start);
            let what = format!("[[source]] {} needs {}", source.name.value, missing.join(", "));
            errors.push(file.access.error(place, what));
            continue;
        }
        let flags = matches_of(source, definition.clone(), matches);
        let flags = flags.and_then(|own| T::from_arg_matches(&own));
        sources.push((source.name.value.clone(), flags.map_err(WrongFlags::of_clap)?));
    }
    if errors.is_empty() {
        Ok(sources)
    } else {
        Err(WrongFlags(Errors(errors).into()))
    }
}

/// The flags of a source, as a command line with them would give them. Those that it lacks are not required.
pub(super) fn matches_of(
    source: &NamedSource,
    definition: Command,
    matches: &ArgMatches,
) -> Result<ArgMatches, clap::Error> {
    let with_value = |arg: Arg| {
        let texts = texts(source, &arg, matches);
        let arg = arg.required(false).env(None::<&'static str>);
        match texts {
            Some(texts) => arg.default_values(texts),
            None => arg,
        }
    };
    let definition = definition.mut_args(with_value);
    definition.try_get_matches_from(["source"])
}

/// True if what is given for all sources holds for each.
pub(super) fn is_inherited(arg: &Arg) -> bool {
    key(arg).is_none_or(|key| !OF_ONE_DATABASE.contains(&&*key))
}

/// The values of a flag, as they would stand on the command line; `None` if it has none.
fn texts(source: &NamedSource, arg: &Arg, matches: &ArgMatches) -> Option<Vec<OsString>> {
    let key = key(arg)?;
    if let Some(own) = source.value(&key) {
        return Some(own.texts.iter().map(OsString::from).collect());
    }
    if !is_inherited(arg) {
        return None;
    }
    let id = arg.get_id().as_str();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return Some(vec![matches.get_flag(id).to_string().into()]);
    }
    let values = matches.get_raw(id)?;
    // A journal belongs to one database.
    let of_source = |value: &std::ffi::OsStr| match &*key {
        "data_dir" => PathBuf::from(value).join(source.name.value.as_str()).into(),
        _ => value.to_owned(),
    };
    Some(values.map(of_source).collect())
}
