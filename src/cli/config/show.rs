//! `walcast config show`: the values that `serve` would use, and where each comes from.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command, CommandFactory};

use super::file::{beneath, flag, has, is_given, optional, with_flags};
use super::sources::{is_inherited, matches_of};
use crate::cli::Cli;
use crate::cli::serve::SourceArgs;
use crate::config::{AUTH_DEFAULTS, File, Flag, Kind, Section};

/// The values, as a configuration file of the same meaning.
///
/// # Errors
/// Those of the flags.
pub(super) fn text(file: Option<&File>, flags: &[OsString]) -> Result<String, clap::Error> {
    let none = File::default();
    let file = file.unwrap_or(&none);
    let definition = beneath(file, "serve").mut_subcommand("serve", optional);
    let matches = definition.try_get_matches_from(with_flags(flags))?;
    let mut text = String::new();
    // Flags are shown in the order of the help, which those with changed defaults are not in any more.
    let definition = Cli::command();
    let command = definition.find_subcommand("serve");
    if let (Some(command), Some(own)) = (command, matches.subcommand_matches("serve")) {
        let of_source = SourceArgs::augment_args(Command::new("source"));
        for arg in command.get_arguments().chain(definition.get_arguments()) {
            if let Some(flag) = flag(arg).filter(|_| file.sources.is_empty() || !has(&of_source, arg)) {
                write_flag(&mut text, &flag, own, arg, origin_of(file, arg, own, &flag));
            }
        }
        if !file.sources.is_empty() {
            for arg in of_source.get_arguments().filter(|arg| !is_inherited(arg)) {
                if let Some(flag) = flag(arg).filter(|_| is_given(own, arg)) {
                    let origin = origin_of(file, arg, own, &flag).unwrap_or_default();
                    let key = &flag.key;
                    let _ = writeln!(
                        text,
                        "#{key} is refused by serve: each [[source]] has its own  # {origin}"
                    );
                }
            }
        }
        for source in &file.sources {
            let name = &source.name;
            let _ = writeln!(text, "\n[[source]]  # {}", origin(file, source.at.start));
            let _ = writeln!(
                text,
                "name = {}  # {}",
                quoted(name.value.as_str()),
                origin(file, name.at.start)
            );
            let values = matches_of(source, of_source.clone(), own)?;
            for arg in of_source.get_arguments() {
                let Some(flag) = flag(arg) else { continue };
                let origin = match source.value(&flag.key) {
                    Some(own) => Some(origin(file, own.at.start)),
                    None if is_inherited(arg) => origin_of(file, arg, own, &flag),
                    None => None,
                };
                write_flag(&mut text, &flag, &values, arg, origin);
            }
        }
    }
    for section in &file.sections {
        write_section(&mut text, file, section);
    }
    Ok(text)
}

/// The flags that `serve` needs and that have no value.
///
/// # Errors
/// Those of the flags.
pub(super) fn missing(file: &File, flags: &[OsString]) -> Result<Vec<String>, clap::Error> {
    let definition = beneath(file, "serve");
    let needed = definition.find_subcommand("serve").into_iter();
    let needed = needed
        .flat_map(Command::get_arguments)
        .filter(|arg| arg.is_required_set());
    let lenient = definition.clone().mut_subcommand("serve", optional);
    let matches = lenient.try_get_matches_from(with_flags(flags))?;
    let own = matches.subcommand_matches("serve");
    let has_value = |arg: &&Arg| own.is_some_and(|own| own.value_source(arg.get_id().as_str()).is_some());
    let missing = needed.filter(|arg| !has_value(arg)).filter_map(flag);
    Ok(missing.map(|flag| flag.key).collect())
}

/// The place that a flag's value comes from; `None` if it has none.
fn origin_of(file: &File, arg: &Arg, own: &ArgMatches, flag: &Flag) -> Option<String> {
    let variable = arg.get_env().map(|name| name.display().to_string());
    Some(
        match (own.value_source(arg.get_id().as_str())?, file.value(&flag.key)) {
            (ValueSource::CommandLine, _) => "command line".to_owned(),
            (ValueSource::EnvVariable, _) => variable.unwrap_or_default(),
            (_, Some(value)) => origin(file, value.at.start),
            (_, None) => "default".to_owned(),
        },
    )
}

/// Writes a line for a flag: a comment if it has no value, or one that may not be shown.
fn write_flag(text: &mut String, flag: &Flag, own: &ArgMatches, arg: &Arg, origin: Option<String>) {
    let id = arg.get_id().as_str();
    let Some(origin) = origin else {
        // Writing to a string does not fail.
        let _ = writeln!(text, "#{} is not set", flag.key);
        return;
    };
    let raw = own.get_raw(id).into_iter().flatten();
    let raw: Vec<String> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
    let raw = raw.join(",");
    let _ = match flag.kind {
        _ if flag.is_secret => writeln!(text, "#{} is hidden  # {origin}", flag.key),
        Kind::Switch => {
            let is_on = own.get_flag(id);
            writeln!(text, "{} = {is_on}  # {origin}", flag.key)
        }
        Kind::Number => writeln!(text, "{} = {raw}  # {origin}", flag.key),
        Kind::Size | Kind::Path | Kind::Text => {
            writeln!(text, "{} = {}  # {origin}", flag.key, quoted(&raw))
        }
    };
}

fn write_section(text: &mut String, file: &File, section: &Section) {
    let _ = writeln!(text, "\n{}  # {}", section.header, origin(file, section.at.start));
    let has = |key: &str| {
        section
            .values
            .iter()
            .any(|(known, at)| *known == key && at.is_some())
    };
    for (key, at) in &section.values {
        if let Some(at) = at {
            let written = file.access.text.written(at);
            let _ = writeln!(text, "{key} = {written}  # {}", origin(file, at.start));
        } else if let Some((_, default)) = AUTH_DEFAULTS.iter().find(|(known, _)| known == key)
            && (*key != "jwks_refresh" || has("jwks_url"))
        {
            let _ = writeln!(text, "{key} = {}  # default", quoted(default));
        }
    }
}

/// The place of a byte of the file, as in `walcast.toml:3`.
fn origin(file: &File, offset: usize) -> String {
    let source = &file.access.text;
    format!("{}:{}", source.path().display(), source.place(offset).line)
}

/// A text as a TOML string (TOML 1.0, chapter "String").
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\t' => quoted.push('\t'),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
