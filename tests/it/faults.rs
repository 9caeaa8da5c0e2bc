//! tests/faults.md names tests that are there.

use std::path::PathBuf;

#[test]
fn each_test_that_the_page_of_faults_names_is_there() {
    let page = include_str!("../faults.md");
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let names = page.split('`').filter(|code| code.contains("::"));
    let mut found = 0;
    for name in names {
        let (module, test) = name.rsplit_once("::").unwrap();
        let file = match module.strip_prefix("journal::tests::") {
            Some(file) => format!("src/journal/tests/{file}.rs"),
            None => format!("tests/it/{module}.rs"),
        };
        let source =
            std::fs::read_to_string(root.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn {test}(")), "{name} is not in {file}");
        found += 1;
    }
    assert!(found > 40, "{found}");
}
