//! docs/operations.md names every flag with its default, and every metric.

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
