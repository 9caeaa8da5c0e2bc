//! `scripts/release.sh` refuses to release what is not tagged, or what does not have one version everywhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::left_out;
use crate::tools::{outcome, program, read, replaced, run};

const SCRIPT: &str = "scripts/release.sh";
/// The files that name the version.
const NAMED: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "client/package.json",
    "client/package-lock.json",
    "create-walcast/package.json",
    "examples/chat/package.json",
    "examples/dashboard/package.json",
    "examples/jobs/package.json",
    "examples/starter/package.json",
    "deploy/helm/walcast/Chart.yaml",
    "CHANGELOG.md",
];
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A repository with the files that the script looks at.
struct Repository(TempDir);

impl Repository {
    fn new() -> Repository {
        let repository = Repository(TempDir::new().unwrap());
        for path in NAMED.into_iter().chain([SCRIPT]) {
            let place = repository.path(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(path, place).unwrap();
        }
        let released = format!("## [{VERSION}] - 2026-12-01\n");
        let changes = format!("# Changes\n\n{released}\n- Everything.\n");
        fs::write(repository.path("CHANGELOG.md"), changes).unwrap();
        repository.git(&["init", "--quiet"]);
        repository
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn git(&self, arguments: &[&str]) {
        let identity = ["-c", "user.name=walcast", "-c", "user.email=walcast@localhost"];
        run(Command::new("git")
            .current_dir(self.0.path())
            .args(identity)
            .args(arguments));
    }

    /// Commits the files as they are, and tags them.
    fn tag(&self, name: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "All"]);
        self.git(&["tag", "--force", name]);
    }

    /// The script's word on a tag.
    fn release(&self, tag: &str) -> (bool, String) {
        outcome(
            Command::new(self.path(SCRIPT))
                .current_dir(Path::new("/"))
                .arg(tag),
        )
    }

    fn refused(&self, tag: &str, why: &str) {
        let (released, said) = self.release(tag);
        assert!(!released && said.contains(why), "{said}");
    }
}

#[test]
fn a_release_is_refused_unless_it_is_tagged_and_has_one_version_everywhere() {
    if program("git").is_none() {
        return left_out("scripts/release.sh", "there is no git");
    }
    let tag = format!("v{VERSION}");
    let repository = Repository::new();
    repository.tag(&tag);
    let (accepted, said) = repository.release(&tag);
    assert!(accepted, "{said}");

    repository.refused("v0.0.0", "there is no tag \"v0.0.0\"");
    repository.tag("later");
    repository.refused(&tag, "is not checked out");
    repository.refused("later", "is no version");
    fs::write(repository.path("new"), "").unwrap();
    repository.refused(&tag, "changes that are not committed");

    for path in NAMED {
        let right = fs::read_to_string(repository.path(path)).unwrap();
        let wrong = match path {
            "CHANGELOG.md" => replaced(&right, &[("] - 2026-12-01", "] - not yet")]),
            "Cargo.lock" => replaced(
                &right,
                &[(
                    &format!("name = \"walcast\"\nversion = \"{VERSION}\""),
                    "name = \"walcast\"\nversion = \"9.9.9\"",
                )],
            ),
            _ => right.replacen(VERSION, "9.9.9", 1),
        };
        assert_ne!(right, wrong, "{path}");
        fs::write(repository.path(path), wrong).unwrap();
        repository.tag(&tag);
        repository.refused(&tag, path);
        fs::write(repository.path(path), right).unwrap();
    }
    let chart = read("deploy/helm/walcast/Chart.yaml");
    let wrong = replaced(
        &chart,
        &[(&format!("appVersion: {VERSION}"), "appVersion: 9.9.9")],
    );
    fs::write(repository.path("deploy/helm/walcast/Chart.yaml"), wrong).unwrap();
    repository.tag(&tag);
    repository.refused(&tag, "appVersion");
}
