//! `[[source]]`: the flags of each of several databases.

use std::path::Path;

use clap::CommandFactory;

use super::show_tests::{given, shown};
use super::tests::{OnDisk, file, parse, serve};
use super::{check, schema};
use crate::cli::{Cli, Command, WrongFlags};

const TOP: &str = "publication = [\"p\"]\ndata_dir = \"data\"\ncreate_slot = true\nmax_slot_lag = \"1GiB\"\n";
const ORDERS: &str =
    "[[source]]\nname = \"orders\"\ndatabase_url = \"postgresql://u:SECRET@h/o\"\nslot = \"o\"\n";
const STOCK: &str =
    "[[source]]\nname = \"stock\"\ndatabase_url = \"postgresql://u:SECRET@h/s\"\nslot = \"s\"\n";

fn two(more: &str) -> OnDisk {
    file(&format!("{TOP}{ORDERS}{STOCK}{more}"))
}

/// The reason why a file with these flags cannot be served, without the name of the file.
fn refused(file: &OnDisk, flags: &[&str]) -> String {
    let Err(WrongFlags(error)) = check(&given(file, flags)) else {
        panic!("it was taken")
    };
    let path = format!("{}:", file.path.display());
    format!("{error:#}").replace(&path, "")
}

#[test]
fn a_source_has_its_own_values_and_those_for_all_where_it_has_none() {
    let on_disk = two(
        "publication = [\"q\", \"r,s\"]\ncreate_slot = false\nretention_bytes = \"1GiB\"\ndata_dir = \"elsewhere\"\n",
    );
    let config = serve(&on_disk, &["--retention-bytes", "2GiB", "--max-connections", "7"]);
    assert_eq!(config.http.max_connections, 7);
    let [orders, stock] = &*config.sources else {
        panic!("{}", config.sources.len())
    };
    let names = [orders, stock].map(|source| source.name.as_ref().unwrap().as_str());
    assert_eq!(names, ["orders", "stock"]);
    let (orders, stock) = (&orders.bridge, &stock.bridge);
    assert!(orders.ingest.create_slot && !stock.ingest.create_slot);
    assert_eq!(
        (orders.ingest.publications.len(), stock.ingest.publications.len()),
        (1, 2)
    );
    assert_eq!(
        (orders.retention.max_bytes, stock.retention.max_bytes),
        (Some(2 << 30), Some(1 << 30))
    );
    assert_eq!(stock.ingest.max_slot_lag, Some(1 << 30));
    assert_eq!(orders.ingest.conninfo.database, "o");
    let directory = on_disk.path.parent().unwrap();
    assert_eq!(orders.data_dir, directory.join("data/orders"));
    assert_eq!(stock.data_dir, directory.join("elsewhere"));
    assert_eq!(
        orders.snapshots.dir,
        Path::new(&orders.data_dir).join("snapshots")
    );
}

#[test]
fn each_that_lacks_something_is_told_with_its_place() {
    let lacking =
        file("slot = \"s\"\n[[source]]\nname = \"a\"\n[[source]]\nname = \"b\"\npublication = \"p\"\n");
    assert_eq!(
        refused(&lacking, &[]),
        "2:1: [[source]] a needs database_url, publication, data_dir\n4:1: [[source]] b needs database_url, data_dir"
    );
    assert!(refused(&two(""), &["--database-url", "host=h"]).starts_with("--database-url, or the variable"));
    assert_eq!(
        refused(&two("data_dir = \"data/orders\"\n"), &[]),
        "[[source]] stock: its data_dir is that of orders: a journal belongs to one database and one slot"
    );
    assert_eq!(
        refused(&two("plugin = \"wal2json\"\nmessages = \"m\"\n"), &[]),
        "[[source]] stock: --messages needs --plugin pgoutput: wal2json is not asked for logical messages"
    );
    let one_slot = file(&format!("{TOP}slot = \"s\"\n{ORDERS}{STOCK}").replace("slot = \"o\"\n", ""));
    assert_eq!(
        refused(&one_slot, &[]),
        "[[source]] stock: its slot is that of orders: each source reads one of its own"
    );
    assert!(check(&given(&two(""), &[])).is_ok());
}

#[test]
fn what_is_shown_has_each_source_with_the_origin_of_its_values() {
    let on_disk = two("retention_age = \"1day\"\n");
    let text = shown(&on_disk, &["--retention-bytes", "2GiB"]);
    let path = on_disk.path.display();
    let (top, sources) = text.split_once("\n[[source]]").unwrap();
    let (orders, stock) = sources.split_once("\n[[source]]").unwrap();
    assert!(top.contains("listen = ") && !top.contains("slot"), "{top}");
    for line in [
        format!("  # {path}:5\nname = \"orders\"  # {path}:6\n#database_url is hidden  # {path}:7\n"),
        format!("\npublication = \"p\"  # {path}:1\n"),
        "\nretention_bytes = \"2GiB\"  # command line\n".to_owned(),
        "\nretention_age = \"7days\"  # default\n".to_owned(),
        "\n#snapshot_url is not set\n".to_owned(),
        "/data/orders\"  # ".to_owned(),
    ] {
        assert!(orders.contains(&line), "{line} is not in:\n{orders}");
    }
    // One that serve refuses beside them is not left out.
    let with_one = shown(&on_disk, &["--database-url", "postgresql://u:SECRET@h/x"]);
    let refused = "\n#database_url is refused by serve: each [[source]] has its own  # command line\n";
    assert!(
        with_one.contains(refused) && !with_one.contains("SECRET"),
        "{with_one}"
    );
    assert!(!text.contains("is refused"), "{text}");
    assert!(
        stock.contains(&format!("\nretention_age = \"1day\"  # {path}:13\n")),
        "{stock}"
    );
    assert!(!text.contains("SECRET"), "{text}");
}

#[test]
fn a_command_with_fewer_flags_takes_them_from_each_source() {
    let cli = parse("check", &two(""), &[]).unwrap();
    let loaded = cli.loaded.unwrap();
    let sources = loaded.sources::<crate::cli::serve::Source>().unwrap();
    let slots: Vec<String> = sources
        .iter()
        .map(|(_, source)| source.wanted().slot.to_string())
        .collect();
    assert_eq!(slots, ["o", "s"]);
    assert!(matches!(cli.command, Command::Check(_)));
}

#[test]
fn a_change_of_a_source_takes_a_restart() {
    let on_disk = two("");
    let loaded = parse("serve", &on_disk, &[]).unwrap().loaded.unwrap();
    let changed = |text: String| {
        std::fs::write(&on_disk.path, text).unwrap();
        loaded.reread().unwrap().1.into_iter().collect::<Vec<_>>()
    };
    assert!(changed(format!("{TOP}{STOCK}{ORDERS}")).is_empty());
    assert_eq!(
        changed(format!("{TOP}{ORDERS}create_slot = false\n{STOCK}")),
        ["[[source]] orders"]
    );
    assert_eq!(changed(format!("{TOP}{ORDERS}")), ["[[source]] stock"]);
}

#[test]
fn the_schema_has_the_flags_of_a_source_in_both_places() {
    let schema: serde_json::Value = serde_json::from_str(&schema::text()).unwrap();
    let source = schema["properties"]["source"]["items"]["properties"]
        .as_object()
        .unwrap();
    let mut cli = Cli::command();
    cli.build();
    let serve = cli.find_subcommand("serve").unwrap();
    let headings = ["Source", "Journal", "Snapshots"];
    for arg in serve.get_arguments() {
        let key = arg.get_long().unwrap().replace('-', "_");
        let is_of_source = arg
            .get_help_heading()
            .is_some_and(|heading| headings.contains(&heading));
        // docs/configuration.md says that the flags under these headings are a source's.
        assert_eq!(source.contains_key(&key), is_of_source, "{key}");
    }
}
