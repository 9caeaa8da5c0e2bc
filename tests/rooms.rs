//! The table in `src/lib.rs` is true: a module imports only from the rows above its own, and within its row only from
//! what stands before it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The modules of each row of the table, from the top.
fn rows() -> Vec<Vec<String>> {
    let map = std::fs::read_to_string("src/lib.rs").unwrap();
    let row = |line: &str| -> Option<Vec<String>> {
        let cell = line.strip_prefix("//! | ")?.split(" | ").nth(1)?;
        let quoted = cell.split('`').skip(1).step_by(2);
        Some(quoted.map(str::to_owned).collect())
    };
    let rows = map.lines().filter_map(row);
    rows.filter(|names| !names.is_empty()).collect()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found)
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path)
        }
    }
}

/// The modules that a file's own code names behind `crate::`, without what its tests do.
fn imports(path: &Path) -> BTreeSet<String> {
    named(&std::fs::read_to_string(path).unwrap())
}

/// A file's code without the items that are for its tests alone, wherever they stand: as rustfmt lays them out, each
/// ends at its semicolon, or at a brace with the indentation that it begins with.
fn without_tests(text: &str) -> String {
    let mut own = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        own.push_str(before);
        let indent = before.rsplit('\n').next().unwrap();
        let is_attribute = |line: &&str| line.trim_start().starts_with("#[") || line.trim().is_empty();
        let item = after.split_inclusive('\n').find(|line| !is_attribute(line));
        let is_block = item.is_some_and(|line| !line.contains("use ") && line.trim_end().ends_with('{'));
        let end = if is_block {
            format!("\n{indent}}}\n")
        } else {
            ";".to_owned()
        };
        rest = after.split_once(&*end).map_or("", |(_, rest)| rest);
    }
    own + rest
}

fn named(text: &str) -> BTreeSet<String> {
    let own = without_tests(text);
    let code: Vec<&str> = own.lines().map(|line| line.split("//").next().unwrap()).collect();
    let code = code.join("\n");
    let mut imported = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let word = |text: &str| -> String {
            let text = text.trim_start();
            let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
            text[..end.unwrap_or(text.len())].to_owned()
        };
        match rest.strip_prefix('{') {
            None => drop(imported.insert(word(rest))),
            // `use crate::{a::b, c::{d, e}}`: the names at the outermost level.
            Some(group) => {
                let mut depth = 0;
                let mut name = String::new();
                for c in group.chars() {
                    match c {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => drop(imported.insert(word(&std::mem::take(&mut name)))),
                        c if depth == 0 => name.push(c),
                        _ => {}
                    }
                }
                imported.insert(word(&name));
            }
        }
    }
    imported
}

/// The module of the crate that a file belongs to.
fn module(path: &Path) -> String {
    let below = path.strip_prefix("src").unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn is_of_tests(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_str().unwrap();
    name == "tests" || name.ends_with("_tests") || path.iter().any(|part| part == "tests")
}

/// The rooms that may know where the log is kept: it is opened by `bridge`, and ingest keeps what has no place in the log yet in
/// files of the journal's kind.
const KNOW_THE_JOURNAL: [&str; 5] = ["app", "bridge", "cli", "ingest", "maintenance"];

#[test]
fn what_a_file_imports_behind_its_tests_is_read_too() {
    let text = "use crate::lsn;\n#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;\nuse crate::{event::Op, journal};\n\
         impl A {\n    #[cfg(test)]\n    fn b() {\n        crate::cli::c();\n    }\n\n    // crate::http\n    fn d() {\n        \
         crate::filter::e();\n    }\n}\n#[cfg(test)]\nmod more {\n    use crate::app;\n}\n";
    let named: Vec<String> = named(text).into_iter().collect();
    assert_eq!(named, ["event", "filter", "journal", "lsn"]);
}

#[test]
fn a_module_imports_only_what_lies_upstream_of_it() {
    let order: Vec<String> = rows().into_iter().flatten().collect();
    let place = |name: &str| order.iter().position(|known| known == name);
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    files.sort();
    let mut against = Vec::new();
    let mut known = BTreeSet::new();
    for path in files.iter().filter(|path| !is_of_tests(path)) {
        let room = module(path);
        if matches!(&*room, "lib" | "main") {
            continue;
        }
        let Some(own) = place(&room) else {
            against.push(format!("{} is not in the table", path.display()));
            continue;
        };
        for imported in imports(path) {
            let Some(other) = place(&imported) else { continue };
            known.insert((room.clone(), imported.clone()));
            if imported == "journal" && room != imported && !KNOW_THE_JOURNAL.contains(&&*room) {
                against.push(format!("{} names the journal instead of a log", path.display()));
            }
            if other > own {
                against.push(format!(
                    "{} imports {imported}, which lies downstream",
                    path.display()
                ));
            }
        }
    }
    assert!(against.is_empty(), "{}", against.join("\n"));
    // The table and the files were really read.
    assert!(order.len() > 15 && known.len() > 60, "{order:?}, {}", known.len());
}

#[test]
fn the_page_on_the_architecture_names_every_module_and_only_files_that_there_are() {
    let page = std::fs::read_to_string("docs/architecture.md").unwrap();
    let quoted: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    for module in rows().into_iter().flatten() {
        assert!(
            quoted.contains(&&*module),
            "docs/architecture.md does not name {module}"
        );
    }
    let is_path = |text: &&&str| {
        let is_plain = text.chars().all(|c| c.is_alphanumeric() || "/._".contains(c));
        is_plain && text.contains('/') && !text.starts_with('/')
    };
    let paths: Vec<&&str> = quoted.iter().filter(is_path).collect();
    assert!(paths.len() > 20, "{paths:?}");
    for path in paths {
        let is_there = ["", "src"].iter().any(|root| Path::new(root).join(path).exists());
        assert!(is_there, "docs/architecture.md names {path}, which is not there");
    }
}
