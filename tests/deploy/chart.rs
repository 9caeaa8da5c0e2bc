//! The Helm chart, rendered by Helm's own engine and held to the schemas of Kubernetes' API.

use crate::support::block;
use crate::tools::{command, run};

#[test]
fn the_chart_renders_what_the_api_accepts_and_refuses_values_that_are_wrong() {
    let Some(mut python) = command("chart-python") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let values = directory.path().join("values.yaml");
    std::fs::write(&values, block("docs/deploy.md", "# values.yaml")).unwrap();
    let said = run(python
        .args(["tests/deploy/chart.py", "deploy/helm/walcast"])
        .arg(values));
    assert!(said.starts_with("checked\n"), "{said}");
}
