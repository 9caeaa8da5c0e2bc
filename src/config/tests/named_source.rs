//! `[[source]]`: what is understood, and each mistake.

use super::*;

const TWO: &str = "retention_bytes = 5\n[[source]]\nname = \"orders\"\ndatabase_url = \"postgresql://h/d\"\n\
                   [[source]]\nname = \"stock-2\"\ndata_dir = \"other\"\n";

#[test]
fn each_has_a_name_and_flags_of_its_own() {
    let file = read(TWO).unwrap();
    let names: Vec<&str> = file
        .sources
        .iter()
        .map(|source| source.name.value.as_str())
        .collect();
    assert_eq!(names, ["orders", "stock-2"]);
    assert_eq!(
        file.sources[0].value("database_url").unwrap().texts,
        ["postgresql://h/d"]
    );
    assert!(file.sources[0].value("data_dir").is_none());
    // Paths are relative to the file, as everywhere.
    assert_eq!(
        file.sources[1].value("data_dir").unwrap().texts,
        ["/etc/walcast/other"]
    );
    assert_eq!(file.texts("retention_bytes").unwrap(), ["5"]);
}

#[test]
fn names_are_short_and_plain() {
    for name in ["a", "a1", "orders_eu-2", &"x".repeat(63)] {
        assert!(SourceName::parse(name).is_some(), "{name}");
    }
    for name in ["", "1a", "-a", "A", "a b", "a/b", "ä", &"x".repeat(64)] {
        assert!(SourceName::parse(name).is_none(), "{name}");
    }
}

#[test]
fn each_mistake_is_told_with_its_place() {
    for (text, told) in [
        (
            "[[source]]\ndata_dir = \"d\"",
            "1:1: [[source]] needs a name, as in name = \"orders\": clients connect to /v1/stream/orders",
        ),
        (
            "[[source]]\nname = \"Orders\"",
            "2:8: name: \"Orders\" is no name of a source: write 1 to 63 lower-case letters, digits, _ and -, the first a letter",
        ),
        (
            "[[source]]\nname = \"a\"\n[[source]]\nname = \"a\"",
            "4:8: name: there is a source a already",
        ),
        (
            "[[source]]\nname = \"a\"\ndata_dri = \"d\"",
            "3:1: unknown key \"data_dri\" in [[source]]: did you mean data_dir?",
        ),
        (
            "[[source]]\nname = \"a\"\nlisten = \"h:1\"",
            "3:1: unknown key \"listen\" in [[source]]: it is for all sources: it stands before the first [section]",
        ),
        (
            "[[source]]\nname = \"a\"\nretention_bytes = true",
            "3:19: retention_bytes: write a size, as in \"64MiB\", instead of true or false",
        ),
        (
            "database_url = \"postgresql://h/d\"\n[[source]]\nname = \"a\"",
            "1:16: database_url: it belongs into a [[source]], such as a",
        ),
        (
            "source = 1",
            "1:10: source is a list of sections: write each as [[source]], with its keys below",
        ),
    ] {
        assert_eq!(error(text), told, "{text}");
    }
}

#[test]
fn policies_name_their_sources_where_there_are_several() {
    let policy = "[[policy]]\ntables = [\"public.*\"]\n";
    let told = |sources: &str, line: &str| {
        let text = format!("{AUTH}{policy}{line}\n{sources}");
        read(&text)
            .map(|file| file.access.policies[0].sources.clone())
            .map_err(|errors| {
                let text = errors.to_string();
                text.strip_prefix("/etc/walcast/w.toml:").unwrap().to_owned()
            })
    };
    let name = |name: &str| SourceName::parse(name).unwrap();
    assert_eq!(
        told(TWO.split_once('\n').unwrap().1, "sources = [\"stock-2\"]"),
        Ok(Some(vec![name("stock-2")]))
    );
    let one = "[[source]]\nname = \"a\"\n";
    assert_eq!(told(one, ""), Ok(Some(vec![name("a")])));
    let two = "[[source]]\nname = \"orders\"\n[[source]]\nname = \"stock\"\n";
    for (sources, line, error) in [
        (
            two,
            "",
            "4:1: [[policy]] needs sources, as in sources = [\"orders\"], since there are several",
        ),
        (
            two,
            "sources = [\"order\"]",
            "6:12: sources: there is no source \"order\": did you mean orders?",
        ),
        (
            "",
            "sources = [\"orders\"]",
            "6:11: sources: there is no [[source]]: leave sources out",
        ),
    ] {
        assert_eq!(told(sources, line), Err(error.to_owned()));
    }
}

#[test]
fn a_policy_is_for_its_sources_alone() {
    let policy = |sources: &str| format!("[[policy]]\nsources = {sources}\ntables = [\"public.t\"]\n");
    let two = "[[source]]\nname = \"a\"\n[[source]]\nname = \"b\"\n";
    let text = format!("{AUTH}{}{}{two}", policy("[\"a\"]"), policy("[\"a\", \"b\"]"));
    let access = read(&text).unwrap().access;
    let count = |name: Option<&str>| {
        let name = name.map(|name| SourceName::parse(name).unwrap());
        access.of_source(name.as_ref()).policies.len()
    };
    assert_eq!(
        [count(Some("a")), count(Some("b")), count(Some("c")), count(None)],
        [2, 1, 0, 0]
    );
    // Also one that names none: what is read again may meet sources of the file before.
    for (sources, admitted) in [("[[source]]\nname = \"a\"\n", [1, 0, 0]), ("", [0, 0, 1])] {
        let access = read(&format!("{AUTH}[[policy]]\ntables = [\"public.t\"]\n{sources}"))
            .unwrap()
            .access;
        let count = |name: Option<&str>| {
            let name = name.map(|name| SourceName::parse(name).unwrap());
            access.of_source(name.as_ref()).policies.len()
        };
        assert_eq!([count(Some("a")), count(Some("b")), count(None)], admitted);
    }
}
