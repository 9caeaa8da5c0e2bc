//! The unit for systemd.

use std::fs;

use tempfile::TempDir;

use crate::support::PROGRAM;
use crate::tools::{command, read, replaced, run, variables_in, variables_of_serve};

const UNIT: &str = "deploy/systemd/walcast.service";

#[test]
fn the_unit_is_valid_and_leaves_the_service_little_to_harm() {
    let unit = read(UNIT);
    let known = variables_of_serve();
    for name in variables_in(&unit) {
        assert!(known.contains(&name), "{name}");
    }
    let Some(mut verify) = command("systemd-analyze") else {
        return;
    };
    let directory = TempDir::new().unwrap();
    let here = directory.path().join("walcast.service");
    fs::write(&here, replaced(&unit, &[("/usr/bin/walcast", PROGRAM)])).unwrap();
    let said = run(verify.args(["verify", "--man=no"]).arg(&here));
    // It reports unknown settings without an error.
    assert!(!said.contains("walcast.service"), "{said}");
    let mut security = command("systemd-analyze").unwrap();
    run(security
        .args(["security", "--offline=true", "--threshold=20"])
        .arg(&here));
}
