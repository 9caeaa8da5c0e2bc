//! README and docs: the blocks of code that they print for operators.

use std::collections::BTreeSet;
use std::path::Path;

/// A block of code in a page.
pub struct Block {
    /// The page, as in `docs/operations.md`.
    pub page: String,
    pub language: String,
    pub text: String,
}

/// The blocks of the operators' pages in languages that are run.
pub fn blocks() -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).unwrap();
    let mut pages: Vec<String> = docs
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().display()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    pages.push("README.md".into());
    let mut blocks = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(root.join(&page)).unwrap();
        let mut open: Option<Block> = None;
        // Blocks in lists are indented, by spaces.
        let mut indent = 0;
        for line in text.lines() {
            let fence = line.trim_start().strip_prefix("```");
            if open.is_none() {
                indent = line.len() - line.trim_start().len();
            }
            match (&mut open, fence) {
                (None, Some(language)) => {
                    open = Some(Block {
                        page: page.clone(),
                        language: language.into(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    let line = line.get(indent..).unwrap_or_default();
                    block.text += &format!("{line}\n");
                }
                (None, None) => {}
            }
        }
    }
    blocks.retain(|block| ["sh", "sql", "json", "yaml", ""].contains(&&*block.language));
    blocks
}

/// The block of a page that begins like this.
pub fn block(page: &str, beginning: &str) -> String {
    let found = blocks()
        .into_iter()
        .find(|block| block.page == page && block.text.starts_with(beginning));
    found
        .unwrap_or_else(|| panic!("{page} has no block that begins with {beginning:?}"))
        .text
}

/// The versions that CHANGELOG.md names, and that of this build.
pub fn versions() -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md")).unwrap();
    let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
    let names = headings.filter_map(|heading| heading.split([',', ' ', ']']).next());
    let names = names.map(|name| name.trim_start_matches('['));
    let versions = names.filter(|name| name.starts_with(|c: char| c.is_ascii_digit()));
    versions
        .chain([env!("CARGO_PKG_VERSION")])
        .map(str::to_owned)
        .collect()
}
