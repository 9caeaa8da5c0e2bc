//! The configuration file holds the flags of `serve`, all of them, as they are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::CommandFactory;

use super::file::{self, Refused};
use crate::app::Config;
use crate::cli::{Cli, Command};

const DOCUMENTED: &str = include_str!("../../../docs/configuration.md");

/// A file in a directory of its own.
pub(super) struct OnDisk {
    _directory: tempfile::TempDir,
    pub(super) path: PathBuf,
}

pub(super) fn file(text: &str) -> OnDisk {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("walcast.toml");
    std::fs::write(&path, text).unwrap();
    OnDisk {
        _directory: directory,
        path,
    }
}

pub(super) fn parse(command: &str, file: &OnDisk, flags: &[&str]) -> Result<Cli, Refused> {
    let given = flags.iter().map(OsString::from);
    let named: [OsString; 4] = [
        "walcast".into(),
        command.into(),
        "--config".into(),
        file.path.clone().into(),
    ];
    file::parse(&named.into_iter().chain(given).collect::<Vec<_>>())
}

pub(super) fn serve(file: &OnDisk, flags: &[&str]) -> Config {
    let cli = parse("serve", file, flags).unwrap();
    let Command::Serve(args) = &cli.command else {
        panic!("{cli:?}")
    };
    let loaded = cli.loaded.as_ref().unwrap();
    args.args
        .config(&loaded.sources().unwrap(), &loaded.file.access)
        .unwrap()
}

fn refused(command: &str, file: &OnDisk, flags: &[&str]) -> String {
    match parse(command, file, flags) {
        Ok(_) => panic!("it was taken"),
        Err(Refused::Flags(error)) => error.to_string(),
        Err(Refused::File(error)) => error.to_string(),
    }
}

pub(super) const NEEDED: &str = "database_url = \"postgresql://u:SECRET@h/d\"\nslot = \"s\"\npublication = [\"p\", \"q,r\"]\n\
                      data_dir = \"data\"\n";

#[test]
fn the_keys_of_the_file_are_the_flags_of_serve_and_no_others() {
    let mut cli = Cli::command();
    cli.build();
    let serve = cli.find_subcommand("serve").unwrap();
    let flags = serve.get_arguments().filter_map(clap::Arg::get_long);
    let flags = flags.filter(|name| !matches!(*name, "help" | "config"));
    let flags: BTreeSet<String> = flags.map(|name| name.replace('-', "_")).collect();
    let keys: Vec<String> = file::flags().into_iter().map(|flag| flag.key).collect();
    assert_eq!(keys.len(), flags.len());
    assert_eq!(keys.into_iter().collect::<BTreeSet<_>>(), flags);
    assert!(flags.contains("log") && flags.contains("insecure") && flags.len() > 30);
}

/// The documented file.
pub(super) fn documented() -> String {
    let (_, file) = DOCUMENTED.split_once("```toml\n").unwrap();
    let (file, _) = file.split_once("```").unwrap();
    file.to_owned()
}

#[test]
fn the_documented_file_has_every_flag_with_its_default() {
    // Those in comments are the defaults; with them it means the same as without.
    let spelled_out: String = documented()
        .lines()
        .map(|line| match line.strip_prefix("#") {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let on_disk = file(&spelled_out);
    let file = parse("serve", &on_disk, &[]).unwrap().loaded.unwrap().file;
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").unwrap().get_arguments();
    for arg in serve.chain(cli.get_arguments()) {
        let key = arg.get_long().unwrap().replace('-', "_");
        if key == "config" {
            continue;
        }
        let texts = file.texts(&key);
        let texts = texts.unwrap_or_else(|| panic!("{key} is not in docs/configuration.md"));
        let defaults: Vec<&str> = arg
            .get_default_values()
            .iter()
            .filter_map(|text| text.to_str())
            .collect();
        let is_comment = documented()
            .lines()
            .any(|line| line.starts_with(&format!("#{key} = ")));
        assert_eq!(is_comment, !defaults.is_empty(), "{key}");
        assert!(
            defaults.is_empty() || texts == defaults,
            "{key}: {texts:?} instead of {defaults:?}"
        );
    }
    let access = &file.access;
    assert!(access.auth.is_some() && access.policies.len() > 2);
}

#[test]
fn every_key_of_a_section_is_documented() {
    for key in crate::config::keys_of_sections() {
        assert!(
            DOCUMENTED.contains(&format!("| `{key}` |")),
            "{key} has no line in docs/configuration.md"
        );
    }
}

#[test]
fn the_file_stands_in_for_flags_and_the_command_line_wins() {
    let on_disk = file(&format!(
        "{NEEDED}max_connections = 7\ncreate_slot = true\nretention_bytes = \"2GiB\"\nping_interval = \"3s\"\n"
    ));
    let config = serve(&on_disk, &[]);
    assert_eq!(config.http.max_connections, 7);
    assert_eq!(config.sources[0].bridge.retention.max_bytes, Some(2 << 30));
    assert_eq!(config.sources[0].bridge.session.limits.ping_interval.as_secs(), 3);
    assert!(config.sources[0].bridge.ingest.create_slot);
    let names: Vec<&str> = config.sources[0]
        .bridge
        .ingest
        .publications
        .iter()
        .map(|name| name.as_str())
        .collect();
    assert_eq!(names, ["p", "q,r"]);
    assert_eq!(
        config.sources[0].bridge.data_dir,
        on_disk.path.parent().unwrap().join("data")
    );
    // The default of what neither has.
    assert_eq!(config.sources[0].bridge.session.limits.pong_timeout.as_secs(), 45);

    let config = serve(
        &on_disk,
        &[
            "--max-connections",
            "9",
            "--publication",
            "x",
            "--data-dir",
            "elsewhere",
        ],
    );
    assert_eq!(config.http.max_connections, 9);
    assert_eq!(config.sources[0].bridge.ingest.publications.len(), 1);
    assert_eq!(config.sources[0].bridge.data_dir, PathBuf::from("elsewhere"));
    assert_eq!(config.sources[0].bridge.retention.max_bytes, Some(2 << 30));
}

#[test]
fn what_the_file_lacks_is_needed_on_the_command_line() {
    let on_disk = file("slot = \"s\"\npublication = \"p\"\n");
    let missing = refused("serve", &on_disk, &[]);
    assert!(
        missing.contains("--database-url <URL>") && missing.contains("--data-dir <DIR>"),
        "{missing}"
    );
    assert!(!missing.contains("--slot <NAME>\n"), "{missing}");
    assert!(parse("serve", &on_disk, &["--database-url", "", "--data-dir", "d"]).is_ok());
}

#[test]
fn each_value_goes_through_the_parser_of_its_flag() {
    for (line, told) in [
        (
            "listen = \"8080\"",
            "1:10: listen: invalid socket address: write an address and a port",
        ),
        (
            "max_connections = 0",
            "1:19: max_connections: write a number from 1 to",
        ),
        (
            "retention_age = \"soon\"",
            "1:17: retention_age: write a time as in",
        ),
        (
            "retention_bytes = \"10XB\"",
            "1:19: retention_bytes: write a number of bytes",
        ),
        (
            "retention_bytes = 0",
            "1:19: retention_bytes: write a size of at least one byte",
        ),
        (
            "plugin = \"test_decoding\"",
            "1:10: plugin: write one of pgoutput, wal2json",
        ),
        (
            "log_format = \"xml\"",
            "1:14: log_format: write one of text, json",
        ),
        ("streaming = true", "1:13: streaming: write a text in quotes"),
        (
            "allow_origin = [\"https://a.example\", \"b/c\"]",
            "1:38: allow_origin: ",
        ),
        ("publication = [\"\"]", "1:16: publication: "),
        ("slot = \"No Slot\"", "1:8: slot: "),
        ("slot = \"\"", "1:8: slot: "),
        ("config = \"a\"", "1:1: unknown key \"config\""),
        ("database_url = \"mysql://u:SECRET@h/d\"", "1:16: database_url: "),
        (
            "snapshot_url = \"postgres://u:SECRET@h/d?sslmode=maybe\"",
            "1:16: snapshot_url: ",
        ),
    ] {
        let on_disk = file(line);
        let refused = refused("serve", &on_disk, &[]);
        let told = format!("{}:{told}", on_disk.path.display());
        assert!(refused.starts_with(&told), "{line}: {refused}");
        assert!(!refused.contains("SECRET"), "{refused}");
    }
}

#[test]
fn every_default_is_a_value_that_the_file_may_have() {
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").unwrap();
    let mut text = String::new();
    for arg in serve.get_arguments().chain(cli.get_arguments()) {
        let key = arg.get_long().unwrap().replace('-', "_");
        for default in arg.get_default_values() {
            let default = default.to_str().unwrap();
            let flag = file::flags().into_iter().find(|flag| flag.key == key).unwrap();
            text += &match flag.kind {
                crate::config::Kind::Number => format!("{key} = {default}\n"),
                _ => format!("{key} = \"{default}\"\n"),
            };
        }
    }
    assert!(text.lines().count() > 15, "{text}");
    assert!(parse("serve", &file(&format!("{NEEDED}{text}")), &[]).is_ok());
}

#[test]
fn check_reads_the_whole_file_of_serve() {
    let on_disk = file(&format!("{NEEDED}max_connections = 7\n"));
    let cli = parse("check", &on_disk, &["--create-slot"]).unwrap();
    assert!(matches!(cli.command, Command::Check(_)));
    let refused = refused("check", &file("max_connection = 7"), &[]);
    assert!(
        refused.ends_with("1:1: unknown key \"max_connection\": did you mean max_connections?"),
        "{refused}"
    );
    // What does not go together is found although check itself has no such flags.
    let on_disk = file(&format!("{NEEDED}ping_interval = \"1min\"\n"));
    let loaded = parse("check", &on_disk, &[]).unwrap().loaded.unwrap();
    let served = loaded.serve().unwrap().unwrap();
    let wrong = served
        .args
        .config(&served.sources, &loaded.file.access)
        .err()
        .unwrap();
    assert!(
        wrong
            .to_string()
            .contains("--ping-interval must be below --pong-timeout"),
        "{wrong}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_path() {
    let on_disk = file("");
    std::fs::write(&on_disk.path, b"a = 1\nb = \xff").unwrap();
    let path = on_disk.path.display().to_string();
    assert_eq!(
        refused("serve", &on_disk, &[]),
        format!("{path}:2: not UTF-8 (--config)")
    );
    std::fs::write(&on_disk.path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert_eq!(
        refused("serve", &on_disk, &[]),
        format!("{path} is larger than 1MiB (--config)")
    );
    std::fs::remove_file(&on_disk.path).unwrap();
    assert!(refused("serve", &on_disk, &[]).starts_with(&format!("cannot read {path} (--config)")));
}

#[test]
fn help_and_wrong_flags_are_as_without_a_file() {
    let on_disk = file(&format!("{NEEDED}max_connections = 7\n"));
    let help = refused("serve", &on_disk, &["--help"]);
    assert!(
        help.contains("[default: 10000]") && !help.contains("SECRET"),
        "{help}"
    );
    let wrong = refused("serve", &on_disk, &["--max-connections", "none"]);
    assert!(
        wrong.contains("invalid value 'none' for '--max-connections <N>'"),
        "{wrong}"
    );
}

#[test]
fn a_password_is_not_shown_by_what_was_parsed() {
    let on_disk = file(&format!("{NEEDED}snapshot_url = \"postgresql://u:SECRET@h/d\"\n"));
    let cli = parse("serve", &on_disk, &[]).unwrap();
    assert!(!format!("{cli:?}").contains("SECRET"), "{cli:?}");
}

#[test]
fn a_listener_for_everybody_needs_to_be_asked_for_by_name() {
    let config = |lines: &str, flags: &[&str]| {
        let on_disk = file(&format!("{NEEDED}{lines}\n"));
        let cli = parse("serve", &on_disk, flags).unwrap();
        let Command::Serve(args) = &cli.command else {
            panic!()
        };
        let config = args.args.config(&[], &cli.loaded.as_ref().unwrap().file.access);
        config.map_err(|error| error.to_string())
    };
    for address in [
        "0.0.0.0:8080",
        "192.0.2.1:8080",
        "[::]:8080",
        "[::ffff:192.0.2.1]:8080",
    ] {
        let listen = format!("listen = \"{address}\"");
        let refused = config(&listen, &[]).err().unwrap();
        assert!(
            refused.contains(&format!("--listen {address} is no loopback address")),
            "{refused}"
        );
        assert!(refused.contains("--insecure (insecure = true)"), "{refused}");
        assert!(config(&listen, &["--insecure"]).is_ok());
        assert!(config(&format!("{listen}\ninsecure = true"), &[]).is_ok());
        let auth = "[auth]\nalgorithms = [\"HS256\"]\nsecret_env = \"A\"";
        assert!(config(&format!("{listen}\n{auth}"), &[]).is_ok());
    }
    for address in [
        "127.0.0.1:8080",
        "127.3.2.1:80",
        "[::1]:8080",
        "[::ffff:127.0.0.1]:8080",
    ] {
        assert!(
            config(&format!("listen = \"{address}\""), &[]).is_ok(),
            "{address}"
        );
    }
}
