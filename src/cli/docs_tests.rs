//! docs/operations.md names every flag with its default, every metric, every limit, and every event of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use super::Cli;
use crate::limit::Limit;
use crate::telemetry::Metrics;

const OPERATIONS: &str = include_str!("../../docs/operations.md");

#[test]
fn every_flag_is_documented_with_its_default_and_has_a_variable_of_its_name() {
    let cli = Cli::command();
    for command in cli.get_subcommands() {
        for flag in command.get_arguments().filter(|flag| !flag.is_positional()) {
            let name = flag.get_long().unwrap();
            let variable = format!("WALCAST_{}", name.replace('-', "_").to_uppercase());
            assert_eq!(
                flag.get_env().and_then(|env| env.to_str()),
                Some(&*variable),
                "--{name}"
            );
            let documented = OPERATIONS.lines().any(|line| {
                let (flag_cell, rest) = line
                    .strip_prefix("| `--")
                    .and_then(|l| l.split_once(" | "))
                    .unwrap_or_default();
                let named = flag_cell.split([' ', '`']).next() == Some(name);
                let defaults = flag.get_default_values().iter();
                named
                    && defaults
                        .map(|d| format!("`{}` |", d.display()))
                        .all(|default| rest.starts_with(&default))
            });
            assert!(
                documented,
                "{} --{name} is not in docs/operations.md",
                command.get_name()
            );
        }
    }
}

#[test]
fn every_metric_is_documented_with_its_kind_and_its_help_and_no_other_is() {
    let documented: Vec<String> = OPERATIONS
        .lines()
        .filter(|line| line.starts_with("| `walcast_"))
        .map(|line| line.replace('`', ""))
        .collect();
    for [name, kind, help] in Metrics::DESCRIBED {
        let kind = match *kind {
            "IntCounter" | "IntCounterVec" => "counter",
            "Histogram" => "histogram",
            _ => "gauge",
        };
        let row = format!("| {name} | {kind} | {help}");
        assert!(
            documented.iter().any(|line| line.starts_with(&row)),
            "docs/operations.md has no line that begins with {row:?}"
        );
    }
    assert_eq!(documented.len(), Metrics::DESCRIBED.len());
}

#[test]
fn every_limit_has_a_line_that_says_what_a_client_hears() {
    let (_, section) = OPERATIONS.split_once("\n## All limits\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let documented: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(limit, _)| limit)
        .collect();
    let mut names = Limit::ALL.map(Limit::as_str).to_vec();
    let mut sorted = documented.clone();
    names.sort_unstable();
    sorted.sort_unstable();
    assert_eq!(sorted, names);
}

/// The names of events, with the levels at which each is logged.
type Events = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_event_of_the_log_has_a_name_that_is_documented_with_its_levels_and_no_other_is() {
    let mut logged = Events::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let source = fs::read_to_string(&path).unwrap();
        let (code, _) = source
            .split_once("\n#[cfg(test)]\nmod tests {")
            .unwrap_or((&source, ""));
        for (level, arguments) in calls(code) {
            let Some(name) = event(arguments) else {
                let begin: String = arguments.chars().take(60).collect();
                panic!(
                    "{}: {level}!({begin}… does not begin with event = \"a_name\"",
                    path.display()
                );
            };
            let is_snake_case = name.starts_with(|c: char| c.is_ascii_lowercase())
                && name
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
            assert!(is_snake_case, "{}: {name:?}", path.display());
            logged
                .entry(name.to_owned())
                .or_default()
                .insert(level.to_owned());
        }
    }
    let (_, section) = OPERATIONS.split_once("\n## The log\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows: Vec<(&str, &str)> = section
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            Some((name, rest.split_once(" | ")?.0))
        })
        .collect();
    assert!(rows.is_sorted(), "the events are not in alphabetical order");
    let levels = |levels: &str| levels.split(", ").map(str::to_owned).collect();
    let documented: Events = rows
        .iter()
        .map(|(name, at)| ((*name).to_owned(), levels(at)))
        .collect();
    assert_eq!(documented.len(), rows.len(), "an event is documented twice");
    let beyond = |these: &Events, others: &Events| -> Vec<String> {
        let differs = these
            .iter()
            .filter(|(name, levels)| others.get(*name) != Some(*levels));
        differs
            .map(|(name, levels)| format!("{name} {levels:?}"))
            .collect()
    };
    let undocumented = beyond(&logged, &documented);
    let unlogged = beyond(&documented, &logged);
    assert!(
        undocumented.is_empty() && unlogged.is_empty(),
        "docs/operations.md lacks {undocumented:?}, and has {unlogged:?}, which are not logged so"
    );
}

/// The sources of the product: without unit tests, and without the demo and its database server.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name == "tests" || name.ends_with("_tests") || name == "cluster" || name == "demo" {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The calls of macros that log at `info` or above: the level, and the code from the first argument on.
fn calls(code: &str) -> Vec<(&'static str, &str)> {
    let mut found = Vec::new();
    for level in ["info", "warn", "error"] {
        for (at, _) in code.match_indices(&format!("{level}!")) {
            let is_a_part = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let rest = code[at + level.len() + 1..].trim_start();
            if let Some(arguments) = rest.strip_prefix(['(', '[', '{']).filter(|_| !is_a_part) {
                found.push((level, arguments));
            }
        }
    }
    found
}

/// The literal of the field `event`, if that is the first one.
fn event(mut arguments: &str) -> Option<&str> {
    arguments = arguments.trim_start();
    while arguments.starts_with("target:") || arguments.starts_with("parent:") {
        arguments = arguments.split_once(',')?.1.trim_start();
    }
    let value = arguments
        .strip_prefix("event")?
        .trim_start()
        .strip_prefix('=')?
        .trim_start();
    Some(value.strip_prefix('"')?.split_once('"')?.0)
}
