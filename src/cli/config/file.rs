//! `--config`: the values of a file, below those of the command line and the environment.
//!
//! The file gives flags their defaults, before clap reads the command line: so each value goes through the parser of
//! its flag, and the order of precedence is clap's own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, CommandFactory, FromArgMatches, ValueHint};

use super::sources::settled;
use crate::cli::{Cli, WrongFlags, serve};
use crate::config::{self, Access, Flag, Kind, NamedSource, SourceName};
use crate::postgres::ConnInfo;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration file that was read.
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) file: config::File,
    /// The flags that the command was given.
    matches: ArgMatches,
    /// The keys whose values come from the command line or the environment instead.
    overruled: BTreeSet<String>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what the command was given, which may hold a password.
        f.debug_struct("Loaded")
            .field("path", &self.path)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// The reason why a command line cannot be followed.
#[derive(Debug)]
pub(in crate::cli) enum Refused {
    /// In clap's words, which may be its help.
    Flags(clap::Error),
    /// The file.
    File(WrongFlags),
}

impl From<clap::Error> for Refused {
    fn from(error: clap::Error) -> Refused {
        Refused::Flags(error)
    }
}

/// Parses the command line, with the values of the file that it names.
pub(in crate::cli) fn parse(arguments: &[OsString]) -> Result<Cli, Refused> {
    use clap::Parser;
    let Some((command, path)) = named(arguments) else {
        return Ok(Cli::try_parse_from(arguments)?);
    };
    let file = read(&path).map_err(|error| Refused::File(WrongFlags(error)))?;
    let mut definition = beneath(&file, &command);
    let matches = definition.clone().try_get_matches_from(arguments)?;
    let overruled = given(&matches);
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut definition))?;
    let own = matches.subcommand_matches(&command);
    cli.loaded = Some(Loaded {
        path,
        file,
        matches: own.cloned().unwrap_or_default(),
        overruled,
    });
    Ok(cli)
}

impl Loaded {
    /// The flags of `serve` that the file and the environment give, if nothing that it needs is missing.
    pub(in crate::cli) fn serve(&self) -> Result<Option<Served>, WrongFlags> {
        serve(&self.file, &[])
    }

    /// The flags of each `[[source]]`: its own, and for those that it leaves out the command's.
    pub(in crate::cli) fn sources<T: clap::Args>(&self) -> Result<Vec<(SourceName, T)>, WrongFlags> {
        settled(&self.file, &self.matches)
    }

    /// Reads the file again. Returns who may see what by it, and the flags that it gives other values than at the
    /// start.
    pub(in crate::cli) fn reread(&self) -> anyhow::Result<(Arc<Access>, BTreeSet<String>)> {
        let file = read(&self.path)?;
        let keys = self
            .file
            .values
            .iter()
            .chain(&file.values)
            .map(|value| &value.key);
        let changed = keys.filter(|key| self.file.texts(key) != file.texts(key));
        let counts = |key: &&String| !self.overruled.contains(*key);
        let mut changed: BTreeSet<String> = changed.filter(counts).cloned().collect();
        let sources = self.file.sources.iter().chain(&file.sources);
        for name in sources.map(|source| &source.name.value) {
            if self.file.source(name).map(NamedSource::texts) != file.source(name).map(NamedSource::texts) {
                changed.insert(format!("[[source]] {name}"));
            }
        }
        Ok((file.access, changed))
    }
}

/// The flags of `serve`, and those of each `[[source]]`.
#[derive(Debug)]
pub(in crate::cli) struct Served {
    pub(in crate::cli) args: serve::Args,
    pub(in crate::cli) sources: Vec<(SourceName, serve::SourceArgs)>,
}

/// The flags of `serve` that a file, the environment and a command line give, if nothing that it needs is missing.
pub(super) fn serve(file: &config::File, flags: &[OsString]) -> Result<Option<Served>, WrongFlags> {
    let matches = match beneath(file, "serve").try_get_matches_from(with_flags(flags)) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => return Ok(None),
        Err(error) => return Err(WrongFlags::of_clap(error)),
    };
    let Some(own) = matches.subcommand_matches("serve") else {
        return Ok(None);
    };
    Ok(Some(Served {
        sources: settled(file, own)?,
        args: serve::Args::from_arg_matches(own).map_err(WrongFlags::of_clap)?,
    }))
}

/// The command line of `serve` with these flags.
pub(super) fn with_flags(flags: &[OsString]) -> impl Iterator<Item = OsString> {
    let command = ["walcast", "serve"].map(OsString::from);
    command.into_iter().chain(flags.iter().cloned())
}

/// The command that a command line means and the file that it names, also where flags are missing that the file may
/// have. `None` if there is no file, or if the command line is wrong anyway, or asks for help.
fn named(arguments: &[OsString]) -> Option<(String, PathBuf)> {
    let lenient = Cli::command().mut_subcommands(optional);
    let matches = lenient.try_get_matches_from(arguments).ok()?;
    let (command, matches) = matches.subcommand()?;
    let path = matches.try_get_one::<PathBuf>("config").ok()??;
    Some((command.to_owned(), path.clone()))
}

/// The command line's definition with a file's values as the defaults of `command`.
pub(super) fn beneath(file: &config::File, command: &str) -> Command {
    let with = |mut owner: Command| {
        for value in &file.values {
            let id = owner
                .get_arguments()
                .find(|arg| key(arg) == Some(value.key.clone()));
            let Some(id) = id.map(|arg| arg.get_id().clone()) else {
                continue;
            };
            owner = owner.mut_arg(id, |arg| arg.required(false).default_values(&value.texts));
        }
        if !file.sources.is_empty() {
            // What is about a database may stand in each of them.
            owner = optional(owner);
        }
        owner
    };
    with(Cli::command().mut_subcommand(command, with))
}

/// The keys that the command line or the environment has values for.
fn given(matches: &ArgMatches) -> BTreeSet<String> {
    let cli = Cli::command();
    let Some((name, own)) = matches.subcommand() else {
        return BTreeSet::new();
    };
    let is_given = |arg: &&Arg| is_given(own, arg);
    let command = cli.find_subcommand(name).into_iter();
    let arguments = command
        .flat_map(Command::get_arguments)
        .chain(cli.get_arguments());
    arguments.filter(is_given).filter_map(key).collect()
}

/// Reads a file.
pub(super) fn read(path: &Path) -> anyhow::Result<config::File> {
    let reading = || format!("cannot read {} (--config)", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(reading)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(reading)?;
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_BYTES,
        "{} is larger than 1MiB (--config)",
        path.display()
    );
    let text = String::from_utf8(bytes).map_err(|error| {
        let readable = error.as_bytes().get(..error.utf8_error().valid_up_to());
        let lines = readable.unwrap_or_default().split(|&byte| byte == b'\n').count();
        anyhow::anyhow!("{}:{lines}: not UTF-8 (--config)", path.display())
    })?;
    let checker = checker();
    Ok(config::read(path, &text, &flags(), |flag, text| {
        check(&checker, flag, text)
    })?)
}

/// The flags of `serve` that can stand in a file: all but the one that names it.
pub(super) fn flags() -> Vec<Flag> {
    let of_source = serve::SourceArgs::augment_args(Command::new("source"));
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve");
    let arguments = serve
        .into_iter()
        .flat_map(Command::get_arguments)
        .chain(cli.get_arguments());
    let flag = |arg: &Arg| {
        let flag = flag(arg)?;
        Some(Flag {
            is_of_source: has(&of_source, arg),
            ..flag
        })
    };
    arguments.filter_map(flag).collect()
}

/// A flag as it can stand in a file; `None` for the one that names the file.
pub(super) fn flag(arg: &Arg) -> Option<Flag> {
    Some(Flag {
        key: key(arg)?,
        kind: kind(arg),
        is_list: matches!(arg.get_action(), ArgAction::Append),
        is_secret: arg.is_hide_env_values_set(),
        is_of_source: false,
    })
}

/// True if a command has a flag.
pub(super) fn has(command: &Command, flag: &Arg) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == flag.get_id())
}

/// The command without a flag that is required: what is missing may stand elsewhere.
pub(super) fn optional(command: Command) -> Command {
    command.mut_args(|arg| arg.required(false))
}

/// True if the command line or the environment has a value for a flag.
pub(super) fn is_given(matches: &ArgMatches, flag: &Arg) -> bool {
    let source = matches.value_source(flag.get_id().as_str());
    matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

/// The name that a flag has in the file.
pub(super) fn key(arg: &Arg) -> Option<String> {
    let name = arg.get_long().filter(|name| *name != "config")?;
    Some(name.replace('-', "_"))
}

fn kind(arg: &Arg) -> Kind {
    let name = arg.get_value_names().and_then(|names| names.first());
    match (
        arg.get_action(),
        arg.get_value_hint(),
        name.map(|name| name.as_str()),
    ) {
        (ArgAction::SetTrue, _, _) => Kind::Switch,
        (_, ValueHint::AnyPath, _) => Kind::Path,
        (_, _, Some("N")) => Kind::Number,
        (_, _, Some("SIZE")) => Kind::Size,
        _ => Kind::Text,
    }
}

/// The definition of `serve` for one flag at a time: nothing is required, and the environment does not count.
fn checker() -> Command {
    let alone = |command: Command| {
        command
            .disable_help_flag(true)
            .mut_args(|arg| arg.required(false).env(None::<&'static str>))
    };
    alone(Cli::command()).mut_subcommand("serve", alone)
}

/// Gives a value to the parser of its flag.
fn check(checker: &Command, flag: &Flag, text: &str) -> Result<(), String> {
    if flag.kind == Kind::Switch {
        return Ok(());
    }
    // Kept as it is written, since clap would repeat it: it may have a password in it.
    if matches!(&*flag.key, "database_url" | "snapshot_url") {
        return ConnInfo::parse(text)
            .map(drop)
            .map_err(|error| format!("{error:#}"));
    }
    let argument = format!("--{}={text}", flag.key.replace('_', "-"));
    let error = match checker
        .clone()
        .try_get_matches_from(["walcast", "serve", &argument])
    {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) => Err(format!("write one of {}", valid.join(", "))),
            _ => Err("write a value that is not empty".into()),
        },
        ErrorKind::ValueValidation => match std::error::Error::source(&error) {
            Some(why) => Err(why.to_string()),
            None => Err("this is no value of it".into()),
        },
        // Of flags that go together, or are missing: the command line as a whole says so.
        _ => Ok(()),
    }
}
